// SPDX-License-Identifier: GPL-2.0
/*
 * Holds references to user pages in every way in which GUP hands them out, and
 * lets user space look through them later: what a driver, a pipe, or a device
 * would see. For tools/testing/selftests, and for root, who can read any
 * memory anyway.
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/init.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/types.h>
#include <linux/uaccess.h>

#include "break_cow_test.h"

/* The flag of a plain reference that is kept, and of one that only looks */
#ifndef GUP_KEEP
#define GUP_KEEP	FOLL_BREAK_COW
#endif
#ifndef GUP_LOOK
#define GUP_LOOK	0
#endif

/* Two huge pages of 1 GiB */
#define MAX_PAGES	(1UL << (31 - PAGE_SHIFT))

/**
 * struct held - the references of one open file
 * @lock: guards all else
 * @pages: the pages, or NULL
 * @nr_pages: how many
 * @pinned: they are pins (FOLL_PIN)
 * @written: they are for writing (FOLL_WRITE)
 * @locked: what is locked for user space, or NULL
 */
struct held {
	struct mutex lock;	/* for all that follows */
	struct page **pages;
	unsigned long nr_pages;
	bool pinned;
	bool written;
	struct folio *locked;
};

static void held_unlock(struct held *held)
{
	if (held->locked)
		folio_unlock(held->locked);
	held->locked = NULL;
}

static void held_drop(struct held *held)
{
	unsigned long i;

	lockdep_assert_held(&held->lock);
	held_unlock(held);
	if (held->pinned) {
		unpin_user_pages(held->pages, held->nr_pages);
	} else {
		for (i = 0; i < held->nr_pages; i++)
			put_page(held->pages[i]);
	}
	kvfree(held->pages);
	held->pages = NULL;
	held->nr_pages = 0;
}

/* May GUP drop the mmap lock? Not every kernel lets it with FOLL_LONGTERM. */
static bool may_retry(unsigned int how)
{
	return !(how & (BREAK_COW_NO_RETRY | BREAK_COW_NOWAIT |
			BREAK_COW_LONGTERM));
}

#ifndef pin_fast_only
/* There are no pins by fast GUP alone. */
static long pin_fast_only(unsigned long addr, unsigned int nr,
			  unsigned int flags, struct page **pages)
{
	return -EOPNOTSUPP;
}
#endif

/* Like get_user_pages_fast() and its kind: a number of pages, or -errno */
static long take_own(unsigned long addr, unsigned int nr, unsigned int how,
		     unsigned int flags, struct page **pages)
{
	const bool pin = how & BREAK_COW_PIN;
	long ret;

	if (how & BREAK_COW_FAST_ONLY)
		return pin ? pin_fast_only(addr, nr, flags, pages) :
			     get_user_pages_fast_only(addr, nr, flags, pages);
	if (how & BREAK_COW_FAST)
		return pin ? pin_user_pages_fast(addr, nr, flags, pages) :
			     get_user_pages_fast(addr, nr, flags, pages);
	if (may_retry(how))
		return pin ? pin_user_pages_unlocked(addr, nr, pages, flags) :
			     get_user_pages_unlocked(addr, nr, pages, flags);

	if (mmap_read_lock_killable(current->mm))
		return -EINTR;
	ret = pin ? pin_user_pages(addr, nr, flags, pages) :
		    get_user_pages(addr, nr, flags, pages);
	mmap_read_unlock(current->mm);
	return ret;
}

static long take_remote(pid_t nr_pid, unsigned long addr, unsigned int nr,
			unsigned int how, unsigned int flags,
			struct page **pages)
{
	int locked = 1, *may_drop = may_retry(how) ? &locked : NULL;
	struct task_struct *task;
	struct mm_struct *mm;
	long ret;

	rcu_read_lock();
	task = find_task_by_vpid(nr_pid);
	mm = task ? get_task_mm(task) : NULL;
	rcu_read_unlock();
	if (!mm)
		return -ESRCH;

	ret = -EINTR;
	if (!mmap_read_lock_killable(mm)) {
		if (how & BREAK_COW_PIN)
			ret = pin_user_pages_remote(mm, addr, nr, flags, pages,
						    may_drop);
		else
			ret = get_user_pages_remote(mm, addr, nr, flags, pages,
						    may_drop);
		if (locked)
			mmap_read_unlock(mm);
	}
	mmput(mm);
	return ret;
}

static unsigned int foll_flags(unsigned int how)
{
	unsigned int flags = 0;

	if (how & BREAK_COW_WRITE)
		flags |= FOLL_WRITE;
	else if (!(how & BREAK_COW_PIN))
		flags |= how & BREAK_COW_LOOK ? GUP_LOOK : GUP_KEEP;
	if (how & BREAK_COW_LONGTERM)
		flags |= FOLL_LONGTERM;
	if (how & BREAK_COW_NOWAIT)
		flags |= FOLL_NOWAIT;
	if (how & BREAK_COW_FORCE)
		flags |= FOLL_FORCE;
	return flags;
}

