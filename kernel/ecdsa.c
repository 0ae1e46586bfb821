// SPDX-License-Identifier: GPL-2.0
/*
 * P-256 keys, ECDH and ECDSA composed over the kernel's crypto/ecc.c. Never
 * writes field arithmetic, and never keeps a secret past its call.
 */
#include <crypto/ecc_curve.h>
#include <crypto/ecdh.h>
#include <crypto/internal/ecc.h>
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/string.h>

#include "ecdsa.h"

#define DIGITS ECC_CURVE_NIST_P256_DIGITS
#define BYTES 32

/*
 * ecc_make_pub_key() and crypto_ecdh_shared_secret() took the scalar as a
 * big-endian string until 6.10 and take native digits since, with one
 * prototype: no compile probe can tell them apart, riprap_ecdsa_init() does.
 */
static bool scalar_is_big_endian;

static const struct ecc_curve *curve(void)
{
	return ecc_get_curve(ECC_CURVE_NIST_P256);
}

static void to_bytes(u8 out[BYTES], const u64 digits[DIGITS])
{
	u64 swapped[DIGITS];

	ecc_swap_digits(digits, swapped, DIGITS);
	memcpy(out, swapped, BYTES);
	memzero_explicit(swapped, sizeof(swapped));
}

/* The scalar as this kernel's ecc functions want it. */
static void to_kernel(u64 out[DIGITS], const u64 digits[DIGITS])
{
	if (scalar_is_big_endian)
		ecc_swap_digits(digits, out, DIGITS);
	else
		memcpy(out, digits, BYTES);
}

/* scalar * G as big-endian x || y. */
static int multiply_base(u64 point[2 * DIGITS], const u64 scalar[DIGITS])
{
	u64 kernel[DIGITS];
	int err;

	to_kernel(kernel, scalar);
	err = ecc_make_pub_key(ECC_CURVE_NIST_P256, DIGITS, kernel, point);
	memzero_explicit(kernel, sizeof(kernel));
	return err;
}

/*
 * x of scalar * G. Half the work of multiply_base(), whose ecc_make_pub_key()
 * multiplies a second time to test its own result, and with the blinded
 * coordinates that ECDH multiplies in: scalar is a nonce here.
 */
static int multiply_base_x(u64 x[DIGITS], const u64 scalar[DIGITS])
{
	u64 kernel[DIGITS], generator[2 * DIGITS], product[DIGITS];
	int err;

	to_kernel(kernel, scalar);
	ecc_swap_digits(curve()->g.x, generator, DIGITS);
	ecc_swap_digits(curve()->g.y, generator + DIGITS, DIGITS);
	err = crypto_ecdh_shared_secret(ECC_CURVE_NIST_P256, DIGITS, kernel, generator, product);
	if (!err)
		vli_from_be64(x, product, DIGITS);
	memzero_explicit(kernel, sizeof(kernel));
	memzero_explicit(product, sizeof(product));
	return err;
}

static bool is_scalar(const u64 scalar[DIGITS])
{
	return !vli_is_zero(scalar, DIGITS) && vli_cmp(scalar, curve()->n, DIGITS) < 0;
}

/* Uniform in [1, n): n is so near 2^256 that a second try is as good as never needed. */
static void random_scalar(u64 scalar[DIGITS])
{
	do {
		get_random_bytes(scalar, BYTES);
	} while (!is_scalar(scalar));
}

static void multiply_mod_n(u64 out[DIGITS], const u64 a[DIGITS], const u64 b[DIGITS])
{
	u64 product[DIGITS];

	vli_mod_mult_slow(product, a, b, curve()->n, DIGITS);
	memcpy(out, product, BYTES);
	memzero_explicit(product, sizeof(product));
}

/* a + b mod n as a - (n - b): ecc.c exports subtraction only. Both below n. */
static void add_mod_n(u64 out[DIGITS], const u64 a[DIGITS], const u64 b[DIGITS])
{
	const u64 *n = curve()->n;
	u64 t[DIGITS];

	vli_sub(t, n, b, DIGITS);
	if (vli_cmp(a, t, DIGITS) >= 0) {
		vli_sub(out, a, t, DIGITS);
	} else {
		vli_sub(t, t, a, DIGITS);
		vli_sub(out, n, t, DIGITS);
	}
	memzero_explicit(t, sizeof(t));
}

