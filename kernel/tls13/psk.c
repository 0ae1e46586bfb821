// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Resumption by pre-shared key (RFC 8446 sections 4.2.9 and 4.2.11), always
 * together with (EC)DHE. Never uses a PSK whose binder has not been checked.
 */
#include "engine.h"

#define BINDER_MIN	32	/* RFC 8446 section 4.2.11 */

static bool config_has(const struct tls13_config *config, u16 suite)
{
	unsigned int i;

	for (i = 0; i < 3 && config->suites[i]; i++)
		if (config->suites[i] == suite)
			return true;
	return false;
}

/* Whether a PSK is whole and of a suite that this side enables. */
bool tls13_psk_fits(const struct tls13_config *config, const struct tls13_psk *psk)
{
	const struct tls13_suite_info *info = tls13_suite_find(psk->suite);

	return info && config_has(config, psk->suite) && psk->key_len == (size_t)info->hash &&
	       psk->ticket_len <= TLS13_TICKET_MAX;
}

/* The binder over a ClientHello cut off before its binders. */
static int compute_binder(const struct tls13 *t, const u8 *truncated, size_t len, u8 *binder)
{
	enum port_hash hash = tls13_suite_find(t->psk.suite)->hash;
	u8 digest[TLS13_HASH_MAX];
	u8 secret[TLS13_SECRET_MAX], key[TLS13_SECRET_MAX];
	int rc;

	rc = tls13_transcript_hash_with(t, hash, truncated, len, digest);
	if (!rc)
		rc = tls13_schedule_early(hash, &t->psk, secret);
	if (!rc)
		rc = tls13_derive_secret(hash, secret, "res binder", NULL, key);
	if (!rc)
		rc = tls13_finished_mac(hash, key, digest, binder);
	port_wipe(secret, sizeof(secret));
	port_wipe(key, sizeof(key));
	return rc;
}

/*
 * Client: the pre_shared_key extension with room for its one binder. Returns where the binders
 * begin; tls13_psk_write_binder() fills them in once every length before them is final.
 */
size_t tls13_psk_write_identity(struct tls13 *t, struct wire_writer *w)
{
	size_t body = tls13_extension_open(w, TLS13_EXT_PRE_SHARED_KEY);
	size_t list = wire_open_vector(w, 2);
	size_t identity = wire_open_vector(w, 2);
	size_t binders;

	wire_write_bytes(w, t->psk.ticket, t->psk.ticket_len);
	wire_close_vector(w, 2, identity);
	wire_write_uint(w, 4, t->config.psk_age_ms + t->psk.age_add);
	wire_close_vector(w, 2, list);
	binders = w->used;
	wire_write_uint(w, 2, t->psk.key_len + 1u);
	wire_write_uint(w, 1, t->psk.key_len);
	wire_reserve(w, t->psk.key_len);
	tls13_extension_close(w, body);
	return binders;
}

int tls13_psk_write_binder(struct tls13 *t, struct wire_writer *w, size_t message, size_t binders)
{
	size_t mark = message + 1;

	if (w->full)
		return tls13_fail_port(t);
	wire_close_vector(w, 3, mark);
	if (compute_binder(t, w->base + message, binders - message, w->base + binders + 3))
		return tls13_fail_port(t);
	return 0;
}

struct offer {
	struct wire_reader identities;
	struct wire_reader binders;
	size_t truncated;	/* length of the ClientHello up to its binders */
};

static int parse_offer(struct tls13 *t, const struct tls13_client_hello *hello, struct offer *offer)
{
	struct wire_reader body = hello->extensions.body[TLS13_EXT_PRE_SHARED_KEY];
	struct wire_reader rest, item;
	unsigned int identities = 0, binders = 0;
	u32 age;

	if (!wire_read_vector(&body, 2, &offer->identities) || !offer->identities.left)
		goto malformed;
	offer->truncated = hello->len - body.left;
	if (!wire_read_vector(&body, 2, &offer->binders) || body.left || !offer->binders.left)
		goto malformed;
	for (rest = offer->identities; rest.left; identities++)
		if (!wire_read_vector(&rest, 2, &item) || !item.left || !wire_read_u32(&rest, &age))
			goto malformed;
	for (rest = offer->binders; rest.left; binders++)
		if (!wire_read_vector(&rest, 1, &item) || item.left < BINDER_MIN)
			goto malformed;
	if (identities != binders)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The ClientHello has not one binder for each PSK.");
	return 0;
malformed:
	return tls13_fail(t, TLS13_DECODE_ERROR, "The ClientHello's pre_shared_key is malformed.");
}

