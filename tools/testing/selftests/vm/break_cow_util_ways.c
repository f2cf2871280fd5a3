// SPDX-License-Identifier: GPL-2.0
/*
 * Shared by the break_cow tests and the umap evictor, see break_cow_util.h:
 * the ways in which the kernel is made to read user memory, and what else is asked of
 * the machine: children, CPUs, ksmd.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>

#include "break_cow_util.h"

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup	425
#define SYS_io_uring_enter	426
#define SYS_io_uring_register	427
#endif

/* What a thread keeps from one call to the next; nothing of it survives fork */
struct bc_io {
	pid_t pid;
	aio_context_t aio;
	int uring;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	int pipe[2];
	int proc_mem;
	int file;
	char *bounce;
	size_t bounce_len;
};

static __thread struct bc_io bc_io;

static struct bc_io *bc_io_get(void)
{
	if (bc_io.pid != getpid()) {
		memset(&bc_io, 0, sizeof(bc_io));
		bc_io.pid = getpid();
		bc_io.uring = -1;
		bc_io.pipe[0] = -1;
		bc_io.proc_mem = -1;
		bc_io.file = -1;
	}
	return &bc_io;
}

static char *bc_bounce(struct bc_io *io, size_t len)
{
	if (io->bounce_len < len) {
		if (io->bounce)
			munmap(io->bounce, io->bounce_len);
		io->bounce_len = 0;
		io->bounce = mmap(NULL, len, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (io->bounce == MAP_FAILED) {
			io->bounce = NULL;
			return NULL;
		}
		io->bounce_len = len;
	}
	return io->bounce;
}

static int way_write(const void *addr, size_t len, int fd, off_t off)
{
	ssize_t n;

	while (len) {
		n = pwrite(fd, addr, len, off);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		addr = (const char *)addr + n;
		off += n;
		len -= n;
	}
	return 0;
}

static int way_aio(const void *addr, size_t len, int fd, off_t off)
{
	struct bc_io *io = bc_io_get();
	struct io_event event;
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = fd,
		.aio_buf = (uintptr_t)addr,
		.aio_nbytes = len,
		.aio_offset = off,
	}, *cbs = &cb;

	if (!io->aio && syscall(SYS_io_setup, 4, &io->aio))
		return -errno;
	if (syscall(SYS_io_submit, io->aio, 1, &cbs) != 1)
		return -errno;
	while (syscall(SYS_io_getevents, io->aio, 1, 1, &event, NULL) != 1)
		if (errno != EINTR)
			return -errno;
	if (event.res < 0)
		return event.res;
	return (size_t)event.res == len ? 0 : -EIO;
}

static void *bc_uring_map(int fd, size_t len, off_t off)
{
	void *map = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_POPULATE, fd, off);

	if (map == MAP_FAILED)
		return NULL;
	/* It belongs to one thread, and no child has that. */
	madvise(map, len, MADV_DONTFORK);
	return map;
}

static int bc_uring_setup(struct bc_io *io)
{
	struct io_uring_params p = { 0 };
	char *sq, *cq;
	int fd;

	if (io->uring >= 0)
		return 0;
	fd = syscall(SYS_io_uring_setup, 4, &p);
	if (fd < 0)
		return -errno;
	sq = bc_uring_map(fd, p.sq_off.array + p.sq_entries * sizeof(unsigned int),
			  IORING_OFF_SQ_RING);
	cq = bc_uring_map(fd, p.cq_off.cqes + p.cq_entries * sizeof(*io->cqes),
			  IORING_OFF_CQ_RING);
	io->sqes = bc_uring_map(fd, p.sq_entries * sizeof(*io->sqes),
				IORING_OFF_SQES);
	if (!sq || !cq || !io->sqes) {
		close(fd);
		return -ENOMEM;
	}
	io->sq_tail = (unsigned int *)(sq + p.sq_off.tail);
	io->sq_mask = (unsigned int *)(sq + p.sq_off.ring_mask);
	io->sq_array = (unsigned int *)(sq + p.sq_off.array);
	io->cq_head = (unsigned int *)(cq + p.cq_off.head);
	io->cq_tail = (unsigned int *)(cq + p.cq_off.tail);
	io->cq_mask = (unsigned int *)(cq + p.cq_off.ring_mask);
	io->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	io->uring = fd;
	return 0;
}

