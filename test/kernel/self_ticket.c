// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* What follows a handshake: NewSessionTicket and KeyUpdate, written and read, right and wrong. */
#define _GNU_SOURCE
#include "self.h"

#include <stdlib.h>

static void run_update(void)
{
	struct tls13_after client, server;
	struct tls13_traffic a, b, old;
	struct pair p;

	for (int s = 0; s < 3; s++) {
		pair_open(&p);
		p.config[CLIENT].suites[0] = (u16)(0x1301 + s);
		p.config[CLIENT].suites[1] = 0;
		pair_start(&p);
		pair_run(&p);
		tls13_after(p.side[CLIENT], &client);
		tls13_after(p.side[SERVER], &server);
		tls13_traffic_keys(p.side[CLIENT], true, &old);
		for (int i = 0; i < 3; i++) {
			check(!tls13_update_keys(&client, true, &a) && !tls13_update_keys(&server, false, &b), "updated");
			check(!memcmp(&a, &b, sizeof(a)), "the client's new keys are the same on both sides");
			check(memcmp(a.key, old.key, a.key_len) && memcmp(a.iv, old.iv, 12) && !a.sequence, "they are new");
			check(!tls13_update_keys(&server, true, &a) && !tls13_update_keys(&client, false, &b), "updated");
			check(!memcmp(&a, &b, sizeof(a)), "the server's new keys are the same on both sides");
		}
		pair_close(&p);
	}
}

static void make_ticket(struct tls13_after *client, u8 *message, size_t *len)
{
	static const u8 nonce[8] = { 7 }, ticket[32] = { 1, 2, 3 };
	struct tls13_after server;
	struct tls13_psk psk;
	struct pair p;
	int n;

	pair_open(&p);
	pair_start(&p);
	pair_run(&p);
	check_done(&p);
	tls13_after(p.side[CLIENT], client);
	tls13_after(p.side[SERVER], &server);
	n = tls13_write_ticket(&server, ticket, sizeof(ticket), 600, 9, nonce, message, 256, &psk);
	check(n == 4 + 4 + 4 + 1 + 8 + 2 + 32 + 2, "it is as long as the standard says");
	*len = (size_t)n;
	check(tls13_write_ticket(&server, ticket, sizeof(ticket), 600, 9, nonce, message, *len - 1, &psk) == -ENOSPC,
	      "a buffer too short is refused");
	check(tls13_write_ticket(&server, ticket, sizeof(ticket), 604801, 9, nonce, message, 256, &psk) == -EINVAL,
	      "more than seven days are refused");
	check(tls13_write_ticket(&server, ticket, 0, 600, 9, nonce, message, 256, &psk) == -EINVAL, "no ticket is refused");
	check(tls13_write_ticket(&server, ticket, sizeof(ticket), 600, 9, nonce, message, 256, &psk) == n, "again");
	pair_close(&p);
}

static int read_exactly(struct tls13_after *after, const u8 *message, size_t len)
{
	struct tls13_psk psk;
	u8 *copy = malloc(len);
	int rc;

	memcpy(copy, message, len);
	rc = tls13_read_ticket(after, copy, len, &psk);
	free(copy);
	return rc;
}

static void run_ticket(void)
{
	struct tls13_after after;
	u8 message[1024], copy[1024];
	size_t len;

	make_ticket(&after, message, &len);
	check(!read_exactly(&after, message, len), "a good one is read");
	for (size_t n = 1; n < len; n++) {
		memcpy(copy, message, len);
		check(read_exactly(&after, copy, n) == -EBADMSG, "half of one is refused");
		if (n < 4)
			continue;
		copy[3] = (u8)(n - 4);
		check(read_exactly(&after, copy, n) == -EBADMSG, "a short one is refused");
	}
	for (size_t n = 0; n < len; n++) {
		memcpy(copy, message, len);
		copy[n] ^= 0x80;
		read_exactly(&after, copy, len);	/* for the sanitizers; lifetime and key bytes may be anything */
	}
	memcpy(copy, message, len);
	memset(copy + 4, 0, 4);
	check(read_exactly(&after, copy, len) == -ENOSPC, "a life of zero is not kept");
	copy[5] = 0x09;
	copy[6] = 0x3a;
	copy[7] = 0x81;
	check(read_exactly(&after, copy, len) == -EBADMSG, "more than seven days are refused");
}

static void set_extensions(u8 *message, size_t *len, const char *body, size_t body_len)
{
	*len -= 2;
	memcpy(message + *len, body, body_len);
	*len += body_len;
	message[3] = (u8)(*len - 4);
}

static void run_ticket_extensions(void)
{
	struct tls13_after after;
	u8 message[1024];
	size_t len;

	make_ticket(&after, message, &len);
	set_extensions(message, &len, "\0\x08\0\x2a\0\4\0\0\0\0", 10);
	check(!read_exactly(&after, message, len), "early_data is passed over");
	make_ticket(&after, message, &len);
	set_extensions(message, &len, "\0\4\x3a\x3a\0\0", 6);
	check(!read_exactly(&after, message, len), "an unknown one is passed over");
	make_ticket(&after, message, &len);
	set_extensions(message, &len, "\0\x08\x3a\x3a\0\0\x3a\x3a\0\0", 10);
	check(read_exactly(&after, message, len) == -EBADMSG, "two of one type are refused");
	make_ticket(&after, message, &len);
	set_extensions(message, &len, "\0\5\0\x2a\0\1\0", 7);
	check(read_exactly(&after, message, len) == -EBADMSG, "a malformed early_data is refused");
}

