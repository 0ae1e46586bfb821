/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What the TLS 1.3 engine takes from its surroundings: primitives only. The
 * kernel's are in kernel/tls13_port.c, user space's (OpenSSL) in
 * test/kernel/port_openssl.c. Nothing here is implemented by hand.
 * All return 0 or -errno unless said otherwise; none keeps a pointer.
 */
#ifndef RIPRAP_TLS13_PORT_H
#define RIPRAP_TLS13_PORT_H

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/types.h>
#else
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
#endif

enum port_hash { PORT_SHA256 = 32, PORT_SHA384 = 48 };	/* value: digest bytes */
enum port_aead { PORT_AES_128_GCM, PORT_AES_256_GCM, PORT_CHACHA20_POLY1305 };

/*
 * A running hash in the caller's memory; may be copied by assignment (that is how a transcript is
 * read half way).
 */
struct port_hash_state {
	enum port_hash kind;
	u64 opaque[52];		/* kernel: shash state; user space: SHA256_CTX or SHA512_CTX */
};
int port_hash_init(struct port_hash_state *state, enum port_hash kind);
int port_hash_update(struct port_hash_state *state, const void *data, size_t len);
int port_hash_final(struct port_hash_state *state, u8 *digest);

/*
 * One direction's key. The port may allocate behind `handle`; port_aead_clear() frees and wipes
 * and may be called on a zeroed struct.
 */
struct port_aead_key {
	enum port_aead kind;
	void *handle;
};
int port_aead_set(struct port_aead_key *key, enum port_aead kind, const u8 *secret);
/* In place; `data` has room for 16 tag bytes after len. */
int port_aead_seal(struct port_aead_key *key, const u8 nonce[12], const u8 *aad, size_t aad_len, u8 *data, size_t len);
/* In place; len counts the tag. -EBADMSG when it does not verify. */
int port_aead_open(struct port_aead_key *key, const u8 nonce[12], const u8 *aad, size_t aad_len, u8 *data, size_t len);
void port_aead_clear(struct port_aead_key *key);

/*
 * Key shares. Public: 32 bytes X25519 little-endian, 65 bytes P-256 uncompressed. -EINVAL for a
 * bad or all-zero peer share.
 */
int port_x25519_generate(u8 private_key[32], u8 public_key[32]);
int port_x25519_shared(const u8 private_key[32], const u8 peer[32], u8 secret[32]);
int port_p256_generate(u8 private_key[32], u8 public_key[65]);
int port_p256_shared(const u8 private_key[32], const u8 peer[65], u8 secret[32]);

/*
 * DER ECDSA-Sig-Value over a SHA-256 digest. 0, -EBADMSG (bad encoding), -EKEYREJECTED (does not
 * verify), -EINVAL (bad point).
 */
int port_p256_verify(const u8 public_key[65], const u8 digest[32], const u8 *sig, size_t sig_len);

void port_random(void *data, size_t len);
void port_wipe(void *data, size_t len);
bool port_equal(const void *a, const void *b, size_t len);	/* constant time */

#endif
