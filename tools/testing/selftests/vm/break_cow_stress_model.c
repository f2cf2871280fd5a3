// SPDX-License-Identifier: GPL-2.0
/*
 * The model of break_cow_stress: what each page contains, and whether a store
 * to it must trap. See break_cow_stress.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "break_cow_stress.h"

#define HUGE_STEP	37	/* pages from one that is used to the next */

struct world *world;
struct member me;
__u64 zero_pfn;

static const char * const region_name[R_NR] = {
	[R_SMALL] = "4K", [R_KSM] = "KSM", [R_THP] = "THP",
	[R_THP_PIN] = "pinned THP", [R_HUGETLB] = "hugetlb", [R_FILE] = "file",
};

static __thread sigjmp_buf jump;
static __thread volatile sig_atomic_t may_jump;
static __thread unsigned int armed;

/* splitmix64 */
static __u64 mix(__u64 z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* A number below @n */
unsigned int rnd(__u64 *state, unsigned int n)
{
	*state += 0x9e3779b97f4a7c15ULL;
	return (mix(*state) >> 33) % n;
}

__u64 rnd_seed(__u64 a, __u64 b, __u64 c)
{
	return mix(mix(mix(a + 1) + b) + c);
}

/* Something contradicts the model. The first to say so is heard. */
void violate(struct lane *l, struct page *p, const char *fmt, ...)
{
	char what[200], where[80] = "", who[120] = "";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (p)
		snprintf(where, sizeof(where), "page %u (%s), ", p->id,
			 region_name[p->region]);
	if (l)
		snprintf(who, sizeof(who),
			 " in %s, operation %lu of lane %u of member %u, burst %lu",
			 op_name[l->status->op], l->status->nr, l->nr,
			 l->status->uid, world->burst);
	if (!__atomic_fetch_add(&world->stop, 1, __ATOMIC_SEQ_CST))
		snprintf(world->why, sizeof(world->why), "seed %lu: %s%s%s",
			 world->opt.seed, where, what, who);
}

static void on_signal(int sig, siginfo_t *info, void *ctx)
{
	(void)ctx;
	if (may_jump) {
		may_jump = 0;
		siglongjmp(jump, sig);
	}
	violate(NULL, NULL, "signal %d at address %p", sig, info->si_addr);
	_exit(1);
}

/*
 * Have the @nth allocation of this thread fail from now on, if that is asked
 * for; 0 ends it.
 */
void fault_in_op(unsigned int nth)
{
	char text[16];

	if (!world->opt.faults || nth == armed)
		return;
	snprintf(text, sizeof(text), "%u", nth);
	/* Disarming may itself be what fails, but once. */
	if (bc_proc_write("/proc/thread-self/fail-nth", text) && !nth)
		bc_proc_write("/proc/thread-self/fail-nth", text);
	armed = nth;
}

/*
 * An operation failed: it has changed nothing then. It must not fail, unless
 * it is made to; @p is NULL where it may.
 */
void op_failed(struct lane *l, struct page *p, int err, const char *what)
{
	if (p && !world->opt.faults)
		violate(l, p, "got %s from %s", strerror(err), what);
	__atomic_fetch_add(&world->failed, 1, __ATOMIC_RELAXED);
}

/* Forks that are over, 0 while one is under way */
unsigned long epoch_now(void)
{
	unsigned long done = __atomic_load_n(&me.forks_done, __ATOMIC_SEQ_CST);

	return done == __atomic_load_n(&me.forks_begun, __ATOMIC_SEQ_CST) ? done : 0;
}

/* First word that differs, or -1 */
int state_differs(const void *buf, const struct state *s)
{
	const __u64 *w = buf;
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		if (w[i] != (i == POKE ? s->poke : s->base))
			return i;
	return -1;
}

void state_want(struct lane *l, struct page *p, const void *buf,
		const char *what)
{
	const __u64 *w = buf;
	int i = state_differs(buf, &p->now);

	if (i >= 0)
		violate(l, p, "offset %u of %s: got %#llx, want %#llx", i * 8,
			what, (unsigned long long)w[i],
			(unsigned long long)(i == POKE ? p->now.poke : p->now.base));
}

/* Returns 0, or the signal that came of it. */
int raw_store(char *addr, const struct state *s, bool whole)
{
	volatile __u64 *w = (__u64 *)addr;
	unsigned int i;
	int sig;

	sig = sigsetjmp(jump, 0);
	if (sig)
		return sig;
	may_jump = 1;
	if (whole)
		for (i = 0; i < WORDS; i++)
			w[i] = i == POKE ? s->poke : s->base;
	else
		w[POKE] = s->poke;
	may_jump = 0;
	return 0;
}

/* Returns 0, or the signal that came of it. */
int raw_copy(void *to, const char *addr, size_t len)
{
	int sig = sigsetjmp(jump, 0);

	if (sig)
		return sig;
	may_jump = 1;
	memcpy(to, addr, len);
	may_jump = 0;
	return 0;
}

static __u64 word(struct page *p)
{
	return 0xa5ULL << 56 | (__u64)me.uid << 36 | (__u64)p->id << 28 |
		(p->ver & 0xfffffff);
}

/*
 * Store to a page, all of it or one word. @ksm: not 0 for one of few words that
 * other pages have as well. Returns false if that failed, for lack of memory.
 */
bool page_store(struct lane *l, struct page *p, bool whole, unsigned int ksm)
{
	unsigned long epoch = epoch_now();
	struct state s = p->now;
	bool due = p->wp;
	int sig;

	holds_before_store(l, p);
	p->ver++;
	s.poke = ksm ? 0x4bULL << 56 | ksm : word(p);
	if (whole)
		s.base = s.poke;
	__atomic_store_n(&p->trapped, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&l->storing, p, __ATOMIC_SEQ_CST);
	sig = raw_store(p->addr, &s, whole);
	__atomic_store_n(&l->storing, NULL, __ATOMIC_SEQ_CST);
	if (sig) {
		/* Only where there may be no page for it. */
		if (p->region != R_HUGETLB || sig != SIGBUS)
			violate(l, p, "signal %d from a store", sig);
		op_failed(l, NULL, ENOMEM, "store");
		return false;
	}
	p->now = s;
	p->anon = true;
	p->sd = SD_DIRTY;
	if (due) {
		__atomic_fetch_add(&world->traps_due, 1, __ATOMIC_RELAXED);
		if (!__atomic_load_n(&p->trapped, __ATOMIC_SEQ_CST))
			violate(l, p, "a store to a protected page was not trapped");
	}
	p->epoch = epoch && epoch == epoch_now() ? epoch : 0;
	p->rw = p->epoch;
	holds_stored(p, epoch);
	return true;
}

/* A store where the mapping forbids it. */
void page_store_ro(struct lane *l, struct page *p)
{
	struct state s = { .poke = word(p) };
	int sig;

	/* A signal that finds no memory is another one. */
	fault_in_op(0);
	sig = raw_store(p->addr, &s, false);
	if (sig != SIGSEGV)
		violate(l, p, "%s from a store to a read-only mapping, want SIGSEGV",
			sig ? "SIGBUS" : "no signal");
}

void page_check(struct lane *l, struct page *p)
{
	int sig = raw_copy(l->buf, p->addr, PAGE);

	if (sig)
		violate(l, p, "signal %d from a load", sig);
	else
		state_want(l, p, l->buf, "memory");
}

/* The page is gone; what comes in its place is zero, or the file. */
void page_dropped(struct page *p)
{
	__u64 w = p->region == R_FILE ? 0xf1ULL << 56 | p->id : 0;

	holds_dropped(p);
	p->now.base = w;
	p->now.poke = w;
	p->ver++;
	p->anon = false;
	p->wp = false;
	p->rw = false;
	p->epoch = 0;
	p->sd = SD_UNKNOWN;
}

/* Something has made the entry of the page read-only, or may have. */
void page_readonly(struct page *p)
{
	p->rw = false;
	holds_readonly(p);
}

static void add_page(enum region r, char *addr)
{
	struct page *p = &me.page[me.nr_pages];

	p->id = me.nr_pages;
	p->region = r;
	p->addr = addr;
	/* A huge page of hugetlb is mprotect()ed as a whole. */
	p->lane = r == R_HUGETLB ? 0 : me.nr_pages % LANES;
	p->sd = SD_UNKNOWN;
	p->mergeable = r == R_KSM;
	if (r == R_FILE) {
		p->now.base = 0xf1ULL << 56 | p->id;
		p->now.poke = p->now.base;
	}
	me.nr_pages++;
}

static char *map_file(unsigned int first, unsigned int n)
{
	__u64 buf[WORDS];
	int fd = bc_tmpfile(0);
	unsigned int i, j;
	char *mem;

	if (fd < 0)
		return NULL;
	for (i = 0; i < n; i++) {
		for (j = 0; j < WORDS; j++)
			buf[j] = 0xf1ULL << 56 | (first + i);
		if (write(fd, buf, PAGE) != (ssize_t)PAGE)
			return NULL;
	}
	mem = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	return mem == MAP_FAILED ? NULL : mem;
}

/* Memory of all kinds, in the first member. */
int model_init(void)
{
	static const struct {
		unsigned int pages, step;
	} want[R_NR] = {
		[R_SMALL] = { 56, 1 },
		[R_KSM] = { 32, 1 },
		[R_THP] = { 12, HUGE_STEP },
		[R_THP_PIN] = { 12, HUGE_STEP },
		[R_HUGETLB] = { 4, HUGE_STEP },
		[R_FILE] = { 8, 1 },
	};
	struct sigaction sa = {
		.sa_sigaction = on_signal, .sa_flags = SA_NODEFER | SA_SIGINFO,
	};
	unsigned int r, i;
	char *mem;
	int fd;

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	mem = bc_alloc(PAGE);
	if (!mem || bc_load(mem))
		return BC_ERROR;
	zero_pfn = bc_pfn(mem);
	if (!zero_pfn)
		return bc_why(BC_SKIP, "pagemap hides page frames (needs root)");
	bc_store(mem, 0);
	if (!(bc_pagemap(mem) & BC_PM_SOFT_DIRTY))
		return bc_why(BC_SKIP, "no soft-dirty (MEM_SOFT_DIRTY)");
	if (bc_pin(mem, PAGE) || bc_unpin())
		return bc_why(BC_SKIP, "no io_uring (CONFIG_IO_URING)");
	fd = bc_uffd_open(0);
	if (fd < 0)
		return BC_SKIP;
	close(fd);
	world->driver = !access(BC_DRIVER, W_OK);
	world->fork_shares_pins = bc_kernel_before(5, 9);
	if (world->fork_shares_pins)
		bc_diag("no pins are kept: fork() shares pinned pages before v5.9");

	me.away = bc_alloc(LANES * PAGE);
	for (r = 0; r < R_NR; r++) {
		me.len[r] = want[r].pages * PAGE;
		if (want[r].step > 1)
			me.len[r] = BC_THP_SIZE;
		switch (r) {
		case R_THP:
		case R_THP_PIN:
			mem = bc_thp_alloc(1);
			break;
		case R_HUGETLB:
			mem = mmap(NULL, me.len[r], PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
				   MAP_HUGE_2MB, -1, 0);
			if (mem == MAP_FAILED) {
				bc_diag("no huge page of hugetlb (nr_hugepages)");
				me.len[r] = 0;
				continue;
			}
			break;
		case R_FILE:
			mem = map_file(me.nr_pages, want[r].pages);
			break;
		default:
			mem = bc_alloc(me.len[r]);
		}
		if (!mem)
			return bc_last() ? bc_last() : BC_ERROR;
		me.start[r] = mem;
		for (i = 0; i < want[r].pages; i++)
			add_page(r, mem + i * want[r].step * PAGE);
	}
	if (madvise(me.start[R_KSM], me.len[R_KSM], MADV_MERGEABLE))
		return bc_why(BC_SKIP, "no KSM: %s (CONFIG_KSM)", strerror(errno));
	return BC_OK;
}
