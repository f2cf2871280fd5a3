/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What /sys/kernel/debug/break_cow_test understands; for tests only. Included by
 * mm/break_cow_test.c and by the selftests.
 */
#ifndef _BREAK_COW_TEST_H
#define _BREAK_COW_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* How to take the references: @how of struct break_cow_take */
#define BREAK_COW_WRITE		0x1	/* FOLL_WRITE */
#define BREAK_COW_PIN		0x2	/* FOLL_PIN, else FOLL_GET */
#define BREAK_COW_LONGTERM	0x4	/* FOLL_LONGTERM, only with PIN */
#define BREAK_COW_FAST		0x8	/* fast GUP */
#define BREAK_COW_FAST_ONLY	0x10	/* ... which gives up, not falls back */
#define BREAK_COW_NO_RETRY	0x20	/* locked == NULL: no retry of a fault */
#define BREAK_COW_NOWAIT	0x40	/* FOLL_NOWAIT, implies NO_RETRY; not fast */
#define BREAK_COW_FORCE		0x80	/* FOLL_FORCE */
#define BREAK_COW_LOOK		0x100	/* may be shared: only looks; not with PIN */
#define BREAK_COW_HOW		0x1ff

/**
 * struct break_cow_take - take references to pages, and keep them
 * @addr: of the first page
 * @nr_pages: how many
 * @how: BREAK_COW_WRITE ...
 * @pid: whose memory, as the caller numbers it; 0: the caller's. Another's is
 *	 never taken by fast GUP.
 * @pad: 0
 *
 * One open file holds one set of references; taking replaces them. The result of
 * the ioctl is the number of pages, which may be less than @nr_pages, or -errno.
 */
struct break_cow_take {
	__u64 addr;
	__u32 nr_pages;
	__u32 how;
	__s32 pid;
	__u32 pad;
};

/**
 * struct break_cow_copy - look at what is held, or store to it, as a device does
 * @buf: user memory
 * @offset: in bytes, from the start of the first page held
 * @len: in bytes
 */
struct break_cow_copy {
	__u64 buf;
	__u32 offset;
	__u32 len;
};

#define BREAK_COW_TAKE	_IOW('b', 0x70, struct break_cow_take)
#define BREAK_COW_READ	_IOW('b', 0x71, struct break_cow_copy)
#define BREAK_COW_STORE	_IOW('b', 0x72, struct break_cow_copy)
#define BREAK_COW_DROP	_IO('b', 0x73)
/*
 * Lock the first page held (of a huge page: all of it), which has to be anonymous
 * (else -EOPNOTSUPP), and unlock it; to drop the references unlocks it too. Whoever
 * needs the lock waits meanwhile.
 */
#define BREAK_COW_LOCK	_IO('b', 0x74)
#define BREAK_COW_UNLOCK _IO('b', 0x75)

#endif /* _BREAK_COW_TEST_H */
