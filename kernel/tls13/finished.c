// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Finished (RFC 8446 section 4.4.4): one side's proof that it saw the same
 * handshake. Never compares in variable time.
 */
#include "engine.h"

/* HMAC(HKDF-Expand-Label(secret, "finished", "", Hash.length), digest); a binder is the same. */
int tls13_finished_mac(enum port_hash hash, const u8 *secret, const u8 *digest, u8 *mac)
{
	u8 key[TLS13_HASH_MAX];
	int rc;

	rc = tls13_expand_label(hash, secret, "finished", NULL, 0, key, (size_t)hash);
	if (!rc)
		rc = tls13_hmac(hash, key, (size_t)hash, digest, (size_t)hash, mac);
	port_wipe(key, sizeof(key));
	return rc;
}

static int compute(struct tls13 *t, bool by_server, u8 *mac)
{
	u8 digest[TLS13_HASH_MAX];
	int rc = tls13_transcript_hash(t, digest);

	if (!rc)
		rc = tls13_finished_mac(t->suite->hash,
					by_server ? t->server_handshake : t->client_handshake,
					digest, mac);
	return rc;
}

int tls13_finished_send(struct tls13 *t, struct wire_writer *w)
{
	u8 mac[TLS13_HASH_MAX];
	size_t message;

	if (compute(t, t->config.server, mac))
		return tls13_fail_port(t);
	message = tls13_message_open(w, TLS13_FINISHED);
	wire_write_bytes(w, mac, tls13_hash_len(t));
	return tls13_message_close(t, w, message);
}

int tls13_finished_receive(struct tls13 *t, const u8 *message, size_t len)
{
	u8 mac[TLS13_HASH_MAX];
	bool good;

	if (len != 4 + tls13_hash_len(t))
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The peer's Finished has the wrong length.");
	if (compute(t, !t->config.server, mac))
		return tls13_fail_port(t);
	good = port_equal(mac, message + 4, tls13_hash_len(t));
	port_wipe(mac, sizeof(mac));
	if (!good)
		return tls13_fail(t, TLS13_DECRYPT_ERROR, "The peer's Finished does not verify.");
	return tls13_transcript_add(t, message, len);
}
