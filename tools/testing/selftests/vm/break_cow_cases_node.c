// SPDX-License-Identifier: GPL-2.0
/*
 * What an entry keeps while its page goes to another node of memory, for the
 * cases of break_cow: once, or again and again beside what changes the entry.
 * numa=fake=2 makes two nodes of one (CONFIG_NUMA_EMU).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "break_cow_cases.h"

#define BALANCE		8	/* seconds to wait for it */
#define PAUSE_US	1000	/* between two migrations */
#define MPOL_MF_MOVE	0x2	/* <linux/mempolicy.h> */

/* Which node has the page, or -errno */
static int node_of(void *addr)
{
	int status = -ENOENT;

	if (syscall(SYS_move_pages, 0, 1UL, &addr, NULL, &status, 0))
		return -errno;
	return status;
}

/* Move a page to a node: the node it is on then, or -errno */
static int move_to(void *addr, int node)
{
	int status = -ENOENT;

	if (syscall(SYS_move_pages, 0, 1UL, &addr, &node, &status, MPOL_MF_MOVE) < 0)
		return -errno;
	return status;
}

/**
 * two_nodes() - are there nodes 0 and 1, with memory that we may use
 *
 * Nothing is mapped for that: next to the memory of the case it would become one VMA
 * with it, and all of that soft-dirty.
 *
 * Return: BC_OK, or BC_SKIP with the reason recorded.
 */
int two_nodes(void)
{
	static char ours;
	int node, ret;

	/* of a page that no child shares, which would not be moved */
	bc_store(&ours, OLD);
	for (node = 0; node < 2; node++) {
		ret = move_to(&ours, node);
		/* No such node, or a node of CPUs alone; not in our cpuset; no NUMA */
		if (ret == -ENODEV || ret == -EACCES || ret == -ENOSYS)
			return bc_why(BC_SKIP, "no memory on node %d (numa=fake=2)", node);
	}
	return BC_OK;
}

/* To the other node; a huge page as a whole. */
static int act_migrate(struct bc_mem *mem)
{
	bool thp = mem->len == BC_THP_SIZE;
	__u64 before = bc_pfn(mem->addr);
	int node, i, ret = two_nodes();

	if (ret)
		return ret;
	bc_waiting("the page to migrate");
	/* Not while it is in a batch on the way to the LRU. */
	for (i = 0; i < 100; i++) {
		node = node_of(mem->addr);
		if (node < 0)
			return bc_why(BC_ERROR, "move_pages: %s", strerror(-node));
		if (move_to(mem->addr, !node) == !node && bc_pfn(mem->addr) != before)
			break;
		usleep(10000);
	}
	if (i == 100)
		return bc_why(BC_ERROR, "the page does not migrate");
	if (thp && !bc_is_thp(mem->addr, mem->len))
		return bc_why(BC_SKIP, "no huge page on the other node");
	return BC_OK;
}

/* Small pages: many, for each is away for a moment only. Else it is one. */
static unsigned int nr_pages(const struct bc_mem *mem)
{
	return mem->len < BC_THP_SIZE ? mem->len / bc_page_size() : 1;
}

static char *nth_page(const struct bc_mem *mem, unsigned int n)
{
	return mem->addr + n * bc_page_size();
}

/* To and fro; a huge page as a whole */
bool beside_migrate(struct bc_mem *mem, unsigned int n)
{
	int nodes[MEM_PAGES], status[MEM_PAGES] = {};
	unsigned int i, nr = nr_pages(mem);
	void *pages[MEM_PAGES];

	for (i = 0; i < nr; i++) {
		pages[i] = nth_page(mem, i);
		nodes[i] = n % 2;
	}
	/* Who waits for one migration is not to wait for the next one, for ever. */
	usleep(PAUSE_US);
	return syscall(SYS_move_pages, 0, (unsigned long)nr, pages, nodes, status,
		       MPOL_MF_MOVE) >= 0 && status[0] == (int)(n % 2);
}