/* The leftmost 256 bits of the digest, below n. */
static void digest_scalar(u64 z[DIGITS], const u8 digest[BYTES])
{
	vli_from_be64(z, digest, DIGITS);
	if (vli_cmp(z, curve()->n, DIGITS) >= 0)
		vli_sub(z, z, curve()->n, DIGITS);
}

static size_t write_integer(u8 *out, const u64 value[DIGITS])
{
	u8 bytes[BYTES];
	size_t skip = 0, sign;

	to_bytes(bytes, value);
	while (skip < BYTES - 1 && !bytes[skip])
		skip++;
	sign = bytes[skip] >> 7;
	out[0] = 0x02;
	out[1] = sign + BYTES - skip;
	out[2] = 0;
	memcpy(out + 2 + sign, bytes + skip, BYTES - skip);
	return 2 + sign + BYTES - skip;
}

static size_t write_signature(u8 *out, const u64 r[DIGITS], const u64 s[DIGITS])
{
	size_t len = 2;

	len += write_integer(out + len, r);
	len += write_integer(out + len, s);
	out[0] = 0x30;
	out[1] = len - 2;
	return len;
}

/* One strict DER INTEGER in [1, n). Bytes used, or -EBADMSG. */
static int read_integer(u64 value[DIGITS], const u8 *in, size_t len)
{
	u8 bytes[BYTES] = { 0 };
	size_t skip, n;

	if (len < 3 || in[0] != 0x02 || !in[1] || in[1] > BYTES + 1 || in[1] > len - 2)
		return -EBADMSG;
	n = in[1];
	if (in[2] & 0x80)
		return -EBADMSG;
	skip = n > 1 && !in[2];
	if ((skip && !(in[3] & 0x80)) || n - skip > BYTES)
		return -EBADMSG;
	memcpy(bytes + BYTES - (n - skip), in + 2 + skip, n - skip);
	vli_from_be64(value, bytes, DIGITS);
	return is_scalar(value) ? 2 + (int)n : -EBADMSG;
}

static int read_signature(u64 r[DIGITS], u64 s[DIGITS], const u8 *sig, size_t len)
{
	int used_r, used_s;

	if (len < 8 || len > RIPRAP_ECDSA_SIGNATURE_MAX || sig[0] != 0x30 || sig[1] != len - 2)
		return -EBADMSG;
	used_r = read_integer(r, sig + 2, len - 2);
	if (used_r < 0)
		return used_r;
	used_s = read_integer(s, sig + 2 + used_r, len - 2 - used_r);
	if (used_s < 0)
		return used_s;
	return 2 + used_r + used_s == len ? 0 : -EBADMSG;
}

/* An uncompressed SEC 1 point on the curve, in native digits. */
static int read_point(u64 x[DIGITS], u64 y[DIGITS], const u8 key[65])
{
	struct ecc_point point = ECC_POINT_INIT(x, y, DIGITS);

	if (key[0] != 0x04)
		return -EINVAL;
	vli_from_be64(x, key + 1, DIGITS);
	vli_from_be64(y, key + 1 + BYTES, DIGITS);
	return ecc_is_pubkey_valid_partial(curve(), &point) ? -EINVAL : 0;
}

static int make_pair(u8 private_key[32], u8 public_key[65])
{
	u64 scalar[DIGITS], point[2 * DIGITS];
	int err;

	random_scalar(scalar);
	err = multiply_base(point, scalar);
	if (!err) {
		to_bytes(private_key, scalar);
		public_key[0] = 0x04;
		memcpy(public_key + 1, point, 2 * BYTES);
	}
	memzero_explicit(scalar, sizeof(scalar));
	return err;
}

/**
 * riprap_ecdsa_generate() - make a P-256 key pair from the kernel's random bytes
 * @private_key: the scalar, big-endian; the caller wipes it
 * @public_key: its point, uncompressed
 *
 * Early after boot it sleeps until the kernel's generator is seeded; every later
 * nonce and blind rests on that.
 *
 * Return: 0, -ERESTARTSYS (a signal, while waiting for the seed), or -errno of
 * ecc_make_pub_key() (-EAGAIN, -ENOMEM).
 */
