// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The rules for hellos and extensions (RFC 8446 sections 4.1 and 4.2), one
 * broken at a time by a peer that is right in everything else.
 */
#include "self.h"

/* Offset of the length of a hello's extensions; a ServerHello has one suite and no list of compressions. */
static size_t extensions_at(const u8 *message)
{
	size_t at = 4 + 2 + 32;

	at += 1u + message[at];
	if (message[0] == TLS13_SERVER_HELLO)
		return at + 3;
	at += 2u + ((size_t)message[at] << 8 | message[at + 1]);
	return at + 1u + message[at];
}

static void set_lengths(u8 *message, size_t len, size_t list)
{
	message[1] = 0;
	message[2] = (u8)((len - 4) >> 8);
	message[3] = (u8)(len - 4);
	message[list] = (u8)((len - list - 2) >> 8);
	message[list + 1] = (u8)(len - list - 2);
}

/* Where the extension of this type begins, or 0. */
static size_t find(const u8 *message, size_t len, u16 type)
{
	size_t at = extensions_at(message) + 2;

	while (at + 4 <= len) {
		if ((message[at] << 8 | message[at + 1]) == type)
			return at;
		at += 4u + ((size_t)message[at + 2] << 8 | message[at + 3]);
	}
	return 0;
}

static void append(u8 *message, size_t *len, u16 type, const void *body, size_t body_len)
{
	size_t list = extensions_at(message);

	message[*len] = (u8)(type >> 8);
	message[*len + 1] = (u8)type;
	message[*len + 2] = (u8)(body_len >> 8);
	message[*len + 3] = (u8)body_len;
	if (body_len)
		memcpy(message + *len + 4, body, body_len);
	*len += 4 + body_len;
	set_lengths(message, *len, list);
}

static void cut_out(u8 *message, size_t *len, u16 type)
{
	size_t list = extensions_at(message), at = find(message, *len, type), size;

	check(at, "the extension is there");
	size = 4u + ((size_t)message[at + 2] << 8 | message[at + 3]);
	memmove(message + at, message + at + size, *len - at - size);
	*len -= size;
	set_lengths(message, *len, list);
}

/* One edit of one message, and how its receiver must end. */
struct edit {
	unsigned int message;
	void (*change)(u8 *message, size_t *len);
	u8 alert;		/* 0: the message is fine; the changed transcript is found out later */
};

static void apply(struct pair *p, int to, u8 *message, size_t *len)
{
	const struct edit *e = p->arg;

	(void)to;
	if (p->messages == e->message)
		e->change(message, len);
}

static void run_edit(struct pair *p, const struct edit *e)
{
	p->message_mode = true;
	p->hook = apply;
	p->arg = (void *)e;
	pair_start(p);
	pair_run(p);
	if (e->alert) {
		check_failed(p, e->message == 0 ? SERVER : CLIENT, e->alert);
	} else {
		struct tls13_result r;

		/* The server was content and answered; the client cannot be. */
		tls13_result(p->side[CLIENT], &r);
		check(p->status[CLIENT] == TLS13_FAILED && !r.alert_received, "the server went on");
	}
	pair_close(p);
}

static void run_edits(const struct edit *edits, size_t count, bool retry)
{
	struct pair p;

	for (size_t i = 0; i < count; i++) {
		pair_open(&p);
		if (retry) {
			p.config[SERVER].groups[0] = TLS13_SECP256R1;
			p.config[SERVER].groups[1] = 0;
		}
		run_edit(&p, &edits[i]);
	}
}

