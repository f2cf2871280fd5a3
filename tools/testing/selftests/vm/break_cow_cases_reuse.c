// SPDX-License-Identifier: GPL-2.0
/*
 * The other side of the cases of break_cow: a page that is written to in place
 * must have nobody else's reference, and one that is pinned must be written to
 * in place.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "break_cow_cases.h"

/*
 * Somebody takes a reference to a page of its own, shares it by fork(), and
 * unmaps it. It must not see what the child stores afterwards: the child is
 * the only one who maps the page, but not the only one who has it.
 *
 * Swapped: the child finds the page in the swap cache.
 */
int case_older(const void *p)
{
	const struct bc_arg *arg = p;
	bool swapped = arg->kind == MEM_SWAP;
	struct bc_hold hold = { { 0, 0 } };
	int go[2], status, ret;
	struct bc_mem mem;
	pid_t child;
	char c = 0, *page;

	ret = mem_get(swapped ? MEM_4K : arg->kind, &mem);
	if (ret)
		return ret;
	page = mem_middle(&mem);
	if (pipe(go))
		return bc_why(BC_ERROR, "pipe: %s", strerror(errno));
	ret = take(&hold, page);
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
			memset(mem.addr, SECRET, mem.len);
		_exit(ret);
	}

	munmap(mem.addr, mem.len);
	if (write(go[1], &c, 1) != 1)
		return bc_why(BC_ERROR, "child: %s", strerror(errno));
	bc_waiting("the child to store and end");
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return bc_why(BC_ERROR, "the child ended with %#x", status);
	if (WEXITSTATUS(status))
		return WEXITSTATUS(status);
	return hold_same(&hold, OLD, "what was taken before fork");
}

/* Get memory, and have a page in its middle pinned. */
static int get_pinned(enum bc_kind kind, struct bc_mem *mem, char **page)
{
	int ret = mem_get(kind, mem);

	if (ret)
		return ret;
	*page = mem_middle(mem);
	ret = bc_pin(*page, bc_page_size());
	if (ret == -ENOSYS)
		return bc_why(BC_SKIP, "no io_uring (CONFIG_IO_URING)");
	if (ret)
		return bc_why(BC_FAIL, "got %s from io_uring, want a page pinned",
			      strerror(-ret));
	return BC_OK;
}

/* Does the pin see what is stored? */
static int pin_coherent(char *page)
{
	unsigned char buf[4096];

	memset(page, NEW, sizeof(buf));
	bc_waiting("io_uring to write a pinned page");
	if (bc_pin_read(page, buf, sizeof(buf)))
		return BC_ERROR;
	return bytes_same(buf, sizeof(buf), NEW, "the pinned page");
}

/* A pinned page of ours that mprotect() has left read-only is not copied. */
int case_pin_mprotect(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	char *page;
	int ret;

	ret = get_pinned(arg->kind, &mem, &page);
	if (ret)
		return ret;
	if (mprotect(mem.addr, mem.len, PROT_READ) ||
	    mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	return pin_coherent(page);
}

/* Likewise if userfaultfd has write-protected it, and no longer does. */
int case_pin_uffd_wp(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	char *page;
	int uffd, ret;

	ret = get_pinned(arg->kind, &mem, &page);
	if (ret)
		return ret;
	ret = mem_protect(&mem, &uffd);
	if (ret)
		return ret;
	if (bc_uffd_wp(uffd, mem.addr, mem.len, false))
		return BC_ERROR;
	return pin_coherent(page);
}
