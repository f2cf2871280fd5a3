// SPDX-License-Identifier: GPL-2.0
/*
 * What does a read-only GUP cost, where it has to break copy-on-write and where
 * it has not, and what do write faults and fork() cost beside it?
 *
 * Each line of results is a diagnostic line of TAP, separated by tabs:
 *
 *	# bench  CASE  WAY  SIZE  MEASURE  MEDIAN  LEAST  MOST
 *
 * CASE is the state of the memory, SIZE that of its pages, WAY what is done to it.
 * Measures are
 *
 *	cost	of one small page more (of one page more, where the way is to
 *		store): the difference of two calls, of a few pages and of many
 *	call	of one call for a single page, when that page was taken before
 *	first	the same, when it was not
 *	faults	that the process took for a page: from getrusage(), which counts
 *		what GUP handles as well, but not the attempts that were retried
 *	copies	of a page: how often there is another page frame behind the same
 *		address, and another anonymous page, afterwards
 *	new	small pages allocated for a page: the same, where there was nothing
 *		or the zero page or page cache
 *	splits	of a huge page that was mapped by a PMD
 *
 * The last four are counted, page by page, not estimated. The pages that faults
 * and copies are for are those that can be shared one by one: small pages but with
 * hugetlb.
 *
 * Cost is in instructions, if perf has the PMU count them or if the TSC does, as
 * QEMU's does with -icount shift=0; else in nanoseconds. The first lines say which.
 * The median is of several runs, each in memory made anew. Run it as root, on a
 * machine that does nothing else.
 *
 * Arguments are the names of cases to run, of all without any. In the environment
 * BREAK_COW_RUNS is the number of runs, and BREAK_COW_WAY the only way to run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../../../../mm/break_cow_test.h"
#include "break_cow_bench.h"

#define DEADLINE	60	/* seconds without progress */
#define RUNS		7
#define MAX_RUNS	101
#define SPLICED		16	/* pages: what a pipe holds */
#define LOOPS		32

static unsigned int runs = RUNS;
static const char *only_way;
static int driver = -1;	/* that takes references */

enum measure { COST, CALL, FIRST, FAULTS, COPIES, NEW, SPLITS, NR_MEASURES };

static const char * const measure_name[NR_MEASURES] = {
	"cost", "call", "first", "faults", "copies", "new", "splits",
};

/* What a way does to memory */
struct way {
	const char *name;
	int (*fn)(const struct way *way, struct area *a, char *addr, size_t len);
	unsigned int how;	/* BREAK_COW_PIN ... */
};

struct bench {
	enum bench_state state;
	enum bench_size size;
	const struct way *way;
	bc_fn fn;
};

/* What is measured of some pages */
struct sample {
	double n[NR_MEASURES];
};

/* What was behind each small page */
struct look {
	size_t nr;
	__u64 *entry;
	long huge_kb;
};

static int look(struct look *l, const char *addr, size_t len)
{
	size_t page = bc_page_size();

	l->nr = len / page;
	l->entry = calloc(l->nr, sizeof(*l->entry));
	if (!l->entry)
		return bc_why(BC_ERROR, "no memory");
	l->huge_kb = bc_smaps_kb(addr, "AnonHugePages");
	bc_proc_read("/proc/self/pagemap", l->entry, l->nr * sizeof(*l->entry),
		     (uintptr_t)addr / page * sizeof(*l->entry));
	return BC_OK;
}

static bool is_anon(__u64 entry)
{
	__u64 flags = 0;

	if (!(entry & BC_PM_PRESENT) || (entry & BC_PM_FILE))
		return false;
	bc_proc_read("/proc/kpageflags", &flags, sizeof(flags),
		     (entry & BC_PM_PFN) * sizeof(flags));
	return !(flags & BC_KPF_ZERO);
}

/* The zero page is neither BC_PM_FILE nor anonymous. */
static void compare(const struct look *was, const struct look *is,
		    struct sample *s)
{
	size_t i;

	for (i = 0; i < is->nr; i++) {
		const __u64 a = was->entry[i], b = is->entry[i];

		if ((a & BC_PM_PRESENT) && (a & BC_PM_PFN) == (b & BC_PM_PFN))
			continue;
		if (!is_anon(b))
			continue;
		if (is_anon(a))
			s->n[COPIES]++;
		else if (!(a & BC_PM_SWAP))
			s->n[NEW]++;
	}
	if (was->huge_kb > is->huge_kb)
		s->n[SPLITS] = (was->huge_kb - is->huge_kb) / 2048.0;
}

