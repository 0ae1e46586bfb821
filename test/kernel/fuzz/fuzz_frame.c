// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* What the daemon writes to the device, as any bytes: frames in a row, and a rule table. */
#include "../../../kernel/frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void read_frames(const u8 *data, size_t size)
{
	struct riprap_frame_view view;
	size_t offset = 0, before;
	u64 sequence = 1;

	while (offset < size) {
		before = offset;
		if (riprap_frame_read(data, size, &offset, sequence++, &view))
			break;
		if (offset <= before || offset > size || (view.tail_len && (view.tail < data || view.tail + view.tail_len > data + size)))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct riprap_table_view table;
	const char *reason = NULL;
	u8 *copy;

	if (!size)
		return 0;
	copy = malloc(size);	/* aligned, and exact */
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 1)
		read_frames(copy, size - 1);
	else if (riprap_table_check(copy, size - 1, &table, &reason) && !reason)
		abort();
	free(copy);
	return 0;
}
