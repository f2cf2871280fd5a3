// SPDX-License-Identifier: GPL-2.0
/*
 * The other side of the cases of break_cow: a page that is written to in place
 * must have nobody else's reference, and one that is pinned must be written to
 * in place.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "break_cow_cases.h"

/*
 * Somebody takes a reference to a page of its own, shares it by fork(), and
 * unmaps it. It must not see what the child stores afterwards: the child is
 * the only one who maps the page, but not the only one who has it.
 *
 * Swapped: the child finds the page in the swap cache. With @act an earlier child
 * shares the page, too, and is gone before the store.
 */
int case_older(const void *p)
{
	const struct bc_arg *arg = p;
	bool swapped = arg->kind == MEM_SWAP;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	int go[2], ret;
	pid_t child;
	char c = 0, *page;

	ret = mem_get(swapped ? MEM_4K : arg->kind, &mem);
	if (ret)
		return ret;
	page = mem_middle(&mem);
	if (pipe(go))
		return bc_why(BC_ERROR, "pipe: %s", strerror(errno));
	ret = take(&hold, page);
	if (!ret && arg->act)
		ret = arg->act(&mem);
	if (ret)
		return ret;

	child = fork();
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	if (!child) {
		close(go[1]);
		if (read(go[0], &c, 1) != 1)
			_exit(bc_why(BC_ERROR, "parent: %s", strerror(errno)));
		ret = swapped ? mem_swap_out(&mem) : BC_OK;
		if (!ret)
			mem_set(&mem, SECRET);
		_exit(ret);
	}

	munmap(mem.addr, mem.len);
	bc_reap(mem.child);
	if (write(go[1], &c, 1) != 1)
		return bc_why(BC_ERROR, "child: %s", strerror(errno));
	bc_waiting("the child to store and end");
	ret = child_result(child);
	return ret ? ret : hold_same(&hold, OLD, "what was taken before fork");
}

/*
 * fork() gives the child what we have. Two children at a time, so that their page
 * tables are made of what others have left.
 */
int case_fork(const void *p)
{
	enum { ROUNDS = 100, CHILDREN = 2 };
	const struct bc_arg *arg = p;
	unsigned int i, n, lost = 0;
	pid_t child[CHILDREN];
	struct bc_mem mem;
	int ret, status;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	bc_waiting("children to look at their memory");
	for (i = 0; i < ROUNDS; i++) {
		bc_beat();
		for (n = 0; n < CHILDREN; n++) {
			child[n] = fork();
			if (child[n] < 0)
				return bc_why(BC_ERROR, "fork: %s", strerror(errno));
			if (!child[n])
				_exit(bc_load(mem.addr) != OLD);
		}
		for (n = 0; n < CHILDREN; n++)
			if (waitpid(child[n], &status, 0) != child[n] || status)
				lost++;
	}
	if (lost)
		return bc_why(BC_FAIL, "got our data in all but %u of %u children, want it in all",
			      lost, ROUNDS * CHILDREN);
	return BC_OK;
}

/* All that follows leaves pinned memory of ours not writable, or tries to. */

int act_mprotect(struct bc_mem *mem)
{
	if (mprotect(mem->addr, mem->len, PROT_READ) ||
	    mprotect(mem->addr, mem->len, PROT_READ | PROT_WRITE))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	return BC_OK;
}

/* Write-protected by userfaultfd, and no longer. */
int act_uffd_wp(struct bc_mem *mem)
{
	int uffd, ret = mem_protect(mem, &uffd);

	if (!ret && bc_uffd_wp(uffd, mem->addr, mem->len, false))
		return BC_ERROR;
	return ret;
}

int act_clear_refs(struct bc_mem *mem)
{
	(void)mem;
	if (bc_proc_write("/proc/self/clear_refs", "4"))
		return bc_why(BC_SKIP, "no clear_refs (MEM_SOFT_DIRTY)");
	return BC_OK;
}

/* What the child gets must not be the pinned page. */
int act_fork(struct bc_mem *mem)
{
	return mem_share(mem, -1);
}

/* Shared by a fork, and ours alone again */
static int lone(struct bc_mem *mem, int (*share)(struct bc_mem *mem))
{
	int ret = share(mem);

	bc_reap(mem->child);
	mem->child = 0;
	return ret;
}

int act_lone(struct bc_mem *mem)
{
	return lone(mem, act_fork);
}

/* Has a child the same page? */
static bool child_shares(pid_t child, const struct bc_mem *mem)
{
	return pfn_of(child, mem->addr) == bc_pfn(mem->addr);
}

/* Give back what mem_use_up() took. */
static void mem_give_back(const struct bc_mem *all)
{
	if (all->len)
		munmap(all->addr, all->len);
}

/* Shared by a fork that found no page to copy to: there are some again. */
int act_fork_empty(struct bc_mem *mem)
{
	struct bc_mem all;
	int ret = mem_use_up(MEM_HUGETLB, &all);

	if (ret)
		return ret;
	ret = act_fork(mem);
	mem_give_back(&all);
	if (!ret && !child_shares(mem->child, mem))
		return bc_why(BC_ERROR, "the page is not shared");
	return ret;
}

