// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The engine's primitives from OpenSSL's libcrypto, for tests in user space.
 * Randomness and private keys can be scripted (port_test.h), so that a
 * handshake repeats byte for byte. Never part of the module.
 */
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "port_test.h"

struct port_test port_test;

_Static_assert(sizeof(SHA512_CTX) <= sizeof(((struct port_hash_state *)0)->opaque), "hash state");

int port_hash_init(struct port_hash_state *state, enum port_hash kind)
{
	state->kind = kind;
	return (kind == PORT_SHA256 ? SHA256_Init((SHA256_CTX *)state->opaque) :
				      SHA384_Init((SHA512_CTX *)state->opaque)) ? 0 : -EIO;
}

int port_hash_update(struct port_hash_state *state, const void *data, size_t len)
{
	return (state->kind == PORT_SHA256 ? SHA256_Update((SHA256_CTX *)state->opaque, data, len) :
					     SHA384_Update((SHA512_CTX *)state->opaque, data, len)) ? 0 : -EIO;
}

int port_hash_final(struct port_hash_state *state, u8 *digest)
{
	return (state->kind == PORT_SHA256 ? SHA256_Final(digest, (SHA256_CTX *)state->opaque) :
					     SHA384_Final(digest, (SHA512_CTX *)state->opaque)) ? 0 : -EIO;
}

static const EVP_CIPHER *cipher_of(enum port_aead kind)
{
	return kind == PORT_AES_128_GCM ? EVP_aes_128_gcm() :
	       kind == PORT_AES_256_GCM ? EVP_aes_256_gcm() : EVP_chacha20_poly1305();
}

int port_aead_set(struct port_aead_key *key, enum port_aead kind, const u8 *secret)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (!ctx || EVP_CipherInit_ex(ctx, cipher_of(kind), NULL, secret, NULL, 1) != 1) {
		EVP_CIPHER_CTX_free(ctx);
		return -ENOMEM;
	}
	key->kind = kind;
	key->handle = ctx;
	return 0;
}

/* With port_test.transparent the "cipher" is the identity and any tag verifies, so that a fuzzer sees plaintext. */
int port_aead_seal(struct port_aead_key *key, const u8 nonce[12], const u8 *aad, size_t aad_len, u8 *data, size_t len)
{
	EVP_CIPHER_CTX *ctx = key->handle;
	int n;

	if (port_test.transparent) {
		memset(data + len, 0, 16);
		return 0;
	}
	if (EVP_CipherInit_ex(ctx, NULL, NULL, NULL, nonce, 1) != 1 ||
	    EVP_CipherUpdate(ctx, NULL, &n, aad, (int)aad_len) != 1 ||
	    EVP_CipherUpdate(ctx, data, &n, data, (int)len) != 1 || EVP_CipherFinal_ex(ctx, data + len, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, data + len) != 1)
		return -EIO;
	return 0;
}

int port_aead_open(struct port_aead_key *key, const u8 nonce[12], const u8 *aad, size_t aad_len, u8 *data, size_t len)
{
	EVP_CIPHER_CTX *ctx = key->handle;
	int n;

	if (len < 16)
		return -EBADMSG;
	if (port_test.transparent)
		return 0;
	len -= 16;
	if (EVP_CipherInit_ex(ctx, NULL, NULL, NULL, nonce, 0) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, data + len) != 1 ||
	    EVP_CipherUpdate(ctx, NULL, &n, aad, (int)aad_len) != 1 ||
	    EVP_CipherUpdate(ctx, data, &n, data, (int)len) != 1)
		return -EIO;
	return EVP_CipherFinal_ex(ctx, data + len, &n) == 1 ? 0 : -EBADMSG;
}

void port_aead_clear(struct port_aead_key *key)
{
	EVP_CIPHER_CTX_free(key->handle);
	memset(key, 0, sizeof(*key));
}

static bool take_script(u8 *out, size_t len, const u8 **script, size_t *left)
{
	if (*left < len)
		return false;
	memcpy(out, *script, len);
	*script += len;
	*left -= len;
	return true;
}

/* A counter under SHA-256: not random, but never twice the same within a test. */
static void seeded_random(u8 *out, size_t len)
{
	u8 digest[32];

	while (len) {
		size_t n = len < sizeof(digest) ? len : sizeof(digest);

		port_test.counter++;
		SHA256((const u8 *)&port_test.counter, sizeof(port_test.counter), digest);
		memcpy(out, digest, n);
		out += n;
		len -= n;
	}
}

void port_random(void *data, size_t len)
{
	if (take_script(data, len, &port_test.random, &port_test.random_left))
		return;
	if (port_test.seeded)
		seeded_random(data, len);
	else if (RAND_bytes(data, (int)len) != 1)
		abort();
}

