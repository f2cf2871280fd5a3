// SPDX-License-Identifier: GPL-2.0
/*
 * What an administrator sees of COW that is broken for a read, for the cases of
 * break_cow: counters in /proc/vmstat, and a tracepoint.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/perf_event.h>

#include "break_cow_cases.h"

#define TRIES	5	/* the counters are the whole machine's */

struct counters {
	long read, copy, shared;
};

static long vmstat_get(const char *name)
{
	FILE *f = fopen("/proc/vmstat", "r");
	char line[64];
	long value, found = -1;

	while (f && fscanf(f, "%63s %ld", line, &value) == 2)
		if (!strcmp(line, name))
			found = value;
	if (f)
		fclose(f);
	return found;
}

static int counters_get(struct counters *c)
{
	c->read = vmstat_get("cow_break_read");
	c->copy = vmstat_get("cow_break_read_copy");
	c->shared = vmstat_get("cow_fork_shared");
	if (c->read < 0 || c->copy < 0 || c->shared < 0)
		return bc_why(BC_FAIL, "got no counters in /proc/vmstat");
	return BC_OK;
}

/* Did they grow by this many since? Somebody else's may be among them. */
static int grown(const struct counters *from, long read, long copy, long shared)
{
	struct counters now;
	int ret = counters_get(&now);

	if (ret)
		return ret;
	now.read -= from->read;
	now.copy -= from->copy;
	now.shared -= from->shared;
	if (now.read == read && now.copy == copy && now.shared == shared)
		return BC_OK;
	return bc_why(BC_FAIL, "got %ld broken, %ld copied, %ld shared at fork, want %ld, %ld, %ld",
		      now.read, now.copy, now.shared, read, copy, shared);
}

/* A page that is taken: shared with a child, or ours and write-protected. */
static int take_counted(const struct bc_arg *arg)
{
	struct bc_hold hold = { .by = arg->by };
	struct counters before;
	struct bc_mem mem;
	bool shared;
	int ret, uffd;

	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	shared = mem.child || arg->kind == MEM_KSM;
	if (!shared)
		ret = mem_protect(&mem, &uffd);
	if (!ret)
		ret = counters_get(&before);
	if (!ret)
		ret = take(&hold, mem_middle(&mem));
	if (!ret)
		ret = grown(&before, shared, shared, 0);
	if (mem.child)
		bc_reap(mem.child);
	return ret;
}

static int until_quiet(const struct bc_arg *arg, int (*fn)(const struct bc_arg *arg))
{
	int i, ret;

	for (i = 0; i < TRIES; i++) {
		ret = fn(arg);
		if (ret != BC_FAIL)
			break;
	}
	return ret;
}

/* A page that is shared counts once, with its copy. One that is ours does not. */
static int case_counted(const void *p)
{
	return until_quiet(p, take_counted);
}

static int act_counted(const struct bc_arg *arg)
{
	struct counters before;
	struct bc_mem mem;
	int ret;

	ret = counters_get(&before);
	if (!ret)
		ret = mem_get_arg(arg, &mem);
	if (!ret)
		ret = arg->act(&mem);
	if (!ret)
		ret = grown(&before, 0, 0, 0);
	return ret;
}

/* Something that breaks no COW counts nothing. */
static int case_not_counted(const void *p)
{
	return until_quiet(p, act_counted);
}

/* Pages that fork() has no copy for count, if somebody has a reference. */
static int case_counted_fork(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem, all;
	struct counters before;
	long want;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (!ret)
		ret = take(&hold, mem.addr);
	if (!ret && arg->kind == MEM_HUGETLB)
		ret = mem_use_up(arg->kind, &all);
	if (!ret)
		ret = counters_get(&before);
	if (ret)
		return ret;
	/* The one that is pinned has a copy, or is shared before v5.9. */
	want = arg->kind == MEM_HUGETLB || bc_kernel_before(5, 9);
	ret = mem_share(&mem, -1);
	if (!ret)
		ret = grown(&before, 0, 0, want);
	bc_reap(mem.child);
	return ret;
}

/*
 * The tracepoint, in a buffer of our own. It is one of the machine's: leave
 * nothing behind.
 */
struct trace {
	char dir[64];
};

