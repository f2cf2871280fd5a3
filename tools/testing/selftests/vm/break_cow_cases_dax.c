// SPDX-License-Identifier: GPL-2.0
/*
 * Cases of break_cow with DAX: the memory of a file is that of a device, and there
 * is no page cache. There is nothing that a process could share copy-on-write, so
 * nothing may be broken for a read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "break_cow_cases.h"

#define NO_DAX	"no file system mounted with dax (FS_DAX, a pmem device)"

/* A file without a name, on whatever is mounted with DAX for all of its files. */
static int dax_file(void)
{
	FILE *f = setmntent("/proc/mounts", "r");
	struct mntent *m;
	int fd = -1;

	while (f && fd < 0 && (m = getmntent(f)))
		if (hasmntopt(m, "dax"))
			fd = open(m->mnt_dir, O_TMPFILE | O_RDWR, 0600);
	if (f)
		endmntent(f);
	return fd;
}

/* The number of faults that it takes to read a byte of each page */
static long faults(const char *addr, size_t len)
{
	long before = bc_faults();
	size_t i;

	for (i = 0; i < len; i += bc_page_size())
		bc_load(addr + i);
	return bc_faults() - before;
}

/**
 * mem_get_dax() - a private mapping of a file with DAX, read but not stored to
 * @mem: receives it, at an address that suits a huge page
 * @addr: that address
 * @huge: by one pmd, else a single page by its pte
 *
 * Return: BC_OK; else BC_SKIP or BC_ERROR, with the reason recorded.
 */
int mem_get_dax(struct bc_mem *mem, char *addr, bool huge)
{
	static char buf[BC_THP_SIZE];
	int fd = dax_file();
	long n;

	if (fd < 0)
		return bc_why(BC_SKIP, NO_DAX);
	mem->len = huge ? BC_THP_SIZE : bc_page_size();
	memset(buf, OLD, mem->len);
	/* In one go, so that the file system finds huge pages of the device. */
	if (write(fd, buf, mem->len) != (ssize_t)mem->len)
		return bc_why(BC_ERROR, "write: %s", strerror(errno));
	mem->addr = mmap(addr, mem->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | (addr ? MAP_FIXED : 0), fd, 0);
	close(fd);
	if (mem->addr == MAP_FAILED)
		return bc_why(BC_ERROR, "mmap: %s", strerror(errno));
	if (bc_load(mem->addr) != OLD)
		return bc_why(BC_ERROR, "the file has other bytes");
	n = faults(mem->addr, mem->len);
	if (n)
		return bc_why(BC_SKIP, "%ld more faults: no huge page of DAX here", n);
	return BC_OK;
}

/*
 * process_vm_readv() of another process gets the bytes of that one's mapping, and
 * leaves the mapping alone. We have other bytes at that address: v5.8 made a copy
 * by the page tables of who reads, for there is no page to make one of.
 */
int case_remote_leaves(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_mem mem;
	__u64 before;
	int ret, i;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	/* fork() does not copy the entries of a file: the child reads by itself. */
	mem.child = fork();
	if (mem.child < 0)
		return bc_why(BC_ERROR, "fork: %s", strerror(errno));
	if (!mem.child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bc_load(mem.addr);
		for (;;)
			pause();
	}
	if (mmap(mem.addr, mem.len, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		 MAP_ANONYMOUS | MAP_FIXED, -1, 0) != mem.addr)
		return bc_why(BC_ERROR, "mmap: %s", strerror(errno));
	memset(mem.addr, NEW, mem.len);
	bc_waiting("the child to read");
	for (i = 0; !(before = pfn_of(mem.child, mem.addr)); i++)
		if (i == 1000 || usleep(1000))
			return bc_why(BC_ERROR, "the child has nothing mapped");
	ret = mem_read_child(&mem, false, OLD);
	if (ret)
		return ret;
	if (pfn_of(mem.child, mem.addr) != before)
		return bc_why(BC_FAIL, "got a copy, want what was mapped");
	ret = mem_read_child(&mem, true, OLD);
	bc_reap(mem.child);
	return ret;
}