/* What is done to memory while it migrates */
struct migrating {
	struct bc_mem mem;
	int uffd;
};

/* Again and again: what @once does to memory, while it migrates. */
static int race(const struct bc_arg *arg, int (*once)(void *p))
{
	struct migrating m;
	struct beside beside = { .act = beside_migrate, .mem = &m.mem };
	int ret;

	ret = mem_get(arg->kind, &m.mem);
	if (!ret && arg->kind == MEM_4K) {
		m.mem.len = MEM_PAGES * bc_page_size();
		mem_set(&m.mem, OLD);
	}
	if (!ret)
		ret = mem_protect(&m.mem, &m.uffd);
	if (!ret && bc_uffd_wp(m.uffd, m.mem.addr, m.mem.len, false))
		ret = BC_ERROR;
	if (!ret)
		ret = two_nodes();
	return ret ? ret : race_beside(&beside, once, &m);
}

static int protect_once(void *p)
{
	struct migrating *m = p;
	struct bc_mem *mem = &m->mem;
	struct bc_mem page = { .len = mem->len / nr_pages(mem) };
	unsigned int i;
	int ret = BC_OK;

	if (bc_uffd_wp(m->uffd, mem->addr, mem->len, true))
		return BC_ERROR;
	for (i = 0; i < nr_pages(mem) && !ret; i++) {
		page.addr = nth_page(mem, i);
		ret = mem_store_traps(&page, m->uffd);
	}
	return ret;
}

/* What is protected while it migrates is protected. */
static int case_race_wp(const void *p)
{
	return race(p, protect_once);
}

static int clear_once(void *p)
{
	struct bc_mem *mem = &((struct migrating *)p)->mem;
	unsigned int i;
	int ret;

	for (i = 0; i < nr_pages(mem); i++)
		bc_store(nth_page(mem, i), NEW);
	ret = act_clear_refs(mem);
	for (i = 0; i < nr_pages(mem); i++)
		bc_store(nth_page(mem, i), OLD);
	for (i = 0; i < nr_pages(mem) && !ret; i++)
		if (!(bc_pagemap(nth_page(mem, i)) & BC_PM_SOFT_DIRTY))
			ret = bc_why(BC_FAIL, "got clean after a store, want soft-dirty");
	return ret;
}

/* A store to what was marked clean while it migrates is seen. */
static int case_race_soft_dirty(const void *p)
{
	return race(p, clear_once);
}

