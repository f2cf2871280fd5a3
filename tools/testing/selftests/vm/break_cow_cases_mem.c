// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of every kind, and references to it, for the cases of break_cow.
 * All memory starts out with the byte OLD in it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "break_cow_cases.h"

#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB	(30 << 26)
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB	(21U << 26)
#endif

#define GIGA		(1024UL << 20)

const char * const bc_kind_name[MEM_NR] = {
	[MEM_4K]	= "4K",
	[MEM_THP]	= "THP",
	[MEM_THP_PTE]	= "THP by pte",
	[MEM_HUGETLB]	= "hugetlb",
	[MEM_HUGETLB_1G] = "hugetlb 1G",
	[MEM_THP_ONE]	= "one pte of THP",
	[MEM_THP_MOVED]	= "THP partly moved",
	[MEM_THP_PART]	= "THP partly shared",
	[MEM_SWAP]	= "swap",
	[MEM_SWAP_OUT]	= "swapped out",
	[MEM_SWAP_IN]	= "swapped in",
	[MEM_KSM]	= "KSM",
	[MEM_ZERO]	= "zero page",
	[MEM_HUGE_ZERO]	= "huge zero page",
	[MEM_FILE]	= "file",
	[MEM_FILE_THP]	= "file THP",
	[MEM_FILE_HUGE]	= "hugetlb file",
	[MEM_DAX]	= "DAX",
	[MEM_DAX_HUGE]	= "huge DAX",
};

/**
 * mem_there() - are there cases of this kind of memory
 * @kind: the kind
 *
 * A page of 1 GiB is nothing to be had by asking: it is set aside at boot.
 *
 * Return: false if none are to be run.
 */
bool mem_there(enum bc_kind kind)
{
	char n = '0';

	if (kind != MEM_HUGETLB_1G)
		return true;
	bc_proc_read("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
		     &n, 1, 0);
	return n != '0';
}

/**
 * mem_set() - store to all memory, or of 1 GiB to what the cases look at
 * @mem: the memory
 * @c: the byte
 */
void mem_set(struct bc_mem *mem, char c)
{
	size_t page = bc_page_size();

	if (mem->len < GIGA) {
		memset(mem->addr, c, mem->len);
		return;
	}
	memset(mem->addr, c, page);
	memset(mem_middle(mem), c, page);
}

/**
 * mem_wait() - wait for something to happen to memory
 * @mem: the memory
 * @done: has it?
 * @what: for the reason, if it does not
 *
 * Return: BC_OK, or BC_ERROR with the reason recorded.
 */
int mem_wait(struct bc_mem *mem, bool (*done)(struct bc_mem *mem),
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

/**
 * mem_pageout() - have memory reclaimed, on each CPU
 * @mem: the memory
 *
 * A page in the batch of a CPU, on the way to an LRU list, is not reclaimed, and has
 * one reference more. madvise() empties that of its own CPU alone.
 *
 * Return: 0, or what madvise() returned last, with errno set.
 */
int mem_pageout(const struct bc_mem *mem)
{
	cpu_set_t all, one;
	int cpu, ret = 0;

	/* On more CPUs than the set has room for, this one has to do. */
	if (sched_getaffinity(0, sizeof(all), &all))
		return madvise(mem->addr, mem->len, MADV_PAGEOUT);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		ret = madvise(mem->addr, mem->len, MADV_PAGEOUT);
	}
	sched_setaffinity(0, sizeof(all), &all);
	return ret;
}