static long held_take(struct held *held, const struct break_cow_take *take)
{
	unsigned int flags = foll_flags(take->how);
	struct page **pages;
	long ret;

	if ((take->how & ~BREAK_COW_HOW) || take->pad ||
	    !take->nr_pages || take->nr_pages > MAX_PAGES ||
	    !PAGE_ALIGNED(take->addr) ||
	    take->addr != (unsigned long)take->addr)
		return -EINVAL;
	/* GUP warns about flags that do not go together. */
	if ((take->how & BREAK_COW_LONGTERM) && !(take->how & BREAK_COW_PIN))
		return -EINVAL;
	if ((take->how & BREAK_COW_LOOK) &&
	    (take->how & (BREAK_COW_PIN | BREAK_COW_WRITE)))
		return -EINVAL;
	if ((take->how & (BREAK_COW_FAST | BREAK_COW_FAST_ONLY)) &&
	    (take->pid || (take->how & BREAK_COW_NOWAIT)))
		return -EINVAL;

	held_drop(held);
	pages = kvcalloc(take->nr_pages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	held->pinned = take->how & BREAK_COW_PIN;
	held->written = take->how & BREAK_COW_WRITE;
	if (take->pid)
		ret = take_remote(take->pid, take->addr, take->nr_pages,
				  take->how, flags, pages);
	else
		ret = take_own(take->addr, take->nr_pages, take->how, flags,
			       pages);
	if (ret <= 0) {
		kvfree(pages);
		return ret;
	}
	held->pages = pages;
	held->nr_pages = ret;
	return ret;
}

/* Copy between what is held and user memory, either way. */
static long held_copy(struct held *held, u64 buf, u64 offset, u64 len,
		      bool store)
{
	char __user *user = u64_to_user_ptr(buf);
	u64 end = (u64)held->nr_pages << PAGE_SHIFT;

	if (offset > end || len > end - offset)
		return -EINVAL;
	/* A reference that was taken to read is not one to store through. */
	if (store && !held->written)
		return -EPERM;
	/* It takes the page lock. */
	if (store && held->locked)
		return -EBUSY;

	while (len) {
		struct page *page = held->pages[offset >> PAGE_SHIFT];
		size_t in = offset_in_page(offset);
		size_t n = PAGE_SIZE - in;
		void *addr = kmap_local_page(page);
		unsigned long left;

		if (n > len)
			n = len;
		if (store)
			left = copy_from_user(addr + in, user, n);
		else
			left = copy_to_user(user, addr + in, n);
		kunmap_local(addr);
		if (store && left < n)
			set_page_dirty_lock(page);
		if (left)
			return -EFAULT;
		user += n;
		offset += n;
		len -= n;
	}
	return 0;
}

static long held_lock(struct held *held)
{
	struct folio *folio;

	if (!held->pages || held->locked)
		return -EINVAL;
	/*
	 * Who truncates page cache waits for the lock, be it in exit() before
	 * we let go of it.
	 */
	if (!PageAnon(held->pages[0]))
		return -EOPNOTSUPP;
	folio = page_folio(held->pages[0]);
	if (folio_lock_killable(folio))
		return -EINTR;
	held->locked = folio;
	return 0;
}

static long break_cow_test_ioctl(struct file *file, unsigned int cmd,
				 unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct held *held = file->private_data;
	struct break_cow_take take;
	struct break_cow_copy copy;
	long ret = 0;

	if (mutex_lock_killable(&held->lock))
		return -EINTR;
	switch (cmd) {
	case BREAK_COW_TAKE:
		if (copy_from_user(&take, user, sizeof(take)))
			ret = -EFAULT;
		else
			ret = held_take(held, &take);
		break;
	case BREAK_COW_READ:
	case BREAK_COW_STORE:
		if (copy_from_user(&copy, user, sizeof(copy)))
			ret = -EFAULT;
		else
			ret = held_copy(held, copy.buf, copy.offset, copy.len,
					cmd == BREAK_COW_STORE);
		break;
	case BREAK_COW_LOCK:
		ret = held_lock(held);
		break;
	case BREAK_COW_UNLOCK:
		ret = held->locked ? 0 : -EINVAL;
		held_unlock(held);
		break;
	case BREAK_COW_DROP:
		held_drop(held);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&held->lock);
	return ret;
}

static int break_cow_test_open(struct inode *inode, struct file *file)
{
	struct held *held = kzalloc(sizeof(*held), GFP_KERNEL);

	if (!held)
		return -ENOMEM;
	mutex_init(&held->lock);
	file->private_data = held;
	return nonseekable_open(inode, file);
}

static int break_cow_test_release(struct inode *inode, struct file *file)
{
	struct held *held = file->private_data;

	mutex_lock(&held->lock);
	held_drop(held);
	mutex_unlock(&held->lock);
	kfree(held);
	return 0;
}

static const struct file_operations break_cow_test_fops = {
	.owner		= THIS_MODULE,
	.open		= break_cow_test_open,
	.release	= break_cow_test_release,
	.unlocked_ioctl	= break_cow_test_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static int __init break_cow_test_init(void)
{
	debugfs_create_file_unsafe("break_cow_test", 0600, NULL, NULL,
				   &break_cow_test_fops);
	return 0;
}
late_initcall(break_cow_test_init);
