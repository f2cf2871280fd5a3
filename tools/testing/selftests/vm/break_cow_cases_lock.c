// SPDX-License-Identifier: GPL-2.0
/*
 * Cases of break_cow in which somebody else has the page lock: reclaim, migration
 * and swap have it for moments, the test driver for as long as it takes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "break_cow_cases.h"

#define WHILE_US	100000	/* what does not wait is done by then */

/* What a thread does while the page is locked, and afterwards */
struct waiter {
	void *(*fn)(void *waiter);
	bool waits;		/* for the lock */
	struct bc_hold *hold;
	char *page;
	pthread_t thread;
	int ret;
	bool done;
};

static void *wait_store(void *arg)
{
	struct waiter *w = arg;

	memset(w->page, NEW, bc_page_size());
	__atomic_store_n(&w->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *wait_take(void *arg)
{
	struct waiter *w = arg;

	w->ret = hold_take(w->hold, w->page);
	__atomic_store_n(&w->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/*
 * Whether a page is ours alone is counted under its lock, until PageAnonExclusive
 * says it (6c287605fd56, v5.19). A page that is exclusive is then stored to, and
 * another one copied, whoever has the lock.
 */
static bool owner_is_counted(void)
{
	return bc_kernel_before(5, 19);
}

static bool lock_is_waited_for(const struct bc_arg *arg, bool shared)
{
	/* do_huge_pmd_wp_page() looks for other references first, under the lock. */
	return owner_is_counted() || (shared && arg->kind == MEM_THP);
}

/*
 * Have it done by a thread, which comes back when @lock is unlocked and not before,
 * or else at once.
 */
static int done_unlocked(struct waiter *w, struct bc_hold *lock, const char *what)
{
	int ret;

	if (pthread_create(&w->thread, NULL, w->fn, w))
		return bc_why(BC_ERROR, "no thread");
	if (!w->waits) {
		bc_waiting("%s, although the page is locked", what);
		pthread_join(w->thread, NULL);
		return hold_lock(lock, false);
	}
	usleep(WHILE_US);
	if (__atomic_load_n(&w->done, __ATOMIC_SEQ_CST))
		return bc_why(BC_FAIL, "got %s while the page was locked, want it to wait",
			      what);
	ret = hold_lock(lock, false);
	bc_waiting("%s, now that the page is unlocked", what);
	pthread_join(w->thread, NULL);
	return ret;
}

/*
 * A store to a pinned page of ours goes to that page: a copy would lose the pin. If
 * it takes the lock to know that the page is ours, it waits for the lock.
 */
static int case_locked_pin(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct waiter w = {
		.fn = wait_store, .hold = &hold,
		.waits = lock_is_waited_for(arg, false),
	};
	struct bc_mem mem;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	w.page = mem_middle(&mem);
	ret = take(&hold, w.page);
	if (!ret)
		ret = act_mprotect(&mem);
	if (!ret)
		ret = hold_lock(&hold, true);
	if (!ret)
		ret = done_unlocked(&w, &hold, "a store done");
	return ret ? ret : hold_same(&hold, NEW, "the pinned page");
}

/*
 * What is given is a copy. If it takes the lock to know that the page is shared, GUP
 * waits for it, and FOLL_NOWAIT comes back without a page.
 */
static int case_locked_shared(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold lock = { .by = &bc_holders[BC_GET] };
	struct bc_hold hold = { .by = arg->by };
	struct waiter w = {
		.fn = wait_take, .hold = &hold,
		.waits = lock_is_waited_for(arg, true),
	};
	struct bc_mem mem;
	__u64 before;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	w.page = mem_middle(&mem);
	ret = take(&lock, w.page);
	if (!ret)
		ret = mem_share(&mem, -1);
	if (!ret)
		ret = hold_lock(&lock, true);
	if (ret)
		return ret;
	before = bc_pfn(w.page);

	if (arg->by == &bc_holders[BC_NOWAIT] && owner_is_counted()) {
		ret = hold_take(&hold, w.page);
		if (!ret)
			return bc_why(BC_FAIL, "got a page while it was locked, want none");
		if (ret != -EAGAIN)
			return bc_why(BC_FAIL, "got %s, want no page", strerror(-ret));
		ret = hold_lock(&lock, false);
		if (!ret)
			ret = take(&hold, w.page);
	} else {
		ret = done_unlocked(&w, &lock, "a page taken");
		if (!ret && w.ret)
			return bc_why(BC_FAIL, "got %s, want a page taken",
				      strerror(-w.ret));
	}
	if (ret)
		return ret;
	if (bc_pfn(w.page) == before)
		return bc_why(BC_FAIL, "got the shared page, want a copy");
	ret = hold_sees_store(&hold, "the page taken");
	bc_reap(mem.child);
	return ret;
}

static const struct promise promises[] = {
	PROMISE("pin, page locked", case_locked_pin, SINGLE | HUGE_PAGE, READ_PINS),
	PROMISE("own, page locked", case_locked_shared, SINGLE | HUGE_PAGE,
		BY(GET) | BY(PIN) | BY(PIN_LONG_FAST) | BY(NOWAIT)),
};

PROMISES(promises)