/* Submit one request, and wait for it: what it returned, or -errno */
static int uring_do(const struct io_uring_sqe *sqe)
{
	struct bc_io *io = bc_io_get();
	unsigned int tail, head, at;
	int ret;

	ret = bc_uring_setup(io);
	if (ret)
		return ret;
	tail = *io->sq_tail;
	at = tail & *io->sq_mask;
	io->sqes[at] = *sqe;
	io->sq_array[at] = at;
	__atomic_store_n(io->sq_tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, io->uring, 1, 0, 0, NULL, 0) != 1)
		return -errno;
	head = *io->cq_head;
	while (head == __atomic_load_n(io->cq_tail, __ATOMIC_ACQUIRE))
		if (syscall(SYS_io_uring_enter, io->uring, 0, 1,
			    IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR)
			return -errno;
	ret = io->cqes[head & *io->cq_mask].res;
	__atomic_store_n(io->cq_head, head + 1, __ATOMIC_RELEASE);
	return ret;
}

static int way_uring(const void *addr, size_t len, int fd, off_t off)
{
	struct iovec iov = { .iov_base = (void *)addr, .iov_len = len };
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_WRITEV,
		.fd = fd,
		.off = off,
		.addr = (uintptr_t)&iov,
		.len = 1,
	};
	int ret = uring_do(&sqe);

	if (ret < 0)
		return ret;
	return (size_t)ret == len ? 0 : -EIO;
}

/**
 * bc_pin() - have memory pinned, for good: FOLL_PIN, FOLL_LONGTERM, FOLL_WRITE
 * @addr: the memory, which io_uring registers as the buffer of this thread
 * @len: its length
 *
 * Return: 0 or -errno.
 */
int bc_pin(void *addr, size_t len)
{
	struct iovec iov = { .iov_base = addr, .iov_len = len };
	struct bc_io *io = bc_io_get();
	int ret;

	ret = bc_uring_setup(io);
	if (ret)
		return ret;
	ret = syscall(SYS_io_uring_register, io->uring, IORING_REGISTER_BUFFERS,
		      &iov, 1);
	return ret < 0 ? -errno : 0;
}

/**
 * bc_unpin() - let go of what bc_pin() got
 *
 * Return: 0 or -errno.
 */
int bc_unpin(void)
{
	struct bc_io *io = bc_io_get();
	int ret;

	ret = syscall(SYS_io_uring_register, io->uring,
		      IORING_UNREGISTER_BUFFERS, NULL, 0);
	return ret < 0 ? -errno : 0;
}

/**
 * bc_pin_read() - read pinned memory as a device does, whatever is mapped now
 * @addr: within what bc_pin() got
 * @buf: where the bytes end up
 * @len: how many
 *
 * Return: 0, or -errno with the reason recorded.
 */
int bc_pin_read(const void *addr, void *buf, size_t len)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_WRITE_FIXED,
		.addr = (uintptr_t)addr,
		.len = len,
	};
	struct bc_io *io = bc_io_get();
	int ret;

	if (io->file < 0)
		io->file = bc_tmpfile(0);
	if (io->file < 0)
		return -ENOENT;
	sqe.fd = io->file;
	ret = uring_do(&sqe);
	if (ret >= 0 && (ret != (int)len ||
			 pread(sqe.fd, buf, len, 0) != (ssize_t)len))
		ret = -EIO;
	if (ret < 0)
		bc_why(BC_ERROR, "reading the pinned page: %s", strerror(-ret));
	return ret < 0 ? ret : 0;
}

/**
 * bc_splice_page() - put a page into a pipe, which keeps a reference to it
 * @to: the end of the pipe that is written to
 * @addr: the page
 *
 * Return: 0 or -errno.
 */
int bc_splice_page(int to, const void *addr)
{
	struct iovec iov = {
		.iov_base = (void *)addr,
		.iov_len = bc_page_size(),
	};
	ssize_t n = vmsplice(to, &iov, 1, 0);

	if (n < 0)
		return -errno;
	return n == (ssize_t)iov.iov_len ? 0 : -EIO;
}

