// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* The rules of the record layer (RFC 8446 section 5), each broken by a hand-made record. */
#include "self.h"

static const u8 ccs[] = { 20, 3, 3, 0, 1, 1 };

/* The output of one side, whole. */
static size_t take_output(struct pair *p, int side, u8 *copy)
{
	size_t len;
	const u8 *out = tls13_output(p->side[side], &len);

	memcpy(copy, out, len);
	tls13_sent(p->side[side], len);
	return len;
}

static void open_pair(struct pair *p)
{
	pair_open(p);
	pair_start(p);
}

static void give_refused(int to, const u8 *record, size_t len, u8 alert)
{
	struct pair p;

	open_pair(&p);
	pair_give(&p, to, record, len);
	check_failed(&p, to, alert);
	pair_close(&p);
}

static void run_headers(void)
{
	static const u8 bad_type[] = { 24, 3, 3, 0, 1, 0 }, bad_version[] = { 22, 2, 3, 0, 1, 0 };
	static const u8 http[] = "GET / HTTP/1.1\r\n";
	static const u8 long_plain[] = { 22, 3, 3, 0x40, 1 }, long_sealed[] = { 23, 3, 3, 0x41, 1 };
	static const u8 empty[] = { 22, 3, 3, 0, 0 }, empty_alert[] = { 21, 3, 3, 0, 0 };
	static const u8 half_alert[] = { 21, 3, 3, 0, 1, 2 }, two_alerts[] = { 21, 3, 3, 0, 4, 2, 40, 2, 40 };
	static const u8 early_data[] = { 23, 3, 3, 0, 1, 0 };

	for (int to = 0; to < 2; to++) {
		give_refused(to, bad_type, sizeof(bad_type), TLS13_UNEXPECTED_MESSAGE);
		give_refused(to, bad_version, sizeof(bad_version), TLS13_UNEXPECTED_MESSAGE);
		give_refused(to, http, sizeof(http), TLS13_UNEXPECTED_MESSAGE);
		give_refused(to, long_plain, sizeof(long_plain), TLS13_RECORD_OVERFLOW);
		give_refused(to, long_sealed, sizeof(long_sealed), TLS13_UNEXPECTED_MESSAGE);
		give_refused(to, early_data, sizeof(early_data), TLS13_UNEXPECTED_MESSAGE);
		give_refused(to, empty, sizeof(empty), TLS13_UNEXPECTED_MESSAGE);
		give_refused(to, empty_alert, sizeof(empty_alert), TLS13_DECODE_ERROR);
		give_refused(to, half_alert, sizeof(half_alert), TLS13_DECODE_ERROR);
		give_refused(to, two_alerts, sizeof(two_alerts), TLS13_DECODE_ERROR);
	}
}

static void run_lengths(void)
{
	u8 record[] = { 22, 3, 3, 0, 5, 1, 0, 0, 1, 0 };
	struct pair p;

	open_pair(&p);
	check(tls13_input(p.side[SERVER], record, 4) == TLS13_FAILED, "less than a header is refused");
	pair_start(&p);
	check(tls13_input(p.side[SERVER], record, 8) == TLS13_FAILED, "half a record is refused");
	pair_start(&p);
	record[4] = 4;
	check(tls13_input(p.side[SERVER], record, sizeof(record)) == TLS13_FAILED, "more than a record is refused");
	pair_close(&p);
}

static void run_alert(void)
{
	static const u8 alerts[][2] = { { 2, 40 }, { 1, 0 }, { 1, 90 }, { 9, 200 } };
	struct tls13_result r;
	struct pair p;
	size_t len;

	for (size_t i = 0; i < 4; i++) {
		for (int to = 0; to < 2; to++) {
			u8 record[] = { 21, 3, 3, 0, 2, alerts[i][0], alerts[i][1] };
			u8 copy[4096];

			open_pair(&p);
			take_output(&p, CLIENT, copy);
			pair_give(&p, to, record, sizeof(record));
			tls13_result(p.side[to], &r);
			check(p.status[to] == TLS13_FAILED && r.alert_received && r.alert == alerts[i][1],
			      "the alert is reported");
			tls13_output(p.side[to], &len);
			check(!len, "an alert is not answered");
			check_wiped(&p, to);
			pair_close(&p);
		}
	}
}

