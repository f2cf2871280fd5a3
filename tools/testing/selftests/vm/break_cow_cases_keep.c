// SPDX-License-Identifier: GPL-2.0
/*
 * What a page table entry keeps when it is built anew, for the cases of
 * break_cow: the write-protection by userfaultfd and the soft-dirty bit. One act
 * for each reason to build one; see the table in Documentation. Those that take
 * a second node of memory are in break_cow_cases_node.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <linux/mman.h>

#include "break_cow_cases.h"

#ifndef MADV_COLD	/* headers before 5.4 */
#define MADV_COLD	20
#endif

/* What is write-protected is so afterwards. */
int case_keeps_wp(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	int ret;

	ret = mem_get(arg->kind, &mem);
	return ret ? ret : mem_keeps_wp(&mem, arg->act);
}

/* What is soft-dirty is so afterwards. */
int case_keeps_soft_dirty(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	int ret;

	ret = mem_get(arg->kind, &mem);
	return ret ? ret : mem_keeps_soft_dirty(&mem, arg->act);
}

static int act_read(struct bc_mem *mem)
{
	if (bc_load(mem->addr) != OLD)
		return bc_why(BC_ERROR, "the page has other bytes");
	return BC_OK;
}

static int act_swap(struct bc_mem *mem)
{
	int ret = mem_swap_out(mem);

	return ret ? ret : act_read(mem);
}

/* The last of its pages goes, the others are mapped by ptes from then on. */
static int act_split(struct bc_mem *mem)
{
	char *last = mem->addr + mem->len - bc_page_size();

	if (madvise(last, bc_page_size(), MADV_DONTNEED))
		return bc_why(BC_ERROR, "madvise: %s", strerror(errno));
	if (bc_is_thp(mem->addr, mem->len))
		return bc_why(BC_ERROR, "the huge page was not split");
	return BC_OK;
}

/* A long-term pin of the first page splits what is huge; look at another one. */
static int act_pin_first(struct bc_mem *mem)
{
	static struct bc_hold hold;	/* until the case ends */
	int ret;

	hold.by = &bc_holders[BC_PIN_LONG];
	ret = take(&hold, mem->addr);
	if (mem->len > bc_page_size())
		mem->addr += 2 * bc_page_size();
	mem->len = bc_page_size();
	return ret;
}

static int act_madvise(struct bc_mem *mem, int advice)
{
	if (madvise(mem->addr, mem->len, advice))
		return bc_why(BC_ERROR, "madvise: %s", strerror(errno));
	return BC_OK;
}

static int act_cold(struct bc_mem *mem)
{
	return act_madvise(mem, MADV_COLD);
}

static int act_free(struct bc_mem *mem)
{
	return act_madvise(mem, MADV_FREE);
}

#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"

/**
 * khugepaged_fast() - let khugepaged look at all memory without a pause
 * @on: or as before
 *
 * Return: 0 or -errno.
 */
int khugepaged_fast(bool on)
{
	static long sleep, pages;	/* as they were */
	int ret;

	if (on) {
		sleep = bc_proc_get(KHUGEPAGED "scan_sleep_millisecs");
		pages = bc_proc_get(KHUGEPAGED "pages_to_scan");
	}
	ret = bc_knob_set(KHUGEPAGED "pages_to_scan", on ? 1 << 20 : pages);
	return ret ?: bc_knob_set(KHUGEPAGED "scan_sleep_millisecs", on ? 0 : sleep);
}

/* khugepaged has a look at all memory, twice. */
static int act_khugepaged(struct bc_mem *mem)
{
	unsigned int i;
	int ret = BC_OK;
	long scans;

	if (madvise(mem->addr, mem->len, MADV_HUGEPAGE))
		return bc_why(BC_SKIP, "no khugepaged (CONFIG_TRANSPARENT_HUGEPAGE)");
	if (khugepaged_fast(true))
		return bc_why(BC_SKIP, "cannot start khugepaged (root?)");
	bc_waiting("khugepaged");
	scans = bc_proc_get(KHUGEPAGED "full_scans");
	for (i = 0; i < 300; i++) {
		if (bc_proc_get(KHUGEPAGED "full_scans") >= scans + 2)
			break;
		usleep(10000);
	}
	if (i == 300)
		ret = bc_why(BC_ERROR, "gave up waiting for khugepaged");
	khugepaged_fast(false);
	return ret;
}

