// SPDX-License-Identifier: GPL-2.0
/*
 * The cases of break_cow: one function a promise, the kind of memory is a
 * parameter. See Documentation, "Breaking copy-on-write for a read-only GUP".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "break_cow_cases.h"

/**
 * mem_get_arg() - the memory of a case, shared if it asks for that
 * @arg: the case
 * @mem: receives it
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int mem_get_arg(const struct bc_arg *arg, struct bc_mem *mem)
{
	int ret = mem_get(arg->kind, mem);

	if (ret == BC_OK && arg->shared && !mem->child)
		ret = mem_share(mem, -1);
	return ret;
}

/* A store by another thread */
struct store {
	char *addr;
	bool done;
};

static void *store_new(void *p)
{
	struct store *s = p;

	bc_store(s->addr, NEW);
	__atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool store_done(const void *p)
{
	const struct store *s = p;

	return __atomic_load_n(&s->done, __ATOMIC_ACQUIRE);
}

/**
 * event_or_done() - wait for a store to be trapped, or to come through
 * @uffd: who gets the event
 * @done: whether the store, told of by @p, is done
 *
 * Waits for one or the other as long as the case may last: a machine with much to
 * do may need seconds for either.
 *
 * Return: BC_OK if it is trapped, or BC_FAIL with the reason recorded.
 */
int event_or_done(int uffd, bool (*done)(const void *p), const void *p)
{
	struct uffd_msg msg;
	bool was_done;
	int event;

	do {
		/* in this order: what is done has had its event */
		was_done = done(p);
		event = bc_uffd_event(uffd, &msg, 100);
	} while (!event && !was_done);
	if (event <= 0)
		return bc_why(BC_FAIL, "got no event for a store, want one");
	if (!(msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP))
		return bc_why(BC_FAIL, "got event flags %#llx, want WP",
			      (unsigned long long)msg.arg.pagefault.flags);
	return BC_OK;
}

/**
 * mem_store_traps() - does a store to protected memory raise an event?
 * @mem: the memory, no longer protected afterwards
 * @uffd: who gets the event
 *
 * Return: BC_OK, or BC_FAIL or BC_ERROR with the reason recorded.
 */
int mem_store_traps(struct bc_mem *mem, int uffd)
{
	struct store store = { .addr = mem->addr };
	pthread_t thread;
	int ret;

	bc_waiting("the store to be trapped");
	if (pthread_create(&thread, NULL, store_new, &store))
		return bc_why(BC_ERROR, "no thread");
	ret = event_or_done(uffd, store_done, &store);
	if (ret)
		return ret;
	bc_uffd_wp(uffd, mem->addr, mem->len, false);
	pthread_join(thread, NULL);
	return BC_OK;
}

/**
 * mem_store_ends() - does a store to memory come to an end?
 * @mem: the memory, which nobody protects
 *
 * A fault that is taken again and again leaves no other trace.
 *
 * Return: BC_OK; BC_FAIL if it takes two seconds, which a store to a page never
 * does; or BC_ERROR; with the reason recorded.
 */
int mem_store_ends(struct bc_mem *mem)
{
	struct store store = { .addr = mem->addr };
	double end = bc_now() + 2;
	pthread_t thread;

	if (pthread_create(&thread, NULL, store_new, &store))
		return bc_why(BC_ERROR, "no thread");
	while (pthread_tryjoin_np(thread, NULL)) {
		if (bc_now() > end)
			return bc_why(BC_FAIL, "got a store that does not end");
		usleep(1000);
	}
	return BC_OK;
}

/**
 * mem_keeps_wp() - does a store still trap after something that is no store?
 * @mem: the memory, protected here
 * @act: what happens to it
 *
 * Return: BC_OK; else the result of a case, with the reason recorded.
 */
int mem_keeps_wp(struct bc_mem *mem, int (*act)(struct bc_mem *mem))
{
	int uffd, ret = mem_protect(mem, &uffd);

	if (!ret)
		ret = act(mem);
	return ret ? ret : mem_store_traps(mem, uffd);
}

/**
 * mem_clean() - have nothing soft-dirty
 * @mem: the memory that is looked at
 *
 * Return: BC_OK, or BC_SKIP with the reason recorded.
 */
int mem_clean(struct bc_mem *mem)
{
	int ret = act_clear_refs(mem);

	if (!ret && (bc_pagemap(mem->addr) & BC_PM_SOFT_DIRTY))
		ret = bc_why(BC_SKIP, "no soft-dirty (MEM_SOFT_DIRTY)");
	return ret;
}

/**
 * mem_keeps_soft_dirty() - is memory that was stored to still soft-dirty after
 *			    something happened to it?
 * @mem: the memory
 * @act: what happens to it
 *
 * Return: BC_OK; else the result of a case, with the reason recorded.
 */
int mem_keeps_soft_dirty(struct bc_mem *mem, int (*act)(struct bc_mem *mem))
{
	int ret = mem_clean(mem);

	if (ret)
		return ret;
	bc_store(mem->addr, bc_load(mem->addr));
	if (!(bc_pagemap(mem->addr) & BC_PM_SOFT_DIRTY))
		return bc_why(BC_SKIP, "no soft-dirty (MEM_SOFT_DIRTY)");
	ret = act(mem);
	if (!ret && !(bc_pagemap(mem->addr) & BC_PM_SOFT_DIRTY))
		return bc_why(BC_FAIL, "got clean afterwards, want soft-dirty");
	return ret;
}

/*
 * An evictor reads a page that it has write-protected: the read returns, and
 * the next store still raises an event.
 */
int case_evict(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	char *buf;
	int uffd, ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	bc_fill(mem.addr, mem.len, 3);
	buf = malloc(mem.len);
	uffd = bc_uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (!buf || uffd < 0)
		return BC_SKIP;
	if (bc_uffd_register(uffd, mem.addr, mem.len, UFFDIO_REGISTER_MODE_WP) ||
	    bc_uffd_wp(uffd, mem.addr, mem.len, true))
		return BC_ERROR;
	if (arg->shared && mem_share(&mem, uffd))
		return BC_ERROR;

	ret = bc_way_read(arg->way, mem.addr, mem.len, buf);
	if (ret)
		return ret == -EINVAL ? BC_SKIP : BC_FAIL;
	if (bc_differs(buf, mem.len, 3) >= 0)
		return bc_why(BC_FAIL, "got other bytes, want those of the page");
	if (bc_sees_uffd_wp() && !(bc_pagemap(mem.addr) & BC_PM_UFFD_WP))
		return bc_why(BC_FAIL, "got no uffd-wp bit, want it kept");

	ret = mem_store_traps(&mem, uffd);
	bc_reap(mem.child);
	return ret;
}

/**
 * child_result() - wait for a child that ends with the result of a case
 * @child: the child
 *
 * Return: its result; BC_ERROR with the reason recorded if it has none.
 */
int child_result(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return bc_why(BC_ERROR, "the child ended with %#x", status);
	return WEXITSTATUS(status);
}

/* fork() a child that stores and exits. Returns what fork() does. */
pid_t fork_store(const struct bc_mem *mem)
{
	pid_t child = fork();

	if (!child) {
		bc_store(mem->addr, NEW);
		_exit(0);
	}
	return child;
}

/*
 * CVE-2020-29374: a child takes a reference to a page that it shares with its
 * parent, and unmaps it. It must not see what the parent stores afterwards.
 *
 * With @act the child has a page of its own by a store instead, and that is done to
 * the parent's memory before it stores: its mapping stays, which is all that tells of
 * the child if the reference is one that only looks.
 */
int case_leak(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	int ready[2], go[2], ret;
	struct bc_mem mem;
	pid_t child;
	char c = 0, *page;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	page = mem_middle(&mem);
	if (pipe(ready) || pipe(go))
		return bc_why(BC_ERROR, "pipe: %s", strerror(errno));

	child = fork();
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	if (!child) {
		close(ready[0]);
		close(go[1]);
		ret = take(&hold, page);
		if (arg->act)
			mem_set(&mem, NEW);
		else
			munmap(mem.addr, mem.len);
		if (!ret && (write(ready[1], &c, 1) != 1 ||
			     read(go[0], &c, 1) != 1))
			ret = bc_why(BC_ERROR, "parent: %s", strerror(errno));
		if (!ret)
			ret = hold_same(&hold, OLD, "what the child took");
		_exit(ret);
	}

	close(ready[1]);
	close(go[0]);
	bc_waiting("the child to take its reference");
	if (read(ready[0], &c, 1) == 1) {
		ret = arg->act ? arg->act(&mem) : BC_OK;
		if (ret)
			return ret;
		mem_set(&mem, SECRET);
		if (write(go[1], &c, 1) != 1)
			return bc_why(BC_ERROR, "child: %s", strerror(errno));
	}
	bc_waiting("the child to end");
	return child_result(child);
}

/*
 * A reference to a page that somebody shares is one to a copy, and there is
 * one copy. The other one's page is left alone.
 */
int case_own(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	__u64 before, first, second;
	struct bc_mem mem;
	int ret;

	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	before = bc_pfn(mem.addr);
	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	first = bc_pfn(mem.addr);
	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	second = bc_pfn(mem.addr);
	if (first == before)
		return bc_why(BC_FAIL, "got the shared page, want a copy");
	if (bc_is_ksm(mem.addr))
		return bc_why(BC_FAIL, "got a KSM page, want one of our own");
	if (second != first)
		return bc_why(BC_FAIL, "got a second copy, want one");
	ret = hold_same(&hold, OLD, "the page taken");
	bc_reap(mem.child);
	return ret;
}

/*
 * Whoever holds the reference sees what the process stores afterwards: libfuse
 * relies on that for pages given to vmsplice().
 */
int case_coherent(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	int ret;

	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	ret = hold_sees_store(&hold, "the page taken");
	bc_reap(mem.child);
	return ret;
}

/*
 * What nobody shares, and what is nobody's data, costs neither a fault nor a
 * copy, although no entry is writable.
 */
int case_free(const void *p)
{
	enum { PAGES = 14 };	/* as many as fit into a pipe, less two */
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	__u64 before[PAGES];
	struct bc_mem mem;
	unsigned int i, n = 1;
	char *page, *other;
	int ret, thp, uffd;
	long faults;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	if (arg->kind == MEM_4K)
		mem.len = PAGES * bc_page_size();
	if (mem.len > bc_page_size())
		n = PAGES;
	/* Neither the zero page nor of a file: ours, then */
	if (arg->kind <= MEM_THP_PART) {
		memset(mem.addr, OLD, mem.len);
		ret = mem_protect(&mem, &uffd);
		if (ret)
			return ret;
	}
	thp = bc_is_thp(mem.addr, mem.len);
	for (i = 0; i < n; i++)
		before[i] = bc_pfn(mem.addr + i * bc_page_size());
	/* opens what holds, and touches all that it takes to do it again */
	other = bc_alloc(bc_page_size());
	ret = take(&hold, other);
	if (!ret)
		ret = take(&hold, other);
	if (ret)
		return ret;

	faults = bc_faults();
	for (i = 0; i < n && !ret; i++)
		ret = hold_take(&hold, mem.addr + i * bc_page_size());
	faults = bc_faults() - faults;
	/* A socket is closed late, and a page of DAX must not outlive its file. */
	hold_drop(&hold);
	if (ret)
		return bc_why(BC_FAIL, "got %s at page %u, want it taken",
			      strerror(-ret), i);

	for (i = 0; i < n; i++) {
		page = mem.addr + i * bc_page_size();
		if (bc_pfn(page) != before[i])
			return bc_why(BC_FAIL, "got a copy of page %u, want none", i);
	}
	if (faults)
		return bc_why(BC_FAIL, "got %ld faults for %u pages, want 0",
			      faults, n);
	if (bc_is_thp(mem.addr, mem.len) != thp)
		return bc_why(BC_FAIL, "got the huge page split, want it whole");
	return BC_OK;
}

static sigjmp_buf fault_env;

static void on_segv(int sig)
{
	(void)sig;
	siglongjmp(fault_env, 1);
}

/* Does a store end in SIGSEGV? BC_OK, or BC_FAIL with the reason recorded */
static int store_faults(char *addr)
{
	signal(SIGSEGV, on_segv);
	if (sigsetjmp(fault_env, 1))
		return BC_OK;
	bc_store(addr, NEW);
	return bc_why(BC_FAIL, "got a store done, want SIGSEGV");
}

/* A copy made for a read in a mapping that is read-only is read-only. */
int case_prot(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	int ret;

	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	if (mprotect(mem.addr, mem.len, PROT_READ))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	ret = store_faults(mem.addr);
	if (ret)
		return ret;
	ret = hold_same(&hold, OLD, "the page taken");
	bc_reap(mem.child);
	return ret;
}

/* ... and so is a copy that fork() makes for the child. */
int case_prot_fork(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	pid_t child;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	if (mprotect(mem.addr, mem.len, PROT_READ))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	child = fork();
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	if (!child)
		_exit(store_faults(mem.addr));
	bc_waiting("the child to store");
	return child_result(child);
}

/* Breaking COW for a read makes no page soft-dirty, the store after it does. */
int case_soft_dirty(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	int ret;

	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	if (!(bc_pagemap(mem.addr) & BC_PM_SOFT_DIRTY))
		return bc_why(BC_SKIP, "no soft-dirty (MEM_SOFT_DIRTY)");
	ret = act_clear_refs(&mem);
	if (ret)
		return ret;
	if (bc_pagemap(mem.addr) & BC_PM_SOFT_DIRTY)
		return bc_why(BC_ERROR, "clear_refs left the page soft-dirty");

	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	if (bc_pagemap(mem.addr) & BC_PM_SOFT_DIRTY)
		return bc_why(BC_FAIL, "got soft-dirty after a read, want clean");
	bc_store(mem.addr, NEW);
	if (!(bc_pagemap(mem.addr) & BC_PM_SOFT_DIRTY))
		return bc_why(BC_FAIL, "got clean after a store, want soft-dirty");
	bc_reap(mem.child);
	return BC_OK;
}

/**
 * mem_read_child() - look at the first byte of our child's memory
 * @mem: the memory, which has a child
 * @proc: through /proc/PID/mem, else with process_vm_readv()
 * @want: what it should be
 *
 * Return: BC_OK, or BC_FAIL or BC_ERROR with the reason recorded.
 */
int mem_read_child(struct bc_mem *mem, bool proc, unsigned char want)
{
	unsigned char c = 0;
	struct iovec to = { .iov_base = &c, .iov_len = 1 };
	struct iovec from = { .iov_base = mem->addr, .iov_len = 1 };
	char path[64];

	bc_waiting("a read of the child's memory");
	if (proc) {
		snprintf(path, sizeof(path), "/proc/%d/mem", mem->child);
		if (bc_proc_read(path, &c, 1, (uintptr_t)mem->addr) < 0)
			return bc_why(BC_ERROR, "cannot read %s", path);
	} else if (process_vm_readv(mem->child, &to, 1, &from, 1, 0) != 1) {
		return bc_why(BC_ERROR, "process_vm_readv: %s", strerror(errno));
	}
	if (c != want)
		return bc_why(BC_FAIL, "got %#x from the child, want %#x", c, want);
	return BC_OK;
}

/* Read our child in a way, and say whether its page is still the shared one. */
static int read_shared(const void *p, bool proc, bool *same)
{
	struct bc_mem mem;
	int ret = mem_get_arg(p, &mem);

	if (ret)
		return ret;
	ret = mem_read_child(&mem, proc, OLD);
	*same = pfn_of(mem.child, mem.addr) == bc_pfn(mem.addr);
	bc_reap(mem.child);
	return ret;
}

/* process_vm_readv() keeps pages while it copies: the other one's COW breaks. */
int case_remote_breaks(const void *p)
{
	bool same;
	int ret = read_shared(p, false, &same);

	if (!ret && same)
		return bc_why(BC_FAIL, "got the shared page, want a copy");
	return ret;
}

/* /proc/PID/mem only looks: nothing is copied. */
int case_remote_looks(const void *p)
{
	bool same;
	int ret = read_shared(p, true, &same);

	if (!ret && !same)
		return bc_why(BC_FAIL, "got a copy, want the page left shared");
	return ret;
}