static void run_ccs(void)
{
	static const u8 two[] = { 20, 3, 3, 0, 2, 1, 1 }, zero[] = { 20, 3, 3, 0, 1, 0 }, empty[] = { 20, 3, 3, 0, 0 };
	u8 hello[4096];
	struct pair p;
	size_t len;

	give_refused(SERVER, ccs, sizeof(ccs), TLS13_UNEXPECTED_MESSAGE);
	give_refused(CLIENT, two, sizeof(two), TLS13_UNEXPECTED_MESSAGE);
	give_refused(CLIENT, zero, sizeof(zero), TLS13_UNEXPECTED_MESSAGE);
	give_refused(CLIENT, empty, sizeof(empty), TLS13_UNEXPECTED_MESSAGE);

	open_pair(&p);
	for (int i = 0; i < TLS13_CCS_MAX; i++) {
		pair_give(&p, CLIENT, ccs, sizeof(ccs));
		check(p.status[CLIENT] == TLS13_READ, "some are passed over");
	}
	pair_give(&p, CLIENT, ccs, sizeof(ccs));
	check_failed(&p, CLIENT, TLS13_UNEXPECTED_MESSAGE);
	pair_close(&p);

	/* Between the parts of a ClientHello. */
	open_pair(&p);
	len = take_output(&p, CLIENT, hello);
	check(len > 100, "there is a ClientHello");
	pair_give_message(&p, SERVER, TLS13_HANDSHAKE, hello + 5, 50);
	pair_give(&p, SERVER, ccs, sizeof(ccs));
	check_failed(&p, SERVER, TLS13_UNEXPECTED_MESSAGE);
	pair_close(&p);
}

static void seal_ccs(struct pair *p, int to, u8 *record, size_t *len)
{
	if (record[0] != TLS13_APPLICATION_DATA || to != CLIENT || p->status[CLIENT] != TLS13_READ)
		return;
	pair_give_message(p, CLIENT, *(const u8 *)p->arg, (const u8[]){ 1, 0 }, 1);
	*len = 0;
}

static void run_inner(void)
{
	static const u8 contents[] = { TLS13_CHANGE_CIPHER_SPEC, TLS13_APPLICATION_DATA, 99 };
	struct pair p;

	for (size_t i = 0; i < sizeof(contents); i++) {
		pair_open(&p);
		p.record_hook = seal_ccs;
		p.arg = (void *)&contents[i];
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, CLIENT, TLS13_UNEXPECTED_MESSAGE);
		pair_close(&p);
	}
}

static const struct {
	size_t len;	/* of the inner plaintext, content type and padding included; all zeros */
	u8 alert;
} paddings[] = {
	{ 1, TLS13_UNEXPECTED_MESSAGE }, { 400, TLS13_UNEXPECTED_MESSAGE }, { 16385, TLS13_UNEXPECTED_MESSAGE },
	{ 16386, TLS13_RECORD_OVERFLOW },
};

static void seal_zeros(struct pair *p, int to, u8 *record, size_t *len)
{
	static u8 zeros[16386];

	if (record[0] != TLS13_APPLICATION_DATA || to != CLIENT || p->status[CLIENT] != TLS13_READ)
		return;
	pair_give_message(p, CLIENT, 0, zeros, *(const size_t *)p->arg - 1);
	*len = 0;
}

static void run_padding(void)
{
	struct pair p;

	for (size_t i = 0; i < sizeof(paddings) / sizeof(paddings[0]); i++) {
		size_t len = paddings[i].len;

		pair_open(&p);
		p.record_hook = seal_zeros;
		p.arg = &len;
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, CLIENT, paddings[i].alert);
		pair_close(&p);
	}
}

static void give_plain(struct pair *p, int to, u8 *record, size_t *len)
{
	const u8 *plain = p->arg;

	if (record[0] != TLS13_APPLICATION_DATA || to != CLIENT || p->status[CLIENT] != TLS13_READ)
		return;
	pair_give(p, CLIENT, plain, 5u + plain[4]);
	*len = 0;
}

static void run_plain(void)
{
	static const u8 handshake[] = { 22, 3, 3, 0, 6, 8, 0, 0, 2, 0, 0 }, alert[] = { 21, 3, 3, 0, 2, 2, 40 };
	static const u8 short_sealed[] = { 23, 3, 3, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
	static const struct {
		const u8 *record;
		u8 alert;
	} cases[] = {
		{ handshake, TLS13_UNEXPECTED_MESSAGE }, { alert, TLS13_UNEXPECTED_MESSAGE },
		{ short_sealed, TLS13_BAD_RECORD_MAC },
	};
	struct pair p;

	for (size_t i = 0; i < 3; i++) {
		pair_open(&p);
		p.record_hook = give_plain;
		p.arg = (void *)cases[i].record;
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, CLIENT, cases[i].alert);
		pair_close(&p);
	}
}

