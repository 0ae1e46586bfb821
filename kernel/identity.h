/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A SPIFFE ID with the key and chain that speak for it: immutable once
 * published (a renewal makes a new one), refcounted, the key wiped with the
 * last reference. The private key never leaves this file's .c.
 */
#ifndef RIPRAP_IDENTITY_H
#define RIPRAP_IDENTITY_H

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

#endif
