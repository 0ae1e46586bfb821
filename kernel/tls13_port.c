// SPDX-License-Identifier: GPL-2.0
/*
 * The primitives of tls13/port.h as this kernel has them: shash, AEAD,
 * Curve25519 and P-256. Composes, and implements no cipher of its own.
 */
#include <crypto/aead.h>
#include <crypto/algapi.h>
#include <crypto/curve25519.h>
#include <crypto/hash.h>
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "ecdsa.h"
#include "tls13/port.h"
#include "tls13/tls13.h"
#include "tls13_port.h"

/* The largest record may lie anywhere in vmalloc memory: its pages, one more for the offset, one for the AAD. */
#define SEGMENTS	(TLS13_RECORD_MAX / PAGE_SIZE + 3)
#define AAD_MAX		16
#define TAG		16

static struct crypto_shash *sha256, *sha384;

/* What port_aead_key.handle is. */
struct aead {
	struct crypto_aead *tfm;
	struct aead_request *request;
	struct crypto_wait wait;
	struct scatterlist segment[SEGMENTS];
	u8 nonce[12];
	u8 aad[AAD_MAX];	/* copied: the caller's may be on a stack that scatterlists cannot name */
};

static struct shash_desc *descriptor(struct port_hash_state *state)
{
	BUILD_BUG_ON(__alignof__(struct shash_desc) > __alignof__(u64) && !IS_ALIGNED(offsetof(struct port_hash_state, opaque), 8));
	return (struct shash_desc *)state->opaque;
}

int port_hash_init(struct port_hash_state *state, enum port_hash kind)
{
	state->kind = kind;
	descriptor(state)->tfm = kind == PORT_SHA256 ? sha256 : sha384;
	return crypto_shash_init(descriptor(state));
}

int port_hash_update(struct port_hash_state *state, const void *data, size_t len)
{
	return crypto_shash_update(descriptor(state), data, len);
}

int port_hash_final(struct port_hash_state *state, u8 *digest)
{
	return crypto_shash_final(descriptor(state), digest);
}

int port_aead_set(struct port_aead_key *key, enum port_aead kind, const u8 *secret)
{
	static const struct {
		const char *name;
		unsigned int key_len;
	} algorithm[] = {
		[PORT_AES_128_GCM] = { "gcm(aes)", 16 },
		[PORT_AES_256_GCM] = { "gcm(aes)", 32 },
		[PORT_CHACHA20_POLY1305] = { "rfc7539(chacha20,poly1305)", 32 },
	};
	struct aead *aead;
	int err;

	port_aead_clear(key);
	aead = kzalloc(sizeof(*aead), GFP_KERNEL);
	if (!aead)
		return -ENOMEM;
	aead->tfm = crypto_alloc_aead(algorithm[kind].name, 0, 0);
	if (IS_ERR(aead->tfm)) {
		err = PTR_ERR(aead->tfm);
		goto free_aead;
	}
	err = crypto_aead_setkey(aead->tfm, secret, algorithm[kind].key_len);
	if (!err)
		err = crypto_aead_setauthsize(aead->tfm, TAG);
	if (err)
		goto free_tfm;
	err = -ENOMEM;
	aead->request = aead_request_alloc(aead->tfm, GFP_KERNEL);
	if (!aead->request)
		goto free_tfm;
	aead_request_set_callback(aead->request, CRYPTO_TFM_REQ_MAY_BACKLOG | CRYPTO_TFM_REQ_MAY_SLEEP,
				  crypto_req_done, &aead->wait);
	aead_request_set_ad(aead->request, 0);
	key->kind = kind;
	key->handle = aead;
	return 0;

free_tfm:
	crypto_free_aead(aead->tfm);
free_aead:
	kfree(aead);
	return err;
}

/* AAD, then data of `len` bytes, which may be kmalloc or vmalloc memory. */
static int fill_segments(struct aead *aead, size_t aad_len, u8 *data, size_t len)
{
	unsigned int n = 0, count;

	count = is_vmalloc_addr(data) ? DIV_ROUND_UP(offset_in_page(data) + len, PAGE_SIZE) : 1;
	if (aad_len > AAD_MAX || count + 1 > SEGMENTS)
		return -EMSGSIZE;
	sg_init_table(aead->segment, count + 1);
	sg_set_buf(&aead->segment[n++], aead->aad, aad_len);
	if (!is_vmalloc_addr(data)) {
		sg_set_buf(&aead->segment[n], data, len);
		return 0;
	}
	while (len) {
		size_t part = min_t(size_t, len, PAGE_SIZE - offset_in_page(data));

		sg_set_page(&aead->segment[n++], vmalloc_to_page(data), part, offset_in_page(data));
		data += part;
		len -= part;
	}
	return 0;
}