/* A client that cannot read the ServerHello has no keys to say so with. */
static void run_plain_alert(void)
{
	static const u8 alert[] = { 21, 3, 3, 0, 2, 2, 47 };
	struct tls13_result r;
	u8 hello[4096];
	struct pair p;
	size_t len;

	open_pair(&p);
	len = take_output(&p, CLIENT, hello);
	pair_give(&p, SERVER, hello, len);
	check(p.status[SERVER] == TLS13_READ, "the server has answered");
	pair_give(&p, SERVER, alert, sizeof(alert));
	tls13_result(p.side[SERVER], &r);
	check(p.status[SERVER] == TLS13_FAILED && r.alert_received && r.alert == 47, "the alert is taken");
	pair_close(&p);
}

/* Section 5.1: what follows a hello or Finished in its record was sent before the keys changed. */
static void join_next(struct pair *p, int to, u8 *message, size_t *len)
{
	static const u8 types[] = { TLS13_CLIENT_HELLO, TLS13_SERVER_HELLO, TLS13_FINISHED };

	if (message[0] != types[*(const int *)p->arg])
		return;
	if (message[0] == TLS13_FINISHED && to != CLIENT)
		return;
	memcpy(message + *len, "\x18\0\0\1\0", 5);
	*len += 5;
}

static void run_boundaries(void)
{
	struct pair p;

	for (int i = 0; i < 3; i++) {
		pair_open(&p);
		p.message_mode = true;
		p.hook = join_next;
		p.arg = &i;
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, i == 0 ? SERVER : CLIENT, TLS13_UNEXPECTED_MESSAGE);
		pair_close(&p);
	}
}

static void run_order(void)
{
	static const u8 all[] = { 0, 1, 2, 4, 5, 8, 11, 13, 15, 20, 24, 254, 255 };
	struct pair p;

	for (int to = 0; to < 2; to++) {
		for (size_t i = 0; i < sizeof(all); i++) {
			/* The whole length is never waited for: the type alone is enough to refuse. */
			u8 message[] = { all[i], 0, 0x20, 0 };

			if (all[i] == (to == CLIENT ? 2 : 1))
				continue;
			open_pair(&p);
			pair_give_message(&p, to, TLS13_HANDSHAKE, message, 1);
			check_failed(&p, to, TLS13_UNEXPECTED_MESSAGE);
			pair_close(&p);
		}
	}
}

static void run_too_long(void)
{
	static const u8 message[] = { 1, 0, 0x48, 0 }, huge[] = { 1, 0xff, 0xff, 0xff };
	struct pair p;

	open_pair(&p);
	pair_give_message(&p, SERVER, TLS13_HANDSHAKE, message, sizeof(message));
	check_failed(&p, SERVER, TLS13_ILLEGAL_PARAMETER);
	pair_close(&p);
	open_pair(&p);
	pair_give_message(&p, SERVER, TLS13_HANDSHAKE, huge, sizeof(huge));
	check_failed(&p, SERVER, TLS13_ILLEGAL_PARAMETER);
	pair_close(&p);
}

/* Announces early data under a ticket that the server does not know; after the hello the server gets `arg` bytes of it. */
static void announce_early_data(struct pair *p, int to, u8 *message, size_t *len)
{
	static u8 record[5 + 8000] = { 23, 3, 3 };
	size_t early = *(const size_t *)p->arg, list = 38 + 33 + 2 + 6 + 2;
	u8 more[4 + 4 + 47] = { 0, 42, 0, 0, 0, 41, 0, 47, 0, 10, 0, 4, 't', 'i', 'c', 'k', 0, 0, 0, 0, 0, 33, 32 };

	if (to != SERVER || p->messages)
		return;
	memcpy(message + *len, more, sizeof(more));
	*len += sizeof(more);
	message[2] = (u8)((*len - 4) >> 8);
	message[3] = (u8)(*len - 4);
	message[list + 0] = (u8)((*len - list - 2) >> 8);
	message[list + 1] = (u8)(*len - list - 2);
	pair_give_message(p, SERVER, TLS13_HANDSHAKE, message, *len);
	check(p->status[SERVER] == TLS13_READ, "the server goes on without the early data");
	*len = 0;
	while (early && p->status[SERVER] == TLS13_READ) {
		size_t n = early < 8000 ? early : 8000;

		record[3] = (u8)(n >> 8);
		record[4] = (u8)n;
		pair_give(p, SERVER, record, 5 + n);
		early -= n;
	}
	p->piece = p->status[SERVER] == TLS13_READ;
}