static bool swapped_out(struct bc_mem *mem)
{
	mem_pageout(mem);
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
	return mem_wait(mem, swapped_out, "the page to be swapped out");
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

/* Nobody has it but us: in swap, or back again and neither dirty nor writable. */
static int get_swapped(struct bc_mem *mem, bool in)
{
	int ret = mem_swap_out(mem);

	if (!ret && in && bc_load(mem->addr) != OLD)
		return bc_why(BC_ERROR, "swap lost the page");
	return ret;
}

static bool kind_is_thp(enum bc_kind kind)
{
	return kind >= MEM_THP && kind <= MEM_THP_PART;
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

/**
 * mem_thp_addr() - addresses for two huge pages
 *
 * Return: the first one, aligned, with nothing there yet that could be of use, or NULL.
 */
char *mem_thp_addr(void)
{
	char *p = mmap(NULL, 3 * BC_THP_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : bc_thp_round_up(p);
}

/* Huge, aligned, and not touched. */
static void *thp_untouched(void)
{
	char *p = mem_thp_addr();

	return p && !madvise(p, BC_THP_SIZE, MADV_HUGEPAGE) ? p : NULL;
}

/*
 * Page cache that is huge, in a private mapping. What it holds is stored through
 * a shared mapping, which stays, just before the private one.
 */
static int get_file_huge(struct bc_mem *mem, bool hugetlb)
{
	const char *what = hugetlb ? "2 MiB huge page (nr_hugepages)" :
				     "huge pages in tmpfs (shmem_enabled)";
	int fd, prot = PROT_READ | PROT_WRITE;
	char *p = mem_thp_addr();

	mem->len = BC_THP_SIZE;
	if (!p)
		return bc_why(BC_ERROR, "mmap: %s", strerror(errno));
	if (!hugetlb)
		bc_knob("/sys/kernel/mm/transparent_hugepage/shmem_enabled",
			"advise");
	fd = memfd_create("break_cow", hugetlb ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
	if (fd < 0 || ftruncate(fd, mem->len) ||
	    mmap(p, mem->len, prot, MAP_SHARED | MAP_FIXED, fd, 0) != p)
		return bc_why(BC_SKIP, "no %s", what);
	if (!hugetlb)
		madvise(p, mem->len, MADV_HUGEPAGE);
	memset(p, OLD, mem->len);
	p += mem->len;
	if (mmap(p, mem->len, prot, MAP_PRIVATE | MAP_FIXED, fd, 0) != p)
		return bc_why(BC_SKIP, "no %s", what);
	close(fd);
	mem->addr = p;
	if (bc_load(p) != OLD)
		return bc_why(BC_ERROR, "the file has other bytes");
	if (!(bc_kpageflags(p) & (hugetlb ? BC_KPF_HUGE : BC_KPF_THP)))
		return bc_why(BC_SKIP, "no %s", what);
	if (!hugetlb && bc_smaps_kb(p, "ShmemPmdMapped") != 2048 &&
	    bc_smaps_kb(p, "FilePmdMapped") != 2048)
		return bc_why(BC_SKIP, "no %s", what);
	return BC_OK;
}

static void *hugetlb_map(size_t len, bool giga)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
		    (giga ? MAP_HUGE_1GB : MAP_HUGE_2MB), -1, 0);
}

static int get_hugetlb(struct bc_mem *mem, bool giga)
{
	mem->len = giga ? GIGA : BC_THP_SIZE;
	mem->addr = hugetlb_map(mem->len, giga);
	if (mem->addr == MAP_FAILED)
		return bc_why(BC_SKIP, "no %s huge page (nr_hugepages)",
			      giga ? "1 GiB" : "2 MiB");
	mem_set(mem, OLD);
	return BC_OK;
}

/*
 * What an earlier case had registered with io_uring is in use for a while after that
 * case has ended. It would come free when all are thought to be used up: wait for it.
 */
static void wait_late(const char *dir)
{
	char all[96], unused[96];
	double end = bc_now() + 3;

	snprintf(all, sizeof(all), "%s/nr_hugepages", dir);
	snprintf(unused, sizeof(unused), "%s/free_hugepages", dir);
	/* The case has one itself. */
	while (bc_proc_get(all) - bc_proc_get(unused) > 1 && bc_now() < end) {
		bc_beat();
		usleep(10000);
	}
}

/**
 * mem_use_up() - reserve all huge pages that there are, until the case ends
 * @kind: MEM_HUGETLB or MEM_HUGETLB_1G
 * @all: receives them, nothing if there are none; a child has none of it
 *
 * Return: BC_OK, or BC_ERROR with the reason recorded.
 */
int mem_use_up(enum bc_kind kind, struct bc_mem *all)
{
	bool giga = kind == MEM_HUGETLB_1G;
	size_t size = giga ? GIGA : BC_THP_SIZE;
	char dir[64], path[96];
	long n;

	snprintf(dir, sizeof(dir), "/sys/kernel/mm/hugepages/hugepages-%zukB",
		 size >> 10);
	wait_late(dir);
	n = bc_hugetlb_left(size >> 10);
	/* The machine may not make more of them. */
	snprintf(path, sizeof(path), "%s/nr_overcommit_hugepages", dir);
	bc_knob(path, "0");
	*all = (struct bc_mem) { .len = n * size };
	if (!all->len)
		return BC_OK;
	all->addr = hugetlb_map(all->len, giga);
	if (all->addr == MAP_FAILED || madvise(all->addr, all->len, MADV_DONTFORK))
		return bc_why(BC_ERROR, "the other %ld huge pages: %s", n,
			      strerror(errno));
	return BC_OK;
}

/*
 * What is left of a huge page when parts of it are unmapped, or moved to another
 * address, or not shared as the rest is. It stays one page, mapped by ptes.
 */
static int get_thp_part(enum bc_kind kind, struct bc_mem *mem)
{
	size_t page = bc_page_size(), half = mem->len / 2;
	char *rest = mem->addr + half;
	char *to;

	switch (kind) {
	case MEM_THP_ONE:
		mem->addr = mem_middle(mem);
		mem->len = page;
		munmap(rest - half, half);
		munmap(rest + page, half - page);
		break;
	case MEM_THP_MOVED:
		to = mem_thp_addr();
		if (!to || mremap(rest, half, half, MREMAP_MAYMOVE |
				  MREMAP_FIXED, to) != to)
			return bc_why(BC_ERROR, "mremap: %s", strerror(errno));
		mem->len = half;
		break;
	default:
		if (madvise(mem->addr, half, MADV_DONTFORK))
			return bc_why(BC_ERROR, "madvise: %s", strerror(errno));
		mem->len = half;
		return mem_share(mem, -1);
	}
	return BC_OK;
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
	case MEM_FILE_THP:
	case MEM_FILE_HUGE:
		return get_file_huge(mem, kind == MEM_FILE_HUGE);
	case MEM_DAX:
		return mem_get_dax(mem, NULL, false);
	case MEM_DAX_HUGE:
		return mem_get_dax(mem, mem_thp_addr(), true);
	case MEM_THP:
	case MEM_THP_PTE:
	case MEM_THP_ONE:
	case MEM_THP_MOVED:
	case MEM_THP_PART:
		mem->len = BC_THP_SIZE;
		mem->addr = bc_thp_alloc(1);
		if (!mem->addr)
			return bc_last();
		break;
	case MEM_HUGE_ZERO:
		mem->len = BC_THP_SIZE;
		mem->addr = thp_untouched();
		if (!mem->addr)
			return bc_why(BC_SKIP, "no huge pages");
		return get_zero(mem, true);
	case MEM_HUGETLB:
	case MEM_HUGETLB_1G:
		return get_hugetlb(mem, kind == MEM_HUGETLB_1G);
	default:
		/* one to use, or all, or two to merge */
		mem->addr = bc_alloc(MEM_PAGES * page);
		if (!mem->addr)
			return BC_ERROR;
	}

	if (kind == MEM_ZERO)
		return get_zero(mem, false);
	memset(mem->addr, OLD, mem->len);
	if (kind == MEM_KSM) {
		memset(mem->addr + mem->len, OLD, mem->len);
		return ksm_merge(mem);
	}
	if (kind == MEM_SWAP)
		return get_swap(mem);
	if (kind == MEM_SWAP_OUT || kind == MEM_SWAP_IN)
		return get_swapped(mem, kind == MEM_SWAP_IN);
	if (!kind_is_thp(kind))
		return BC_OK;
	if (!bc_is_thp(mem->addr, mem->len))
		return bc_why(BC_ERROR, "not a huge page");
	if (kind == MEM_THP)
		return BC_OK;
	/* The pmd is split, the page is not. */
	if (mprotect(mem->addr, page, PROT_READ) ||
	    mprotect(mem->addr, page, PROT_READ | PROT_WRITE))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	return kind == MEM_THP_PTE ? BC_OK : get_thp_part(kind, mem);
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
 * mem_protect_with() - write-protect all of it, so that no entry is writable
 * @mem: the memory
 * @uffd: receives the userfaultfd that can end it
 * @features: what it is to be told besides, UFFD_FEATURE_EVENT_FORK and the like
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int mem_protect_with(struct bc_mem *mem, int *uffd, __u64 features)
{
	*uffd = bc_uffd_open(features);
	if (*uffd < 0)
		return BC_SKIP;
	if (bc_uffd_register(*uffd, mem->addr, mem->len, UFFDIO_REGISTER_MODE_WP) ||
	    bc_uffd_wp(*uffd, mem->addr, mem->len, true))
		return BC_ERROR;
	return BC_OK;
}

/**
 * mem_protect() - the same, with nothing besides
 * @mem: the memory
 * @uffd: receives the userfaultfd that can end it
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int mem_protect(struct bc_mem *mem, int *uffd)
{
	return mem_protect_with(mem, uffd, 0);
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
