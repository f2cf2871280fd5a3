// SPDX-License-Identifier: GPL-2.0
/*
 * KSM, for the cases of break_cow: who has a page merged, or has it no longer,
 * stores nothing and takes no bit away.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "break_cow_cases.h"

#define KSM	"/sys/kernel/mm/ksm/"

static long ksm_get(const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), KSM "%s", file);
	return bc_proc_get(path);
}

static bool merged(struct bc_mem *mem)
{
	return bc_kpageflags(mem->addr) & BC_KPF_KSM &&
		bc_pfn(mem->addr) == bc_pfn(mem->addr + mem->len);
}

static bool merged_zero(struct bc_mem *mem)
{
	return bc_kpageflags(mem->addr) & BC_KPF_ZERO;
}

/**
 * ksm_merge() - have two equal pages merged, or all zeroes with the zero page
 * @mem: the memory, one page; the other one follows it
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int ksm_merge(struct bc_mem *mem)
{
	bool zero = !bc_load(mem->addr);
	int ret;

	if (zero && bc_knob(KSM "use_zero_pages", "1"))
		return bc_why(BC_SKIP, "no use_zero_pages in KSM");
	if (madvise(mem->addr, 2 * mem->len, MADV_MERGEABLE))
		return bc_why(BC_SKIP, "no KSM: %s", strerror(errno));
	if (bc_ksm_start())
		return bc_why(BC_SKIP, "cannot start ksmd (root?)");
	ret = mem_wait(mem, zero ? merged_zero : merged, "a merge by ksmd");
	bc_ksm_stop();
	if (zero)
		bc_knob(KSM "use_zero_pages", "0");
	return ret;
}

/* There is another page like it, and ksmd looks at both, more than once. */
int act_ksm(struct bc_mem *mem)
{
	char *twin = bc_alloc(bc_page_size());
	unsigned int i;
	long scans;

	if (!twin)
		return BC_ERROR;
	memset(twin, OLD, mem->len);
	if (madvise(mem->addr, mem->len, MADV_MERGEABLE) ||
	    madvise(twin, mem->len, MADV_MERGEABLE))
		return bc_why(BC_SKIP, "no KSM: %s", strerror(errno));
	scans = ksm_get("full_scans");
	if (bc_ksm_start())
		return bc_why(BC_SKIP, "cannot start ksmd (root?)");
	for (i = 0; i < 500 && ksm_get("full_scans") < scans + 3; i++)
		usleep(10000);
	bc_ksm_stop();
	return i < 500 ? BC_OK : bc_why(BC_ERROR, "gave up waiting for ksmd");
}

/* Two equal pages, not merged yet; of zeroes for MEM_ZERO */
static int get_equal(enum bc_kind kind, struct bc_mem *mem)
{
	int ret = mem_get(MEM_4K, mem);

	if (!ret)
		memset(mem->addr, kind == MEM_ZERO ? 0 : OLD, 2 * mem->len);
	return ret;
}

/* What is write-protected when it merges is so afterwards. */
int case_merge_uffd_wp(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	int ret;

	ret = get_equal(arg->kind, &mem);
	return ret ? ret : mem_keeps_wp(&mem, ksm_merge);
}

/* What is soft-dirty when it merges is so afterwards. */
int case_merge_soft_dirty(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	int ret;

	ret = get_equal(arg->kind, &mem);
	if (ret)
		return ret;
	/* The VMA may be split now, and not when it has been cleared. */
	if (madvise(mem.addr, 2 * mem.len, MADV_MERGEABLE))
		return bc_why(BC_SKIP, "no KSM: %s", strerror(errno));
	return mem_keeps_soft_dirty(&mem, ksm_merge);
}

/*
 * MADV_UNMERGEABLE, and it is no longer merged. While the other half still maps the
 * KSM page, this is copied; not every kernel tells which pages are KSM's.
 */
static int unmerge(struct bc_mem *mem)
{
	const __u64 before = bc_pfn(mem->addr);

	bc_waiting("MADV_UNMERGEABLE");
	if (madvise(mem->addr, 2 * mem->len, MADV_UNMERGEABLE))
		return bc_why(BC_FAIL, "got %s, want it unmerged",
			      strerror(errno));
	if (bc_is_ksm(mem->addr) || bc_pfn(mem->addr) == before)
		return bc_why(BC_FAIL, "got a KSM page, want it unmerged");
	return BC_OK;
}

/* MADV_UNMERGEABLE unmerges what is write-protected, and leaves it so. */
int case_unmerge(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	int ret;

	ret = mem_get(arg->kind, &mem);
	return ret ? ret : mem_keeps_wp(&mem, unmerge);
}

/* Who only looks, as KVM does for a guest, leaves what is merged so. */
int case_looks_ksm(const void *p)
{
	const struct bc_arg *arg = p;
	unsigned char c = 0;
	struct bc_mem mem;
	long sharing;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	sharing = ksm_get("pages_sharing");
	if (bc_proc_read("/proc/self/mem", &c, 1, (uintptr_t)mem.addr) != 1)
		return bc_why(BC_ERROR, "cannot read /proc/self/mem");
	if (c != OLD)
		return bc_why(BC_FAIL, "got %#x, want %#x", c, OLD);
	if (ksm_get("pages_sharing") != sharing || !merged(&mem))
		return bc_why(BC_FAIL, "got pages_sharing %ld, want %ld",
			      ksm_get("pages_sharing"), sharing);
	return BC_OK;
}
