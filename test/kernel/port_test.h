/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What a test may script of the user-space port: randomness, private keys, and for fuzzing the absence of secrecy. */
#ifndef RIPRAP_PORT_TEST_H
#define RIPRAP_PORT_TEST_H

#include "../../kernel/tls13/port.h"

struct port_test {
	bool seeded;		/* port_random() counts instead of drawing */
	bool transparent;	/* AEAD is the identity; every tag, MAC and well-formed signature verifies */
	u64 counter;
	const u8 *random;	/* handed out first */
	size_t random_left;
	const u8 *private_keys;	/* handed out first, 32 bytes each */
	size_t private_keys_left;
};
extern struct port_test port_test;

#endif