static int trace_write(const struct trace *t, const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", t->dir, file);
	return bc_proc_write(path, text);
}

static int trace_start(struct trace *t)
{
	static const char * const at[] = {
		"/sys/kernel/tracing", "/sys/kernel/debug/tracing",
	};
	char filter[32];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		snprintf(t->dir, sizeof(t->dir), "%s/instances", at[i]);
		if (!access(t->dir, W_OK))
			break;
	}
	if (i == ARRAY_SIZE(at))
		return bc_why(BC_SKIP, "no tracefs (CONFIG_TRACING, and root)");
	snprintf(t->dir, sizeof(t->dir), "%s/instances/break_cow-%d", at[i], getpid());
	if (mkdir(t->dir, 0700))
		return bc_why(BC_ERROR, "%s: %s", t->dir, strerror(errno));
	snprintf(filter, sizeof(filter), "common_pid == %d", getpid());
	if (trace_write(t, "events/break_cow/break_cow/filter", filter) ||
	    trace_write(t, "events/break_cow/break_cow/enable", "1")) {
		rmdir(t->dir);
		return bc_why(BC_FAIL, "got no tracepoint break_cow:break_cow");
	}
	return BC_OK;
}

/* Is there just the one event for a page? */
static int trace_end(struct trace *t, const char *addr, unsigned int order)
{
	unsigned int n = 0, got_order = ~0, copied = ~0;
	unsigned long address = 0;
	char path[128], line[256];
	const char *event;
	FILE *f;

	snprintf(path, sizeof(path), "%s/trace", t->dir);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		event = strstr(line, " break_cow: ");
		event = event ? strstr(event, "address=") : NULL;
		if (event && ++n == 1)
			sscanf(event, "address=%lx order=%u copied=%u",
			       &address, &got_order, &copied);
	}
	if (f)
		fclose(f);
	trace_write(t, "events/break_cow/break_cow/enable", "0");
	rmdir(t->dir);

	if (n != 1)
		return bc_why(BC_FAIL, "got %u events, want one", n);
	if (address != (unsigned long)addr || got_order != order || copied != 1)
		return bc_why(BC_FAIL, "got address %#lx order %u copied %u, want %p, %u, 1",
			      address, got_order, copied, addr, order);
	return BC_OK;
}

/* Each page of which COW is broken leaves an event. */
static int case_traced(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	bool hugetlb = arg->kind == MEM_HUGETLB;
	struct counters now;
	struct bc_mem mem;
	struct trace trace;
	int ret, end;

	/* Where nothing is counted nothing is traced. */
	ret = counters_get(&now);
	if (!ret)
		ret = mem_get_arg(arg, &mem);
	if (!ret)
		ret = trace_start(&trace);
	if (ret)
		return ret;
	ret = take(&hold, mem_middle(&mem));
	end = trace_end(&trace, hugetlb ? mem.addr : mem_middle(&mem),
			hugetlb ? __builtin_ctzl(mem.len / bc_page_size()) : 0);
	if (mem.child)
		bc_reap(mem.child);
	return ret ? ret : end;
}

#define NOP	0x90	/* what fills the file */
#define INT3	0xcc	/* and what uprobes puts there */

/* A breakpoint of uprobes where we have mapped the file: its event, or -errno */
static int breakpoint(const char *path, __u64 offset)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.config1 = (uintptr_t)path,
		.config2 = offset,
	};
	long type = bc_proc_get("/sys/bus/event_source/devices/uprobe/type");
	int fd;

	if (type < 0)
		return -ENOENT;
	attr.type = type;
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0UL);
	return fd < 0 ? -errno : fd;
}

