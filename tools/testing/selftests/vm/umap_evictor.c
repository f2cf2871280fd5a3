// SPDX-License-Identifier: GPL-2.0
/*
 * A user space pager in the way of LLNL's umap: a file-backed region larger
 * than the pool of pages it may occupy, filled and evicted by userfaultfd.
 *
 * The evictor write-protects a page, has the kernel read it on its way to the
 * store, and drops it. If that read is taken for a write, it becomes a write
 * fault of the evictor, on a page that is protected: the thread that would
 * resolve it waits for itself (Linux 5.8), or the protection is lost.
 *
 * Without arguments: a kselftest, every way in which a page can leave. With
 * options: pages a real file. See umap_evictor_pager.c for how it works.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "umap_evictor.h"

#define MB	(1024.0 * 1024.0)

/* What one run is about */
struct run {
	struct ev_config cfg;
	const char *store;	/* file, or NULL for a temporary one */
	const char *input;	/* copied to the store first */
	size_t pool_bytes;
	size_t size_bytes;
	size_t bytes;		/* to sort; 0: count */
	bool progress;
};

static unsigned long lost_writes(struct ev_stats *st)
{
	return ev_read(st->lost) + ev_read(st->untrapped) + ev_read(st->torn);
}

static void report(struct ev_pager *p, double start, bool last)
{
	struct ev_stats *st = &p->stats;
	double mb = (ev_read(st->filled) + ev_read(st->written)) *
		    (p->cfg.page / MB);

	bc_diag("%s%.1f s: %lu pages filled, %lu evicted, %lu write faults, %.1f MB, %lu lost writes",
		last ? "total " : "", bc_now() - start, ev_read(st->filled),
		ev_read(st->evicted), ev_read(st->wp_faults), mb,
		lost_writes(st));
}

struct progress {
	struct ev_pager *p;
	double start;
};

static void *progress_thread(void *arg)
{
	struct progress *pr = arg;

	for (;;) {
		sleep(1);
		report(pr->p, pr->start, false);
	}
	return NULL;
}

/*
 * For who compares many runs. Fields are separated by tabs, the first ones say what
 * is run. At the end: pages that left a second, and nanoseconds of CPU time for each
 * page moved, which are instructions where QEMU's -icount makes them so. A page is
 * moved when it is filled and when it is written out, be it in vain for a store
 * meanwhile: how often that happens is a matter of timing.
 */
static void report_bench(const struct run *run, struct ev_pager *p)
{
	const struct ev_config *cfg = &run->cfg;
	char what[160];
	int n;

	n = snprintf(what, sizeof(what),
		     "bench\tevictor, %zuM, pool 1/%zu, %u evictors",
		     run->size_bytes >> 20, cfg->pages / cfg->pool,
		     cfg->evictors);
	snprintf(what + n, sizeof(what) - n, "\t%s\t%zuK%s", cfg->way->name,
		 cfg->page >> 10, cfg->thp ? " THP" : "");
	if (!p) {
		bc_diag("%s\tbegun", what);
		return;
	}
	bc_diag("%s\trate\t%.1f", what, p->stats.evicted / p->stats.seconds);
	bc_diag("%s\tcost\t%.0f", what,
		p->stats.cpu * 1e9 / (p->stats.filled + p->stats.written));
}

/* Is this way there at all? Else the evictor would fail for a dull reason. */
static int probe_way(const struct bc_way *way)
{
	char *mem = bc_alloc(bc_page_size());
	int fd = bc_tmpfile(way->oflags), ret;

	if (!mem || fd < 0)
		return bc_last();
	*mem = 1;
	ret = way->leave(mem, bc_page_size(), fd, 0);
	close(fd);
	if (ret)
		return bc_why(BC_SKIP, "%s: %s", way->name, strerror(-ret));
	return BC_OK;
}

static int judge(struct ev_pager *p)
{
	struct ev_stats *st = &p->stats;

	if (lost_writes(st))
		return bc_why(BC_FAIL, "got %lu lost, %lu untrapped, %lu torn writes, want 0",
			      st->lost, st->untrapped, st->torn);
	if (st->filled != st->evicted)
		return bc_why(BC_FAIL, "got %lu pages evicted, want %lu as filled",
			      st->evicted, st->filled);
	if (!st->written || !st->wp_faults)
		return bc_why(BC_ERROR, "no dirty page was evicted");
	if (p->cfg.share && !st->shared)
		return bc_why(BC_ERROR, "no page was shared when it left");
	/* A store to a page that was kept, and so is still shared, splits it. */
	if (p->cfg.thp && st->huge < (p->cfg.share ? (st->written + 1) / 2 :
						     st->written))
		return bc_why(BC_ERROR, "only %lu of %lu pages were huge when they left",
			      st->huge, st->written);
	return BC_OK;
}

