// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Two engines joined by memory: moves records, opens and seals them again for
 * a hook, judges chains. Never random.
 */
#include "pair.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/obj_mac.h>
#include <stdio.h>
#include <stdlib.h>

void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "not so: %s\n", what);
	exit(1);
}

static EC_KEY *keys[2];
static BIGNUM *inverse_nonce, *nonce_x;

/* A key for each side and one ECDSA nonce for all: fit for tests alone. */
static void make_keys(void)
{
	EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	EC_POINT *point = EC_POINT_new(group);
	BN_CTX *ctx = BN_CTX_new();
	BIGNUM *scalar = BN_new();

	for (int i = 0; i < 2; i++) {
		BN_set_word(scalar, 0x10001u + (unsigned int)i);
		keys[i] = EC_KEY_new();
		EC_KEY_set_group(keys[i], group);
		EC_POINT_mul(group, point, scalar, NULL, NULL, ctx);
		EC_KEY_set_private_key(keys[i], scalar);
		EC_KEY_set_public_key(keys[i], point);
	}
	BN_set_word(scalar, 0x123457u);
	EC_POINT_mul(group, point, scalar, NULL, NULL, ctx);
	nonce_x = BN_new();
	EC_POINT_get_affine_coordinates(group, point, nonce_x, NULL, ctx);
	inverse_nonce = BN_mod_inverse(NULL, scalar, EC_GROUP_get0_order(group), ctx);
	BN_free(scalar);
	BN_CTX_free(ctx);
	EC_POINT_free(point);
	EC_GROUP_free(group);
}

struct signer {
	struct pair *pair;
	int side;
};

static struct signer signers[2];

static int sign(void *arg, const u8 digest[32], u8 sig[72], size_t *sig_len)
{
	struct signer *s = arg;
	u8 copy[32], *at = sig;
	ECDSA_SIG *made;

	memcpy(copy, digest, 32);
	if (s->pair->wrong_digest[s->side])
		copy[5] ^= 1;
	made = ECDSA_do_sign_ex(copy, 32, inverse_nonce, nonce_x, keys[s->side]);
	if (!made)
		return -EIO;
	*sig_len = (size_t)i2d_ECDSA_SIG(made, &at);
	ECDSA_SIG_free(made);
	return 0;
}

static int find_psk(void *arg, const u8 *ticket, size_t len, u32 age, struct tls13_psk *psk)
{
	struct pair *p = ((struct signer *)arg)->pair;

	(void)age;
	p->find_calls++;
	for (unsigned int i = 0; i < p->ticket_count; i++) {
		if (p->tickets[i].ticket_len == len && !memcmp(p->tickets[i].ticket, ticket, len)) {
			*psk = p->tickets[i];
			return 0;
		}
	}
	return -ENOENT;
}

void pair_open(struct pair *p)
{
	memset(p, 0, sizeof(*p));
	if (!keys[0])
		make_keys();
	port_test.seeded = true;
	port_test.counter = 0;
	for (int i = 0; i < 2; i++) {
		struct tls13_config *c = &p->config[i];
		u32 len = i == SERVER ? 48 : 40;

		EC_POINT_point2oct(EC_KEY_get0_group(keys[i]), EC_KEY_get0_public_key(keys[i]),
				   POINT_CONVERSION_UNCOMPRESSED, p->public_key[i], 65, NULL);
		memcpy(p->chain[i], &len, sizeof(len));
		memset(p->chain[i] + 4, i == SERVER ? 's' : 'c', len);
		signers[i] = (struct signer){ p, i };
		c->server = i == SERVER;
		c->chain = p->chain[i];
		c->chain_len = 4 + len;
		c->sign = sign;
		c->find_psk = find_psk;
		c->arg = &signers[i];
		c->alpn = "riprap/1";
		c->suites[0] = TLS13_AES_128_GCM_SHA256;
		c->suites[1] = TLS13_AES_256_GCM_SHA384;
		c->suites[2] = TLS13_CHACHA20_POLY1305_SHA256;
		c->groups[0] = TLS13_X25519;
		c->groups[1] = TLS13_SECP256R1;
		c->mutual = true;
	}
}

void pair_start(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		if (!p->side[i])
			p->side[i] = calloc(1, tls13_size());
		tls13_wipe(p->side[i]);
		check(!tls13_start(p->side[i], &p->config[i]), "a good configuration starts");
		p->status[i] = TLS13_READ;
	}
}

void pair_close(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		if (p->side[i])
			tls13_wipe(p->side[i]);
		free(p->side[i]);
		p->side[i] = NULL;
	}
}

