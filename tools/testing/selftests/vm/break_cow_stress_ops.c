// SPDX-License-Identifier: GPL-2.0
/*
 * The operations of a lane of break_cow_stress, on the pages that are its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "break_cow_stress.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define KSM		"/sys/kernel/mm/ksm/"
#define M_COMMON	(M(R_SMALL) | M(R_KSM) | M(R_FILE))
#define M_PLAIN		(M_COMMON | M(R_THP))
#define M_PIN		(M_COMMON | M(R_THP_PIN))

/* Weights sum up to 1000; which memory an operation is for */
static const struct {
	enum op op;
	unsigned int weight, regions;
} table[] = {
	{ OP_FILL, 139, M_ALL },
	{ OP_POKE, 130, M_ALL },
	{ OP_CHECK, 90, M_ALL },
	{ OP_FILLER, 20, M_THP },
	{ OP_RO_STORE, 25, M_ALL },
	{ OP_MPROTECT, 45, M_ALL },
	{ OP_DROP, 40, M_ALL & ~M(R_HUGETLB) },
	{ OP_PAGEOUT, 25, M_ALL & ~M(R_HUGETLB) },
	{ OP_MREMAP, 16, M_ALL & ~M(R_HUGETLB) & ~M(R_FILE) },
	{ OP_WP_ON, 60, M_WP },
	{ OP_WP_OFF, 20, M_WP },
	{ OP_SPLICE, 40, M_PLAIN },
	{ OP_AIO, 16, M_PLAIN },
	{ OP_PIN_URING, 30, M_PIN & ~M(R_FILE) },
	{ OP_GET, 30, M_PLAIN },
	{ OP_PIN, 35, M_PIN },
	{ OP_LONGTERM, 20, M_PIN },
	{ OP_HOLD_CHECK, 50, M_ALL },
	{ OP_HOLD_END, 20, M_ALL },
	{ OP_DIRECT, 16, M_PLAIN | M(R_HUGETLB) },
	{ OP_READV, 16, M_PIN | M(R_HUGETLB) },
	{ OP_LOOK, 22, M_ALL },
	{ OP_FORK_RACE, 14, M_ALL & ~M(R_HUGETLB) },
	{ OP_LEAK, 17, M_ALL },
	{ OP_SHARE, 17, M_ALL },
	{ OP_MERGE, 19, M(R_KSM) },
	{ OP_UNMERGE, 14, M(R_KSM) },
	{ OP_KSM_WAIT, 14, M(R_KSM) },
};

