// SPDX-License-Identifier: GPL-2.0
/*
 * Does a read-only GUP break copy-on-write where it has to, and only there?
 *
 * Tables of promises times kinds of memory times holders of references, one of
 * them here and others beside what they test. Each case runs in a process of its
 * own and has a deadline: a read that never returns is a result as well. Run as
 * root: pagemap shows page frames to nobody else. BREAK_COW_DEADLINE sets the
 * seconds that a case may take, BREAK_COW_ONLY names the promises to test, all of
 * them otherwise ("evict;own, long term"), BREAK_COW_DESTRUCTIVE allows what costs
 * the machine a page. Pages of 1 GiB are tested if the kernel was booted with some
 * (hugepagesz=1G hugepages=3).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "break_cow_cases.h"

#define DEADLINE	10	/* seconds; emulated CPUs are slow */
#define DEADLINE_1G	60	/* they clear and copy 1 GiB several times */

static const struct promise promises[] = {
	PROMISE("evict", case_evict, SINGLE | KIND(MEM_THP), NOBODY, .ways = true),
	PROMISE("leak", case_leak, SINGLE | HUGE_PAGE | HUGETLB, SHORT | LONG),
	PROMISE("older", case_older,
		SINGLE | HUGE_PAGE | HUGETLB | KIND(MEM_SWAP), PLAIN),
	PROMISE("older, child gone", case_older, HUGETLB, BY(VMSPLICE),
		.act = act_lone_empty),
	PROMISE("older, child beside", case_older, HUGETLB, BY(VMSPLICE),
		.act = act_fork_empty),
	PROMISE("older, child's child", case_older_child, HUGETLB, BY(VMSPLICE)),
	PROMISE("looked at, fork", case_looks_fork, HUGETLB, BY(LOOK)),
	PROMISE("looked at, fork after exec", case_looks_exec, HUGETLB, BY(LOOK)),
	PROMISE("own", case_own, SINGLE | HUGE_PAGE | HUGETLB | KIND(MEM_SWAP),
		SHORT | LONG, .shared = true),
	PROMISE("own", case_own, KIND(MEM_KSM), SHORT | LONG),
	PROMISE("own, long term", case_own, CACHE, LONG),
	PROMISE("coherent", case_coherent,
		SINGLE | HUGE_PAGE | HUGETLB | KIND(MEM_SWAP), SHORT | LONG,
		.shared = true),
	PROMISE("coherent", case_coherent, KIND(MEM_KSM), SHORT | LONG),
	PROMISE("coherent, long term", case_coherent, ZERO | CACHE, LONG),
	PROMISE("coherent, beside a shared mapping", case_beside_shared,
		KIND(MEM_FILE_THP) | KIND(MEM_FILE_HUGE), LONG),
	PROMISE("pin, mprotect", case_pin, SINGLE | HUGE_PAGE | PARTS, PINS,
		.act = act_mprotect),
	PROMISE("pin, uffd-wp", case_pin, SINGLE | HUGE_PAGE | PARTS, PINS,
		.act = act_uffd_wp),
	PROMISE("pin, clear_refs", case_pin, KIND(MEM_THP), PINS, .act = act_clear_refs),
	PROMISE("pin, fork", case_pin, SINGLE | HUGE_PAGE | HUGETLB, PINS, .act = act_fork),
	PROMISE("pin, pageout and fork", case_pin, KIND(MEM_SWAP_IN), READ_PINS,
		.act = act_pageout_fork),
	PROMISE("pin, KSM", case_pin, KIND(MEM_SWAP_IN), READ_PINS, .act = act_ksm),
	PROMISE("read-only", case_prot, SINGLE | KIND(MEM_THP) | HUGETLB, SOME,
		.shared = true),
	PROMISE("read-only", case_prot, CACHE, BY(PIN_LONG_FAST)),
	PROMISE("read-only, fork", case_prot_fork, HUGETLB, SOME),
	PROMISE("no access", case_no_access, SINGLE | KIND(MEM_THP) | HUGETLB, NOBODY,
		.shared = true),
	PROMISE("soft-dirty", case_soft_dirty, SINGLE | KIND(MEM_THP), SOME,
		.shared = true),
	PROMISE("free", case_free, SINGLE | KIND(MEM_THP), SHORT | LONG),
	PROMISE("free", case_free, KIND(MEM_THP_PTE) | PARTS, SOME),
	PROMISE("free", case_free, ZERO | CACHE | DAX, SHORT),
	PROMISE("fast only", case_fast_only,
		SINGLE | KIND(MEM_THP) | HUGETLB | KIND(MEM_SWAP), NOBODY,
		.shared = true),
	PROMISE("fast only, own", case_fast_own, SINGLE | KIND(MEM_THP), NOBODY),
	PROMISE("fast only, own again", case_fast_own, SINGLE, NOBODY, .shared = true),
	PROMISE("remote breaks", case_remote_breaks, SINGLE | KIND(MEM_THP),
		NOBODY, .shared = true),
	PROMISE("remote looks", case_remote_looks, SINGLE | KIND(MEM_THP),
		NOBODY, .shared = true),
	PROMISE("remote leaves", case_remote_leaves, CACHE | DAX, NOBODY),
	PROMISE("looks", case_looks_ksm, KIND(MEM_KSM), NOBODY),
	PROMISE("merge, uffd-wp", case_merge_uffd_wp,
		KIND(MEM_KSM) | KIND(MEM_ZERO), NOBODY),
	PROMISE("merge, soft-dirty", case_merge_soft_dirty,
		KIND(MEM_KSM) | KIND(MEM_ZERO), NOBODY),
	PROMISE("unmerge, uffd-wp", case_unmerge, KIND(MEM_KSM), NOBODY),
	PROMISE("no memory", case_no_memory, HUGETLB, SOME, .shared = true),
	PROMISE("no memory, fork", case_no_memory_fork, HUGETLB,
		BY(VMSPLICE) | PINS),
	PROMISE("fork", case_fork, HUGETLB_1G, NOBODY),
	PROMISE("leak", case_leak, HUGETLB_1G, SOME),
	PROMISE("older", case_older, HUGETLB_1G, BY(VMSPLICE)),
	PROMISE("own", case_own, HUGETLB_1G, SOME, .shared = true),
	PROMISE("coherent", case_coherent, HUGETLB_1G, SOME, .shared = true),
	PROMISE("pin, fork", case_pin, HUGETLB_1G, READ_PINS, .act = act_fork),
	PROMISE("read-only", case_prot, HUGETLB_1G, BY(PIN), .shared = true),
	PROMISE("no memory", case_no_memory, HUGETLB_1G, READ_PINS, .shared = true),
	PROMISE("no memory, fork", case_no_memory_fork, HUGETLB_1G, READ_PINS),
};