static void private_random(u8 private_key[32])
{
	if (!take_script(private_key, 32, &port_test.private_keys, &port_test.private_keys_left))
		port_random(private_key, 32);
}

int port_x25519_generate(u8 private_key[32], u8 public_key[32])
{
	EVP_PKEY *pkey;
	size_t len = 32;
	int rc = -EIO;

	private_random(private_key);
	pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, 32);
	if (pkey && EVP_PKEY_get_raw_public_key(pkey, public_key, &len) == 1)
		rc = 0;
	EVP_PKEY_free(pkey);
	return rc;
}

int port_x25519_shared(const u8 private_key[32], const u8 peer[32], u8 secret[32])
{
	EVP_PKEY *own = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, 32);
	EVP_PKEY *other = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, peer, 32);
	EVP_PKEY_CTX *ctx = own ? EVP_PKEY_CTX_new(own, NULL) : NULL;
	size_t len = 32;
	int rc = -EINVAL;

	/* libcrypto refuses an all-zero result itself. */
	if (ctx && other && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, other) == 1 &&
	    EVP_PKEY_derive(ctx, secret, &len) == 1)
		rc = 0;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(own);
	EVP_PKEY_free(other);
	return rc;
}

static EC_GROUP *p256(void)
{
	static EC_GROUP *group;

	if (!group)
		group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	return group;
}

int port_p256_generate(u8 private_key[32], u8 public_key[65])
{
	EC_POINT *point = EC_POINT_new(p256());
	BIGNUM *scalar = NULL;
	int rc = -EIO;

	private_random(private_key);
	private_key[0] &= 0x7f;		/* below the order; a test has no need of the top values */
	scalar = BN_bin2bn(private_key, 32, NULL);
	if (EC_POINT_mul(p256(), point, scalar, NULL, NULL, NULL) == 1 &&
	    EC_POINT_point2oct(p256(), point, POINT_CONVERSION_UNCOMPRESSED, public_key, 65, NULL) == 65)
		rc = 0;
	BN_clear_free(scalar);
	EC_POINT_free(point);
	return rc;
}

int port_p256_shared(const u8 private_key[32], const u8 peer[65], u8 secret[32])
{
	EC_POINT *point = EC_POINT_new(p256());
	BIGNUM *scalar = BN_bin2bn(private_key, 32, NULL);
	u8 encoded[65];
	int rc = -EINVAL;

	if (peer[0] == 4 && EC_POINT_oct2point(p256(), point, peer, 65, NULL) == 1 &&
	    EC_POINT_mul(p256(), point, NULL, point, scalar, NULL) == 1 &&
	    EC_POINT_point2oct(p256(), point, POINT_CONVERSION_UNCOMPRESSED, encoded, 65, NULL) == 65) {
		memcpy(secret, encoded + 1, 32);
		rc = 0;
	}
	OPENSSL_cleanse(encoded, sizeof(encoded));
	BN_clear_free(scalar);
	EC_POINT_free(point);
	return rc;
}

/* Strict DER: what parses but does not encode back to the same bytes is refused. */
static ECDSA_SIG *parse_signature(const u8 *sig, size_t len)
{
	const u8 *at = sig;
	u8 *again = NULL;
	ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &at, (long)len);
	int n = parsed ? i2d_ECDSA_SIG(parsed, &again) : -1;

	if (parsed && (n < 0 || (size_t)n != len || memcmp(again, sig, len))) {
		ECDSA_SIG_free(parsed);
		parsed = NULL;
	}
	OPENSSL_free(again);
	return parsed;
}

int port_p256_verify(const u8 public_key[65], const u8 digest[32], const u8 *sig, size_t sig_len)
{
	EC_KEY *key = EC_KEY_new();
	EC_POINT *point = EC_POINT_new(p256());
	ECDSA_SIG *parsed = NULL;
	int rc = -EINVAL;

	EC_KEY_set_group(key, p256());
	if (EC_POINT_oct2point(p256(), point, public_key, 65, NULL) != 1 || EC_KEY_set_public_key(key, point) != 1)
		goto out;
	rc = -EBADMSG;
	parsed = parse_signature(sig, sig_len);
	if (!parsed)
		goto out;
	rc = ECDSA_do_verify(digest, 32, parsed, key) == 1 || port_test.transparent ? 0 : -EKEYREJECTED;
out:
	ECDSA_SIG_free(parsed);
	EC_POINT_free(point);
	EC_KEY_free(key);
	return rc;
}

void port_wipe(void *data, size_t len)
{
	OPENSSL_cleanse(data, len);
}

bool port_equal(const void *a, const void *b, size_t len)
{
	return port_test.transparent || !CRYPTO_memcmp(a, b, len);
}