/* fork(), in the middle of what the other lanes do */
pid_t race_fork(void)
{
	pid_t parent = getpid(), pid;

	__atomic_fetch_add(&me.forks_begun, 1, __ATOMIC_SEQ_CST);
	pid = fork();
	if (!pid) {
		/* A thread forked us: system calls only. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		return 0;
	}
	__atomic_fetch_add(&me.forks_done, 1, __ATOMIC_SEQ_CST);
	return pid;
}

/* Could this word be in this page at all? Other lanes store to theirs. */
static bool plausible(__u64 w, struct page *p)
{
	switch (w >> 56) {
	case 0:
		return !w;
	case 0x4b:
		return true;
	case 0xa5:
		return (w >> 28 & 0xff) == p->id;
	case 0xf1:
		return (w & 0xff) == p->id && p->region == R_FILE;
	default:
		return false;
	}
}

/*
 * A child forked while all lanes are at work. It looks at all pages, stores to
 * half of them what nobody else must see, and ends: exactly for the pages of
 * the lane that forked it, which does nothing meanwhile.
 */
static void racer(struct lane *l, __u64 seed)
{
	static __u64 buf[WORDS];
	static bool mine[PAGES];
	struct state s;
	unsigned int i, round;
	struct page *p;

	for (i = 0; i < me.nr_pages; i++) {
		p = &me.page[i];
		if (p->lane == l->nr) {
			page_check(l, p);
			continue;
		}
		if (!raw_copy(buf, p->addr, PAGE) &&
		    (!plausible(buf[0], p) || !plausible(buf[POKE], p)))
			violate(l, p, "a forked child reads %#llx and %#llx",
				(unsigned long long)buf[0],
				(unsigned long long)buf[POKE]);
	}
	for (round = 0; round < 2; round++) {
		for (i = 0; i < me.nr_pages; i++) {
			p = &me.page[i];
			s.base = 0xeeULL << 56 | (__u64)getpid() << 16 |
				round << 8 | i;
			s.poke = s.base;
			if (p->region != R_HUGETLB && (mine[i] || rnd(&seed, 2)))
				mine[i] = !raw_store(p->addr, &s, true);
		}
		usleep(rnd(&seed, 3000));
		for (i = 0; i < me.nr_pages; i++) {
			p = &me.page[i];
			s.base = 0xeeULL << 56 | (__u64)getpid() << 16 |
				round << 8 | i;
			s.poke = s.base;
			if (mine[i] && (raw_copy(buf, p->addr, PAGE) ||
					state_differs(buf, &s) >= 0))
				violate(l, p, "a forked child has lost its store");
		}
	}
	_exit(0);
}

void racer_end(struct lane *l, bool force)
{
	int status;

	if (l->racer <= 0)
		return;
	if (waitpid(l->racer, &status, force ? 0 : WNOHANG) != l->racer)
		return;
	if (status)
		violate(l, NULL, "a forked child ended with status %#x", status);
	l->racer = 0;
}

static void op_fork_race(struct lane *l)
{
	__u64 seed = rnd_seed(l->rnd, 7, 7);

	racer_end(l, true);
	l->racer = race_fork();
	if (!l->racer)
		racer(l, seed);
	if (l->racer < 0)
		op_failed(l, &me.page[0], errno, "fork");
}

static int protect(struct page *p, bool ro)
{
	int prot = ro ? PROT_READ : PROT_READ | PROT_WRITE;
	bool whole = p->region == R_HUGETLB;
	unsigned int i;

	if (mprotect(whole ? me.start[R_HUGETLB] : p->addr,
		     whole ? me.len[R_HUGETLB] : PAGE, prot))
		return errno;
	for (i = 0; i < me.nr_pages; i++) {
		struct page *q = &me.page[i];

		if (q == p || (whole && q->region == R_HUGETLB)) {
			q->ro = ro;
			page_readonly(q);
		}
	}
	return 0;
}

static void op_mprotect(struct lane *l, struct page *p)
{
	int err = protect(p, !p->ro && rnd(&l->rnd, 2));

	if (err)
		op_failed(l, p, err, "mprotect");
}

static void op_ro_store(struct lane *l, struct page *p)
{
	bool was = p->ro;
	int err = was ? 0 : protect(p, true);

	if (err) {
		op_failed(l, p, err, "mprotect");
		return;
	}
	page_store_ro(l, p);
	if (was)
		return;
	fault_in_op(0);
	err = protect(p, false);
	if (err)
		violate(l, p, "got %s from mprotect", strerror(err));
}

static void op_wp(struct lane *l, struct page *p, bool on)
{
	int err;

	/* What was never stored to may have no entry that could be protected. */
	if (on && !p->anon)
		page_store(l, p, true, 0);
	err = -bc_uffd_wp(me.uffd, p->addr, PAGE, on);
	if (err) {
		op_failed(l, p, err, "UFFDIO_WRITEPROTECT");
		return;
	}
	p->wp = on;
	page_readonly(p);
}

/* Away, where userfaultfd does not watch, and back. */
static void op_mremap(struct lane *l, struct page *p)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	char *home = p->addr, *away = me.away + l->nr * PAGE;
	int err;

	__atomic_store_n(&me.sd_vague, true, __ATOMIC_SEQ_CST);
	if (mremap(home, PAGE, PAGE, flags, away) == MAP_FAILED) {
		err = errno;
		fault_in_op(0);
		op_failed(l, p, err, "mremap");
		/* It may have unmapped what it was to replace. */
		mmap(away, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		     MAP_FIXED_NOREPLACE, -1, 0);
		return;
	}
	fault_in_op(0);
	p->wp = false;
	p->sd = SD_UNKNOWN;
	p->addr = away;
	page_readonly(p);
	page_check(l, p);
	if (!p->ro && rnd(&l->rnd, 2))
		page_store(l, p, rnd(&l->rnd, 2), 0);
	p->addr = home;
	if (mremap(away, PAGE, PAGE, flags, home) == MAP_FAILED) {
		violate(l, p, "got %s from mremap", strerror(errno));
		return;
	}
	page_readonly(p);
	if (!(M(p->region) & M_WP))
		return;
	/* The entry may have kept the bit of a protection that is over. */
	err = -bc_uffd_register(me.uffd, home, PAGE, UFFDIO_REGISTER_MODE_WP);
	if (!err)
		err = -bc_uffd_wp(me.uffd, home, PAGE, false);
	if (err)
		violate(l, p, "got %s from registering it again", strerror(err));
}

static void op_direct(struct lane *l, struct page *p)
{
	struct look look;
	int err;

	gup_begin(p, &look);
	err = -bc_way("direct")->leave(p->addr, PAGE, l->direct, 0);
	if (err) {
		op_failed(l, p->region == R_HUGETLB ? NULL : p, err, "O_DIRECT");
		return;
	}
	gup_end(l, p, &look, false);
	if (pread(l->direct, l->buf, PAGE, 0) == (ssize_t)PAGE)
		state_want(l, p, l->buf, "what O_DIRECT wrote");
	else
		op_failed(l, p, errno, "reading back");
}

static void op_readv(struct lane *l, struct page *p)
{
	struct iovec to = { .iov_base = l->buf, .iov_len = PAGE };
	struct iovec from = { .iov_base = p->addr, .iov_len = PAGE };
	struct look look;

	gup_begin(p, &look);
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)PAGE) {
		op_failed(l, p->region == R_HUGETLB ? NULL : p, errno,
			  "process_vm_readv");
		return;
	}
	gup_end(l, p, &look, false);
	state_want(l, p, l->buf, "what process_vm_readv read");
}

