// SPDX-License-Identifier: GPL-2.0
/*
 * Shared by the break_cow tests and the umap evictor, see break_cow_util.h:
 * userfaultfd, memory, /proc, and the ways to have the kernel read memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>

#include "break_cow_util.h"

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup	425
#define SYS_io_uring_enter	426
#endif

static int bc_uffd_new(void)
{
	int dev, fd, err;

	fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	err = errno;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(dev);
		if (fd >= 0)
			return fd;
	}
	if (err == EPERM)
		bc_why(BC_SKIP, "userfaultfd: need root, or sysctl vm.unprivileged_userfaultfd=1");
	else
		bc_why(BC_SKIP, "userfaultfd: %s (needs CONFIG_USERFAULTFD)",
		       strerror(err));
	return -1;
}

/**
 * bc_uffd_open() - a userfaultfd that can write-protect
 * @features: wanted beyond that; all of them must be there
 *
 * Return: the (non-blocking) descriptor, or -1 with the reason recorded.
 */
int bc_uffd_open(__u64 features)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd;

	/* Which features there are is told only by a descriptor of its own. */
	fd = bc_uffd_new();
	if (fd < 0)
		return -1;
	if (ioctl(fd, UFFDIO_API, &api))
		api.features = 0;
	close(fd);
	features |= UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	if ((api.features & features) != features) {
		bc_why(BC_SKIP, "userfaultfd lacks write-protect (x86-64 has it since 5.7)");
		return -1;
	}
	fd = bc_uffd_new();
	if (fd < 0)
		return -1;
	api.api = UFFD_API;
	api.features = features;
	if (ioctl(fd, UFFDIO_API, &api)) {
		bc_why(BC_ERROR, "UFFDIO_API: %s", strerror(errno));
		close(fd);
		return -1;
	}
	return fd;
}

/**
 * bc_uffd_register() - register memory
 * @uffd: the userfaultfd
 * @addr: first byte
 * @len: number of bytes
 * @mode: UFFDIO_REGISTER_MODE_*
 *
 * Return: 0 or -errno.
 */
int bc_uffd_register(int uffd, void *addr, size_t len, __u64 mode)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

/**
 * bc_uffd_wp() - write-protect, or end it and wake who waits
 * @uffd: the userfaultfd
 * @addr: first byte
 * @len: number of bytes
 * @on: protect
 *
 * Return: 0 or -errno.
 */
int bc_uffd_wp(int uffd, void *addr, size_t len, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	/* EAGAIN: somebody's mremap() is not through yet */
	while (ioctl(uffd, UFFDIO_WRITEPROTECT, &wp)) {
		if (errno != EAGAIN)
			return -errno;
		sched_yield();
	}
	return 0;
}

/**
 * bc_uffd_copy() - fill missing memory, protected or not; nobody is woken
 * @uffd: the userfaultfd
 * @dst: first byte to fill
 * @src: from where
 * @len: number of bytes
 * @wp: write-protect
 *
 * Return: 0 or -errno.
 */
int bc_uffd_copy(int uffd, void *dst, const void *src, size_t len, bool wp)
{
	struct uffdio_copy copy;
	size_t done = 0;

	while (done < len) {
		copy = (struct uffdio_copy) {
			.dst = (uintptr_t)dst + done,
			.src = (uintptr_t)src + done,
			.len = len - done,
			.mode = UFFDIO_COPY_MODE_DONTWAKE |
				(wp ? UFFDIO_COPY_MODE_WP : 0),
		};
		if (ioctl(uffd, UFFDIO_COPY, &copy) && errno != EAGAIN)
			return -errno;
		if (copy.copy > 0)
			done += copy.copy;
		else
			sched_yield();
	}
	return 0;
}

/**
 * bc_uffd_wake() - wake all who wait for memory
 * @uffd: the userfaultfd
 * @addr: first byte
 * @len: number of bytes
 *
 * Return: 0 or -errno.
 */