PROMISES(promises)

/*
 * What some kernels do not do, with this series or without. It is a known limit
 * there, and to fail is expected.
 */
struct limit {
	const char *promise;
	unsigned int kinds;	/* of memory, KIND() */
	unsigned int from[2], before[2];	/* versions, major and minor */
	const char *why;
};

#define NEVER	{ ~0U, 0 }
#define BY_COUNT "do_wp_page() copies a page that has a plain reference"
#define NO_COUNT "the kernel's own FAULT_FLAG_UNSHARE is not counted"

static const struct limit limits[] = {
	{ "pin, fork", SINGLE | HUGE_PAGE, { 0, 0 }, { 5, 9 },
	  "fork() shares pinned pages before v5.9" },
	{ "pin, pageout and fork", KIND(MEM_SWAP_IN), { 0, 0 }, { 5, 9 },
	  "fork() shares pinned pages before v5.9" },
	{ "fill, mprotect", SINGLE, { 5, 9 }, { 5, 19 }, BY_COUNT },
	{ "fill, uffd-wp", SINGLE, { 5, 9 }, { 5, 19 }, BY_COUNT },
	{ "fill, clear_refs", SINGLE, { 5, 9 }, { 5, 19 }, BY_COUNT },
	{ "fill, pageout and load", SINGLE, { 5, 9 }, { 5, 19 }, BY_COUNT },
	{ "race, fork", SINGLE | KIND(MEM_THP), { 0, 0 }, { 5, 9 },
	  "fork() shares pinned pages before v5.9" },
	{ "looks, core dump", ~0U, { 5, 19 }, NEVER, NO_COUNT },
	{ "looks, uprobe", ~0U, { 5, 19 }, NEVER, NO_COUNT },
	{ "counted", ~0U, { 5, 19 }, NEVER, NO_COUNT },
	{ "counted, own", ~0U, { 5, 19 }, NEVER, NO_COUNT },
	{ "counted, fork", ~0U, { 5, 19 }, NEVER, NO_COUNT },
	{ "traced", ~0U, { 5, 19 }, NEVER, NO_COUNT },
	{ "fast only, own again", SINGLE, { 5, 19 }, NEVER,
	  "fork() takes PageAnonExclusive away, and a fault brings it back" },
	/* Bugs of their own in mainline, which the series for it leaves alone */
	{ "mremap, soft-dirty", KIND(MEM_THP_PTE), { 5, 19 }, NEVER,
	  "move_normal_pmd() marks nothing soft-dirty" },
	{ "mremap and split, soft-dirty", KIND(MEM_HUGE_ZERO), { 5, 19 }, NEVER,
	  "__split_huge_zero_page_pmd() forgets the bit" },
	{ "while it migrates, soft-dirty", SINGLE | KIND(MEM_THP), { 5, 19 }, NEVER,
	  "clear_refs leaves a migration entry one for writing" },
	/* Where pte_mkdirty() does both: see __split_huge_pmd_locked() */
	{ "soft-dirty", KIND(MEM_THP), { 6, 1 }, NEVER,
	  "the split of a dirty pmd makes all of it soft-dirty" },
};

static const char *limit_of(const struct promise *p, enum bc_kind kind)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(limits); i++)
		if (!strcmp(limits[i].promise, p->name) &&
		    (limits[i].kinds & KIND(kind)) &&
		    !bc_kernel_before(limits[i].from[0], limits[i].from[1]) &&
		    bc_kernel_before(limits[i].before[0], limits[i].before[1]))
			return limits[i].why;
	return NULL;
}