static void grease(u8 *m, size_t *len) { append(m, len, 0x3a3a, "x", 1); }
static void twice(u8 *m, size_t *len) { append(m, len, 0x3a3a, "x", 1); append(m, len, 0x3a3a, "", 0); }
static void groups_twice(u8 *m, size_t *len) { append(m, len, 10, "\0\2\0\x1d", 4); }
static void no_versions(u8 *m, size_t *len) { cut_out(m, len, 43); }
static void only_tls12(u8 *m, size_t *len) { cut_out(m, len, 43); append(m, len, 43, "\2\3\3", 3); }
static void odd_versions(u8 *m, size_t *len) { cut_out(m, len, 43); append(m, len, 43, "\3\3\4\3", 4); }
static void no_groups(u8 *m, size_t *len) { cut_out(m, len, 10); }
static void no_share(u8 *m, size_t *len) { cut_out(m, len, 51); }
static void no_signatures(u8 *m, size_t *len) { cut_out(m, len, 13); }
static void rsa_signatures(u8 *m, size_t *len) { cut_out(m, len, 13); append(m, len, 13, "\0\2\x08\4", 4); }
static void no_modes(u8 *m, size_t *len) { cut_out(m, len, 45); }
static void cookie(u8 *m, size_t *len) { append(m, len, 44, "\0\1x", 3); }
static void early(u8 *m, size_t *len) { append(m, len, 42, "", 0); }
static void oid_filters(u8 *m, size_t *len) { append(m, len, 48, "\0\0", 2); }
static void legacy(u8 *m, size_t *len) { (void)len; m[5] = 1; }
static void ssl3(u8 *m, size_t *len) { (void)len; m[5] = 0; }
static void trailing(u8 *m, size_t *len) { m[(*len)++] = 0; m[3]++; }
static void psk_first(u8 *m, size_t *len)
{
	u8 body[2 + 2 + 4 + 4 + 2 + 33] = { 0, 10, 0, 4, 't', 'i', 'c', 'k', 0, 0, 0, 0, 0, 33, 32 };

	append(m, len, 41, body, sizeof(body));
	append(m, len, 0x3a3a, "", 0);
}
static void psk_without_binder(u8 *m, size_t *len)
{
	u8 body[] = { 0, 10, 0, 4, 't', 'i', 'c', 'k', 0, 0, 0, 0, 0, 0 };

	append(m, len, 41, body, sizeof(body));
}
static void psk_two_binders(u8 *m, size_t *len)
{
	u8 body[2 + 2 + 4 + 4 + 2 + 66] = { 0, 10, 0, 4, 't', 'i', 'c', 'k', 0, 0, 0, 0, 0, 66, 32 };

	body[14 + 33] = 32;
	append(m, len, 41, body, sizeof(body));
}
static void psk_without_modes(u8 *m, size_t *len)
{
	u8 body[2 + 2 + 4 + 4 + 2 + 33] = { 0, 10, 0, 4, 't', 'i', 'c', 'k', 0, 0, 0, 0, 0, 33, 32 };

	cut_out(m, len, 45);
	append(m, len, 41, body, sizeof(body));
}
static void psk_unknown(u8 *m, size_t *len)
{
	u8 body[2 + 2 + 4 + 4 + 2 + 33] = { 0, 10, 0, 4, 't', 'i', 'c', 'k', 0, 0, 0, 0, 0, 33, 32 };

	append(m, len, 41, body, sizeof(body));
}
static void share_twice(u8 *m, size_t *len)
{
	u8 body[2 + 2 * 36] = { 0, 72, 0, 0x1d, 0, 32 };

	body[2 + 36 + 1] = 0x1d;
	body[2 + 36 + 3] = 32;
	cut_out(m, len, 51);
	append(m, len, 51, body, sizeof(body));
}
static void share_unsupported(u8 *m, size_t *len)
{
	u8 body[2 + 4 + 2] = { 0, 6, 0, 0x1e, 0, 2, 1, 1 };

	cut_out(m, len, 51);
	append(m, len, 51, body, sizeof(body));
}
static void share_zero(u8 *m, size_t *len)
{
	u8 body[2 + 36] = { 0, 36, 0, 0x1d, 0, 32 };

	cut_out(m, len, 51);
	append(m, len, 51, body, sizeof(body));
}
static void share_short(u8 *m, size_t *len)
{
	u8 body[2 + 35] = { 0, 35, 0, 0x1d, 0, 31, 9 };

	cut_out(m, len, 51);
	append(m, len, 51, body, sizeof(body));
}
static void share_off_curve(u8 *m, size_t *len)
{
	u8 body[2 + 69] = { 0, 69, 0, 0x17, 0, 65, 4, 1, 2, 3 };

	cut_out(m, len, 51);
	append(m, len, 51, body, sizeof(body));
}
static void compression(u8 *m, size_t *len)
{
	size_t list = extensions_at(m);

	(void)len;
	m[list - 1] = 1;
}
static void many(u8 *m, size_t *len)
{
	for (u16 i = 0; i < 64; i++)
		append(m, len, (u16)(0x4000 + i), "", 0);
}
static void no_extensions(u8 *m, size_t *len)
{
	*len = extensions_at(m);
	m[2] = (u8)((*len - 4) >> 8);
	m[3] = (u8)(*len - 4);
}

