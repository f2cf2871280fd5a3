/* SPDX-License-Identifier: GPL-2.0 */
/*
 * break_cow_stress: random operations over a model that knows what each page
 * and each reference to one must contain, and which stores must trap.
 *
 * A tree of processes ("members") works on memory of the same layout. In a
 * burst every lane (thread) of every member runs operations on the pages that
 * are its own, all lanes at once: pages of different lanes lie next to each
 * other, in the same mappings and huge pages, and are shared with other members
 * by fork() and by KSM. So each lane knows its pages exactly while the kernel
 * does not get a quiet moment. Between bursts the conductor has members fork,
 * exit, and look at each other.
 *
 * All decisions come from one seed: a lane's operations from the seed, the
 * number of the burst, and which lane it is; the rest from the conductor's.
 */
#ifndef BREAK_COW_STRESS_H
#define BREAK_COW_STRESS_H

#include <setjmp.h>
#include <stdio.h>

#include "break_cow_util.h"

#define PAGE		4096UL
#define WORDS		(PAGE / 8)
#define POKE		37	/* the word of a page that is stored to alone */
#define LANES		2
#define MEMBERS		6	/* at most, at one time */
#define PAGES		160	/* at most, of a member */
#define STATES		16	/* that a reference may show, at most */
#define HOLDS		8	/* references that a lane keeps */

/* Regions: kinds of memory */
enum region {
	R_SMALL,	/* single pages */
	R_KSM,		/* single pages, mergeable */
	R_THP,		/* a huge page, for plain references */
	R_THP_PIN,	/* a huge page, for pins: it has one count of them */
	R_HUGETLB,
	R_FILE,		/* page cache, mapped privately */
	R_NR
};

#define M(region)	(1U << (region))
#define M_ALL		(M(R_NR) - 1)
#define M_THP		(M(R_THP) | M(R_THP_PIN))
#define M_WP		(M(R_SMALL) | M(R_KSM) | M_THP)

/* Kinds of operation: of lanes, then the conductor's */
enum op {
	OP_FILL, OP_POKE, OP_CHECK, OP_FILLER, OP_RO_STORE, OP_MPROTECT,
	OP_DROP, OP_PAGEOUT, OP_MREMAP, OP_WP_ON, OP_WP_OFF, OP_SPLICE,
	OP_AIO, OP_PIN_URING, OP_GET, OP_PIN, OP_LONGTERM, OP_HOLD_CHECK,
	OP_HOLD_END, OP_DIRECT, OP_READV, OP_LOOK, OP_FORK_RACE, OP_LEAK,
	OP_SHARE, OP_MERGE, OP_UNMERGE, OP_KSM_WAIT,
	OP_LANES,
	OP_FORK = OP_LANES, OP_EXIT, OP_CLEAR_REFS, OP_REMOTE_READV,
	OP_REMOTE_LOOK, OP_PTRACE, OP_REMOTE_TAKE, OP_THP,
	OP_NR
};

extern const char * const op_name[OP_NR];

/* All of a page: one word everywhere, but for the poked one */
struct state {
	__u64 base, poke;
};

enum { SD_CLEAN, SD_DIRTY, SD_UNKNOWN };

/**
 * struct page - what the model knows of a page
 * @addr: where it is mapped
 * @id: its number, the same in all members
 * @region: enum region
 * @lane: whose it is
 * @ver: number of its last store
 * @now: what it contains
 * @ro: mapped PROT_READ
 * @anon: stored to since it was last dropped, so it has a page of its own
 * @wp: protected by userfaultfd: the next store must trap
 * @trapped: the store that is under way did
 * @rw: stored to since anything of ours made its entry read-only
 * @epoch: value of epoch_now() at the last store, 0 if a fork got in its way
 * @mergeable: MADV_MERGEABLE
 * @sd: soft-dirty, SD_*
 */
struct page {
	char *addr;
	unsigned int id, region, lane;
	unsigned int ver;
	struct state now;
	bool ro, anon, rw, mergeable;
	bool wp, trapped;
	unsigned long epoch;
	int sd;
};

enum hold_kind { HOLD_NONE, HOLD_PIPE, HOLD_AIO, HOLD_URING, HOLD_DRIVER };

/**
 * struct hold - a reference that a lane keeps
 * @kind: how it was taken
 * @page: to what
 * @state: what it may show
 * @nr_states: how many of them
 * @pin: it shows what the process sees, always
 * @strict: so does this one, as long as nothing makes the entry read-only
 * @frozen: the page has been dropped, or is another's: what is stored now
 *	    must not show
 * @how: BREAK_COW_*, of the driver
 * @epoch: value of epoch_now() when it was taken
 * @fd: pipe or file
 */
struct hold {
	enum hold_kind kind;
	struct page *page;
	struct state state[STATES];
	unsigned int nr_states;
	bool pin, strict, frozen;
	unsigned int how;
	unsigned long epoch;
	int fd[2];
};

