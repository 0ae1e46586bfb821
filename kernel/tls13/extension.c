// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Which extension may stand where (RFC 8446 section 4.2), and the small bodies
 * that several messages share. Never reads the body of one it does not need.
 */
#include "engine.h"

#define EXTENSIONS_MAX	64	/* in one message; a browser's ClientHello has about twenty */

/* The columns of the standard's table, short enough for a row. */
enum {
	CH	= TLS13_IN_CLIENT_HELLO,
	SH	= TLS13_IN_SERVER_HELLO,
	HRR	= TLS13_IN_HELLO_RETRY,
	EE	= TLS13_IN_ENCRYPTED,
	CT	= TLS13_IN_CERTIFICATE,
	CR	= TLS13_IN_CERTIFICATE_REQUEST,
	NST	= TLS13_IN_TICKET,
};

static const struct {
	u16 type;
	u8 places;
} known[] = {
	[TLS13_EXT_SUPPORTED_GROUPS]	 = { 10, CH | EE },
	[TLS13_EXT_SIGNATURE_ALGORITHMS] = { 13, CH | CR },
	[TLS13_EXT_ALPN]		 = { 16, CH | EE },
	[TLS13_EXT_PRE_SHARED_KEY]	 = { 41, CH | SH },
	[TLS13_EXT_EARLY_DATA]		 = { 42, CH | EE | NST },
	[TLS13_EXT_SUPPORTED_VERSIONS]	 = { 43, CH | SH | HRR },
	[TLS13_EXT_COOKIE]		 = { 44, CH | HRR },
	[TLS13_EXT_PSK_MODES]		 = { 45, CH },
	[TLS13_EXT_KEY_SHARE]		 = { 51, CH | SH | HRR },
	/* Recognised only so that they are refused in the wrong place. */
	{ 0,  CH | EE },	/* server_name */
	{ 1,  CH | EE },	/* max_fragment_length */
	{ 5,  CH | CR | CT },	/* status_request */
	{ 14, CH | EE },	/* use_srtp */
	{ 15, CH | EE },	/* heartbeat */
	{ 18, CH | CR | CT },	/* signed_certificate_timestamp */
	{ 19, CH | EE },	/* client_certificate_type */
	{ 20, CH | EE },	/* server_certificate_type */
	{ 21, CH },		/* padding */
	{ 47, CH | CR },	/* certificate_authorities */
	{ 48, CR },		/* oid_filters */
	{ 49, CH },		/* post_handshake_auth */
	{ 50, CH | CR },	/* signature_algorithms_cert */
};

#define KNOWN	(sizeof(known) / sizeof(known[0]))

/* In answers only what was asked for may stand; the rest of the table is about requests. */
static bool is_answer(enum tls13_place place)
{
	return place & (SH | HRR | EE | CT);
}

static bool was_offered(const struct tls13 *t, enum tls13_place place, size_t index)
{
	if (place == TLS13_IN_CERTIFICATE)
		return false;
	switch (index) {
	case TLS13_EXT_SUPPORTED_GROUPS:
	case TLS13_EXT_SUPPORTED_VERSIONS:
	case TLS13_EXT_KEY_SHARE:
		return true;
	case TLS13_EXT_COOKIE:
		return place == TLS13_IN_HELLO_RETRY;	/* the one answer that needs no question */
	case TLS13_EXT_ALPN:
		return t->config.alpn;
	case TLS13_EXT_PRE_SHARED_KEY:
		return t->psk_offered;
	default:
		return false;
	}
}

static int take_one(struct tls13 *t, enum tls13_place place, u16 type, struct wire_reader body,
		    struct tls13_extensions *found)
{
	size_t i;

	for (i = 0; i < KNOWN && known[i].type != type; i++)
		;
	if (i < KNOWN && !(known[i].places & place))
		return tls13_fail(
			t, TLS13_ILLEGAL_PARAMETER,
			"The peer sent an extension in a message where it may not stand.");
	if (is_answer(place) && !was_offered(t, place, i))
		return tls13_fail(t, TLS13_UNSUPPORTED_EXTENSION,
				  "The peer answered with an extension that was not offered.");
	if (i < TLS13_EXT_READ)
		found->body[i] = body;
	found->psk_last = i == TLS13_EXT_PRE_SHARED_KEY;
	return 0;
}

/* Takes the extension block that ends the message. */
int tls13_extension_parse(struct tls13 *t, enum tls13_place place, struct wire_reader *message,
			  struct tls13_extensions *found)
{
	struct wire_reader list, body;
	u16 seen[EXTENSIONS_MAX];
	unsigned int count = 0, i;
	u16 type;