static int copy_input(const char *input, int to, size_t *bytes)
{
	size_t size = 1 << 20;
	char *buf = bc_alloc(size);
	int from = open(input, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (from < 0)
		return bc_why(BC_ERROR, "%s: %s", input, strerror(errno));
	if (!buf)
		return BC_ERROR;
	*bytes = 0;
	while ((n = read(from, buf, size)) > 0) {
		/* Whole blocks, for O_DIRECT; the rest is cut off at the end. */
		memset(buf + n, 0, size - n);
		if (pwrite(to, buf, (n + 4095) & ~4095L, *bytes) < n)
			return bc_why(BC_ERROR, "writing the store: %s",
				      strerror(errno));
		*bytes += n;
	}
	close(from);
	return n ? bc_why(BC_ERROR, "%s: %s", input, strerror(errno)) : BC_OK;
}

/* Have the file system find room before the work, not in it */
static int fill_store(const struct ev_config *cfg)
{
	size_t len = cfg->pages * cfg->page, at, n;
	char *zero = bc_alloc(BC_THP_SIZE);

	if (!zero)
		return BC_ERROR;
	memset(zero, 0, BC_THP_SIZE);
	for (at = 0; at < len; at += n) {
		n = len - at < BC_THP_SIZE ? len - at : BC_THP_SIZE;
		if (pwrite(cfg->store, zero, n, at) != (ssize_t)n)
			return bc_why(BC_ERROR, "writing the store: %s",
				      strerror(errno));
		bc_beat();
	}
	munmap(zero, BC_THP_SIZE);
	return fsync(cfg->store) ? bc_why(BC_ERROR, "fsync: %s", strerror(errno)) :
				   BC_OK;
}

/* Open the store and find out the size of the region */
static int open_store(struct run *run)
{
	struct ev_config *cfg = &run->cfg;
	struct stat st;
	int ret;

	if (run->store)
		cfg->store = open(run->store, O_RDWR | O_CLOEXEC |
				  cfg->way->oflags | (run->input ? O_CREAT : 0),
				  0644);
	else
		cfg->store = bc_tmpfile(cfg->way->oflags);
	if (cfg->store < 0)
		return run->store ? bc_why(BC_ERROR, "%s: %s", run->store,
					   strerror(errno)) : bc_last();
	if (run->input) {
		ret = copy_input(run->input, cfg->store, &run->bytes);
		if (ret)
			return ret;
	} else if (run->store) {
		if (fstat(cfg->store, &st))
			return bc_why(BC_ERROR, "%s: %s", run->store,
				      strerror(errno));
		run->bytes = st.st_size;
	}
	if (run->input || run->store) {
		if (run->bytes < 16 * cfg->page)
			return bc_why(BC_ERROR, "%zu bytes to sort, want at least 16 pages of %zu",
				      run->bytes, cfg->page);
		run->size_bytes = run->bytes;
	}
	if (!run->pool_bytes)
		run->pool_bytes = run->size_bytes / 8;
	cfg->pages = (run->size_bytes + cfg->page - 1) / cfg->page;
	cfg->pool = run->pool_bytes / cfg->page;
	if (cfg->pool < 2)
		cfg->pool = 2;
	if (ftruncate(cfg->store, (off_t)cfg->pages * cfg->page))
		return bc_why(BC_ERROR, "sizing the store: %s", strerror(errno));
	return run->progress && !run->store && !run->input ? fill_store(cfg) : BC_OK;
}

static int do_run(const void *arg)
{
	struct run run = *(const struct run *)arg;
	struct progress pr = { .start = bc_now() };
	struct ev_pager *p;
	pthread_t tid;
	int ret;

	ret = probe_way(run.cfg.way);
	if (!ret)
		ret = open_store(&run);
	if (ret)
		return ret;
	if (run.progress)
		report_bench(&run, NULL);
	if (run.progress)
		bc_diag("region %zu pages of %zuK, pool %zu, %u workers, %u evictors, %u fillers",
			run.cfg.pages, run.cfg.page >> 10, run.cfg.pool,
			run.cfg.workers, run.cfg.evictors, run.cfg.fillers);
	p = ev_start(&run.cfg);
	pr.p = p;
	if (run.progress)
		ev_thread(&tid, "progress", 0, progress_thread, &pr);
	if (run.bytes)
		ev_sort(p, run.bytes);
	else
		ev_count(p);
	if (run.store && (ftruncate(run.cfg.store, run.bytes) ||
			  fsync(run.cfg.store)))
		return bc_why(BC_ERROR, "%s: %s", run.store, strerror(errno));
	if (run.progress || lost_writes(&p->stats)) {
		bc_diag("%lu pages written out, %lu kept because of a store, %lu shared, %lu huge",
			p->stats.written, p->stats.kept, p->stats.shared,
			p->stats.huge);
		report(p, pr.start, true);
	}
	if (run.progress)
		report_bench(&run, p);
	return judge(p);
}

static void run_name(char *name, size_t size, const struct run *run)
{
	const struct ev_config *cfg = &run->cfg;
	size_t k = cfg->page >> 10;

	if (cfg->thp)
		snprintf(name, size, "%s THP %s", cfg->way->name,
			 cfg->share ? "shared" : "private");
	else
		snprintf(name, size, "%s %zu%s %s", cfg->way->name,
			 k < 1024 ? k : k >> 10, k < 1024 ? "K" : "M",
			 cfg->share ? "shared" : "private");
}

static const struct run defaults = {
	.cfg = { .workers = 2, .evictors = 2, .fillers = 2 },
};

static int kselftest(void)
{
	unsigned int way, flavour;
	char name[80];

	bc_plan(bc_nr_ways * 4);
	for (way = 0; way < bc_nr_ways; way++)
		for (flavour = 0; flavour < 4; flavour++) {
			struct run run = defaults;

			run.cfg.way = &bc_ways[way];
			run.cfg.thp = flavour & 1;
			run.cfg.share = flavour & 2;
			run.cfg.page = run.cfg.thp ? BC_THP_SIZE : bc_page_size();
			run.cfg.ops = run.cfg.thp ? 16 : 200;
			/* Region to pool as 8 to 1 */
			run.pool_bytes = (run.cfg.thp ? 2 : 8) * run.cfg.page;
			run.size_bytes = 8 * run.pool_bytes;
			run_name(name, sizeof(name), &run);
			bc_case(name, do_run, &run, 10);
		}
	return bc_exit();
}

static void usage_error(const char *fmt, ...) __printf(1, 2)
	__attribute__((noreturn));

static void usage_error(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "umap_evictor: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; see --help\n");
	exit(2);
}

