/* SPDX-License-Identifier: GPL-2.0 */
/* The rule table as lookups see it; private to table.c and table_build.c. */
#ifndef RIPRAP_TABLE_BUILD_H
#define RIPRAP_TABLE_BUILD_H

#include <linux/jhash.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/types.h>

#include "frame.h"

/* What becomes of an address and a port under one (prefix_len, port_bits), made ready for lookups. */
struct riprap_rules_shape {
	u64 address_mask[2];	/* in memory order */
	u16 port_mask;
	u16 form;		/* riprap_rule_form() */
};

struct riprap_rules_subject {
	struct {
		u32 first_shape;	/* most specific first */
		u8 shapes;
		u8 mode;
	} direction[2];		/* [inbound] */
};

/* Immutable once published; freed after a grace period. Index arrays hold position + 1, 0 is empty. */
struct riprap_rules {
	struct riprap_table_view view;
	void *blob;
	size_t bytes;			/* all of it, for the counter */
	u32 seed;
	u32 rule_mask, filter_mask;	/* slots - 1; at least half of them are empty */
	u32 *rule_slots;
	u32 *filter_slots;
	struct riprap_rules_subject *subjects;	/* beside view.subjects */
	struct riprap_rules_shape *shapes;
	u8 filter_kinds;		/* bit n: some filter has `has` == n */
};

extern struct riprap_rules __rcu *riprap_rules;
extern u8 riprap_rules_filter_kinds;	/* of the table in force, readable without RCU */

/* Everything that two rules with one key share, in three words: a lookup is some arithmetic on them. */
struct riprap_rule_key {
	u64 address[2];		/* masked, in memory order */
	u64 rest;		/* subject, masked port, form */
};

struct riprap_filter_key {
	u32 has, uid;
	const char *name, *exe;
	size_t name_len, exe_len;
};

static inline u16 riprap_rule_form(bool inbound, u8 prefix_len, u8 port_bits)
{
	return (u16)(inbound << 15 | prefix_len << 5 | port_bits);
}

static inline u64 riprap_rule_rest(u32 subject, u16 port, u16 form)
{
	return (u64)subject << 32 | (u32)port << 16 | form;
}

static inline struct riprap_rule_key riprap_rule_key_of(const struct riprap_table_rule *rule)
{
	struct riprap_rule_key key;

	memcpy(key.address, rule->address, sizeof(key.address));
	key.rest = riprap_rule_rest(rule->subject, rule->port,
				    riprap_rule_form(rule->inbound, rule->prefix_len, rule->port_bits));
	return key;
}

/* 2^64 over the golden ratio: spreads what differs in few bits. */
#define RIPRAP_HASH_FACTOR	0x9e3779b97f4a7c15ull

/* Keys are the administrator's, so that cheap arithmetic will do; the seed keeps layouts of two nodes apart. */
static inline u32 riprap_rule_hash(const struct riprap_rules *rules, const struct riprap_rule_key *key)
{
	u64 hash = (key->address[0] ^ rules->seed) * RIPRAP_HASH_FACTOR;

	hash = (hash ^ hash >> 32 ^ key->address[1]) * RIPRAP_HASH_FACTOR;
	hash = (hash ^ hash >> 32 ^ key->rest) * RIPRAP_HASH_FACTOR;
	return (u32)(hash >> 32);
}

static inline bool riprap_rule_has_key(const struct riprap_table_rule *rule, const struct riprap_rule_key *key)
{
	const struct riprap_rule_key own = riprap_rule_key_of(rule);

	return own.rest == key->rest && own.address[0] == key->address[0] && own.address[1] == key->address[1];
}

static inline u32 riprap_filter_hash(const struct riprap_rules *rules, const struct riprap_filter_key *key)
{
	u32 hash = jhash_2words(key->has, key->has & RIPRAP_FILTER_UID ? key->uid : 0, rules->seed);

	hash = jhash(key->name, key->name_len, hash);
	return jhash(key->exe, key->exe_len, hash);
}

#endif
