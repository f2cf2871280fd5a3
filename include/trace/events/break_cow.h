/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM break_cow

#if !defined(_TRACE_BREAK_COW_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_BREAK_COW_H

#include <linux/tracepoint.h>

struct mm_struct;

/*
 * COW was broken for a read, in the task that asked for it, or that of KSM as it
 * unmerges. The memory may be another process's: @mm tells one from the other, no
 * more. @order is that of the page that was looked at in the end, after a split;
 * @copied is false if nobody shared that one.
 */
TRACE_EVENT(break_cow,

	TP_PROTO(struct mm_struct *mm, unsigned long address,
		 unsigned int order, bool copied),

	TP_ARGS(mm, address, order, copied),

	TP_STRUCT__entry(
		__field(struct mm_struct *,	mm)
		__field(unsigned long,		address)
		__field(unsigned int,		order)
		__field(bool,			copied)
	),

	TP_fast_assign(
		__entry->mm		= mm;
		__entry->address	= address;
		__entry->order		= order;
		__entry->copied		= copied;
	),

	TP_printk("mm=%p address=0x%lx order=%u copied=%d",
		  __entry->mm, __entry->address, __entry->order,
		  __entry->copied)
);

#endif /* _TRACE_BREAK_COW_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
