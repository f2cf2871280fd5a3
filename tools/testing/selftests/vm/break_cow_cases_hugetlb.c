// SPDX-License-Identifier: GPL-2.0
/* What the pool of huge pages has left, for the cases of break_cow. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "break_cow_cases.h"

/* A mount of hugetlbfs, a file there, and a private mapping of its first page */
struct mount {
	char dir[32];
	int fd;
	struct bc_mem mem;
};

static void leave(const struct mount *m)
{
	umount2(m->dir, MNT_DETACH);
	rmdir(m->dir);
}

/* Map a page of the file, to write to a copy. */
static int map_page(const struct mount *m, struct bc_mem *mem)
{
	*mem = (struct bc_mem) { .len = BC_THP_SIZE };
	mem->addr = mmap(NULL, mem->len, PROT_READ | PROT_WRITE, MAP_PRIVATE, m->fd, 0);
	if (mem->addr == MAP_FAILED)
		return bc_why(BC_ERROR, "mmap: %s", strerror(errno));
	return BC_OK;
}

/*
 * @size: what the mount may have (size=), or what it reserves (min_size=)
 * @pages: how many huge pages have to be left in the pool
 */
static int enter(struct mount *m, const char *size, long pages)
{
	char text[64];
	int err, ret;

	if (!getenv("BREAK_COW_DESTRUCTIVE"))
		return bc_why(BC_SKIP, "may cost a huge page (BREAK_COW_DESTRUCTIVE)");
	if (bc_hugetlb_left(2048) < pages)
		return bc_why(BC_SKIP, "less than %ld 2 MiB huge pages (nr_hugepages)",
			      pages);
	*m = (struct mount) { .dir = "/tmp/break_cow.XXXXXX" };
	if (!mkdtemp(m->dir))
		return bc_why(BC_ERROR, "%s: %s", m->dir, strerror(errno));
	snprintf(text, sizeof(text), "pagesize=2M,%s", size);
	if (mount("break_cow", m->dir, "hugetlbfs", 0, text)) {
		err = errno;
		rmdir(m->dir);
		return bc_why(BC_SKIP, "cannot mount hugetlbfs with %s: %s", size,
			      strerror(err));
	}
	snprintf(text, sizeof(text), "%s/file", m->dir);
	m->fd = open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (m->fd < 0)
		ret = bc_why(BC_ERROR, "%s: %s", text, strerror(errno));
	else
		ret = map_page(m, &m->mem);
	if (ret)
		leave(m);
	return ret;
}

/* Is it free yet? So may be what an earlier case had. */
static int all_back(long left)
{
	long now = 0;
	int i;

	for (i = 0; i < 100; i++) {
		now = bc_hugetlb_left(2048);
		if (now >= left)
			return BC_OK;
		usleep(10000);
	}
	return bc_why(BC_FAIL, "got %ld huge pages left in the end, want %ld", now,
		      left);
}

/*
 * Unmap a page that a pipe has. It is in use until that is closed.
 * @more: how many are left more in the end
 */
static int unmap_kept(const struct bc_mem *mem, struct bc_hold *hold, long more)
{
	const char *reserved = "/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages";
	long left = bc_hugetlb_left(2048), was = bc_proc_get(reserved), now;

	munmap(mem->addr, mem->len);
	now = bc_proc_get(reserved);
	if (now != was)
		return bc_why(BC_FAIL, "got %ld reserved, one unmapped but kept, want %ld",
			      now, was);
	close(hold->pipe[0]);
	close(hold->pipe[1]);
	return all_back(left + more);
}

/*
 * What is copied of a private mapping goes back to the pool as it came: what a child
 * gets, by fork() for a reference or by a store, and what the parent gets by a store.
 * What is unmapped goes back when nobody has it any more.
 */
