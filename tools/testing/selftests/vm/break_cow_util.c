// SPDX-License-Identifier: GPL-2.0
/*
 * Shared by the break_cow tests and the umap evictor, see break_cow_util.h.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "break_cow_util.h"

/* A knob of the machine that the case has turned, and what it was */
struct bc_knob {
	char path[96];
	char was[160];
};

/* Written by the case's process, read by its parent */
struct bc_shared {
	int ret;
	char why[256];
	char waiting[160];
	unsigned long beats;
	unsigned int nr_knobs;
	struct bc_knob knob[16];
	char swap[256];
};

static struct bc_shared *shared;
static unsigned int nr_planned, nr_done, nr_ret[BC_ERROR + 1];
static unsigned int deadline_all, limit_all;

static struct bc_shared *bc_shared(void)
{
	if (!shared) {
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (shared == MAP_FAILED) {
			printf("Bail out! mmap: %s\n", strerror(errno));
			exit(1);
		}
	}
	return shared;
}

static void bc_record(char *to, size_t size, const char *fmt, va_list ap)
{
	char *p;

	vsnprintf(to, size, fmt, ap);
	for (p = to; *p; p++)
		if (*p == '\n' || *p == '#')
			*p = ' ';
}

/**
 * bc_why() - record the reason of a result
 * @ret: BC_FAIL, BC_SKIP, BC_XFAIL or BC_ERROR
 * @fmt: what goes into the result line, e.g. "got %d, want %d"
 *
 * Return: @ret, so that a case can end with "return bc_why(...)".
 */
int bc_why(int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	bc_record(bc_shared()->why, sizeof(shared->why), fmt, ap);
	va_end(ap);
	shared->ret = ret;
	return ret;
}

/**
 * bc_reason() - the reason recorded last
 *
 * Return: the text given to bc_why(), "" if there was none.
 */
const char *bc_reason(void)
{
	return bc_shared()->why;
}

/**
 * bc_last() - what was given to bc_why() last
 *
 * Return: BC_FAIL, BC_SKIP ...
 */
int bc_last(void)
{
	return bc_shared()->ret;
}

/**
 * bc_waiting() - say what is about to be waited for
 * @fmt: becomes part of the result line if the case hangs there
 */
void bc_waiting(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	bc_record(bc_shared()->waiting, sizeof(shared->waiting), fmt, ap);
	va_end(ap);
}

/**
 * bc_beat() - say that the case makes progress: its deadline starts again
 */
void bc_beat(void)
{
	__atomic_fetch_add(&bc_shared()->beats, 1, __ATOMIC_RELAXED);
}

/**
 * bc_diag() - print a diagnostic line
 * @fmt: the line, without newline
 */
void bc_diag(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	printf("# %s\n", line);
}

/**
 * bc_deadline() - replace the deadline of every case
 * @seconds: without progress; the environment variable BREAK_COW_DEADLINE
 *	     does the same
 */
void bc_deadline(unsigned int seconds)
{
	deadline_all = seconds;
}

/**
 * bc_limit() - limit the time of every case, whether it makes progress or not
 * @seconds: 0 for no limit
 */
void bc_limit(unsigned int seconds)
{
	limit_all = seconds;
}

/**
 * bc_knob() - turn a knob of the machine, until the case ends
 * @path: a file of procfs or sysfs
 * @text: what to write
 *
 * However the case ends, its parent makes the knob again what it was.
 *
 * Return: 0 or -errno.
 */
int bc_knob(const char *path, const char *text)
{
	struct bc_shared *s = bc_shared();
	struct bc_knob *knob;
	char was[160], *from = was, *end;
	unsigned int i;
	int n;

	for (i = 0; i < s->nr_knobs; i++)
		if (!strcmp(s->knob[i].path, path))
			return bc_proc_write(path, text);
	if (i == ARRAY_SIZE(s->knob))
		return -ENOSPC;
	n = bc_proc_read(path, was, sizeof(was) - 1, 0);
	if (n < 0)
		return n;
	was[n] = 0;
	/* "always [never]" is never. Not "|/bin/[", which is a core_pattern. */
	end = strchr(was, ']');
	if (end && strchr(was, '[')) {
		from = strchr(was, '[') + 1;
		*end = 0;
	}
	knob = &s->knob[i];
	snprintf(knob->path, sizeof(knob->path), "%s", path);
	snprintf(knob->was, sizeof(knob->was), "%s", from);
	s->nr_knobs++;
	return bc_proc_write(path, text);
}

/**
 * bc_knob_set() - turn a knob of the machine to a number, until the case ends
 * @path: a file of procfs or sysfs
 * @value: the number
 *
 * Return: 0 or -errno.
 */
int bc_knob_set(const char *path, long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	return bc_knob(path, text);
}

/**
 * bc_own_swap() - have a swap file of ours, until the case ends
 * @path: the file, before it is switched on; or "" when it is gone
 *
 * If the case does not get there, its parent switches the file off, and removes it.
 *
 * Return: 0 or -errno.
 */