/* A case that meets a known limit. */
static int with_limit(const void *p)
{
	const struct bc_arg *arg = p;
	int ret = arg->fn(arg);

	return ret == BC_FAIL ? bc_why(BC_XFAIL, "%s", arg->limit) : ret;
}

/* The ways of section "evict"; umap_evictor knows more of them. */
static const char * const ways[] = {
	"direct", "vmsplice", "process_vm_readv", "proc_mem",
};

/* Run a case, or only count it. */
static unsigned int one(const struct promise *p, const struct bc_arg *arg,
			bool run)
{
	const char *kind = bc_kind_name[arg->kind];
	char name[80];

	if (!run)
		return 1;
	/* From here on, in place of the environment's too. */
	if (arg->kind == MEM_HUGETLB_1G)
		bc_deadline(DEADLINE_1G);
	if (arg->way)
		snprintf(name, sizeof(name), "%s: %s %s %s", p->name,
			 arg->way->name, kind,
			 arg->shared ? "shared" : "private");
	else if (arg->by && arg->by->name)
		snprintf(name, sizeof(name), "%s: %s, %s", p->name, kind,
			 arg->by->name);
	else
		snprintf(name, sizeof(name), "%s: %s", p->name, kind);
	bc_case(name, arg->limit ? with_limit : p->fn, arg, DEADLINE);
	return 1;
}

/* All cases of a promise and a kind of memory. */
static unsigned int of_kind(const struct promise *p, enum bc_kind kind, bool run)
{
	struct bc_arg arg = {
		.kind = kind, .shared = p->shared, .act = p->act, .beside = p->beside,
		.fn = p->fn, .limit = limit_of(p, kind),
	};
	unsigned int i, n = 0;

	for (i = 0; p->ways && i < 2 * ARRAY_SIZE(ways); i++) {
		arg.way = bc_way(ways[i / 2]);
		arg.shared = i % 2;
		n += one(p, &arg, run);
	}
	for (i = 0; i < BC_NR_HOLDERS; i++) {
		if (!(p->by & (1U << i)) || !holder_there(i))
			continue;
		arg.by = &bc_holders[i];
		n += one(p, &arg, run);
	}
	return n ? n : one(p, &arg, run);
}

/* The tables of all files, in the order of the link */
static struct {
	const struct promise *first;
	unsigned int n;
} tables[16];
static unsigned int nr_tables;

/**
 * promises_add() - run a table of promises, too
 * @table: the first of them
 * @n: how many there are
 *
 * Called before main().
 */
void promises_add(const struct promise *table, unsigned int n)
{
	if (nr_tables == ARRAY_SIZE(tables))
		abort();
	tables[nr_tables].first = table;
	tables[nr_tables++].n = n;
}

/* The names in BREAK_COW_ONLY; all promises are wanted if there are none. */
static const char *only[128];
static unsigned int nr_only;

static bool wanted(const struct promise *p)
{
	unsigned int i;

	for (i = 0; i < nr_only; i++)
		if (!strcmp(only[i], p->name))
			return true;
	return !nr_only;
}

static bool is_promise(const char *name)
{
	unsigned int t, i;

	for (t = 0; t < nr_tables; t++)
		for (i = 0; i < tables[t].n; i++)
			if (!strcmp(tables[t].first[i].name, name))
				return true;
	return false;
}

/* Returns false, and says so, if one of the names is no promise's. */
static bool read_only_these(char *names)
{
	char *name;

	for (name = strtok(names, ";"); name; name = strtok(NULL, ";")) {
		if (!is_promise(name) || nr_only == ARRAY_SIZE(only)) {
			fprintf(stderr,
				"BREAK_COW_ONLY: no promise '%s'; cases are PROMISE: MEMORY\n",
				name);
			return false;
		}
		only[nr_only++] = name;
	}
	return true;
}

/* All cases, but only with these kinds of memory. */
static unsigned int all(unsigned int kinds, bool run)
{
	unsigned int t, i, kind, n = 0;

	for (t = 0; t < nr_tables; t++) {
		for (i = 0; i < tables[t].n; i++) {
			const struct promise *p = &tables[t].first[i];

			if (!wanted(p))
				continue;
			for (kind = 0; kind < MEM_NR; kind++)
				if ((p->kinds & kinds & KIND(kind)) && mem_there(kind))
					n += of_kind(p, kind, run);
		}
	}
	return n;
}

int main(int argc, char **argv)
{
	char *names = getenv("BREAK_COW_ONLY");

	if (argc > 1 && !strcmp(argv[1], AFTER_EXEC))
		return after_exec();
	if (names && !read_only_these(names))
		return 1;
	if (!bc_pfn(&nr_only))
		bc_skip_all("pagemap shows no page frames; run as root (CAP_SYS_ADMIN)");
	bc_hugetlb_pool();
	bc_plan(all(~0U, false));
	/* What takes longer comes last: see one(). */
	all(~HUGETLB_1G, true);
	all(HUGETLB_1G, true);
	return bc_exit();
}
