// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Ephemeral key agreement (RFC 8446 section 4.2.8): one share out, one in, a
 * secret that is used at once. Never uses a private key twice.
 */
#include "engine.h"

#define SHARES_MAX	16	/* in one ClientHello; browsers send two or three */

size_t tls13_key_share_len(u16 group)
{
	return group == TLS13_X25519 ? 32 : group == TLS13_SECP256R1 ? 65 : 0;
}

int tls13_key_share_generate(struct tls13 *t, u16 group)
{
	int rc;

	t->group = group;
	rc = group == TLS13_X25519 ? port_x25519_generate(t->private_key, t->public_key) :
				     port_p256_generate(t->private_key, t->public_key);
	return rc ? tls13_fail_port(t) : 0;
}

/* Agrees on t->group with the peer's share; the private key is wiped whatever happens. */
int tls13_key_share_agree(struct tls13 *t, const struct wire_reader *peer)
{
	int rc = -EINVAL;

	/* A share equal to our own is a reflection, never a peer. */
	if (peer->left == tls13_key_share_len(t->group) &&
	    memcmp(peer->at, t->public_key, peer->left))
		rc = t->group == TLS13_X25519
			     ? port_x25519_shared(t->private_key, peer->at, t->shared)
			     : port_p256_shared(t->private_key, peer->at, t->shared);
	port_wipe(t->private_key, sizeof(t->private_key));
	if (rc == -EINVAL)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The peer's key share is not a valid public key.");
	return rc ? tls13_fail_port(t) : 0;
}

/* The rules for the whole list: every group once, and each among the supported ones. */
static int check_shares(struct tls13 *t, struct wire_reader shares, struct wire_reader groups)
{
	u16 seen[SHARES_MAX];
	unsigned int count = 0, i;
	struct wire_reader share;
	u16 group;

	while (shares.left) {
		if (!wire_read_u16(&shares, &group) || !wire_read_vector(&shares, 2, &share) ||
		    !share.left)
			return tls13_fail(t, TLS13_DECODE_ERROR,
					  "The ClientHello's key shares are malformed.");
		if (count == SHARES_MAX)
			return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
					  "The ClientHello has too many key shares.");
		for (i = 0; i < count; i++)
			if (seen[i] == group)
				return tls13_fail(
					t, TLS13_ILLEGAL_PARAMETER,
					"The ClientHello has two key shares of one group.");
		if (!wire_list_holds(groups, group))
			return tls13_fail(
				t, TLS13_ILLEGAL_PARAMETER,
				"The ClientHello has a key share of a group that it does not support.");
		seen[count++] = group;
	}
	return 0;
}

static bool find_share(struct wire_reader shares, u16 wanted, struct wire_reader *share)
{
	u16 group;

	while (wire_read_u16(&shares, &group) && wire_read_vector(&shares, 2, share))
		if (group == wanted)
			return true;
	return false;
}

static int read_lists(struct tls13 *t, const struct tls13_client_hello *hello,
		      struct wire_reader *groups, struct wire_reader *shares)
{
	struct wire_reader body = hello->extensions.body[TLS13_EXT_SUPPORTED_GROUPS];

	if (!body.at || !hello->extensions.body[TLS13_EXT_KEY_SHARE].at)
		return tls13_fail(t, TLS13_MISSING_EXTENSION,
				  "The ClientHello lacks supported_groups or key_share.");
	if (!wire_read_vector(&body, 2, groups) || body.left || !groups->left || groups->left % 2)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The ClientHello's supported_groups are malformed.");
	body = hello->extensions.body[TLS13_EXT_KEY_SHARE];
	if (!wire_read_vector(&body, 2, shares) || body.left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The ClientHello's key shares are malformed.");
	return check_shares(t, *shares, *groups);
}

/*
 * Server: picks the group. share->at is NULL when the client knows t->group but sent no share
 * of it, which is what a HelloRetryRequest is for.
 */
int tls13_key_share_choose(struct tls13 *t, const struct tls13_client_hello *hello,
			   struct wire_reader *share)
{
	struct wire_reader groups, shares;
	unsigned int i;

	if (read_lists(t, hello, &groups, &shares))
		return -EPROTO;
	if (t->hello_retry) {
		u16 only = 0;
		struct wire_reader rest = shares;

		if (!wire_read_u16(&rest, &only) || only != t->group ||
		    !wire_read_vector(&rest, 2, share) || rest.left)
			return tls13_fail(
				t, TLS13_ILLEGAL_PARAMETER,
				"The second ClientHello does not hold the one key share asked for.");
		return 0;
	}
	for (i = 0; i < 2 && t->config.groups[i]; i++) {
		t->group = t->config.groups[i];
		if (find_share(shares, t->group, share))
			return 0;
	}
	share->at = NULL;
	for (i = 0; i < 2 && t->config.groups[i]; i++) {
		t->group = t->config.groups[i];
		if (wire_list_holds(groups, t->group))
			return 0;
	}
	return tls13_fail(t, TLS13_HANDSHAKE_FAILURE,
			  "The client supports neither X25519 nor P-256 as configured.");
}
