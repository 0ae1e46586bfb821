// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The key schedule of RFC 8446 section 7 over HKDF (RFC 5869) and HMAC
 * (RFC 2104). Never hashes a message: it takes transcript hashes as they are.
 */
#include "engine.h"

static size_t hash_block(enum port_hash hash)
{
	return hash == PORT_SHA384 ? 128 : 64;
}

/* One side of HMAC: H((key ^ pad) || data). Keys here are never longer than a block. */
static int hmac_half(enum port_hash hash, const u8 *key, size_t key_len, u8 pad, const void *data,
		     size_t len, u8 *digest)
{
	struct port_hash_state state;
	u8 block[128];
	size_t i;
	int rc;

	memset(block, pad, sizeof(block));
	for (i = 0; i < key_len; i++)
		block[i] ^= key[i];
	rc = port_hash_init(&state, hash);
	if (!rc)
		rc = port_hash_update(&state, block, hash_block(hash));
	if (!rc && len)
		rc = port_hash_update(&state, data, len);
	if (!rc)
		rc = port_hash_final(&state, digest);
	port_wipe(block, sizeof(block));
	port_wipe(&state, sizeof(state));
	return rc;
}

int tls13_hmac(enum port_hash hash, const u8 *key, size_t key_len, const void *data, size_t len,
	       u8 *mac)
{
	u8 inner[TLS13_HASH_MAX];
	int rc;

	if (key_len > hash_block(hash))
		return -EINVAL;
	rc = hmac_half(hash, key, key_len, 0x36, data, len, inner);
	if (!rc)
		rc = hmac_half(hash, key, key_len, 0x5c, inner, (size_t)hash, mac);
	port_wipe(inner, sizeof(inner));
	return rc;
}

/* HKDF-Expand-Label. TLS 1.3 never asks for more than one hash length, so T(1) is all there is. */
int tls13_expand_label(enum port_hash hash, const u8 *secret, const char *label, const u8 *context,
		       size_t context_len, u8 *out, size_t len)
{
	u8 info[2 + 1 + 6 + 12 + 1 + TLS13_HASH_MAX + 1];
	struct wire_writer w = { .base = info, .size = sizeof(info) };
	u8 block[TLS13_HASH_MAX];
	size_t mark;
	int rc;

	if (len > (size_t)hash)
		return -EINVAL;
	wire_write_uint(&w, 2, (u32)len);
	mark = wire_open_vector(&w, 1);
	wire_write_bytes(&w, "tls13 ", 6);
	while (*label)
		wire_write_bytes(&w, label++, 1);
	wire_close_vector(&w, 1, mark);
	mark = wire_open_vector(&w, 1);
	wire_write_bytes(&w, context, context_len);
	wire_close_vector(&w, 1, mark);
	wire_write_uint(&w, 1, 1);
	if (w.full)
		return -EINVAL;
	rc = tls13_hmac(hash, secret, (size_t)hash, info, w.used, block);
	if (!rc)
		memcpy(out, block, len);
	port_wipe(block, sizeof(block));
	return rc;
}

static int hash_empty(enum port_hash hash, u8 *digest)
{
	struct port_hash_state state;
	int rc = port_hash_init(&state, hash);

	return rc ? rc : port_hash_final(&state, digest);
}

/* Derive-Secret; `digest` NULL stands for the hash of no messages. */
int tls13_derive_secret(enum port_hash hash, const u8 *secret, const char *label, const u8 *digest,
			u8 *out)
{
	u8 empty[TLS13_HASH_MAX];
	int rc = 0;

	if (!digest)
		rc = hash_empty(hash, empty);
	if (rc)
		return rc;
	return tls13_expand_label(hash, secret, label, digest ? digest : empty, (size_t)hash, out,
				  (size_t)hash);
}

