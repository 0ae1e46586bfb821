/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The tests of the engine against itself, one table for each file. */
#ifndef RIPRAP_TEST_SELF_H
#define RIPRAP_TEST_SELF_H

#include "pair.h"

struct self_test {
	const char *name;	/* the title of the test that runs it */
	void (*run)(void);
};

/* Each ends with a NULL name. */
extern const struct self_test self_handshake[];
extern const struct self_test self_hello[];
extern const struct self_test self_record[];
extern const struct self_test self_ticket[];
extern const struct self_test self_mutation[];

#endif