static void run_long_ticket(void)
{
	struct tls13_after after;
	u8 message[1024] = { 4, 0, 1, 58, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 45 };
	size_t len;
	u8 scratch[256];

	make_ticket(&after, scratch, &len);
	/* 301 bytes of ticket, an empty nonce, no extensions. */
	check(read_exactly(&after, message, 4 + 4 + 4 + 1 + 2 + 301 + 2) == -ENOSPC, "a long one is not kept");
}

/* Two tickets and a KeyUpdate, cut into records of `piece` bytes. */
static void run_pieces(void)
{
	struct tls13_after after;
	u8 stream[2048];
	size_t len, one;

	make_ticket(&after, stream, &one);
	memcpy(stream + one, stream, one);
	memcpy(stream + 2 * one, "\x18\0\0\1\0", 5);
	len = 2 * one + 5;
	for (size_t piece = 1; piece <= len; piece++) {
		struct tls13_post post = { 0 };
		unsigned int tickets = 0, updates = 0;

		for (size_t at = 0; at < len; at += piece) {
			size_t n = len - at < piece ? len - at : piece, left = n, message_len;
			u8 *record = malloc(n);
			const u8 *data = record, *message;
			int type;

			memcpy(record, stream + at, n);
			while ((type = tls13_post_next(&post, &data, &left, &message, &message_len)) > 0) {
				tickets += type == TLS13_NEW_SESSION_TICKET;
				updates += type == TLS13_KEY_UPDATE;
				check(!message || message_len == (type == TLS13_KEY_UPDATE ? 5 : one), "it is whole");
			}
			check(!type && !left, "the record is used up");
			free(record);
		}
		check(tickets == 2 && updates == 1, "every message is seen once");
	}
}

static void run_strange_messages(void)
{
	static const u8 strange[] = { 0, 1, 2, 8, 11, 13, 20, 254 };

	for (size_t i = 0; i < sizeof(strange); i++) {
		for (size_t n = 1; n <= 5; n++) {
			u8 record[5] = { strange[i], 0, 0, 1, 0 };
			struct tls13_post post = { 0 };
			const u8 *data = record, *message;
			size_t message_len;

			check(tls13_post_next(&post, &data, &n, &message, &message_len) == -EBADMSG, "it is refused");
		}
	}
	for (size_t n = 4; n <= 5; n++) {
		u8 huge[5] = { 4, 0xff, 0xff, 0xff };
		struct tls13_post post = { 0 };
		const u8 *data = huge, *message;
		size_t message_len;

		check(tls13_post_next(&post, &data, &n, &message, &message_len) == -EBADMSG, "nor one without end");
	}
}

/* Section 4.2.9: no ticket for a client that could not use it. */
static void drop_modes(struct pair *p, int to, u8 *message, size_t *len)
{
	static const u8 modes[] = { 0, 45, 0, 2, 1, 1 };
	u8 *at;

	if (to != SERVER || p->messages)
		return;
	at = memmem(message, *len, modes, sizeof(modes));
	check(at, "the client offers psk_dhe_ke");
	at[5] = 0;	/* psk_ke, without a key agreement */
}

static void run_ticket_wanted(void)
{
	struct tls13_after after;
	struct pair p;

	for (int keep = 0; keep < 2; keep++) {
		pair_open(&p);
		p.message_mode = true;
		p.hook = keep ? NULL : drop_modes;
		pair_start(&p);
		pair_run(&p);
		check(p.side[SERVER]->psk_allowed == keep, "the server knows what the client takes");
		tls13_after(p.side[SERVER], &after);
		check(after.ticket_wanted == keep, "and says so once it is done");
		pair_close(&p);
	}
}

/* All that a client said in one resumption, said again to a server that still knows the ticket. */
static struct {
	u8 bytes[8192];
	size_t len;
} recording;

static void keep_client(struct pair *p, int to, u8 *record, size_t *len)
{
	(void)p;
	if (to != SERVER)
		return;
	check(*len <= sizeof(recording.bytes) - recording.len, "there is room for it");
	memcpy(recording.bytes + recording.len, record, *len);
	recording.len += *len;
}

static void run_replay(void)
{
	struct tls13_psk psk;
	struct pair p;

	pair_open(&p);
	pair_start(&p);
	pair_run(&p);
	psk = pair_ticket(&p);
	p.config[CLIENT].psk = &psk;
	recording.len = 0;
	p.record_hook = keep_client;
	pair_start(&p);
	pair_run(&p);
	check_done(&p);
	p.record_hook = NULL;
	pair_start(&p);
	for (size_t at = 0; at < recording.len && p.status[SERVER] == TLS13_READ;) {
		size_t n = 5 + ((size_t)recording.bytes[at + 3] << 8 | recording.bytes[at + 4]);

		pair_give(&p, SERVER, recording.bytes + at, n);
		at += n;
	}
	check(p.side[SERVER]->resumed, "the hello alone is taken: its binder is good");
	check_failed(&p, SERVER, TLS13_BAD_RECORD_MAC);
	pair_close(&p);
}

const struct self_test self_ticket[] = {
	{ "tls13_input() ends with bad_record_mac when a whole resumption is replayed", run_replay },
	{ "tls13_post_next() finds every message when records cut them anywhere", run_pieces },
	{ "tls13_post_next() refuses at the first byte when a message may not follow a handshake", run_strange_messages },
	{ "tls13_after() wants no ticket when the client takes no PSK with a key agreement", run_ticket_wanted },
	{ "tls13_update_keys() gives both sides the same new keys when either updates", run_update },
	{ "tls13_read_ticket() refuses when a ticket is cut or its life is out of bounds", run_ticket },
	{ "tls13_read_ticket() checks extensions when a ticket has some", run_ticket_extensions },
	{ "tls13_read_ticket() keeps nothing when a ticket is too long", run_long_ticket },
	{ NULL, NULL },
};
