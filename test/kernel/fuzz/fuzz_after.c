// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* NewSessionTicket as any bytes, then KeyUpdate as often as the input says. */
#include "fuzz.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const u16 suites[] = { 0x1301, 0x1302, 0x1303, 0x1304 };
	struct tls13_after after = { 0 };
	struct tls13_traffic traffic;
	struct tls13_psk psk;
	u8 flags = fuzz_byte(&data, &size);
	u8 *copy = malloc(size ? size : 1);

	after.suite = suites[flags & 3];
	after.hash_len = after.suite == 0x1302 ? 48 : 32;
	memcpy(copy, data, size);
	if (!tls13_read_ticket(&after, copy, size, &psk))
		check(psk.ticket_len && psk.ticket_len <= TLS13_TICKET_MAX && psk.lifetime && psk.lifetime <= 604800 &&
		      psk.key_len == after.hash_len, "a ticket that is taken is within its bounds");
	for (int i = flags >> 2 & 3; i; i--)
		tls13_update_keys(&after, i & 1, &traffic);
	free(copy);
	return 0;
}
