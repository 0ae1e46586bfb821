// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * ClientHello (RFC 8446 section 4.1.2): a client's is written, a server's is
 * taken apart and held against the rules for its shape. Chooses nothing.
 */
#include "engine.h"

static void write_versions(struct wire_writer *w)
{
	size_t body = tls13_extension_open(w, TLS13_EXT_SUPPORTED_VERSIONS);

	wire_write_uint(w, 1, 2);
	wire_write_uint(w, 2, TLS13_VERSION);
	tls13_extension_close(w, body);
}

static void write_groups(const struct tls13 *t, struct wire_writer *w)
{
	size_t body = tls13_extension_open(w, TLS13_EXT_SUPPORTED_GROUPS);
	size_t list = wire_open_vector(w, 2);
	unsigned int i;

	for (i = 0; i < 2 && t->config.groups[i]; i++)
		wire_write_uint(w, 2, t->config.groups[i]);
	wire_close_vector(w, 2, list);
	tls13_extension_close(w, body);
}

static void write_share(const struct tls13 *t, struct wire_writer *w)
{
	size_t body = tls13_extension_open(w, TLS13_EXT_KEY_SHARE);
	size_t list = wire_open_vector(w, 2);
	size_t share;

	wire_write_uint(w, 2, t->group);
	share = wire_open_vector(w, 2);
	wire_write_bytes(w, t->public_key, tls13_key_share_len(t->group));
	wire_close_vector(w, 2, share);
	wire_close_vector(w, 2, list);
	tls13_extension_close(w, body);
}

static void write_psk_modes(struct wire_writer *w)
{
	size_t body = tls13_extension_open(w, TLS13_EXT_PSK_MODES);

	wire_write_uint(w, 1, 1);
	wire_write_uint(w, 1, TLS13_PSK_DHE_KE);
	tls13_extension_close(w, body);
}

static void write_cookie(struct wire_writer *w, const struct wire_reader *cookie)
{
	size_t body = tls13_extension_open(w, TLS13_EXT_COOKIE);
	size_t value = wire_open_vector(w, 2);

	wire_write_bytes(w, cookie->at, cookie->left);
	wire_close_vector(w, 2, value);
	tls13_extension_close(w, body);
}

static void write_legacy_fields(const struct tls13 *t, struct wire_writer *w)
{
	size_t mark;
	unsigned int i;

	wire_write_uint(w, 2, TLS13_LEGACY_VERSION);
	wire_write_bytes(w, t->random, sizeof(t->random));
	mark = wire_open_vector(w, 1);
	wire_write_bytes(w, t->session_id, t->session_id_len);
	wire_close_vector(w, 1, mark);
	mark = wire_open_vector(w, 2);
	for (i = 0; i < 3 && t->config.suites[i]; i++)
		wire_write_uint(w, 2, t->config.suites[i]);
	wire_close_vector(w, 2, mark);
	wire_write_uint(w, 2, 0x0100);	/* legacy_compression_methods: null alone */
}

/* The first one, or with t->hello_retry the second, which may have to echo a cookie. */
int tls13_client_hello_send(struct tls13 *t, const struct wire_reader *cookie)
{
	struct wire_writer w;
	size_t message, extensions;

	tls13_record_open(t, &w);
	message = tls13_message_open(&w, TLS13_CLIENT_HELLO);
	write_legacy_fields(t, &w);
	extensions = wire_open_vector(&w, 2);
	write_versions(&w);
	write_groups(t, &w);
	tls13_extension_write_signatures(&w);
	write_share(t, &w);
	write_psk_modes(&w);
	if (t->config.alpn)
		tls13_extension_write_alpn(t, &w);
	if (cookie && cookie->at)
		write_cookie(&w, cookie);
	if (t->psk_offered) {
		size_t binders = tls13_psk_write_identity(t, &w);

		wire_close_vector(&w, 2, extensions);
		if (tls13_psk_write_binder(t, &w, message, binders))
			return -EPROTO;
	} else {
		wire_close_vector(&w, 2, extensions);
	}
	if (tls13_message_close(t, &w, message))
		return -EPROTO;
	return tls13_record_close(t, &w, TLS13_HANDSHAKE);
}

static bool list_offers_version(struct wire_reader body, bool *malformed)
{
	struct wire_reader list;

	*malformed = !wire_read_vector(&body, 1, &list) || body.left || !list.left || list.left % 2;
	return !*malformed && wire_list_holds(list, TLS13_VERSION);
}

/*
 * supported_versions first: what is no TLS 1.3 is told so, whatever else is odd about it.
 * legacy_version says nothing beside it (section 4.2.1), unless it is that of SSL 3.0 (D.5).
 */
static int check_version(struct tls13 *t, const struct tls13_client_hello *hello)
{
	struct wire_reader body = hello->extensions.body[TLS13_EXT_SUPPORTED_VERSIONS];
	bool malformed;

	if (!body.at)
		return tls13_fail(t, TLS13_PROTOCOL_VERSION, "The client does not offer TLS 1.3.");
	if (!list_offers_version(body, &malformed))
		return malformed ? tls13_fail(t, TLS13_DECODE_ERROR,
					      "The ClientHello's supported_versions are malformed.")
				 : tls13_fail(t, TLS13_PROTOCOL_VERSION,
					      "The client does not offer TLS 1.3.");
	return 0;
}

