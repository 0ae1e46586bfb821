/* SPDX-License-Identifier: GPL-2.0 */
/* The rule table as lookups see it; private to table.c and table_build.c. */
#ifndef RIPRAP_TABLE_BUILD_H
#define RIPRAP_TABLE_BUILD_H

#include <linux/jhash.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/types.h>

#include "frame.h"

struct riprap_rules_shape {
	u8 prefix_len, port_bits;
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

struct riprap_rule_key {
	u32 subject;
	u8 address[16];
	u16 port;
	u8 prefix_len, port_bits, inbound;
};

struct riprap_filter_key {
	u32 has, uid;
	const char *name, *exe;
	size_t name_len, exe_len;
};

static inline u32 riprap_rule_hash(const struct riprap_rules *rules, const struct riprap_rule_key *key)
{
	u32 words[6];

	memcpy(words, key->address, 16);
	words[4] = key->subject;
	words[5] = (u32)key->port << 16 | (u32)key->inbound << 15 | (u32)key->prefix_len << 5 | key->port_bits;
	return jhash2(words, ARRAY_SIZE(words), rules->seed);
}

static inline bool riprap_rule_has_key(const struct riprap_table_rule *rule, const struct riprap_rule_key *key)
{
	return rule->subject == key->subject && rule->inbound == key->inbound &&
	       rule->prefix_len == key->prefix_len && rule->port_bits == key->port_bits &&
	       rule->port == key->port && !memcmp(rule->address, key->address, 16);
}

static inline u32 riprap_filter_hash(const struct riprap_rules *rules, const struct riprap_filter_key *key)
{
	u32 hash = jhash_2words(key->has, key->has & RIPRAP_FILTER_UID ? key->uid : 0, rules->seed);

	hash = jhash(key->name, key->name_len, hash);
	return jhash(key->exe, key->exe_len, hash);
}

#endif
