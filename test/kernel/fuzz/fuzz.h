/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * One fuzz target a file, each with libFuzzer's entry. fuzz_main.c stands in
 * for libFuzzer where it is absent. The port is transparent: a flight is what
 * it says, and tags and MACs of the fuzzer's making verify.
 */
#ifndef RIPRAP_TEST_FUZZ_H
#define RIPRAP_TEST_FUZZ_H

#include "../pair.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* Takes up to `want` bytes from the front of the input. */
static inline const u8 *fuzz_take(const u8 **data, size_t *size, size_t want, size_t *got)
{
	const u8 *at = *data;

	*got = want < *size ? want : *size;
	*data += *got;
	*size -= *got;
	return at;
}

static inline u8 fuzz_byte(const u8 **data, size_t *size)
{
	size_t got;
	const u8 *at = fuzz_take(data, size, 1, &got);

	return got ? *at : 0;
}

/* A pair as the flags say, started. 1: only P-256 at the server; 2: a PSK of section 4.2.11; 4: no client certificate. */
static inline void fuzz_open(struct pair *p, u8 flags)
{
	static struct tls13_psk psk;

	pair_open(p);
	port_test.transparent = true;
	p->hook = NULL;
	p->record_hook = NULL;
	p->message_mode = true;
	if (flags & 1) {
		p->config[SERVER].groups[0] = TLS13_SECP256R1;
		p->config[SERVER].groups[1] = 0;
	}
	if (flags & 2) {
		memset(&psk, 7, sizeof(psk));
		psk.suite = TLS13_AES_128_GCM_SHA256;
		psk.key_len = 32;
		psk.ticket_len = 32;
		p->config[CLIENT].psk = &psk;
		p->tickets[0] = psk;
		p->ticket_count = 1;
	}
	if (flags & 4)
		p->config[SERVER].mutual = p->config[CLIENT].mutual = false;
	pair_start(p);
}

/* Gives bytes as handshake records of at most `piece`. */
static inline void fuzz_give(struct pair *p, int to, const u8 *data, size_t size, size_t piece)
{
	while (size && p->status[to] == TLS13_READ) {
		size_t n = size < piece ? size : piece;

		pair_give_message(p, to, TLS13_HANDSHAKE, data, n);
		data += n;
		size -= n;
	}
}

static inline void fuzz_check(struct pair *p)
{
	for (int i = 0; i < 2; i++)
		if (p->status[i] == TLS13_FAILED)
			check_wiped(p, i);
	pair_close(p);
}

#endif