static void run_client_hello(void)
{
	static const struct edit edits[] = {
		{ 0, grease, 0 }, { 0, no_modes, 0 }, { 0, psk_unknown, 0 },
		{ 0, twice, TLS13_ILLEGAL_PARAMETER }, { 0, groups_twice, TLS13_ILLEGAL_PARAMETER },
		{ 0, no_versions, TLS13_PROTOCOL_VERSION }, { 0, only_tls12, TLS13_PROTOCOL_VERSION },
		{ 0, no_extensions, TLS13_PROTOCOL_VERSION }, { 0, odd_versions, TLS13_DECODE_ERROR },
		{ 0, no_groups, TLS13_MISSING_EXTENSION }, { 0, no_share, TLS13_MISSING_EXTENSION },
		{ 0, no_signatures, TLS13_MISSING_EXTENSION }, { 0, rsa_signatures, TLS13_HANDSHAKE_FAILURE },
		{ 0, cookie, TLS13_ILLEGAL_PARAMETER }, { 0, early, TLS13_ILLEGAL_PARAMETER },
		{ 0, oid_filters, TLS13_ILLEGAL_PARAMETER }, { 0, legacy, 0 },
		{ 0, ssl3, TLS13_PROTOCOL_VERSION },
		{ 0, trailing, TLS13_DECODE_ERROR }, { 0, compression, TLS13_ILLEGAL_PARAMETER },
		{ 0, psk_first, TLS13_ILLEGAL_PARAMETER }, { 0, psk_without_binder, TLS13_DECODE_ERROR },
		{ 0, psk_two_binders, TLS13_ILLEGAL_PARAMETER }, { 0, psk_without_modes, TLS13_MISSING_EXTENSION },
		{ 0, share_twice, TLS13_ILLEGAL_PARAMETER }, { 0, share_unsupported, TLS13_ILLEGAL_PARAMETER },
		{ 0, share_zero, TLS13_ILLEGAL_PARAMETER }, { 0, share_short, TLS13_ILLEGAL_PARAMETER },
		{ 0, share_off_curve, TLS13_ILLEGAL_PARAMETER }, { 0, many, TLS13_ILLEGAL_PARAMETER },
	};

	run_edits(edits, sizeof(edits) / sizeof(edits[0]), false);
}

static void downgrade12(u8 *m, size_t *len) { cut_out(m, len, 43); memcpy(m + 30, "DOWNGRD\1", 8); }
static void downgrade11(u8 *m, size_t *len) { cut_out(m, len, 43); memcpy(m + 30, "DOWNGRD\0", 8); }
static void tls12_hello(u8 *m, size_t *len) { cut_out(m, len, 43); append(m, len, 0xff01, "\0", 1); }
static void draft_version(u8 *m, size_t *len) { cut_out(m, len, 43); append(m, len, 43, "\x7f\x1c", 2); }
static void tls12_version(u8 *m, size_t *len) { cut_out(m, len, 43); append(m, len, 43, "\3\3", 2); }
static void other_session(u8 *m, size_t *len) { (void)len; m[39] ^= 1; }
static void shorter_session(u8 *m, size_t *len)
{
	memmove(m + 40, m + 41, *len - 41);
	m[38]--;
	(*len)--;
	m[3]--;
}
static void other_suite(u8 *m, size_t *len) { m[extensions_at(m) - 2] = 9; (void)len; }
static void server_compression(u8 *m, size_t *len) { m[extensions_at(m) - 1] = 1; (void)len; }
static void unasked_psk(u8 *m, size_t *len) { append(m, len, 41, "\0\0", 2); }
static void server_alpn(u8 *m, size_t *len) { append(m, len, 16, "\0\3\2h2", 5); }
static void server_cookie(u8 *m, size_t *len) { append(m, len, 44, "\0\1x", 3); }
static void wrong_group(u8 *m, size_t *len)
{
	u8 body[4 + 65] = { 0, 0x17, 0, 65, 4 };

	cut_out(m, len, 51);
	append(m, len, 51, body, sizeof(body));
}
static void reflected(u8 *m, size_t *len)
{
	/* The client's own share: the first private key of the run gives its public half again. */
	u8 body[36] = { 0, 0x1d, 0, 32 }, private_key[32];
	u64 counter = port_test.counter;

	port_test.counter = 2;	/* random and session ID come first */
	check(!port_x25519_generate(private_key, body + 4), "a key is made");
	port_test.counter = counter;
	cut_out(m, len, 51);
	append(m, len, 51, body, sizeof(body));
}