int bc_own_swap(const char *path)
{
	struct bc_shared *s = bc_shared();

	if (strlen(path) >= sizeof(s->swap))
		return -ENAMETOOLONG;
	snprintf(s->swap, sizeof(s->swap), "%s", path);
	return 0;
}

/* In a signal handler, too */
static void bc_undo(void)
{
	while (shared->nr_knobs) {
		shared->nr_knobs--;
		bc_proc_write(shared->knob[shared->nr_knobs].path,
			      shared->knob[shared->nr_knobs].was);
	}
	/* Nobody waits for this: to swap in may be what the case hangs in. */
	if (shared->swap[0] && !fork()) {
		swapoff(shared->swap);
		unlink(shared->swap);
		_exit(0);
	}
	shared->swap[0] = 0;
}

#define HUGETLB	"/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define POOL	32L	/* huge pages are more than any case wants */

static char pool_was[32];

static void bc_pool_back(void)
{
	if (pool_was[0])
		bc_proc_write(HUGETLB "nr_hugepages", pool_was);
}

/**
 * bc_hugetlb_pool() - have free huge pages of 2 MiB, until the program ends
 *
 * If the machine has no memory for them, it is for the case that wants one to say so.
 */
void bc_hugetlb_pool(void)
{
	long all = bc_proc_get(HUGETLB "nr_hugepages");
	long left = bc_hugetlb_left(2048);
	char text[32];

	if (all < 0 || left >= POOL)
		return;
	snprintf(pool_was, sizeof(pool_was), "%ld", all);
	atexit(bc_pool_back);
	snprintf(text, sizeof(text), "%ld", all + POOL - left);
	bc_proc_write(HUGETLB "nr_hugepages", text);
}

static void bc_on_signal(int sig)
{
	bc_undo();
	bc_pool_back();
	signal(sig, SIG_DFL);
	raise(sig);
}

static const int bc_signals[] = { SIGHUP, SIGINT, SIGTERM };

static void bc_handle(void (*handler)(int sig))
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bc_signals); i++)
		if (signal(bc_signals[i], handler) == SIG_IGN)
			signal(bc_signals[i], SIG_IGN);
}