/* One page of many is protected: khugepaged leaves them all as they are. */
static int case_collapse_wp(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem, one;
	int uffd, ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	/* Of those that cannot be written to it takes none. */
	mem_set(&mem, OLD);
	one = mem;
	one.len = bc_page_size();
	ret = mem_protect(&mem, &uffd);
	if (ret)
		return ret;
	if (bc_uffd_wp(uffd, mem.addr, mem.len, false))
		return BC_ERROR;
	mem_set(&mem, OLD);
	if (bc_uffd_wp(uffd, one.addr, one.len, true))
		return BC_ERROR;
	ret = act_khugepaged(&mem);
	return ret ? ret : mem_store_traps(&one, uffd);
}

/* Another address for memory, aligned as huge pages are. */
static int move(struct bc_mem *mem)
{
	char *to = mem_thp_addr();

	if (!to || mremap(mem->addr, mem->len, mem->len, MREMAP_MAYMOVE |
			  MREMAP_FIXED, to) != to)
		return bc_why(BC_ERROR, "mremap: %s", strerror(errno));
	mem->addr = to;
	return BC_OK;
}

/* Somebody has to read the event, or who caused it waits. */
struct reader {
	pthread_t thread;
	struct uffd_msg msg;
	int uffd, ret;
};

static void *read_event(void *p)
{
	struct reader *r = p;

	r->ret = bc_uffd_event(r->uffd, &r->msg, 5000);
	return NULL;
}

/* Protect memory by who is told of @feature, and be ready to hear of it. */
static int protect_and_hear(struct bc_mem *mem, __u64 feature, struct reader *r)
{
	int ret = mem_protect_with(mem, &r->uffd, feature);

	if (ret)
		return ret;
	if (pthread_create(&r->thread, NULL, read_event, r))
		return bc_why(BC_ERROR, "no thread");
	return BC_OK;
}

/* Who is told that memory moves finds it write-protected where it is now. */
static int case_moves_wp(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	struct reader r;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (!ret)
		ret = protect_and_hear(&mem, UFFD_FEATURE_EVENT_REMAP, &r);
	if (!ret)
		ret = move(&mem);
	if (ret)
		return ret;
	pthread_join(r.thread, NULL);
	if (r.ret <= 0 || r.msg.event != UFFD_EVENT_REMAP)
		return bc_why(BC_ERROR, "no event for mremap");
	return mem_store_traps(&mem, r.uffd);
}

/* Memory that moved is soft-dirty where it is now: something else was there. */
static int case_moved_soft_dirty(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	size_t off;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (!ret)
		ret = mem_clean(&mem);
	if (!ret)
		ret = move(&mem);
	if (!ret && arg->act)
		ret = arg->act(&mem);
	if (ret)
		return ret;
	for (off = 0; off < mem.len && off <= bc_page_size(); off += bc_page_size())
		if (!(bc_pagemap(mem.addr + off) & BC_PM_SOFT_DIRTY))
			return bc_why(BC_FAIL, "got page %zu clean, want it soft-dirty",
				      off / bc_page_size());
	return BC_OK;
}

static bool child_done(const void *p)
{
	siginfo_t info = { .si_pid = 0 };

	return waitid(P_PID, *(const pid_t *)p, &info, WEXITED | WNOHANG | WNOWAIT) ||
	       info.si_pid;
}

/* Who is told of a fork finds the child's memory write-protected, too. */
static int case_forks_wp(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	struct reader r;
	pid_t child;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (!ret)
		ret = protect_and_hear(&mem, UFFD_FEATURE_EVENT_FORK, &r);
	if (ret)
		return ret;
	child = fork_store(&mem);
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	pthread_join(r.thread, NULL);
	bc_waiting("the child's store to be trapped");
	if (r.ret <= 0 || r.msg.event != UFFD_EVENT_FORK)
		ret = bc_why(BC_ERROR, "no event for fork");
	else
		ret = event_or_done(r.msg.arg.fork.ufd, child_done, &child);
	bc_reap(child);
	return ret;
}