static void run_server_hello(void)
{
	static const struct edit edits[] = {
		{ 1, downgrade12, TLS13_ILLEGAL_PARAMETER }, { 1, downgrade11, TLS13_ILLEGAL_PARAMETER },
		{ 1, tls12_hello, TLS13_PROTOCOL_VERSION }, { 1, draft_version, TLS13_ILLEGAL_PARAMETER },
		{ 1, tls12_version, TLS13_ILLEGAL_PARAMETER }, { 1, legacy, TLS13_ILLEGAL_PARAMETER },
		{ 1, ssl3, TLS13_PROTOCOL_VERSION },
		{ 1, other_session, TLS13_ILLEGAL_PARAMETER }, { 1, shorter_session, TLS13_ILLEGAL_PARAMETER },
		{ 1, other_suite, TLS13_ILLEGAL_PARAMETER }, { 1, server_compression, TLS13_ILLEGAL_PARAMETER },
		{ 1, unasked_psk, TLS13_UNSUPPORTED_EXTENSION }, { 1, server_alpn, TLS13_ILLEGAL_PARAMETER },
		{ 1, server_cookie, TLS13_ILLEGAL_PARAMETER }, { 1, grease, TLS13_UNSUPPORTED_EXTENSION },
		{ 1, twice, TLS13_UNSUPPORTED_EXTENSION }, { 1, no_share, TLS13_MISSING_EXTENSION },
		{ 1, wrong_group, TLS13_ILLEGAL_PARAMETER }, { 1, reflected, TLS13_ILLEGAL_PARAMETER },
		{ 1, trailing, TLS13_DECODE_ERROR },
	};

	run_edits(edits, sizeof(edits) / sizeof(edits[0]), false);
}

/* In front of the real ServerHello the client gets a HelloRetryRequest of our making. */
static void to_retry(u8 *m, size_t *len)
{
	static const u8 random[] = {
		0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
		0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
	};

	memcpy(m + 6, random, sizeof(random));
	cut_out(m, len, 51);
}
static void retry_nothing(u8 *m, size_t *len) { to_retry(m, len); }
static void retry_same(u8 *m, size_t *len) { to_retry(m, len); append(m, len, 51, "\0\x1d", 2); }
static void retry_unknown(u8 *m, size_t *len) { to_retry(m, len); append(m, len, 51, "\0\x18", 2); }
static void retry_share(u8 *m, size_t *len) { to_retry(m, len); append(m, len, 51, "\0\x17\0\1x", 5); }
static void retry_empty_cookie(u8 *m, size_t *len) { to_retry(m, len); append(m, len, 44, "\0\0", 2); }
static void retry_psk(u8 *m, size_t *len) { to_retry(m, len); append(m, len, 41, "\0\0", 2); }
static void retry_long_cookie(u8 *m, size_t *len)
{
	static u8 body[2 + 3000] = { 3000 >> 8, 3000 & 255 };

	to_retry(m, len);
	append(m, len, 44, body, sizeof(body));
}

static void run_retry(void)
{
	static const struct edit edits[] = {
		{ 1, retry_nothing, TLS13_ILLEGAL_PARAMETER }, { 1, retry_same, TLS13_ILLEGAL_PARAMETER },
		{ 1, retry_unknown, TLS13_ILLEGAL_PARAMETER }, { 1, retry_share, TLS13_DECODE_ERROR },
		{ 1, retry_empty_cookie, TLS13_DECODE_ERROR }, { 1, retry_long_cookie, TLS13_ILLEGAL_PARAMETER },
		{ 1, retry_psk, TLS13_ILLEGAL_PARAMETER },
	};
	static const struct edit second[] = {
		{ 3, retry_share, TLS13_DECODE_ERROR }, { 3, retry_nothing, TLS13_UNEXPECTED_MESSAGE },
		{ 3, retry_same, TLS13_UNEXPECTED_MESSAGE }, { 3, other_suite, TLS13_ILLEGAL_PARAMETER },
	};

	run_edits(edits, sizeof(edits) / sizeof(edits[0]), false);
	run_edits(second, sizeof(second) / sizeof(second[0]), true);
}

