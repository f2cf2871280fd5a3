// SPDX-License-Identifier: GPL-2.0
/*
 * Who only looks at a page and lets go leaves it shared, for the cases of
 * break_cow. One case for each exception from breaking COW that can be had
 * without special hardware; the driver stands for the others.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/futex.h>
#include <linux/hw_breakpoint.h>
#ifdef __x86_64__
#include <linux/kvm.h>
#endif
#include <linux/perf_event.h>

#include "break_cow_cases.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif
#define MPOL_F_NODE	0x1	/* <linux/mempolicy.h> */
#define MPOL_F_ADDR	0x2

/* Is the page what it was, and shared with whom it was shared with? */
static int left_alone(const struct bc_arg *arg, struct bc_mem *mem, __u64 before)
{
	char *page = mem_middle(mem);

	if (bc_pfn(page) != before)
		return bc_why(BC_FAIL, "got a copy, want the page left shared");
	/* What is in swap for the child has no frame there. */
	if (mem->child && arg->kind != MEM_SWAP &&
	    pfn_of(mem->child, page) != before)
		return bc_why(BC_FAIL, "got a copy for the child, want the page left shared");
	if (arg->kind == MEM_THP && !bc_is_thp(mem->addr, mem->len))
		return bc_why(BC_FAIL, "got the huge page split, want it left alone");
	return BC_OK;
}

/*
 * Nobody shares the page any more: a store goes to it, unless somebody still has
 * a reference, for whose sake it goes to a copy. The swap cache has some, and the
 * other entries of a huge page.
 */
static int let_go(const struct bc_arg *arg, struct bc_mem *mem, __u64 before)
{
	char *page = mem_middle(mem);

	if (!mem->child || arg->kind == MEM_SWAP || arg->kind == MEM_THP_PTE)
		return BC_OK;
	bc_reap(mem->child);
	bc_store(page, NEW);
	if (bc_pfn(page) != before)
		return bc_why(BC_FAIL, "got a copy for a store, want no reference left");
	return BC_OK;
}

/* Look at the middle of what a child shares, or what is merged, by @look. */
static int looks(const struct bc_arg *arg, struct bc_hold *hold,
		 int (*look)(struct bc_hold *hold, struct bc_mem *mem, char *page))
{
	struct bc_mem mem;
	__u64 before;
	int ret;

	/* let_go() is not to find a reference of a batch. */
	bc_one_cpu();
	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	before = bc_pfn(mem_middle(&mem));
	ret = look(hold, &mem, mem_middle(&mem));
	if (!ret)
		ret = left_alone(arg, &mem, before);
	if (hold) {
		if (!ret)
			ret = hold_same(hold, OLD, "what was looked at");
		close(hold->driver);
	}
	if (!ret)
		ret = let_go(arg, &mem, before);
	return ret;
}

static int by_driver(struct bc_hold *hold, struct bc_mem *mem, char *page)
{
	(void)mem;
	return take(hold, page);
}

/*
 * A look in each way to take a reference, with FOLL_COW_OK if the kernel has that;
 * fast GUP alone does as well.
 */
static int case_looks(const void *p)
{
	const struct bc_arg *arg = p;
	struct bc_hold hold = { .by = arg->by };

	return looks(arg, &hold, by_driver);
}

/* The key of a futex in memory that cannot be written to: there is none */
static int futex(struct bc_hold *none, struct bc_mem *mem, char *page)
{
	(void)none;
	if (mprotect(mem->addr, mem->len, PROT_READ))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	if (syscall(SYS_futex, page, FUTEX_WAKE, 1, NULL, NULL, 0) != -1 ||
	    errno != EFAULT)
		return bc_why(BC_FAIL, "got %s for FUTEX_WAKE, want EFAULT",
			      strerror(errno));
	if (mprotect(mem->addr, mem->len, PROT_READ | PROT_WRITE))
		return bc_why(BC_ERROR, "mprotect: %s", strerror(errno));
	return BC_OK;
}

static int case_looks_futex(const void *p)
{
	return looks(p, NULL, futex);
}

/* The node of a page */
static int mempolicy(struct bc_hold *none, struct bc_mem *mem, char *page)
{
	int node = -1;

	(void)none;
	(void)mem;
	if (syscall(SYS_get_mempolicy, &node, NULL, 0UL, page,
		    (unsigned long)(MPOL_F_NODE | MPOL_F_ADDR)))
		return bc_why(BC_SKIP, "no get_mempolicy: %s (CONFIG_NUMA)",
			      strerror(errno));
	return node >= 0 ? BC_OK : bc_why(BC_FAIL, "got no node");
}