static int check_extensions(struct tls13 *t, const struct tls13_client_hello *hello)
{
	const struct tls13_extensions *found = &hello->extensions;

	if (tls13_extension_found(found, TLS13_EXT_PRE_SHARED_KEY)) {
		if (!found->psk_last)
			return tls13_fail(
				t, TLS13_ILLEGAL_PARAMETER,
				"The ClientHello's pre_shared_key is not its last extension.");
		if (!tls13_extension_found(found, TLS13_EXT_PSK_MODES))
			return tls13_fail(
				t, TLS13_MISSING_EXTENSION,
				"The ClientHello has a PSK without psk_key_exchange_modes.");
	}
	/* No HelloRetryRequest of ours carries a cookie. */
	if (tls13_extension_found(found, TLS13_EXT_COOKIE))
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The ClientHello echoes a cookie that was never sent.");
	if (!tls13_extension_found(found, TLS13_EXT_EARLY_DATA))
		return 0;
	if (found->body[TLS13_EXT_EARLY_DATA].left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The ClientHello's early_data is not empty.");
	if (t->hello_retry || !tls13_extension_found(found, TLS13_EXT_PRE_SHARED_KEY))
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The ClientHello announces early data where it may not.");
	return 0;
}

/* Takes it apart; the parts borrow the message. */
int tls13_client_hello_parse(struct tls13 *t, const u8 *message, size_t len,
			     struct tls13_client_hello *hello)
{
	struct wire_reader r = { message + 4, len - 4 };
	struct wire_reader compression;
	const u8 *random;
	u16 legacy;

	memset(hello, 0, sizeof(*hello));
	hello->message = message;
	hello->len = len;
	if (!wire_read_u16(&r, &legacy) || !wire_take(&r, 32, &random) ||
	    !wire_read_vector(&r, 1, &hello->session_id) ||
	    hello->session_id.left > sizeof(t->session_id) ||
	    !wire_read_vector(&r, 2, &hello->suites) || !hello->suites.left ||
	    hello->suites.left % 2 || !wire_read_vector(&r, 1, &compression) || !compression.left)
		return tls13_fail(t, TLS13_DECODE_ERROR, "The ClientHello is malformed.");
	hello->prefix_len = len - r.left;
	if (legacy <= TLS13_SSL3)
		return tls13_fail(t, TLS13_PROTOCOL_VERSION, "The client offers SSL 3.0.");
	/* Before TLS 1.3 there could be none at all. */
	if (!r.left)
		return tls13_fail(t, TLS13_PROTOCOL_VERSION, "The client does not offer TLS 1.3.");
	if (tls13_extension_parse(t, TLS13_IN_CLIENT_HELLO, &r, &hello->extensions) ||
	    check_version(t, hello))
		return -EPROTO;
	if (compression.left != 1 || compression.at[0])
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The ClientHello offers compression.");
	return check_extensions(t, hello);
}

static int digest_hello(const struct tls13_client_hello *hello, u8 digest[32])
{
	static const enum tls13_extension kept[] = {
		TLS13_EXT_SUPPORTED_VERSIONS,
		TLS13_EXT_SUPPORTED_GROUPS,
		TLS13_EXT_SIGNATURE_ALGORITHMS,
		TLS13_EXT_ALPN,
		TLS13_EXT_PSK_MODES,
	};
	struct port_hash_state state;
	size_t i;
	int rc;

	rc = port_hash_init(&state, PORT_SHA256);
	if (!rc)
		rc = port_hash_update(&state, hello->message + 4, hello->prefix_len - 4);
	for (i = 0; !rc && i < sizeof(kept) / sizeof(kept[0]); i++) {
		struct wire_reader body = hello->extensions.body[kept[i]];
		u8 head[3] = { body.at ? 1 : 0, (u8)(body.left >> 8), (u8)body.left };

		rc = port_hash_update(&state, head, sizeof(head));
		if (!rc && body.left)
			rc = port_hash_update(&state, body.at, body.left);
	}
	return rc ? rc : port_hash_final(&state, digest);
}

int tls13_client_hello_remember(struct tls13 *t, const struct tls13_client_hello *hello)
{
	return digest_hello(hello, t->hello_digest) ? tls13_fail_port(t) : 0;
}

/*
 * Section 4.1.2: the second ClientHello repeats the first in all that the engine reads but share,
 * PSK and early data.
 */
int tls13_client_hello_compare(struct tls13 *t, const struct tls13_client_hello *hello)
{
	u8 digest[32];

	if (digest_hello(hello, digest))
		return tls13_fail_port(t);
	if (memcmp(digest, t->hello_digest, sizeof(digest)))
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The second ClientHello differs from the first.");
	return 0;
}