static size_t parse_size(const char *option, const char *text, size_t max)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*end == 'K' || *end == 'k')
		n <<= 10, end++;
	else if (*end == 'M' || *end == 'm')
		n <<= 20, end++;
	else if (*end == 'G' || *end == 'g')
		n <<= 30, end++;
	if (errno || end == text || *end || *text == '-' || !n || n > max)
		usage_error("--%s=%s: want a number from 1 to %zu", option, text,
			    max);
	return n;
}

static void __attribute__((noreturn)) help(void)
{
	unsigned int i;

	printf("umap_evictor: page a file through a small pool of memory, by userfaultfd\n"
	       "Without options: the kselftest. With any of these: one run, TAP to stdout.\n\n"
	       "  --store=FILE       the file behind the region, sorted in place\n"
	       "  --input=FILE       copied to the store first (temporary without --store)\n"
	       "                     neither: counters in a temporary file\n"
	       "  --size=BYTES       of the region then (default 8 pools, or 16M)\n"
	       "  --pool=BYTES       memory the region may occupy (default 1/8 of it)\n"
	       "  --page-size=BYTES  a power of two from 4K to 2M (default 4K)\n"
	       "  --workers=N --evictors=N --fillers=N   threads (default 2 each)\n"
	       "  --thp              pages of 2M that are huge pages\n"
	       "  --fork             a forked child shares every page that leaves\n"
	       "  --ops=N            how often each worker counts (default 1000)\n"
	       "  --duration=S       repeat the work for so long\n"
	       "  --time-limit=S     the run is late after that (default none)\n"
	       "  --deadline=S       ... or after so long without progress (default 10)\n"
	       "  --leave=WAY        how pages leave (default %s):\n",
	       bc_ways[0].name);
	for (i = 0; i < bc_nr_ways; i++)
		printf("%s%s", i ? ", " : "                     ", bc_ways[i].name);
	printf("\nTemporary files: in the folder BREAK_COW_DIR names, else one with O_DIRECT.\n"
	       "Exit status: 0 ok, 1 not, 2 usage, 4 can't be tested here.\n");
	exit(0);
}

enum {
	O_STORE, O_INPUT, O_SIZE, O_POOL, O_PAGE, O_WORKERS, O_EVICTORS,
	O_FILLERS, O_THP, O_FORK, O_DURATION, O_LIMIT, O_DEADLINE, O_LEAVE,
	O_OPS, O_HELP,
};

