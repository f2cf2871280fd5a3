// SPDX-License-Identifier: GPL-2.0
/*
 * References that stay, for the cases of break_cow: whoever takes them, and what
 * they show later.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#include "../../../../mm/break_cow_test.h"
#include "break_cow_cases.h"

#define DRIVE(text, flags)	{ .name = text, .by = BY_DRIVER, .how = flags }

const struct bc_holder bc_holders[BC_NR_HOLDERS] = {
	[BC_VMSPLICE]	= { .by = BY_VMSPLICE },
	[BC_DIRECT]	= { .name = "O_DIRECT", .by = BY_DIRECT },
	[BC_FILL]	= { .name = "O_DIRECT", .by = BY_FILL },
	[BC_ZEROCOPY]	= { .name = "zerocopy", .by = BY_ZEROCOPY },
	[BC_URING]	= { .name = "io_uring", .by = BY_URING },
	[BC_GET]	= DRIVE("get", 0),
	[BC_GET_FAST]	= DRIVE("get fast", BREAK_COW_FAST),
	[BC_PIN]	= DRIVE("pin", BREAK_COW_PIN),
	[BC_PIN_FAST]	= DRIVE("pin fast", BREAK_COW_PIN | BREAK_COW_FAST),
	[BC_PIN_LONG]	= DRIVE("pin long",
				BREAK_COW_PIN | BREAK_COW_LONGTERM),
	[BC_PIN_LONG_FAST] = DRIVE("pin long fast", BREAK_COW_PIN |
				   BREAK_COW_LONGTERM | BREAK_COW_FAST),
	[BC_NO_RETRY]	= DRIVE("no retry", BREAK_COW_PIN | BREAK_COW_NO_RETRY),
	[BC_NOWAIT]	= DRIVE("nowait", BREAK_COW_PIN | BREAK_COW_NOWAIT),
	[BC_REMOTE]	= { .name = "remote", .by = BY_DRIVER,
			    .how = BREAK_COW_PIN, .remote = true },
	[BC_LOOK]	= DRIVE("look", BREAK_COW_LOOK),
	[BC_LOOK_FAST]	= DRIVE("look fast", BREAK_COW_LOOK | BREAK_COW_FAST),
	[BC_LOOK_FAST_ONLY] = DRIVE("look fast only",
				    BREAK_COW_LOOK | BREAK_COW_FAST_ONLY),
	[BC_LOOK_REMOTE] = { .name = "look remote", .by = BY_DRIVER,
			     .how = BREAK_COW_LOOK, .remote = true },
};

static const struct bc_holder fast_only =
	DRIVE("fast only", BREAK_COW_PIN | BREAK_COW_FAST_ONLY);
/* From v6.5 there are no such pins. */
static const struct bc_holder get_fast_only =
	DRIVE("get fast only", BREAK_COW_FAST_ONLY);
static const struct bc_holder force =
	DRIVE("force", BREAK_COW_PIN | BREAK_COW_FORCE);

static enum bc_by hold_by(const struct bc_hold *hold)
{
	return hold->by ? hold->by->by : BY_VMSPLICE;
}

/**
 * holder_there() - are there cases of this holder
 * @nr: who it is
 *
 * Return: false if none are to be run.
 */
bool holder_there(enum bc_holder_nr nr)
{
	/* Sockets that go from one process of a machine to another, and not by IP */
	return nr != BC_ZEROCOPY || !bc_kernel_before(6, 7);
}

/*
 * A connection whose pages wait for who receives, as those of a pipe do: 0 or
 * -errno. By IP they would be copied on the way.
 */
