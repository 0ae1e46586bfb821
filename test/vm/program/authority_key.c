/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of the node's CA through /dev/riprap, as the daemon uses them and as
 * nobody may.
 *
 *	authority_key		all cases; a line "signed POINT DIGEST SIGNATURE" for whoever can
 *				verify it; "authority_key: N passed, N failed" at the end
 *	authority_key time N	nanoseconds of one signature, over N of them
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../../kernel/abi.h"

#define CHECK(condition) check_at(__LINE__, condition, #condition)

static int device, passed, failed;

static void check_at(int line, bool is_good, const char *what)
{
	if (!is_good)
		printf("FAIL line %d: %s: errno %d\n", line, what, errno);
	passed += is_good;
	failed += !is_good;
}

static void device_open(void)
{
	device = open("/dev/riprap", O_RDWR | O_CLOEXEC);
	if (device >= 0)
		return;
	printf("FAIL cannot open /dev/riprap: %s\n", strerror(errno));
	exit(1);
}

/* RFC 6979 appendix A.2.5: a P-256 key pair */
static const uint8_t SCALAR[32] = {
	0xc9, 0xaf, 0xa9, 0xd8, 0x45, 0xba, 0x75, 0x16, 0x6b, 0x5c, 0x21, 0x57, 0x67, 0xb1, 0xd6, 0x93,
	0x4e, 0x50, 0xc3, 0xdb, 0x36, 0xe8, 0x9b, 0x12, 0x7b, 0x8a, 0x62, 0x2b, 0x12, 0x0f, 0x67, 0x21,
};
static const uint8_t POINT_HEAD[9] = { 0x04, 0x60, 0xfe, 0xd4, 0xba, 0x25, 0x5a, 0x9d, 0x31 };
/* of the curve (SEC 2 section 2.4.2): one more than the largest private key */
static const uint8_t ORDER[32] = {
	0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
};

static int errno_of(unsigned long command, void *argument)
{
	return ioctl(device, command, argument) ? errno : 0;
}

static int import_key(const uint8_t scalar[32], struct riprap_authority_import *import)
{
	memset(import, 0, sizeof(*import));
	memcpy(import->private_key, scalar, sizeof(import->private_key));
	return errno_of(RIPRAP_AUTHORITY_IMPORT, import);
}

static int sign_with(uint32_t slot, struct riprap_authority_sign *sign)
{
	memset(sign, 0, sizeof(*sign));
	sign->slot = slot;
	memset(sign->digest, 0x5a, sizeof(sign->digest));
	return errno_of(RIPRAP_AUTHORITY_SIGN, sign);
}

static int forget(uint32_t slot)
{
	struct riprap_authority_forget forget = { .slot = slot };

	return errno_of(RIPRAP_AUTHORITY_FORGET, &forget);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	while (len > 0 && !bytes[len - 1])
		len--;
	return !len;
}

static void print_hex(const uint8_t *bytes, size_t len)
{
	putchar(' ');
	for (size_t i = 0; i < len; i++)
		printf("%02x", bytes[i]);
}

static void case_refused(void)
{
	static const uint8_t zero[32];
	struct riprap_authority_import import = { .pad0 = { 1 } };
	struct riprap_authority_sign sign;

	CHECK(sign_with(0, &sign) == ENOKEY);
	CHECK(sign_with(RIPRAP_AUTHORITY_KEYS_MAX, &sign) == ENOKEY && sign_with(UINT32_MAX, &sign) == ENOKEY);
	CHECK(forget(0) == ENOKEY);
	CHECK(errno_of(_IO('r', 0x01), NULL) == ENOTTY);
	CHECK(errno_of(RIPRAP_AUTHORITY_IMPORT, NULL) == EFAULT && errno_of(RIPRAP_AUTHORITY_SIGN, NULL) == EFAULT);
	memcpy(import.private_key, SCALAR, sizeof(SCALAR));
	CHECK(errno_of(RIPRAP_AUTHORITY_IMPORT, &import) == EINVAL);
	CHECK(is_zero(import.private_key, sizeof(import.private_key)));
	CHECK(import_key(zero, &import) == EINVAL && import_key(ORDER, &import) == EINVAL);
	CHECK(is_zero(import.private_key, sizeof(import.private_key)));
	CHECK(is_zero(import.public_key, sizeof(import.public_key)));
}

static void case_sign(void)
{
	struct riprap_authority_import import;
	struct riprap_authority_sign sign;

	CHECK(import_key(SCALAR, &import) == 0 && import.slot == 0);
	CHECK(is_zero(import.private_key, sizeof(import.private_key)));
	CHECK(!memcmp(import.public_key, POINT_HEAD, sizeof(POINT_HEAD)));
	CHECK(sign_with(import.slot, &sign) == 0);
	CHECK(sign.signature_len > 8 && sign.signature_len <= sizeof(sign.signature));
	printf("signed");
	print_hex(import.public_key, sizeof(import.public_key));
	print_hex(sign.digest, sizeof(sign.digest));
	print_hex(sign.signature, sign.signature_len);
	printf("\n");
}

/* A child holds the same descriptor, as a process does that was sent it. */
static void case_other_process(void)
{
	struct riprap_authority_sign sign;
	int status;
	pid_t child = fork();

	if (!child)
		_exit(sign_with(0, &sign) == EPERM && forget(0) == EPERM && is_zero(sign.signature, 72) ? 0 : 1);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(sign_with(0, &sign) == 0);
}

static void case_room(void)
{
	struct riprap_authority_import import;
	struct riprap_authority_sign sign;
	uint32_t i;

	for (i = 1; i < RIPRAP_AUTHORITY_KEYS_MAX; i++)
		CHECK(import_key(SCALAR, &import) == 0 && import.slot == i);
	CHECK(import_key(SCALAR, &import) == ENOSPC);
	CHECK(is_zero(import.private_key, sizeof(import.private_key)));
	CHECK(forget(3) == 0 && sign_with(3, &sign) == ENOKEY && sign_with(4, &sign) == 0);
	CHECK(import_key(SCALAR, &import) == 0 && import.slot == 3);
}

/* Who opens the device next finds nothing to sign with. */
static void case_closed(void)
{
	struct riprap_authority_sign sign;
	uint32_t i;

	close(device);
	device_open();
	for (i = 0; i < RIPRAP_AUTHORITY_KEYS_MAX; i++)
		CHECK(sign_with(i, &sign) == ENOKEY);
}

static int measure(long count)
{
	struct riprap_authority_import import;
	struct riprap_authority_sign sign;
	struct timespec from, to;

	if (import_key(SCALAR, &import))
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < count; i++)
		if (sign_with(import.slot, &sign))
			return 1;
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%ld\n", ((to.tv_sec - from.tv_sec) * 1000000000L + to.tv_nsec - from.tv_nsec) / count);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	device_open();
	if (argc == 3 && !strcmp(argv[1], "time"))
		return measure(atol(argv[2]));
	case_refused();
	case_sign();
	case_other_process();
	case_room();
	case_closed();
	printf("authority_key: %d passed, %d failed\n", passed, failed);
	return failed != 0;
}
