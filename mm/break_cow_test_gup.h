/* SPDX-License-Identifier: GPL-2.0 */
/*
 * get_user_pages_remote() and its twin for pins, whose parameters differ from
 * kernel to kernel, under one form. mm/Makefile says which one this kernel has.
 */
#ifndef _BREAK_COW_TEST_GUP_H
#define _BREAK_COW_TEST_GUP_H

#include <linux/mm.h>

#ifdef GUP_REMOTE_WANTS_TASK	/* to account the faults to; up to v5.8 */
#define gup_remote_mm(mm)	NULL, mm
#else
#define gup_remote_mm(mm)	mm
#endif

static inline long gup_remote(struct mm_struct *mm, unsigned long addr,
			      unsigned int nr, bool pin, unsigned int flags,
			      struct page **pages, int *locked)
{
	return pin ? pin_user_pages_remote(gup_remote_mm(mm), addr, nr, flags,
					   pages, NULL, locked) :
		     get_user_pages_remote(gup_remote_mm(mm), addr, nr, flags,
					   pages, NULL, locked);
}

#endif /* _BREAK_COW_TEST_GUP_H */