static int connection_open(int ends[2])
{
	struct sockaddr_vm sa = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_LOCAL,
		.svm_port = VMADDR_PORT_ANY,
	};
	int server = socket(AF_VSOCK, SOCK_STREAM, 0);
	int client = socket(AF_VSOCK, SOCK_STREAM, 0);
	socklen_t len = sizeof(sa);
	const int one = 1;
	int err;

	/* The case ends if there is an error, and so do these. */
	if (server < 0 || client < 0)
		return -ENOSYS;
	if (bind(server, (struct sockaddr *)&sa, sizeof(sa)))
		return errno == EADDRNOTAVAIL ? -ENOSYS : -errno;
	if (listen(server, 1) || getsockname(server, (struct sockaddr *)&sa, &len) ||
	    connect(client, (struct sockaddr *)&sa, sizeof(sa)) ||
	    setsockopt(client, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)))
		return -errno;
	ends[0] = accept(server, NULL, NULL);
	err = -errno;
	close(server);
	if (ends[0] < 0)
		return err;
	ends[1] = client;
	return 0;
}

/* Open what keeps the references, unless it is: 0 or -errno */
static int hold_open(struct bc_hold *hold)
{
	switch (hold_by(hold)) {
	case BY_VMSPLICE:
		if (!hold->pipe[1] && pipe(hold->pipe))
			return -errno;
		return 0;
	case BY_ZEROCOPY:
		return hold->pipe[1] ? 0 : connection_open(hold->pipe);
	case BY_DIRECT:
	case BY_FILL:
		hold->flight.fill = hold_by(hold) == BY_FILL;
		return flight_open(&hold->flight);
	case BY_DRIVER:
		if (!hold->driver)
			hold->driver = open(BC_DRIVER, O_RDWR);
		return hold->driver < 0 ? -ENOSYS : 0;
	default:
		return 0;
	}
}

static int take_by_driver(struct bc_hold *hold, const void *addr)
{
	struct break_cow_take take = {
		.addr = (uintptr_t)addr - hold->before * bc_page_size(),
		.nr_pages = hold->before + 1,
		.how = hold->by->how,
		.pid = hold->by->remote ? getpid() : 0,
	};
	int n, tries = 1;

	/* Who does not wait may come back without a page, but not for ever. */
	if (take.how & BREAK_COW_NOWAIT)
		tries = 100;
	do {
		n = ioctl(hold->driver, BREAK_COW_TAKE, &take);
	} while (!n && --tries && !usleep(1000));
	if (n < 0)
		return -errno;
	return n == (int)take.nr_pages ? 0 : -EAGAIN;
}

/**
 * hold_take() - take a reference to a page, and keep it
 * @hold: receives it. Taken again, vmsplice() and zerocopy have one more; the
 *	  others drop the one before.
 * @addr: the page
 *
 * Return: 0 or -errno; -ENOSYS if this kernel has no such holder.
 */
int hold_take(struct bc_hold *hold, const void *addr)
{
	int err = hold_open(hold);
	ssize_t n;

	if (err)
		return err;
	hold->addr = addr;
	bc_waiting("%s to return", hold->by && hold->by->name ?
		   hold->by->name : "vmsplice");
	switch (hold_by(hold)) {
	case BY_VMSPLICE:
		return bc_splice_page(hold->pipe[1], addr);
	case BY_ZEROCOPY:
		n = send(hold->pipe[1], addr, bc_page_size(), MSG_ZEROCOPY);
		return n == (ssize_t)bc_page_size() ? 0 : n < 0 ? -errno : -EAGAIN;
	case BY_DIRECT:
	case BY_FILL:
		return flight_begin(&hold->flight, addr);
	case BY_DRIVER:
		return take_by_driver(hold, addr);
	default:
		return bc_pin((void *)addr, bc_page_size());
	}
}

/**
 * take() - hold_take(), where there has to be a page
 * @hold: receives the reference
 * @addr: the page
 *
 * Return: BC_OK, or BC_FAIL or BC_SKIP with the reason recorded.
 */
