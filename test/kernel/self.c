// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Runs one test of the engine against itself, by its title; without a title
 * lists them all.
 */
#include <stdio.h>

#include "self.h"

static const struct self_test *const tables[] = {
	self_handshake, self_hello, self_record, self_ticket, self_mutation,
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (const struct self_test *test = tables[i]; test->name; test++) {
			if (argc < 2) {
				puts(test->name);
			} else if (!strcmp(argv[1], test->name)) {
				test->run();
				return 0;
			}
		}
	}
	return argc < 2 ? 0 : 2;
}
