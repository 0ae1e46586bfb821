/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Resumption secrets of both sides. A ticket is good only between the same two
 * identities: same local instance and SPIFFE ID, same peer, same trust.
 */
#ifndef RIPRAP_TICKET_H
#define RIPRAP_TICKET_H

#include <linux/in6.h>
#include <linux/types.h>

struct riprap_peer;
struct tls13_psk;

#define RIPRAP_TICKET_LEN	32	/* random bytes: a name, not a container */

/* Who holds the ticket at this end. */
struct riprap_ticket_owner {
	u64 instance;
	const char *spiffe_id;
};

/*
 * Client: the freshest ticket for this server. 0 and *peer referenced, or -ENOENT: none, or this one handshake
 * is to bring a new one before the end of the other, so that not all connections of that moment are full handshakes.
 */
int riprap_ticket_offer(const struct riprap_ticket_owner *own, const struct in6_addr *remote, u16 port,
			struct tls13_psk *psk, u32 *age_ms, struct riprap_peer **peer);
/* `resumed`: it came on a connection that rests on an earlier ticket, and so on chains that are as old as that. */
void riprap_ticket_keep(const struct riprap_ticket_owner *own, const struct in6_addr *remote, u16 port,
			const struct tls13_psk *psk, struct riprap_peer *peer, bool resumed);

/* Server: what was issued under this name. 0 and *peer referenced, or -ENOENT. */
int riprap_ticket_find(const struct riprap_ticket_owner *own, const u8 *ticket, size_t len, struct tls13_psk *psk,
		       u32 *age_ms, struct riprap_peer **peer);
/* Seconds that a ticket for this peer is good for: RIPRAP_TICKET_SECONDS, or less where its SVID ends before. */
u32 riprap_ticket_lifetime(const struct riprap_peer *peer);
void riprap_ticket_issue(const struct riprap_ticket_owner *own, const struct tls13_psk *psk, struct riprap_peer *peer);

/* The identity of this instance has ended: its secrets go with it. Any context. */
void riprap_ticket_forget(u64 instance);

int riprap_ticket_init(void);
void riprap_ticket_exit(void);

#endif
