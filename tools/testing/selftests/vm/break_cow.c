// SPDX-License-Identifier: GPL-2.0
/*
 * Does a read-only GUP break copy-on-write where it has to, and only there?
 *
 * A table of promises times kinds of memory. Each case runs in a process of its
 * own and has a deadline: a read that never returns is a result as well. Run as
 * root: pagemap shows page frames to nobody else. BREAK_COW_DEADLINE sets the
 * seconds that a case may take.
 */
#include <stdio.h>
#include <string.h>

#include "break_cow_cases.h"

#define DEADLINE	10	/* seconds; emulated CPUs are slow */
#define KIND(k)		(1U << (k))

struct promise {
	const char *name;
	bc_fn fn;
	unsigned int kinds;	/* of memory, KIND() */
	bool shared;		/* with a child */
	bool ways;		/* each way to read, private and shared */
};

static const struct promise promises[] = {
	{ .name = "evict", .fn = case_evict, .ways = true,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) },
	{ .name = "leak", .fn = case_leak,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) | KIND(MEM_THP_PTE) |
		   KIND(MEM_HUGETLB) },
	{ .name = "older", .fn = case_older,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) | KIND(MEM_THP_PTE) |
		   KIND(MEM_SWAP) },
	{ .name = "own", .fn = case_own, .shared = true,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) | KIND(MEM_THP_PTE) |
		   KIND(MEM_HUGETLB) | KIND(MEM_SWAP) },
	{ .name = "own", .fn = case_own, .kinds = KIND(MEM_KSM) },
	{ .name = "coherent", .fn = case_coherent, .shared = true,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) | KIND(MEM_THP_PTE) |
		   KIND(MEM_HUGETLB) | KIND(MEM_SWAP) },
	{ .name = "coherent", .fn = case_coherent, .kinds = KIND(MEM_KSM) },
	{ .name = "pin, mprotect", .fn = case_pin_mprotect,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) | KIND(MEM_THP_PTE) },
	{ .name = "pin, uffd-wp", .fn = case_pin_uffd_wp,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) | KIND(MEM_THP_PTE) },
	{ .name = "read-only", .fn = case_prot, .shared = true,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) | KIND(MEM_HUGETLB) },
	{ .name = "soft-dirty", .fn = case_soft_dirty, .shared = true,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) },
	{ .name = "free", .fn = case_free,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) | KIND(MEM_ZERO) |
		   KIND(MEM_HUGE_ZERO) | KIND(MEM_FILE) },
	{ .name = "remote breaks", .fn = case_remote_breaks, .shared = true,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) },
	{ .name = "remote looks", .fn = case_remote_looks, .shared = true,
	  .kinds = KIND(MEM_4K) | KIND(MEM_THP) },
	{ .name = "no memory", .fn = case_no_memory, .shared = true,
	  .kinds = KIND(MEM_HUGETLB) },
};

/* The ways of section "evict"; umap_evictor knows more of them. */
static const char * const ways[] = {
	"direct", "vmsplice", "process_vm_readv", "proc_mem",
};

/* Run a case, or only count it. */
static unsigned int one(const struct promise *p, const struct bc_arg *arg,
			bool run)
{
	char name[80];

	if (!run)
		return 1;
	if (arg->way)
		snprintf(name, sizeof(name), "%s: %s %s %s", p->name,
			 arg->way->name, bc_kind_name[arg->kind],
			 arg->shared ? "shared" : "private");
	else
		snprintf(name, sizeof(name), "%s: %s", p->name,
			 bc_kind_name[arg->kind]);
	bc_case(name, p->fn, arg, DEADLINE);
	return 1;
}

static unsigned int all(bool run)
{
	unsigned int i, kind, w, n = 0;
	int shared;

	for (i = 0; i < ARRAY_SIZE(promises); i++) {
		const struct promise *p = &promises[i];

		for (kind = 0; kind < MEM_NR; kind++) {
			struct bc_arg arg = { .kind = kind, .shared = p->shared };

			if (!(p->kinds & KIND(kind)))
				continue;
			if (!p->ways) {
				n += one(p, &arg, run);
				continue;
			}
			for (w = 0; w < ARRAY_SIZE(ways); w++) {
				arg.way = bc_way(ways[w]);
				for (shared = 0; shared < 2; shared++) {
					arg.shared = shared;
					n += one(p, &arg, run);
				}
			}
		}
	}
	return n;
}

int main(void)
{
	bc_plan(all(false));
	all(true);
	return bc_exit();
}
