// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Either side reads any stream of bytes as records, before or after the hellos. */
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
	int to = flags & 16 ? SERVER : CLIENT;

	fuzz_open(&p, flags);
	p.hook = (pair_hook *)1;
	p.record_hook = stop_flights;
	if (flags & 8) {
		p.hook = NULL;
		pair_run(&p);
	}
	while (size >= TLS13_RECORD_HEADER && p.status[to] == TLS13_READ) {
		u8 alert;
		int len = tls13_record_length(p.side[to], data, &alert);
		size_t whole = len < 0 ? TLS13_RECORD_HEADER : TLS13_RECORD_HEADER + (size_t)len;

		if (whole > size)
			break;
		pair_give(&p, to, data, whole);
		data += whole;
		size -= whole;
	}
	fuzz_check(&p);
	return 0;
}