static int case_reserve(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by }, alone = hold;
	struct bc_mem mem;
	struct mount m;
	pid_t child;
	long left;
	int ret;

	ret = mem_get(MEM_HUGETLB, &mem);
	if (!ret)
		ret = take(&alone, mem.addr);
	if (!ret)
		ret = unmap_kept(&mem, &alone, 1);
	if (ret)
		return ret;

	/* Two that are reserved, and one that is not, which copying asks for. */
	ret = enter(&m, "min_size=4M", 3);
	if (ret)
		return ret;
	/* It goes with its last mapping. */
	leave(&m);
	close(m.fd);
	mem_set(&m.mem, OLD);
	left = bc_hugetlb_left(2048);
	child = bc_fork_idle(-1);
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	bc_store(m.mem.addr, OLD);
	bc_reap(child);
	ret = all_back(left);
	if (!ret)
		ret = take(&hold, m.mem.addr);
	if (ret)
		return ret;
	left = bc_hugetlb_left(2048);
	child = fork_store(&m.mem);
	if (child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	ret = child_result(child);
	if (!ret)
		ret = all_back(left);
	/* With its last page the mount gives back what it reserves. */
	return ret ? ret : unmap_kept(&m.mem, &hold, 2);
}

/* Fork, and store in the child, where there is no huge page to copy to. */
static int copy_in_vain(const struct bc_arg *arg, struct bc_mem *mem)
{
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem all;
	int ret, i, status;
	pid_t child;

	mem_set(mem, OLD);
	ret = take(&hold, mem->addr);
	if (!ret)
		ret = mem_use_up(MEM_HUGETLB, &all);
	for (i = 0; !ret && i < 3; i++) {
		child = fork_store(mem);
		if (child < 0 && errno != ENOMEM)
			ret = bc_why(BC_ERROR, "fork: %s", strerror(errno));
		if (child < 0)
			continue;
		if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status) ||
		    WTERMSIG(status) != SIGBUS)
			ret = bc_why(BC_ERROR, "got status %#x of the child, want SIGBUS",
				     status);
	}
	if (!ret && all.len)
		munmap(all.addr, all.len);
	return ret;
}

static int quota_stays(const struct bc_arg *arg, struct mount *m)
{
	struct statfs before, now;
	int ret;

	if (fstatfs(m->fd, &before))
		return bc_why(BC_ERROR, "statfs: %s", strerror(errno));
	ret = copy_in_vain(arg, &m->mem);
	if (ret)
		return ret;
	fstatfs(m->fd, &now);
	if (now.f_bavail != before.f_bavail)
		return bc_why(BC_FAIL, "got %ld pages left of size=, want %ld",
			      (long)now.f_bavail, (long)before.f_bavail);
	return BC_OK;
}

static int reserve_stays(const struct bc_arg *arg, struct mount *m)
{
	struct bc_mem more;
	long left;
	int ret;

	ret = copy_in_vain(arg, &m->mem);
	if (ret)
		return ret;
	/* What was reserved is in use. Who maps more takes from the pool. */
	left = bc_hugetlb_left(2048);
	ret = map_page(m, &more);
	if (!ret && bc_hugetlb_left(2048) != left - 1)
		ret = bc_why(BC_FAIL, "got a page of min_size=, want none left");
	return ret;
}

/*
 * What could not be copied, as the pool was empty, costs a mount nothing: neither
 * of what it may have, nor of what it reserves.
 */
static int case_reserve_in_vain(const void *p)
{
	struct mount m;
	int ret;

	/* One for this mount, and two for the next. */
	ret = enter(&m, "size=8M", 3);
	if (ret)
		return ret;
	ret = quota_stays(p, &m);
	leave(&m);
	if (ret)
		return ret;

	ret = enter(&m, "min_size=2M", 2);
	if (ret)
		return ret;
	ret = reserve_stays(p, &m);
	/* A wrong count would be taken off the pool's: then it stays mounted. */
	if (ret != BC_FAIL)
		leave(&m);
	return ret;
}

static const struct promise promises[] = {
	PROMISE("reserve", case_reserve, HUGETLB, BY(VMSPLICE)),
	PROMISE("reserve, no memory", case_reserve_in_vain, HUGETLB,
		BY(VMSPLICE) | BY(PIN)),
};

PROMISES(promises)
