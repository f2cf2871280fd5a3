// SPDX-License-Identifier: GPL-2.0
/*
 * What the entry of a page keeps while the page is in swap, for the cases of
 * break_cow. Swap is a file of our own: swapoff brings everything back that is
 * in it, and that of the machine is not ours to switch off.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/swap.h>

#include "break_cow_cases.h"

#define PAGES	64	/* of the file */

struct own_swap {
	char path[4096];
	int fd;
};

/* What mkswap writes: version 1, and the magic at the end of the first page */
static int format(int fd)
{
	const size_t size = bc_page_size();
	char *page = calloc(1, size);
	__u32 *info = page ? (__u32 *)(page + 1024) : NULL;
	unsigned int i;
	int ret = 0;

	if (!page)
		return -ENOMEM;
	/* without holes */
	for (i = 0; i < PAGES && !ret; i++)
		if (pwrite(fd, page, size, i * size) != (ssize_t)size)
			ret = -errno;
	info[0] = 1;
	info[1] = PAGES - 1;
	memcpy(page + size - 10, "SWAPSPACE2", 10);
	if (!ret && pwrite(fd, page, size, 0) != (ssize_t)size)
		ret = -errno;
	if (!ret && fsync(fd))
		ret = -errno;
	free(page);
	return ret;
}

static void remove_file(struct own_swap *swap)
{
	unlink(swap->path);
	close(swap->fd);
	bc_own_swap("");
}

/*
 * Make our file the first that anything is swapped out to. It has a name as long as
 * it is in use: newer kernels take no unlinked file, and unlink none in use.
 */
static int swap_to_file(struct own_swap *swap)
{
	int ret;

	swap->fd = bc_named_file(0, swap->path, sizeof(swap->path));
	if (swap->fd < 0)
		return BC_SKIP;
	ret = format(swap->fd);
	if (!ret)
		ret = bc_own_swap(swap->path);
	if (ret) {
		remove_file(swap);
		return bc_why(BC_ERROR, "swap file: %s", strerror(-ret));
	}
	/*
	 * Each CPU has slots at hand of what was the first until now, and gives
	 * them back at any swapoff.
	 */
	if (swapon(swap->path, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK) ||
	    swapoff(swap->path) ||
	    swapon(swap->path, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK)) {
		ret = errno;
		remove_file(swap);
		return bc_why(BC_SKIP, "no swap to %s: %s",
			      swap->path, strerror(ret));
	}
	return BC_OK;
}

/* Swap a page out to a file of ours, and in again by swapoff. */
static int act_swapoff(struct bc_mem *mem)
{
	struct own_swap swap;
	int ret;

	ret = swap_to_file(&swap);
	if (ret)
		return ret;
	ret = mem_swap_out(mem);
	bc_waiting("swapoff");
	if (swapoff(swap.path))
		return bc_why(BC_ERROR, "swapoff: %s", strerror(errno));
	remove_file(&swap);
	if (!ret && !(bc_pagemap(mem->addr) & BC_PM_PRESENT))
		return bc_why(BC_SKIP, "went to other swap than ours");
	return ret;
}

static const struct promise promises[] = {
	KEEPS_WP("swapoff", act_swapoff, SINGLE),
	KEEPS_SOFT_DIRTY("swapoff", act_swapoff, SINGLE),
};

PROMISES(promises)