static int case_looks_mempolicy(const void *p)
{
	return looks(p, NULL, mempolicy);
}

/* The physical address of what a breakpoint has seen, in a sample of perf */
static int perf_sample(struct bc_hold *none, struct bc_mem *mem, char *page)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_PHYS_ADDR,
		.bp_type = HW_BREAKPOINT_RW,
		.bp_addr = (uintptr_t)page + 8,
		.bp_len = HW_BREAKPOINT_LEN_1,
		.exclude_kernel = 1,
	};
	const size_t size = bc_page_size();
	struct perf_event_header *sample;
	__u64 want = bc_pfn(page) * size + 8, got;
	char *ring;
	int fd;

	(void)none;
	(void)mem;
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0UL);
	if (fd < 0)
		return bc_why(BC_SKIP, "no breakpoints by perf: %s", strerror(errno));
	ring = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED)
		return bc_why(BC_ERROR, "mmap of perf: %s", strerror(errno));
	bc_load(page + 8);
	sample = (struct perf_event_header *)(ring + size);
	if (!((struct perf_event_mmap_page *)ring)->data_head ||
	    sample->type != PERF_RECORD_SAMPLE)
		return bc_why(BC_ERROR, "no sample");
	got = *(__u64 *)(sample + 1);
	munmap(ring, 2 * size);
	close(fd);
	if (got != want)
		return bc_why(BC_FAIL, "got physical address %#llx, want %#llx",
			      (unsigned long long)got, (unsigned long long)want);
	return BC_OK;
}

static int case_looks_perf(const void *p)
{
	return looks(p, NULL, perf_sample);
}

/*
 * A page is taken out of use: the one that is mapped, for all that map it. The machine
 * has one page less until it boots again, so it has to be asked for.
 */
static int case_looks_offline(const void *p)
{
	struct bc_mem mem;
	__u64 before;
	int i, ret;

	if (!getenv("BREAK_COW_DESTRUCTIVE"))
		return bc_why(BC_SKIP, "costs the machine a page; set BREAK_COW_DESTRUCTIVE");
	ret = mem_get_arg(p, &mem);
	if (ret)
		return ret;
	before = bc_pfn(mem.addr);
	/* Not while it is in a batch on the way to the LRU. */
	for (i = 0; i < 100; i++) {
		if (!madvise(mem.addr, mem.len, MADV_SOFT_OFFLINE))
			break;
		if (errno == EINVAL)
			return bc_why(BC_SKIP, "no MADV_SOFT_OFFLINE (CONFIG_MEMORY_FAILURE)");
		if (errno == EOPNOTSUPP)
			return bc_why(BC_SKIP, "vm.enable_soft_offline is 0");
		usleep(10000);
	}
	if (i == 100)
		return bc_why(BC_ERROR, "MADV_SOFT_OFFLINE: %s", strerror(errno));
	if (bc_pfn(mem.addr) == before)
		return bc_why(BC_FAIL, "got the same page, want another one");
	if (pfn_of(mem.child, mem.addr) != bc_pfn(mem.addr))
		return bc_why(BC_FAIL, "got a copy, want the page left shared");
	bc_reap(mem.child);
	return BC_OK;
}

/* The guest's code, and how its registers are set, are x86's. */
#ifdef __x86_64__
/* A virtual machine with one processor, and two pages of memory */
struct guest {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	size_t size;
};

#define GUEST_CODE	0x1000
#define GUEST_DATA	0x2000

static int guest_map(struct guest *g, unsigned int slot, __u64 at, const void *page)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = at,
		.memory_size = bc_page_size(),
		.userspace_addr = (uintptr_t)page,
	};

	return ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

