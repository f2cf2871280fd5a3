// SPDX-License-Identifier: GPL-2.0
/*
 * break_cow_test.c is the same for each kernel that this series is for, and goes by
 * the newest. This is what differs here. Besides, it answers what later kernels'
 * selftests (cow, gup_longterm) ask of /sys/kernel/debug/gup_test, so that they
 * run here without being changed.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

/* Each plain reference breaks COW; there is a flag for who only looks. */
#define GUP_KEEP	0
#ifdef FOLL_COW_OK
#define GUP_LOOK	FOLL_COW_OK
#endif

#define pin_fast_only	pin_user_pages_fast_only

/* They want vmas; the remote ones, up to v5.8, whom to account faults to. */
#ifdef GUP_REMOTE_WANTS_TASK	/* see mm/Makefile */
#define gup_mm(mm)	NULL, mm
#else
#define gup_mm(mm)	mm
#endif
#define get_user_pages(addr, nr, flags, pages) \
	get_user_pages(addr, nr, flags, pages, NULL)
#define pin_user_pages(addr, nr, flags, pages) \
	pin_user_pages(addr, nr, flags, pages, NULL)
#define get_user_pages_remote(mm, addr, nr, flags, pages, locked) \
	get_user_pages_remote(gup_mm(mm), addr, nr, flags, pages, NULL, locked)
#define pin_user_pages_remote(mm, addr, nr, flags, pages, locked) \
	pin_user_pages_remote(gup_mm(mm), addr, nr, flags, pages, NULL, locked)

#define kmap_local_page(page)	kmap(page)
#define kunmap_local(addr)	kunmap(kmap_to_page(addr))

#define folio			page
#define page_folio(page)	compound_head(page)
#define folio_lock_killable	lock_page_killable
#define folio_unlock		unlock_page

#include "break_cow_test.c"

/*
 * As in mm/gup_test.h of later kernels. As there, the structure is not the same for
 * a 32-bit program on a 64-bit kernel.
 */
#define GUP_TEST_WRITE	0x1	/* PIN_LONGTERM_TEST_FLAG_USE_WRITE */
#define GUP_TEST_FAST	0x2	/* PIN_LONGTERM_TEST_FLAG_USE_FAST */

struct pin_longterm_test {
	__u64 addr;
	__u64 size;
	__u32 flags;
};

#define PIN_LONGTERM_TEST_START	_IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_STOP	_IO('g', 8)
#define PIN_LONGTERM_TEST_READ	_IOW('g', 9, __u64)

static long gup_test_start(struct held *held, void __user *arg)
{
	struct break_cow_take take = {
		.how = BREAK_COW_PIN | BREAK_COW_LONGTERM,
	};
	struct pin_longterm_test test;
	long ret;

	if (held->pages)
		return -EINVAL;
	if (copy_from_user(&test, arg, sizeof(test)))
		return -EFAULT;
	if (test.flags & ~(GUP_TEST_WRITE | GUP_TEST_FAST))
		return -EINVAL;
	if (!PAGE_ALIGNED(test.addr | test.size))
		return -EINVAL;
	if (test.size >> PAGE_SHIFT > MAX_PAGES)
		return -ENOMEM;

	take.addr = test.addr;
	take.nr_pages = test.size >> PAGE_SHIFT;
	if (test.flags & GUP_TEST_WRITE)
		take.how |= BREAK_COW_WRITE;
	take.how |= test.flags & GUP_TEST_FAST ? BREAK_COW_FAST :
						 BREAK_COW_NO_RETRY;
	ret = held_take(held, &take);
	if (ret < 0)
		return ret;
	if (ret == take.nr_pages)
		return 0;
	held_drop(held);
	return -EFAULT;
}

static long gup_test_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct held *held = file->private_data;
	long ret = 0;
	u64 buf;

	if (mutex_lock_killable(&held->lock))
		return -EINTR;
	switch (cmd) {
	case PIN_LONGTERM_TEST_START:
		ret = gup_test_start(held, user);
		break;
	case PIN_LONGTERM_TEST_STOP:
		held_drop(held);
		break;
	case PIN_LONGTERM_TEST_READ:
		if (!held->pages)
			ret = -EINVAL;
		else if (copy_from_user(&buf, user, sizeof(buf)))
			ret = -EFAULT;
		else
			ret = held_copy(held, buf, 0,
					(u64)held->nr_pages << PAGE_SHIFT, false);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&held->lock);
	return ret;
}

static const struct file_operations gup_test_fops = {
	.owner		= THIS_MODULE,
	.open		= break_cow_test_open,
	.release	= break_cow_test_release,
	.unlocked_ioctl	= gup_test_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static int __init gup_test_init(void)
{
	debugfs_create_file_unsafe("gup_test", 0600, NULL, NULL, &gup_test_fops);
	return 0;
}
late_initcall(gup_test_init);
