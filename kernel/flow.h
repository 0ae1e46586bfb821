/* SPDX-License-Identifier: GPL-2.0 */
/* One connection as the daemon sees it: its record, its bytes, and the list of the live ones. */
#ifndef RIPRAP_FLOW_H
#define RIPRAP_FLOW_H

#include <linux/list.h>
#include <linux/refcount.h>

#include "abi.h"

struct riprap_peer;
struct riprap_socket;
struct riprap_verdict;

struct riprap_flow {
	struct list_head node;		/* list lock; empty unless live */
	refcount_t ref;
	struct riprap_socket *socket;	/* list lock; NULL once ended */
	bool cutting;			/* list lock */
	unsigned long ended;		/* bit 0: a final state was sent */
	char *own_id;			/* NULL: none known */
	struct riprap_peer *peer;	/* referenced; NULL: not authenticated */
	struct riprap_flow_event event;	/* written by the socket's owner before the flow is live */
};

struct riprap_flow *riprap_flow_new(struct riprap_socket *socket, bool inbound);
void riprap_flow_put(struct riprap_flow *flow);
/* Takes over what the verdict says. */
void riprap_flow_note_verdict(struct riprap_flow *flow, const struct riprap_verdict *verdict);
/* Addresses as sk has them now. */
void riprap_flow_note_addresses(struct riprap_flow *flow);
/* Bytes may pass: sends OPEN and makes the flow live. */
void riprap_flow_start(struct riprap_flow *flow);
/* How many times live flows were looked through to be cut: who decides before and is live after has to look again. */
u64 riprap_flow_cuts(void);
/* Sends a final state, once. */
void riprap_flow_end(struct riprap_flow *flow, u8 state);

int riprap_flow_init(void);
void riprap_flow_exit(void);

#endif