int bc_uffd_wake(int uffd, void *addr, size_t len)
{
	struct uffdio_range range = { .start = (uintptr_t)addr, .len = len };

	return ioctl(uffd, UFFDIO_WAKE, &range) ? -errno : 0;
}

/**
 * bc_uffd_event() - the next event
 * @uffd: the userfaultfd
 * @msg: where it goes
 * @ms: how long to wait for it
 *
 * Return: 1 an event, 0 none in time, or -errno.
 */
int bc_uffd_event(int uffd, struct uffd_msg *msg, int ms)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	ssize_t n;
	int ret;

	ret = poll(&pfd, 1, ms);
	if (ret <= 0)
		return ret < 0 && errno != EINTR ? -errno : 0;
	n = read(uffd, msg, sizeof(*msg));
	if (n == (ssize_t)sizeof(*msg))
		return 1;
	return n < 0 && errno != EAGAIN ? -errno : 0;
}

/**
 * bc_page_size() - size of a small page
 *
 * Return: bytes.
 */
size_t bc_page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/**
 * bc_alloc() - private anonymous memory of small pages
 * @len: number of bytes
 *
 * Return: the memory, not populated, or NULL with the reason recorded.
 */
void *bc_alloc(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED) {
		bc_why(BC_ERROR, "mmap of %zu bytes: %s", len, strerror(errno));
		return NULL;
	}
	madvise(mem, len, MADV_NOHUGEPAGE);
	return mem;
}

#define THP	"/sys/kernel/mm/transparent_hugepage/"

static bool bc_thp_never(void)
{
	char buf[64];
	int n = bc_proc_read(THP "enabled", buf, sizeof(buf) - 1, 0);

	buf[n > 0 ? n : 0] = 0;
	return strstr(buf, "[never]");
}

static bool bc_thp_other_size(void)
{
	long size = bc_proc_get(THP "hpage_pmd_size");

	return size > 0 && size != (long)BC_THP_SIZE;
}

/**
 * bc_thp_alloc() - private anonymous memory mapped by huge pages
 * @n: how many of them
 *
 * Return: the memory, populated and zeroed, verified to be mapped by PMDs and
 * to be a VMA of its own; or NULL with the reason recorded.
 */
void *bc_thp_alloc(size_t n)
{
	size_t len = n * BC_THP_SIZE, i;
	char *map, *mem;

	map = mmap(NULL, len + BC_THP_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED) {
		bc_why(BC_ERROR, "mmap of %zu bytes: %s", len, strerror(errno));
		return NULL;
	}
	mem = bc_thp_round_up(map);
	if (mem != map)
		munmap(map, mem - map);
	if (map + BC_THP_SIZE != mem)
		munmap(mem + len, map + BC_THP_SIZE - mem);
	if (madvise(mem, len, MADV_HUGEPAGE)) {
		bc_why(BC_SKIP, "MADV_HUGEPAGE: %s (needs CONFIG_TRANSPARENT_HUGEPAGE)",
		       strerror(errno));
		goto fail;
	}
	for (i = 0; i < len; i += BC_THP_SIZE)
		mem[i] = 0;
	if (!bc_is_thp(mem, len)) {
		if (bc_thp_never())
			bc_why(BC_SKIP, "transparent_hugepage/enabled is never, want madvise");
		else if (bc_thp_other_size())
			bc_why(BC_SKIP, "huge pages here are not of 2 MiB");
		else
			bc_why(BC_ERROR, "got small pages, want huge ones (free memory?)");
		goto fail;
	}
	return mem;
fail:
	munmap(mem, len);
	return NULL;
}

/**
 * bc_is_thp() - is memory mapped by huge pages, by PMDs
 * @addr: first byte, aligned to BC_THP_SIZE
 * @len: multiple of BC_THP_SIZE
 *
 * That a page is huge is known page by page, that it is mapped by a PMD only
 * from the sum over the VMA: exact if [@addr, @addr + @len) is all of it that
 * is populated.
 *
 * Return: true if all of it is.
 */