/* UFFDIO_COPY_MODE_WP holds where mprotect() allows to write only later. */
static int case_copies_wp(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem, from;
	int uffd, ret;

	ret = mem_get(arg->kind, &from);
	if (ret)
		return ret;
	mem.len = from.len;
	mem.child = 0;
	mem.addr = mmap(NULL, mem.len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uffd = bc_uffd_open(0);
	if (uffd < 0)
		return BC_SKIP;
	if (mem.addr == MAP_FAILED ||
	    bc_uffd_register(uffd, mem.addr, mem.len, UFFDIO_REGISTER_MODE_MISSING |
			     UFFDIO_REGISTER_MODE_WP) ||
	    bc_uffd_copy(uffd, mem.addr, from.addr, mem.len, true) ||
	    mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE))
		return bc_why(BC_ERROR, "cannot place a page: %s", strerror(errno));
	return mem_store_traps(&mem, uffd);
}

/*
 * In a shared mapping of a file, mprotect() saves the fault of a page that is
 * dirty already. One that is not soft-dirty has to take it.
 */
static int case_mprotect_soft_dirty(const void *p)
{
	struct bc_mem mem = { .len = bc_page_size() };
	int fd = bc_tmpfile(O_DIRECT), ret;	/* of a file system on a disk */

	(void)p;
	if (fd < 0)
		return BC_SKIP;
	if (ftruncate(fd, mem.len))
		return bc_why(BC_ERROR, "ftruncate: %s", strerror(errno));
	mem.addr = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem.addr == MAP_FAILED)
		return bc_why(BC_ERROR, "mmap: %s", strerror(errno));
	bc_store(mem.addr, OLD);
	ret = mem_clean(&mem);
	if (ret)
		return ret;
	ret = act_mprotect(&mem);
	bc_store(mem.addr, NEW);
	if (!ret && !(bc_pagemap(mem.addr) & BC_PM_SOFT_DIRTY))
		return bc_why(BC_FAIL, "got clean after a store, want soft-dirty");
	return ret;
}

static const struct promise promises[] = {
	KEEPS_WP("swap", act_swap, SINGLE),
	KEEPS_SOFT_DIRTY("swap", act_swap, SINGLE),
	KEEPS_WP("fault", act_read, KIND(MEM_SWAP_OUT)),
	KEEPS_WP("mprotect", act_mprotect, SINGLE | KIND(MEM_THP)),
	PROMISE("mprotect, soft-dirty", case_mprotect_soft_dirty, KIND(MEM_FILE), NOBODY),
	KEEPS_WP("clear_refs", act_clear_refs, SINGLE | KIND(MEM_THP)),
	KEEPS_WP("cold", act_cold, SINGLE | KIND(MEM_THP)),
	KEEPS_WP("free", act_free, SINGLE | KIND(MEM_THP)),
	KEEPS_WP("split", act_split, KIND(MEM_THP) | KIND(MEM_HUGE_ZERO)),
	KEEPS_SOFT_DIRTY("split", act_split, KIND(MEM_THP)),
	KEEPS_WP("long-term pin", act_pin_first, ZERO),
	PROMISE("khugepaged, uffd-wp", case_collapse_wp, KIND(MEM_THP_PTE), NOBODY),
	PROMISE("mremap, uffd-wp", case_moves_wp, SINGLE | KIND(MEM_THP) |
		KIND(MEM_THP_PTE) | KIND(MEM_HUGE_ZERO), NOBODY),
	PROMISE("mremap, soft-dirty", case_moved_soft_dirty, SINGLE |
		KIND(MEM_THP) | KIND(MEM_THP_PTE) | ZERO, NOBODY),
	PROMISE("mremap and split, soft-dirty", case_moved_soft_dirty,
		KIND(MEM_THP) | KIND(MEM_HUGE_ZERO), NOBODY, .act = act_split),
	PROMISE("fork, uffd-wp", case_forks_wp, SINGLE | KIND(MEM_THP) | ZERO |
		KIND(MEM_SWAP_OUT), NOBODY),
	PROMISE("UFFDIO_COPY, uffd-wp", case_copies_wp, SINGLE, NOBODY),
};

PROMISES(promises)
