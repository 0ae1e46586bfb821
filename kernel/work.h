/* SPDX-License-Identifier: GPL-2.0 */
/* The module's work queues. */
#ifndef RIPRAP_WORK_H
#define RIPRAP_WORK_H

#include <linux/workqueue.h>

extern struct workqueue_struct *riprap_workqueue;		/* short work that may sleep, and waits for no program: keys, adoptions, time limits */
extern struct workqueue_struct *riprap_handshake_workqueue;	/* steps of handshakes, RIPRAP_HANDSHAKE_WORKERS at once */
/* Each its own, because a program that takes its socket's lock at the wrong moment makes a worker wait: */
extern struct workqueue_struct *riprap_cut_workqueue;
extern struct workqueue_struct *riprap_flush_workqueue;

/* 0 or -ENOMEM. */
int riprap_work_init(void);
void riprap_work_exit(void);

#endif
