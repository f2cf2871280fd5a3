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

/* Round @go of somebody who stores to what is protected */
struct storer {
	char *addr;
	unsigned int go, done;
};

static void *storer_loop(void *p)
{
	struct storer *s = p;
	unsigned int n = 0;

	for (;;) {
		while (__atomic_load_n(&s->go, __ATOMIC_ACQUIRE) == n)
			;
		n++;
		bc_store(s->addr, n);
		__atomic_store_n(&s->done, n, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void sleep_ns(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
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
	enum { STEPS = 64, ROUNDS = 32 * STEPS, PAGES = 256, PATIENCE = 2 /* s */ };
	const struct sched_param first = { .sched_priority = 1 };
	const struct bc_arg *arg = p;
	double end, begin, took, span = 0;	/* seconds */
	unsigned int n = arg->shared ? PAGES : 1;
	struct storer s = { };
	struct uffd_msg msg;
	struct bc_mem mem;
	pid_t child = 0;
	pthread_t thread;
	size_t len;
	int ret, uffd;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	len = mem.len;
	if (arg->shared) {
		mem.len *= n;
		mem.addr = bc_alloc(mem.len);
		if (!mem.addr)
			return BC_ERROR;
		memset(mem.addr, OLD, mem.len);
	}
	ret = mem_protect(&mem, &uffd);
	if (ret)
		return ret;
	bc_one_cpu();
	if (pthread_create(&thread, NULL, storer_loop, &s))
		return bc_why(BC_ERROR, "no thread");
	ret = pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
	if (ret)
		return bc_why(BC_SKIP, "SCHED_FIFO: %s (root?)", strerror(ret));
	for (end = bc_now() + race_time(); s.go < ROUNDS || bc_now() < end; ) {
		bc_beat();
		if (arg->shared && s.go % n == 0) {
			bc_reap(child);
			child = bc_fork_idle(uffd);
			if (child < 0)
				return bc_why(BC_ERROR, "fork: %s", strerror(errno));
		}
		s.addr = mem.addr + s.go % n * len;
		if (bc_uffd_wp(uffd, s.addr, len, true))
			return BC_ERROR;
		begin = bc_now();
		__atomic_store_n(&s.go, s.go + 1, __ATOMIC_RELEASE);
		/* Once in a while see how long it takes until it waits, at best. */
		if (s.go % STEPS != 1) {
			sleep_ns(s.go % STEPS * span * 1e9 / STEPS);
		} else {
			if (bc_uffd_event(uffd, &msg, PATIENCE * 1000) != 1)
				return bc_why(BC_ERROR, "no event");
			took = bc_now() - begin;
			if (!span || took < span)
				span = took;
		}
		if (bc_uffd_wp(uffd, s.addr, len, false))
			return BC_ERROR;
		begin = bc_now();
		while (__atomic_load_n(&s.done, __ATOMIC_ACQUIRE) != s.go) {
			if (bc_now() > begin + PATIENCE)
				return bc_why(BC_FAIL, "got store %u waiting, want it to end",
					      s.go);
			sleep_ns(1000);
		}
	}
	bc_reap(child);
	return BC_OK;
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
