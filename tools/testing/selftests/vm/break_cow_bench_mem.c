// SPDX-License-Identifier: GPL-2.0
/* Memory in every state that break_cow_bench measures. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "break_cow_bench.h"

#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM	0x1000
#endif

/* More than an LRU batch of any kernel holds */
#define BATCH		64

const char * const size_name[SIZE_NR] = {
	[SIZE_4K]	= "4K",
	[SIZE_THP]	= "THP",
	[SIZE_HUGETLB]	= "hugetlb",
};

const char * const state_name[ST_NR] = {
	[ST_WRITABLE]	= "writable",
	[ST_UFFD_WP]	= "uffd-wp",
	[ST_MPROTECT]	= "mprotect",
	[ST_CHILD_GONE]	= "child exited",
	[ST_SHARED]	= "shared",
	[ST_UNTOUCHED]	= "untouched",
	[ST_ZERO]	= "zero page",
	[ST_FILE]	= "file",
	[ST_KSM]	= "KSM",
	[ST_SWAP_CACHE]	= "swap cache",
	[ST_SWAPPED_IN]	= "swapped in",
};

/* Addresses that begin where a huge page can; the rest is given back. */
static char *map_aligned(size_t len, int flags, int fd)
{
	char *map, *mem;

	map = mmap(NULL, len + BC_THP_SIZE, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		goto fail;
	mem = bc_thp_round_up(map);
	munmap(map, len + BC_THP_SIZE);
	mem = mmap(mem, len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	if (mem != MAP_FAILED)
		return mem;
fail:
	bc_why(BC_ERROR, "mmap of %zu bytes: %s", len, strerror(errno));
	return NULL;
}

/*
 * A page that is new sits in a batch of its CPU for a while, which has a reference to
 * it. As many new pages again, and it does no more.
 */
static int leave_batch(void)
{
	size_t len = BATCH * bc_page_size();
	char *mem = bc_alloc(len);

	if (!mem)
		return BC_ERROR;
	memset(mem, 1, len);
	munmap(mem, len);
	return BC_OK;
}

static int touch(struct area *a)
{
	size_t i;

	for (i = 0; i < a->len; i += bc_page_size())
		bc_load(a->mem + i);
	return BC_OK;
}

static int get_anon(struct area *a, bool untouched)
{
	switch (a->size) {
	case SIZE_4K:
		a->mem = map_aligned(a->len, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		if (a->mem)
			madvise(a->mem, a->len, MADV_NOHUGEPAGE);
		break;
	case SIZE_THP:
		if (untouched) {
			a->mem = map_aligned(a->len, MAP_PRIVATE | MAP_ANONYMOUS,
					     -1);
			if (a->mem && madvise(a->mem, a->len, MADV_HUGEPAGE))
				return bc_why(BC_SKIP, "MADV_HUGEPAGE: %s",
					      strerror(errno));
		} else {
			a->mem = bc_thp_alloc(a->nr);
		}
		break;
	default:
		a->mem = mmap(NULL, a->len, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
			      MAP_HUGE_2MB, -1, 0);
		if (a->mem == MAP_FAILED) {
			a->mem = NULL;
			return bc_why(BC_SKIP, "not %zu huge pages (nr_hugepages)",
				      a->nr);
		}
	}
	if (!a->mem)
		return bc_last();
	if (!untouched)
		memset(a->mem, 1, a->len);
	return BC_OK;
}

static int get_file(struct area *a)
{
	int fd = a->size == SIZE_4K ? bc_tmpfile(0) :
		memfd_create("break_cow_bench", 0);
	char *map;

	if (fd < 0 || ftruncate(fd, a->len))
		return bc_why(BC_SKIP, "no file: %s", strerror(errno));
	if (a->size == SIZE_THP)
		bc_knob("/sys/kernel/mm/transparent_hugepage/shmem_enabled",
			"advise");
	map = map_aligned(a->len, MAP_SHARED, fd);
	if (!map)
		return BC_ERROR;
	if (a->size == SIZE_THP)
		madvise(map, a->len, MADV_HUGEPAGE);
	memset(map, 1, a->len);
	munmap(map, a->len);
	a->mem = map_aligned(a->len, MAP_PRIVATE, fd);
	close(fd);
	if (!a->mem)
		return BC_ERROR;
	if (a->size == SIZE_THP)
		madvise(a->mem, a->len, MADV_HUGEPAGE);
	touch(a);
	if (a->size == SIZE_THP &&
	    bc_smaps_kb(a->mem, "ShmemPmdMapped") != (long)(a->len >> 10) &&
	    bc_smaps_kb(a->mem, "FilePmdMapped") != (long)(a->len >> 10))
		return bc_why(BC_SKIP, "no huge pages in tmpfs (shmem_enabled)");
	return BC_OK;
}

static bool all_pages(struct area *a, bool (*is)(struct area *a, size_t off))
{
	size_t off;

	for (off = 0; off < a->len; off += a->unit)
		if (!is(a, off))
			return false;
	return true;
}

static bool is_merged(struct area *a, size_t off)
{
	return bc_pfn(a->mem + off) == bc_pfn(a->mem);
}

static bool is_swapped(struct area *a, size_t off)
{
	return bc_pagemap(a->mem + off) & BC_PM_SWAP;
}

static int wait_all(struct area *a, bool (*is)(struct area *a, size_t off),
		    const char *what)
{
	unsigned int i;

	bc_waiting("%s", what);
	for (i = 0; i < 300; i++) {
		if (all_pages(a, is))
			return BC_OK;
		if (is == is_swapped)
			madvise(a->mem, a->len, MADV_PAGEOUT);
		usleep(10000);
	}
	return bc_why(BC_SKIP, "gave up waiting for %s", what);
}

static int all_merged(struct area *a)
{
	int ret;

	if (madvise(a->mem, a->len, MADV_MERGEABLE) || bc_ksm_start())
		return bc_why(BC_SKIP, "no KSM, or not root");
	ret = wait_all(a, is_merged, "a merge by ksmd");
	bc_ksm_stop();
	return ret;
}

static int swap_out(struct area *a, bool in)
{
	int ret = wait_all(a, is_swapped, "pages to be swapped out");

	if (ret)
		return ret;
	/* What is measured must not wait for a disk. */
	madvise(a->mem, a->len, MADV_WILLNEED);
	usleep(100000);
	return in ? touch(a) : BC_OK;
}

static int protect(struct area *a)
{
	int ret;

	a->uffd = bc_uffd_open(a->size == SIZE_HUGETLB ?
			       UFFD_FEATURE_WP_HUGETLBFS_SHMEM : 0);
	if (a->uffd < 0 && a->size == SIZE_HUGETLB)
		bc_why(BC_SKIP, "no write-protection of hugetlb (v5.19 has it)");
	if (a->uffd < 0)
		return BC_SKIP;
	ret = bc_uffd_register(a->uffd, a->mem, a->len,
			       UFFDIO_REGISTER_MODE_WP);
	if (!ret)
		ret = bc_uffd_wp(a->uffd, a->mem, a->len, true);
	return ret ? bc_why(BC_ERROR, "userfaultfd: %s", strerror(-ret)) : BC_OK;
}

static int share(struct area *a, bool gone)
{
	a->child = bc_fork_idle(-1);
	if (a->child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	/* until it is idle */
	usleep(20000);
	if (gone) {
		bc_reap(a->child);
		a->child = 0;
	}
	return BC_OK;
}

/**
 * area_get() - memory in a state
 * @state: the state
 * @size: of its pages
 * @nr: number of pages of that size
 * @a: receives it
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int area_get(enum bench_state state, enum bench_size size, size_t nr,
	     struct area *a)
{
	int ret;

	*a = (struct area) {
		.unit = size == SIZE_4K ? bc_page_size() : BC_THP_SIZE,
		.nr = nr, .size = size, .uffd = -1,
	};
	a->len = a->unit * nr;
	if (state == ST_FILE)
		ret = get_file(a);
	else
		ret = get_anon(a, state == ST_UNTOUCHED || state == ST_ZERO);
	if (!ret)
		ret = leave_batch();
	if (ret)
		return ret;
	switch (state) {
	case ST_UFFD_WP:
		return protect(a);
	case ST_MPROTECT:
		if (mprotect(a->mem, a->len, PROT_READ) ||
		    mprotect(a->mem, a->len, PROT_READ | PROT_WRITE))
			return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
		return BC_OK;
	case ST_CHILD_GONE:
	case ST_SHARED:
		return share(a, state == ST_CHILD_GONE);
	case ST_ZERO:
		return touch(a);
	case ST_KSM:
		return all_merged(a);
	case ST_SWAP_CACHE:
	case ST_SWAPPED_IN:
		return swap_out(a, state == ST_SWAPPED_IN);
	default:
		return BC_OK;
	}
}

/**
 * area_put() - let go of memory
 * @a: the memory, of which area_get() may have failed
 */
void area_put(struct area *a)
{
	bc_reap(a->child);
	if (a->uffd >= 0)
		close(a->uffd);
	if (a->mem)
		munmap(a->mem, a->len);
}