bool bc_is_thp(const void *addr, size_t len)
{
	const char *p = addr;
	size_t i;

	for (i = 0; i < len; i += BC_THP_SIZE) {
		__u64 pfn = bc_pfn(p + i);

		/* pfn 0: not root, smaps alone has to do */
		if (pfn && (pfn % (BC_THP_SIZE / bc_page_size()) ||
			    !(bc_kpageflags(p + i) & BC_KPF_THP)))
			return false;
	}
	return bc_smaps_kb(addr, "AnonHugePages") >= (long)(len >> 10);
}

/**
 * bc_smaps_kb() - a number of the VMA that holds an address
 * @addr: the address
 * @field: e.g. "AnonHugePages"
 *
 * Return: kB, or -1.
 */
long bc_smaps_kb(const void *addr, const char *field)
{
	unsigned long from, to, at = (unsigned long)addr;
	size_t n = strlen(field);
	char line[512];
	bool in = false;
	long kb = -1;
	FILE *f;

	f = fopen("/proc/self/smaps", "r");
	if (!f)
		return -1;
	while (kb < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			in = from <= at && at < to;
		else if (in && !strncmp(line, field, n) && line[n] == ':')
			kb = atol(line + n + 1);
	}
	fclose(f);
	return kb;
}

static __u64 bc_pattern(unsigned int seed, size_t i)
{
	return (seed + 1) * 0x9e3779b97f4a7c15ULL ^ i * 0xff51afd7ed558ccdULL;
}

/**
 * bc_fill() - fill memory with a pattern
 * @mem: what to fill
 * @len: number of bytes, a multiple of 8
 * @seed: which pattern
 */
void bc_fill(void *mem, size_t len, unsigned int seed)
{
	__u64 *p = mem;
	size_t i;

	for (i = 0; i < len / 8; i++)
		p[i] = bc_pattern(seed, i);
}

/**
 * bc_differs() - compare memory with a pattern
 * @mem: what to compare
 * @len: number of bytes, a multiple of 8
 * @seed: which pattern
 *
 * Return: offset of the first 8 bytes that differ, or -1.
 */
ssize_t bc_differs(const void *mem, size_t len, unsigned int seed)
{
	const __u64 *p = mem;
	size_t i;

	for (i = 0; i < len / 8; i++)
		if (p[i] != bc_pattern(seed, i))
			return i * 8;
	return -1;
}

/**
 * bc_proc_read() - read from a file in /proc
 * @path: the file
 * @buf: where it goes
 * @len: size of @buf
 * @off: where to start
 *
 * Return: number of bytes or -errno.
 */
int bc_proc_read(const char *path, void *buf, size_t len, off_t off)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pread(fd, buf, len, off);
	if (n < 0)
		n = -errno;
	close(fd);
	return n;
}

/**
 * bc_proc_write() - write to a file of procfs or sysfs
 * @path: the file
 * @text: what to write
 *
 * Return: 0 or -errno.
 */
int bc_proc_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/**
 * bc_proc_get() - a number that a file of procfs or sysfs holds
 * @path: the file
 *
 * Return: the number, or -1 if it cannot be read.
 */
long bc_proc_get(const char *path)
{
	char text[32] = "";

	if (bc_proc_read(path, text, sizeof(text) - 1, 0) < 0)
		return -1;
	return atol(text);
}

/**
 * bc_pagemap() - our own pagemap entry
 * @addr: an address
 *
 * Return: the entry, 0 if it can't be read.
 */
__u64 bc_pagemap(const void *addr)
{
	__u64 entry = 0;

	bc_proc_read("/proc/self/pagemap", &entry, sizeof(entry),
		     (uintptr_t)addr / bc_page_size() * sizeof(entry));
	return entry;
}