int act_lone_empty(struct bc_mem *mem)
{
	return lone(mem, act_fork_empty);
}

/*
 * The child of a fork that found no page to copy to shares what its parent keeps. Its
 * own fork() copies the page.
 */
int case_older_child(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem, all;
	int go[2], ret;
	pid_t child;
	char c = 0;

	ret = mem_get(arg->kind, &mem);
	if (!ret)
		ret = take(&hold, mem.addr);
	if (!ret)
		ret = mem_use_up(arg->kind, &all);
	if (ret)
		return ret;
	if (pipe(go))
		return bc_why(BC_ERROR, "pipe: %s", strerror(errno));
	child = fork();
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	if (!child) {
		if (read(go[0], &c, 1) != 1)
			_exit(bc_why(BC_ERROR, "parent: %s", strerror(errno)));
		ret = act_fork(&mem);
		if (!ret && child_shares(mem.child, &mem))
			ret = bc_why(BC_FAIL, "got the page in the child's child, want a copy");
		bc_reap(mem.child);
		_exit(ret);
	}

	mem_give_back(&all);
	if (!child_shares(child, &mem))
		return bc_why(BC_ERROR, "the page is not shared");
	if (write(go[1], &c, 1) != 1)
		return bc_why(BC_ERROR, "child: %s", strerror(errno));
	return child_result(child);
}

/* Reclaim unmaps what is not pinned: as often as it takes to get it into swap. */
static int act_pageout(struct bc_mem *mem)
{
	unsigned int i;

	for (i = 0; i < 3; i++)
		if (mem_pageout(mem))
			return bc_why(BC_SKIP, "no MADV_PAGEOUT: %s",
				      strerror(errno));
	return BC_OK;
}

/* ... and get it back by a load. */
static int act_pageout_load(struct bc_mem *mem)
{
	int ret = act_pageout(mem);

	if (!ret && bc_load(mem->addr) != OLD)
		return bc_why(BC_ERROR, "the page has other bytes");
	return ret;
}

/*
 * A page that is in the swap cache is unmapped by reclaim, pinned or not, and
 * fork shares an entry of swap without a look at the page.
 */
int act_pageout_fork(struct bc_mem *mem)
{
	int ret = act_pageout(mem);

	return ret ? ret : act_fork(mem);
}

/*
 * A page of ours that is pinned is not copied, whatever has happened to its
 * entry: the pin sees what is stored, and a child does not.
 */
int case_pin(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	pid_t before;
	char *page;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	before = mem.child;
	page = mem_middle(&mem);
	ret = take(&hold, page);
	if (ret)
		return ret;
	ret = arg->act(&mem);
	if (ret)
		return ret;

	ret = hold_sees_store(&hold, "the pinned page");
	if (!ret && mem.child != before) {
		mem.addr = page;
		ret = mem_read_child(&mem, false, OLD);
	}
	bc_reap(mem.child);
	return ret;
}

/*
 * A read with O_DIRECT is in flight when the entry of its page becomes one that is
 * not writable, and the process stores to another part of the page. What is read
 * must still be seen: it goes to the same page, pin or plain reference.
 */
static int case_fill(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	char *page;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	page = mem_middle(&mem);
	ret = take(&hold, page);
	if (!ret)
		ret = arg->act(&mem);
	if (ret)
		return ret;
	bc_waiting("a store beside what is read");
	bc_store(page, NEW);
	ret = hold_fill(&hold, SECRET);
	if (ret)
		return ret;
	return bytes_same((unsigned char *)page, bc_page_size(), SECRET,
			  "the page that was read to");
}

/*
 * fork() copies no page of who keeps none, though there is one more reference: of who
 * looks at it, here, as of an earlier child that has unmapped it and not let go.
 */
int case_looks_fork(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (!ret)
		ret = take(&hold, mem.addr);
	if (!ret)
		ret = act_fork(&mem);
	if (ret)
		return ret;
	if (!child_shares(mem.child, &mem))
		return bc_why(BC_FAIL, "got another page in the child, want it shared");
	bc_reap(mem.child);
	return BC_OK;
}

/* The same in a program that was just started: exec() itself keeps nothing. */
int case_looks_exec(const void *p)
{
	pid_t child = fork();
	int ret;

	(void)p;
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	if (!child) {
		execl("/proc/self/exe", "break_cow", AFTER_EXEC, NULL);
		_exit(bc_why(BC_ERROR, "exec: %s", strerror(errno)));
	}
	ret = child_result(child);
	/* Its reasons are lost. */
	if (ret == BC_FAIL)
		return bc_why(ret, "got another page in the child after exec, want it shared");
	return ret ? bc_why(ret, "the program that was started could not test it") : BC_OK;
}

/**
 * after_exec() - what case_looks_exec() starts this program for
 *
 * Return: the result of the case.
 */
int after_exec(void)
{
	const struct bc_arg arg = { .kind = MEM_HUGETLB, .by = &bc_holders[BC_LOOK] };

	return case_looks_fork(&arg);
}

/*
 * With no huge page left to copy to, a read fails, and takes no page away from
 * the child.
 */
