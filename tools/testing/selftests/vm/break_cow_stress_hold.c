// SPDX-License-Identifier: GPL-2.0
/*
 * References that break_cow_stress keeps: taken, looked through, and given back
 * in all ways there are, and what each of them may show.
 *
 * A pin of a page that is its owner's shows what the owner sees, until the owner
 * drops the page; from then on what it saw last. A plain reference shows what
 * was there when it was taken, or what its owner has stored since and until it
 * dropped the page. Neither ever shows what somebody else stores.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/aio_abi.h>

#include "break_cow_stress.h"
#include "../../../../mm/break_cow_test.h"

static __u64 pagemap(struct page *p)
{
	return bc_pagemap(p->addr);
}

/* Before a read by GUP: what must not change? */
void gup_begin(struct page *p, struct look *look)
{
	look->epoch = epoch_now();
	look->entry = 0;
	if (p->region != R_SMALL && p->region != R_FILE)
		return;
	look->entry = pagemap(p);
}

/*
 * After it. Memory that was never stored to still has no page of its own; a
 * page that is ours alone is still the same one, and so is any page if the
 * reader only @looks. A page that has not been stored to is not soft-dirty.
 */
void gup_end(struct lane *l, struct page *p, struct look *look, bool looks)
{
	__u64 entry, pfn;

	if (p->region != R_SMALL && p->region != R_FILE)
		return;
	entry = pagemap(p);
	pfn = entry & BC_PM_PFN;
	if (!(entry & BC_PM_PRESENT))
		return;
	if (p->region == R_FILE && !p->anon && !(entry & BC_PM_FILE))
		violate(l, p, "page cache was copied for a read");
	if (p->region == R_SMALL && !p->anon && pfn != zero_pfn)
		violate(l, p, "a page was allocated for a read of the zero page");
	if (p->region == R_SMALL && p->sd == SD_CLEAN && !me.sd_vague &&
	    (entry & BC_PM_SOFT_DIRTY))
		violate(l, p, "soft-dirty without a store");
	if (p->region == R_SMALL && p->sd == SD_DIRTY &&
	    !(entry & BC_PM_SOFT_DIRTY))
		violate(l, p, "not soft-dirty after a store");

	/* Migration and reclaim move pages about. */
	if (world->opt.noisy || !(look->entry & BC_PM_PRESENT) ||
	    (look->entry & BC_PM_PFN) == pfn)
		return;
	if (looks)
		violate(l, p, "a reader that only looks got the page copied");
	if (p->epoch && p->epoch == look->epoch && p->epoch == epoch_now())
		violate(l, p, "a page that is nobody else's was copied for a read");
}

/* A free place, for which another reference may have to go. */
struct hold *hold_free(struct lane *l)
{
	unsigned int i;

	for (i = 0; i < HOLDS; i++)
		if (l->holds[i].kind == HOLD_NONE)
			return &l->holds[i];
	i = rnd(&l->rnd, HOLDS);
	hold_end(l, &l->holds[i]);
	return &l->holds[i];
}

static void allow(struct hold *h, const struct state *s)
{
	unsigned int i;

	for (i = 0; i < h->nr_states; i++)
		if (!memcmp(&h->state[i], s, sizeof(*s)))
			return;
	h->state[h->nr_states++] = *s;
}

static int get_pipe(struct hold *h, struct page *p)
{
	int err;

	if (pipe2(h->fd, O_CLOEXEC))
		return errno;
	err = -bc_splice_page(h->fd[1], p->addr);
	if (err) {
		close(h->fd[0]);
		close(h->fd[1]);
	}
	return err;
}

static int get_aio(struct lane *l, struct page *p)
{
	aio_context_t ctx = l->aio;
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = l->direct,
		.aio_buf = (uintptr_t)p->addr,
		.aio_nbytes = PAGE,
		.aio_offset = PAGE,
	}, *cbs = &cb;

	if (!ctx && syscall(SYS_io_setup, 4, &ctx))
		return errno;
	l->aio = ctx;
	return syscall(SYS_io_submit, ctx, 1, &cbs) == 1 ? 0 : errno;
}

/* Have the driver take a page: 0 or an error */
static int driver_take(int fd, struct page *p, unsigned int how)
{
	struct break_cow_take take = {
		.addr = (uintptr_t)p->addr, .nr_pages = 1, .how = how,
	};
	int ret = ioctl(fd, BREAK_COW_TAKE, &take);

	return ret == 1 ? 0 : ret < 0 ? errno : EFAULT;
}

