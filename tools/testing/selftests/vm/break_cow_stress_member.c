// SPDX-License-Identifier: GPL-2.0
/*
 * A member of the tree of break_cow_stress: its threads, and what it does for
 * the conductor between two bursts, when all lanes are at rest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "break_cow_stress.h"
#include "../../../../mm/break_cow_test.h"

#define STACK	(128 << 10)

/* Sleep until @word is no longer @old, or so. */
void wait_change(unsigned int *word, unsigned int old, unsigned int ms)
{
	struct timespec ts = {
		.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L,
	};

	if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == old)
		syscall(SYS_futex, word, FUTEX_WAIT, old, &ts, NULL, 0);
}

void wake_all(unsigned int *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static struct page *page_at(__u64 addr)
{
	unsigned int i;

	for (i = 0; i < me.nr_pages; i++)
		if ((uintptr_t)me.page[i].addr == (addr & ~(PAGE - 1)))
			return &me.page[i];
	return NULL;
}

/* Lets trapped stores go on: only stores that have to trap may do so. */
static void *uffd_thread(void *arg)
{
	struct uffd_msg msg;
	struct page *p;

	(void)arg;
	for (;;) {
		if (bc_uffd_event(me.uffd, &msg, 10000) <= 0)
			continue;
		p = page_at(msg.arg.pagefault.address);
		if (!p) {
			violate(NULL, NULL, "an event at %#llx, where nothing is protected",
				(unsigned long long)msg.arg.pagefault.address);
		} else if (!__atomic_load_n(&p->wp, __ATOMIC_SEQ_CST) ||
			   __atomic_load_n(&me.lane[p->lane].storing, __ATOMIC_SEQ_CST) != p) {
			violate(&me.lane[p->lane], p, "an event, and %s",
				p->wp ? "nobody stores" : "it is not protected");
		} else {
			__atomic_store_n(&p->wp, false, __ATOMIC_SEQ_CST);
			__atomic_store_n(&p->trapped, true, __ATOMIC_SEQ_CST);
			__atomic_fetch_add(&world->traps_seen, 1, __ATOMIC_RELAXED);
		}
		bc_uffd_wp(me.uffd, (void *)(uintptr_t)(msg.arg.pagefault.address & ~(PAGE - 1)),
			   PAGE, false);
	}
	return NULL;
}

static void lane_files(struct lane *l)
{
	l->direct = bc_tmpfile(O_DIRECT);
	if (l->direct < 0 || ftruncate(l->direct, 2 * PAGE) ||
	    pipe2(l->scratch, O_CLOEXEC))
		violate(l, NULL, "cannot make files: %s", strerror(errno));
}

static void *lane_thread(void *arg)
{
	struct lane *l = arg;
	struct slot *slot = me.slot;
	unsigned int seq = 0, i;
	bool last = false;
	int err;

	/* Makes a ring and a file, which a file system wants memory for. */
	err = bc_pin(l->buf, PAGE);
	if (!err)
		err = bc_pin_read(l->buf, l->buf, PAGE);
	if (!err)
		err = bc_unpin();
	if (err)
		violate(l, NULL, "io_uring: %s", strerror(-err));
	while (!last) {
		while (__atomic_load_n(&slot->burst_seq, __ATOMIC_SEQ_CST) == seq)
			wait_change(&slot->burst_seq, seq, 1000);
		seq = slot->burst_seq;
		l->choice = rnd_seed(world->opt.seed, world->burst,
				     me.uid * LANES + l->nr);
		for (i = 0; i < slot->burst_ops && !world->stop; i++)
			lane_op(l);
		last = slot->burst_last;
		if (last && !world->stop)
			lane_last(l);
		if (!__atomic_sub_fetch(&slot->burst_left, 1, __ATOMIC_SEQ_CST)) {
			__atomic_store_n(&slot->burst_ack, seq, __ATOMIC_SEQ_CST);
			wake_all(&slot->burst_ack);
		}
	}
	/* From now on the slot may be another's. */
	return NULL;
}

static void thread(void *(*fn)(void *), void *arg, unsigned int nr)
{
	/* Of no use to a child: its threads take the same stacks again. */
	static char stack[LANES + 1][STACK] __attribute__((aligned(4096)));
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, stack[nr], STACK);
	if (pthread_create(&t, &attr, fn, arg))
		violate(NULL, NULL, "no thread");
	pthread_attr_destroy(&attr);
}

/* In pages where it has become more than one mapping, else as a whole */
static void unprotect(char *start, size_t len)
{
	size_t i;

	if (!bc_uffd_wp(me.uffd, start, len, false))
		return;
	for (i = 0; i < len; i += PAGE)
		bc_uffd_wp(me.uffd, start + i, PAGE, false);
}

