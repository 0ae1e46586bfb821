// SPDX-License-Identifier: GPL-2.0
/*
 * Identities and the keys that speak for them. A private key is made here, is
 * used here, and is wiped here; no other file sees one.
 */
#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "device.h"
#include "ecdsa.h"
#include "identity.h"

struct riprap_key_pair {
	refcount_t ref;
	u64 key_id;
	u8 public_key[65];
	spinlock_t lock;	/* private_key, is_wiped */
	bool is_wiped;
	u8 private_key[32];
};

static atomic64_t last_key_id;

/**
 * riprap_key_make() - make a key pair
 *
 * Return: the pair with one reference, or ERR_PTR(-ENOMEM) or of riprap_ecdsa_generate().
 */
struct riprap_key_pair *riprap_key_make(void)
{
	struct riprap_key_pair *key = kzalloc(sizeof(*key), GFP_KERNEL);
	int err;

	if (!key)
		return ERR_PTR(-ENOMEM);
	refcount_set(&key->ref, 1);
	spin_lock_init(&key->lock);
	err = riprap_ecdsa_generate(key->private_key, key->public_key);
	if (err) {
		kfree_sensitive(key);
		return ERR_PTR(err);
	}
	key->key_id = atomic64_inc_return(&last_key_id);
	atomic64_add(sizeof(*key), &riprap_counters.memory_bytes);
	return key;
}

/**
 * riprap_key_get() - one more reference
 * @key: referenced
 *
 * Return: @key.
 */
struct riprap_key_pair *riprap_key_get(struct riprap_key_pair *key)
{
	refcount_inc(&key->ref);
	return key;
}

/**
 * riprap_key_put() - one reference less; the last wipes
 * @key: may be NULL
 */
void riprap_key_put(struct riprap_key_pair *key)
{
	if (!key || !refcount_dec_and_test(&key->ref))
		return;
	atomic64_sub(sizeof(*key), &riprap_counters.memory_bytes);
	kfree_sensitive(key);
}

/**
 * riprap_key_wipe() - forget the private key now, whoever still holds the pair
 * @key: may be NULL
 *
 * A signature under way works on its own copy, and wipes it.
 */
void riprap_key_wipe(struct riprap_key_pair *key)
{
	unsigned long flags;

	if (!key)
		return;
	spin_lock_irqsave(&key->lock, flags);
	key->is_wiped = true;
	memzero_explicit(key->private_key, sizeof(key->private_key));
	spin_unlock_irqrestore(&key->lock, flags);
}

/**
 * riprap_key_id() - the number that KEY and SVID frames name it by
 * @key: the pair
 *
 * Return: unique until the module is unloaded.
 */
u64 riprap_key_id(const struct riprap_key_pair *key)
{
	return key->key_id;
}

/**
 * riprap_key_public() - the public half
 * @key: the pair
 *
 * Return: 65 bytes, an uncompressed point.
 */
const u8 *riprap_key_public(const struct riprap_key_pair *key)
{
	return key->public_key;
}

/**
 * riprap_identity_make() - bind a SPIFFE ID, a key and a chain
 * @instance: whose
 * @subject: its number in the rule table
 * @spiffe_id: not NUL-terminated
 * @id_len: its length
 * @key: gets a reference
 * @chain: as tls13_config.chain; copied
 * @chain_len: its length
 * @gfp: how to allocate
 *
 * Return: the identity with one reference and not_before and not_after unset, or NULL.
 */
struct riprap_identity *riprap_identity_make(u64 instance, u32 subject, const char *spiffe_id, size_t id_len,
					     struct riprap_key_pair *key, const u8 *chain, size_t chain_len,
					     gfp_t gfp)
{
	struct riprap_identity *identity = kzalloc(sizeof(*identity), gfp);
	u8 *chain_copy = kmemdup(chain, chain_len, gfp);
	char *id_copy = kmemdup_nul(spiffe_id, id_len, gfp);

	if (!identity || !chain_copy || !id_copy) {
		kfree(identity);
		kfree(chain_copy);
		kfree(id_copy);
		return NULL;
	}
	refcount_set(&identity->ref, 1);
	identity->instance = instance;
	identity->subject = subject;
	identity->spiffe_id = id_copy;
	identity->chain = chain_copy;
	identity->chain_len = chain_len;
	identity->key = riprap_key_get(key);
	identity->key_id = key->key_id;
	atomic64_add(sizeof(*identity) + chain_len + id_len + 1, &riprap_counters.memory_bytes);
	return identity;
}

/**
 * riprap_identity_get() - one more reference
 * @identity: referenced
 *
 * Return: @identity.
 */
struct riprap_identity *riprap_identity_get(struct riprap_identity *identity)
{
	refcount_inc(&identity->ref);
	return identity;
}

/**
 * riprap_identity_put() - one reference less; the last frees it, and its key if no other identity has it
 * @identity: may be NULL
 */
void riprap_identity_put(struct riprap_identity *identity)
{
	if (!identity || !refcount_dec_and_test(&identity->ref))
		return;
	atomic64_sub(sizeof(*identity) + identity->chain_len + strlen(identity->spiffe_id) + 1,
		     &riprap_counters.memory_bytes);
	riprap_key_put(identity->key);
	kfree(identity->chain);
	kfree(identity->spiffe_id);
	kfree(identity);
}

/**
 * riprap_identity_withdraw() - end it now
 * @identity: may be NULL
 */
void riprap_identity_withdraw(struct riprap_identity *identity)
{
	if (!identity)
		return;
	atomic_set(&identity->withdrawn, 1);
	riprap_key_wipe(identity->key);
}

/**
 * riprap_identity_is_valid() - may it speak now
 * @identity: any
 *
 * Return: true if it has a chain, is not withdrawn, and its time is now.
 */
bool riprap_identity_is_valid(const struct riprap_identity *identity)
{
	s64 now = ktime_get_real_seconds();

	return identity->chain && !atomic_read(&identity->withdrawn) &&
	       now >= identity->not_before && now < identity->not_after;
}

/**
 * riprap_identity_sign() - sign a SHA-256 digest with the identity's key
 * @arg: struct riprap_identity
 * @digest: what is signed
 * @sig: a DER ECDSA-Sig-Value
 * @sig_len: its length
 *
 * May sleep, and takes about a millisecond.
 *
 * Return: 0, -EKEYREVOKED (withdrawn), or of riprap_ecdsa_sign().
 */
int riprap_identity_sign(void *arg, const u8 digest[32], u8 sig[72], size_t *sig_len)
{
	struct riprap_identity *identity = arg;
	struct riprap_key_pair *key = identity->key;
	u8 private_key[32];
	unsigned long flags;
	bool is_wiped;
	int err;

	spin_lock_irqsave(&key->lock, flags);
	is_wiped = key->is_wiped || atomic_read(&identity->withdrawn);
	if (!is_wiped)
		memcpy(private_key, key->private_key, sizeof(private_key));
	spin_unlock_irqrestore(&key->lock, flags);
	if (is_wiped)
		return -EKEYREVOKED;
	err = riprap_ecdsa_sign(private_key, digest, sig, sig_len);
	memzero_explicit(private_key, sizeof(private_key));
	return err;
}
