/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's end of /dev/riprap for tests in C: frames out, frames in, and
 * nothing that a real daemon would decide. Ends the test when the module does
 * not keep to abi.h.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../../kernel/abi.h"

#define ANSWER_MS	20000	/* software emulation is slow */
#define CHAIN_CERT	100	/* bytes of what stands for a certificate: the module must not look inside */
#define CHAIN_KEY	20	/* where the public key stands in it */

static int passed, failed;

__attribute__((format(printf, 4, 5)))
static inline void check_at(int line, bool is_good, const char *what, const char *format, ...)
{
	va_list arguments;

	if (is_good) {
		passed++;
		return;
	}
	failed++;
	printf("FAIL line %d: %s: ", line, what);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

#define CHECK_THAT(condition, ...) check_at(__LINE__, condition, #condition, __VA_ARGS__)
#define CHECK(condition) CHECK_THAT(condition, "it is not so")

static struct {
	int fd;
	uint64_t sent, seen;
	uint8_t buffer[1 << 20];
	size_t len, at;
	struct riprap_frame head;	/* of the frame last read */
	union {
		uint8_t bytes[RIPRAP_FRAME_MAX];
		struct riprap_hello hello;
		struct riprap_process_facts facts;
		struct riprap_process_exit exit;
		struct riprap_key key;
		struct riprap_verify verify;
		struct riprap_flow_event flow;
		struct riprap_ack ack;
		struct riprap_query_done done;
	} body;
} device;

static void device_open(void)
{
	device.fd = open("/dev/riprap", O_RDWR | O_CLOEXEC);
	device.sent = 0;
	device.seen = 0;
	device.len = 0;
	device.at = 0;
	if (device.fd < 0) {
		printf("FAIL cannot open /dev/riprap: %s\n", strerror(errno));
		exit(1);
	}
}

static bool device_next(int timeout_ms)
{
	struct pollfd ready = { .fd = device.fd, .events = POLLIN };
	ssize_t n;

	if (device.at == device.len) {
		if (poll(&ready, 1, timeout_ms) <= 0)
			return false;
		n = read(device.fd, device.buffer, sizeof(device.buffer));
		if (n <= 0)
			return false;
		device.len = n;
		device.at = 0;
	}
	memcpy(&device.head, device.buffer + device.at, sizeof(device.head));
	if (device.head.magic != RIPRAP_ABI_MAGIC || device.head.version != RIPRAP_ABI_VERSION ||
	    device.head.length > device.len - device.at - sizeof(device.head) ||
	    device.head.sequence != ++device.seen) {
		printf("FAIL the module sent a frame out of form or order\n");
		exit(1);
	}
	memcpy(device.body.bytes, device.buffer + device.at + sizeof(device.head), device.head.length);
	device.at += sizeof(device.head) + device.head.length;
	return true;
}

/* Negative errno when the module refuses the write. */
static int device_put(uint16_t type, const void *fixed, size_t fixed_len, const void *tail, size_t tail_len)
{
	static uint8_t frame[sizeof(struct riprap_frame) + RIPRAP_FRAME_MAX];
	const struct riprap_frame head = {
		.magic = RIPRAP_ABI_MAGIC, .version = RIPRAP_ABI_VERSION, .type = type,
		.length = fixed_len + tail_len, .sequence = device.sent + 1,
	};
	int tries;

	memcpy(frame, &head, sizeof(head));
	if (fixed_len)
		memcpy(frame + sizeof(head), fixed, fixed_len);
	if (tail_len)
		memcpy(frame + sizeof(head) + fixed_len, tail, tail_len);
	for (tries = 0; tries < 3; tries++) {
		if (write(device.fd, frame, sizeof(head) + fixed_len + tail_len) >= 0) {
			device.sent++;
			return 0;
		}
		if (errno != ENOMEM)	/* nothing was taken: the same again */
			break;
	}
	return -errno;
}

#define PUT(type, value) device_put(type, &(value), sizeof(value), NULL, 0)

static int put_assign(uint64_t instance, uint32_t subject, const char *spiffe_id)
{
	const struct riprap_assign assign = {
		.instance = instance, .subject = subject, .spiffe_id_len = strlen(spiffe_id),
	};

	return device_put(RIPRAP_ASSIGN, &assign, sizeof(assign), spiffe_id, strlen(spiffe_id));
}

/* `flip`: the leaf is for another key. */
static inline int put_svid(const struct riprap_key *key, bool flip, int lifetime_s)
{
	uint8_t chain[sizeof(uint32_t) + CHAIN_CERT];
	const struct riprap_svid svid = {
		.instance = key->instance, .key_id = key->key_id, .not_before = 1,
		.not_after = time(NULL) + lifetime_s, .certs = 1, .chain_len = sizeof(chain),
	};
	const uint32_t len = CHAIN_CERT;

	memset(chain, 0x5a, sizeof(chain));
	memcpy(chain, &len, sizeof(len));
	memcpy(chain + sizeof(len) + CHAIN_KEY, key->public_key, sizeof(key->public_key));
	chain[sizeof(len) + CHAIN_KEY + 9] ^= flip;
	return device_put(RIPRAP_SVID, &svid, sizeof(svid), chain, sizeof(chain));
}

/* Takes the key out of the VERIFY frame last read. */
static inline int put_verified(const char *spiffe_id)
{
	struct riprap_verified verified = {
		.ask = device.body.verify.ask, .trust_generation = device.body.verify.trust_generation,
		.not_after = time(NULL) + 300, .spiffe_id_len = strlen(spiffe_id),
	};

	memcpy(verified.public_key, device.body.bytes + sizeof(struct riprap_verify) + sizeof(uint32_t) + CHAIN_KEY,
	       sizeof(verified.public_key));
	return device_put(RIPRAP_VERIFIED, &verified, sizeof(verified), spiffe_id, strlen(spiffe_id));
}

static inline int put_table(uint64_t generation, const void *table, size_t len)
{
	const struct riprap_table_begin begin = { .generation = generation, .length = len };
	const struct riprap_table_commit commit = { .generation = generation };
	size_t at, n;

	PUT(RIPRAP_TABLE_BEGIN, begin);
	for (at = 0; at < len; at += n) {
		n = len - at < 50 ? len - at : 50;	/* small pieces, to see them joined */
		struct riprap_table_data data = { .generation = generation, .offset = at, .length = n };

		device_put(RIPRAP_TABLE_DATA, &data, sizeof(data), (const uint8_t *)table + at, n);
	}
	return PUT(RIPRAP_TABLE_COMMIT, commit);
}

#endif