	memset(found, 0, sizeof(*found));
	if (!wire_read_vector(message, 2, &list) || message->left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The peer's extensions do not fill their message.");
	while (list.left) {
		if (!wire_read_u16(&list, &type) || !wire_read_vector(&list, 2, &body))
			return tls13_fail(t, TLS13_DECODE_ERROR,
					  "The peer's extensions are malformed.");
		if (count == EXTENSIONS_MAX)
			return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
					  "The peer sent too many extensions.");
		for (i = 0; i < count; i++)
			if (seen[i] == type)
				return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
						  "The peer sent an extension twice.");
		seen[count++] = type;
		if (take_one(t, place, type, body, found))
			return -EPROTO;
	}
	return 0;
}

/* Looks for one extension in a block of which nothing is known yet; checks nothing else. */
bool tls13_extension_find(struct wire_reader message, enum tls13_extension extension,
			  struct wire_reader *body)
{
	struct wire_reader list;
	u16 type;

	if (!wire_read_vector(&message, 2, &list))
		return false;
	while (wire_read_u16(&list, &type) && wire_read_vector(&list, 2, body))
		if (type == known[extension].type)
			return true;
	return false;
}

size_t tls13_extension_open(struct wire_writer *w, enum tls13_extension extension)
{
	wire_write_uint(w, 2, known[extension].type);
	return wire_open_vector(w, 2);
}

void tls13_extension_close(struct wire_writer *w, size_t mark)
{
	wire_close_vector(w, 2, mark);
}

/*
 * signature_algorithms, for CertificateVerify: one. signature_algorithms_cert: whatever a CA may
 * have signed a chain with, because the chain is judged elsewhere.
 */
void tls13_extension_write_signatures(struct wire_writer *w)
{
	static const u16 chain[] = {
		TLS13_ECDSA_P256_SHA256, 0x0503, 0x0603,	/* and P-384, P-521 */
		0x0807,						/* ed25519 */
		0x0804, 0x0805, 0x0806,				/* rsa_pss_rsae_* */
		0x0401, 0x0501, 0x0601,				/* rsa_pkcs1_* */
	};
	size_t body = tls13_extension_open(w, TLS13_EXT_SIGNATURE_ALGORITHMS);
	size_t list = wire_open_vector(w, 2);
	size_t i;

	wire_write_uint(w, 2, TLS13_ECDSA_P256_SHA256);
	wire_close_vector(w, 2, list);
	tls13_extension_close(w, body);

	wire_write_uint(w, 2, 50);
	body = wire_open_vector(w, 2);
	list = wire_open_vector(w, 2);
	for (i = 0; i < sizeof(chain) / sizeof(chain[0]); i++)
		wire_write_uint(w, 2, chain[i]);
	wire_close_vector(w, 2, list);
	wire_close_vector(w, 2, body);
}

static bool is_our_alpn(const struct tls13 *t, const struct wire_reader *name)
{
	size_t len = strlen(t->config.alpn);

	return name->left == len && !memcmp(name->at, t->config.alpn, len);
}

/*
 * RFC 7301. A server looks for its own protocol in the list; a client's answer is exactly the one
 * offered.
 */
int tls13_extension_read_alpn(struct tls13 *t, struct wire_reader body)
{
	struct wire_reader list, name;
	bool ours = false;

	if (!body.at || !t->config.alpn)
		return 0;
	if (!wire_read_vector(&body, 2, &list) || body.left || !list.left)
		return tls13_fail(t, TLS13_DECODE_ERROR, "The peer's ALPN list is malformed.");
	while (list.left) {
		if (!wire_read_vector(&list, 1, &name) || !name.left)
			return tls13_fail(t, TLS13_DECODE_ERROR,
					  "The peer's ALPN list is malformed.");
		if (!t->config.server && (list.left || !is_our_alpn(t, &name)))
			return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
					  "The server chose a protocol that was not offered.");
		ours = ours || is_our_alpn(t, &name);
	}
	if (!ours)
		return tls13_fail(t, TLS13_NO_APPLICATION_PROTOCOL,
				  "The client offers other application protocols only.");
	memcpy(t->alpn, t->config.alpn, strlen(t->config.alpn) + 1);
	return 0;
}

void tls13_extension_write_alpn(struct tls13 *t, struct wire_writer *w)
{
	size_t body = tls13_extension_open(w, TLS13_EXT_ALPN);
	size_t list = wire_open_vector(w, 2);
	size_t name = wire_open_vector(w, 1);

	wire_write_bytes(w, t->config.alpn, strlen(t->config.alpn));
	wire_close_vector(w, 1, name);
	wire_close_vector(w, 2, list);
	tls13_extension_close(w, body);
}
