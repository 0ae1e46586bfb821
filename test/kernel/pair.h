/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * A client and a server engine in one process, joined by memory. Every byte is
 * the same at each run. A hook may change each message on its way, inside the
 * protection of its record, as only a misbehaving peer could.
 */
#ifndef RIPRAP_TEST_PAIR_H
#define RIPRAP_TEST_PAIR_H

#include "../../kernel/tls13/engine.h"
#include "port_test.h"

enum { CLIENT, SERVER };

#define PAIR_TICKETS	2

struct pair;

/* May change *message (room: TLS13_MESSAGE_MAX) and *len; 0 drops it. `to` is the receiver. */
typedef void pair_hook(struct pair *p, int to, u8 *message, size_t *len);

struct pair {
	struct tls13_config config[2];
	struct tls13 *side[2];
	enum tls13_status status[2];
	u8 public_key[2][65];
	u8 chain[2][4 + 64];
	unsigned int messages;		/* delivered so far, both ways */
	unsigned int records;
	pair_hook *hook;
	void (*record_hook)(struct pair *p, int to, u8 *record, size_t *len);
	void *arg;			/* the hook's own */
	bool wrong_digest[2];		/* this side signs something else */
	u8 refuse[2];			/* this side refuses the peer's chain with this alert */
	bool wrong_key[2];		/* this side is told a wrong key of its peer */
	struct tls13_psk tickets[PAIR_TICKETS];
	unsigned int ticket_count;
	unsigned int find_calls;
	struct {			/* what the harness has opened under the receiver's key */
		u8 iv[12];
		u64 sequence;
	} opened[2];
	bool message_mode;		/* every message in a record of its own, through `hook` */
	size_t piece;			/* with message_mode: bytes of a message in one record; 0: all */
};

/* Suites, groups and mutual authentication as most tests want them; change p->config, then pair_start(). */
void pair_open(struct pair *p);
void pair_start(struct pair *p);
/* Until neither side has anything to say. */
void pair_run(struct pair *p);
/* Gives one record to a side and answers VERIFY. */
void pair_give(struct pair *p, int to, const u8 *record, size_t len);
/* One handshake message under whatever protection the receiver expects. */
void pair_give_message(struct pair *p, int to, u8 content, const u8 *message, size_t len);
void pair_close(struct pair *p);
/* After a handshake: the server gives a ticket, the client's form of it is returned. */
struct tls13_psk pair_ticket(struct pair *p);

/* Exits with a message when it is false. */
void check(bool good, const char *what);
/* Ended by an alert of its own, output there, secrets gone. */
void check_failed(const struct pair *p, int side, u8 alert);
void check_wiped(const struct pair *p, int side);
void check_done(const struct pair *p);

#endif
