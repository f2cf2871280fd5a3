// SPDX-License-Identifier: GPL-2.0
/*
 * The pager of the umap evictor: a region of memory with a file behind it, of
 * which only a pool of pages is in memory.
 *
 * Threads:
 *
 *  - the uffd thread reads events and queues them, nothing else. It must never
 *    wait for anybody: whoever calls mremap() waits until it has read the
 *    event of that.
 *  - fillers answer them: a missing page is read from the store and enters
 *    write-protected; a write fault ends the protection, the page is dirty.
 *  - evictors take the oldest page, protect it, write it to the store if it is
 *    dirty, and drop it - unless a store was trapped meanwhile.
 *
 * Every event ends in a wake: at once, by the filler that sees it, or by the
 * thread that is busy with the page (EV_FILLING, EV_EVICTING) when it is done.
 * So no wake is lost, and who was woken for nothing faults again.
 *
 * A page is dropped only in EV_EVICTING, protected, its content in the store,
 * and the decision to drop taken under the lock. A store trapped before that
 * keeps the page; one trapped after finds it missing, and waits for the fill.
 *
 * What the store must hold is known by a checksum of each page (the shadow):
 * a protected page that changes (untrapped write), a clean page that is not
 * what was filled (likewise), or a store that gives back something else
 * (torn) are counted, whatever the work in the region is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "umap_evictor.h"

#define EV_MISSING	0x1	/* the page has to be filled */
#define EV_WRITE	0x2	/* a write hit the protection */
#define EV_BATCH	4	/* pages that leave after one fork */

/**
 * ev_end() - end the run with a result, from any thread
 * @ret: BC_FAIL, BC_ERROR ...
 * @fmt: the reason
 */