static int way_vmsplice(const void *addr, size_t len, int fd, off_t off)
{
	struct bc_io *io = bc_io_get();
	loff_t to = off;
	ssize_t in, out;

	if (io->pipe[0] < 0 && pipe2(io->pipe, O_CLOEXEC))
		return -errno;
	while (len) {
		/* No more than the pipe holds, or it would wait for us. */
		struct iovec iov = {
			.iov_base = (void *)addr,
			.iov_len = len,
		};
		size_t max = fcntl(io->pipe[0], F_GETPIPE_SZ);

		if (iov.iov_len > max)
			iov.iov_len = max;
		in = vmsplice(io->pipe[1], &iov, 1, 0);
		if (in <= 0)
			return in < 0 ? -errno : -EIO;
		addr = (const char *)addr + in;
		len -= in;
		while (in) {
			out = splice(io->pipe[0], NULL, fd, &to, in, 0);
			if (out <= 0)
				return out < 0 ? -errno : -EIO;
			in -= out;
		}
	}
	return 0;
}

static int way_process_vm(const void *addr, size_t len, int fd, off_t off)
{
	struct bc_io *io = bc_io_get();
	struct iovec to = { .iov_len = len };
	struct iovec from = { .iov_base = (void *)addr, .iov_len = len };
	ssize_t n;

	to.iov_base = bc_bounce(io, len);
	if (!to.iov_base)
		return -ENOMEM;
	n = process_vm_readv(io->pid, &to, 1, &from, 1, 0);
	if (n != (ssize_t)len)
		return n < 0 ? -errno : -EFAULT;
	return way_write(to.iov_base, len, fd, off);
}

static int way_proc_mem(const void *addr, size_t len, int fd, off_t off)
{
	struct bc_io *io = bc_io_get();
	char *to = bc_bounce(io, len);
	ssize_t n;

	if (!to)
		return -ENOMEM;
	if (io->proc_mem < 0)
		io->proc_mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	if (io->proc_mem < 0)
		return -errno;
	n = pread(io->proc_mem, to, len, (off_t)(uintptr_t)addr);
	if (n != (ssize_t)len)
		return n < 0 ? -errno : -EFAULT;
	return way_write(to, len, fd, off);
}

const struct bc_way bc_ways[] = {
	{ "direct", "O_DIRECT write to return", O_DIRECT, way_write },
	{ "aio", "Linux AIO write to complete", O_DIRECT, way_aio },
	{ "io_uring", "io_uring write to complete", O_DIRECT, way_uring },
	{ "vmsplice", "vmsplice and splice to return", 0, way_vmsplice },
	{ "process_vm_readv", "process_vm_readv to return", 0, way_process_vm },
	{ "buffered", "buffered write to return", 0, way_write },
	{ "proc_mem", "read of /proc/self/mem to return", 0, way_proc_mem },
};

const unsigned int bc_nr_ways = ARRAY_SIZE(bc_ways);

/**
 * bc_way() - find a way by its name
 * @name: the name
 *
 * Return: the way or NULL.
 */
const struct bc_way *bc_way(const char *name)
{
	unsigned int i;

	for (i = 0; i < bc_nr_ways; i++)
		if (!strcmp(bc_ways[i].name, name))
			return &bc_ways[i];
	return NULL;
}

/**
 * bc_named_file() - a file of our own
 * @oflags: O_DIRECT or 0
 * @path: receives its name, for unlink()
 * @len: the room there
 *
 * It lies in the folder that the environment variable BREAK_COW_DIR names;
 * else in the first of ., $TMPDIR, /var/tmp, /tmp that can do it.
 *
 * Return: the descriptor, open for reading and writing, or -1 with the reason
 * recorded.
 */
int bc_named_file(int oflags, char *path, size_t len)
{
	const char * const dirs[] = {
		getenv("BREAK_COW_DIR"), ".", getenv("TMPDIR"), "/var/tmp", "/tmp",
	};
	unsigned int i;
	int fd, err = ENOENT;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		if (!dirs[i])
			continue;
		snprintf(path, len, "%s/break_cow.XXXXXX", dirs[i]);
		fd = mkostemp(path, O_CLOEXEC | oflags);
		if (fd >= 0)
			return fd;
		err = errno;
		/* The file may be there although O_DIRECT was refused. */
		if (err == EINVAL)
			unlink(path);
		if (i == 0)
			break;
	}
	bc_why(BC_SKIP, "no file%s: %s (set BREAK_COW_DIR)",
	       oflags & O_DIRECT ? " with O_DIRECT" : "", strerror(err));
	return -1;
}

