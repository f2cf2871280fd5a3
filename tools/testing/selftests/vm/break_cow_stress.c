// SPDX-License-Identifier: GPL-2.0
/*
 * break_cow_stress: random operations against a model, see break_cow_stress.h.
 * Here: options, the conductor of a run, and what is printed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "break_cow_stress.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open		434
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise	440
#endif

#define DEADLINE	20	/* seconds without progress */
#define TELL_AFTER	3	/* seconds, until what is waited for is named */
#define BURST		36	/* operations of a lane */
#define BETWEEN		24	/* operations between two bursts */
#define KSM		"/sys/kernel/mm/ksm/"
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"

const char * const op_name[OP_NR] = {
	[OP_FILL] = "store-page", [OP_POKE] = "store-word",
	[OP_CHECK] = "load", [OP_FILLER] = "load-filler",
	[OP_RO_STORE] = "store-read-only", [OP_MPROTECT] = "mprotect",
	[OP_DROP] = "dontneed", [OP_PAGEOUT] = "pageout",
	[OP_MREMAP] = "mremap", [OP_WP_ON] = "uffd-wp-on",
	[OP_WP_OFF] = "uffd-wp-off", [OP_SPLICE] = "vmsplice",
	[OP_AIO] = "direct-in-flight", [OP_PIN_URING] = "io_uring-buffer",
	[OP_GET] = "driver-get", [OP_PIN] = "driver-pin",
	[OP_LONGTERM] = "driver-longterm", [OP_HOLD_CHECK] = "look-through",
	[OP_HOLD_END] = "give-back", [OP_DIRECT] = "direct-write",
	[OP_READV] = "process_vm_readv", [OP_LOOK] = "proc-self-mem",
	[OP_FORK_RACE] = "fork-storing-child", [OP_LEAK] = "fork-holding-child",
	[OP_SHARE] = "fork-idle-child", [OP_MERGE] = "ksm-merge",
	[OP_UNMERGE] = "ksm-unmerge", [OP_KSM_WAIT] = "ksm-wait",
	[OP_FORK] = "fork-member", [OP_EXIT] = "exit-member",
	[OP_CLEAR_REFS] = "clear_refs", [OP_REMOTE_READV] = "remote-readv",
	[OP_REMOTE_LOOK] = "remote-proc-mem", [OP_PTRACE] = "remote-ptrace",
	[OP_REMOTE_TAKE] = "remote-driver", [OP_THP] = "new-huge-page",
};

/* What the runs have done, all in all */
static struct {
	unsigned long count[OP_NR], traps_due, traps_seen, holds_checked;
	unsigned long failed, merged, swapped;
} totals;

static unsigned long ops_done(void)
{
	unsigned long sum = 0;
	unsigned int i;

	for (i = 0; i < OP_NR; i++)
		sum += __atomic_load_n(&world->count[i], __ATOMIC_RELAXED);
	return sum;
}

static void name_waited(struct slot *slot, const char *cmd)
{
	struct lane_status *s = slot->status;
	char text[160] = "";
	unsigned int i;

	for (i = 0; i < LANES && !cmd; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
			 "%s%s of page %u (operation %lu of lane %u)",
			 i ? ", " : "", op_name[s[i].op], s[i].page, s[i].nr, i);
	bc_waiting("seed %lu, burst %lu, member %u: %s", world->opt.seed,
		   world->burst, slot->uid, cmd ? cmd : text);
}

/* Wait for *@ack to become @seq. */
static void await(struct slot *slot, unsigned int *ack, unsigned int seq,
		  const char *cmd)
{
	double start = bc_now();
	unsigned int old;

	while ((old = __atomic_load_n(ack, __ATOMIC_SEQ_CST)) != seq) {
		wait_change(ack, old, 200);
		if (world->stop)
			return;
		if (bc_now() - start > TELL_AFTER)
			name_waited(slot, cmd);
	}
}

static void command(struct slot *slot, enum cmd cmd, const char *name,
		    unsigned int a, unsigned int b, unsigned int c)
{
	slot->cmd = cmd;
	slot->arg[0] = a;
	slot->arg[1] = b;
	slot->arg[2] = c;
	__atomic_fetch_add(&slot->cmd_seq, 1, __ATOMIC_SEQ_CST);
	wake_all(&slot->cmd_seq);
	await(slot, &slot->cmd_ack, slot->cmd_seq, name);
}

