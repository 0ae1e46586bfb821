/* SPDX-License-Identifier: GPL-2.0 */
/* One connection on its way to being open: verdict, TCP, sniffing, TLS. Driven by a waiting program or by a work item. */
#ifndef RIPRAP_HANDSHAKE_H
#define RIPRAP_HANDSHAKE_H

#include <linux/in6.h>
#include <linux/socket.h>
#include <linux/timer.h>

#include "decide.h"
#include "peer.h"
#include "process.h"
#include "table.h"
#include "tls13/tls13.h"

struct riprap_flow;
struct riprap_identity;
struct riprap_socket;

enum riprap_stage {
	RIPRAP_STAGE_IDENTITY,	/* the daemon has not said who this process is */
	RIPRAP_STAGE_TCP,	/* connect() is under way */
	RIPRAP_STAGE_SNIFF,	/* permissive or passthrough accept: what does the peer speak? */
	RIPRAP_STAGE_BEGIN,	/* TLS is decided on; the engine is not set up yet */
	RIPRAP_STAGE_TLS,	/* records go to and fro */
	RIPRAP_STAGE_VERIFY,	/* the daemon is asked about the peer's chain */
};

/* All under the socket's `lock`. */
struct riprap_handshake {
	struct riprap_socket *rs;
	struct list_head age;		/* among those that give way; crowd.c's own lock */
	enum riprap_stage stage;
	bool server;
	bool crowded;			/* others need its place: ends at its next step */
	bool held;			/* by its program: the last step of a worker came to no end */
	bool uncounted;			/* gave its place back; under the lock of `age` */
	bool done;			/* the engine has its keys; `out` may still be on its way */
	bool failing;			/* an alert is being sent; then `reason` and `error` */
	u8 reason;
	int error;			/* positive errno for the program */
	int shutdown;			/* shutdown(how) + 1 that the program asked for meanwhile; 0: none */

	struct riprap_process *process;
	struct riprap_process_watch watch;
	bool watching;
	struct riprap_identity *identity;
	u32 subject;
	enum riprap_decision decision;
	u64 cuts;			/* riprap_flow_cuts() before it */
	struct riprap_verdict verdict;
	struct in6_addr remote;
	u16 port;			/* that the verdict is about: remote outbound, local inbound */
	struct sockaddr_storage address;
	int address_len;

	struct timer_list timer;
	unsigned long deadline;		/* jiffies; 0: none */
	ktime_t started;		/* first TLS byte */
	struct tls13 *engine;
	struct tls13_config config;
	struct tls13_psk psk;
	struct riprap_peer *psk_peer;	/* whom `psk` resumes with */
	bool psk_aging;			/* a server's: a ticket in the second half of its life */
	struct riprap_peer *peer;
	struct riprap_peer_ask ask;
	bool asking;
	bool read_any;			/* a whole record came */
	size_t have;			/* bytes in `record` */
	u8 *record;			/* RIPRAP_RECORD_ROOM bytes, made with the engine: most verdicts need neither */
};
#define RIPRAP_RECORD_ROOM	(TLS13_RECORD_HEADER + TLS13_RECORD_MAX)

/*
 * Takes over the caller's reference on `process`. Past RIPRAP_HANDSHAKES_MAX of its direction the oldest that gives
 * way is told to end. NULL without memory, or when none does.
 */
struct riprap_handshake *riprap_handshake_new(struct riprap_socket *rs, struct riprap_process *process, bool server);
/* Under the socket's lock: makes it the socket's, which is then UNDER_WAY, and what happens to sk kicks it. */
void riprap_handshake_install(struct riprap_handshake *handshake);
/* For one that was never installed. */
void riprap_handshake_free(struct riprap_handshake *handshake);
/*
 * Under the socket's lock: who the process is as far as is known, and what the rules say of it; fills `verdict` and
 * *flow_flags. An identity that is ready is kept.
 */
enum riprap_decision riprap_handshake_decide(struct riprap_handshake *handshake, u16 *flow_flags);
/* Under the socket's lock: the flow that the verdict begins, with these flags. 0 or -ENOMEM. */
int riprap_handshake_make_flow(struct riprap_handshake *handshake, u16 flags);
/* Under the socket's lock: TCP is there, TLS begins. */
void riprap_handshake_start_tls(struct riprap_handshake *handshake);
/* Under the socket's lock: ends it in FAILED with a final flow state. `error` positive. */
void riprap_handshake_fail(struct riprap_handshake *handshake, u8 reason, int error);
/* Under the socket's lock: bytes may pass. Ends it in PLAIN or MUTUAL with a live flow, or cut when that may no longer be. */
void riprap_handshake_open(struct riprap_handshake *handshake, u8 phase);
/* Under the socket's lock: ends it in this phase. */
void riprap_handshake_finish(struct riprap_handshake *handshake, u8 phase);
void riprap_handshake_arm(struct riprap_handshake *handshake, unsigned int ms);
void riprap_handshake_watch_process(struct riprap_handshake *handshake);

/* Something happened: wakes the driver, or queues the work item. Atomic-safe. */
void riprap_handshake_kick(struct riprap_socket *rs);
/* The same for whoever holds no more than a reference: nothing is queued for a socket that goes. */
void riprap_handshake_kick_under_way(struct riprap_socket *rs);
/*
 * Drives the handshake in the caller's context until the socket left UNDER_WAY. 0, -EAGAIN (*timeout
 * passed), or the errno of an interrupted call; the work item then goes on. Never under a lock.
 */
int riprap_handshake_drive(struct riprap_socket *rs, long *timeout);
/* The program closes the socket: ends what is under way. Returns with no work item running. */
void riprap_handshake_abandon(struct riprap_socket *rs);
void riprap_handshake_work(struct work_struct *work);
/*
 * Under the socket's lock: sk's callbacks are TCP's again. For whoever must have them so (kTLS saves what
 * it finds); riprap_handshake_finish() does it by itself.
 */
void riprap_handshake_unlisten(struct riprap_socket *rs);

/* connect.c and accept.c: one step of the stages that are theirs. */
void riprap_connect_step(struct riprap_handshake *handshake);
void riprap_accept_step(struct riprap_handshake *handshake);

#endif
