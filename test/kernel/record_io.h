/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What kTLS does in the kernel, for the test programs that stand for it: whole reads and writes, protected records. */
#ifndef RIPRAP_TEST_RECORD_IO_H
#define RIPRAP_TEST_RECORD_IO_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../kernel/tls13/port.h"
#include "../../kernel/tls13/tls13.h"

static inline bool read_whole(int fd, u8 *data, size_t len)
{
	while (len) {
		ssize_t n = read(fd, data, len);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* A peer that is gone shows at the next read. */
static inline void write_whole(int fd, const u8 *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

static inline void install(struct port_aead_key *key, const struct tls13_traffic *traffic)
{
	port_aead_clear(key);
	if (port_aead_set(key, traffic->suite == TLS13_AES_128_GCM_SHA256 ? PORT_AES_128_GCM :
			  traffic->suite == TLS13_AES_256_GCM_SHA384 ? PORT_AES_256_GCM : PORT_CHACHA20_POLY1305,
			  traffic->key))
		abort();
}

/* RFC 8446 section 5.3; the sequence number goes on. */
static inline void next_nonce(struct tls13_traffic *traffic, u8 nonce[12])
{
	memcpy(nonce, traffic->iv, 12);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (u8)(traffic->sequence >> (56 - 8 * i));
	traffic->sequence++;
}

/* One protected record; a plaintext that does not fit one ends the program. */
static inline void write_record(int fd, struct port_aead_key *key, struct tls13_traffic *traffic, u8 content,
				const void *data, size_t len)
{
	static u8 record[TLS13_RECORD_HEADER + TLS13_RECORD_MAX];
	u8 nonce[12];

	if (len > sizeof(record) - 64)
		abort();
	memcpy(record, (const u8[]){ 23, 3, 3, (u8)((len + 17) >> 8), (u8)(len + 17) }, 5);
	memcpy(record + 5, data, len);
	record[5 + len] = content;
	next_nonce(traffic, nonce);
	if (port_aead_seal(key, nonce, record, 5, record + 5, len + 1))
		abort();
	write_whole(fd, record, len + 22);
}

#endif