int riprap_ecdsa_generate(u8 private_key[32], u8 public_key[65])
{
	int err = wait_for_random_bytes();

	return err ?: make_pair(private_key, public_key);
}

/**
 * riprap_ecdsa_derive() - the public key of a private key
 * @private_key: the scalar, big-endian
 * @public_key: its point, uncompressed
 *
 * Return: 0, -EINVAL (not a private key), or -errno of ecc_make_pub_key().
 */
int riprap_ecdsa_derive(const u8 private_key[32], u8 public_key[65])
{
	u64 scalar[DIGITS], point[2 * DIGITS];
	int err = -EINVAL;

	vli_from_be64(scalar, private_key, DIGITS);
	if (is_scalar(scalar))
		err = multiply_base(point, scalar);
	if (!err) {
		public_key[0] = 0x04;
		memcpy(public_key + 1, point, 2 * BYTES);
	}
	memzero_explicit(scalar, sizeof(scalar));
	return err;
}

/*
 * s = k^-1 (z + r d). vli_mod_inv() takes a time that depends on its input, so
 * it is given k times a fresh blind b, and z and d are multiplied by b too.
 */
static void sign_scalar(u64 s[DIGITS], const u64 k[DIGITS], const u64 z[DIGITS], const u64 r[DIGITS],
			const u64 d[DIGITS])
{
	u64 blind[DIGITS], inverse[DIGITS], rd[DIGITS];

	random_scalar(blind);
	multiply_mod_n(inverse, k, blind);
	vli_mod_inv(inverse, inverse, curve()->n, DIGITS);
	multiply_mod_n(rd, d, blind);
	multiply_mod_n(rd, rd, r);
	multiply_mod_n(s, z, blind);
	add_mod_n(s, s, rd);
	multiply_mod_n(s, s, inverse);
	memzero_explicit(blind, sizeof(blind));
	memzero_explicit(inverse, sizeof(inverse));
	memzero_explicit(rd, sizeof(rd));
}

/**
 * riprap_ecdsa_sign() - sign a SHA-256 digest
 * @private_key: the scalar, big-endian
 * @digest: what is signed
 * @sig: a DER ECDSA-Sig-Value
 * @sig_len: its length
 *
 * The nonce is fresh from the kernel's generator for each signature.
 *
 * Return: 0, -EINVAL (not a private key), or -errno of crypto_ecdh_shared_secret().
 */
int riprap_ecdsa_sign(const u8 private_key[32], const u8 digest[32], u8 sig[RIPRAP_ECDSA_SIGNATURE_MAX],
		      size_t *sig_len)
{
	u64 d[DIGITS], k[DIGITS], z[DIGITS], r[DIGITS], s[DIGITS];
	int err = -EINVAL;

	vli_from_be64(d, private_key, DIGITS);
	if (!is_scalar(d))
		goto out_wipe;
	digest_scalar(z, digest);
	do {
		random_scalar(k);
		err = multiply_base_x(r, k);
		if (err)
			goto out_wipe;
		if (vli_cmp(r, curve()->n, DIGITS) >= 0)
			vli_sub(r, r, curve()->n, DIGITS);
		sign_scalar(s, k, z, r, d);
	} while (!is_scalar(r) || !is_scalar(s));
	*sig_len = write_signature(sig, r, s);
out_wipe:
	memzero_explicit(d, sizeof(d));
	memzero_explicit(k, sizeof(k));
	return err;
}

/**
 * riprap_ecdsa_verify() - verify a signature over a SHA-256 digest
 * @public_key: uncompressed point
 * @digest: what was signed
 * @sig: strict DER ECDSA-Sig-Value
 * @sig_len: its length
 *
 * Return: 0, -EBADMSG (not such a DER value), -EKEYREJECTED (does not verify),
 * -EINVAL (@public_key is not a point of the curve).
 */
