// SPDX-License-Identifier: GPL-2.0
/*
 * A write or read with O_DIRECT that stays in flight: of a file of FUSE, whose server
 * we are. The kernel has taken its reference to the page when the request is there
 * to be read. It looks at the page when the request is read, and a read stores to it
 * when the request is answered.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "break_cow_cases.h"

#define MAX_WRITE	4096	/* bytes of a request */

struct request {
	struct fuse_in_header in;
	union {
		struct fuse_init_in init;
		struct fuse_write_in write;
		struct fuse_read_in read;
		char room[2 * FUSE_MIN_READ_BUFFER];
	} arg;
};

static int answer(int dev, const struct request *req, int error, const void *arg,
		  size_t len)
{
	struct fuse_out_header out = {
		.len = sizeof(out) + len, .error = error, .unique = req->in.unique,
	};
	struct iovec iov[] = { { &out, sizeof(out) }, { (void *)arg, len } };

	return writev(dev, iov, 2) == (ssize_t)out.len ? 0 : -errno;
}

/* Answer one request of those that come before the first write or read: 0 or -errno */
static int serve(int dev)
{
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = 23 };
	struct fuse_attr_out attr = {
		.attr = { .ino = FUSE_ROOT_ID, .mode = S_IFREG | 0600, .nlink = 1 },
	};
	struct fuse_open_out file = { .open_flags = FOPEN_DIRECT_IO };
	static struct request req;

	if (read(dev, &req, sizeof(req)) < (ssize_t)sizeof(req.in))
		return -errno;
	switch (req.in.opcode) {
	case FUSE_INIT:
		init.max_readahead = req.arg.init.max_readahead;
		init.max_write = MAX_WRITE;
		return answer(dev, &req, 0, &init, sizeof(init));
	case FUSE_GETATTR:
		return answer(dev, &req, 0, &attr, sizeof(attr));
	case FUSE_OPEN:
		return answer(dev, &req, 0, &file, sizeof(file));
	case FUSE_FLUSH:	/* it never asks again */
		return answer(dev, &req, -ENOSYS, NULL, 0);
	case FUSE_RELEASE:
		return answer(dev, &req, 0, NULL, 0);
	default:
		return -EPROTO;
	}
}

/*
 * Who writes or reads. Its table of files is its own: the files of a child that the
 * others fork must not end with this one, for that waits for what is in flight.
 */
static void *writer_thread(void *arg)
{
	struct bc_flight *f = arg;
	int dev = f->dev, file = -1, how = O_DIRECT | (f->fill ? O_RDONLY : O_WRONLY);

	if (!unshare(CLONE_FILES)) {
		/* Else the connection would be up as long as we wait for it. */
		close(dev);
		file = open(f->path, how);
	}
	/*
	 * Once more, for to close it asks for a flush: when the case has ended,
	 * there would be nobody to answer.
	 */
	if (file >= 0 && !close(file))
		file = open(f->path, how);
	f->err = file < 0 ? errno : 0;
	sem_post(&f->done);
	for (;;) {
		ssize_t n;

		sem_wait(&f->go);
		n = f->fill ? pread(file, (void *)f->addr, bc_page_size(), 0) :
			      pwrite(file, f->addr, bc_page_size(), 0);
		f->err = n < 0 ? errno : n == (ssize_t)bc_page_size() ? 0 : EIO;
		sem_post(&f->done);
	}
	return NULL;
}

/* Have the file opened that we serve: 0 or -errno */
static int open_served(struct bc_flight *f)
{
	struct pollfd in = { .fd = f->dev, .events = POLLIN };
	pthread_t thread;
	int err = 0;

	sem_init(&f->go, 0, 0);
	sem_init(&f->done, 0, 0);
	if (pthread_create(&thread, NULL, writer_thread, f))
		return -EAGAIN;
	while (!err && sem_trywait(&f->done))
		if (poll(&in, 1, 10) > 0)
			err = serve(f->dev);
	return err ? err : -f->err;
}

/**
 * flight_open() - make the file that nobody reads until we do
 * @f: receives it, once; then nothing is done
 *
 * Return: 0 or -errno; -ENOSYS if this kernel has no FUSE, or pages larger than what
 * one request holds.
 */
int flight_open(struct bc_flight *f)
{
	char data[64];
	int fd, err;

	if (f->dev)
		return f->dev < 0 ? -ENOSYS : 0;
	if (bc_page_size() > MAX_WRITE)
		return -ENOSYS;
	f->dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(f->path, sizeof(f->path), "/tmp/break_cow.XXXXXX");
	fd = mkstemp(f->path);
	if (f->dev < 0 || fd < 0)
		return -ENOSYS;
	close(fd);
	snprintf(data, sizeof(data), "fd=%d,rootmode=100600,user_id=0,group_id=0",
		 f->dev);
	err = mount("break_cow", f->path, "fuse", MS_NOSUID | MS_NODEV, data) ?
	      -errno : open_served(f);
	umount2(f->path, MNT_DETACH);
	unlink(f->path);
	return err;
}

/**
 * flight_begin() - write or fill a page, and keep that from ending
 * @f: what flight_open() made; what was in flight before is ended
 * @addr: the page
 *
 * Return: 0 or -errno.
 */
int flight_begin(struct bc_flight *f, const void *addr)
{
	struct pollfd in = { .fd = f->dev, .events = POLLIN };
	static char buf[MAX_WRITE];
	int err = f->addr ? flight_end(f, buf) : 0;

	if (err)
		return err;
	f->addr = addr;
	sem_post(&f->go);
	/* The request is there when the page is held; or it has failed. */
	while (poll(&in, 1, 1) != 1)
		if (!sem_trywait(&f->done)) {
			f->addr = NULL;
			return f->err ? -f->err : -EIO;
		}
	return 0;
}

/**
 * flight_end() - let the write or read end
 * @f: what flight_begin() began
 * @buf: receives what the page holds now, or has what it is filled with
 *
 * Return: 0 or -errno.
 */
int flight_end(struct bc_flight *f, void *buf)
{
	const size_t page = bc_page_size(), in = sizeof(struct fuse_in_header);
	const size_t head = in + sizeof(struct fuse_write_in);
	struct fuse_write_out out = { .size = page };
	static struct request req;
	ssize_t n;
	int err;

	f->addr = NULL;
	n = read(f->dev, &req, sizeof(req));
	if (n != (ssize_t)(f->fill ? in + sizeof(struct fuse_read_in) : head + page))
		return -EIO;
	if (f->fill) {
		if (req.in.opcode != FUSE_READ || req.arg.read.size != page)
			return -EPROTO;
		err = answer(f->dev, &req, 0, buf, page);
	} else {
		if (req.in.opcode != FUSE_WRITE || req.arg.write.size != page)
			return -EPROTO;
		memcpy(buf, (char *)&req + head, page);
		err = answer(f->dev, &req, 0, &out, sizeof(out));
	}
	if (err)
		return err;
	while (sem_wait(&f->done))
		;
	return -f->err;
}