static int way_take(const struct way *way, struct area *a, char *addr, size_t len)
{
	struct break_cow_take take = {
		.addr = (uintptr_t)addr,
		.nr_pages = len / bc_page_size(),
		.how = way->how,
	};
	int n = ioctl(driver, BREAK_COW_TAKE, &take);

	(void)a;
	if (n < 0)
		return -errno;
	return n == (int)take.nr_pages ? 0 : -EAGAIN;
}

static int way_store(const struct way *way, struct area *a, char *addr, size_t len)
{
	char *end = addr + len;

	(void)way;
	for (; addr < end; addr += a->unit)
		bc_store(addr, 2);
	return 0;
}

static int measure(const struct way *way, struct area *a, size_t from, size_t len,
		   struct sample *s)
{
	char *addr = a->mem + from;
	struct look was, is;
	__u64 start, end;
	long before;
	int ret;

	memset(s, 0, sizeof(*s));
	ret = look(&was, addr, len);
	if (ret)
		return ret;
	bc_waiting("%s to return", way->name);
	if (way->fn == way_take)
		ioctl(driver, BREAK_COW_DROP);
	before = bc_faults();
	start = count();
	ret = way->fn(way, a, addr, len);
	end = count();
	s->n[FAULTS] = bc_faults() - before;
	s->n[COST] = end - start;
	bc_beat();
	if (ret)
		return bc_why(BC_FAIL, "got %s from %s", strerror(-ret), way->name);
	ret = look(&is, addr, len);
	if (ret)
		return ret;
	compare(&was, &is, s);
	free(was.entry);
	free(is.entry);
	return BC_OK;
}

static const struct way takes[] = {
	{ "get fast", way_take, BREAK_COW_FAST },
	{ "get", way_take, 0 },
	{ "pin fast", way_take, BREAK_COW_PIN | BREAK_COW_FAST },
	{ "pin", way_take, BREAK_COW_PIN },
};

static const struct way store = { "store", way_store, 0 };

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void emit(const char *name, const char *way, const char *size,
		 const char *what, double *values)
{
	qsort(values, runs, sizeof(*values), by_value);
	bc_diag("bench\t%s\t%s\t%s\t%s\t%.10g\t%.10g\t%.10g", name, way, size, what,
		values[runs / 2], values[0], values[runs - 1]);
}

static void emit_all(const struct bench *b, const char *again,
		     double values[NR_MEASURES][MAX_RUNS])
{
	char name[80];
	unsigned int m;

	snprintf(name, sizeof(name), "%s%s", state_name[b->state], again);
	for (m = 0; m < NR_MEASURES; m++)
		if (m != SPLITS || b->size == SIZE_THP)
			emit(name, b->way->name, size_name[b->size],
			     measure_name[m], values[m]);
}

/*
 * A page to get everything warm, then one, few, and many; and these again, for all
 * that was to be done the first time is done. Small pages: of one table. Huge ones:
 * a store is to each, and GUP takes small parts of three of them.
 */
static int once(const struct bench *b, struct sample *first, struct sample *again)
{
	const bool take = b->way->fn == way_take, small = b->size == SIZE_4K;
	const size_t few = take || small ? 16 : 1, many = take || small ? 144 : 3;
	const size_t page = bc_page_size();
	struct sample s[4], *to = first;
	size_t step, from, at[4];
	struct area a;
	int ret, i, m;
	bool huge;

	ret = area_get(b->state, b->size, 2 + (small ? few + many : 4), &a);
	step = take ? page : a.unit;
	at[0] = 0;
	at[1] = a.unit;
	at[2] = 2 * a.unit;
	at[3] = at[2] + (small ? few * a.unit : a.unit);
	for (i = 0; !ret && i < 2; i++, to = again) {
		const size_t n[] = { 1, 1, few, many };

		ret = measure(b->way, &a, 0, step, &s[0]);
		for (from = 0; !ret && from < ARRAY_SIZE(n); from++)
			ret = measure(b->way, &a, at[from], n[from] * step, &s[from]);
		*to = s[3];
		to->n[CALL] = s[0].n[COST];
		to->n[FIRST] = s[1].n[COST];
		to->n[COST] = (s[3].n[COST] - s[2].n[COST]) / (many - few);
		/* hugetlb pages are shared, and copied, as a whole */
		huge = b->size == SIZE_HUGETLB;
		to->n[FAULTS] /= huge && take ? 1 : many;
		for (m = COPIES; m <= NEW; m++)
			to->n[m] /= huge && !take ? many * (a.unit / page) : many;
		to->n[SPLITS] /= take ? 1 : many;
	}
	ioctl(driver, BREAK_COW_DROP);
	area_put(&a);
	return ret;
}

