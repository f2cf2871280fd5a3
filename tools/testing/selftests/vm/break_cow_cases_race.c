// SPDX-License-Identifier: GPL-2.0
/*
 * Fast GUP takes a page of ours that is not writable, again and again, beside
 * somebody who takes the page away; and a store to a protected page beside the end
 * of its protection: for the cases of break_cow. Each race lasts a second;
 * BREAK_COW_RACE sets the seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "break_cow_cases.h"

/* Seconds that a race lasts; where BREAK_COW_DEADLINE is set, a tenth of that */
static double race_time(void)
{
	const char *race = getenv("BREAK_COW_RACE");
	const char *deadline = getenv("BREAK_COW_DEADLINE");

	if (race)
		return atol(race);
	return deadline ? atol(deadline) / 10.0 : 1;
}

static void *beside_loop(void *p)
{
	struct beside *b = p;

	while (!__atomic_load_n(&b->stop, __ATOMIC_RELAXED))
		b->done += b->act(b->mem, b->n++);
	return NULL;
}

/**
 * race_beside() - do one thing again and again, and another one beside it
 * @b: the other one, which a thread of its own does
 * @once: the one; it ends the race if it is not BC_OK
 * @arg: for it
 *
 * Return: what @once returned last; BC_ERROR with the reason recorded if the
 *	   thread got nowhere.
 */
int race_beside(struct beside *b, int (*once)(void *arg), void *arg)
{
	double end = bc_now() + race_time();
	int ret;

	if (pthread_create(&b->thread, NULL, beside_loop, b))
		return bc_why(BC_ERROR, "no thread");
	do {
		bc_beat();
		ret = once(arg);
	} while (!ret && bc_now() < end);
	__atomic_store_n(&b->stop, true, __ATOMIC_RELAXED);
	pthread_join(b->thread, NULL);
	if (!ret && !b->done)
		ret = bc_why(BC_ERROR, "nothing happened beside it");
	return ret;
}

/* A child stores to the page, which is no longer ours alone meanwhile. */
static bool beside_fork(struct bc_mem *mem, unsigned int n)
{
	pid_t child = fork();

	(void)n;
	if (!child) {
		memset(mem->addr, SECRET, bc_page_size());
		_exit(0);
	}
	return child > 0 && waitpid(child, NULL, 0) == child;
}

static bool beside_pageout(struct bc_mem *mem, unsigned int n)
{
	(void)n;
	return !madvise(mem->addr, mem->len, MADV_PAGEOUT);
}

/* The pmd is split; khugepaged puts it together again if it comes by. */
static bool beside_split(struct bc_mem *mem, unsigned int n)
{
	char *last = mem->addr + mem->len - bc_page_size();

	if (madvise(last, bc_page_size(), MADV_DONTNEED))
		return false;
	bc_store(last, n);
	return true;
}

/* ksmd merges the page with one like it as soon as they are equal. */
static bool beside_ksm(struct bc_mem *mem, unsigned int n)
{
	char *twin = mem->addr + mem->len;

	if (!n)
		return !madvise(mem->addr, 2 * mem->len, MADV_MERGEABLE);
	memset(twin, bc_load(mem->addr), bc_page_size());
	usleep(1000);
	return true;
}

/*
 * Pin the page while it is write-protected, and look through the pin; then store
 * what the pin has to show.
 */
struct pins {
	struct bc_hold hold;
	struct bc_mem mem;
	int uffd;
	char value;	/* what the page holds */
};

static int pin_once(void *p)
{
	struct pins *pins = p;
	struct bc_mem *mem = &pins->mem;
	int ret;

	if (bc_uffd_wp(pins->uffd, mem->addr, mem->len, true))
		return BC_ERROR;
	ret = take(&pins->hold, mem->addr);
	if (!ret)
		ret = hold_same(&pins->hold, pins->value, "what was pinned");
	if (ret)
		return ret;
	if (bc_uffd_wp(pins->uffd, mem->addr, mem->len, false))
		return BC_ERROR;
	pins->value = pins->value % 100 + 1;
	memset(mem->addr, pins->value, bc_page_size());
	ret = hold_same(&pins->hold, pins->value, "the pinned page after a store");
	hold_drop(&pins->hold);
	return ret;
}

static int case_race_pin(const void *p)
{
	const struct bc_arg *arg = p;
	struct pins pins = { .hold.by = arg->by, .value = OLD };
	struct beside beside = { .act = arg->beside, .mem = &pins.mem };
	bool ksm = arg->beside == beside_ksm, thp = arg->beside == beside_split;
	int ret;

	ret = mem_get(arg->kind, &pins.mem);
	if (!ret)
		ret = mem_protect(&pins.mem, &pins.uffd);
	if (!ret && arg->beside == beside_migrate)
		ret = two_nodes();
	/* Before others are about: is there a driver? */
	if (!ret)
		ret = take(&pins.hold, pins.mem.addr);
	if (ret)
		return ret;
	if (ksm && bc_ksm_start())
		return bc_why(BC_SKIP, "cannot start ksmd (root?)");
	if (thp && khugepaged_fast(true))
		return bc_why(BC_SKIP, "cannot start khugepaged (root?)");
	ret = race_beside(&beside, pin_once, &pins);
	if (ksm)
		bc_ksm_stop();
	if (thp)
		khugepaged_fast(false);
	return ret;
}

