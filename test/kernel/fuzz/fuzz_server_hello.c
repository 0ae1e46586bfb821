// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* A client engine reads any ServerHello or HelloRetryRequest, and what comes after. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct pair p;
	u8 flags = fuzz_byte(&data, &size);
	size_t first = (size_t)fuzz_byte(&data, &size) << 8, got;
	const u8 *hello;

	first |= fuzz_byte(&data, &size);
	hello = fuzz_take(&data, &size, first, &got);
	fuzz_open(&p, flags);
	p.hook = (pair_hook *)1;
	fuzz_give(&p, CLIENT, hello, got, flags & 8 ? 30 : TLS13_PLAINTEXT_MAX);
	fuzz_give(&p, CLIENT, data, size, TLS13_PLAINTEXT_MAX);
	fuzz_check(&p);
	return 0;
}