static int crypt(struct port_aead_key *key, const u8 nonce[12], const u8 *aad, size_t aad_len, u8 *data,
		 size_t len, bool seal)
{
	struct aead *aead = key->handle;
	int err;

	if (!aead || (!seal && len < TAG))
		return -EINVAL;
	err = fill_segments(aead, aad_len, data, seal ? len + TAG : len);
	if (err)
		return err;
	memcpy(aead->aad, aad, aad_len);
	memcpy(aead->nonce, nonce, sizeof(aead->nonce));
	crypto_init_wait(&aead->wait);
	aead_request_set_ad(aead->request, aad_len);
	aead_request_set_crypt(aead->request, aead->segment, aead->segment, len, aead->nonce);
	return crypto_wait_req(seal ? crypto_aead_encrypt(aead->request) : crypto_aead_decrypt(aead->request),
			       &aead->wait);
}

int port_aead_seal(struct port_aead_key *key, const u8 nonce[12], const u8 *aad, size_t aad_len, u8 *data,
		   size_t len)
{
	return crypt(key, nonce, aad, aad_len, data, len, true);
}

int port_aead_open(struct port_aead_key *key, const u8 nonce[12], const u8 *aad, size_t aad_len, u8 *data,
		   size_t len)
{
	return crypt(key, nonce, aad, aad_len, data, len, false);
}

void port_aead_clear(struct port_aead_key *key)
{
	struct aead *aead = key->handle;

	key->handle = NULL;
	if (!aead)
		return;
	aead_request_free(aead->request);
	crypto_free_aead(aead->tfm);
	kfree_sensitive(aead);
}

int port_x25519_generate(u8 private_key[32], u8 public_key[32])
{
	curve25519_generate_secret(private_key);
	return curve25519_generate_public(public_key, private_key) ? 0 : -EINVAL;
}

int port_x25519_shared(const u8 private_key[32], const u8 peer[32], u8 secret[32])
{
	return curve25519(secret, private_key, peer) ? 0 : -EINVAL;
}

int port_p256_generate(u8 private_key[32], u8 public_key[65])
{
	return riprap_ecdsa_generate(private_key, public_key);
}

int port_p256_shared(const u8 private_key[32], const u8 peer[65], u8 secret[32])
{
	return riprap_ecdsa_shared(private_key, peer, secret);
}

int port_p256_verify(const u8 public_key[65], const u8 digest[32], const u8 *sig, size_t sig_len)
{
	return riprap_ecdsa_verify(public_key, digest, sig, sig_len);
}

void port_random(void *data, size_t len)
{
	get_random_bytes(data, len);
}

void port_wipe(void *data, size_t len)
{
	memzero_explicit(data, len);
}

bool port_equal(const void *a, const void *b, size_t len)
{
	return !crypto_memneq(a, b, len);
}

static struct crypto_shash *open_hash(const char *name)
{
	struct crypto_shash *tfm = crypto_alloc_shash(name, 0, 0);
	size_t room = sizeof_field(struct port_hash_state, opaque);

	if (!IS_ERR(tfm) && sizeof(struct shash_desc) + crypto_shash_descsize(tfm) > room) {
		crypto_free_shash(tfm);
		return ERR_PTR(-EOVERFLOW);
	}
	return tfm;
}

/**
 * riprap_crypto_init() - find the hashes and try every AEAD once
 *
 * Return: 0, -ENOENT (this kernel lacks a primitive; named in the log), -ENOMEM,
 * -EOVERFLOW (a hash driver's state does not fit the engine's room for it).
 */
int riprap_crypto_init(void)
{
	struct port_aead_key key = {};
	static const u8 zero[32];
	const char *what = "sha256";
	int err, kind;

	sha256 = open_hash(what);
	if (IS_ERR(sha256)) {
		err = PTR_ERR(sha256);
		goto report;
	}
	what = "sha384";
	sha384 = open_hash(what);
	if (IS_ERR(sha384)) {
		err = PTR_ERR(sha384);
		goto free_sha256;
	}
	for (kind = PORT_AES_128_GCM; kind <= PORT_CHACHA20_POLY1305; kind++) {
		what = kind == PORT_CHACHA20_POLY1305 ? "rfc7539(chacha20,poly1305)" : "gcm(aes)";
		err = port_aead_set(&key, kind, zero);
		port_aead_clear(&key);
		if (err)
			goto free_sha384;
	}
	return 0;

free_sha384:
	crypto_free_shash(sha384);
free_sha256:
	crypto_free_shash(sha256);
report:
	pr_err("riprap: this kernel has no %s (%d)\n", what, err);
	return err;
}

void riprap_crypto_exit(void)
{
	crypto_free_shash(sha384);
	crypto_free_shash(sha256);
}