static void answer_verify(struct pair *p, int to)
{
	u8 key[65];
	unsigned int certs;
	size_t len;
	const u8 *chain = tls13_peer_chain(p->side[to], &len, &certs);
	const struct tls13_config *peer = &p->config[!to];

	/* With a hook the chain may be anything; without one it must come as it was sent. */
	if (!p->hook && !p->record_hook)
		check(len == peer->chain_len && !memcmp(chain, peer->chain, len), "the chain arrives as it was sent");
	memcpy(key, p->public_key[p->wrong_key[to] ? to : !to], sizeof(key));
	p->status[to] = p->refuse[to] ? tls13_refuse(p->side[to], p->refuse[to]) :
					tls13_peer_accepted(p->side[to], key);
}

void pair_give(struct pair *p, int to, const u8 *record, size_t len)
{
	u8 *copy = malloc(len);	/* exact, so that a sanitizer sees a step too far */
	u8 alert = 0;
	int said;

	memcpy(copy, record, len);
	said = len < TLS13_RECORD_HEADER ? 0 : tls13_record_length(p->side[to], copy, &alert);
	if (said < 0)
		p->status[to] = tls13_refuse(p->side[to], alert);
	else if ((size_t)said + TLS13_RECORD_HEADER == len)
		p->status[to] = tls13_input(p->side[to], copy, len);
	/* Else a reader of the socket would wait for the rest, or have begun the next record. */
	free(copy);
	if (p->status[to] == TLS13_VERIFY)
		answer_verify(p, to);
}

static void nonce_of(const u8 *iv, u64 sequence, u8 nonce[12])
{
	memcpy(nonce, iv, 12);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (u8)(sequence >> (56 - 8 * i));
}

void pair_give_message(struct pair *p, int to, u8 content, const u8 *message, size_t len)
{
	static u8 record[TLS13_RECORD_HEADER + TLS13_RECORD_MAX];
	struct tls13_direction *d = &p->side[to]->read;
	size_t whole = len + (d->on ? 17 : 0);
	u8 nonce[12];

	check(whole <= TLS13_RECORD_MAX, "the harness's record is not too long");
	memcpy(record + 5, message, len);
	record[0] = d->on ? 23 : content;
	record[1] = record[2] = 3;
	record[3] = (u8)(whole >> 8);
	record[4] = (u8)whole;
	if (d->on) {
		record[5 + len] = content;
		nonce_of(d->iv, d->sequence, nonce);
		port_aead_seal(&d->key, nonce, record, 5, record + 5, len + 1);
	}
	pair_give(p, to, record, 5 + whole);
}

/* Through the hook, then in pieces of p->piece. */
static void pass_message(struct pair *p, int to, const u8 *message, size_t len)
{
	static u8 copy[TLS13_MESSAGE_MAX + TLS13_PLAINTEXT_MAX];
	size_t piece;

	memcpy(copy, message, len);
	if (p->hook)
		p->hook(p, to, copy, &len);
	p->messages++;
	for (size_t at = 0; at < len && p->status[to] == TLS13_READ; at += piece) {
		piece = p->piece && p->piece < len - at ? p->piece : len - at;
		if (piece > TLS13_PLAINTEXT_MAX)
			piece = TLS13_PLAINTEXT_MAX;
		pair_give_message(p, to, TLS13_HANDSHAKE, copy + at, piece);
	}
}

static void pass_messages(struct pair *p, int to, const u8 *data, size_t len)
{
	while (len >= 4 && p->status[to] == TLS13_READ) {
		size_t whole = 4 + ((size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3]);

		check(whole <= len, "the sender's messages are whole");
		pass_message(p, to, data, whole);
		data += whole;
		len -= whole;
	}
}

static void pass_sealed(struct pair *p, int to, u8 *record, size_t len)
{
	struct tls13_direction *d = &p->side[to]->read;
	size_t inner = len - 5 - 17;
	u8 nonce[12];

	if (!d->on) {
		pair_give(p, to, record, len);
		return;
	}
	if (memcmp(p->opened[to].iv, d->iv, 12)) {
		memcpy(p->opened[to].iv, d->iv, 12);
		p->opened[to].sequence = 0;
	}
	nonce_of(d->iv, p->opened[to].sequence++, nonce);
	if (port_aead_open(&d->key, nonce, record, 5, record + 5, len - 5)) {
		/* The two sides no longer agree: the receiver is to find that out for itself. */
		pair_give(p, to, record, len);
		return;
	}
	if (record[5 + inner] == TLS13_HANDSHAKE)
		pass_messages(p, to, record + 5, inner);
	else
		pair_give_message(p, to, record[5 + inner], record + 5, inner);
}

