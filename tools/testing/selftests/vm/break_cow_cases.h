/* SPDX-License-Identifier: GPL-2.0 */
/* What break_cow.c lists and break_cow_cases*.c tests. */
#ifndef BREAK_COW_CASES_H
#define BREAK_COW_CASES_H

#include <pthread.h>
#include <semaphore.h>

#include "break_cow_util.h"

#define OLD	0x11	/* what mem_get() leaves behind */
#define NEW	0x22	/* what is stored then */
#define SECRET	0x77	/* ... and is not meant for everybody */

/* Kinds of memory: see mem_get() */
enum bc_kind {
	MEM_4K,
	MEM_THP,	/* a huge page, mapped by a pmd */
	MEM_THP_PTE,	/* the same, mapped by ptes */
	MEM_THP_ONE,	/* one page of it, the others are unmapped */
	MEM_THP_MOVED,	/* half of it, the other half is at another address */
	MEM_THP_PART,	/* half of it, a child shares the other half */
	MEM_HUGETLB,
	MEM_HUGETLB_1G,
	MEM_SWAP,	/* a child still has the page in swap, we swapped it in */
	MEM_SWAP_OUT,	/* we alone have it, in swap */
	MEM_SWAP_IN,	/* the same, swapped in by a read */
	MEM_KSM,	/* two pages of ours, merged */
	MEM_ZERO,	/* read, never written to */
	MEM_HUGE_ZERO,
	MEM_FILE,	/* page cache in a private mapping */
	MEM_FILE_THP,	/* the same, a huge page of tmpfs mapped by a pmd */
	MEM_FILE_HUGE,	/* the same, hugetlb */
	MEM_DAX,	/* a file without page cache in a private mapping */
	MEM_DAX_HUGE,	/* the same, mapped by a pmd */
	MEM_NR
};

struct bc_mem {
	char *addr;
	size_t len;
	pid_t child;	/* who shares it, or 0 */
};

/* Who takes references, and keeps them */
enum bc_by {
	BY_VMSPLICE,	/* a page put into a pipe: FOLL_GET, fast */
	BY_DIRECT,	/* a write with O_DIRECT in flight: the same */
	BY_FILL,	/* a read with O_DIRECT in flight: the same, to write */
	BY_ZEROCOPY,	/* a page sent by a socket, and not received: the same */
	BY_URING,	/* a registered buffer: FOLL_PIN, long term, to write */
	BY_DRIVER,	/* mm/break_cow_test.c, in all other ways */
};

enum bc_holder_nr {
	BC_VMSPLICE, BC_DIRECT, BC_FILL, BC_ZEROCOPY, BC_URING, BC_GET, BC_GET_FAST,
	BC_PIN, BC_PIN_FAST, BC_PIN_LONG, BC_PIN_LONG_FAST, BC_NO_RETRY, BC_NOWAIT,
	BC_REMOTE, BC_LOOK, BC_LOOK_FAST, BC_LOOK_FAST_ONLY, BC_LOOK_REMOTE,
	BC_NR_HOLDERS
};

struct bc_holder {
	const char *name;	/* NULL: not told */
	enum bc_by by;
	unsigned int how;	/* BREAK_COW_PIN ... */
	bool remote;		/* as if the memory were another process's */
};

/* A write or read in flight: see flight_open() */
struct bc_flight {
	bool fill;		/* is it a read? */
	int dev;		/* what we serve the file by; 0: not opened */
	char path[32];
	sem_t go, done;		/* to who writes or reads, and back */
	const void *addr;	/* what is being written or filled, or NULL */
	int err;		/* of the last one */
};

/* A reference that stays */
struct bc_hold {
	const struct bc_holder *by;	/* NULL: vmsplice() */
	int pipe[2];	/* or two ends of a connection: BY_ZEROCOPY */
	int driver;
	struct bc_flight flight;
	const void *addr;
	unsigned int before;	/* pages before @addr to take too, by the driver */
};

/* What another thread does to memory, again and again: see race_beside() */
struct beside {
	pthread_t thread;
	bool (*act)(struct bc_mem *mem, unsigned int n);	/* did it? */
	struct bc_mem *mem;
	unsigned int n;
	unsigned long done;
	bool stop;
};

