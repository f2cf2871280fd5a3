/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What of GUP differs from kernel to kernel, under one form. mm/Makefile says what
 * this kernel has:
 *
 *	GUP_REMOTE_WANTS_TASK	to account the faults to; up to v5.8
 *	GUP_WITHOUT_VMAS	as a parameter; pages are locked by their folio, and
 *				there are no pins by fast GUP alone. From v6.5
 *	GUP_KEEP		the flag of a plain reference that is kept, where not
 *				every such reference breaks COW
 */
#ifndef _BREAK_COW_TEST_GUP_H
#define _BREAK_COW_TEST_GUP_H

#include <linux/mm.h>
#include <linux/pagemap.h>

#ifdef GUP_REMOTE_WANTS_TASK
#define gup_remote_mm(mm)	NULL, mm
#else
#define gup_remote_mm(mm)	mm
#endif

#ifndef GUP_KEEP
#define GUP_KEEP		0
#endif

#ifdef GUP_WITHOUT_VMAS
#define gup_pages(pages)	pages

static inline int lock_page_killable(struct page *page)
{
	return folio_lock_killable(page_folio(page));
}

static inline int pin_user_pages_fast_only(unsigned long addr, int nr,
					   unsigned int flags, struct page **pages)
{
	return -EOPNOTSUPP;
}
#else
#define gup_pages(pages)	pages, NULL
#endif

static inline long gup_remote(struct mm_struct *mm, unsigned long addr,
			      unsigned int nr, bool pin, unsigned int flags,
			      struct page **pages, int *locked)
{
	return pin ? pin_user_pages_remote(gup_remote_mm(mm), addr, nr, flags,
					   gup_pages(pages), locked) :
		     get_user_pages_remote(gup_remote_mm(mm), addr, nr, flags,
					   gup_pages(pages), locked);
}

#endif /* _BREAK_COW_TEST_GUP_H */