/* With the first one we get a page of our own, which we then share with a child. */
static int breakpoints(struct bc_mem *mem, const char *path)
{
	const size_t second = mem->len / 2;
	struct bc_mem there = { .addr = mem->addr + second };
	int fd[2], ret;

	fd[0] = breakpoint(path, 0);
	if (fd[0] < 0)
		return bc_why(BC_SKIP, "no uprobes by perf: %s (CONFIG_UPROBE_EVENTS)",
			      strerror(-fd[0]));
	if ((unsigned char)bc_load(mem->addr) != INT3)
		return bc_why(BC_ERROR, "no breakpoint");
	ret = mem_share(mem, -1);
	if (ret)
		return ret;
	there.child = mem->child;
	fd[1] = breakpoint(path, second);
	if (fd[1] < 0 || (unsigned char)bc_load(there.addr) != INT3)
		ret = bc_why(BC_FAIL, "got no second breakpoint (%d)", fd[1]);
	/* It is in a copy, and not in what the child has. */
	if (!ret)
		ret = mem_read_child(&there, true, NOP);
	close(fd[1]);
	close(fd[0]);
	if (!ret && (unsigned char)bc_load(there.addr) != NOP)
		ret = bc_why(BC_FAIL, "got the breakpoint left there");
	bc_reap(mem->child);
	return ret;
}

/*
 * The page in which uprobes puts a breakpoint is replaced by a copy. To copy it
 * before, only to look at it, is in vain.
 */
static int act_uprobe(struct bc_mem *none)
{
	struct bc_mem mem = { .len = bc_page_size() };
	char code[mem.len], path[256];
	int fd, ret;

	(void)none;
	memset(code, NOP, sizeof(code));
	fd = bc_named_file(0, path, sizeof(path));
	if (fd < 0)
		return bc_last();
	mem.addr = MAP_FAILED;
	if (write(fd, code, sizeof(code)) == (ssize_t)sizeof(code))
		mem.addr = mmap(NULL, mem.len, PROT_READ | PROT_EXEC, MAP_PRIVATE,
				fd, 0);
	if (mem.addr == MAP_FAILED)
		ret = bc_why(BC_ERROR, "no code mapped: %s", strerror(errno));
	else
		ret = breakpoints(&mem, path);
	munmap(mem.addr, mem.len);
	unlink(path);
	close(fd);
	return ret;
}

/* A child dumps core. */
static int act_core_dump(struct bc_mem *mem)
{
	char dir[256], pattern[300];
	int status = 0, ret = BC_OK;
	pid_t pid;

	(void)mem;
	snprintf(dir, sizeof(dir), "%s/break_cow.core", getenv("TMPDIR") ?: "/tmp");
	/* %%p: no file of that name can be there already */
	snprintf(pattern, sizeof(pattern), "%s.%%p", dir);
	if (bc_knob("/proc/sys/kernel/core_pattern", pattern))
		return bc_why(BC_SKIP, "cannot set core_pattern (CONFIG_COREDUMP, root?)");
	pid = fork();
	if (!pid) {
		struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

		setrlimit(RLIMIT_CORE, &all);
		prctl(PR_SET_DUMPABLE, 1);
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	bc_waiting("a core dump");
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		ret = bc_why(BC_ERROR, "fork: %s", strerror(errno));
	snprintf(pattern, sizeof(pattern), "%s.%d", dir, pid);
	unlink(pattern);
	if (!ret && !WCOREDUMP(status))
		ret = bc_why(BC_SKIP, "no core dumped (CONFIG_ELF_CORE)");
	return ret;
}

static const struct promise promises[] = {
	PROMISE("looks, core dump", case_not_counted, SINGLE | KIND(MEM_THP) |
		HUGETLB, NOBODY, .act = act_core_dump),
	PROMISE("looks, uprobe", case_not_counted, SINGLE, NOBODY,
		.act = act_uprobe),
	PROMISE("counted", case_counted, SINGLE | KIND(MEM_THP) | HUGETLB |
		KIND(MEM_SWAP), BY(VMSPLICE) | BY(PIN), .shared = true),
	PROMISE("counted", case_counted, KIND(MEM_KSM), BY(VMSPLICE) | BY(PIN)),
	PROMISE("counted, own", case_counted, SINGLE | KIND(MEM_THP),
		BY(VMSPLICE) | BY(PIN)),
	PROMISE("counted, fork", case_counted_fork, HUGETLB, BY(VMSPLICE)),
	PROMISE("counted, fork", case_counted_fork, SINGLE | KIND(MEM_THP), BY(PIN)),
	PROMISE("traced", case_traced, SINGLE | KIND(MEM_THP) | HUGETLB, BY(PIN),
		.shared = true),
};

PROMISES(promises)
