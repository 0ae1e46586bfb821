/* SPDX-License-Identifier: GPL-2.0 */
/*
 * P-256 composed over the kernel's crypto/ecc.c: key pairs, ECDH, and ECDSA
 * (FIPS 186-5, RFC 6979 section 2 notation). No field arithmetic of its own.
 */
#ifndef RIPRAP_ECDSA_H
#define RIPRAP_ECDSA_H

#include <linux/types.h>

#define RIPRAP_ECDSA_SIGNATURE_MAX	72	/* DER of two 33-byte integers */

/*
 * Private keys and secrets are 32 bytes big-endian, public keys 65 bytes uncompressed.
 * All may sleep and take up to a few milliseconds (making a key: until the random generator is seeded); 0 or -errno.
 */
int riprap_ecdsa_generate(u8 private_key[32], u8 public_key[65]);
/* -EINVAL when it is no private key. */
int riprap_ecdsa_derive(const u8 private_key[32], u8 public_key[65]);
int riprap_ecdsa_sign(const u8 private_key[32], const u8 digest[32], u8 sig[RIPRAP_ECDSA_SIGNATURE_MAX],
		      size_t *sig_len);
/* 0, -EBADMSG (not a DER ECDSA-Sig-Value), -EKEYREJECTED (does not verify), -EINVAL (not a point). */
int riprap_ecdsa_verify(const u8 public_key[65], const u8 digest[32], const u8 *sig, size_t sig_len);
/* ECDH: x of private_key * peer. -EINVAL when peer is not a point of the curve. */
int riprap_ecdsa_shared(const u8 private_key[32], const u8 peer[65], u8 secret[32]);

/* Learns this kernel's byte order of private scalars, then signs and verifies once. */
int riprap_ecdsa_init(void);

#endif
