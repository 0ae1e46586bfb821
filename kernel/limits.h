/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Every bound of the module that is not part of the ABI, each with its reason. */
#ifndef RIPRAP_LIMITS_H
#define RIPRAP_LIMITS_H

#define RIPRAP_PROCESSES_MAX	262144	/* live records; pid_max of a large host is 4 Mi, one record is under 512 bytes */
#define RIPRAP_PROCESS_BUCKETS_LOG	13	/* a few thousand processes is a busy node: about one to a bucket */
#define RIPRAP_PEERS_MAX	4096	/* cached chain answers; the oldest goes first */
#define RIPRAP_PEER_REFUSAL_SECONDS	5	/* a refused chain is asked again after this: trust may have come meanwhile */
#define RIPRAP_TICKETS_MAX	4096	/* resumption secrets, each side; the oldest goes first */
#define RIPRAP_TICKET_SECONDS	600	/* a ticket's life; SVIDs live an hour or less */
#define RIPRAP_TICKET_RETRY_SECONDS	2	/* between two full handshakes that are to bring a ticket in place of one about to end */
#define RIPRAP_ASKS_MAX		4096	/* unanswered VERIFY questions; past it a handshake fails */
#define RIPRAP_HANDSHAKES_MAX	4096	/* under way, each direction, as many as a listen backlog by default: up to 100 KiB each. The oldest goes first */
#define RIPRAP_HANDSHAKE_WORKERS	num_online_cpus()	/* handshakes computed at once: with hundreds the daemon, which renews SVIDs, would get no processor */
#define RIPRAP_HANDSHAKE_WORKERS_MAX	512	/* with two for each that waits for a program that holds its socket, which compute nothing: what a work queue can have */
#define RIPRAP_HANDSHAKE_WORKERS_HELD	16	/* that wait for programs of one identity, before its handshakes get no worker: eight identities and more would have to do it at once */
#define RIPRAP_QUEUE_FRAMES	16384	/* frames waiting for the daemon before FLOW frames are dropped */
#define RIPRAP_QUEUE_BYTES	(64u << 20)	/* of frames waiting for the daemon: 65,536 frames of 1 KiB */
#define RIPRAP_WRITE_MAX	(1u << 20)	/* bytes of one write(): sixteen of the largest frames, copied before they are read */
#define RIPRAP_MATCHES_MAX	64	/* allow rules that one connection may rest on: one a shape */
#define RIPRAP_ADOPTIONS_MAX	65536	/* ADOPT frames being worked on: a whole /proc at once */

#endif