static void run_early_data(void)
{
	static const size_t amounts[] = { 17, 100, TLS13_EARLY_SKIP_MAX, TLS13_EARLY_SKIP_MAX + 1 };
	struct tls13_result r;
	struct pair p;

	for (int retry = 0; retry < 2; retry++) {
		for (size_t i = 0; i < 4; i++) {
			pair_open(&p);
			p.message_mode = true;
			p.hook = announce_early_data;
			p.arg = (void *)&amounts[i];
			if (retry) {
				p.config[SERVER].groups[0] = TLS13_SECP256R1;
				p.config[SERVER].groups[1] = 0;
			}
			pair_start(&p);
			pair_run(&p);
			tls13_result(p.side[SERVER], &r);
			check(r.hello_retry == retry, "the hello was taken as it was");
			/* The client never said it, so that the two cannot agree; but the early data alone did not end it. */
			check(p.piece == (i < 3), "early data is passed over up to its bound");
			if (i == 3)
				check_failed(&p, SERVER, TLS13_UNEXPECTED_MESSAGE);
			pair_close(&p);
		}
	}
}

/* Section 5.2: 2^14 + 256 bytes are the most that a protected record may have; one more is refused by its header. */
static void give_long(struct pair *p, int to, u8 *record, size_t *len)
{
	static const u8 longest[] = { 23, 3, 3, 0x41, 0 };
	static u8 longer[5 + 16641] = { 23, 3, 3, 0x41, 1 };
	u8 alert;

	if (record[0] != TLS13_APPLICATION_DATA || to != *(const int *)p->arg || p->status[to] != TLS13_READ)
		return;
	check(tls13_record_length(p->side[to], longest, &alert) == 16640, "the longest is read");
	check(tls13_record_length(p->side[to], longer, &alert) == -EBADMSG && alert == TLS13_RECORD_OVERFLOW,
	      "one byte more is refused before it is read");
	pair_give(p, to, longer, sizeof(longer));
	*len = 0;
}

static void run_overflow(void)
{
	struct pair p;

	for (int to = 0; to < 2; to++) {
		pair_open(&p);
		p.record_hook = give_long;
		p.arg = &to;
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, to, TLS13_RECORD_OVERFLOW);
		pair_close(&p);
	}
}

/* Appendix D.4: the first protected record of a client, be it an alert, comes after its change_cipher_spec. */
static void damage_flight(struct pair *p, int to, u8 *record, size_t *len)
{
	if (record[0] == TLS13_APPLICATION_DATA && to == CLIENT && p->status[CLIENT] == TLS13_READ)
		record[*len - 1] ^= 1;
}

static void see_first_protected(struct pair *p, int to, u8 *record, size_t *len)
{
	damage_flight(p, to, record, len);
	if (to == SERVER && record[0] == TLS13_CHANGE_CIPHER_SPEC)
		++*(int *)p->arg;
	if (to == SERVER && record[0] == TLS13_APPLICATION_DATA)
		check(*(int *)p->arg == 1, "change_cipher_spec has come, once");
}

static void run_ccs_before_alert(void)
{
	struct tls13_result r;
	struct pair p;
	int seen = 0;

	pair_open(&p);
	p.record_hook = see_first_protected;
	p.arg = &seen;
	pair_start(&p);
	pair_run(&p);
	check(seen == 1, "the client sent one");
	check_failed(&p, CLIENT, TLS13_BAD_RECORD_MAC);
	tls13_result(p.side[SERVER], &r);
	check(r.alert_received && r.alert == TLS13_BAD_RECORD_MAC, "the server reads the alert behind it");
	pair_close(&p);
}

const struct self_test self_record[] = {
	{ "tls13_record_length() refuses by its header when a protected record is of 2^14 + 257 bytes", run_overflow },
	{ "tls13_input() sends change_cipher_spec first when a client's first protected record is an alert", run_ccs_before_alert },
	{ "tls13_record_length() refuses when a header is none of TLS 1.3", run_headers },
	{ "tls13_input() refuses when it is not given exactly one record", run_lengths },
	{ "tls13_input() reports an alert and says nothing when the peer sends one", run_alert },
	{ "tls13_input() passes over change_cipher_spec only when and as often as it may come", run_ccs },
	{ "tls13_input() refuses when a protected record is no part of a handshake", run_inner },
	{ "tls13_input() refuses when a protected record is padding alone or too long", run_padding },
	{ "tls13_input() refuses when a record comes in the clear after the keys", run_plain },
	{ "tls13_input() takes an alert in the clear when the client cannot have keys", run_plain_alert },
	{ "tls13_input() passes over early data up to a bound when a client announces it", run_early_data },
	{ "tls13_input() refuses when messages cross a change of keys", run_boundaries },
	{ "tls13_input() refuses at its first byte when a message is out of turn", run_order },
	{ "tls13_input() refuses when a message announces more than it may have", run_too_long },
	{ NULL, NULL },
};