/* What a case gets to know */
struct bc_arg {
	enum bc_kind kind;
	bool shared;
	const struct bc_way *way;
	const struct bc_holder *by;
	int (*act)(struct bc_mem *mem);
	bool (*beside)(struct bc_mem *mem, unsigned int n);
	bc_fn fn;		/* the case itself, for with_limit() */
	const char *limit;	/* why it may fail on this kernel, or NULL */
};

#define KIND(k)		(1U << (k))
#define BY(name)	(1U << BC_ ## name)

/* Sets of kinds of memory */
#define SINGLE		(KIND(MEM_4K))
#define HUGE_PAGE	(KIND(MEM_THP) | KIND(MEM_THP_PTE))
#define PARTS		(KIND(MEM_THP_ONE) | KIND(MEM_THP_MOVED) | \
			 KIND(MEM_THP_PART))
#define HUGETLB		(KIND(MEM_HUGETLB))
#define HUGETLB_1G	(KIND(MEM_HUGETLB_1G))
#define CACHE		(KIND(MEM_FILE) | KIND(MEM_FILE_THP) | \
			 KIND(MEM_FILE_HUGE))
#define DAX		(KIND(MEM_DAX) | KIND(MEM_DAX_HUGE))
#define ZERO		(KIND(MEM_ZERO) | KIND(MEM_HUGE_ZERO))

/* Sets of holders */
#define NOBODY		0	/* the case brings its own */
#define PLAIN		(BY(VMSPLICE) | BY(DIRECT) | BY(ZEROCOPY) | BY(GET) | \
			 BY(GET_FAST))
#define LONG		(BY(PIN_LONG) | BY(PIN_LONG_FAST))
#define SHORT		(PLAIN | BY(PIN) | BY(PIN_FAST) | BY(NO_RETRY) | \
			 BY(NOWAIT) | BY(REMOTE))
#define SOME		(BY(VMSPLICE) | BY(PIN) | BY(PIN_LONG_FAST))
#define LOOKS		(BY(LOOK) | BY(LOOK_FAST) | BY(LOOK_FAST_ONLY) | \
			 BY(LOOK_REMOTE))
#define READ_PINS	(BY(PIN) | BY(PIN_LONG_FAST))
#define PINS		(BY(URING) | READ_PINS)

/*
 * One line of a table: a promise times kinds of memory times holders. Each file has
 * a table of its own, and break_cow.c runs them all.
 */
struct promise {
	const char *name;
	bc_fn fn;
	unsigned int kinds;	/* of memory, KIND() */
	unsigned int by;	/* who takes the references, BY() */
	int (*act)(struct bc_mem *mem);
	bool (*beside)(struct bc_mem *mem, unsigned int n);
	bool shared;		/* with a child */
	bool ways;		/* each way to read, private and shared */
};

