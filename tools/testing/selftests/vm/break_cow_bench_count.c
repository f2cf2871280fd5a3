// SPDX-License-Identifier: GPL-2.0
/*
 * What break_cow_bench measures cost by: instructions, if something here counts
 * them, as a loop of known length shows.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>

#include "break_cow_bench.h"

enum counter { BY_PERF, BY_TSC, BY_CLOCK };

static const char * const counter_name[] = {
	[BY_PERF]	= "instructions, user and kernel, by perf",
	[BY_TSC]	= "instructions, by a TSC that counts them (-icount)",
	[BY_CLOCK]	= "nanoseconds",
};

static enum counter counter;
static int perf = -1;

/**
 * count() - the counter that find_counter() has found
 *
 * Return: what it shows now.
 */
__u64 count(void)
{
	struct timespec ts;
	__u64 n = 0;

	switch (counter) {
	case BY_PERF:
		if (read(perf, &n, sizeof(n)) != sizeof(n))
			return 0;
		return n;
	case BY_TSC:
#ifdef __x86_64__
		return __builtin_ia32_rdtsc();
#endif
	default:
		clock_gettime(CLOCK_MONOTONIC, &ts);
		return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
	}
}

/* Two instructions each time around */
static __u64 spin(unsigned long n)
{
	__u64 start = count();

#ifdef __x86_64__
	asm volatile("1: dec %0; jnz 1b" : "+r" (n) : : "cc");
#else
	n = 0;
#endif
	return count() - start;
}

/* Does the counter count 2 * @n instructions more, if @n times more are done? */
static bool counts(unsigned long n)
{
	long off, best = LONG_MAX;
	unsigned int i;

	/* the difference that interrupts have disturbed least */
	for (i = 0; i < 20; i++) {
		off = -(long)spin(n);
		off += (long)spin(2 * n) - (long)(2 * n);
		if (labs(off) < labs(best))
			best = off;
	}
	bc_diag("%lu instructions more were counted as %ld", 2 * n,
		(long)(2 * n) + best);
	return labs(best) <= (long)n / 50;
}

/**
 * find_counter() - find out by what to measure cost, and say so
 */
void find_counter(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.exclude_hv = 1,
	};

	counter = BY_PERF;
	perf = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (perf < 0 || !counts(100000)) {
		counter = BY_TSC;
		if (!counts(1000) || !counts(100000))
			counter = BY_CLOCK;
	}
	bc_diag("cost is in %s", counter_name[counter]);
}
