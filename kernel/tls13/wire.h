/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Reads and writes the presentation language of RFC 8446 section 3 within
 * bounds. Never moves past an end: a short read is false, a full writer stays
 * full and its owner looks once, before the bytes leave.
 */
#ifndef RIPRAP_TLS13_WIRE_H
#define RIPRAP_TLS13_WIRE_H

#include "port.h"

struct wire_reader {
	const u8 *at;
	size_t left;
};

static inline bool wire_take(struct wire_reader *r, size_t len, const u8 **bytes)
{
	if (len > r->left)
		return false;
	*bytes = r->at;
	r->at += len;
	r->left -= len;
	return true;
}

static inline bool wire_read_u8(struct wire_reader *r, u8 *value)
{
	const u8 *b;

	if (!wire_take(r, 1, &b))
		return false;
	*value = b[0];
	return true;
}

static inline bool wire_read_u16(struct wire_reader *r, u16 *value)
{
	const u8 *b;

	if (!wire_take(r, 2, &b))
		return false;
	*value = (u16)((u16)b[0] << 8 | b[1]);
	return true;
}

static inline bool wire_read_u24(struct wire_reader *r, u32 *value)
{
	const u8 *b;

	if (!wire_take(r, 3, &b))
		return false;
	*value = (u32)b[0] << 16 | (u32)b[1] << 8 | b[2];
	return true;
}

static inline bool wire_read_u32(struct wire_reader *r, u32 *value)
{
	const u8 *b;

	if (!wire_take(r, 4, &b))
		return false;
	*value = (u32)b[0] << 24 | (u32)b[1] << 16 | (u32)b[2] << 8 | b[3];
	return true;
}

/* A vector with a length of `width` bytes before it. */
static inline bool wire_read_vector(struct wire_reader *r, unsigned int width,
				    struct wire_reader *vector)
{
	u32 len = 0;
	u8 byte;

	while (width--) {
		if (!wire_read_u8(r, &byte))
			return false;
		len = len << 8 | byte;
	}
	vector->left = len;
	return wire_take(r, len, &vector->at);
}

/* Whether a list of u16 holds this one; the list's length is even. */
static inline bool wire_list_holds(struct wire_reader list, u16 wanted)
{
	u16 value;

	while (wire_read_u16(&list, &value))
		if (value == wanted)
			return true;
	return false;
}

struct wire_writer {
	u8 *base;
	size_t size;
	size_t used;
	bool full;
};

static inline u8 *wire_reserve(struct wire_writer *w, size_t len)
{
	u8 *at = w->base + w->used;

	if (w->full || len > w->size - w->used) {
		w->full = true;
		return NULL;
	}
	w->used += len;
	return at;
}

static inline void wire_write_bytes(struct wire_writer *w, const void *bytes, size_t len)
{
	u8 *at = wire_reserve(w, len);

	if (at && len)
		memcpy(at, bytes, len);
}

/* Big-endian, `width` bytes. */
static inline void wire_write_uint(struct wire_writer *w, unsigned int width, u32 value)
{
	u8 *at = wire_reserve(w, width);

	while (at && width--) {
		at[width] = (u8)value;
		value >>= 8;
	}
}

/* Leaves room for a length; wire_close_vector() fills it in. */
static inline size_t wire_open_vector(struct wire_writer *w, unsigned int width)
{
	size_t mark = w->used;

	wire_write_uint(w, width, 0);
	return mark;
}

static inline void wire_close_vector(struct wire_writer *w, unsigned int width, size_t mark)
{
	size_t len;

	if (w->full)
		return;
	len = w->used - mark - width;
	if (width < 4 && len >> (8 * width)) {
		w->full = true;
		return;
	}
	while (width--) {
		w->base[mark + width] = (u8)len;
		len >>= 8;
	}
}

#endif
