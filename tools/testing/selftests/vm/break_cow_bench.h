/* SPDX-License-Identifier: GPL-2.0 */
/* What break_cow_bench.c measures, and break_cow_bench_mem.c prepares. */
#ifndef BREAK_COW_BENCH_H
#define BREAK_COW_BENCH_H

#include "break_cow_util.h"

enum bench_size { SIZE_4K, SIZE_THP, SIZE_HUGETLB, SIZE_NR };

/* What memory is like before anything is measured: see area_get() */
enum bench_state {
	ST_WRITABLE,	/* ordinary */
	ST_UFFD_WP,	/* ours, write-protected by userfaultfd */
	ST_MPROTECT,	/* ... by mprotect(), which has been taken back */
	ST_CHILD_GONE,	/* ... by fork(), and the child has exited */
	ST_SHARED,	/* with a child */
	ST_UNTOUCHED,	/* never */
	ST_ZERO,	/* read, never written to */
	ST_FILE,	/* page cache in a private mapping */
	ST_KSM,		/* merged */
	ST_SWAP_CACHE,	/* swapped out, and read ahead again */
	ST_SWAPPED_IN,	/* the same, and mapped by a read */
	ST_NR
};

/**
 * struct area - memory to measure
 * @mem: where it begins, at a huge page's boundary
 * @unit: the size of one page: 4 KiB or 2 MiB
 * @nr: number of units
 * @len: in bytes
 * @size: of a page
 * @child: who shares it, or 0
 * @uffd: what protects it, or -1
 */
struct area {
	char *mem;
	size_t unit;
	size_t nr;
	size_t len;
	enum bench_size size;
	pid_t child;
	int uffd;
};

extern const char * const size_name[SIZE_NR];
extern const char * const state_name[ST_NR];

__u64 count(void);
void find_counter(void);
int area_get(enum bench_state state, enum bench_size size, size_t nr,
	     struct area *a);
void area_put(struct area *a);

#endif /* BREAK_COW_BENCH_H */