/*
 * Nobody else on this CPU, not even our children; if it may not be, so be it. They are
 * of the same priority, to wait until we do: on v6.12 and later the deadline server for
 * fair tasks may let one of these go first, and fork() would take the time of the
 * child's exit, too.
 */
static void alone(void)
{
	struct sched_param prio = { .sched_priority = 1 };

	sched_setscheduler(0, SCHED_FIFO, &prio);
}

static int bench_memory(const void *arg)
{
	static double first[NR_MEASURES][MAX_RUNS], again[NR_MEASURES][MAX_RUNS];
	const struct bench *b = arg;
	struct sample s[2];
	unsigned int run, m;
	int ret;

	if (b->way->fn == way_take) {
		driver = open(BC_DRIVER, O_RDWR | O_CLOEXEC);
		if (driver < 0)
			return bc_why(BC_SKIP, "no test driver (CONFIG_BREAK_COW_TEST)");
	}
	for (run = 0; run < runs; run++) {
		ret = once(b, &s[0], &s[1]);
		if (ret)
			return ret;
		for (m = 0; m < NR_MEASURES; m++) {
			first[m][run] = s[0].n[m];
			again[m][run] = s[1].n[m];
		}
	}
	emit_all(b, "", first);
	if (b->way->fn == way_take)
		emit_all(b, ", again", again);
	return BC_OK;
}

/* The cost of fork() itself. The child does not run before it has returned: see alone(). */
static int way_fork(const struct way *way, struct area *a, char *addr, size_t len)
{
#ifdef SYS_fork
	pid_t pid = syscall(SYS_fork);
#else
	pid_t pid = syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
#endif

	(void)way;
	(void)addr;
	(void)len;
	if (!pid)
		_exit(0);
	a->child = pid;
	return pid < 0 ? -errno : 0;
}

static const struct way forks = { "fork", way_fork, 0 };

/* The last of some, for the first ones get everything warm */
static int fork_some(struct area *a, struct sample *s)
{
	int ret = BC_OK, i;

	for (i = 0; !ret && i < 4; i++) {
		ret = measure(&forks, a, 0, a->len, s);
		if (!ret)
			waitpid(a->child, NULL, 0);
		a->child = 0;
	}
	return ret;
}

/* Of a process that has memory, and of one that has more */
static int bench_fork(const void *arg)
{
	static double cost[MAX_RUNS], call[MAX_RUNS];
	const struct bench *b = arg;
	struct sample s[2];
	struct area a;
	unsigned int run, i;
	size_t nr[2];
	int ret;

	nr[0] = b->size == SIZE_4K ? 32 : 1;
	nr[1] = b->size == SIZE_4K ? 480 : 9;
	for (run = 0; run < runs; run++) {
		for (i = 0; i < 2; i++) {
			ret = area_get(b->state, b->size, nr[i], &a);
			if (!ret)
				ret = fork_some(&a, &s[i]);
			area_put(&a);
			if (ret)
				return ret;
		}
		call[run] = s[1].n[COST];
		cost[run] = (s[1].n[COST] - s[0].n[COST]) / (nr[1] - nr[0]);
	}
	emit(state_name[b->state], b->way->name, size_name[b->size], "cost", cost);
	emit(state_name[b->state], b->way->name, size_name[b->size], "call", call);
	return BC_OK;
}

/* What a way does that puts memory into a pipe, and takes it out again */
static int way_splice(const struct way *way, struct area *a, char *addr, size_t len)
{
	static int null = -1, pipes[2];
	struct iovec iov;
	size_t off;

	(void)way;
	(void)a;
	if (null < 0) {
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (null < 0 || pipe2(pipes, O_CLOEXEC))
			return -errno;
	}
	for (off = 0; off < len; off += iov.iov_len) {
		iov.iov_base = addr + off;
		iov.iov_len = SPLICED * bc_page_size();
		if (vmsplice(pipes[1], &iov, 1, 0) != (ssize_t)iov.iov_len ||
		    splice(pipes[0], NULL, null, NULL, iov.iov_len, 0) !=
		    (ssize_t)iov.iov_len)
			return -errno;
	}
	return 0;
}

static const struct way splices = { "vmsplice", way_splice, 0 };

