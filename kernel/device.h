/* SPDX-License-Identifier: GPL-2.0 */
/* /dev/riprap: frames between the module and the one daemon. */
#ifndef RIPRAP_DEVICE_H
#define RIPRAP_DEVICE_H

#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/types.h>

#include "abi.h"

bool riprap_device_is_started(void);	/* the daemon has sent START and holds the device */

/*
 * Queues a frame: fixed struct, then up to `parts` tail parts. FLOW frames are dropped and counted past
 * RIPRAP_QUEUE_FRAMES; other types give -ENOBUFS past four times that, -ENOTCONN without a daemon. Atomic-safe.
 */
struct riprap_part { const void *data; size_t len; };
int riprap_device_send(u16 type, u32 flags, const void *fixed, size_t fixed_len, const struct riprap_part *part,
		       unsigned int parts);

/* The same, for callers that may sleep (GFP_KERNEL) and large frames. */
int riprap_device_send_gfp(u16 type, u32 flags, const void *fixed, size_t fixed_len, const struct riprap_part *part,
			   unsigned int parts, gfp_t gfp);
void riprap_device_ack(u32 what, u64 generation, int error, u64 sequence);

/* Counts openings of the device; 0 while it is closed. A record reported in this epoch is known to this daemon. */
u64 riprap_device_epoch(void);

/* Last: no daemon comes before every room is ready. */
int riprap_device_publish(void);
void riprap_device_unpublish(void);

/* Counters of struct riprap_query_done, by name. */
struct riprap_counters {
	atomic64_t flows_seen, denied, allowed_plain, handshakes_full, handshakes_resumed, handshakes_failed;
	atomic64_t verify_hits, verify_misses, fail_open, processes_seen, lost_flow_events, memory_bytes;
	atomic_t flows_live, sockets_managed, processes_live;
};
extern struct riprap_counters riprap_counters;

/* Given by the data path (flow.c, socket.c), called by device.c. */
void riprap_flow_snapshot(u32 flags);			/* a FLOW frame for each live flow */
u64 riprap_flow_cut(const struct riprap_cut *cut, const char *peer_id);	/* how many */
void riprap_socket_drain(bool on);
bool riprap_socket_is_draining(void);
/*
 * Gives the plain TCP sockets of current's fd table our ops. Called in the context of a thread of a process that
 * may be managed from now on, right before it returns to user mode (task_work); may sleep, holds no lock.
 */
void riprap_socket_convert_files(void);
void riprap_ticket_flush(void);				/* trust changed: resumption secrets are void */

#endif