/**
 * bc_pfn() - which page is mapped
 * @addr: an address
 *
 * Return: the page frame number, 0 if not present (or not root).
 */
__u64 bc_pfn(const void *addr)
{
	__u64 entry = bc_pagemap(addr);

	return entry & BC_PM_PRESENT ? entry & BC_PM_PFN : 0;
}

/**
 * bc_kpageflags() - flags of the page that is mapped
 * @addr: an address
 *
 * Return: BC_KPF_*, 0 if not present (or not root).
 */
__u64 bc_kpageflags(const void *addr)
{
	__u64 pfn = bc_pfn(addr), flags = 0;

	if (pfn)
		bc_proc_read("/proc/kpageflags", &flags, sizeof(flags),
			     pfn * sizeof(flags));
	return flags;
}

/**
 * bc_tells_ksm() - does this kernel tell which pages are KSM's?
 *
 * From v6.10 on /proc/kpageflags says it of all anonymous memory (dee3d0bef2b0),
 * until "fs/proc: fix KPF_KSM reported for all anonymous pages" of 2026.
 *
 * Return: true, or false if it cannot be known.
 */
bool bc_tells_ksm(void)
{
	static int tells = -1;
	char *page;

	if (tells < 0) {
		page = bc_alloc(bc_page_size());
		if (!page)
			return false;
		bc_store(page, 1);
		tells = !(bc_kpageflags(page) & BC_KPF_KSM);
		munmap(page, bc_page_size());
	}
	return tells;
}

/**
 * bc_is_ksm() - is the page that is mapped one of KSM's?
 * @addr: an address
 *
 * Return: true if it is; false also if that cannot be known.
 */
bool bc_is_ksm(const void *addr)
{
	return bc_tells_ksm() && (bc_kpageflags(addr) & BC_KPF_KSM);
}

/**
 * bc_kernel_before() - is this kernel older than a version
 * @major: 5
 * @minor: 9
 *
 * For what cannot be probed: a known limit of older kernels, that is meant to
 * stay there.
 *
 * Return: true if it is.
 */
bool bc_kernel_before(unsigned int major, unsigned int minor)
{
	unsigned int is_major = 0, is_minor = 0;
	struct utsname uts;

	if (uname(&uts) ||
	    sscanf(uts.release, "%u.%u", &is_major, &is_minor) != 2)
		return false;
	return is_major < major || (is_major == major && is_minor < minor);
}

/**
 * bc_sees_uffd_wp() - does this kernel's pagemap show write-protection
 *
 * Return: true if BC_PM_UFFD_WP can be relied on.
 */
bool bc_sees_uffd_wp(void)
{
	static int sees = -1;
	char *mem;
	int uffd;

	if (sees >= 0)
		return sees;
	sees = 0;
	mem = bc_alloc(bc_page_size());
	uffd = bc_uffd_open(0);
	if (mem && uffd >= 0) {
		*mem = 1;
		if (!bc_uffd_register(uffd, mem, bc_page_size(),
				      UFFDIO_REGISTER_MODE_WP) &&
		    !bc_uffd_wp(uffd, mem, bc_page_size(), true))
			sees = !!(bc_pagemap(mem) & BC_PM_UFFD_WP);
	}
	if (mem)
		munmap(mem, bc_page_size());
	if (uffd >= 0)
		close(uffd);
	return sees;
}

/**
 * bc_faults() - how many faults this process has taken
 *
 * What is between two calls took as many as the second returns more, and none of
 * them is for the stack of the two.
 *
 * Return: the number.
 */
long bc_faults(void)
{
	struct rusage ru;

	/* The result is written once the faults are counted: not its first fault. */
	getrusage(RUSAGE_SELF, &ru);
	getrusage(RUSAGE_SELF, &ru);
	return ru.ru_minflt + ru.ru_majflt;
}