void ev_end(int ret, const char *fmt, ...)
{
	char why[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	bc_why(ret, "%s", why);
	fflush(stdout);
	_exit(ret);
}

struct ev_start {
	void *(*fn)(void *arg);
	void *arg;
	char name[16];
};

static void *ev_named(void *arg)
{
	struct ev_start start = *(struct ev_start *)arg;

	free(arg);
	prctl(PR_SET_NAME, start.name);
	return start.fn(start.arg);
}

/**
 * ev_thread() - start a thread that has a name, or end the run
 * @tid: the thread
 * @name: shown with its stack if it hangs
 * @n: its number
 * @fn: what it does
 * @arg: for @fn
 */
void ev_thread(pthread_t *tid, const char *name, unsigned int n,
	       void *(*fn)(void *arg), void *arg)
{
	struct ev_start *start = malloc(sizeof(*start));

	if (start) {
		start->fn = fn;
		start->arg = arg;
		snprintf(start->name, sizeof(start->name), "%s/%u", name, n);
	}
	if (!start || pthread_create(tid, NULL, ev_named, start))
		ev_end(BC_ERROR, "no memory for a thread");
}

static void *ev_zalloc(size_t n, size_t size)
{
	void *mem = calloc(n, size);

	if (!mem)
		ev_end(BC_ERROR, "no memory for %zu entries", n);
	return mem;
}

static void ring_init(struct ev_ring *ring, size_t max)
{
	ring->at = ev_zalloc(max, sizeof(*ring->at));
	ring->max = max;
}

static void ring_put(struct ev_ring *ring, size_t i)
{
	ring->at[(ring->head + ring->n++) % ring->max] = i;
}

static size_t ring_get(struct ev_ring *ring)
{
	size_t i = ring->at[ring->head];

	ring->head = (ring->head + 1) % ring->max;
	ring->n--;
	return i;
}

static char *ev_addr(struct ev_pager *p, size_t i)
{
	return p->region + i * p->cfg.page;
}

static off_t ev_off(struct ev_pager *p, size_t i)
{
	return (off_t)i * p->cfg.page;
}

static __u64 ev_sum(const void *mem, size_t len)
{
	const __u64 *w = mem;
	__u64 sum = 0;
	size_t i;

	for (i = 0; i < len / sizeof(*w); i++)
		sum = (sum ^ __atomic_load_n(&w[i], __ATOMIC_RELAXED)) *
			0x9e3779b97f4a7c15ULL;
	return sum ^ sum >> 32;
}

static void ev_protect(struct ev_pager *p, size_t i, bool on)
{
	int ret = bc_uffd_wp(p->uffd, ev_addr(p, i), p->cfg.page, on);

	if (ret)
		ev_end(BC_ERROR, "UFFDIO_WRITEPROTECT: %s", strerror(-ret));
}

static void ev_wake(struct ev_pager *p, size_t i)
{
	int ret = bc_uffd_wake(p->uffd, ev_addr(p, i), p->cfg.page);

	if (ret)
		ev_end(BC_ERROR, "UFFDIO_WAKE: %s", strerror(-ret));
}

/* Reads events and queues them */
static void *ev_uffd_thread(void *arg)
{
	struct ev_pager *p = arg;
	struct uffd_msg msg;
	int ret;

	for (;;) {
		struct ev_block *b;
		size_t i;

		ret = bc_uffd_event(p->uffd, &msg, -1);
		if (ret < 0)
			ev_end(BC_ERROR, "reading events: %s", strerror(-ret));
		if (!ret || msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		i = ((char *)(uintptr_t)msg.arg.pagefault.address - p->region) /
			p->cfg.page;
		b = &p->blocks[i];
		pthread_mutex_lock(&p->qlock);
		if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			b->what |= EV_WRITE;
		else
			b->what |= EV_MISSING;
		if (!b->queued) {
			b->queued = true;
			ring_put(&p->queue, i);
			pthread_cond_signal(&p->qmore);
		}
		pthread_mutex_unlock(&p->qlock);
	}
	return NULL;
}

static void ev_read_store(struct ev_pager *p, size_t i, void *buf)
{
	size_t done = 0;
	ssize_t n;

	while (done < p->cfg.page) {
		n = pread(p->cfg.store, (char *)buf + done, p->cfg.page - done,
			  ev_off(p, i) + done);
		if (n <= 0)
			ev_end(BC_ERROR, "reading the store: %s",
			       n ? strerror(errno) : "end of file");
		done += n;
	}
}

/*
 * A huge page can't be filled by UFFDIO_COPY (it makes small pages), nor by a
 * fault (a region registered for missing pages gets small ones or an event).
 * So it is made and filled aside, protected there, and moved into place with
 * its PMD: mremap() replaces the mapping under the mmap lock, so workers find
 * it missing before and protected after, and nothing in between. It keeps
 * registration and protection because the userfaultfd has asked for events
 * of mremap(); without that it would lose both.
 */
static __u64 ev_fill_huge(struct ev_pager *p, size_t i)
{
	char *mem;
	__u64 sum;
	int ret;

	/* Shared with a child before it is protected, it would be split. */
	pthread_rwlock_rdlock(&p->forks);
	mem = bc_thp_alloc(1);
	if (!mem)
		ev_end(bc_last(), "%s", bc_reason());
	ev_read_store(p, i, mem);
	sum = ev_sum(mem, BC_THP_SIZE);
	ret = bc_uffd_register(p->uffd, mem, BC_THP_SIZE,
			       UFFDIO_REGISTER_MODE_MISSING |
			       UFFDIO_REGISTER_MODE_WP);
	if (!ret)
		ret = bc_uffd_wp(p->uffd, mem, BC_THP_SIZE, true);
	if (!ret && p->cfg.share && madvise(mem, BC_THP_SIZE, MADV_DONTFORK))
		ret = -errno;
	if (ret)
		ev_end(BC_ERROR, "protecting a huge page: %s", strerror(-ret));
	if (mremap(mem, BC_THP_SIZE, BC_THP_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   ev_addr(p, i)) == MAP_FAILED)
		ev_end(BC_ERROR, "mremap of a huge page: %s", strerror(errno));
	pthread_rwlock_unlock(&p->forks);
	return sum;
}

static __u64 ev_fill_small(struct ev_pager *p, size_t i, void *buf)
{
	int ret;

	ev_read_store(p, i, buf);
	ret = bc_uffd_copy(p->uffd, ev_addr(p, i), buf, p->cfg.page, true);
	if (ret)
		ev_end(BC_ERROR, "UFFDIO_COPY: %s", strerror(-ret));
	return ev_sum(buf, p->cfg.page);
}

/* Called and returns with the lock; the page is in the pool already */
static void ev_fill(struct ev_pager *p, size_t i, void *buf)
{
	struct ev_block *b = &p->blocks[i];
	__u64 sum;

	b->state = EV_FILLING;
	b->write_wanted = false;
	pthread_mutex_unlock(&p->lock);
	sum = p->cfg.thp ? ev_fill_huge(p, i) : ev_fill_small(p, i, buf);
	pthread_mutex_lock(&p->lock);
	if (b->summed && sum != b->sum) {
		ev_add(p->stats.torn, 1);
		bc_diag("page %zu: the store gave back something else", i);
	}
	b->sum = sum;
	b->summed = true;
	ev_add(p->stats.filled, 1);
	b->state = EV_CLEAN;
	if (b->write_wanted) {
		b->state = EV_DIRTY;
		ev_add(p->stats.wp_faults, 1);
		ev_protect(p, i, false);
	}
	ev_wake(p, i);
	ring_put(&p->fifo, i);
	pthread_cond_signal(&p->need);
}

static void ev_answer(struct ev_pager *p, size_t i, unsigned int what, void *buf)
{
	struct ev_block *b = &p->blocks[i];

	pthread_mutex_lock(&p->lock);
	while (b->state == EV_ABSENT && (what & EV_MISSING) &&
	       p->resident >= p->cfg.pool)
		pthread_cond_wait(&p->slot, &p->lock);
	switch (b->state) {
	case EV_ABSENT:
		if (what & EV_MISSING) {
			p->resident++;
			ev_fill(p, i, buf);
		} else {
			ev_wake(p, i);
		}
		break;
	case EV_FILLING:
	case EV_EVICTING:
		if (what & EV_WRITE)
			b->write_wanted = true;
		break;
	case EV_CLEAN:
		if (what & EV_WRITE) {
			b->state = EV_DIRTY;
			ev_add(p->stats.wp_faults, 1);
			ev_protect(p, i, false);
		}
		ev_wake(p, i);
		break;
	case EV_DIRTY:
		ev_wake(p, i);
		break;
	}
	pthread_mutex_unlock(&p->lock);
	bc_beat();
}

static void *ev_filler(void *arg)
{
	struct ev_pager *p = arg;
	unsigned int what;
	void *buf = NULL;
	size_t i;

	if (!p->cfg.thp) {
		buf = bc_alloc(p->cfg.page);
		if (!buf || madvise(buf, p->cfg.page, MADV_DONTFORK))
			ev_end(BC_ERROR, "%s", bc_reason());
	}
	for (;;) {
		pthread_mutex_lock(&p->qlock);
		while (!p->queue.n)
			pthread_cond_wait(&p->qmore, &p->qlock);
		i = ring_get(&p->queue);
		what = p->blocks[i].what;
		p->blocks[i].what = 0;
		p->blocks[i].queued = false;
		pthread_mutex_unlock(&p->qlock);
		ev_answer(p, i, what, buf);
	}
	return NULL;
}

/*
 * A store to a huge page that a child shares splits it. So children inherit no
 * huge page but the one that leaves.
 */
static void ev_inherit(struct ev_pager *p, size_t i, bool on)
{
	if (p->cfg.thp && p->cfg.share &&
	    madvise(ev_addr(p, i), p->cfg.page, on ? MADV_DOFORK : MADV_DONTFORK))
		ev_end(BC_ERROR, "MADV_DOFORK: %s", strerror(errno));
}

static void ev_refork(struct ev_pager *p, pid_t *child)
{
	int ready[2];
	char byte;

	bc_reap(*child);
	if (pipe2(ready, O_CLOEXEC))
		ev_end(BC_ERROR, "pipe: %s", strerror(errno));
	pthread_rwlock_wrlock(&p->forks);
	*child = fork();
	if (*child)
		pthread_rwlock_unlock(&p->forks);
	if (*child < 0)
		ev_end(BC_ERROR, "fork: %s", strerror(errno));
	if (!*child) {
		/* Other threads' locks may be taken: system calls only. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(p->uffd);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		ev_end(BC_ERROR, "the forked child died");
	close(ready[0]);
}

/* The page is protected and EV_EVICTING */
static void ev_write_out(struct ev_pager *p, size_t i)
{
	struct ev_block *b = &p->blocks[i];
	char *addr = ev_addr(p, i);
	__u64 sum = ev_sum(addr, p->cfg.page);
	__u64 entry = bc_pagemap(addr);
	int ret;

	if (!b->dirty) {
		if (sum != b->sum) {
			ev_add(p->stats.untrapped, 1);
			bc_diag("page %zu: clean, but not what was filled", i);
		}
		return;
	}
	if ((entry & BC_PM_PRESENT) && !(entry & BC_PM_EXCLUSIVE))
		ev_add(p->stats.shared, 1);
	if (p->cfg.thp && bc_is_thp(addr, BC_THP_SIZE))
		ev_add(p->stats.huge, 1);
	__atomic_store_n(&p->hint, (long)i, __ATOMIC_RELAXED);
	bc_waiting("%s, page %zu", p->cfg.way->what, i);
	ret = p->cfg.way->leave(addr, p->cfg.page, p->cfg.store, ev_off(p, i));
	if (ret)
		ev_end(BC_FAIL, "got %s from %s of page %zu, want it written",
		       strerror(-ret), p->cfg.way->name, i);
	__atomic_store_n(&p->hint, -1, __ATOMIC_RELAXED);
	if (ev_sum(addr, p->cfg.page) != sum) {
		ev_add(p->stats.untrapped, 1);
		bc_diag("page %zu: changed while protected", i);
	}
	b->sum = sum;
	ev_add(p->stats.written, 1);
}

static void ev_drop(struct ev_pager *p, size_t i)
{
	struct ev_block *b = &p->blocks[i];

	ev_inherit(p, i, false);
	pthread_mutex_lock(&p->lock);
	if (b->write_wanted) {
		p->evicting--;
		b->state = EV_DIRTY;
		ev_add(p->stats.kept, 1);
		ev_add(p->stats.wp_faults, 1);
		ev_protect(p, i, false);
		ev_wake(p, i);
		ring_put(&p->fifo, i);
		pthread_cond_signal(&p->need);
		pthread_mutex_unlock(&p->lock);
		return;
	}
	pthread_mutex_unlock(&p->lock);
	/* Decided: who wants to write from now on has to wait for a fill. */
	if (madvise(ev_addr(p, i), p->cfg.page, MADV_DONTNEED))
		ev_end(BC_ERROR, "MADV_DONTNEED: %s", strerror(errno));
	pthread_mutex_lock(&p->lock);
	p->evicting--;
	p->resident--;
	b->state = EV_ABSENT;
	ev_add(p->stats.evicted, 1);
	ev_wake(p, i);
	pthread_cond_broadcast(&p->slot);
	if (!p->resident)
		pthread_cond_signal(&p->empty);
	pthread_mutex_unlock(&p->lock);
}

/* How many pages ought to leave now, beyond those that are leaving */
static size_t ev_surplus(struct ev_pager *p)
{
	size_t low = p->cfg.pool - (p->cfg.pool / 8 ? : 1);
	size_t staying = p->resident - p->evicting;

	if (p->drain)
		low = 0;
	/* Pages that are being filled are not in the FIFO yet. */
	if (staying <= low || !p->fifo.n)
		return 0;
	return staying - low < p->fifo.n ? staying - low : p->fifo.n;
}

static void *ev_evictor(void *arg)
{
	struct ev_pager *p = arg;
	size_t victims[EV_BATCH], n, max, i;
	pid_t child = 0;

	for (;;) {
		pthread_mutex_lock(&p->lock);
		while (!(max = ev_surplus(p)))
			pthread_cond_wait(&p->need, &p->lock);
		if (p->cfg.thp)
			max = 1;
		for (n = 0; n < max && n < EV_BATCH; n++) {
			struct ev_block *b;

			victims[n] = ring_get(&p->fifo);
			b = &p->blocks[victims[n]];
			b->dirty = b->state == EV_DIRTY;
			b->write_wanted = false;
			b->state = EV_EVICTING;
			p->evicting++;
		}
		pthread_mutex_unlock(&p->lock);
		for (i = 0; i < n; i++)
			if (p->blocks[victims[i]].dirty)
				ev_protect(p, victims[i], true);
		ev_inherit(p, victims[0], true);
		/* Protected first: no store can end the sharing. */
		if (p->cfg.share)
			ev_refork(p, &child);
		for (i = 0; i < n; i++) {
			ev_write_out(p, victims[i]);
			ev_drop(p, victims[i]);
			bc_beat();
		}
	}
	return NULL;
}

/**
 * ev_start() - map the region and start the pager's threads
 * @cfg: what to run
 *
 * Return: the pager; what goes wrong ends the process.
 */
struct ev_pager *ev_start(const struct ev_config *cfg)
{
	size_t len = cfg->pages * cfg->page;
	struct ev_pager *p = ev_zalloc(1, sizeof(*p));
	unsigned int i;
	pthread_t tid;
	char *map;
	int ret;

	p->cfg = *cfg;
	p->hint = -1;
	p->blocks = ev_zalloc(cfg->pages, sizeof(*p->blocks));
	ring_init(&p->fifo, cfg->pages);
	ring_init(&p->queue, cfg->pages);
	pthread_mutex_init(&p->lock, NULL);
	pthread_mutex_init(&p->qlock, NULL);
	pthread_rwlock_init(&p->forks, NULL);
	pthread_cond_init(&p->need, NULL);
	pthread_cond_init(&p->slot, NULL);
	pthread_cond_init(&p->empty, NULL);
	pthread_cond_init(&p->qmore, NULL);
	p->uffd = bc_uffd_open(cfg->thp ? UFFD_FEATURE_EVENT_REMAP : 0);
	if (p->uffd < 0)
		ev_end(bc_last(), "%s", bc_reason());
	map = bc_alloc(len + BC_THP_SIZE);
	if (!map)
		ev_end(BC_ERROR, "%s", bc_reason());
	p->region = bc_thp_round_up(map);
	ret = bc_uffd_register(p->uffd, p->region, len,
			       UFFDIO_REGISTER_MODE_MISSING |
			       UFFDIO_REGISTER_MODE_WP);
	if (ret)
		ev_end(BC_ERROR, "UFFDIO_REGISTER: %s", strerror(-ret));
	ev_thread(&tid, "uffd", 0, ev_uffd_thread, p);
	for (i = 0; i < cfg->fillers; i++)
		ev_thread(&tid, "filler", i, ev_filler, p);
	for (i = 0; i < cfg->evictors; i++)
		ev_thread(&tid, "evictor", i, ev_evictor, p);
	return p;
}

/**
 * ev_flush() - have every page evicted
 * @p: the pager; nobody may use the region meanwhile
 */
void ev_flush(struct ev_pager *p)
{
	pthread_mutex_lock(&p->lock);
	p->drain = true;
	pthread_cond_broadcast(&p->need);
	while (p->resident)
		pthread_cond_wait(&p->empty, &p->lock);
	p->drain = false;
	pthread_mutex_unlock(&p->lock);
}
