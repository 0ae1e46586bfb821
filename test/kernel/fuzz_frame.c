// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The readers of daemon frames and of rule tables against seeded mutations, in
 * buffers of exact size so that a sanitizer sees one byte too many.
 *
 *	fuzz_frame SEED ITERATIONS
 *
 * Prints how many inputs were read and how many of them were taken. Exits with 1
 * when a well-formed input is refused, a truncated one is taken, or what was taken
 * does not hold together.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../kernel/frame.h"

static u64 random_state;
static u64 inputs, taken;

/* xorshift64*: the same inputs for the same seed, everywhere. */
static u64 random_u64(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull;
}

static u32 below(u32 n)
{
	return random_u64() % n;
}

static void fail(const char *what)
{
	printf("FAIL %s (input %llu)\n", what, (unsigned long long)inputs);
	exit(1);
}

struct bytes {
	u8 data[8192];
	size_t len;
};

static void add(struct bytes *b, const void *data, size_t len)
{
	if (!len)
		return;
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

/* ---- frames ---- */

static const char spiffe_id[] = "spiffe://edge.test/agent/weather";
#define ID_LEN (sizeof(spiffe_id) - 1)

static void add_frame(struct bytes *b, u16 type, u64 sequence, const void *fixed, size_t fixed_len,
		      const void *tail, size_t tail_len)
{
	const struct riprap_frame head = {
		.magic = RIPRAP_ABI_MAGIC, .version = RIPRAP_ABI_VERSION, .type = type,
		.length = fixed_len + tail_len, .sequence = sequence,
	};

	add(b, &head, sizeof(head));
	add(b, fixed, fixed_len);
	add(b, tail, tail_len);
}

static void build_identity_frames(struct bytes *b, u64 *sequence)
{
	const struct riprap_assign assign = { .instance = 7, .subject = 3, .spiffe_id_len = ID_LEN };
	const struct riprap_assign unmanaged = { .instance = 8 };
	const struct riprap_svid svid = {
		.instance = 7, .key_id = 1, .not_before = 1, .not_after = 2, .certs = 2, .chain_len = 16,
	};
	const struct riprap_verified good = {
		.ask = 1, .trust_generation = 1, .not_after = 2, .spiffe_id_len = ID_LEN, .public_key = { 4 },
	};
	const struct riprap_verified refused = { .ask = 2, .trust_generation = 1, .alert = 48 };
	const u32 chain[] = { 4, 0x01020304, 4, 0x05060708 };

	add_frame(b, RIPRAP_ASSIGN, (*sequence)++, &assign, sizeof(assign), spiffe_id, ID_LEN);
	add_frame(b, RIPRAP_ASSIGN, (*sequence)++, &unmanaged, sizeof(unmanaged), NULL, 0);
	add_frame(b, RIPRAP_SVID, (*sequence)++, &svid, sizeof(svid), chain, sizeof(chain));
	add_frame(b, RIPRAP_VERIFIED, (*sequence)++, &good, sizeof(good), spiffe_id, ID_LEN);
	add_frame(b, RIPRAP_VERIFIED, (*sequence)++, &refused, sizeof(refused), NULL, 0);
}

static void build_table_frames(struct bytes *b, u64 *sequence)
{
	const struct riprap_table_begin begin = { .generation = 1, .length = 64 };
	const struct riprap_table_data data = { .generation = 1, .length = 8 };
	const struct riprap_table_commit commit = { .generation = 1 };
	const struct riprap_trust trust = { .generation = 1 };

	add_frame(b, RIPRAP_TABLE_BEGIN, (*sequence)++, &begin, sizeof(begin), NULL, 0);
	add_frame(b, RIPRAP_TABLE_DATA, (*sequence)++, &data, sizeof(data), "8 bytes.", 8);
	add_frame(b, RIPRAP_TABLE_COMMIT, (*sequence)++, &commit, sizeof(commit), NULL, 0);
	add_frame(b, RIPRAP_TRUST, (*sequence)++, &trust, sizeof(trust), NULL, 0);
}

static void build_command_frames(struct bytes *b, u64 *sequence)
{
	const struct riprap_cut cut = { .by = RIPRAP_CUT_PEER_ID, .id_len = ID_LEN };
	const struct riprap_cut all = { .by = RIPRAP_CUT_ALL, .reason = RIPRAP_REASON_REVOKED };
	const struct riprap_adopt adopt = { .pid = 1 };
	const struct riprap_renew renew = { .instance = 7 };
	const struct riprap_withdraw withdraw = { .instance = 7, .reason = RIPRAP_REASON_WITHDRAWN };
	const struct riprap_drain drain = { .on = 1 };
	const struct riprap_query query = { .query = 1, .what = RIPRAP_QUERY_STATS | RIPRAP_QUERY_FLOWS };

	add_frame(b, RIPRAP_CUT, (*sequence)++, &cut, sizeof(cut), spiffe_id, ID_LEN);
	add_frame(b, RIPRAP_CUT, (*sequence)++, &all, sizeof(all), NULL, 0);
	add_frame(b, RIPRAP_ADOPT, (*sequence)++, &adopt, sizeof(adopt), NULL, 0);
	add_frame(b, RIPRAP_RENEW, (*sequence)++, &renew, sizeof(renew), NULL, 0);
	add_frame(b, RIPRAP_WITHDRAW, (*sequence)++, &withdraw, sizeof(withdraw), NULL, 0);
	add_frame(b, RIPRAP_DRAIN, (*sequence)++, &drain, sizeof(drain), NULL, 0);
	add_frame(b, RIPRAP_QUERY, (*sequence)++, &query, sizeof(query), NULL, 0);
	add_frame(b, RIPRAP_WAKE, (*sequence)++, NULL, 0, NULL, 0);
}

/* One of every type the daemon may write. */
static void build_frames(struct bytes *b)
{
	const struct riprap_start start = {
		.abi = RIPRAP_ABI_VERSION, .unknown_mode = RIPRAP_MODE_ENFORCE, .attest_timeout_ms = 3000,
		.handshake_timeout_ms = 10000, .sniff_timeout_ms = 500,
	};
	u64 sequence = 1;

	b->len = 0;
	add_frame(b, RIPRAP_START, sequence++, &start, sizeof(start), NULL, 0);
	build_identity_frames(b, &sequence);
	build_table_frames(b, &sequence);
	build_command_frames(b, &sequence);
}

/* Reads all frames of an exact copy. True: all were taken. */
static bool read_frames(const u8 *data, size_t len)
{
	struct riprap_frame_view view;
	u8 *copy = malloc(len ? len : 1);
	u64 sequence = 1, sum = 0;
	size_t at = 0, before, i;
	bool is_good = true;

	memcpy(copy, data, len);
	inputs++;
	while (at < len && is_good) {
		before = at;
		is_good = !riprap_frame_read(copy, len, &at, sequence++, &view);
		if (!is_good)
			break;
		if (at <= before || at > len || view.tail < copy || view.tail + view.tail_len != copy + at)
			fail("a frame was taken that does not lie in its input");
		for (i = 0; i < view.tail_len; i++)
			sum += view.tail[i];
	}
	free(copy);
	taken += is_good;
	return is_good && sum != (u64)-1;
}

/* ---- tables ---- */

static void build_table(struct bytes *b)
{
	static const char strings[] = "python/usr/bin/nginxspiffe://edge.test/aspiffe://edge.test/ns/";
	const struct riprap_table head = {
		.magic = RIPRAP_TABLE_MAGIC, .version = RIPRAP_ABI_VERSION, .generation = 1,
		.subjects = 2, .rules = 4, .peers = 2, .filters = 2, .string_bytes = sizeof(strings) - 1,
	};
	const struct riprap_table_subject subjects[] = {
		{ .subject = 3, .egress_mode = RIPRAP_MODE_ENFORCE },
		{ .subject = 9, .ingress_mode = RIPRAP_MODE_PERMISSIVE },
	};
	const struct riprap_table_rule rules[] = {
		{ .number = 1, .subject = 3, .action = RIPRAP_ACTION_DENY },
		{ .number = 2, .subject = 3, .port = 0x1f00, .port_bits = 8, .action = RIPRAP_ACTION_PLAIN },
		{ .number = 3, .subject = 3, .address = { [10] = 0xff, [11] = 0xff, [12] = 10 }, .prefix_len = 104,
		  .port = 443, .port_bits = 16, .action = RIPRAP_ACTION_MUTUAL, .peer_set = 1 },
		{ .number = 4, .subject = 9, .inbound = 1, .action = RIPRAP_ACTION_MUTUAL, .peer_set = 1 },
	};
	const struct riprap_table_peer peers[] = {
		{ .set = 1, .string = 20, .length = 20, .match = RIPRAP_PEER_EXACT },
		{ .set = 1, .string = 40, .length = 22, .match = RIPRAP_PEER_PREFIX },
	};
	const struct riprap_table_filter filters[] = {
		{ .has = RIPRAP_FILTER_NAME | RIPRAP_FILTER_UID, .uid = 1001, .name = 0, .name_len = 6 },
		{ .has = RIPRAP_FILTER_EXE, .exe = 6, .exe_len = 14 },
	};

	b->len = 0;
	add(b, &head, sizeof(head));
	add(b, subjects, sizeof(subjects));
	add(b, rules, sizeof(rules));
	add(b, peers, sizeof(peers));
	add(b, filters, sizeof(filters));
	add(b, strings, sizeof(strings) - 1);
}

/* What lookups rely on: references stay inside, masks hold, order holds. */
static void walk_table(const struct riprap_table_view *view)
{
	u64 sum = 0;
	u32 i, j;

	for (i = 0; i < view->head->peers; i++)
		for (j = 0; j < view->peers[i].length; j++)
			sum += view->strings[view->peers[i].string + j];
	for (i = 0; i < view->head->filters; i++) {
		for (j = 0; j < view->filters[i].name_len; j++)
			sum += view->strings[view->filters[i].name + j];
		for (j = 0; j < view->filters[i].exe_len; j++)
			sum += view->strings[view->filters[i].exe + j];
	}
	for (i = 0; i < view->head->rules; i++)
		if (!riprap_table_is_masked(view->rules[i].address, view->rules[i].prefix_len) ||
		    (i && view->rules[i].subject < view->rules[i - 1].subject))
			fail("a table was taken with a rule out of mask or order");
	if (sum == (u64)-1)
		fail("impossible");
}

static bool read_table(const u8 *data, size_t len)
{
	struct riprap_table_view view;
	const char *reason = NULL;
	u8 *copy = malloc(len ? len : 1);
	bool is_good;

	memcpy(copy, data, len);
	inputs++;
	is_good = !riprap_table_check(copy, len, &view, &reason);
	if (is_good == !!reason)
		fail("a refusal without a reason, or a reason without a refusal");
	if (is_good)
		walk_table(&view);
	free(copy);
	taken += is_good;
	return is_good;
}

/* ---- mutations ---- */

static void mutate(struct bytes *b)
{
	static const u32 edges[] = { 0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0xffffffff };
	u32 times = 1 + below(4), at, n;

	while (times-- && b->len > 8) {
		at = below(b->len);
		switch (below(5)) {
		case 0:
			b->data[at] ^= 1 << below(8);
			break;
		case 1:
			b->data[at] = random_u64();
			break;
		case 2:
			at = below(b->len - 3);
			memcpy(b->data + at, &edges[below(sizeof(edges) / sizeof(edges[0]))], 4);
			break;
		case 3:
			b->len = at;
			break;
		case 4:
			n = below(32);
			if (at + n <= b->len && b->len + n <= sizeof(b->data)) {
				memmove(b->data + at + n, b->data + at, b->len - at);
				b->len += n;
			}
			break;
		}
	}
}

struct target {
	const char *name;
	void (*build)(struct bytes *b);
	bool (*read)(const u8 *data, size_t len);
	bool is_whole;	/* no prefix of a good input is good */
};

static const struct target targets[] = {
	{ "frames", build_frames, read_frames, false },
	{ "table", build_table, read_table, true },
};

static void run(const struct target *target, u32 iterations)
{
	static struct bytes seed, b;
	size_t i;
	u32 bit;

	target->build(&seed);
	if (!target->read(seed.data, seed.len))
		fail("a well-formed input was refused");
	for (i = 1; i < seed.len; i++)
		if (target->read(seed.data, i) && target->is_whole)
			fail("a truncated input was taken");
	for (i = 0; i < seed.len; i++)
		for (bit = 0; bit < 8; bit++) {
			seed.data[i] ^= 1 << bit;
			target->read(seed.data, seed.len);
			seed.data[i] ^= 1 << bit;
		}
	while (iterations--) {
		b = seed;
		mutate(&b);
		target->read(b.data, b.len);
	}
	printf("%s: %llu inputs, %llu taken\n", target->name, (unsigned long long)inputs, (unsigned long long)taken);
	inputs = 0;
	taken = 0;
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc != 3)
		return 2;
	random_state = strtoull(argv[1], NULL, 0) * 2 + 1;
	for (i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		run(&targets[i], strtoul(argv[2], NULL, 0));
	return 0;
}