static void op_look(struct lane *l, struct page *p)
{
	struct look look;
	int n;

	gup_begin(p, &look);
	n = bc_proc_read("/proc/self/mem", l->buf, PAGE, (uintptr_t)p->addr);
	if (n != (int)PAGE) {
		op_failed(l, p, n < 0 ? -n : EIO, "/proc/self/mem");
		return;
	}
	gup_end(l, p, &look, true);
	state_want(l, p, l->buf, "what /proc/self/mem read");
}

/* A page of a huge page that nobody ever stores to */
static void op_filler(struct lane *l, struct page *p)
{
	static const struct state zero;
	size_t at = rnd(&l->rnd, BC_THP_SIZE / PAGE);
	unsigned int i;

	for (i = 0; i < me.nr_pages; i++)
		if (me.page[i].addr == me.start[p->region] + at * PAGE)
			return;
	if (raw_copy(l->buf, me.start[p->region] + at * PAGE, PAGE) ||
	    state_differs(l->buf, &zero) >= 0)
		violate(l, NULL, "small page %zu of the huge page of page %u is no longer zero",
			at, p->id);
}

static unsigned long ksm_scans(void)
{
	char buf[32];
	int n = bc_proc_read(KSM "full_scans", buf, sizeof(buf) - 1, 0);

	buf[n > 0 ? n : 0] = 0;
	return strtoul(buf, NULL, 10);
}

