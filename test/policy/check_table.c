// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Holds a compiled rule table, read from standard input, against the module's own check of it. */
#include <stdio.h>
#include <stdlib.h>

#include "frame.h"

int main(void)
{
	unsigned char *blob = malloc(RIPRAP_TABLE_MAX + 1);
	struct riprap_table_view view;
	const char *reason;
	size_t size;

	if (!blob)
		return 2;
	size = fread(blob, 1, RIPRAP_TABLE_MAX + 1, stdin);
	if (riprap_table_check(blob, size, &view, &reason)) {
		puts(reason);
		return 1;
	}
	printf("%u %u %u %u\n", view.head->subjects, view.head->rules, view.head->peers, view.head->filters);
	return 0;
}