int riprap_ecdsa_verify(const u8 public_key[65], const u8 digest[32], const u8 *sig, size_t sig_len)
{
	u64 r[DIGITS], s[DIGITS], z[DIGITS], x[DIGITS], y[DIGITS], rx[DIGITS], ry[DIGITS];
	struct ecc_point q = ECC_POINT_INIT(x, y, DIGITS);
	struct ecc_point result = ECC_POINT_INIT(rx, ry, DIGITS);
	int err;

	err = read_signature(r, s, sig, sig_len);
	if (err)
		return err;
	err = read_point(x, y, public_key);
	if (err)
		return err;
	digest_scalar(z, digest);
	vli_mod_inv(s, s, curve()->n, DIGITS);
	multiply_mod_n(z, z, s);
	multiply_mod_n(s, r, s);
	ecc_point_mult_shamir(&result, z, &curve()->g, s, &q, curve());
	if (ecc_point_is_zero(&result))
		return -EKEYREJECTED;
	if (vli_cmp(rx, curve()->n, DIGITS) >= 0)
		vli_sub(rx, rx, curve()->n, DIGITS);
	return vli_cmp(rx, r, DIGITS) ? -EKEYREJECTED : 0;
}

/**
 * riprap_ecdsa_shared() - ECDH
 * @private_key: own scalar, big-endian
 * @peer: the other's point, uncompressed
 * @secret: x of the product, big-endian; the caller wipes it
 *
 * Return: 0, -EINVAL (@peer is not a point of the curve), or -errno of
 * crypto_ecdh_shared_secret().
 */
int riprap_ecdsa_shared(const u8 private_key[32], const u8 peer[65], u8 secret[32])
{
	u64 d[DIGITS], kernel[DIGITS], x[DIGITS], y[DIGITS], point[2 * DIGITS], product[DIGITS];
	int err;

	err = read_point(x, y, peer);
	if (err)
		return err;
	memcpy(point, peer + 1, 2 * BYTES);
	vli_from_be64(d, private_key, DIGITS);
	to_kernel(kernel, d);
	err = crypto_ecdh_shared_secret(ECC_CURVE_NIST_P256, DIGITS, kernel, point, product);
	if (!err)
		memcpy(secret, product, BYTES);
	memzero_explicit(d, sizeof(d));
	memzero_explicit(kernel, sizeof(kernel));
	memzero_explicit(product, sizeof(product));
	return err;
}

/* 2 * G tells the byte order: read the wrong way, the scalar is 2 << 248. */
static int learn_scalar_order(void)
{
	/* x of 2G, SEC 2 section 2.4.2's curve */
	static const u8 double_x[BYTES] = {
		0x7c, 0xf2, 0x7b, 0x18, 0x8d, 0x03, 0x4f, 0x7e, 0x8a, 0x52, 0x38, 0x03, 0x04, 0xb5, 0x1a, 0xc3,
		0xc0, 0x89, 0x69, 0xe2, 0x77, 0xf2, 0x1b, 0x35, 0xa6, 0x0b, 0x48, 0xfc, 0x47, 0x66, 0x99, 0x78,
	};
	const u64 two[DIGITS] = { 2 };
	u64 point[2 * DIGITS];
	int order, err;

	for (order = 0; order < 2; order++) {
		scalar_is_big_endian = order;
		err = multiply_base(point, two);
		if (!err && !memcmp(point, double_x, BYTES))
			return 0;
	}
	return -EOPNOTSUPP;
}

/**
 * riprap_ecdsa_init() - learn this kernel's scalar byte order and test signing
 *
 * Return: 0, -EOPNOTSUPP (no P-256, or it computes something else), -EKEYREJECTED
 * (own signature does not verify, or a forged one does).
 */
int riprap_ecdsa_init(void)
{
	u8 private_key[32], public_key[65], digest[32], sig[RIPRAP_ECDSA_SIGNATURE_MAX];
	size_t sig_len;
	int err;

	if (!curve())
		return -EOPNOTSUPP;
	err = learn_scalar_order();
	if (err)
		return err;
	/* thrown away, so that an unseeded generator is good enough: loading at boot need not wait for it */
	err = make_pair(private_key, public_key);
	if (err)
		return err;
	get_random_bytes(digest, sizeof(digest));
	err = riprap_ecdsa_sign(private_key, digest, sig, &sig_len);
	if (!err)
		err = riprap_ecdsa_verify(public_key, digest, sig, sig_len);
	digest[0] ^= 1;
	if (!err && riprap_ecdsa_verify(public_key, digest, sig, sig_len) != -EKEYREJECTED)
		err = -EKEYREJECTED;
	memzero_explicit(private_key, sizeof(private_key));
	return err;
}
