/* SPDX-License-Identifier: GPL-2.0 */
/* Who is the other end: chain -> SPIFFE ID and key, asked of the daemon once, then cached until trust changes. */
#ifndef RIPRAP_PEER_H
#define RIPRAP_PEER_H

#include <linux/refcount.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "abi.h"

struct riprap_peer {		/* immutable, refcounted */
	refcount_t ref;
	u64 trust_generation;
	s64 not_after;
	u8 alert;		/* 0: accepted; else refused with this (refusals are cached too, for 5 s) */
	u8 public_key[65];
	char *spiffe_id;
};

struct riprap_peer_ask {	/* embedded in the caller's struct; zeroed before first use */
	u64 ask;
	struct riprap_peer *answer;	/* referenced, set before `work` is queued */
	struct delayed_work *work;
	struct list_head node;
};

/*
 * 0: ask->answer is set already. -EINPROGRESS: `work` will be queued on riprap_handshake_workqueue when it is (a
 * question unanswered because the daemon died is answered with alert INTERNAL_ERROR). -EAGAIN: too many
 * questions. -ENOTCONN: no daemon and nothing cached. Never sleeps long.
 */
int riprap_peer_ask(struct riprap_peer_ask *ask, struct delayed_work *work, const struct riprap_verify *about,
		    const u8 *chain, size_t chain_len);
void riprap_peer_cancel(struct riprap_peer_ask *ask);
/* Accepted, of the current trust generation, and not past not_after. */
bool riprap_peer_is_valid(const struct riprap_peer *peer);
struct riprap_peer *riprap_peer_get(struct riprap_peer *peer);
void riprap_peer_put(struct riprap_peer *peer);
u64 riprap_trust_generation(void);

/* From device.c: the daemon's frames, checked by riprap_frame_read(). */
void riprap_peer_answer(const struct riprap_verified *verified, const char *spiffe_id);
int riprap_peer_trust(u64 generation);	/* -ESTALE: older than the one in force */
void riprap_peer_daemon_gone(void);

int riprap_peer_init(void);
void riprap_peer_exit(void);

#endif
