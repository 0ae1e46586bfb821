/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* A chain and key from PEM files for the test peer, and the judgement that the daemon would give. */
#ifndef RIPRAP_TEST_CREDENTIAL_H
#define RIPRAP_TEST_CREDENTIAL_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "../../kernel/tls13/tls13.h"

struct credential {
	u8 chain[16384];
	size_t chain_len;
	EVP_PKEY *key;
	X509_STORE *trust;	/* NULL: any chain will do */
};

/* Any path may be NULL. Exits with a message when a file is no good: this is a test program. */
void credential_load(struct credential *c, const char *chain, const char *key, const char *ca);
void credential_free(struct credential *c);
/* For tls13_config.sign, with the credential as its argument. */
int credential_sign(void *arg, const u8 digest[32], u8 sig[72], size_t *sig_len);
/* 0 and the leaf's point, or the alert that refuses the chain. */
u8 credential_judge(const struct credential *c, const u8 *chain, size_t len, u8 public_key[65]);

#endif
