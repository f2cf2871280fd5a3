// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of every kind, and references to it, for the cases of break_cow.
 * All memory starts out with the byte OLD in it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "break_cow_cases.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif

#define KSM		"/sys/kernel/mm/ksm/"

const char * const bc_kind_name[MEM_NR] = {
	[MEM_4K]	= "4K",
	[MEM_THP]	= "THP",
	[MEM_THP_PTE]	= "THP by pte",
	[MEM_HUGETLB]	= "hugetlb",
	[MEM_SWAP]	= "swap",
	[MEM_KSM]	= "KSM",
	[MEM_ZERO]	= "zero page",
	[MEM_HUGE_ZERO]	= "huge zero page",
	[MEM_FILE]	= "file",
};

/* Wait until @done(mem), and say what did not happen. */
static int wait_for(struct bc_mem *mem, bool (*done)(struct bc_mem *mem),
		    const char *what)
{
	unsigned int i;

	bc_waiting("%s", what);
	for (i = 0; i < 300; i++) {
		if (done(mem))
			return BC_OK;
		usleep(10000);
	}
	return bc_why(BC_ERROR, "gave up waiting for %s", what);
}

static bool merged(struct bc_mem *mem)
{
	return bc_kpageflags(mem->addr) & BC_KPF_KSM &&
		bc_pfn(mem->addr) == bc_pfn(mem->addr + mem->len);
}

static int get_ksm(struct bc_mem *mem)
{
	int ret;

	memset(mem->addr + mem->len, OLD, mem->len);
	if (madvise(mem->addr, 2 * mem->len, MADV_MERGEABLE))
		return bc_why(BC_SKIP, "no KSM: %s", strerror(errno));
	bc_proc_write(KSM "sleep_millisecs", "0");
	if (bc_proc_write(KSM "run", "1"))
		return bc_why(BC_SKIP, "cannot start ksmd (root?)");
	ret = wait_for(mem, merged, "a merge by ksmd");
	/* ksmd stops, what it merged remains */
	bc_proc_write(KSM "run", "0");
	bc_proc_write(KSM "sleep_millisecs", "20");
	return ret;
}

static bool swapped_out(struct bc_mem *mem)
{
	madvise(mem->addr, mem->len, MADV_PAGEOUT);
	return bc_pagemap(mem->addr) & BC_PM_SWAP;
}

/**
 * mem_swap_out() - have a page swapped out
 * @mem: the memory, one small page
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int mem_swap_out(struct bc_mem *mem)
{
	char line[128];
	FILE *f = fopen("/proc/swaps", "r");
	int lines = 0;

	while (f && fgets(line, sizeof(line), f))
		lines++;
	if (f)
		fclose(f);
	if (lines < 2)
		return bc_why(BC_SKIP, "no swap (swapon)");
	return wait_for(mem, swapped_out, "the page to be swapped out");
}

static int get_swap(struct bc_mem *mem)
{
	int ret = mem_swap_out(mem);

	if (ret)
		return ret;
	/* The child gets the entry, we get the page back. */
	ret = mem_share(mem, -1);
	if (ret)
		return ret;
	if (bc_load(mem->addr) != OLD)
		return bc_why(BC_ERROR, "swap lost the page");
	return BC_OK;
}

static int get_zero(struct bc_mem *mem, bool huge)
{
	char *p;

	if (bc_load(mem->addr))
		return bc_why(BC_ERROR, "new memory is not zero");
	if (!(bc_kpageflags(mem->addr) & BC_KPF_ZERO))
		return bc_why(BC_SKIP, "no zero page here");
	if (!huge)
		return BC_OK;
	p = mem->addr + mem->len - bc_page_size();
	if (bc_pfn(p) != bc_pfn(mem->addr) + mem->len / bc_page_size() - 1)
		return bc_why(BC_SKIP, "no huge zero page here");
	return BC_OK;
}

static int get_file(struct bc_mem *mem)
{
	char buf[4096];
	int fd = bc_tmpfile(0);

	if (fd < 0)
		return BC_SKIP;
	memset(buf, OLD, sizeof(buf));
	if (write(fd, buf, sizeof(buf)) != sizeof(buf))
		return bc_why(BC_ERROR, "write: %s", strerror(errno));
	mem->addr = mmap(NULL, mem->len, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			 fd, 0);
	close(fd);
	if (mem->addr == MAP_FAILED)
		return bc_why(BC_ERROR, "mmap: %s", strerror(errno));
	if (bc_load(mem->addr) != OLD)
		return bc_why(BC_ERROR, "the file has other bytes");
	return BC_OK;
}

/* Huge, aligned, and not touched. */
static void *thp_untouched(void)
{
	char *p = mmap(NULL, 2 * BC_THP_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((uintptr_t)p + BC_THP_SIZE - 1) & ~(BC_THP_SIZE - 1));
	return madvise(p, BC_THP_SIZE, MADV_HUGEPAGE) ? NULL : p;
}

