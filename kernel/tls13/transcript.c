// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The running hash over all handshake messages (RFC 8446 section 4.4.1).
 * Never keeps a message: what was hashed is gone.
 */
#include "engine.h"

/* Both hashes run until the suite is settled. */
int tls13_transcript_start(struct tls13 *t)
{
	int rc = port_hash_init(&t->transcript, PORT_SHA256);

	if (!rc)
		rc = port_hash_init(&t->transcript_sha384, PORT_SHA384);
	t->transcript_both = true;
	return rc;
}

/* Goes on with the hash of t->suite alone. */
void tls13_transcript_select(struct tls13 *t)
{
	if (!t->transcript_both)
		return;
	if (t->suite->hash == PORT_SHA384)
		t->transcript = t->transcript_sha384;
	port_wipe(&t->transcript_sha384, sizeof(t->transcript_sha384));
	t->transcript_both = false;
}

int tls13_transcript_add(struct tls13 *t, const u8 *message, size_t len)
{
	int rc = port_hash_update(&t->transcript, message, len);

	if (!rc && t->transcript_both)
		rc = port_hash_update(&t->transcript_sha384, message, len);
	return rc ? tls13_fail_port(t) : 0;
}

int tls13_transcript_hash(const struct tls13 *t, u8 *digest)
{
	struct port_hash_state copy = t->transcript;

	return port_hash_final(&copy, digest);
}

/* As if `more` had been added; for binders, where the suite may still be open. */
int tls13_transcript_hash_with(const struct tls13 *t, enum port_hash hash, const u8 *more,
			       size_t len, u8 *digest)
{
	struct port_hash_state copy;
	int rc;

	copy = t->transcript_both && hash == PORT_SHA384 ? t->transcript_sha384 : t->transcript;
	if (copy.kind != hash)
		return -EINVAL;
	rc = port_hash_update(&copy, more, len);
	return rc ? rc : port_hash_final(&copy, digest);
}

/* After a HelloRetryRequest the first ClientHello counts as a message_hash message. */
int tls13_transcript_retry(struct tls13 *t)
{
	u8 message[4 + TLS13_HASH_MAX] = { TLS13_MESSAGE_HASH, 0, 0, (u8)tls13_hash_len(t) };
	int rc;

	rc = port_hash_final(&t->transcript, message + 4);
	if (!rc)
		rc = port_hash_init(&t->transcript, t->suite->hash);
	if (!rc)
		rc = port_hash_update(&t->transcript, message, 4 + tls13_hash_len(t));
	return rc ? tls13_fail_port(t) : 0;
}
