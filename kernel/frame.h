/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Reads the daemon's frames and the rule table: bounded, without allocation,
 * and the same in user space, where it is fuzzed.
 */
#ifndef RIPRAP_FRAME_H
#define RIPRAP_FRAME_H

#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/types.h>
#else
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
#endif

#include "abi.h"

/* One frame from the daemon: its fixed struct copied, its tail borrowed from the input. */
struct riprap_frame_view {
	u16 type;
	u64 sequence;
	union {
		struct riprap_start start;
		struct riprap_assign assign;
		struct riprap_svid svid;
		struct riprap_verified verified;
		struct riprap_table_begin table_begin;
		struct riprap_table_data table_data;
		struct riprap_table_commit table_commit;
		struct riprap_trust trust;
		struct riprap_cut cut;
		struct riprap_adopt adopt;
		struct riprap_renew renew;
		struct riprap_withdraw withdraw;
		struct riprap_drain drain;
		struct riprap_query query;
	} fixed;
	const u8 *tail;
	size_t tail_len;
};

/*
 * Reads the frame at *offset and moves *offset past it. `sequence` is what the frame must carry.
 * 0, or -EINVAL: not a frame, of no known type, out of bounds or order, or with a pad that is not zero.
 */
int riprap_frame_read(const u8 *data, size_t size, size_t *offset, u64 sequence, struct riprap_frame_view *view);

/* The parts of a compiled rule table, inside the caller's blob (8-byte aligned). */
struct riprap_table_view {
	const struct riprap_table *head;
	const struct riprap_table_subject *subjects;
	const struct riprap_table_rule *rules;
	const struct riprap_table_peer *peers;
	const struct riprap_table_filter *filters;
	const u8 *strings;
};

/*
 * Holds every word of abi.h about a table: sizes, counts, order, masks, references, pads. 0 or -EINVAL,
 * and then *reason is a static sentence. Never reads past `size`.
 */
int riprap_table_check(const void *blob, size_t size, struct riprap_table_view *view, const char **reason);

/* Compares byte strings as the table sorts them: memcmp, then the shorter first. */
int riprap_table_compare(const u8 *a, size_t a_len, const u8 *b, size_t b_len);

/* Does the address lie under the mask already? */
bool riprap_table_is_masked(const u8 address[16], unsigned int prefix_len);

#endif