/* 0 with *chosen, or *chosen negative where no PSK is known or fits. */
static void find_identity(struct tls13 *t, const struct tls13_client_hello *hello,
			  struct wire_reader identities, int *chosen)
{
	struct wire_reader identity;
	u32 age;
	int i;

	*chosen = -1;
	for (i = 0; i < TLS13_IDENTITIES_MAX && identities.left; i++) {
		if (!wire_read_vector(&identities, 2, &identity) ||
		    !wire_read_u32(&identities, &age))
			return;
		memset(&t->psk, 0, sizeof(t->psk));
		if (t->config.find_psk(t->config.arg, identity.at, identity.left, age, &t->psk))
			continue;
		if (!tls13_psk_fits(&t->config, &t->psk) ||
		    !wire_list_holds(hello->suites, t->psk.suite))
			continue;
		/* After a HelloRetryRequest the suite is settled. */
		if (t->hello_retry && tls13_suite_find(t->psk.suite)->hash != t->suite->hash)
			continue;
		*chosen = i;
		return;
	}
	port_wipe(&t->psk, sizeof(t->psk));
}

static int check_binder(struct tls13 *t, const struct tls13_client_hello *hello,
			const struct offer *offer, int chosen)
{
	struct wire_reader rest = offer->binders;
	struct wire_reader binder = { NULL, 0 };
	u8 expected[TLS13_HASH_MAX];
	int i, rc;

	for (i = 0; i <= chosen; i++)
		if (!wire_read_vector(&rest, 1, &binder))
			return tls13_fail_port(t);
	if (compute_binder(t, hello->message, offer->truncated, expected))
		return tls13_fail_port(t);
	rc = binder.left == t->psk.key_len && port_equal(binder.at, expected, binder.left);
	port_wipe(expected, sizeof(expected));
	return rc ? 0 : tls13_fail(t, TLS13_DECRYPT_ERROR, "The PSK binder does not verify.");
}

/* Whether the client takes PSK with (EC)DHE; without it a PSK is as good as none, and so is a ticket. */
int tls13_psk_read_modes(struct tls13 *t, const struct tls13_client_hello *hello)
{
	struct wire_reader body = hello->extensions.body[TLS13_EXT_PSK_MODES];
	struct wire_reader modes;
	u8 mode;

	t->psk_allowed = false;
	if (!body.at)
		return 0;
	if (!wire_read_vector(&body, 1, &modes) || body.left || !modes.left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The ClientHello's psk_key_exchange_modes are malformed.");
	while (wire_read_u8(&modes, &mode))
		t->psk_allowed = t->psk_allowed || mode == TLS13_PSK_DHE_KE;
	return 0;
}

/*
 * Server, after tls13_psk_read_modes(): takes the first known PSK of the offer, if any, and checks
 * its binder. The transcript must not hold this ClientHello yet. Sets t->resumed, t->psk_selected and, unless settled,
 * t->suite.
 */
int tls13_psk_choose(struct tls13 *t, const struct tls13_client_hello *hello)
{
	struct offer offer;
	int chosen;

	if (!tls13_extension_found(&hello->extensions, TLS13_EXT_PRE_SHARED_KEY))
		return 0;
	if (parse_offer(t, hello, &offer))
		return -EPROTO;
	if (!t->psk_allowed || !t->config.find_psk)
		return 0;
	find_identity(t, hello, offer.identities, &chosen);
	if (chosen < 0)
		return 0;
	if (!t->hello_retry)
		t->suite = tls13_suite_find(t->psk.suite);
	if (check_binder(t, hello, &offer, chosen))
		return -EPROTO;
	t->resumed = true;
	t->psk_selected = (u8)chosen;
	return 0;
}