/* Stores to what is protected: one on its way, and the end of its protection */
struct answer {
	struct bc_mem mem;	/* first, by which beside_store() finds the rest */
	size_t len;		/* what is protected at a time, of @mem */
	bool shared;
	char *addr;		/* ... and stored to */
	unsigned int go, done;	/* number of the store that is wanted, and made */
	int uffd;
	pid_t child;
	double span;		/* seconds from @go until a store waits, at best */
};

static bool beside_store(struct bc_mem *mem, unsigned int n)
{
	struct answer *a = (struct answer *)mem;
	unsigned int go = __atomic_load_n(&a->go, __ATOMIC_ACQUIRE);

	(void)n;
	if (go == a->done)
		return false;
	bc_store(a->addr, go);
	__atomic_store_n(&a->done, go, __ATOMIC_RELEASE);
	return true;
}

static void sleep_ns(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

enum { STEPS = 64, ROUNDS = 32 * STEPS, PATIENCE = 2 /* s */ };

/* Let the thread beside us run into its fault, and come back at step @n of it. */
static int answer_begin(struct answer *a, unsigned int n)
{
	double took, begin = bc_now();
	struct uffd_msg msg;

	__atomic_store_n(&a->go, a->go + 1, __ATOMIC_RELEASE);
	if (n) {
		sleep_ns(n * a->span * 1e9 / STEPS);
		return BC_OK;
	}
	/* Once in a while see how long it takes. */
	if (bc_uffd_event(a->uffd, &msg, PATIENCE * 1000) != 1)
		return bc_why(BC_ERROR, "no event");
	took = bc_now() - begin;
	if (!a->span || took < a->span)
		a->span = took;
	return BC_OK;
}

static int answer_end(struct answer *a)
{
	double late = bc_now() + PATIENCE;
	long nap = 1000;

	/*
	 * Longer each time: a sleep that is over before it has begun leaves the CPU
	 * to nobody, and we go first. On a slow kernel (v7.3 with debugging, under
	 * TCG) one of 1 us is such a sleep.
	 */
	while (__atomic_load_n(&a->done, __ATOMIC_ACQUIRE) != a->go) {
		if (bc_now() > late) {
			bc_uffd_wake(a->uffd, a->addr, a->len);
			return bc_why(BC_FAIL, "got store %u waiting, want it to end",
				      a->go);
		}
		sleep_ns(nap);
		if (nap < 1000000)
			nap *= 2;
	}
	return BC_OK;
}

/* All of it enough times to come between any two steps of a fault */
static int answer_once(void *p)
{
	struct answer *a = p;
	unsigned int i, n = a->mem.len / a->len;
	int ret;

	for (i = 0; i < ROUNDS; i++) {
		bc_beat();
		if (a->shared && i % n == 0) {
			bc_reap(a->child);
			a->child = bc_fork_idle(a->uffd);
			if (a->child < 0)
				return bc_why(BC_ERROR, "fork: %s", strerror(errno));
		}
		a->addr = a->mem.addr + i % n * a->len;
		if (bc_uffd_wp(a->uffd, a->addr, a->len, true))
			return BC_ERROR;
		ret = answer_begin(a, i % STEPS);
		if (bc_uffd_wp(a->uffd, a->addr, a->len, false))
			return BC_ERROR;
		if (!ret)
			ret = answer_end(a);
		if (ret)
			return ret;
	}
	return BC_OK;
}

/*
 * Who stores to a page when its protection ends does not wait for an answer that
 * was given before it asked; it is dropped here. Both are on one CPU, and we go
 * first: a bit later each time, we come between any two steps of its fault. A page
 * that is ours alone may be writable from then on; one that is shared is for the
 * next fault to copy. Of those there are many, not to fork for each.
 */
static int case_race_answer(const void *p)
{
	const struct sched_param first = { .sched_priority = 1 };
	const struct bc_arg *arg = p;
	struct answer a = { .shared = arg->shared };
	struct beside beside = { .act = beside_store, .mem = &a.mem };
	int ret;

	ret = mem_get(arg->kind, &a.mem);
	if (ret)
		return ret;
	a.len = a.mem.len;
	if (a.shared) {
		a.mem.len *= MEM_PAGES;
		mem_set(&a.mem, OLD);
	}
	ret = mem_protect(&a.mem, &a.uffd);
	if (ret)
		return ret;
	bc_one_cpu();
	/* The thread and the child are not to go first. */
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first))
		return bc_why(BC_SKIP, "SCHED_FIFO: %s (root?)", strerror(errno));
	ret = race_beside(&beside, answer_once, &a);
	bc_reap(a.child);
	return ret;
}

#define RACE(text, func, of) \
	PROMISE("race, " text, case_race_pin, of, BY(PIN_FAST), .beside = func)

static const struct promise promises[] = {
	RACE("fork", beside_fork, SINGLE | KIND(MEM_THP)),
	RACE("KSM", beside_ksm, SINGLE),
	RACE("pageout", beside_pageout, SINGLE | KIND(MEM_THP)),
	RACE("split and collapse", beside_split, KIND(MEM_THP)),
	RACE("migration", beside_migrate, SINGLE | KIND(MEM_THP)),
	PROMISE("race, answer", case_race_answer, SINGLE | KIND(MEM_THP), NOBODY),
	PROMISE("race, answer, shared", case_race_answer, SINGLE, NOBODY,
		.shared = true),
};

PROMISES(promises)