#define PROMISE(text, func, of, holders, ...) \
	{ .name = text, .fn = func, .kinds = of, .by = holders, ##__VA_ARGS__ }

#define PROMISES(table) \
static void __attribute__((constructor)) add_table(void) \
{ \
	promises_add(table, ARRAY_SIZE(table)); \
}

void promises_add(const struct promise *table, unsigned int n);

#define KEEPS_WP(text, func, of) \
	PROMISE(text ", uffd-wp", case_keeps_wp, of, NOBODY, .act = func)
#define KEEPS_SOFT_DIRTY(text, func, of) \
	PROMISE(text ", soft-dirty", case_keeps_soft_dirty, of, NOBODY, .act = func)

extern const char * const bc_kind_name[MEM_NR];
extern const struct bc_holder bc_holders[BC_NR_HOLDERS];

bool mem_there(enum bc_kind kind);
#define MEM_PAGES	16	/* mapped, where one small page is got */
int mem_get(enum bc_kind kind, struct bc_mem *mem);
int mem_get_dax(struct bc_mem *mem, char *addr, bool huge);
int mem_get_arg(const struct bc_arg *arg, struct bc_mem *mem);
void mem_set(struct bc_mem *mem, char c);
int mem_use_up(enum bc_kind kind, struct bc_mem *all);
int mem_share(struct bc_mem *mem, int close_fd);
int mem_pageout(const struct bc_mem *mem);
int mem_swap_out(struct bc_mem *mem);
int mem_protect(struct bc_mem *mem, int *uffd);
int mem_protect_with(struct bc_mem *mem, int *uffd, __u64 features);
int mem_clean(struct bc_mem *mem);
int mem_wait(struct bc_mem *mem, bool (*done)(struct bc_mem *mem),
	     const char *what);
int event_or_done(int uffd, bool (*done)(const void *p), const void *p);
int mem_store_ends(struct bc_mem *mem);
int mem_store_traps(struct bc_mem *mem, int uffd);
int mem_keeps_wp(struct bc_mem *mem, int (*act)(struct bc_mem *mem));
int mem_keeps_soft_dirty(struct bc_mem *mem, int (*act)(struct bc_mem *mem));
int ksm_merge(struct bc_mem *mem);
int khugepaged_fast(bool on);
int two_nodes(void);
char *mem_middle(const struct bc_mem *mem);
char *mem_thp_addr(void);
int child_result(pid_t child);
pid_t fork_store(const struct bc_mem *mem);
int mem_read_child(struct bc_mem *mem, bool proc, unsigned char want);
int bytes_same(const unsigned char *buf, size_t len, unsigned char want,
	       const char *what);
int flight_open(struct bc_flight *f);
int flight_begin(struct bc_flight *f, const void *addr);
int flight_end(struct bc_flight *f, void *buf);
bool holder_there(enum bc_holder_nr nr);
int hold_take(struct bc_hold *hold, const void *addr);
int take(struct bc_hold *hold, const void *addr);
void hold_drop(struct bc_hold *hold);
int hold_lock(struct bc_hold *hold, bool on);
int hold_fill(struct bc_hold *hold, unsigned char c);
int hold_same(struct bc_hold *hold, unsigned char want, const char *what);
int hold_sees_store(struct bc_hold *hold, const char *what);
__u64 pfn_of(pid_t pid, const void *addr);

int case_evict(const void *arg);
int case_leak(const void *arg);
int case_own(const void *arg);
int case_coherent(const void *arg);
int case_free(const void *arg);
int case_prot(const void *arg);
int case_prot_fork(const void *arg);
int case_soft_dirty(const void *arg);
int case_remote_breaks(const void *arg);
int case_remote_looks(const void *arg);
int case_remote_leaves(const void *arg);
int case_no_memory(const void *arg);
int case_no_memory_fork(const void *arg);
int case_older(const void *arg);
int case_older_child(const void *arg);
int case_fork(const void *arg);
int case_pin(const void *arg);
int case_fast_only(const void *arg);
int case_fast_own(const void *arg);
int case_no_access(const void *arg);
int case_beside_shared(const void *arg);
int case_merge_uffd_wp(const void *arg);
int case_merge_soft_dirty(const void *arg);
int case_unmerge(const void *arg);
int case_looks_ksm(const void *arg);
int case_looks_fork(const void *arg);
int case_looks_exec(const void *arg);

/* The argument of this program when case_looks_exec() starts it */
#define AFTER_EXEC	"--after-exec"
int after_exec(void);

/* What happens to pinned memory in case_pin() */
int act_mprotect(struct bc_mem *mem);
int act_uffd_wp(struct bc_mem *mem);
int act_clear_refs(struct bc_mem *mem);
int act_fork(struct bc_mem *mem);
int act_lone(struct bc_mem *mem);
int act_fork_empty(struct bc_mem *mem);
int act_lone_empty(struct bc_mem *mem);
int act_pageout_fork(struct bc_mem *mem);
int act_ksm(struct bc_mem *mem);

/* What KEEPS_WP() and KEEPS_SOFT_DIRTY() are about */
int case_keeps_wp(const void *arg);
int case_keeps_soft_dirty(const void *arg);

/* What goes on beside a case */
int race_beside(struct beside *b, int (*once)(void *arg), void *arg);
bool beside_migrate(struct bc_mem *mem, unsigned int n);

#endif /* BREAK_COW_CASES_H */