/* What a new member does not inherit */
static void member_start(struct slot *slot)
{
	static char buf[LANES][PAGE] __attribute__((aligned(4096)));
	unsigned int i;
	int fd;

	prctl(PR_SET_PDEATHSIG, 0);
	for (fd = 3; fd < 256; fd++)
		close(fd);
	me.slot = slot;
	me.uid = slot->uid;
	memset(me.child, 0, sizeof(me.child));
	me.forks_begun = 1;
	me.forks_done = 1;
	for (i = 0; i < LANES; i++) {
		struct lane *l = &me.lane[i];

		memset(l, 0, sizeof(*l));
		l->nr = i;
		l->buf = buf[i];
		l->status = &slot->status[i];
		*l->status = (struct lane_status) { .uid = me.uid, .lane = i };
		lane_files(l);
	}
	me.uffd = bc_uffd_open(0);
	for (i = 0; i < R_NR; i++)
		if ((M(i) & M_WP) &&
		    bc_uffd_register(me.uffd, me.start[i], me.len[i],
				     UFFDIO_REGISTER_MODE_WP))
			violate(NULL, NULL, "cannot register: %s", strerror(errno));
	/* fork() has left the protection of the parent behind in the entries. */
	for (i = 0; bc_kernel_before(5, 9) && i < R_NR; i++)
		if (M(i) & M_WP)
			unprotect(me.start[i], me.len[i]);
	for (i = 0; i < me.nr_pages; i++) {
		me.page[i].wp = false;
		me.page[i].rw = false;
		me.page[i].epoch = 0;
		if (me.page[i].sd == SD_CLEAN)
			me.page[i].sd = SD_UNKNOWN;
	}
	for (i = 0; i < LANES; i++)
		thread(lane_thread, &me.lane[i], i);
	thread(uffd_thread, NULL, LANES);
}

static void do_clear_refs(void)
{
	unsigned int i;
	int err = -bc_proc_write("/proc/self/clear_refs", "4");

	if (err) {
		violate(NULL, NULL, "got %s from clear_refs", strerror(err));
		return;
	}
	for (i = 0; i < me.nr_pages; i++) {
		/* It leaves alone what is pinned. */
		me.page[i].sd = holds_pin(&me.page[i]) ? SD_UNKNOWN : SD_CLEAN;
		page_readonly(&me.page[i]);
	}
	me.sd_vague = false;
}

/*
 * A new huge page in place of what has become of the old one: in a new mapping,
 * for the old one has been split by mprotect(), and fork() keeps it so.
 */
static void do_thp(enum region r, bool read_first)
{
	unsigned int i;

	if (mmap(me.start[r], me.len[r], PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    madvise(me.start[r], me.len[r], MADV_HUGEPAGE) ||
	    bc_uffd_register(me.uffd, me.start[r], me.len[r],
			     UFFDIO_REGISTER_MODE_WP)) {
		violate(NULL, NULL, "no new huge page: %s", strerror(errno));
		return;
	}
	if (read_first)
		bc_load(me.start[r]);
	for (i = 0; i < me.nr_pages; i++) {
		struct page *p = &me.page[i];

		if (p->region != r)
			continue;
		page_dropped(p);
		p->ro = false;
	}
	for (i = 0; i < me.nr_pages; i++) {
		struct page *p = &me.page[i];

		if (p->region == r)
			page_store(&me.lane[p->lane], p, true, 0);
	}
}

static __u64 pagemap_of(pid_t pid, const char *addr)
{
	__u64 entry = 0;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	bc_proc_read(path, &entry, sizeof(entry),
		     (uintptr_t)addr / PAGE * sizeof(entry));
	return entry;
}

static int read_remote(pid_t pid, void *buf, const void *addr, size_t len)
{
	struct iovec to = { .iov_base = buf, .iov_len = len };
	struct iovec from = { .iov_base = (void *)addr, .iov_len = len };

	return process_vm_readv(pid, &to, 1, &from, 1, 0) == (ssize_t)len ?
		0 : errno ? errno : EIO;
}

static int read_ptrace(pid_t pid, __u64 *buf, struct page *p)
{
	unsigned int i;
	int err = 0, status;

	if (ptrace(PTRACE_SEIZE, pid, 0, 0))
		return errno;
	if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) ||
	    waitpid(pid, &status, __WALL) != pid) {
		err = errno;
	} else {
		/* Two words are enough, each is a system call. */
		for (i = 0; i < WORDS; i++)
			buf[i] = i == POKE ? p->now.poke : p->now.base;
		errno = 0;
		buf[0] = ptrace(PTRACE_PEEKDATA, pid, p->addr, 0);
		buf[POKE] = ptrace(PTRACE_PEEKDATA, pid, p->addr + POKE * 8, 0);
		err = errno;
	}
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return err;
}

