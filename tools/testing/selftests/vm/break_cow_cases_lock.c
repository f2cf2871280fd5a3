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

/* Have it done by a thread, which must not come back before @lock is unlocked. */
static int done_unlocked(struct waiter *w, struct bc_hold *lock, const char *what)
{
	int ret;

	if (pthread_create(&w->thread, NULL, w->fn, w))
		return bc_why(BC_ERROR, "no thread");
	usleep(WHILE_US);
	if (__atomic_load_n(&w->done, __ATOMIC_SEQ_CST))
		return bc_why(BC_FAIL, "got %s while the page was locked, want it to wait",
			      what);
	ret = hold_lock(lock, false);
	bc_waiting("%s, now that the page is unlocked", what);
	pthread_join(w->thread, NULL);
	return ret;
}

/* A store to a pinned page of ours waits for the lock: a copy would lose the pin. */
int case_locked_pin(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct waiter w = { .fn = wait_store, .hold = &hold };
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
 * Whether a shared page is ours cannot be told without the lock. GUP waits for it,
 * FOLL_NOWAIT comes back without a page.
 */
int case_locked_shared(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold lock = { .by = &bc_holders[BC_GET] };
	struct bc_hold hold = { .by = arg->by };
	struct waiter w = { .fn = wait_take, .hold = &hold };
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

	if (arg->by == &bc_holders[BC_NOWAIT]) {
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