static void retry_cookie(u8 *m, size_t *len) { to_retry(m, len); append(m, len, 44, "\0\5cooky", 7); }

static bool cookie_echoed;

static void watch_cookie(struct pair *p, int to, u8 *message, size_t *len)
{
	size_t at;

	if (p->messages == 1)
		retry_cookie(message, len);
	if (p->messages >= 2 && to == SERVER && message[0] == TLS13_CLIENT_HELLO) {
		at = find(message, *len, 44);
		check(at && message[at + 3] == 7 && !memcmp(message + at + 4, "\0\5cooky", 7), "the cookie is echoed");
		check(find(message, *len, 51), "the share comes again");
		cookie_echoed = true;
		*len = 0;
	}
}

static void drop_server_flight(struct pair *p, int to, u8 *record, size_t *len)
{
	(void)p;
	if (to == CLIENT && record[0] == TLS13_APPLICATION_DATA)
		*len = 0;
	/* By then our server reads protected records; the client's second hello is looked at on its way. */
	if (to == SERVER && record[0] == TLS13_HANDSHAKE && p->messages == 2) {
		size_t message = *len - 5;

		watch_cookie(p, to, record + 5, &message);
		*len = 0;
	}
}

static void run_cookie(void)
{
	struct pair p;

	pair_open(&p);
	p.message_mode = true;
	p.hook = watch_cookie;
	p.record_hook = drop_server_flight;
	pair_start(&p);
	pair_run(&p);
	check(cookie_echoed, "a second ClientHello came");
	check(p.status[CLIENT] == TLS13_READ, "the client waits for the ServerHello");
	pair_close(&p);
}

static void other_random(u8 *m, size_t *len) { (void)len; m[10] ^= 1; }
static void other_alpn(u8 *m, size_t *len) { m[find(m, *len, 16) + 8] ^= 1; }
static void second_early(u8 *m, size_t *len) { append(m, len, 42, "", 0); }
static void first_share_again(u8 *m, size_t *len) { u8 b[38] = { 0, 36, 0, 0x1d, 0, 32, 9 }; cut_out(m, len, 51); append(m, len, 51, b, 38); }

static void run_second_hello(void)
{
	static void (*const changes[])(u8 *m, size_t *len) = {
		other_random, other_alpn, second_early, first_share_again, no_modes, cookie, groups_twice,
	};
	struct pair p;

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct edit e = { 2, changes[i], TLS13_ILLEGAL_PARAMETER };

		pair_open(&p);
		p.config[SERVER].groups[0] = TLS13_SECP256R1;
		p.config[SERVER].groups[1] = 0;
		p.message_mode = true;
		p.hook = apply;
		p.arg = &e;
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, SERVER, TLS13_ILLEGAL_PARAMETER);
		pair_close(&p);
	}
}