static int read_taken(pid_t pid, void *buf, const void *addr, unsigned int how)
{
	struct break_cow_take take = {
		.addr = (uintptr_t)addr, .nr_pages = 1, .how = how, .pid = pid,
	};
	struct break_cow_copy copy = { .buf = (uintptr_t)buf, .len = PAGE };
	int fd = open(BC_DRIVER, O_RDWR | O_CLOEXEC);
	int err = 0, n;

	if (fd < 0)
		return errno;
	n = ioctl(fd, BREAK_COW_TAKE, &take);
	if (n != 1)
		err = n < 0 ? errno : EFAULT;
	else if (ioctl(fd, BREAK_COW_READ, &copy))
		err = errno;
	close(fd);
	return err;
}

/*
 * Read a page of another member, whose model lies where ours does. Who only
 * looks leaves the page where it is; a page that was never stored to stays that
 * for all.
 */
static void do_remote(enum op op, struct slot *whose, unsigned int nr)
{
	static __u64 buf[WORDS];
	pid_t pid = whose->pid;
	char path[32];
	struct page p;
	__u64 before, after;
	int err, n;

	err = read_remote(pid, &p, &me.page[nr], sizeof(p));
	if (err) {
		violate(NULL, NULL, "cannot read another's model: %s", strerror(err));
		return;
	}
	before = pagemap_of(pid, p.addr);
	switch (op) {
	case OP_REMOTE_READV:
		err = read_remote(pid, buf, p.addr, PAGE);
		break;
	case OP_REMOTE_LOOK:
		snprintf(path, sizeof(path), "/proc/%d/mem", pid);
		n = bc_proc_read(path, buf, PAGE, (uintptr_t)p.addr);
		err = n == (int)PAGE ? 0 : n < 0 ? -n : EIO;
		break;
	case OP_PTRACE:
		err = read_ptrace(pid, buf, &p);
		break;
	default:
		err = read_taken(pid, buf, p.addr,
				 nr & 1 ? BREAK_COW_PIN : BREAK_COW_NO_RETRY);
	}
	after = pagemap_of(pid, p.addr);
	if (err) {
		op_failed(NULL, p.region == R_HUGETLB ? NULL : &p, err, op_name[op]);
		return;
	}
	state_want(NULL, &p, buf, op_name[op]);

	if (!(after & BC_PM_PRESENT) || p.region != R_SMALL)
		return;
	if (!p.anon && (after & BC_PM_PFN) != zero_pfn)
		violate(NULL, &p, "%s allocated a page for a read of the zero page",
			op_name[op]);
	if ((op == OP_REMOTE_LOOK || op == OP_PTRACE) && !world->opt.noisy &&
	    (before & BC_PM_PRESENT) && (before ^ after) & BC_PM_PFN)
		violate(NULL, &p, "%s only looks, and got the page copied",
			op_name[op]);
}

/* Returns true in a new member. */
static bool do_fork(struct slot *slot)
{
	pid_t *child = &me.child[slot - world->slot], pid;

	/* Whoever had the slot before is no more. */
	if (*child > 0)
		waitpid(*child, NULL, 0);

	me.forks_begun++;
	pid = fork();
	if (!pid) {
		member_start(slot);
		return true;
	}
	me.forks_done++;
	*child = pid;
	if (pid < 0)
		violate(NULL, NULL, "got %s from fork", strerror(errno));
	slot->pid = pid;
	return false;
}

static void acknowledge(struct slot *slot, unsigned int seq)
{
	__atomic_store_n(&slot->cmd_ack, seq, __ATOMIC_SEQ_CST);
	wake_all(&slot->cmd_ack);
}

/* Life of a member */
void member_main(struct slot *slot)
{
	unsigned int seq = 0;

	member_start(slot);
	acknowledge(me.slot, seq);
	for (;;) {
		while (__atomic_load_n(&me.slot->cmd_seq, __ATOMIC_SEQ_CST) == seq)
			wait_change(&me.slot->cmd_seq, seq, 1000);
		seq = me.slot->cmd_seq;
		switch (me.slot->cmd) {
		case CMD_FORK:
			if (do_fork(&world->slot[me.slot->arg[0]]))
				seq = 0;
			break;
		case CMD_CLEAR_REFS:
			do_clear_refs();
			break;
		case CMD_THP:
			do_thp(me.slot->arg[0], me.slot->arg[1]);
			break;
		case CMD_REMOTE:
			do_remote(me.slot->arg[0], &world->slot[me.slot->arg[1]],
				  me.slot->arg[2]);
			break;
		default:
			acknowledge(me.slot, seq);
			_exit(0);
		}
		acknowledge(me.slot, seq);
	}
}