int take(struct bc_hold *hold, const void *addr)
{
	static const char * const missing[] = {
		[BY_VMSPLICE] = "vmsplice",
		[BY_ZEROCOPY] = "vsock (CONFIG_VSOCKETS_LOOPBACK)",
		[BY_DIRECT] = "FUSE (CONFIG_FUSE_FS, and root)",
		[BY_FILL] = "FUSE (CONFIG_FUSE_FS, and root)",
		[BY_URING] = "io_uring (CONFIG_IO_URING)",
		[BY_DRIVER] = "test driver (CONFIG_BREAK_COW_TEST)",
	};
	int err = hold_take(hold, addr);

	if (err == -ENOSYS)
		return bc_why(BC_SKIP, "no %s", missing[hold_by(hold)]);
	return err ? bc_why(BC_FAIL, "got %s, want a page taken",
			    strerror(-err)) : BC_OK;
}

/**
 * hold_drop() - give back what the driver holds, or a socket, once and for all
 * @hold: the reference
 */
void hold_drop(struct bc_hold *hold)
{
	char buf[4096];

	if (hold_by(hold) == BY_DRIVER) {
		ioctl(hold->driver, BREAK_COW_DROP);
	} else if (hold_by(hold) == BY_ZEROCOPY) {
		shutdown(hold->pipe[1], SHUT_WR);
		while (read(hold->pipe[0], buf, sizeof(buf)) > 0)
			;
	}
}

/**
 * hold_lock() - take the page lock of what the driver holds, or give it back
 * @hold: the reference
 * @on: take it
 *
 * Return: BC_OK, or BC_ERROR with the reason recorded.
 */
int hold_lock(struct bc_hold *hold, bool on)
{
	bc_waiting("the page lock");
	if (ioctl(hold->driver, on ? BREAK_COW_LOCK : BREAK_COW_UNLOCK))
		return bc_why(BC_ERROR, "driver: %s", strerror(errno));
	return BC_OK;
}

/**
 * hold_fill() - have the read with O_DIRECT store to a page that it holds, and end
 * @hold: the reference, by BC_FILL; there is none any more afterwards
 * @c: what it stores, everywhere in the page
 *
 * Return: BC_OK, or BC_ERROR with the reason recorded.
 */
int hold_fill(struct bc_hold *hold, unsigned char c)
{
	static char buf[4096];
	int err;

	bc_waiting("a read with O_DIRECT to end");
	memset(buf, c, sizeof(buf));
	err = flight_end(&hold->flight, buf);
	return err ? bc_why(BC_ERROR, "FUSE: %s", strerror(-err)) : BC_OK;
}

/**
 * hold_same() - does a page that is held have the same byte everywhere
 * @hold: the reference; pipe, socket and O_DIRECT have none any more afterwards
 * @want: the byte
 * @what: for the reason
 *
 * Return: BC_OK, or BC_FAIL or BC_ERROR with the reason recorded.
 */
int hold_same(struct bc_hold *hold, unsigned char want, const char *what)
{
	unsigned char buf[4096];
	struct break_cow_copy copy = {
		.buf = (uintptr_t)buf,
		.offset = hold->before * bc_page_size(),
		.len = sizeof(buf),
	};
	int err;

	bc_waiting("what is held to be read");
	switch (hold_by(hold)) {
	case BY_VMSPLICE:
	case BY_ZEROCOPY:
		if (read(hold->pipe[0], buf, sizeof(buf)) != sizeof(buf))
			return bc_why(BC_ERROR, "read: %s", strerror(errno));
		break;
	case BY_DIRECT:
		err = flight_end(&hold->flight, buf);
		if (err)
			return bc_why(BC_ERROR, "FUSE: %s", strerror(-err));
		break;
	case BY_DRIVER:
		if (ioctl(hold->driver, BREAK_COW_READ, &copy))
			return bc_why(BC_ERROR, "driver: %s", strerror(errno));
		break;
	default:
		if (bc_pin_read(hold->addr, buf, sizeof(buf)))
			return BC_ERROR;
	}
	return bytes_same(buf, sizeof(buf), want, what);
}

