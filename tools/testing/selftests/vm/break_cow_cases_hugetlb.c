// SPDX-License-Identifier: GPL-2.0
/* What the pool of huge pages has left, for the cases of break_cow. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "break_cow_cases.h"

/*
 * A file of hugetlbfs that reserves two pages (min_size=), and goes with its last
 * mapping.
 */
static int open_reserving(void)
{
	char dir[] = "/tmp/break_cow.XXXXXX", path[64];
	int fd, err;

	if (!mkdtemp(dir))
		return bc_why(BC_ERROR, "%s: %s", dir, strerror(errno));
	if (mount("break_cow", dir, "hugetlbfs", 0, "pagesize=2M,min_size=4M")) {
		err = errno;
		rmdir(dir);
		return bc_why(BC_SKIP, "cannot mount hugetlbfs with min_size=4M: %s",
			      strerror(err));
	}
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		bc_why(BC_ERROR, "%s: %s", path, strerror(errno));
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	return fd;
}

/*
 * A child's copy of a private mapping, made by fork() for a reference or by a store,
 * goes back to the pool as it came.
 */
static int case_reserve(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem = { .len = BC_THP_SIZE };
	long left, now = 0;
	int fd, i, ret;
	pid_t child;

	if (!getenv("BREAK_COW_DESTRUCTIVE"))
		return bc_why(BC_SKIP, "may cost a huge page (BREAK_COW_DESTRUCTIVE)");
	/* Two that are reserved, and one that is not, which copying asks for. */
	if (bc_hugetlb_left(2048) < 3)
		return bc_why(BC_SKIP, "no three 2 MiB huge pages (nr_hugepages)");
	fd = open_reserving();
	if (fd < 0)
		return bc_last();
	mem.addr = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (mem.addr == MAP_FAILED)
		return bc_why(BC_ERROR, "mmap: %s", strerror(errno));
	mem_set(&mem, OLD);
	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	left = bc_hugetlb_left(2048);
	child = fork();
	if (!child) {
		bc_store(mem.addr, NEW);
		_exit(0);
	}
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	ret = child_result(child);
	if (ret)
		return ret;
	/* Is it free yet? So may be what an earlier case had. */
	for (i = 0; i < 100; i++) {
		now = bc_hugetlb_left(2048);
		if (now >= left)
			return BC_OK;
		usleep(10000);
	}
	return bc_why(BC_FAIL, "got %ld huge pages left after a child, want %ld", now,
		      left);
}

static const struct promise promises[] = {
	PROMISE("reserve", case_reserve, HUGETLB, BY(VMSPLICE)),
};

PROMISES(promises)