/**
 * mem_get() - memory of a kind
 * @kind: the kind
 * @mem: receives it
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int mem_get(enum bc_kind kind, struct bc_mem *mem)
{
	size_t page = bc_page_size();

	*mem = (struct bc_mem) { .len = page };
	switch (kind) {
	case MEM_FILE:
		return get_file(mem);
	case MEM_THP:
	case MEM_THP_PTE:
		mem->len = BC_THP_SIZE;
		mem->addr = bc_thp_alloc(1);
		if (!mem->addr)
			return BC_SKIP;
		break;
	case MEM_HUGE_ZERO:
		mem->len = BC_THP_SIZE;
		mem->addr = thp_untouched();
		if (!mem->addr)
			return bc_why(BC_SKIP, "no huge pages");
		return get_zero(mem, true);
	case MEM_HUGETLB:
		mem->len = BC_THP_SIZE;
		mem->addr = mmap(NULL, mem->len, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
				 MAP_HUGE_2MB, -1, 0);
		if (mem->addr == MAP_FAILED)
			return bc_why(BC_SKIP, "no 2 MiB huge page (nr_hugepages)");
		break;
	default:
		/* 16 pages: one to use, or all, or two to merge */
		mem->addr = bc_alloc(16 * page);
		if (!mem->addr)
			return BC_ERROR;
	}

	if (kind == MEM_ZERO)
		return get_zero(mem, false);
	memset(mem->addr, OLD, mem->len);
	if (kind == MEM_KSM)
		return get_ksm(mem);
	if (kind == MEM_SWAP)
		return get_swap(mem);
	if (kind == MEM_THP || kind == MEM_THP_PTE) {
		if (!bc_is_thp(mem->addr, mem->len))
			return bc_why(BC_ERROR, "not a huge page");
	}
	if (kind == MEM_THP_PTE) {
		/* The pmd is split, the page is not. */
		if (mprotect(mem->addr, page, PROT_READ) ||
		    mprotect(mem->addr, page, PROT_READ | PROT_WRITE))
			return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	}
	return BC_OK;
}

/**
 * mem_share() - share memory with a child that lives on and does nothing
 * @mem: the memory
 * @close_fd: what the child closes, or -1
 *
 * Return: BC_OK, or BC_ERROR with the reason recorded.
 */
int mem_share(struct bc_mem *mem, int close_fd)
{
	mem->child = bc_fork_idle(close_fd);
	if (mem->child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	return BC_OK;
}

/**
 * mem_protect() - write-protect all of it, so that no entry is writable
 * @mem: the memory
 * @uffd: receives the userfaultfd that can end it
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int mem_protect(struct bc_mem *mem, int *uffd)
{
	*uffd = bc_uffd_open(0);
	if (*uffd < 0)
		return BC_SKIP;
	if (bc_uffd_register(*uffd, mem->addr, mem->len, UFFDIO_REGISTER_MODE_WP) ||
	    bc_uffd_wp(*uffd, mem->addr, mem->len, true))
		return BC_ERROR;
	return BC_OK;
}

/**
 * mem_middle() - the page in the middle: a tail page, if it is huge
 * @mem: the memory
 */
char *mem_middle(const struct bc_mem *mem)
{
	return mem->addr + mem->len / 2 / bc_page_size() * bc_page_size();
}

/**
 * bytes_same() - are all bytes the same
 * @buf: what was read
 * @len: how much
 * @want: the byte
 * @what: what it was read from, for the reason
 *
 * Return: BC_OK, or BC_FAIL with the reason recorded.
 */
int bytes_same(const unsigned char *buf, size_t len, unsigned char want,
	       const char *what)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (buf[i] != want)
			return bc_why(BC_FAIL, "got %#x at %zu of %s, want %#x",
				      buf[i], i, what, want);
	return BC_OK;
}

/**
 * hold_take() - take a reference to a page, and keep it
 * @hold: receives it; a reference more if it was used before
 * @addr: the page
 *
 * Return: 0 or -errno.
 */
int hold_take(struct bc_hold *hold, const void *addr)
{
	struct iovec iov = {
		.iov_base = (void *)addr,
		.iov_len = bc_page_size(),
	};
	ssize_t n;

	if (!hold->pipe[1] && pipe(hold->pipe))
		return -errno;
	bc_waiting("vmsplice to return");
	n = vmsplice(hold->pipe[1], &iov, 1, 0);
	if (n < 0)
		return -errno;
	return n == (ssize_t)iov.iov_len ? 0 : -EIO;
}

/**
 * take() - hold_take(), where there has to be a page
 * @hold: receives the reference
 * @addr: the page
 *
 * Return: BC_OK, or BC_FAIL with the reason recorded.
 */
int take(struct bc_hold *hold, const void *addr)
{
	int err = hold_take(hold, addr);

	return err ? bc_why(BC_FAIL, "got %s from vmsplice, want a page",
			    strerror(-err)) : BC_OK;
}

/**
 * hold_same() - does a page that is held have the same byte everywhere
 * @hold: the reference, which is gone afterwards
 * @want: the byte
 * @what: for the reason
 *
 * Return: BC_OK, or BC_FAIL or BC_ERROR with the reason recorded.
 */
int hold_same(struct bc_hold *hold, unsigned char want, const char *what)
{
	unsigned char buf[4096];

	bc_waiting("the pipe to be read");
	if (read(hold->pipe[0], buf, sizeof(buf)) != sizeof(buf))
		return bc_why(BC_ERROR, "pipe: %s", strerror(errno));
	return bytes_same(buf, sizeof(buf), want, what);
}

/**
 * pfn_of() - which page another process has mapped
 * @pid: the process
 * @addr: the address
 *
 * Return: the page frame number, 0 if there is none.
 */
__u64 pfn_of(pid_t pid, const void *addr)
{
	__u64 entry = 0;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	bc_proc_read(path, &entry, sizeof(entry),
		     (uintptr_t)addr / bc_page_size() * sizeof(entry));
	return entry & BC_PM_PRESENT ? entry & BC_PM_PFN : 0;
}