int case_no_memory(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem, all;
	__u64 pfn;
	int ret;

	ret = mem_get_arg(arg, &mem);
	if (!ret)
		ret = mem_use_up(arg->kind, &all);
	if (ret)
		return ret;

	pfn = pfn_of(mem.child, mem.addr);
	ret = hold_take(&hold, mem.addr);
	if (!pfn || pfn_of(mem.child, mem.addr) != pfn)
		return bc_why(BC_FAIL, "got the child's page taken away, want it left");
	if (ret != -ENOMEM)
		return bc_why(BC_FAIL, "got %s, want ENOMEM", strerror(-ret));
	bc_reap(mem.child);
	return BC_OK;
}

/*
 * With no huge page left for the child, fork() fails if the page is pinned. For
 * a plain reference it shares the page, as it always has.
 */
int case_no_memory_fork(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	bool pin = arg->by->by != BY_VMSPLICE;
	struct bc_mem mem, all;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (!ret)
		ret = take(&hold, mem.addr);
	if (!ret)
		ret = mem_use_up(arg->kind, &all);
	if (ret)
		return ret;

	mem.child = bc_fork_idle(-1);
	if (!pin) {
		if (mem.child < 0)
			return bc_why(BC_FAIL, "got %s, want a child",
				      strerror(errno));
		if (!child_shares(mem.child, &mem))
			return bc_why(BC_FAIL, "got another page in the child, want it shared");
		bc_reap(mem.child);
		return BC_OK;
	}
	if (mem.child >= 0)
		return bc_why(BC_FAIL, "got a child, want ENOMEM");
	if (errno != ENOMEM)
		return bc_why(BC_FAIL, "got %s, want ENOMEM", strerror(errno));
	return hold_sees_store(&hold, "the pinned page");
}

/* Let pipes have @n references more to a page. Returns the number of pipes. */
static int many_references(char *page, unsigned int n, int pipes[][2])
{
	enum { SLOTS = 256 };	/* as many as an unprivileged user may have */
	struct iovec iov[SLOTS];
	unsigned int i;
	int p;

	for (i = 0; i < SLOTS; i++)
		iov[i] = (struct iovec) { page, bc_page_size() };
	for (p = 0; n; p++) {
		i = n < SLOTS ? n : SLOTS;
		if (pipe(pipes[p]) ||
		    fcntl(pipes[p][1], F_SETPIPE_SZ, SLOTS * bc_page_size()) < 0 ||
		    vmsplice(pipes[p][1], iov, i, 0) != (ssize_t)(i * bc_page_size()))
			return -1;
		n -= i;
	}
	return p;
}

/*
 * About 1024 references look like a pin (GUP_PIN_COUNTING_BIAS). Whether those of
 * the kernel's own on its way count must not make two parts of a fault each leave
 * the page to the other: a store has to end, to the page or to a copy.
 */
static int case_many(const void *p)
{
	const struct bc_arg *arg = p;
	int pipes[8][2], ret, nr;
	unsigned int n;
	struct bc_mem mem;
	char byte;
	/* pins, and the process is one that has pinned */
	struct iovec to = { &byte, 1 }, from = { &ret, 1 };

	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != 1)
		return bc_why(BC_ERROR, "process_vm_readv: %s", strerror(errno));
	bc_one_cpu();
	for (n = 1024 - 8; n <= 1024 + 2; n++) {
		bc_beat();
		ret = mem_get(arg->kind, &mem);
		if (ret)
			return ret;
		/* The batch that has the page overflows: no number is left out. */
		memset(mem.addr, 0, MEM_PAGES * bc_page_size());
		nr = many_references(mem.addr, n, pipes);
		if (nr < 0)
			return bc_why(BC_ERROR, "vmsplice: %s", strerror(errno));
		/* Ours alone again, and nothing says so but the count. */
		ret = act_lone(&mem);
		if (!ret)
			ret = mem_store_ends(&mem);
		if (ret)
			return ret;
		while (nr--) {
			close(pipes[nr][0]);
			close(pipes[nr][1]);
		}
		munmap(mem.addr, MEM_PAGES * bc_page_size());
	}
	return BC_OK;
}

static const struct promise promises[] = {
	PROMISE("many references", case_many, KIND(MEM_4K), NOBODY),
	PROMISE("look, lasts", case_leak, SINGLE, BY(LOOK), .act = act_pageout),
	PROMISE("fill, mprotect", case_fill, SINGLE | KIND(MEM_THP), BY(FILL),
		.act = act_mprotect),
	PROMISE("fill, uffd-wp", case_fill, SINGLE | KIND(MEM_THP), BY(FILL),
		.act = act_uffd_wp),
	PROMISE("fill, clear_refs", case_fill, SINGLE | KIND(MEM_THP), BY(FILL),
		.act = act_clear_refs),
	PROMISE("fill, pageout", case_fill, SINGLE, BY(FILL), .act = act_pageout),
	PROMISE("fill, pageout and load", case_fill, SINGLE, BY(FILL),
		.act = act_pageout_load),
};

PROMISES(promises)