/**
 * hold_sees_store() - does a page that is held show what we store to it now
 * @hold: the reference; pipe, socket and O_DIRECT have none any more afterwards
 * @what: for the reason
 *
 * Return: BC_OK, or BC_FAIL or BC_ERROR with the reason recorded.
 */
int hold_sees_store(struct bc_hold *hold, const char *what)
{
	bc_waiting("the store to what is held");
	memset((void *)hold->addr, NEW, bc_page_size());
	return hold_same(hold, NEW, what);
}

/* Fast GUP that may not fall back, by a pin if there are such pins. */
static int take_fast_only(struct bc_hold *hold, const void *addr)
{
	int ret;

	hold->by = &fast_only;
	ret = hold_take(hold, addr);
	if (ret == -EOPNOTSUPP) {
		hold->by = &get_fast_only;
		ret = hold_take(hold, addr);
	}
	return ret;
}

/*
 * Fast GUP that may not fall back leaves what is shared alone, and breaks
 * nothing. What is ours and writable it takes.
 */
int case_fast_only(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = {};
	struct bc_mem mem;
	__u64 before;
	int ret;

	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	before = bc_pfn(mem.addr);
	ret = take_fast_only(&hold, mem.addr);
	if (ret == -ENOSYS)
		return take(&hold, mem.addr);
	if (!ret)
		return bc_why(BC_FAIL, "got the shared page, want none");
	if (ret != -EAGAIN)
		return bc_why(BC_FAIL, "got %s, want no page", strerror(-ret));
	if (bc_pfn(mem.addr) != before)
		return bc_why(BC_FAIL, "got a copy, want none");

	bc_reap(mem.child);
	memset(mem.addr, NEW, mem.len);
	ret = take(&hold, mem.addr);
	return ret ? ret : hold_same(&hold, NEW, "the page taken");
}

/*
 * What is ours takes no detour over the slow path, although it is not writable:
 * protected by userfaultfd, or shared with a child that is gone.
 */
int case_fast_own(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = {};
	struct bc_mem mem, other;
	__u64 before;
	int ret, uffd;

	ret = mem_get_arg(arg, &mem);
	if (!ret && mem.child)
		bc_reap(mem.child);
	else if (!ret)
		ret = mem_protect(&mem, &uffd);
	if (!ret)
		ret = mem_get(MEM_4K, &other);
	if (ret)
		return ret;
	before = bc_pfn(mem.addr);
	/* The page is in no batch then. */
	mem_pageout(&other);
	ret = take_fast_only(&hold, mem.addr);
	if (ret == -ENOSYS)
		return take(&hold, mem.addr);
	if (ret)
		return bc_why(BC_FAIL, "got %s, want the page taken", strerror(-ret));
	if (bc_pfn(mem.addr) != before)
		return bc_why(BC_FAIL, "got a copy, want the page");
	return hold_same(&hold, OLD, "the page taken");
}

/* FOLL_FORCE takes what the process itself may not touch. It is ours as well. */
int case_no_access(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = &force };
	struct bc_mem mem;
	__u64 before;
	int ret;

	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	before = bc_pfn(mem.addr);
	if (mprotect(mem.addr, mem.len, PROT_NONE))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	if (mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	if (bc_pfn(mem.addr) == before)
		return bc_why(BC_FAIL, "got the shared page, want a copy");
	ret = hold_sees_store(&hold, "the page taken");
	bc_reap(mem.child);
	return ret;
}

/*
 * One pin of a page of a file in two mappings, shared and private. That it was
 * taken in the first says nothing about the second.
 */
int case_beside_shared(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };
	struct bc_mem mem;
	int ret;

	ret = mem_get(arg->kind, &mem);
	if (ret)
		return ret;
	hold.before = mem.len / bc_page_size();
	ret = take(&hold, mem.addr);
	if (ret)
		return ret;
	return hold_sees_store(&hold, "the page taken");
}