/* Have members do a burst of @ops a lane: all of them, or one, its last. */
static void burst(struct slot *last, unsigned int ops)
{
	struct slot *slot;
	unsigned int i;

	world->burst++;
	for (i = 0; i < MEMBERS; i++) {
		slot = &world->slot[i];
		if (!slot->pid || (last && slot != last))
			continue;
		slot->burst_ops = ops;
		slot->burst_last = last;
		slot->burst_left = LANES;
		__atomic_fetch_add(&slot->burst_seq, 1, __ATOMIC_SEQ_CST);
		wake_all(&slot->burst_seq);
	}
	for (i = 0; i < MEMBERS; i++) {
		slot = &world->slot[i];
		if (slot->pid && (!last || slot == last))
			await(slot, &slot->burst_ack, slot->burst_seq, NULL);
	}
	bc_beat();
}

static void reap(pid_t pid)
{
	int status;

	/* It may be no child of ours as long as its parent lives. */
	while (waitpid(pid, &status, WNOHANG) == pid)
		if (status)
			violate(NULL, NULL, "a member ended with status %#x", status);
}

static void end_member(struct slot *slot)
{
	pid_t pid = slot->pid;

	burst(slot, 0);
	if (world->stop)
		return;
	command(slot, CMD_EXIT, "to exit", 0, 0, 0);
	memset(slot, 0, sizeof(*slot));
	reap(pid);
}

static struct slot *pick(__u64 *state, bool live)
{
	struct slot *slot;

	do {
		slot = &world->slot[rnd(state, world->opt.procs)];
	} while (!slot->pid != !live);
	return slot;
}

static unsigned int nr_members(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < MEMBERS; i++)
		n += !!world->slot[i].pid;
	return n;
}

/* Between two bursts */
static void between(__u64 *state, unsigned int nr_pages)
{
	enum op op = OP_LANES + rnd(state, OP_NR - OP_LANES);
	unsigned int live = nr_members(), page = rnd(state, nr_pages);
	struct slot *slot, *other;

	if (op == OP_FORK && live == world->opt.procs)
		op = OP_EXIT;
	else if (op == OP_EXIT && live == 1)
		op = OP_FORK;
	if (op == OP_REMOTE_TAKE && !world->driver)
		op = OP_REMOTE_READV;
	slot = pick(state, true);
	/* Nobody traces itself. */
	if (op == OP_PTRACE && live == 1)
		op = OP_FORK;
	switch (op) {
	case OP_FORK:
		other = pick(state, false);
		memset(other, 0, sizeof(*other));
		other->uid = world->next_uid++;
		other->cmd_ack = ~0U;
		command(slot, CMD_FORK, op_name[op], other - world->slot, 0, 0);
		await(other, &other->cmd_ack, 0, "to start");
		break;
	case OP_EXIT:
		end_member(slot);
		break;
	case OP_CLEAR_REFS:
		command(slot, CMD_CLEAR_REFS, op_name[op], 0, 0, 0);
		break;
	case OP_THP:
		command(slot, CMD_THP, op_name[op],
			rnd(state, 2) ? R_THP : R_THP_PIN, rnd(state, 2), 0);
		break;
	default:
		do {
			other = pick(state, true);
		} while (other == slot && live > 1);
		command(slot, CMD_REMOTE, op_name[op], op, other - world->slot,
			page);
	}
	world->count[op]++;
}

/* Nothing that the model has to know of, but no peace for the members either. */
static void disturb(void)
{
	__u64 state = rnd_seed(world->opt.seed, 1, 1);
	struct iovec iov;
	unsigned int i;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		usleep(5000 + rnd(&state, 20000));
		if (!rnd(&state, 4)) {
			bc_proc_write("/proc/sys/vm/compact_memory", "1");
			continue;
		}
		i = rnd(&state, MEMBERS);
		if (!world->slot[i].pid)
			continue;
		fd = syscall(SYS_pidfd_open, world->slot[i].pid, 0);
		i = rnd(&state, R_FILE);
		iov = (struct iovec){ me.start[i], me.len[i] };
		syscall(SYS_process_madvise, fd, &iov, 1, MADV_PAGEOUT, 0);
		if (fd >= 0)
			close(fd);
	}
}

