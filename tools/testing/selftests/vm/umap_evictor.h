/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The parts of the umap evictor: a pager (umap_evictor_pager.c), and work that
 * goes on in the memory it pages (umap_evictor_work.c).
 */
#ifndef UMAP_EVICTOR_H
#define UMAP_EVICTOR_H

#include <pthread.h>

#include "break_cow_util.h"

/**
 * struct ev_config - what to run
 * @way: how a dirty page leaves for the store
 * @page: size of a page of the region, a multiple of the system's
 * @pages: of the region
 * @pool: how many of them may be in memory
 * @workers: threads that read and write the region
 * @evictors: threads that evict
 * @fillers: threads that answer faults
 * @thp: pages are huge pages, mapped by PMDs
 * @share: a forked child shares every page that leaves
 * @store: the file behind the region, opened as @way wants it
 * @ops: how much each worker does (counting)
 * @seconds: repeat the work for so long
 */
struct ev_config {
	const struct bc_way *way;
	size_t page;
	size_t pages;
	size_t pool;
	unsigned int workers;
	unsigned int evictors;
	unsigned int fillers;
	bool thp;
	bool share;
	int store;
	unsigned long ops;
	unsigned int seconds;
};

/* Counts since the start; updated atomically, read at any time */
struct ev_stats {
	unsigned long filled;
	unsigned long evicted;		/* pages that left memory */
	unsigned long written;		/* of these, and of @kept, to the store */
	unsigned long kept;		/* written, but a store came in between */
	unsigned long wp_faults;
	unsigned long huge;		/* of @written, when they were */
	unsigned long shared;		/* likewise */
	unsigned long untrapped;	/* content changed while protected */
	unsigned long torn;		/* store gave back something else */
	unsigned long lost;		/* writes that a worker missed */
	double seconds;			/* of the work, until all has left */
	double cpu;			/* the same, of this process */
};

enum ev_state { EV_ABSENT, EV_FILLING, EV_CLEAN, EV_DIRTY, EV_EVICTING };

/* One page of the region; all but what/queued is under the pager's lock */
struct ev_block {
	enum ev_state state;
	bool write_wanted;	/* trapped while filling or evicting */
	bool dirty;		/* evicting: has to be written */
	bool summed;
	__u64 sum;		/* of what the store must hold */
	unsigned int what;	/* faults not answered yet, under qlock */
	bool queued;		/* likewise */
};

struct ev_ring {
	size_t *at;
	size_t head, n, max;
};

struct ev_pager {
	struct ev_config cfg;
	struct ev_stats stats;
	char *region;
	int uffd;
	struct ev_block *blocks;

	pthread_mutex_t lock;
	pthread_cond_t need;	/* evictors: something to evict */
	pthread_cond_t slot;	/* fillers: room in the pool */
	pthread_cond_t empty;	/* flush: nothing left */
	struct ev_ring fifo;	/* resident, oldest first */
	size_t resident, evicting;
	bool drain;
	long hint;		/* page being written out now, or -1 */

	pthread_mutex_t qlock;	/* never taken together with lock */
	pthread_cond_t qmore;
	struct ev_ring queue;

	pthread_rwlock_t forks;	/* read: no fork now */
};

#define ev_add(counter, n)	__atomic_fetch_add(&(counter), n, __ATOMIC_RELAXED)
#define ev_read(counter)	__atomic_load_n(&(counter), __ATOMIC_RELAXED)

/* umap_evictor_pager.c */
struct ev_pager *ev_start(const struct ev_config *cfg);
void ev_flush(struct ev_pager *p);
void ev_thread(pthread_t *tid, const char *name, unsigned int n,
	       void *(*fn)(void *arg), void *arg);
void ev_end(int ret, const char *fmt, ...)
	__printf(2, 3) __attribute__((noreturn));

/* umap_evictor_work.c */
void ev_count(struct ev_pager *p);
void ev_sort(struct ev_pager *p, size_t bytes);

#endif /* UMAP_EVICTOR_H */