/* These may take nothing, rather than wait. */
static bool how_may_fail(unsigned int how)
{
	return how & (BREAK_COW_FAST_ONLY | BREAK_COW_NOWAIT);
}

static int get_driver(struct lane *l, struct hold *h, struct page *p)
{
	int err;

	h->fd[0] = open(BC_DRIVER, O_RDWR | O_CLOEXEC);
	if (h->fd[0] < 0)
		return errno;
	err = driver_take(h->fd[0], p, h->how);
	if (!err)
		return 0;
	close(h->fd[0]);
	if (!how_may_fail(h->how))
		return err;
	op_failed(l, NULL, err, "GUP that may not wait");
	return -1;
}

/* A way for the driver to take a page */
static unsigned int driver_how(struct lane *l, enum op op, struct page *p)
{
	static const unsigned int ways[] = {
		0, BREAK_COW_FAST, BREAK_COW_FAST, BREAK_COW_NO_RETRY,
		BREAK_COW_FAST_ONLY, BREAK_COW_NOWAIT,
	};
	unsigned int how = ways[rnd(&l->rnd, ARRAY_SIZE(ways))];
	bool write = !rnd(&l->rnd, 4);

	if (op == OP_GET)
		return how;
	how |= BREAK_COW_PIN;
	if (op == OP_LONGTERM)
		how = (how & (BREAK_COW_FAST | BREAK_COW_PIN)) | BREAK_COW_LONGTERM;
	if (write && !p->ro && !p->wp)
		how |= BREAK_COW_WRITE;
	return how;
}

/* Take a reference to a page, and keep it. */
void hold_get(struct lane *l, enum op op, struct page *p)
{
	bool write = false, own = false, pin = false;
	struct look look;
	struct hold *h;
	unsigned int i;
	int err;

	for (i = 0; i < HOLDS; i++) {
		/* one buffer a ring, one write in flight */
		if ((op == OP_AIO && l->holds[i].kind == HOLD_AIO) ||
		    (op == OP_PIN_URING && l->holds[i].kind == HOLD_URING))
			hold_end(l, &l->holds[i]);
	}
	h = hold_free(l);
	memset(h, 0, sizeof(*h));
	gup_begin(p, &look);
	switch (op) {
	case OP_SPLICE:
		err = get_pipe(h, p);
		h->kind = HOLD_PIPE;
		break;
	case OP_AIO:
		err = get_aio(l, p);
		h->kind = HOLD_AIO;
		break;
	case OP_PIN_URING:
		err = -bc_pin(p->addr, PAGE);
		h->kind = HOLD_URING;
		pin = true;
		write = true;
		break;
	default:
		h->how = driver_how(l, op, p);
		err = get_driver(l, h, p);
		h->kind = HOLD_DRIVER;
		write = h->how & BREAK_COW_WRITE;
		own = h->how & BREAK_COW_LONGTERM;
		/* A short pin takes the zero page, and page cache, as it is. */
		pin = write || own || ((h->how & BREAK_COW_PIN) && p->anon);
	}
	if (err) {
		h->kind = HOLD_NONE;
		if (err > 0)
			op_failed(l, p, err, op_name[op]);
		return;
	}

	if (write || (own && !p->anon)) {
		p->anon = true;
		p->sd = SD_UNKNOWN;
	} else {
		gup_end(l, p, &look, false);
	}
	/*
	 * From fork() on a plain reference is to a page that is shared, which ksmd
	 * may make one of KSM's if the entry is clean.
	 */
	if (p->region == R_KSM && op != OP_AIO && p->anon && bc_is_ksm(p->addr) &&
	    (pin || (look.epoch && look.epoch == epoch_now())))
		violate(l, p, "a KSM page was handed out");

	h->page = p;
	h->pin = pin;
	h->epoch = p->epoch;
	h->strict = !world->opt.noisy && op != OP_AIO && p->region != R_KSM &&
		    p->rw && p->epoch && p->epoch == epoch_now();
	allow(h, &p->now);
}

