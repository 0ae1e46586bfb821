// SPDX-License-Identifier: GPL-2.0
/* The module's work queues: made first, gone last. */
#include <linux/kernel.h>

#include "limits.h"
#include "work.h"

struct workqueue_struct *riprap_workqueue;
struct workqueue_struct *riprap_handshake_workqueue;
struct workqueue_struct *riprap_cut_workqueue;
struct workqueue_struct *riprap_flush_workqueue;

int riprap_work_init(void)
{
	riprap_workqueue = alloc_workqueue("riprap", WQ_UNBOUND, 0);
	riprap_handshake_workqueue = alloc_workqueue("riprap_handshake", WQ_UNBOUND, RIPRAP_HANDSHAKE_WORKERS);
	riprap_cut_workqueue = alloc_workqueue("riprap_cut", WQ_UNBOUND, 0);
	riprap_flush_workqueue = alloc_workqueue("riprap_flush", WQ_UNBOUND, 0);
	if (riprap_workqueue && riprap_handshake_workqueue && riprap_cut_workqueue && riprap_flush_workqueue)
		return 0;
	riprap_work_exit();
	return -ENOMEM;
}

void riprap_work_exit(void)
{
	struct workqueue_struct *queues[] = {
		riprap_flush_workqueue, riprap_cut_workqueue, riprap_handshake_workqueue, riprap_workqueue,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(queues); i++)
		if (queues[i])
			destroy_workqueue(queues[i]);
}
