// SPDX-License-Identifier: GPL-2.0
/*
 * Commands that go wrong on purpose, one for each verdict of qemu/run, so that
 * tests/harness can see the harness tell them apart. They are part of init and
 * need no file of their own in the guest.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"

static void plan(int n)
{
	printf("TAP version 13\n1..%d\n", n);
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t n;

	if (fd < 0) {
		printf("Bail out! cannot open %s\n", path);
		return 1;
	}
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0;
}

static void *sleeper(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static int do_pass(void)
{
	plan(2);
	puts("ok 1 first");
	puts("ok 2 second # XFAIL a known gap");
	return 0;
}

static int do_fail(void)
{
	plan(2);
	puts("ok 1 first");
	puts("not ok 2 second # FAIL got 3, want 4");
	return 1;
}

/* Past its deadline, with a thread, and with a child that holds the pipe. */
static int do_hang(void)
{
	pthread_t t;

	plan(2);
	puts("ok 1 before");
	if (!fork())
		sleeper(NULL);
	pthread_create(&t, NULL, sleeper, NULL);
	signal(SIGTERM, SIG_IGN);
	sleeper(NULL);
	return 0;
}

/* Ends, but leaves a child that holds the pipe for ever. */
static int do_orphan(void)
{
	plan(1);
	if (!fork()) {
		setsid();
		sleeper(NULL);
	}
	puts("ok 1 parent");
	return 0;
}

/* Two processes that print at once: their lines must arrive whole. */
static int do_pair(void)
{
	int i;

	plan(1);
	if (!fork()) {
		for (i = 0; i < 500; i++)
			printf("# child child child child %d\n", i);
		_exit(0);
	}
	for (i = 0; i < 500; i++)
		printf("# parent parent parent %d\n", i);
	wait(NULL);
	puts("ok 1 pair");
	return 0;
}

static int do_warn(void)
{
	plan(1);
	if (put("/sys/kernel/debug/provoke-crash/DIRECT", "WARNING"))
		return 1;
	puts("ok 1 warn");
	return 0;
}

static int do_crash(void)
{
	plan(1);
	return put("/proc/sysrq-trigger", "c");
}

static int do_short(void)
{
	plan(3);
	puts("ok 1 first");
	return 0;
}

static int do_noplan(void)
{
	puts("TAP version 13\nok 1 first");
	return 0;
}

static int do_nothing(void)
{
	return 0;
}

static int do_zero(void)
{
	plan(0);
	return 0;
}

static int do_twice(void)
{
	plan(2);
	puts("ok 1 first");
	puts("ok 1 first");
	return 0;
}

static int do_bail(void)
{
	plan(1);
	puts("ok 1 first");
	puts("Bail out! nothing to stand on");
	return 0;
}

static int do_skip(void)
{
	plan(2);
	puts("ok 1 first");
	puts("ok 2 selftest-unlisted # SKIP nobody listed this");
	return 0;
}

static int do_listed(void)
{
	plan(2);
	puts("ok 1 first");
	puts("ok 2 selftest-listed # SKIP on the list");
	return 0;
}

static int do_liar(void)
{
	plan(1);
	puts("not ok 1 first # FAIL got 1, want 2");
	return 0;
}

static int do_status(void)
{
	plan(1);
	puts("ok 1 first");
	return 3;
}

static int do_signal(void)
{
	plan(1);
	printf("ok 1 first");
	fflush(stdout);
	raise(SIGSEGV);
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(void);
} table[] = {
	{ "pass", do_pass },	{ "fail", do_fail },	{ "hang", do_hang },
	{ "orphan", do_orphan },{ "pair", do_pair },	{ "warn", do_warn },
	{ "crash", do_crash },	{ "short", do_short },	{ "noplan", do_noplan },
	{ "nothing", do_nothing }, { "zero", do_zero },	{ "twice", do_twice },
	{ "bail", do_bail },	{ "skip", do_skip },	{ "listed", do_listed },
	{ "liar", do_liar },	{ "status", do_status },{ "signal", do_signal },
};

int selftest(int argc, char **argv)
{
	const char *name = argv[0] + strlen("selftest-");
	size_t i;

	(void)argc;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (!strcmp(table[i].name, name))
			return table[i].fn();
	printf("Bail out! init knows no %s\n", argv[0]);
	return 127;
}

void selftest_in_init(const char *name)
{
	if (!strcmp(name, "selftest-asleep"))
		sleeper(NULL);
	if (!strcmp(name, "selftest-silent")) {
		sync();
		reboot(RB_POWER_OFF);
	}
}
