/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the break_cow tests and the umap evictor share: TAP results with a
 * deadline for every case, userfaultfd write-protection, huge pages, pagemap,
 * and a table of the ways in which the kernel can be made to read user memory.
 *
 * Features are probed at run time; nothing here depends on the kernel headers
 * being as new as the kernel, or on a library beyond libc and pthreads.
 */
#ifndef BREAK_COW_UTIL_H
#define BREAK_COW_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>

#ifndef UFFDIO_WRITEPROTECT	/* headers before 5.7 */
#define UFFD_FEATURE_PAGEFAULT_FLAG_WP		0x1
#define UFFD_PAGEFAULT_FLAG_WP			0x2
#define UFFDIO_REGISTER_MODE_WP			((__u64)1 << 1)
#define UFFDIO_COPY_MODE_WP			((__u64)1 << 1)
#define UFFDIO_WRITEPROTECT_MODE_WP		((__u64)1 << 0)
#define UFFDIO_WRITEPROTECT_MODE_DONTWAKE	((__u64)1 << 1)
struct uffdio_writeprotect {
	struct uffdio_range range;
	__u64 mode;
};

#define _UFFDIO_WRITEPROTECT	0x06
#define UFFDIO_WRITEPROTECT \
	_IOWR(UFFDIO, _UFFDIO_WRITEPROTECT, struct uffdio_writeprotect)
#endif
#ifndef UFFDIO_COPY_MODE_WP
#define UFFDIO_COPY_MODE_WP	((__u64)1 << 1)
#endif
#ifndef USERFAULTFD_IOC_NEW	/* headers before 6.1 */
#define USERFAULTFD_IOC_NEW	_IO(0xAA, 0x00)
#endif

#ifndef MADV_PAGEOUT	/* headers before 5.4 */
#define MADV_PAGEOUT	21
#endif

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif

#define BC_THP_SIZE	(2UL << 20)

/* mm/break_cow_test.c, where it is configured */
#define BC_DRIVER	"/sys/kernel/debug/break_cow_test"

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#endif

#ifndef __printf
#define __printf(a, b)	__attribute__((format(printf, a, b)))
#endif

/* Exactly one access, which the compiler neither drops nor moves */
static inline char bc_load(const char *addr)
{
	return __atomic_load_n(addr, __ATOMIC_RELAXED);
}

static inline void bc_store(char *addr, char c)
{
	__atomic_store_n(addr, c, __ATOMIC_RELAXED);
}

/* Bits of /proc/PID/pagemap and /proc/kpageflags */
#define BC_PM_SOFT_DIRTY	((__u64)1 << 55)
#define BC_PM_EXCLUSIVE		((__u64)1 << 56)
#define BC_PM_UFFD_WP		((__u64)1 << 57)	/* shown from 5.13 on */
#define BC_PM_FILE		((__u64)1 << 61)
#define BC_PM_SWAP		((__u64)1 << 62)
#define BC_PM_PRESENT		((__u64)1 << 63)
#define BC_PM_PFN		(((__u64)1 << 55) - 1)
#define BC_KPF_HEAD		((__u64)1 << 15)
#define BC_KPF_HUGE		((__u64)1 << 17)
#define BC_KPF_KSM		((__u64)1 << 21)
#define BC_KPF_THP		((__u64)1 << 22)
#define BC_KPF_ZERO		((__u64)1 << 24)

/* What a case returns */
enum { BC_OK, BC_FAIL, BC_SKIP, BC_XFAIL, BC_ERROR };

typedef int (*bc_fn)(const void *arg);

/* Results: all of them print TAP 13 to stdout */
int bc_why(int ret, const char *fmt, ...) __printf(2, 3);
const char *bc_reason(void);
int bc_last(void);
void bc_diag(const char *fmt, ...) __printf(1, 2);
void bc_waiting(const char *fmt, ...) __printf(1, 2);
void bc_beat(void);
void bc_deadline(unsigned int seconds);
void bc_limit(unsigned int seconds);
void bc_plan(unsigned int n);
void bc_skip_all(const char *why);
void bc_case(const char *name, bc_fn fn, const void *arg, unsigned int seconds);
int bc_exit(void);

/* What a case changes about the machine for as long as it runs; the pool: the program */
int bc_knob(const char *path, const char *text);
int bc_knob_set(const char *path, long value);
int bc_own_swap(const char *path);
void bc_hugetlb_pool(void);
long bc_hugetlb_left(unsigned int kb);

/* A child that shares the memory and does nothing, and its end */
pid_t bc_fork_idle(int close_fd);
void bc_reap(pid_t pid);
void bc_one_cpu(void);

/* Time, in seconds */
double bc_clock(clockid_t id);

static inline double bc_now(void)
{
	return bc_clock(CLOCK_MONOTONIC);
}

/* ksmd */
int bc_ksm_start(void);
void bc_ksm_stop(void);

/* userfaultfd */
int bc_uffd_open(__u64 features);
int bc_uffd_register(int uffd, void *addr, size_t len, __u64 mode);
int bc_uffd_wp(int uffd, void *addr, size_t len, bool on);
int bc_uffd_copy(int uffd, void *dst, const void *src, size_t len, bool wp);
int bc_uffd_wake(int uffd, void *addr, size_t len);
int bc_uffd_event(int uffd, struct uffd_msg *msg, int ms);

/* Memory */
size_t bc_page_size(void);
void *bc_alloc(size_t len);
void *bc_thp_alloc(size_t n);

/* The first address from here on where a huge page can be */
static inline char *bc_thp_round_up(const void *addr)
{
	return (char *)(((uintptr_t)addr + BC_THP_SIZE - 1) & ~(BC_THP_SIZE - 1));
}

bool bc_is_thp(const void *addr, size_t len);
long bc_smaps_kb(const void *addr, const char *field);
void bc_fill(void *mem, size_t len, unsigned int seed);
ssize_t bc_differs(const void *mem, size_t len, unsigned int seed);

/* /proc */
int bc_proc_read(const char *path, void *buf, size_t len, off_t off);
int bc_proc_write(const char *path, const char *text);
long bc_proc_get(const char *path);
__u64 bc_pagemap(const void *addr);
__u64 bc_pfn(const void *addr);
long bc_faults(void);
__u64 bc_kpageflags(const void *addr);
bool bc_sees_uffd_wp(void);
bool bc_tells_ksm(void);
bool bc_is_ksm(const void *addr);
bool bc_kernel_before(unsigned int major, unsigned int minor);

/**
 * struct bc_way - a way in which the kernel reads user memory
 * @name: for results and options
 * @what: what is waited for, if it does not return
 * @oflags: how the file that receives the bytes must be opened
 * @leave: move @len bytes at @addr to offset @off of @fd; 0 or -errno
 */
struct bc_way {
	const char *name;
	const char *what;
	int oflags;
	int (*leave)(const void *addr, size_t len, int fd, off_t off);
};

extern const struct bc_way bc_ways[];
extern const unsigned int bc_nr_ways;
const struct bc_way *bc_way(const char *name);
int bc_named_file(int oflags, char *path, size_t len);
int bc_tmpfile(int oflags);
int bc_splice_page(int to, const void *addr);
int bc_pin(void *addr, size_t len);
int bc_unpin(void);
int bc_pin_read(const void *addr, void *buf, size_t len);
int bc_way_read(const struct bc_way *way, const void *addr, size_t len,
		void *buf);

#endif /* BREAK_COW_UTIL_H */