/**
 * bc_tmpfile() - an unlinked file
 * @oflags: O_DIRECT or 0
 *
 * Return: as bc_named_file().
 */
int bc_tmpfile(int oflags)
{
	char path[4096];
	int fd = bc_named_file(oflags, path, sizeof(path));

	if (fd >= 0)
		unlink(path);
	return fd;
}

/**
 * bc_way_read() - have memory read in a way, and get the bytes
 * @way: the way
 * @addr: what is read
 * @len: number of bytes
 * @buf: where they end up
 *
 * Return: 0, or -errno with the reason recorded.
 */
int bc_way_read(const struct bc_way *way, const void *addr, size_t len,
		void *buf)
{
	char path[64];
	int fd, back, ret;
	ssize_t n;

	fd = bc_tmpfile(way->oflags);
	if (fd < 0)
		return -EINVAL;
	bc_waiting("%s", way->what);
	ret = way->leave(addr, len, fd, 0);
	if (ret) {
		bc_why(BC_FAIL, "got %s from %s, want %zu bytes",
		       strerror(-ret), way->name, len);
		goto out;
	}
	/* Without O_DIRECT, so that buf need not be aligned. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	back = open(path, O_RDONLY | O_CLOEXEC);
	n = pread(back, buf, len, 0);
	if (n != (ssize_t)len) {
		ret = n < 0 ? -errno : -EIO;
		bc_why(BC_ERROR, "reading the file back: %s", strerror(-ret));
	}
	if (back >= 0)
		close(back);
out:
	close(fd);
	return ret;
}

/**
 * bc_fork_idle() - fork a child that shares the memory, lives, does nothing
 * @close_fd: to close in the child, so that it keeps no userfaultfd open; or -1
 *
 * Return: the child, or -1.
 */
pid_t bc_fork_idle(int close_fd)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	/* A thread may have forked us: system calls only. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	if (close_fd >= 0)
		close(close_fd);
	for (;;)
		pause();
}

/**
 * bc_reap() - kill a child and wait for its end
 * @pid: the child; nothing happens if it is not positive
 */
void bc_reap(pid_t pid)
{
	if (pid > 0 && !kill(pid, SIGKILL))
		waitpid(pid, NULL, 0);
}

/**
 * bc_one_cpu() - stay on this CPU
 *
 * A page in the batch of a CPU, on the way to an LRU list, has one reference more, and
 * the kernel empties only the batch of the CPU it runs on.
 */
void bc_one_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/**
 * bc_hugetlb_left() - how many huge pages are neither in use nor reserved
 * @kb: their size
 *
 * Since commit df7a6d1f6405 what is reserved is below zero from when a page is unmapped that
 * somebody still holds, until he lets go, as io_uring does late: wait for it.
 *
 * Return: how many; 0 if there are none of that size.
 */
long bc_hugetlb_left(unsigned int kb)
{
	const char *dir = "/sys/kernel/mm/hugepages/hugepages-";
	char unused_path[96], reserved_path[96];
	double end = bc_now() + 3;
	long unused, reserved;

	snprintf(unused_path, sizeof(unused_path), "%s%ukB/free_hugepages", dir, kb);
	snprintf(reserved_path, sizeof(reserved_path), "%s%ukB/resv_hugepages", dir, kb);
	do {
		unused = bc_proc_get(unused_path);
		reserved = bc_proc_get(reserved_path);
		if (unused < 0)
			return 0;
		if (reserved >= 0 && reserved <= unused)
			return unused - reserved;
		usleep(10000);
	} while (bc_now() < end);
	return unused;
}

#define KSM	"/sys/kernel/mm/ksm/"

/**
 * bc_ksm_start() - let ksmd run without a pause
 *
 * Return: 0 or -errno.
 */
int bc_ksm_start(void)
{
	bc_knob(KSM "sleep_millisecs", "0");
	return bc_knob(KSM "run", "1");
}

/**
 * bc_ksm_stop() - have ksmd stop; what is merged remains so
 */
void bc_ksm_stop(void)
{
	bc_knob(KSM "run", "0");
	bc_knob(KSM "sleep_millisecs", "20");
}
