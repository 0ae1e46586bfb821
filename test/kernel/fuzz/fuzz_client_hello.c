// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* A server engine reads any ClientHello, and after a HelloRetryRequest any second one. */
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
	p.hook = (pair_hook *)1;	/* the chain need not be the client's own */
	fuzz_give(&p, SERVER, hello, got, flags & 8 ? 100 : TLS13_PLAINTEXT_MAX);
	fuzz_give(&p, SERVER, data, size, TLS13_PLAINTEXT_MAX);
	fuzz_check(&p);
	return 0;
}
