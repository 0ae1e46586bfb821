// SPDX-License-Identifier: GPL-2.0
/* 6.16: the sched_process_exit tracepoint says whether the task group is dead. */
#include <linux/tracepoint.h>
#include <trace/events/sched.h>

static void probe(void *data, struct task_struct *task, bool group_dead) { }

int probe_register(void);
int probe_register(void)
{
	return register_trace_sched_process_exit(probe, NULL);
}