static void knobs(bool on)
{
	const bool noisy = world->opt.noisy;

	bc_knob(KSM "sleep_millisecs", on ? "2" : "20");
	bc_knob(KSM "pages_to_scan", on ? "300" : "100");
	bc_knob(KSM "run", on ? "1" : "0");
	bc_knob(KHUGEPAGED "pages_to_scan", on && noisy ? "65536" : "4096");
	bc_knob(KHUGEPAGED "scan_sleep_millisecs",
		!on ? "10000" : noisy ? "20" : "100000000");
}

static void add_totals(void)
{
	unsigned int i;

	for (i = 0; i < OP_NR; i++)
		totals.count[i] += world->count[i];
	totals.traps_due += world->traps_due;
	totals.traps_seen += world->traps_seen;
	totals.holds_checked += world->holds_checked;
	totals.failed += world->failed;
	totals.merged += world->merged;
	totals.swapped += world->swapped;
}

static int stress(const void *arg)
{
	unsigned int nr_pages, i;
	__u64 state;
	pid_t pid, noise = 0;
	int ret;

	(void)arg;
	state = rnd_seed(world->opt.seed, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	knobs(true);
	bc_waiting("the memory of the first member");
	ret = model_init();
	if (ret)
		return ret;
	nr_pages = me.nr_pages;

	/* The model is in place before the first member is. */
	world->slot[0].uid = 1;
	world->next_uid = 2;
	world->slot[0].cmd_ack = ~0U;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		member_main(&world->slot[0]);
	}
	world->slot[0].pid = pid;
	await(&world->slot[0], &world->slot[0].cmd_ack, 0, "to start");
	/* We are no member, and share nothing with them. */
	for (i = 0; i < R_NR; i++)
		if (me.len[i])
			munmap(me.start[i], me.len[i]);
	if (world->opt.noisy) {
		noise = fork();
		if (!noise)
			disturb();
	}

	while (!world->stop && ops_done() < world->opt.ops) {
		burst(NULL, BURST);
		for (i = 0; i < BETWEEN && !world->stop; i++)
			between(&state, nr_pages);
		bc_beat();
	}
	for (i = 0; i < MEMBERS && !world->stop; i++)
		if (world->slot[i].pid)
			end_member(&world->slot[i]);
	bc_waiting("the end of a run in which %s",
		   world->stop ? world->why : "nothing was wrong");
	if (noise > 0)
		bc_reap(noise);
	knobs(false);
	if (!world->stop && world->traps_seen != world->traps_due)
		violate(NULL, NULL, "%lu stores had to trap, %lu did",
			world->traps_due, world->traps_seen);
	return world->stop ? bc_why(BC_FAIL, "%s", world->why) : BC_OK;
}

static void *shared_alloc(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		bc_skip_all("no memory");
	return mem;
}

static void run(const struct options *opt)
{
	char name[80];
	double start = bc_now();

	snprintf(name, sizeof(name), "%s%s, seed %lu",
		 opt->noisy ? "noisy" : "quiet", opt->faults ? ", faults" : "",
		 opt->seed);
	world->opt = *opt;
	bc_case(name, stress, NULL, DEADLINE);
	bc_diag("%lu operations in %.0f s", ops_done(), bc_now() - start);
	if (bc_last() == BC_FAIL)
		bc_diag("replay: break_cow_stress --seed %lu --ops %lu --procs %u%s%s",
			opt->seed, opt->ops, opt->procs,
			opt->noisy ? " --noisy" : " --quiet",
			opt->faults ? " --faults" : "");
	add_totals();
	memset(world, 0, sizeof(*world));
}

/* What the kernel counted, in all of the system; set @since, or print the rest */
static void vmstat(bool print)
{
	static const char * const names[] = {
		"thp_collapse_alloc", "thp_split_page", "thp_split_pmd",
		"pswpout", "pswpin", "pgmigrate_success",
	};
	static unsigned long since[ARRAY_SIZE(names)];
	char line[128];
	unsigned int i, len;
	FILE *f = fopen("/proc/vmstat", "r");

	while (f && fgets(line, sizeof(line), f)) {
		for (i = 0; i < ARRAY_SIZE(names); i++) {
			len = strlen(names[i]);
			if (strncmp(line, names[i], len) || line[len] != ' ')
				continue;
			if (print)
				bc_diag("count vmstat-%s %lu", names[i],
					strtoul(line + len, NULL, 10) - since[i]);
			since[i] = strtoul(line + len, NULL, 10);
		}
	}
	if (f)
		fclose(f);
}