/* Told to the conductor, and shown if a lane hangs or fails */
struct lane_status {
	unsigned int uid, lane, op, page;
	unsigned long nr;
};

/* A thread and what it needs */
struct lane {
	unsigned int nr;
	__u64 choice;		/* of operations */
	__u64 rnd;		/* within one */
	struct lane_status *status;
	struct page *storing;	/* now, for the userfaultfd thread */
	struct page *focus;	/* of the last operation */
	struct hold holds[HOLDS];
	pid_t racer;		/* a child that is to be reaped */
	int scratch[2];		/* a pipe */
	int direct;		/* a file, O_DIRECT */
	char *buf;		/* a page */
	unsigned long aio;
};

enum cmd { CMD_NONE, CMD_FORK, CMD_EXIT, CMD_CLEAR_REFS, CMD_REMOTE, CMD_THP };

/* The place of a member in the shared world */
struct slot {
	pid_t pid;
	unsigned int uid;
	/* to its main thread */
	unsigned int cmd, cmd_seq, cmd_ack;
	unsigned int arg[3];
	/* to its lanes; the last one to end a burst acknowledges */
	unsigned int burst_seq, burst_ack, burst_left, burst_ops;
	bool burst_last;
	struct lane_status status[LANES];
};

struct options {
	unsigned long seed, ops;
	unsigned int procs;
	bool noisy, faults;
	int trace;			/* number of a page, or -1 */
};

/* Shared by all processes of a run */
struct world {
	struct options opt;
	unsigned long burst;		/* how many there were */
	unsigned long count[OP_NR];
	unsigned long traps_due, traps_seen, holds_checked, failed;
	unsigned long merged, swapped;	/* seen to be */
	unsigned int stop;		/* something is wrong */
	char why[512];
	unsigned int next_uid;
	bool driver;			/* there is one */
	bool fork_shares_pins;		/* no pin is kept */
	struct slot slot[MEMBERS];
};

extern struct world *world;

/* The member: all of it is private memory, and copied by fork() */
struct member {
	struct slot *slot;
	unsigned int uid;
	struct page page[PAGES];
	unsigned int nr_pages;
	char *start[R_NR];
	size_t len[R_NR];
	char *away;		/* one page a lane, for mremap() */
	int uffd;
	pid_t child[MEMBERS];	/* in that slot, once */
	unsigned long forks_begun, forks_done;
	bool sd_vague;		/* a new mapping reads as soft-dirty */
	struct lane lane[LANES];
};

extern struct member me;
extern __u64 zero_pfn;

/* break_cow_stress_model.c */
unsigned int rnd(__u64 *state, unsigned int n);
__u64 rnd_seed(__u64 a, __u64 b, __u64 c);
void violate(struct lane *l, struct page *p, const char *fmt, ...) __printf(3, 4);
void op_failed(struct lane *l, struct page *p, int err, const char *what);
int model_init(void);
int state_differs(const void *buf, const struct state *s);
void state_want(struct lane *l, struct page *p, const void *buf,
		const char *what);
int raw_store(char *addr, const struct state *s, bool whole);
int raw_copy(void *to, const char *addr, size_t len);
bool page_store(struct lane *l, struct page *p, bool whole, unsigned int ksm);
void page_store_ro(struct lane *l, struct page *p);
void page_check(struct lane *l, struct page *p);
void page_dropped(struct page *p);
void page_readonly(struct page *p);
unsigned long epoch_now(void);
void fault_in_op(unsigned int nth);

/* break_cow_stress_hold.c */
struct hold *hold_free(struct lane *l);
void hold_get(struct lane *l, enum op op, struct page *p);
void hold_child(struct lane *l, struct page *p);
void hold_share(struct lane *l, struct page *p);
void hold_check(struct lane *l, struct hold *h);
void hold_end(struct lane *l, struct hold *h);
void holds_before_store(struct lane *l, struct page *p);
void holds_stored(struct page *p, unsigned long epoch);
void holds_dropped(struct page *p);
void holds_readonly(struct page *p);
bool holds_pin(struct page *p);
void holds_end_all(struct lane *l);

/* What a read by GUP must leave alone */
struct look {
	__u64 entry;
	unsigned long epoch;
};

void gup_begin(struct page *p, struct look *look);
void gup_end(struct lane *l, struct page *p, struct look *look, bool looks);

/* break_cow_stress_ops.c */
void lane_op(struct lane *l);
void lane_last(struct lane *l);
void racer_end(struct lane *l, bool force);
pid_t race_fork(void);

/* break_cow_stress_member.c */
void member_main(struct slot *slot);
void wait_change(unsigned int *word, unsigned int old, unsigned int ms);
void wake_all(unsigned int *word);

#endif /* BREAK_COW_STRESS_H */