/* HKDF-Extract(0, PSK), or of zeros where there is none. */
int tls13_schedule_early(enum port_hash hash, const struct tls13_psk *psk, u8 *secret)
{
	static const u8 zero[TLS13_HASH_MAX];

	return tls13_hmac(hash, zero, (size_t)hash, psk ? psk->key : zero,
			  psk ? psk->key_len : (size_t)hash, secret);
}

/* The step down: secret = HKDF-Extract(Derive-Secret(secret, "derived", ""), input). */
static int schedule_next(enum port_hash hash, u8 *secret, const u8 *input, size_t len)
{
	u8 salt[TLS13_HASH_MAX];
	int rc;

	rc = tls13_derive_secret(hash, secret, "derived", NULL, salt);
	if (!rc)
		rc = tls13_hmac(hash, salt, (size_t)hash, input, len, secret);
	port_wipe(salt, sizeof(salt));
	return rc;
}

/*
 * Both handshake traffic secrets, from the transcript up to ServerHello, the shared secret and the
 * PSK; wipes those two.
 */
int tls13_schedule_handshake(struct tls13 *t)
{
	enum port_hash hash = t->suite->hash;
	u8 digest[TLS13_HASH_MAX];
	int rc;

	rc = tls13_schedule_early(hash, t->resumed ? &t->psk : NULL, t->secret);
	if (!rc)
		rc = schedule_next(hash, t->secret, t->shared, sizeof(t->shared));
	if (!rc)
		rc = tls13_transcript_hash(t, digest);
	if (!rc)
		rc = tls13_derive_secret(hash, t->secret, "c hs traffic", digest,
					 t->client_handshake);
	if (!rc)
		rc = tls13_derive_secret(hash, t->secret, "s hs traffic", digest,
					 t->server_handshake);
	port_wipe(t->shared, sizeof(t->shared));
	port_wipe(&t->psk, sizeof(t->psk));
	return rc ? tls13_fail_port(t) : 0;
}

/* With the transcript up to the server's Finished. */
int tls13_schedule_application(struct tls13 *t)
{
	static const u8 zero[TLS13_HASH_MAX];
	enum port_hash hash = t->suite->hash;
	u8 digest[TLS13_HASH_MAX];
	int rc;

	rc = schedule_next(hash, t->secret, zero, (size_t)hash);
	if (!rc)
		rc = tls13_transcript_hash(t, digest);
	if (!rc)
		rc = tls13_derive_secret(hash, t->secret, "c ap traffic", digest,
					 t->client_application);
	if (!rc)
		rc = tls13_derive_secret(hash, t->secret, "s ap traffic", digest,
					 t->server_application);
	return rc;
}

/*
 * With the transcript up to the client's Finished; nothing but traffic and resumption is left
 * afterwards.
 */
int tls13_schedule_resumption(struct tls13 *t)
{
	u8 digest[TLS13_HASH_MAX];
	int rc;

	rc = tls13_transcript_hash(t, digest);
	if (!rc)
		rc = tls13_derive_secret(t->suite->hash, t->secret, "res master", digest,
					 t->resumption);
	port_wipe(t->secret, sizeof(t->secret));
	port_wipe(t->client_handshake, sizeof(t->client_handshake));
	port_wipe(t->server_handshake, sizeof(t->server_handshake));
	return rc;
}

/* Section 7.3. */
int tls13_schedule_traffic(const struct tls13_suite_info *suite, const u8 *secret,
			   struct tls13_traffic *traffic)
{
	int rc;

	memset(traffic, 0, sizeof(*traffic));
	traffic->suite = suite->suite;
	traffic->key_len = suite->key_len;
	rc = tls13_expand_label(suite->hash, secret, "key", NULL, 0, traffic->key, suite->key_len);
	if (!rc)
		rc = tls13_expand_label(suite->hash, secret, "iv", NULL, 0, traffic->iv,
					sizeof(traffic->iv));
	if (rc)
		port_wipe(traffic, sizeof(*traffic));
	return rc;
}