/* Bytes that a reference shows; 0 or an error. */
static int hold_read(struct lane *l, struct hold *h)
{
	struct break_cow_copy copy = { .buf = (uintptr_t)l->buf, .len = PAGE };
	struct io_event event;
	ssize_t n;

	switch (h->kind) {
	case HOLD_PIPE:
		n = tee(h->fd[0], l->scratch[1], PAGE, 0);
		if (n != (ssize_t)PAGE)
			return n < 0 ? errno : EIO;
		if (read(l->scratch[0], l->buf, PAGE) == (ssize_t)PAGE)
			return 0;
		/* Nothing of it must be found there the next time. */
		fault_in_op(0);
		close(l->scratch[0]);
		close(l->scratch[1]);
		return pipe2(l->scratch, O_CLOEXEC) ? errno : EIO;
	case HOLD_AIO:
		/* It is not restarted after a ptrace-stop, as most calls are. */
		do {
			n = syscall(SYS_io_getevents, l->aio, 1, 1, &event, NULL);
		} while (n < 0 && errno == EINTR);
		if (n != 1)
			return n < 0 ? errno : EIO;
		h->kind = HOLD_NONE;
		if (event.res != (__s64)PAGE)
			return event.res < 0 ? -event.res : EIO;
		return pread(l->direct, l->buf, PAGE, PAGE) == (ssize_t)PAGE ? 0 : EIO;
	case HOLD_URING:
		return -bc_pin_read(h->page->addr, l->buf, PAGE);
	case HOLD_DRIVER:
		return ioctl(h->fd[0], BREAK_COW_READ, &copy) ? errno : 0;
	default:
		return EINVAL;
	}
}

/*
 * Each word may be of another state: the page was stored to while it was read,
 * or in the middle of a store the entry was made read-only, by a fork() of
 * another lane for instance, and the rest of the store went to a copy.
 */
static bool may_be_torn(struct hold *h, const __u64 *w)
{
	unsigned int i, j;

	for (i = 0; i < WORDS; i++) {
		for (j = 0; j < h->nr_states; j++)
			if (w[i] == (i == POKE ? h->state[j].poke : h->state[j].base))
				break;
		if (j == h->nr_states)
			return false;
	}
	return true;
}

/* Look through a reference. A write in flight ends with that. */
void hold_check(struct lane *l, struct hold *h)
{
	static const char * const where[] = {
		[HOLD_PIPE] = " in a pipe", [HOLD_AIO] = " in flight",
		[HOLD_URING] = " of io_uring", [HOLD_DRIVER] = " of the driver",
	};
	bool aio = h->kind == HOLD_AIO;
	const __u64 *w = (void *)l->buf;
	struct state *last;
	unsigned int i;
	int err, at = 0;

	if (h->kind == HOLD_NONE)
		return;
	err = hold_read(l, h);
	if (err) {
		op_failed(l, h->page, err, "reading what is held");
		return;
	}
	__atomic_fetch_add(&world->holds_checked, 1, __ATOMIC_RELAXED);
	for (i = 0; i < h->nr_states; i++) {
		at = state_differs(l->buf, &h->state[i]);
		if (at < 0)
			return;
	}
	if (!h->pin && !h->strict && may_be_torn(h, w))
		return;
	last = &h->state[h->nr_states - 1];
	violate(l, h->page, "offset %u of a %s%s%s: got %#llx, want %#llx%s",
		at * 8, h->frozen ? "dropped " : h->strict ? "coherent " : "",
		h->pin ? "pin" : "reference",
		where[aio ? HOLD_AIO : h->kind],
		(unsigned long long)w[at],
		(unsigned long long)(at == POKE ? last->poke : last->base),
		h->nr_states > 1 ? " or older" : "");
}

void hold_end(struct lane *l, struct hold *h)
{
	int err;

	hold_check(l, h);
	switch (h->kind) {
	case HOLD_PIPE:
		close(h->fd[1]);
		close(h->fd[0]);
		break;
	case HOLD_URING:
		err = -bc_unpin();
		if (err)
			err = -bc_unpin();
		if (err)
			violate(l, h->page, "got %s from unpinning", strerror(err));
		break;
	case HOLD_DRIVER:
		close(h->fd[0]);
		break;
	default:
		break;
	}
	h->kind = HOLD_NONE;
}

/* What has run out of memory of what it may show is looked at, and ends. */
void holds_before_store(struct lane *l, struct page *p)
{
	unsigned int i;

	for (i = 0; i < HOLDS; i++)
		if (l->holds[i].kind != HOLD_NONE && l->holds[i].page == p &&
		    !l->holds[i].frozen && l->holds[i].nr_states == STATES)
			hold_end(l, &l->holds[i]);
}

static struct hold *next_hold(struct page *p, struct hold *h)
{
	struct lane *l = &me.lane[p->lane];

	for (h = h ? h + 1 : l->holds; h < l->holds + HOLDS; h++)
		if (h->kind != HOLD_NONE && h->page == p)
			return h;
	return NULL;
}