/* What others have as well is merged when ksmd has seen it twice. */
static void op_ksm_wait(struct lane *l, struct page *p)
{
	unsigned long scans = ksm_scans();
	unsigned int i;

	if (!p->ro)
		page_store(l, p, true, 1 + rnd(&l->rnd, 3));
	for (i = 0; i < 20 && ksm_scans() < scans + 2; i++)
		usleep(2000);
	if (bc_is_ksm(p->addr))
		__atomic_fetch_add(&world->merged, 1, __ATOMIC_RELAXED);
	page_check(l, p);
}

/*
 * After MADV_UNMERGEABLE a page that was merged is our own. One that was in swap
 * is passed over, and is a KSM page again when it is back; one that is shared by
 * fork() becomes one when the other process merges it.
 */
static void op_merge(struct lane *l, struct page *p, bool on)
{
	bool merged = p->mergeable && bc_is_ksm(p->addr);

	if (on && !p->ro)
		page_store(l, p, true, 1 + rnd(&l->rnd, 3));
	page_readonly(p);
	if (madvise(p->addr, PAGE, on ? MADV_MERGEABLE : MADV_UNMERGEABLE)) {
		op_failed(l, p, errno, op_name[l->status->op]);
		return;
	}
	p->mergeable = on;
	if (!on && merged && !world->opt.noisy && bc_is_ksm(p->addr))
		violate(l, p, "still a KSM page after MADV_UNMERGEABLE");
}

static void op_pageout(struct lane *l, struct page *p)
{
	if (madvise(p->addr, PAGE, MADV_PAGEOUT))
		op_failed(l, p, errno, "MADV_PAGEOUT");
	page_readonly(p);
	if (p->region == R_SMALL && bc_pagemap(p->addr) & BC_PM_SWAP)
		__atomic_fetch_add(&world->swapped, 1, __ATOMIC_RELAXED);
}

static void op_drop(struct lane *l, struct page *p)
{
	if (madvise(p->addr, PAGE, MADV_DONTNEED))
		op_failed(l, p, errno, "MADV_DONTNEED");
	else
		page_dropped(p);
}

/* One of the holds, of the page if there is one */
static struct hold *pick_hold(struct lane *l, struct page *p)
{
	unsigned int i, at = l->rnd % HOLDS;
	struct hold *any = NULL;

	for (i = 0; i < HOLDS; i++, at++) {
		struct hold *h = &l->holds[at % HOLDS];

		if (h->kind == HOLD_NONE)
			continue;
		if (h->page == p)
			return h;
		any = h;
	}
	return any;
}

static void run_op(struct lane *l, enum op op, struct page *p)
{
	switch (op) {
	case OP_FILL:
	case OP_POKE:
		page_store(l, p, op == OP_FILL, p->region == R_KSM &&
			   rnd(&l->rnd, 2) ? 1 + rnd(&l->rnd, 3) : 0);
		break;
	case OP_CHECK:
		page_check(l, p);
		break;
	case OP_FILLER:
		op_filler(l, p);
		break;
	case OP_RO_STORE:
		op_ro_store(l, p);
		break;
	case OP_MPROTECT:
		op_mprotect(l, p);
		break;
	case OP_DROP:
		op_drop(l, p);
		break;
	case OP_PAGEOUT:
		op_pageout(l, p);
		break;
	case OP_MREMAP:
		op_mremap(l, p);
		break;
	case OP_WP_ON:
	case OP_WP_OFF:
		op_wp(l, p, op == OP_WP_ON);
		break;
	case OP_SPLICE:
	case OP_AIO:
	case OP_PIN_URING:
	case OP_GET:
	case OP_PIN:
	case OP_LONGTERM:
		hold_get(l, op, p);
		break;
	case OP_HOLD_CHECK:
		hold_check(l, pick_hold(l, p));
		break;
	case OP_HOLD_END:
		hold_end(l, pick_hold(l, p));
		break;
	case OP_DIRECT:
		op_direct(l, p);
		break;
	case OP_READV:
		op_readv(l, p);
		break;
	case OP_LOOK:
		op_look(l, p);
		break;
	case OP_FORK_RACE:
		op_fork_race(l);
		break;
	case OP_LEAK:
		hold_child(l, p);
		break;
	case OP_SHARE:
		hold_share(l, p);
		break;
	case OP_MERGE:
	case OP_UNMERGE:
		op_merge(l, p, op == OP_MERGE);
		break;
	default:
		op_ksm_wait(l, p);
	}
}