static void pass_record(struct pair *p, int to, u8 *record, size_t len)
{
	p->records++;
	if (p->record_hook)
		p->record_hook(p, to, record, &len);
	if (!len)
		return;
	if (!p->message_mode)
		pair_give(p, to, record, len);
	else if (record[0] == TLS13_HANDSHAKE)
		pass_messages(p, to, record + 5, len - 5);
	else if (record[0] == TLS13_APPLICATION_DATA)
		pass_sealed(p, to, record, len);
	else
		pair_give(p, to, record, len);
}

static bool pass_output(struct pair *p, int from)
{
	static u8 record[TLS13_RECORD_HEADER + TLS13_RECORD_MAX + 64];
	size_t waiting, len;
	const u8 *out = tls13_output(p->side[from], &waiting);

	if (!waiting)
		return false;
	len = 5 + ((size_t)out[3] << 8 | out[4]);
	check(len <= waiting && len <= sizeof(record) - 64, "output is whole records");
	memcpy(record, out, len);
	tls13_sent(p->side[from], len);
	if (p->status[!from] == TLS13_READ)
		pass_record(p, !from, record, len);
	return true;
}

void pair_run(struct pair *p)
{
	bool moved;
	unsigned int rounds = 0;

	do {
		moved = pass_output(p, CLIENT);
		moved = pass_output(p, SERVER) || moved;
		check(++rounds < 10000, "the handshake comes to an end");
	} while (moved);
}

struct tls13_psk pair_ticket(struct pair *p)
{
	static const u8 nonce[8] = { 1, 2, 3 };
	struct tls13_after client, server;
	struct tls13_psk *kept = &p->tickets[p->ticket_count++];
	struct tls13_psk psk;
	u8 message[512], ticket[32];
	int len;

	tls13_after(p->side[CLIENT], &client);
	tls13_after(p->side[SERVER], &server);
	port_random(ticket, sizeof(ticket));
	len = tls13_write_ticket(&server, ticket, sizeof(ticket), 600, 0x01020304, nonce, message, sizeof(message), kept);
	check(len > 0, "a ticket is written");
	check(!tls13_read_ticket(&client, message, (size_t)len, &psk), "a ticket is read");
	check(!memcmp(&psk, kept, sizeof(psk)), "both sides hold the same PSK");
	return psk;
}

static bool is_zero(const void *data, size_t len)
{
	const u8 *at = data;

	while (len--)
		if (*at++)
			return false;
	return true;
}

void check_wiped(const struct pair *p, int side)
{
	const struct tls13 *t = p->side[side];

	check(is_zero(&t->read, sizeof(t->read)) && is_zero(&t->write, sizeof(t->write)), "record keys are wiped");
	check(is_zero(&t->psk, sizeof(t->psk)) && is_zero(t->private_key, 32) &&
	      is_zero(t->shared, 32), "PSK, private key and shared secret are wiped");
	check(is_zero(t->secret, TLS13_SECRET_MAX) && is_zero(t->client_handshake, TLS13_SECRET_MAX) &&
	      is_zero(t->server_handshake, TLS13_SECRET_MAX), "handshake secrets are wiped");
	if (p->status[side] == TLS13_FAILED)
		check(is_zero(t->client_application, TLS13_SECRET_MAX) && is_zero(t->resumption, TLS13_SECRET_MAX) &&
		      is_zero(t->server_application, TLS13_SECRET_MAX), "application secrets are wiped");
}

void check_failed(const struct pair *p, int side, u8 alert)
{
	struct tls13_result r;

	tls13_result(p->side[side], &r);
	if (p->status[side] != TLS13_FAILED || r.alert != alert || r.alert_received || !r.error)
		fprintf(stderr, "status %d alert %u received %d: %s\n", p->status[side], r.alert, r.alert_received,
			r.error ? r.error : "no error");
	check(p->status[side] == TLS13_FAILED && r.alert == alert && !r.alert_received && r.error, "it fails as expected");
	check_wiped(p, side);
}

void check_done(const struct pair *p)
{
	struct tls13_traffic a, b;
	struct tls13_result r;

	for (int i = 0; i < 2; i++) {
		tls13_result(p->side[i], &r);
		if (p->status[i] != TLS13_DONE)
			fprintf(stderr, "side %d: status %d alert %u: %s\n", i, p->status[i], r.alert, r.error ? r.error : "");
		check(p->status[i] == TLS13_DONE, "the handshake is done");
		check_wiped(p, i);
		tls13_traffic_keys(p->side[i], true, &a);
		tls13_traffic_keys(p->side[!i], false, &b);
		check(!memcmp(&a, &b, sizeof(a)) && a.key_len, "both sides hold the same traffic keys");
	}
}