static void bc_init(void)
{
	const char *env = getenv("BREAK_COW_DEADLINE");

	/* A pipe would make every forked child print the buffer again. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (env && !deadline_all)
		deadline_all = atoi(env);
	/* Grandchildren of a killed case come to us, not to init. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	bc_shared();
	bc_handle(bc_on_signal);
}

/**
 * bc_plan() - start the output
 * @n: number of cases
 */
void bc_plan(unsigned int n)
{
	bc_init();
	nr_planned = n;
	printf("TAP version 13\n1..%u\n", n);
}

/**
 * bc_skip_all() - end the program: nothing can be tested here
 * @why: one line, and what to do about it
 */
void bc_skip_all(const char *why)
{
	printf("TAP version 13\n1..0 # SKIP %s\n", why);
	exit(4);
}

/**
 * bc_clock() - what a clock shows
 * @id: CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID ...
 *
 * Return: seconds.
 */
double bc_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void bc_nap(void)
{
	struct timespec ts = { .tv_nsec = 3000000 };

	nanosleep(&ts, NULL);
}

/* State and process group of a process or thread, from its stat file */
static char bc_task_stat(const char *dir, pid_t *pgrp, char *comm, size_t size)
{
	char path[80], buf[512], state;
	char *open, *end;
	int n;

	snprintf(path, sizeof(path), "%s/stat", dir);
	n = bc_proc_read(path, buf, sizeof(buf) - 1, 0);
	if (n <= 0)
		return 0;
	buf[n] = 0;
	open = strchr(buf, '(');
	end = strrchr(buf, ')');
	if (!open || !end || sscanf(end + 1, " %c %*d %d", &state, pgrp) != 2)
		return 0;
	*end = 0;
	snprintf(comm, size, "%s", open + 1);
	return state;
}

static void bc_print_stack(pid_t pid, pid_t tid)
{
	char dir[64], path[80], comm[64], buf[4096], wchan[64], *line, *save = NULL;
	pid_t pgrp;
	char state;
	int n, w;

	snprintf(dir, sizeof(dir), "/proc/%d/task/%d", pid, tid);
	state = bc_task_stat(dir, &pgrp, comm, sizeof(comm));
	if (!state)
		return;
	printf("# stack of %s (%d), state %c\n", comm, tid, state);
	snprintf(path, sizeof(path), "%s/stack", dir);
	n = bc_proc_read(path, buf, sizeof(buf) - 1, 0);
	if (n < 0) {
		snprintf(path, sizeof(path), "%s/wchan", dir);
		w = bc_proc_read(path, wchan, sizeof(wchan) - 1, 0);
		wchan[w > 0 ? w : 0] = 0;
		printf("# stack   not readable: %s (needs root); waits in %s\n",
		       strerror(-n), w > 0 ? wchan : "?");
		return;
	}
	buf[n] = 0;
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		printf("# stack   %s\n", line);
	if (!n)
		printf("# stack   empty: running in user mode, or looping in the kernel\n");
}

static void bc_print_threads(pid_t pid)
{
	char path[64];
	struct dirent *d;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return;
	while ((d = readdir(tasks)))
		if (isdigit(d->d_name[0]))
			bc_print_stack(pid, atoi(d->d_name));
	closedir(tasks);
}

/* All of the case's threads, and the kernel's io_uring workers (old kernels) */
static void bc_print_group(pid_t group)
{
	char path[64], comm[64];
	struct dirent *d;
	pid_t pgrp;
	DIR *proc;

	proc = opendir("/proc");
	if (!proc) {
		printf("# stack not readable: no /proc\n");
		return;
	}
	while ((d = readdir(proc))) {
		if (!isdigit(d->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%d", atoi(d->d_name));
		if (bc_task_stat(path, &pgrp, comm, sizeof(comm)) &&
		    (pgrp == group || !strncmp(comm, "io_wqe_worker", 13)))
			bc_print_threads(atoi(d->d_name));
	}
	closedir(proc);
}

/* Wait for a child with a deadline: 1 ended, 0 late */
static int bc_wait(pid_t pid, int *status, unsigned int seconds)
{
	unsigned long beats = shared->beats;
	double start = bc_now(), last = start, now;

	while (waitpid(pid, status, WNOHANG) != pid) {
		now = bc_now();
		if (beats != __atomic_load_n(&shared->beats, __ATOMIC_RELAXED)) {
			beats = shared->beats;
			last = now;
		}
		if (now - last > seconds ||
		    (limit_all && now - start > limit_all))
			return 0;
		bc_nap();
	}
	return 1;
}

/* End what the case left behind, so that it can't disturb the next one */
static void bc_end_group(pid_t group)
{
	double start = bc_now();

	while (!kill(-group, SIGKILL) && bc_now() - start < 5) {
		while (waitpid(-group, NULL, WNOHANG) > 0)
			;
		bc_nap();
	}
}

static void bc_result(const char *name, int ret, const char *kind)
{
	static const char * const words[] = {
		[BC_OK] = NULL, [BC_FAIL] = "FAIL", [BC_SKIP] = "SKIP",
		[BC_XFAIL] = "XFAIL", [BC_ERROR] = "ERROR",
	};
	bool ok = ret == BC_OK || ret == BC_SKIP || ret == BC_XFAIL;

	nr_done++;
	nr_ret[ret]++;
	if (!kind)
		kind = words[ret];
	printf("%sok %u %s", ok ? "" : "not ", nr_done, name);
	if (kind)
		printf(" # %s %s", kind, shared->why);
	printf("\n");
}

/**
 * bc_case() - run one case and print its result
 * @name: of the case, with its flavour
 * @fn: what to run, in a process of its own
 * @arg: for @fn
 * @seconds: that it may take without bc_beat()
 *
 * A case that is late is reported with the kernel stack of every thread of
 * its process group, and killed.
 */
void bc_case(const char *name, bc_fn fn, const void *arg, unsigned int seconds)
{
	int status, ret;
	double start;
	pid_t pid;

	bc_init();
	if (deadline_all)
		seconds = deadline_all;
	memset(shared, 0, sizeof(*shared));
	fflush(stdout);
	start = bc_now();
	pid = fork();
	if (pid < 0) {
		bc_result(name, bc_why(BC_ERROR, "fork: %s", strerror(errno)), NULL);
		return;
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bc_handle(SIG_DFL);
		setpgid(0, 0);
		ret = fn(arg);
		fflush(stdout);
		_exit(ret);
	}
	setpgid(pid, pid);
	if (!bc_wait(pid, &status, seconds)) {
		bc_print_group(pid);
		kill(-pid, SIGKILL);
		if (!bc_wait(pid, &status, 5))
			bc_diag("process %d does not end after SIGKILL", pid);
		bc_end_group(pid);
		bc_undo();
		bc_why(BC_FAIL, "%.0f s, %s", bc_now() - start,
		       shared->waiting[0] ? shared->waiting : "the case to end");
		bc_result(name, BC_FAIL, "HUNG");
		return;
	}
	bc_end_group(pid);
	bc_undo();
	if (WIFSIGNALED(status)) {
		bc_why(BC_FAIL, "signal %d", WTERMSIG(status));
		bc_result(name, BC_FAIL, "CRASH");
		return;
	}
	ret = WEXITSTATUS(status);
	if (ret > BC_ERROR)
		ret = bc_why(BC_ERROR, "exit status %d", ret);
	bc_result(name, ret, NULL);
}

/**
 * bc_exit() - end of the output
 *
 * Return: the program's exit status: 0 all ok, 1 not, 4 all were skipped.
 */
int bc_exit(void)
{
	bc_diag("Totals: pass:%u fail:%u xfail:%u skip:%u error:%u",
		nr_ret[BC_OK], nr_ret[BC_FAIL], nr_ret[BC_XFAIL],
		nr_ret[BC_SKIP], nr_ret[BC_ERROR]);
	if (nr_done != nr_planned)
		bc_diag("planned %u cases, ran %u", nr_planned, nr_done);
	if (nr_done != nr_planned || nr_ret[BC_FAIL] || nr_ret[BC_ERROR])
		return 1;
	return nr_ret[BC_SKIP] == nr_done ? 4 : 0;
}