/* What cannot be done to the page is an operation of another kind. */
static enum op possible(struct lane *l, enum op op, struct page *p)
{
	if (world->fork_shares_pins &&
	    (op == OP_PIN || op == OP_LONGTERM || op == OP_PIN_URING))
		return OP_CHECK;
	if (!world->driver && op == OP_GET)
		op = OP_SPLICE;
	if (!world->driver && (op == OP_PIN || op == OP_LONGTERM) &&
	    p->region != R_FILE)
		op = OP_PIN_URING;
	switch (op) {
	case OP_FILL:
	case OP_POKE:
	case OP_WP_ON:
		return p->ro ? OP_RO_STORE : op;
	case OP_PIN:
	case OP_LONGTERM:
		return world->driver ? op : OP_CHECK;
	case OP_PIN_URING:
		/* It pins to write, which may fail, or trap. */
		return p->ro || p->wp ? OP_CHECK : op;
	case OP_HOLD_CHECK:
	case OP_HOLD_END:
		return pick_hold(l, p) ? op : OP_CHECK;
	default:
		return op;
	}
}

/*
 * Most operations go to the page of the one before, if it will do. Else to any,
 * or to one of any kind of memory: there are few pages of hugetlb.
 */
static struct page *pick_page(struct lane *l, unsigned int regions)
{
	unsigned int kind = M(rnd(&l->choice, R_NR));
	struct page *p = l->focus;

	if (p && (M(p->region) & regions) && rnd(&l->choice, 4))
		return p;
	/* hugetlb may be missing, and all of it is of the first lane. */
	if ((kind & regions) && !rnd(&l->choice, 3) &&
	    (kind != M(R_HUGETLB) || (!l->nr && me.len[R_HUGETLB])))
		regions = kind;
	do {
		p = &me.page[rnd(&l->choice, me.nr_pages)];
	} while (p->lane != l->nr || !(M(p->region) & regions));
	return p;
}

void lane_op(struct lane *l)
{
	unsigned int i, n = rnd(&l->choice, 1000);
	struct page *p;
	enum op op;

	for (i = 0; n >= table[i].weight; i++)
		n -= table[i].weight;
	op = table[i].op;
	p = pick_page(l, table[i].regions);
	/* What an operation draws does not change those that follow. */
	l->rnd = rnd_seed(l->choice, 0, 0);
	op = possible(l, op, p);
	l->focus = p;
	l->status->op = op;
	l->status->page = p->id;
	__atomic_fetch_add(&l->status->nr, 1, __ATOMIC_RELAXED);
	racer_end(l, false);
	if (world->opt.trace == (int)p->id)
		bc_diag("page %u, member %u, lane %u, burst %lu: %s%s%s%s%s, soft-dirty %d",
			p->id, me.uid, l->nr, world->burst, op_name[op],
			p->anon ? "" : ", empty", p->ro ? ", read-only" : "",
			p->wp ? ", protected" : "", p->rw ? ", writable" : "",
			p->sd);

	fault_in_op(world->opt.faults ? rnd(&l->rnd, 12) : 0);
	run_op(l, op, p);
	fault_in_op(0);
	__atomic_fetch_add(&world->count[op], 1, __ATOMIC_RELAXED);
}

/* Before the member exits: all must be as it should. */
void lane_last(struct lane *l)
{
	unsigned int i;

	racer_end(l, true);
	for (i = 0; i < me.nr_pages; i++)
		if (me.page[i].lane == l->nr)
			page_check(l, &me.page[i]);
	holds_end_all(l);
}
