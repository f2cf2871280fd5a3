// SPDX-License-Identifier: GPL-2.0
/*
 * Linked into the peer's tests, whose sources stay as they are: answers for what
 * the base's user space interface has not yet, so that a test gets to its
 * point. The linker's --wrap sends the calls here. A kernel that can do it by
 * itself is never helped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define USER_MODE_ONLY	1		/* UFFD_USER_MODE_ONLY */
#define PRESENT		(1ULL << 63)	/* in /proc/PID/pagemap */
#define PFN		((1ULL << 55) - 1)
#define KSM		(1ULL << 21)	/* in /proc/kpageflags */

long __real_syscall(long nr, long a, long b, long c, long d, long e, long f);
int __real_madvise(void *addr, size_t len, int advice);
long __real_ksm_get_self_merging_pages(void);

/* Before v5.11 every userfaultfd may be asked by the kernel too. */
long __wrap_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret = __real_syscall(nr, a, b, c, d, e, f);

	if (nr == SYS_userfaultfd && ret == -1 && errno == EINVAL &&
	    (a & USER_MODE_ONLY))
		ret = __real_syscall(nr, a & ~USER_MODE_ONLY, b, c, d, e, f);
	return ret;
}

/*
 * Before v5.18 MADV_DONTNEED refuses hugetlb. A hole in the file empties the
 * mapping as well, private pages included.
 */
static int punch_hole(unsigned long addr, size_t len)
{
	unsigned long begin, end, offset;
	char line[512], path[128];
	FILE *maps = fopen("/proc/self/maps", "r");
	int fd = -1, ret = -1;

	while (maps && fd < 0 && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %*s %lx", &begin, &end, &offset) != 3 ||
		    addr < begin || addr + len > end)
			continue;
		snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx",
			 begin, end);
		fd = open(path, O_RDWR);
	}
	if (fd >= 0) {
		ret = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				offset + addr - begin, len);
		close(fd);
	}
	if (maps)
		fclose(maps);
	return ret;
}

int __wrap_madvise(void *addr, size_t len, int advice)
{
	int ret = __real_madvise(addr, len, advice);

	if (ret && errno == EINVAL && advice == MADV_DONTNEED) {
		ret = punch_hole((unsigned long)addr, len);
		if (ret)
			errno = EINVAL;
	}
	return ret;
}

/*
 * Before v5.19 nothing says how many pages of a process KSM has merged: count
 * those that it maps. A test hands the number on as an exit status, where 256
 * must not turn into 0.
 */
long __wrap_ksm_get_self_merging_pages(void)
{
	const unsigned long size = sysconf(_SC_PAGESIZE);
	unsigned long addr, end;
	uint64_t entry, flags;
	char line[512];
	FILE *maps;
	int map, pages;
	long n = __real_ksm_get_self_merging_pages();

	if (n >= 0)
		return n;
	maps = fopen("/proc/self/maps", "r");
	map = open("/proc/self/pagemap", O_RDONLY);
	pages = open("/proc/kpageflags", O_RDONLY);
	if (!maps || map < 0 || pages < 0)
		goto out;
	n = 0;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx", &addr, &end) != 2)
			continue;
		for (; addr < end; addr += size) {
			if (pread(map, &entry, 8, addr / size * 8) != 8)
				break;
			if ((entry & PRESENT) &&
			    pread(pages, &flags, 8, (entry & PFN) * 8) == 8 &&
			    (flags & KSM))
				n++;
		}
	}
out:
	if (maps)
		fclose(maps);
	close(map);
	close(pages);
	return n > 255 ? 255 : n;
}
