/* SPDX-License-Identifier: GPL-2.0 */
/* What break_cow.c lists and break_cow_cases*.c tests. */
#ifndef BREAK_COW_CASES_H
#define BREAK_COW_CASES_H

#include "break_cow_util.h"

#define OLD	0x11	/* what mem_get() leaves behind */
#define NEW	0x22	/* what is stored then */
#define SECRET	0x77	/* ... and is not meant for everybody */

/* Kinds of memory: see mem_get() */
enum bc_kind {
	MEM_4K,
	MEM_THP,	/* a huge page, mapped by a pmd */
	MEM_THP_PTE,	/* the same, mapped by ptes */
	MEM_HUGETLB,
	MEM_SWAP,	/* a child still has the page in swap, we swapped it in */
	MEM_KSM,	/* two pages of ours, merged */
	MEM_ZERO,	/* read, never written to */
	MEM_HUGE_ZERO,
	MEM_FILE,	/* page cache in a private mapping */
	MEM_NR
};

struct bc_mem {
	char *addr;
	size_t len;
	pid_t child;	/* who shares it, or 0 */
};

/* A reference that stays: a page put into a pipe by vmsplice() */
struct bc_hold {
	int pipe[2];
};

/* What a case gets to know */
struct bc_arg {
	enum bc_kind kind;
	bool shared;
	const struct bc_way *way;
};

extern const char * const bc_kind_name[MEM_NR];

int mem_get(enum bc_kind kind, struct bc_mem *mem);
int mem_share(struct bc_mem *mem, int close_fd);
int mem_swap_out(struct bc_mem *mem);
int mem_protect(struct bc_mem *mem, int *uffd);
char *mem_middle(const struct bc_mem *mem);
int bytes_same(const unsigned char *buf, size_t len, unsigned char want,
	       const char *what);
int hold_take(struct bc_hold *hold, const void *addr);
int take(struct bc_hold *hold, const void *addr);
int hold_same(struct bc_hold *hold, unsigned char want, const char *what);
__u64 pfn_of(pid_t pid, const void *addr);

int case_evict(const void *arg);
int case_leak(const void *arg);
int case_own(const void *arg);
int case_coherent(const void *arg);
int case_free(const void *arg);
int case_prot(const void *arg);
int case_soft_dirty(const void *arg);
int case_remote_breaks(const void *arg);
int case_remote_looks(const void *arg);
int case_no_memory(const void *arg);
int case_older(const void *arg);
int case_pin_mprotect(const void *arg);
int case_pin_uffd_wp(const void *arg);

#endif /* BREAK_COW_CASES_H */