/* A loop of vmsplice() over the same memory */
static int bench_splice(const void *arg)
{
	static double first[NR_MEASURES][MAX_RUNS], loop[NR_MEASURES][MAX_RUNS];
	const struct bench *b = arg;
	struct sample s;
	char name[80];
	struct area a;
	unsigned int run, m, i;
	int ret;

	for (run = 0; run < runs; run++) {
		ret = area_get(b->state, b->size, 2 * SPLICED, &a);
		if (!ret)
			ret = measure(&splices, &a, 0, a.len / 2, &s);
		for (i = 0; !ret && i < LOOPS; i++) {
			ret = measure(&splices, &a, a.len / 2, a.len / 2, &s);
			for (m = 0; m < NR_MEASURES; m++) {
				if (!i)
					loop[m][run] = 0;
				if (i)
					loop[m][run] += s.n[m] / SPLICED / (LOOPS - 1);
				else
					first[m][run] = s.n[m] / SPLICED;
			}
		}
		area_put(&a);
		if (ret)
			return ret;
	}
	snprintf(name, sizeof(name), "%s, loop", state_name[b->state]);
	for (m = 0; m < SPLITS; m++) {
		if (m == CALL || m == FIRST)
			continue;
		emit(state_name[b->state], b->way->name, size_name[b->size],
		     measure_name[m], first[m]);
		emit(name, b->way->name, size_name[b->size],
		     measure_name[m], loop[m]);
	}
	return BC_OK;
}

/* What is done to memory in a state: of which sizes, and by which ways */
#define S(size)	(1U << SIZE_ ## size)
#define ALL	(S(4K) | S(THP) | S(HUGETLB))

static const struct {
	enum bench_state state;
	unsigned int taken;	/* by GUP: sizes */
	unsigned int stored;
	unsigned int forked;
	unsigned int spliced;
} table[] = {
	{ ST_WRITABLE,	 ALL, 0, ALL, 0 },
	{ ST_UFFD_WP,	 ALL, 0, 0, 0 },
	{ ST_MPROTECT,	 ALL, ALL, ALL, 0 },
	{ ST_CHILD_GONE, ALL, ALL, 0, 0 },
	{ ST_SHARED,	 ALL, ALL, 0, S(4K) },
	{ ST_UNTOUCHED,	 S(4K) | S(THP), ALL, S(4K), S(4K) },
	{ ST_ZERO,	 0, S(4K) | S(THP), 0, 0 },
	{ ST_FILE,	 S(4K) | S(THP), S(4K), 0, 0 },
	{ ST_KSM,	 S(4K), S(4K), 0, 0 },
	{ ST_SWAP_CACHE, 0, S(4K), 0, 0 },
	{ ST_SWAPPED_IN, S(4K), S(4K), 0, 0 },
};

/* A case of one process */
static int bench(const void *arg)
{
	const struct bench *b = arg;

	alone();
	return b->fn(b);
}

static unsigned int one(struct bench *b, const struct way *way, bc_fn fn,
			char **only, bool run)
{
	char name[80];
	char **o;

	b->way = way;
	b->fn = fn;
	for (o = only; *o; o++)
		if (!strcmp(*o, state_name[b->state]))
			break;
	if ((*only && !*o) || (only_way && strcmp(only_way, way->name)))
		return 0;
	snprintf(name, sizeof(name), "%s: %s, %s", state_name[b->state],
		 size_name[b->size], way->name);
	if (run)
		bc_case(name, bench, b, DEADLINE);
	return 1;
}

static unsigned int all(char **only, bool run)
{
	unsigned int i, w, n = 0, bit;
	struct bench b = { 0 };

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		b.state = table[i].state;
		for (b.size = 0; b.size < SIZE_NR; b.size++) {
			bit = 1U << b.size;
			for (w = 0; w < ARRAY_SIZE(takes); w++)
				if (table[i].taken & bit)
					n += one(&b, &takes[w], bench_memory, only, run);
			if (table[i].stored & bit)
				n += one(&b, &store, bench_memory, only, run);
			if (table[i].forked & bit)
				n += one(&b, &forks, bench_fork, only, run);
			if (table[i].spliced & bit)
				n += one(&b, &splices, bench_splice, only, run);
		}
	}
	return n;
}

int main(int argc, char **argv)
{
	const char *env = getenv("BREAK_COW_RUNS");

	(void)argc;
	if (env && atoi(env) > 0 && atoi(env) <= MAX_RUNS)
		runs = atoi(env);
	only_way = getenv("BREAK_COW_WAY");
	/* Batches and counters are those of one CPU. */
	bc_one_cpu();
	bc_hugetlb_pool();
	bc_plan(all(argv + 1, false));
	find_counter();
	all(argv + 1, true);
	return bc_exit();
}