/* Fork, and have the child look at what it got; @want says what it ends for. */
static int child_looks(int (*look)(void *p), void *p, const char *want)
{
	int status = -1;
	pid_t child = fork();

	if (!child)
		_exit(look(p));
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	bc_waiting("a child to look at its memory");
	waitpid(child, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return bc_why(BC_FAIL, "got child status %#x, want 0: %s", status, want);
	return BC_OK;
}

static int reads_old(void *p)
{
	struct bc_mem *mem = &((struct migrating *)p)->mem;
	unsigned int i;

	for (i = 0; i < nr_pages(mem); i++)
		if (bc_load(nth_page(mem, i)) != OLD)
			return BC_FAIL;
	return BC_OK;
}

static int fork_once(void *p)
{
	return child_looks(reads_old, p, "the bytes of the page");
}

/* A child of a fork while the page migrates has that page. */
static int case_race_fork(const void *p)
{
	return race(p, fork_once);
}

/* What has a reference does not leave its node, and is away for each attempt. */
static bool beside_attempts(struct bc_mem *mem, unsigned int n)
{
	(void)n;
	/* Of what was attempted in vain the kernel stores no status. */
	return move_to(mem->addr, !node_of(mem->addr)) == -ENOENT;
}

struct referenced {
	struct bc_mem mem;
	__u64 pfn;
};

static int has_a_copy(void *p)
{
	struct referenced *r = p;
	__u64 pfn;

	do {
		bc_load(r->mem.addr);
		pfn = bc_pfn(r->mem.addr);
	} while (!pfn);
	return pfn == r->pfn ? BC_FAIL : BC_OK;
}

static int fork_copies_once(void *p)
{
	return child_looks(has_a_copy, p, "a page of its own");
}

/*
 * fork() copies a page of hugetlb to which there is a reference for the child,
 * also if it finds that page on its way to another node.
 */
static int case_race_older(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct referenced r;
	struct beside beside = { .act = beside_attempts, .mem = &r.mem };
	int ret;

	ret = mem_get(arg->kind, &r.mem);
	if (!ret)
		ret = two_nodes();
	/* To copy it, and to go to */
	if (!ret && bc_hugetlb_left(2048) < 2)
		ret = bc_why(BC_SKIP, "no two 2 MiB huge pages (nr_hugepages)");
	if (!ret)
		ret = take(&hold, r.mem.addr);
	if (ret)
		return ret;
	r.pfn = bc_pfn(r.mem.addr);
	return race_beside(&beside, fork_copies_once, &r);
}

/*
 * NUMA balancing takes a page to the node of who reads it, or even of who stores
 * to it, whom it must not let through.
 */
static int act_balance(struct bc_mem *mem)
{
#define BALANCING	"/proc/sys/kernel/numa_balancing"
	long was = bc_proc_get(BALANCING);
	unsigned int here = 0;
	struct bc_mem other;
	double end;
	int i, ret;

	/* Else it may take us to the page, and not the page to us. */
	bc_one_cpu();
	ret = act_migrate(mem);
	if (ret)
		return ret;
	/*
	 * Its switch patches the code of the scheduler. An emulator may run what
	 * was there before on another CPU, and then the kernel dies.
	 */
	if (getenv("BREAK_COW_NO_BALANCING"))
		return bc_why(BC_SKIP, "BREAK_COW_NO_BALANCING is set");
	syscall(SYS_getcpu, NULL, &here, NULL);
	if (node_of(mem->addr) == (int)here)
		ret = act_migrate(mem);
	if (!ret)
		ret = mem_get(MEM_4K, &other);
	if (ret)
		return ret;
	/* The page is in no batch on the way to the LRU then. */
	mem_pageout(&other);
	if (was < 0 || bc_knob_set(BALANCING, 1))
		return bc_why(BC_SKIP, "no NUMA balancing (CONFIG_NUMA_BALANCING)");
	bc_waiting("NUMA balancing");
	/* It looks at those who use a CPU, after a second or more of that. */
	end = bc_now() + BALANCE;
	while (node_of(mem->addr) != (int)here && bc_now() < end) {
		bc_beat();
		for (i = 0; i < 100000; i++)
			bc_load(mem->addr);
	}
	bc_knob_set(BALANCING, was);
	if (node_of(mem->addr) != (int)here)
		return bc_why(BC_SKIP, "NUMA balancing leaves the page alone");
	if (mem->len == BC_THP_SIZE && !bc_is_thp(mem->addr, mem->len))
		return bc_why(BC_SKIP, "no huge page on the other node");
	return BC_OK;
}

static const struct promise promises[] = {
	KEEPS_WP("migration", act_migrate, SINGLE | KIND(MEM_THP)),
	KEEPS_SOFT_DIRTY("migration", act_migrate, SINGLE | KIND(MEM_THP)),
	KEEPS_WP("balancing", act_balance, SINGLE | KIND(MEM_THP)),
	PROMISE("while it migrates, uffd-wp", case_race_wp,
		SINGLE | KIND(MEM_THP), NOBODY),
	PROMISE("while it migrates, soft-dirty", case_race_soft_dirty,
		SINGLE | KIND(MEM_THP), NOBODY),
	PROMISE("while it migrates, fork", case_race_fork,
		SINGLE | KIND(MEM_THP), NOBODY),
	PROMISE("while it migrates, older", case_race_older, HUGETLB, BY(VMSPLICE)),
};

PROMISES(promises)
