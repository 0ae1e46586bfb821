// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* After honest hellos one side reads any encrypted flight: EncryptedExtensions to Finished, or Certificate to Finished. */
#include "fuzz.h"

static void stop_flights(struct pair *p, int to, u8 *record, size_t *len)
{
	(void)p;
	(void)to;
	if (record[0] == TLS13_APPLICATION_DATA)
		*len = 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct pair p;
	u8 flags = fuzz_byte(&data, &size);
	size_t piece = fuzz_byte(&data, &size);

	fuzz_open(&p, flags);
	p.record_hook = stop_flights;
	pair_run(&p);
	fuzz_give(&p, flags & 16 ? SERVER : CLIENT, data, size, piece ? piece * 8 : TLS13_PLAINTEXT_MAX);
	fuzz_check(&p);
	return 0;
}