/* Messages 2 and 3 of a full handshake are EncryptedExtensions and CertificateRequest; 4 is the Certificate. */
static void replace(u8 *m, size_t *len, const char *body, size_t body_len)
{
	memcpy(m + 4, body, body_len);
	m[2] = 0;
	m[3] = (u8)body_len;
	*len = 4 + body_len;
}
static void ee_unasked(u8 *m, size_t *len) { replace(m, len, "\0\4\x3a\x3a\0\0", 6); }
static void ee_share(u8 *m, size_t *len) { replace(m, len, "\0\4\0\x33\0\0", 6); }
static void ee_early(u8 *m, size_t *len) { replace(m, len, "\0\4\0\x2a\0\0", 6); }
static void ee_twice(u8 *m, size_t *len) { replace(m, len, "\0\x0c\0\x0a\0\2\0\0\0\x0a\0\2\0\0", 14); }
static void ee_alpn(u8 *m, size_t *len) { replace(m, len, "\0\x09\0\x10\0\5\0\3\2h2", 11); }
static void ee_two_alpn(u8 *m, size_t *len) { replace(m, len, "\0\x0b\0\x10\0\7\0\5\1a\2h2", 13); }
static void ee_empty_alpn(u8 *m, size_t *len) { replace(m, len, "\0\6\0\x10\0\2\0\0", 8); }
static void ee_trailing(u8 *m, size_t *len) { replace(m, len, "\0\0\0", 3); }
static void cr_context(u8 *m, size_t *len) { replace(m, len, "\1x\0\x08\0\x0d\0\4\0\2\4\3", 12); }
static void cr_no_signatures(u8 *m, size_t *len) { replace(m, len, "\0\0\0", 3); }
static void cr_odd_signatures(u8 *m, size_t *len) { replace(m, len, "\0\0\x09\0\x0d\0\5\0\3\4\3\0", 12); }
static void cr_share(u8 *m, size_t *len) { replace(m, len, "\0\0\x0c\0\x0d\0\4\0\2\4\3\0\x33\0\0", 15); }
static void cert_context(u8 *m, size_t *len) { replace(m, len, "\1x\0\0\6\0\0\1x\0\0", 11); }
static void cert_none(u8 *m, size_t *len) { replace(m, len, "\0\0\0\0", 4); }
static void cert_empty(u8 *m, size_t *len) { replace(m, len, "\0\0\0\5\0\0\0\0\0", 9); }
static void cert_extension(u8 *m, size_t *len) { replace(m, len, "\0\0\0\x0a\0\0\1x\0\4\0\5\0\0", 14); }
static void cert_unknown_extension(u8 *m, size_t *len) { replace(m, len, "\0\0\0\x0a\0\0\1x\0\4\x3a\x3a\0\0", 14); }
static void cert_half(u8 *m, size_t *len) { replace(m, len, "\0\0\0\5\0\0\2x\0", 9); }
static void cv_scheme(u8 *m, size_t *len) { (void)len; m[4] = 8; }
static void cv_long(u8 *m, size_t *len) { memset(m + *len, 0, 9); *len += 9; m[3] += 9; m[7] += 9; }
static void finished_long(u8 *m, size_t *len) { m[(*len)++] = 0; m[3]++; }

static void run_flight(void)
{
	static const struct edit edits[] = {
		{ 2, ee_unasked, TLS13_UNSUPPORTED_EXTENSION }, { 2, ee_share, TLS13_ILLEGAL_PARAMETER },
		{ 2, ee_early, TLS13_UNSUPPORTED_EXTENSION }, { 2, ee_twice, TLS13_ILLEGAL_PARAMETER },
		{ 2, ee_alpn, TLS13_ILLEGAL_PARAMETER }, { 2, ee_two_alpn, TLS13_ILLEGAL_PARAMETER },
		{ 2, ee_empty_alpn, TLS13_DECODE_ERROR }, { 2, ee_trailing, TLS13_DECODE_ERROR },
		{ 3, cr_context, TLS13_ILLEGAL_PARAMETER }, { 3, cr_no_signatures, TLS13_MISSING_EXTENSION },
		{ 3, cr_odd_signatures, TLS13_DECODE_ERROR }, { 3, cr_share, TLS13_ILLEGAL_PARAMETER },
		{ 4, cert_context, TLS13_ILLEGAL_PARAMETER }, { 4, cert_none, TLS13_DECODE_ERROR },
		{ 4, cert_empty, TLS13_DECODE_ERROR }, { 4, cert_extension, TLS13_UNSUPPORTED_EXTENSION },
		{ 4, cert_unknown_extension, TLS13_UNSUPPORTED_EXTENSION }, { 4, cert_half, TLS13_DECODE_ERROR },
		{ 5, cv_scheme, TLS13_ILLEGAL_PARAMETER }, { 5, cv_long, TLS13_DECRYPT_ERROR },
		{ 6, finished_long, TLS13_DECODE_ERROR },
	};

	run_edits(edits, sizeof(edits) / sizeof(edits[0]), false);
}

const struct self_test self_hello[] = {
	{ "tls13_input() names the fault when one thing of a ClientHello is wrong", run_client_hello },
	{ "tls13_input() names the fault when one thing of a ServerHello is wrong", run_server_hello },
	{ "tls13_input() names the fault when one thing of a HelloRetryRequest is wrong", run_retry },
	{ "tls13_input() echoes the cookie when a HelloRetryRequest has one", run_cookie },
	{ "tls13_input() ends with illegal_parameter when a second ClientHello is not the first", run_second_hello },
	{ "tls13_input() names the fault when one thing of the server's flight is wrong", run_flight },
	{ NULL, NULL },
};