static void print_totals(void)
{
	unsigned long sum = 0;
	unsigned int i;

	for (i = 0; i < OP_NR; i++)
		sum += totals.count[i];
	for (i = 0; i < OP_NR; i++)
		bc_diag("count %s %lu %.1f%%", op_name[i], totals.count[i],
			sum ? 100.0 * totals.count[i] / sum : 0);
	bc_diag("count operations %lu", sum);
	bc_diag("count stores-that-had-to-trap %lu", totals.traps_due);
	bc_diag("count stores-that-trapped %lu", totals.traps_seen);
	bc_diag("count references-looked-through %lu", totals.holds_checked);
	bc_diag("count operations-that-failed %lu", totals.failed);
	bc_diag("count merged-by-ksm %lu", totals.merged);
	bc_diag("count swapped-out %lu", totals.swapped);
	vmstat(true);
}

static void faults_on(char **argv)
{
	static const char * const knob[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
	};
	char path[80];
	unsigned int i;

	/*
	 * The kernel stores to a thread's rseq area whenever it is preempted,
	 * and a store for which there is no memory is then a SIGSEGV.
	 */
	if (!getenv("GLIBC_TUNABLES")) {
		setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
		execv("/proc/self/exe", argv);
	}
	for (i = 0; i < ARRAY_SIZE(knob); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", knob[i][0]);
		if (bc_proc_write(path, knob[i][1]))
			bc_skip_all("no fault injection (FAULT_INJECTION_DEBUG_FS, FAILSLAB, FAIL_PAGE_ALLOC; root)");
	}
}

__attribute__((noreturn))
static void usage(int status)
{
	printf("usage: break_cow_stress [--seed N] [--ops N] [--procs N] [--deadline SECONDS]\n"
	       "                        [--quiet | --noisy] [--faults] [--trace PAGE]\n"
	       "Runs seed N (default: 1 and 2) for so many operations (default 3000),\n"
	       "in a tree of at most so many processes (default 4, at most %u).\n"
	       "--quiet  without, --noisy only with compaction, reclaim and khugepaged;\n"
	       "         default: both\n"
	       "--faults memory runs out in the middle of operations\n"
	       "--trace  print each operation on that page\n", MEMBERS);
	exit(status);
}

static unsigned long number(const char *text, unsigned long min,
			    unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	if (*end || end == text || n < min || n > max) {
		fprintf(stderr, "break_cow_stress: not a number from %lu to %lu: '%s'\n",
			min, max, text);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "ops", required_argument, NULL, 'o' },
		{ "procs", required_argument, NULL, 'p' },
		{ "deadline", required_argument, NULL, 'd' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "noisy", no_argument, NULL, 'n' },
		{ "faults", no_argument, NULL, 'f' },
		{ "trace", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct options opt = { .ops = 3000, .procs = 4, .trace = -1 };
	unsigned long seed, last = 2;
	int c, noisy, from = 0, to = 1;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			opt.seed = number(optarg, 1, ~0U);
			break;
		case 'o':
			opt.ops = number(optarg, 1, ~0U);
			break;
		case 'p':
			opt.procs = number(optarg, 2, MEMBERS);
			break;
		case 'd':
			bc_deadline(number(optarg, 1, 86400));
			break;
		case 'q':
			to = 0;
			break;
		case 'n':
			from = 1;
			break;
		case 'f':
			opt.faults = true;
			break;
		case 't':
			opt.trace = number(optarg, 0, PAGES);
			break;
		default:
			usage(c == 'h' ? 0 : 2);
		}
	}
	if (optind < argc || from > to)
		usage(2);
	if (opt.faults)
		faults_on(argv);
	if (bc_page_size() != PAGE)
		bc_skip_all("the model is one of pages of 4 KiB");
	bc_hugetlb_pool();
	world = shared_alloc(sizeof(*world));

	vmstat(false);
	seed = opt.seed ? opt.seed : 1;
	if (opt.seed)
		last = opt.seed;
	bc_plan((last - seed + 1) * (to - from + 1));
	if (!bc_tells_ksm())
		bc_diag("KSM pages are not told apart: see bc_tells_ksm()");
	for (; seed <= last; seed++) {
		for (noisy = from; noisy <= to; noisy++) {
			opt.seed = seed;
			opt.noisy = noisy;
			run(&opt);
		}
	}
	print_totals();
	return bc_exit();
}
