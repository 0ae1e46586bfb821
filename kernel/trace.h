/* SPDX-License-Identifier: GPL-2.0 */
/* A tracepoint for each outcome. No secret passes through one. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM riprap

#if !defined(RIPRAP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define RIPRAP_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(riprap_process_assigned,
	TP_PROTO(u64 instance, u32 pid, u32 subject),
	TP_ARGS(instance, pid, subject),
	TP_STRUCT__entry(__field(u64, instance) __field(u32, pid) __field(u32, subject)),
	TP_fast_assign(__entry->instance = instance; __entry->pid = pid; __entry->subject = subject;),
	TP_printk("instance=%llu pid=%u subject=%u", __entry->instance, __entry->pid, __entry->subject)
);

TRACE_EVENT(riprap_process_ended,
	TP_PROTO(u64 instance, u32 pid, int exit_code),
	TP_ARGS(instance, pid, exit_code),
	TP_STRUCT__entry(__field(u64, instance) __field(u32, pid) __field(int, exit_code)),
	TP_fast_assign(__entry->instance = instance; __entry->pid = pid; __entry->exit_code = exit_code;),
	TP_printk("instance=%llu pid=%u exit_code=%d", __entry->instance, __entry->pid, __entry->exit_code)
);

TRACE_EVENT(riprap_key_made,
	TP_PROTO(u64 instance, u64 key_id),
	TP_ARGS(instance, key_id),
	TP_STRUCT__entry(__field(u64, instance) __field(u64, key_id)),
	TP_fast_assign(__entry->instance = instance; __entry->key_id = key_id;),
	TP_printk("instance=%llu key=%llu", __entry->instance, __entry->key_id)
);

TRACE_EVENT(riprap_verdict,
	TP_PROTO(u32 subject, bool inbound, u8 mode, u8 action, u8 reason, u32 rule),
	TP_ARGS(subject, inbound, mode, action, reason, rule),
	TP_STRUCT__entry(__field(u32, subject) __field(bool, inbound) __field(u8, mode) __field(u8, action)
			 __field(u8, reason) __field(u32, rule)),
	TP_fast_assign(__entry->subject = subject; __entry->inbound = inbound; __entry->mode = mode;
		       __entry->action = action; __entry->reason = reason; __entry->rule = rule;),
	TP_printk("subject=%u inbound=%d mode=%u action=%u reason=%u rule=%u", __entry->subject,
		  __entry->inbound, __entry->mode, __entry->action, __entry->reason, __entry->rule)
);

TRACE_EVENT(riprap_flow,
	TP_PROTO(u64 flow, u64 instance, u8 state, u8 tls, u8 reason, int error),
	TP_ARGS(flow, instance, state, tls, reason, error),
	TP_STRUCT__entry(__field(u64, flow) __field(u64, instance) __field(u8, state) __field(u8, tls)
			 __field(u8, reason) __field(int, error)),
	TP_fast_assign(__entry->flow = flow; __entry->instance = instance; __entry->state = state;
		       __entry->tls = tls; __entry->reason = reason; __entry->error = error;),
	TP_printk("flow=%llu instance=%llu state=%u tls=%u reason=%u error=%d", __entry->flow, __entry->instance,
		  __entry->state, __entry->tls, __entry->reason, __entry->error)
);

TRACE_EVENT(riprap_peer_verified,
	TP_PROTO(u64 ask, u8 alert, bool cached),
	TP_ARGS(ask, alert, cached),
	TP_STRUCT__entry(__field(u64, ask) __field(u8, alert) __field(bool, cached)),
	TP_fast_assign(__entry->ask = ask; __entry->alert = alert; __entry->cached = cached;),
	TP_printk("ask=%llu alert=%u cached=%d", __entry->ask, __entry->alert, __entry->cached)
);

TRACE_EVENT(riprap_fail_open,
	TP_PROTO(u64 flow, u64 instance, u8 reason),
	TP_ARGS(flow, instance, reason),
	TP_STRUCT__entry(__field(u64, flow) __field(u64, instance) __field(u8, reason)),
	TP_fast_assign(__entry->flow = flow; __entry->instance = instance; __entry->reason = reason;),
	TP_printk("flow=%llu instance=%llu reason=%u", __entry->flow, __entry->instance, __entry->reason)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
