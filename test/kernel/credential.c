// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Chains and keys from PEM files, judged by libcrypto: what the daemon does
 * for the module, in the small. Never used outside tests.
 */
#include "credential.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *open_file(const char *path)
{
	FILE *file = fopen(path, "r");

	if (!file) {
		fprintf(stderr, "Cannot open %s\n", path);
		exit(2);
	}
	return file;
}

static void load_chain(struct credential *c, const char *path)
{
	FILE *file = open_file(path);
	X509 *certificate;

	while ((certificate = PEM_read_X509(file, NULL, NULL, NULL))) {
		u8 *at = c->chain + c->chain_len + sizeof(u32);
		u32 len = (u32)i2d_X509(certificate, &at);

		memcpy(c->chain + c->chain_len, &len, sizeof(len));
		c->chain_len += sizeof(len) + len;
		X509_free(certificate);
	}
	fclose(file);
}

void credential_load(struct credential *c, const char *chain, const char *key, const char *ca)
{
	memset(c, 0, sizeof(*c));
	if (chain)
		load_chain(c, chain);
	if (key) {
		FILE *file = open_file(key);

		c->key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
		fclose(file);
	}
	if (ca) {
		c->trust = X509_STORE_new();
		if (X509_STORE_load_file(c->trust, ca) != 1)
			exit(2);
	}
}

void credential_free(struct credential *c)
{
	EVP_PKEY_free(c->key);
	X509_STORE_free(c->trust);
}

int credential_sign(void *arg, const u8 digest[32], u8 sig[72], size_t *sig_len)
{
	struct credential *c = arg;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(c->key, NULL);
	int ok = ctx && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, sig, sig_len, digest, 32) == 1;

	EVP_PKEY_CTX_free(ctx);
	return ok ? 0 : -EIO;
}

static bool read_point(X509 *leaf, u8 public_key[65])
{
	EVP_PKEY *key = X509_get0_pubkey(leaf);
	size_t len = 0;

	return key && EVP_PKEY_base_id(key) == EVP_PKEY_EC &&
	       EVP_PKEY_get_octet_string_param(key, "pub", public_key, 65, &len) == 1 && len == 65;
}

static u8 verify(X509_STORE *trust, X509 *leaf, STACK_OF(X509) *others)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	u8 alert = TLS13_UNKNOWN_CA;

	if (X509_STORE_CTX_init(ctx, trust, leaf, others) == 1 && X509_verify_cert(ctx) == 1)
		alert = 0;
	X509_STORE_CTX_free(ctx);
	return alert;
}

u8 credential_judge(const struct credential *c, const u8 *chain, size_t len, u8 public_key[65])
{
	STACK_OF(X509) *others = sk_X509_new_null();
	X509 *leaf = NULL;
	u8 alert = 0;

	while (len && !alert) {
		const u8 *at = chain + sizeof(u32);
		X509 *certificate;
		u32 size;

		memcpy(&size, chain, sizeof(size));
		certificate = d2i_X509(NULL, &at, size);
		if (!certificate)
			alert = TLS13_BAD_CERTIFICATE;
		else if (!leaf)
			leaf = certificate;
		else
			sk_X509_push(others, certificate);
		chain += sizeof(size) + size;
		len -= sizeof(size) + size;
	}
	if (!alert && !read_point(leaf, public_key))
		alert = TLS13_UNSUPPORTED_CERTIFICATE;
	if (!alert && c->trust)
		alert = verify(c->trust, leaf, others);
	X509_free(leaf);
	sk_X509_pop_free(others, X509_free);
	return alert;
}