/* The page has been stored to; @epoch: before that. */
void holds_stored(struct page *p, unsigned long epoch)
{
	struct hold *h = NULL;

	while ((h = next_hold(p, h))) {
		if (h->frozen)
			continue;
		if (h->strict &&
		    (h->epoch != epoch || h->epoch != epoch_now()))
			h->strict = false;
		if (h->pin || h->strict)
			h->nr_states = 0;
		allow(h, &p->now);
	}
}

void holds_dropped(struct page *p)
{
	struct hold *h = NULL;

	while ((h = next_hold(p, h)))
		h->frozen = true;
}

void holds_readonly(struct page *p)
{
	struct hold *h = NULL;

	while ((h = next_hold(p, h)))
		h->strict = false;
}

bool holds_pin(struct page *p)
{
	struct hold *h = NULL;

	while ((h = next_hold(p, h)))
		if (h->pin && !h->frozen)
			return true;
	return false;
}

void holds_end_all(struct lane *l)
{
	unsigned int i;

	for (i = 0; i < HOLDS; i++)
		if (l->holds[i].kind != HOLD_NONE)
			hold_end(l, &l->holds[i]);
}

/*
 * A child takes a reference to a page that it shares with us, and goes. What it
 * took must never change, whatever we store (CVE-2020-29374).
 */
void hold_child(struct lane *l, struct page *p)
{
	static const enum op ops[] = { OP_GET, OP_PIN, OP_LONGTERM };
	struct hold *h = hold_free(l);
	bool may_fail = p->region == R_HUGETLB;
	int status = 0;
	pid_t pid;

	memset(h, 0, sizeof(*h));
	h->page = p;
	h->frozen = true;
	allow(h, &p->now);
	h->kind = world->driver && rnd(&l->rnd, 2) ? HOLD_DRIVER : HOLD_PIPE;
	if (h->kind == HOLD_DRIVER) {
		h->how = driver_how(l, ops[rnd(&l->rnd, ARRAY_SIZE(ops))], p);
		may_fail |= how_may_fail(h->how);
		h->fd[0] = open(BC_DRIVER, O_RDWR | O_CLOEXEC);
	}
	if (h->kind == HOLD_PIPE ? pipe2(h->fd, O_CLOEXEC) : h->fd[0] < 0) {
		op_failed(l, p, errno, "pipe or open");
		h->kind = HOLD_NONE;
		return;
	}
	pid = race_fork();
	if (!pid)
		_exit(h->kind == HOLD_PIPE ? -bc_splice_page(h->fd[1], p->addr) :
					     driver_take(h->fd[0], p, h->how));
	if (pid > 0 && waitpid(pid, &status, 0) == pid && !status)
		return;
	/* hugetlb: there may be no page for the child's copy */
	op_failed(l, may_fail ? NULL : p,
		  pid < 0 ? EAGAIN : WEXITSTATUS(status), "a child's GUP");
	close(h->fd[0]);
	if (h->kind == HOLD_PIPE)
		close(h->fd[1]);
	h->kind = HOLD_NONE;
}

/*
 * Take a reference to a page that is shared for sure, with a child that does
 * nothing: it is a page of our own, and shows the next store.
 */
void hold_share(struct lane *l, struct page *p)
{
	/* Stored to once more, it shows. Not if somebody wants to be asked. */
	const bool sure = !world->opt.noisy && p->anon && !p->wp &&
			  (p->region == R_HUGETLB || p->sd == SD_DIRTY) &&
			  p->region != R_KSM;
	struct hold h = { .kind = HOLD_PIPE, .page = p };
	unsigned long epoch;
	pid_t pid;
	int err;

	if (p->region != R_HUGETLB && rnd(&l->rnd, 2)) {
		madvise(p->addr, PAGE, MADV_PAGEOUT);
		page_readonly(p);
	}
	pid = race_fork();
	if (!pid)
		for (;;)
			pause();
	if (pid < 0) {
		op_failed(l, p, errno, "fork");
		return;
	}
	epoch = epoch_now();
	err = get_pipe(&h, p);
	if (err) {
		op_failed(l, p->region == R_HUGETLB ? NULL : p, err, "vmsplice");
		goto out;
	}
	allow(&h, &p->now);
	if (!p->ro && page_store(l, p, rnd(&l->rnd, 2), 0)) {
		h.strict = sure && epoch && epoch == p->epoch;
		if (h.strict)
			h.nr_states = 0;
		allow(&h, &p->now);
	}
	hold_end(l, &h);
out:
	bc_reap(pid);
}
