// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * ServerHello and HelloRetryRequest (RFC 8446 sections 4.1.3 and 4.1.4): a
 * server's is written, a client's is taken apart and held against its own hello.
 */
#include "engine.h"

/* SHA-256 of "HelloRetryRequest" in the place of the random. */
static const u8 retry_random[32] = {
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
	0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
	0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

static void write_share(const struct tls13 *t, struct wire_writer *w, bool retry)
{
	size_t body = tls13_extension_open(w, TLS13_EXT_KEY_SHARE);
	size_t share;

	wire_write_uint(w, 2, t->group);
	if (!retry) {
		share = wire_open_vector(w, 2);
		wire_write_bytes(w, t->public_key, tls13_key_share_len(t->group));
		wire_close_vector(w, 2, share);
	}
	tls13_extension_close(w, body);
}

/* In the clear, in a record of its own. */
int tls13_server_hello_send(struct tls13 *t, bool retry)
{
	struct wire_writer w;
	size_t message, mark, body;

	tls13_record_open(t, &w);
	message = tls13_message_open(&w, TLS13_SERVER_HELLO);
	wire_write_uint(&w, 2, TLS13_LEGACY_VERSION);
	if (!retry)
		port_random(t->random, sizeof(t->random));
	wire_write_bytes(&w, retry ? retry_random : t->random, 32);
	mark = wire_open_vector(&w, 1);
	wire_write_bytes(&w, t->session_id, t->session_id_len);
	wire_close_vector(&w, 1, mark);
	wire_write_uint(&w, 2, t->suite->suite);
	wire_write_uint(&w, 1, 0);
	mark = wire_open_vector(&w, 2);
	body = tls13_extension_open(&w, TLS13_EXT_SUPPORTED_VERSIONS);
	wire_write_uint(&w, 2, TLS13_VERSION);
	tls13_extension_close(&w, body);
	write_share(t, &w, retry);
	if (t->resumed && !retry) {
		body = tls13_extension_open(&w, TLS13_EXT_PRE_SHARED_KEY);
		wire_write_uint(&w, 2, t->psk_selected);
		tls13_extension_close(&w, body);
	}
	wire_close_vector(&w, 2, mark);
	if (tls13_message_close(t, &w, message))
		return -EPROTO;
	return tls13_record_close(t, &w, TLS13_HANDSHAKE);
}

/*
 * Section 4.1.3: "DOWNGRD" and 0 or 1, by which a TLS 1.3 server says that somebody made it speak
 * an older one.
 */
static bool is_downgrade(const u8 *random)
{
	return !memcmp(random + 24, "DOWNGRD", 7) && random[31] <= 1;
}

static int check_version(struct tls13 *t, struct wire_reader extensions, const u8 *random,
			 u16 legacy)
{
	struct wire_reader body;
	u16 version;
	bool named = tls13_extension_find(extensions, TLS13_EXT_SUPPORTED_VERSIONS, &body);

	if (!named && is_downgrade(random))
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The server was made to answer with an older version.");
	if (!named)
		return tls13_fail(t, TLS13_PROTOCOL_VERSION, "The server does not speak TLS 1.3.");
	if (!wire_read_u16(&body, &version) || body.left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The ServerHello's supported_versions is malformed.");
	if (legacy <= TLS13_SSL3)
		return tls13_fail(t, TLS13_PROTOCOL_VERSION, "The server chose SSL 3.0.");
	if (version != TLS13_VERSION || legacy != TLS13_LEGACY_VERSION)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The server chose a version that was not offered.");
	return 0;
}

static bool was_offered(const struct tls13 *t, u16 suite)
{
	unsigned int i;

	for (i = 0; i < 3 && t->config.suites[i]; i++)
		if (t->config.suites[i] == suite)
			return true;
	return false;
}

static int parse_share(struct tls13 *t, struct wire_reader body, struct tls13_server_hello *hello)
{
	if (!body.at)
		return 0;
	if (!wire_read_u16(&body, &hello->group) ||
	    (!hello->retry && !wire_read_vector(&body, 2, &hello->share)) || body.left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The ServerHello's key_share is malformed.");
	return 0;
}

static int parse_psk(struct tls13 *t, struct wire_reader body, struct tls13_server_hello *hello)
{
	u16 selected;

	if (!body.at)
		return 0;
	if (!wire_read_u16(&body, &selected) || body.left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The ServerHello's pre_shared_key is malformed.");
	if (selected)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The server chose a PSK that was not offered.");
	hello->psk = true;
	return 0;
}

static int parse_cookie(struct tls13 *t, struct wire_reader body, struct tls13_server_hello *hello)
{
	if (!body.at)
		return 0;
	if (!wire_read_vector(&body, 2, &hello->cookie) || body.left || !hello->cookie.left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The HelloRetryRequest's cookie is malformed.");
	if (hello->cookie.left > TLS13_COOKIE_MAX)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The HelloRetryRequest's cookie is too long.");
	return 0;
}

/* Takes it apart and checks all that can be checked without knowing what came before. */
int tls13_server_hello_parse(struct tls13 *t, const u8 *message, size_t len,
			     struct tls13_server_hello *hello)
{
	struct wire_reader r = { message + 4, len - 4 };
	struct tls13_extensions found;
	struct wire_reader session_id;
	const u8 *random;
	u8 compression;
	u16 legacy;

	memset(hello, 0, sizeof(*hello));
	if (!wire_read_u16(&r, &legacy) || !wire_take(&r, 32, &random) ||
	    !wire_read_vector(&r, 1, &session_id) || session_id.left > sizeof(t->session_id) ||
	    !wire_read_u16(&r, &hello->suite) || !wire_read_u8(&r, &compression))
		return tls13_fail(t, TLS13_DECODE_ERROR, "The ServerHello is malformed.");
	hello->retry = !memcmp(random, retry_random, sizeof(retry_random));
	/*
	 * The version first: an older ServerHello would fail the rules for extensions, and with a
	 * misleading reason.
	 */
	if (check_version(t, r, random, legacy) ||
	    tls13_extension_parse(t, hello->retry ? TLS13_IN_HELLO_RETRY : TLS13_IN_SERVER_HELLO,
				  &r, &found))
		return -EPROTO;
	if (session_id.left != t->session_id_len ||
	    memcmp(session_id.at, t->session_id, session_id.left))
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The server does not echo the session ID.");
	if (compression || !was_offered(t, hello->suite))
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The server chose a suite or compression that was not offered.");
	if (parse_share(t, found.body[TLS13_EXT_KEY_SHARE], hello) ||
	    parse_psk(t, found.body[TLS13_EXT_PRE_SHARED_KEY], hello))
		return -EPROTO;
	return parse_cookie(t, found.body[TLS13_EXT_COOKIE], hello);
}
