/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A SPIFFE ID with the key and chain that speak for it: immutable once
 * published (a renewal makes a new one), refcounted, the key wiped with the
 * last reference. The private key never leaves this file's .c.
 */
#ifndef RIPRAP_IDENTITY_H
#define RIPRAP_IDENTITY_H

#include <linux/gfp.h>
#include <linux/refcount.h>
#include <linux/types.h>

#include "abi.h"

struct riprap_identity {
	refcount_t ref;
	u64 instance;
	u64 key_id;
	u32 subject;
	s64 not_before, not_after;	/* Unix seconds; 0 until the SVID is installed */
	const char *spiffe_id;		/* NUL-terminated */
	const u8 *chain;		/* as tls13_config.chain; NULL until installed */
	size_t chain_len;
	struct riprap_key_pair *key;
	atomic_t withdrawn;
};

/* Has a chain, is not withdrawn, and now lies in [not_before, not_after). */
bool riprap_identity_is_valid(const struct riprap_identity *identity);
/* As tls13_config.sign, arg = identity. ECDSA P-256 over the kernel's ecc; may sleep. -EKEYREVOKED once withdrawn. */
int riprap_identity_sign(void *identity, const u8 digest[32], u8 sig[72], size_t *sig_len);
void riprap_identity_put(struct riprap_identity *identity);

/* ---- for the process room ---- */

struct riprap_key_pair;		/* refcounted; wiped with the last reference, or by riprap_key_wipe() */

/* A fresh pair. May sleep. ERR_PTR(-ENOMEM), or what riprap_ecdsa_generate() gives. */
struct riprap_key_pair *riprap_key_make(void);
struct riprap_key_pair *riprap_key_get(struct riprap_key_pair *key);
void riprap_key_put(struct riprap_key_pair *key);
void riprap_key_wipe(struct riprap_key_pair *key);	/* any context; signing gives -EKEYREVOKED from here on */
u64 riprap_key_id(const struct riprap_key_pair *key);
const u8 *riprap_key_public(const struct riprap_key_pair *key);

/* Copies the chain and takes a reference on the key; spiffe_id is `id_len` bytes. NULL: no memory. Any context. */
struct riprap_identity *riprap_identity_make(u64 instance, u32 subject, const char *spiffe_id, size_t id_len,
					     struct riprap_key_pair *key, const u8 *chain, size_t chain_len,
					     gfp_t gfp);
struct riprap_identity *riprap_identity_get(struct riprap_identity *identity);
/* It ends now: no signature, and never valid again. */
void riprap_identity_withdraw(struct riprap_identity *identity);

#endif
