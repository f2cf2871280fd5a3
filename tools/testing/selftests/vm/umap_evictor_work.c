// SPDX-License-Identifier: GPL-2.0
/*
 * Work in the region of the umap evictor: counters whose every value is known,
 * and sorting a file in place.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "umap_evictor.h"

static void *work_alloc(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		ev_end(BC_ERROR, "no memory for %zu bytes", len);
	return mem;
}

/* Have all leave, and see how long it took since the work began */
static void work_flush(struct ev_pager *p)
{
	ev_flush(p);
	p->stats.seconds += bc_now();
	p->stats.cpu += bc_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static void work_begin(struct ev_pager *p)
{
	p->stats.seconds = -bc_now();
	p->stats.cpu = -bc_clock(CLOCK_PROCESS_CPUTIME_ID);
}

/*
 * Counting. Every worker has two counters in every small page, one near its
 * beginning and one near its end, and knows what they must be: a write that is
 * lost, torn or seen twice shows at the next access, or in the store.
 */
struct count_worker {
	struct ev_pager *p;
	unsigned int n;
	__u64 *shadow;		/* one entry a small page */
	pthread_t tid;
};

static __u64 *count_front(char *page, unsigned int worker)
{
	return (__u64 *)page + worker;
}

static __u64 *count_back(char *page, unsigned int worker)
{
	return (__u64 *)(page + bc_page_size()) - 1 - worker;
}

static void count_check(struct count_worker *w, size_t at, char *page,
			const char *where)
{
	__u64 front = __atomic_load_n(count_front(page, w->n), __ATOMIC_RELAXED);
	__u64 back = __atomic_load_n(count_back(page, w->n), __ATOMIC_RELAXED);
	__u64 want = w->shadow[at];

	if (front == want && back == want)
		return;
	ev_add(w->p->stats.lost, 1);
	bc_diag("small page %zu, worker %u, %s: got %llu and %llu, want %llu",
		at, w->n, where, (unsigned long long)front,
		(unsigned long long)back, (unsigned long long)want);
	w->shadow[at] = front;
}

static void *count_thread(void *arg)
{
	struct count_worker *w = arg;
	const struct ev_config *cfg = &w->p->cfg;
	size_t small = cfg->page / bc_page_size(), at;
	unsigned int seed = w->n + 1;
	unsigned long op;
	char *page;
	long hint;

	for (op = 0; op < cfg->ops; op++) {
		at = rand_r(&seed) % cfg->pages;
		hint = __atomic_load_n(&w->p->hint, __ATOMIC_RELAXED);
		/* Now and then, aim at the page that is being written out. */
		if (hint >= 0 && rand_r(&seed) % 4 == 0)
			at = hint;
		at = at * small + rand_r(&seed) % small;
		page = w->p->region + at * bc_page_size();
		count_check(w, at, page, "in memory");
		if (rand_r(&seed) % 8 == 0)
			continue;
		w->shadow[at]++;
		__atomic_store_n(count_front(page, w->n), w->shadow[at],
				 __ATOMIC_SEQ_CST);
		__atomic_store_n(count_back(page, w->n), w->shadow[at],
				 __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void work_read(struct ev_pager *p, char *buf, size_t len, off_t off)
{
	ssize_t n;

	while (len) {
		n = pread(p->cfg.store, buf, len, off);
		if (n <= 0)
			ev_end(BC_ERROR, "reading the store: %s",
			       n ? strerror(errno) : "end of file");
		buf += n;
		off += n;
		len -= n;
	}
}

static void count_verify(struct ev_pager *p, struct count_worker *w)
{
	size_t len = p->cfg.pages * p->cfg.page, page = bc_page_size(), at, in;
	char *buf = work_alloc(BC_THP_SIZE);
	unsigned int n;

	for (at = 0; at < len; at += page) {
		in = at % BC_THP_SIZE;
		if (!in)
			work_read(p, buf, len - at < BC_THP_SIZE ? len - at :
				  BC_THP_SIZE, at);
		for (n = 0; n < p->cfg.workers; n++)
			count_check(&w[n], at / page, buf + in, "in the store");
	}
}

/**
 * ev_count() - have workers count in the region, and verify
 * @p: the pager; the store was all zero
 */
void ev_count(struct ev_pager *p)
{
	size_t small = p->cfg.pages * (p->cfg.page / bc_page_size());
	time_t end = time(NULL) + p->cfg.seconds;
	struct count_worker *w;
	unsigned int i;

	w = work_alloc(p->cfg.workers * sizeof(*w));
	for (i = 0; i < p->cfg.workers; i++) {
		w[i].p = p;
		w[i].n = i;
		w[i].shadow = work_alloc(small * sizeof(__u64));
	}
	work_begin(p);
	do {
		for (i = 0; i < p->cfg.workers; i++)
			ev_thread(&w[i].tid, "worker", i, count_thread, &w[i]);
		for (i = 0; i < p->cfg.workers; i++)
			pthread_join(w[i].tid, NULL);
	} while (time(NULL) < end);
	work_flush(p);
	count_verify(p, w);
}

/*
 * Sorting, by a quicksort of several threads that share a stack of ranges.
 */
#define SORT_SMALL	24	/* insertion sort */
#define SORT_ALONE	8192	/* not worth sharing */
#define SORT_STACK	4096

struct sort {
	struct ev_pager *p;
	__u64 *rec;
	size_t n;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct { size_t lo, hi; } todo[SORT_STACK];
	unsigned int nr, busy;
};

static void swap_rec(__u64 *a, __u64 *b)
{
	__u64 t = *a;

	/* No write to what is right already: it would dirty the page. */
	if (t != *b) {
		*a = *b;
		*b = t;
	}
}

static __u64 median(__u64 a, __u64 b, __u64 c)
{
	if (a < b)
		return b < c ? b : a < c ? c : a;
	return a < c ? a : b < c ? c : b;
}

static void insertion_sort(__u64 *rec, size_t lo, size_t hi)
{
	size_t i, k;
	__u64 t;

	for (i = lo + 1; i < hi; i++) {
		t = rec[i];
		for (k = i; k > lo && rec[k - 1] > t; k--)
			rec[k] = rec[k - 1];
		if (k != i)
			rec[k] = t;
	}
}

/* Less, equal, greater than the pivot: real files are full of equal records */
static void partition(__u64 *rec, size_t *lo, size_t *hi)
{
	__u64 pivot = median(rec[*lo], rec[*lo + (*hi - *lo) / 2], rec[*hi - 1]);
	size_t less = *lo, at = *lo, more = *hi;

	while (at < more) {
		if (rec[at] < pivot)
			swap_rec(&rec[less++], &rec[at++]);
		else if (rec[at] > pivot)
			swap_rec(&rec[at], &rec[--more]);
		else
			at++;
	}
	*lo = less;
	*hi = more;
}

static bool sort_share(struct sort *s, size_t lo, size_t hi)
{
	bool shared = false;

	if (hi - lo < SORT_ALONE)
		return false;
	pthread_mutex_lock(&s->lock);
	if (s->nr < SORT_STACK) {
		s->todo[s->nr].lo = lo;
		s->todo[s->nr++].hi = hi;
		pthread_cond_signal(&s->more);
		shared = true;
	}
	pthread_mutex_unlock(&s->lock);
	return shared;
}

static void sort_range(struct sort *s, size_t lo, size_t hi)
{
	while (hi - lo > SORT_SMALL) {
		size_t less = lo, more = hi;

		partition(s->rec, &less, &more);
		/* Recursion into the smaller side only, so it is not deep. */
		if (less - lo < hi - more) {
			if (!sort_share(s, lo, less))
				sort_range(s, lo, less);
			lo = more;
		} else {
			if (!sort_share(s, more, hi))
				sort_range(s, more, hi);
			hi = less;
		}
	}
	insertion_sort(s->rec, lo, hi);
}

static void *sort_thread(void *arg)
{
	struct sort *s = arg;
	size_t lo, hi;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (!s->nr && s->busy)
			pthread_cond_wait(&s->more, &s->lock);
		if (!s->nr)
			break;
		lo = s->todo[--s->nr].lo;
		hi = s->todo[s->nr].hi;
		s->busy++;
		pthread_mutex_unlock(&s->lock);
		sort_range(s, lo, hi);
		pthread_mutex_lock(&s->lock);
		s->busy--;
	}
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void sort_run(struct sort *s)
{
	unsigned int i, n = s->p->cfg.workers;
	pthread_t tid[n];

	sort_share(s, 0, s->n);
	if (!s->nr) {
		sort_range(s, 0, s->n);
		return;
	}
	for (i = 0; i < n; i++)
		ev_thread(&tid[i], "worker", i, sort_thread, s);
	for (i = 0; i < n; i++)
		pthread_join(tid[i], NULL);
}

/* Something to sort again */
static void reverse(__u64 *rec, size_t n)
{
	size_t i;

	for (i = 0; i < n / 2; i++)
		swap_rec(&rec[i], &rec[n - 1 - i]);
}

/* The independent computation: another algorithm, in plain memory */
static void radix_sort(__u64 *rec, size_t n)
{
	__u64 *from = rec, *to = work_alloc(n * sizeof(*rec)), *t;
	unsigned int shift;
	size_t at[257], i;

	for (shift = 0; shift < 64; shift += 8) {
		memset(at, 0, sizeof(at));
		for (i = 0; i < n; i++)
			at[(from[i] >> shift & 255) + 1]++;
		for (i = 0; i < 255; i++)
			at[i + 1] += at[i];
		for (i = 0; i < n; i++)
			to[at[from[i] >> shift & 255]++] = from[i];
		t = from;
		from = to;
		to = t;
	}
	/* An even number of passes: the result is where it was. */
	munmap(to, n * sizeof(*rec));
}

/**
 * ev_sort() - sort the store's 8-byte records in place through the region
 * @p: the pager
 * @bytes: size of the file; what is beyond its last whole record stays
 */
void ev_sort(struct ev_pager *p, size_t bytes)
{
	size_t len = p->cfg.pages * p->cfg.page, i, wrong = 0;
	time_t end = time(NULL) + p->cfg.seconds;
	char *want = work_alloc(len), *got;
	static struct sort s = {
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.more = PTHREAD_COND_INITIALIZER,
	};

	work_read(p, want, len, 0);
	radix_sort((__u64 *)want, bytes / sizeof(__u64));
	bc_beat();
	s.p = p;
	s.rec = (__u64 *)p->region;
	s.n = bytes / sizeof(__u64);
	work_begin(p);
	sort_run(&s);
	while (time(NULL) < end) {
		reverse(s.rec, s.n);
		sort_run(&s);
	}
	work_flush(p);
	got = work_alloc(len);
	work_read(p, got, len, 0);
	for (i = 0; i < len / sizeof(__u64); i++)
		if (((__u64 *)got)[i] != ((__u64 *)want)[i])
			wrong++;
	if (wrong)
		bc_diag("%zu records differ from the independent sort", wrong);
	ev_add(p->stats.lost, wrong);
}