/* A guest that can get at @page; BC_SKIP if there can be none. */
static int guest_start(struct guest *g, const char *page)
{
	/* mov al, [GUEST_DATA]; hlt; in 16 bits */
	static const unsigned char code[] = { 0xa0, 0x00, 0x20, 0xf4 };
	struct kvm_sregs sregs;
	char *text;

	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0)
		return bc_why(BC_SKIP, "no /dev/kvm: %s (CONFIG_KVM)", strerror(errno));
	g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0UL);
	g->vcpu = g->vm < 0 ? -1 : ioctl(g->vm, KVM_CREATE_VCPU, 0UL);
	if (g->vcpu < 0)
		return bc_why(BC_ERROR, "no virtual machine: %s", strerror(errno));
	/* An Intel CPU that cannot run 16 bits by itself has three pages for that. */
	ioctl(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000UL);
	g->size = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL);
	g->run = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	text = bc_alloc(bc_page_size());
	if (g->run == MAP_FAILED || !text)
		return bc_why(BC_ERROR, "mmap: %s", strerror(errno));
	memcpy(text, code, sizeof(code));
	if (guest_map(g, 0, GUEST_CODE, text) || guest_map(g, 1, GUEST_DATA, page) ||
	    ioctl(g->vcpu, KVM_GET_SREGS, &sregs))
		return bc_why(BC_ERROR, "no memory for the guest: %s", strerror(errno));
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(g->vcpu, KVM_SET_SREGS, &sregs))
		return bc_why(BC_ERROR, "KVM_SET_SREGS: %s", strerror(errno));
	return BC_OK;
}

static int guest_reads(struct guest *g, unsigned char want)
{
	struct kvm_regs regs = { .rip = GUEST_CODE, .rflags = 2 };

	if (ioctl(g->vcpu, KVM_SET_REGS, &regs) || ioctl(g->vcpu, KVM_RUN, 0UL) ||
	    ioctl(g->vcpu, KVM_GET_REGS, &regs))
		return bc_why(BC_ERROR, "the guest does not run: %s", strerror(errno));
	if (g->run->exit_reason != KVM_EXIT_HLT)
		return bc_why(BC_ERROR, "the guest ended with %u", g->run->exit_reason);
	if ((regs.rax & 0xff) != want)
		return bc_why(BC_FAIL, "got %#x in the guest, want %#x",
			      (unsigned int)(regs.rax & 0xff), want);
	return BC_OK;
}

static void guest_stop(struct guest *g)
{
	munmap(g->run, g->size);
	close(g->vcpu);
	close(g->vm);
	close(g->kvm);
}

/*
 * A guest reads a page and goes on to have it mapped, without a reference. The MMU
 * notifier takes it away when we store to a copy.
 */
static int case_looks_kvm(const void *p)
{
	const struct bc_arg *arg = p;
	struct guest guest;
	struct bc_mem mem;
	__u64 before;
	char *page;
	int ret;

	ret = mem_get_arg(arg, &mem);
	if (ret)
		return ret;
	page = mem_middle(&mem);
	ret = guest_start(&guest, page);
	if (ret)
		return ret;
	before = bc_pfn(page);
	ret = guest_reads(&guest, OLD);
	if (!ret)
		ret = left_alone(arg, &mem, before);
	bc_store(page, NEW);
	if (!ret)
		ret = guest_reads(&guest, NEW);
	if (!ret && mem.child && pfn_of(mem.child, page) != before)
		ret = bc_why(BC_FAIL, "got the child's page taken away");
	guest_stop(&guest);
	if (mem.child)
		bc_reap(mem.child);
	return ret;
}
#else
static int case_looks_kvm(const void *p)
{
	(void)p;
	return bc_why(BC_SKIP, "no code of a guest for this architecture");
}
#endif

static const struct promise promises[] = {
	PROMISE("looks", case_looks, SINGLE | HUGE_PAGE | HUGETLB | KIND(MEM_SWAP),
		LOOKS, .shared = true),
	PROMISE("looks", case_looks, KIND(MEM_KSM), LOOKS),
	PROMISE("looks, futex", case_looks_futex, SINGLE | KIND(MEM_THP), NOBODY,
		.shared = true),
	PROMISE("looks, get_mempolicy", case_looks_mempolicy,
		SINGLE | KIND(MEM_THP), NOBODY, .shared = true),
	PROMISE("looks, perf", case_looks_perf, SINGLE | KIND(MEM_THP), NOBODY,
		.shared = true),
	PROMISE("looks, soft offline", case_looks_offline, SINGLE, NOBODY,
		.shared = true),
	PROMISE("looks, KVM", case_looks_kvm, SINGLE | KIND(MEM_THP), NOBODY,
		.shared = true),
	PROMISE("looks, KVM", case_looks_kvm, KIND(MEM_KSM), NOBODY),
};

PROMISES(promises)