static const struct option options[] = {
	{ "store", required_argument, NULL, O_STORE },
	{ "input", required_argument, NULL, O_INPUT },
	{ "size", required_argument, NULL, O_SIZE },
	{ "pool", required_argument, NULL, O_POOL },
	{ "page-size", required_argument, NULL, O_PAGE },
	{ "workers", required_argument, NULL, O_WORKERS },
	{ "evictors", required_argument, NULL, O_EVICTORS },
	{ "fillers", required_argument, NULL, O_FILLERS },
	{ "thp", no_argument, NULL, O_THP },
	{ "fork", no_argument, NULL, O_FORK },
	{ "duration", required_argument, NULL, O_DURATION },
	{ "time-limit", required_argument, NULL, O_LIMIT },
	{ "deadline", required_argument, NULL, O_DEADLINE },
	{ "leave", required_argument, NULL, O_LEAVE },
	{ "ops", required_argument, NULL, O_OPS },
	{ "help", no_argument, NULL, O_HELP },
	{ 0 }
};

/* Returns whether an option asks for more than another deadline */
static bool parse(struct run *run, int argc, char **argv)
{
	struct ev_config *cfg = &run->cfg;
	bool any = false;
	int c, at;

	while ((c = getopt_long(argc, argv, "", options, &at)) >= 0) {
		const char *name = c == '?' ? "" : options[at].name;

		any |= c != O_DEADLINE;
		switch (c) {
		case O_STORE:
			run->store = optarg;
			break;
		case O_INPUT:
			run->input = optarg;
			break;
		case O_SIZE:
			run->size_bytes = parse_size(name, optarg, ~0UL >> 1);
			break;
		case O_POOL:
			run->pool_bytes = parse_size(name, optarg, ~0UL >> 1);
			break;
		case O_PAGE:
			cfg->page = parse_size(name, optarg, BC_THP_SIZE);
			if (cfg->page & (cfg->page - 1) ||
			    cfg->page < bc_page_size())
				usage_error("--page-size=%s: want a power of two from %zu to 2M",
					    optarg, bc_page_size());
			break;
		case O_WORKERS:
			cfg->workers = parse_size(name, optarg, 128);
			break;
		case O_EVICTORS:
			cfg->evictors = parse_size(name, optarg, 128);
			break;
		case O_FILLERS:
			cfg->fillers = parse_size(name, optarg, 128);
			break;
		case O_THP:
			cfg->thp = true;
			break;
		case O_FORK:
			cfg->share = true;
			break;
		case O_DURATION:
			cfg->seconds = parse_size(name, optarg, 1U << 30);
			break;
		case O_LIMIT:
			bc_limit(parse_size(name, optarg, 1U << 30));
			break;
		case O_DEADLINE:
			bc_deadline(parse_size(name, optarg, 1U << 30));
			break;
		case O_LEAVE:
			cfg->way = bc_way(optarg);
			if (!cfg->way)
				usage_error("--leave=%s: no such way", optarg);
			break;
		case O_OPS:
			cfg->ops = parse_size(name, optarg, ~0UL >> 1);
			break;
		case O_HELP:
			help();
		default:	/* getopt_long() has said what */
			exit(2);
		}
	}
	if (optind < argc)
		usage_error("%s: not an option", argv[optind]);
	return any;
}

int main(int argc, char **argv)
{
	struct run run = defaults;
	char name[80], full[200];
	bool any;
	int fd;

	any = parse(&run, argc, argv);
	if (run.cfg.thp && run.cfg.page && run.cfg.page != BC_THP_SIZE)
		usage_error("--thp: pages are 2M");
	fd = bc_uffd_open(0);
	if (fd < 0)
		bc_skip_all(bc_reason());
	close(fd);
	if (!any)
		return kselftest();

	if (!run.cfg.page)
		run.cfg.page = run.cfg.thp ? BC_THP_SIZE : bc_page_size();
	if (!run.cfg.way)
		run.cfg.way = &bc_ways[0];
	if (!run.size_bytes)
		run.size_bytes = run.pool_bytes ? 8 * run.pool_bytes : 16 << 20;
	if (!run.cfg.ops)
		run.cfg.ops = 1000;
	run.progress = true;
	run_name(name, sizeof(name), &run);
	snprintf(full, sizeof(full), "%s %s",
		 run.store || run.input ? "sort" : "count", name);
	bc_plan(1);
	bc_case(full, do_run, &run, 10);
	return bc_exit();
}
