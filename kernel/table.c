// SPDX-License-Identifier: GPL-2.0
/*
 * The rules in force: a checked blob and a tuple-space hash over it, swapped
 * whole under RCU. Looks up, and never interprets.
 *
 * Lookups are in this file; how a table comes to be is in table_build.c.
 */
#include <linux/jhash.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include "process.h"
#include "table.h"
#include "table_build.h"
#include "trace.h"

struct riprap_rules __rcu *riprap_rules;

/**
 * riprap_table_generation() - which table is in force
 *
 * Return: its generation; 0 when none is.
 */
u64 riprap_table_generation(void)
{
	const struct riprap_rules *rules;
	u64 generation;

	rcu_read_lock();
	rules = rcu_dereference(riprap_rules);
	generation = rules ? rules->view.head->generation : 0;
	rcu_read_unlock();
	return generation;
}

/**
 * riprap_table_has_filters() - is any process worth a look
 *
 * Return: false until a table with filters is in force.
 */
bool riprap_table_has_filters(void)
{
	return READ_ONCE(riprap_rules_filter_kinds);
}

static bool is_filter(const struct riprap_rules *rules, const struct riprap_filter_key *key)
{
	const struct riprap_table_view *view = &rules->view;
	u32 slot = riprap_filter_hash(rules, key) & rules->filter_mask;

	for (; rules->filter_slots[slot]; slot = (slot + 1) & rules->filter_mask) {
		const struct riprap_table_filter *f = &view->filters[rules->filter_slots[slot] - 1];

		if (f->has == key->has && (!(f->has & RIPRAP_FILTER_UID) || f->uid == key->uid) &&
		    f->name_len == key->name_len && !memcmp(view->strings + f->name, key->name, f->name_len) &&
		    f->exe_len == key->exe_len && !memcmp(view->strings + f->exe, key->exe, f->exe_len))
			return true;
	}
	return false;
}

/**
 * riprap_table_filter() - may some rule select a process that looks like this
 * @euid: effective uid, initial user namespace
 * @comm: name at exec
 * @comm_len: its length
 * @exe: path of the executable at exec
 * @exe_len: its length
 * @generation: of the table that says so; 0: no table
 *
 * One hash probe for each combination of facts that the table's filters use, at most eight.
 *
 * Return: true if it may.
 */
bool riprap_table_filter(u32 euid, const char *comm, size_t comm_len, const char *exe, size_t exe_len,
			 u64 *generation)
{
	const struct riprap_rules *rules;
	bool found = false;
	u32 has;

	rcu_read_lock();
	rules = rcu_dereference(riprap_rules);
	*generation = rules ? rules->view.head->generation : 0;
	for (has = 0; rules && has < 8 && !found; has++) {
		const struct riprap_filter_key key = {
			.has = has,
			.uid = has & RIPRAP_FILTER_UID ? euid : 0,
			.name = comm, .name_len = has & RIPRAP_FILTER_NAME ? comm_len : 0,
			.exe = exe, .exe_len = has & RIPRAP_FILTER_EXE ? exe_len : 0,
		};

		if (rules->filter_kinds & BIT(has))
			found = is_filter(rules, &key);
	}
	rcu_read_unlock();
	return found;
}

static const struct riprap_rules_subject *find_subject(const struct riprap_rules *rules, u32 subject)
{
	u32 low = 0, high = rules->view.head->subjects;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (rules->view.subjects[middle].subject < subject)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == rules->view.head->subjects || rules->view.subjects[low].subject != subject)
		return NULL;
	return &rules->subjects[low];
}

/* First of the run of rules with this key, or NULL. */
static const struct riprap_table_rule *find_run(const struct riprap_rules *rules, const struct riprap_rule_key *key)
{
	u32 slot = riprap_rule_hash(rules, key) & rules->rule_mask;

	for (; rules->rule_slots[slot]; slot = (slot + 1) & rules->rule_mask) {
		const struct riprap_table_rule *rule = &rules->view.rules[rules->rule_slots[slot] - 1];

		if (riprap_rule_has_key(rule, key))
			return rule;
	}
	return NULL;
}

static bool has_string(const struct riprap_rules *rules, u32 low, u32 high, const char *text, size_t len)
{
	while (low < high) {
		u32 middle = low + (high - low) / 2;
		const struct riprap_table_peer *peer = &rules->view.peers[middle];
		int order = riprap_table_compare(rules->view.strings + peer->string, peer->length,
						 (const u8 *)text, len);

		if (!order)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static u32 first_of_set(const struct riprap_rules *rules, u64 set)
{
	u32 low = 0, high = rules->view.head->peers;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (rules->view.peers[middle].set < set)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The ID itself, or one of its beginnings up to a '/' with something after it, stands in the set. */
static bool is_peer_in_set(const struct riprap_rules *rules, u32 set, const char *spiffe_id)
{
	u32 low = first_of_set(rules, set), high = first_of_set(rules, (u64)set + 1);
	size_t len = strnlen(spiffe_id, RIPRAP_SPIFFE_ID_MAX);
	size_t i;

	/* an ID that ends in '/' is none, and would equal a prefix entry */
	if (!len || spiffe_id[len - 1] == '/')
		return false;
	if (has_string(rules, low, high, spiffe_id, len))
		return true;
	for (i = sizeof("spiffe://"); i + 1 < len; i++)
		if (spiffe_id[i] == '/' && has_string(rules, low, high, spiffe_id, i + 1))
			return true;
	return false;
}

/* What one lookup is after, and what it found. */
struct lookup {
	const struct riprap_rules *rules;
	const char *peer_id;	/* NULL: not known yet */
	struct riprap_verdict *verdict;
	u32 denied_by;
	u32 allowed_by;		/* the first MUTUAL rule that takes this peer */
};

static void see_rule(struct lookup *lookup, const struct riprap_table_rule *rule)
{
	struct riprap_verdict *verdict = lookup->verdict;
	bool is_peer = lookup->peer_id &&
		       (!rule->peer_set || is_peer_in_set(lookup->rules, rule->peer_set, lookup->peer_id));

	if (rule->action == RIPRAP_ACTION_DENY) {
		/* a deny that names peers waits until the peer is known */
		if (!lookup->denied_by && (!rule->peer_set || is_peer))
			lookup->denied_by = rule->number;
		return;
	}
	if (is_peer && !lookup->allowed_by && rule->action == RIPRAP_ACTION_MUTUAL)
		lookup->allowed_by = rule->number;
	if (verdict->matches < RIPRAP_MATCHES_MAX)
		verdict->match[verdict->matches++] = (struct riprap_match){
			.rule = rule->number, .peer_set = rule->peer_set, .action = rule->action,
		};
}

static void look_up(struct lookup *lookup, u32 subject, bool inbound, const struct in6_addr *remote, u16 port)
{
	const struct riprap_rules *rules = lookup->rules;
	struct riprap_verdict *verdict = lookup->verdict;
	const struct riprap_rules_subject *found;
	const struct riprap_rules_shape *shape, *last;
	const struct riprap_table_rule *rule, *end;
	u64 address[2];

	verdict->generation = rules ? rules->view.head->generation : 0;
	verdict->action = RIPRAP_ACTION_DENY;
	verdict->matches = 0;
	verdict->rule = 0;
	found = rules ? find_subject(rules, subject) : NULL;
	if (!found) {
		/* an identity that came before its table, or outlived it: no policy is known, so the unknown's mode holds */
		verdict->mode = riprap_unknown_mode();
		verdict->reason = RIPRAP_REASON_NO_RULE;
		return;
	}
	verdict->mode = found->direction[inbound].mode;
	verdict->reason = RIPRAP_REASON_NO_POLICY;
	if (verdict->mode == RIPRAP_MODE_NONE)
		return;
	verdict->reason = RIPRAP_REASON_NO_RULE;
	end = rules->view.rules + rules->view.head->rules;
	memcpy(address, remote->s6_addr, sizeof(address));
	shape = &rules->shapes[found->direction[inbound].first_shape];
	for (last = shape + found->direction[inbound].shapes; shape < last; shape++) {
		const struct riprap_rule_key key = {
			.address = { address[0] & shape->address_mask[0], address[1] & shape->address_mask[1] },
			.rest = riprap_rule_rest(subject, port & shape->port_mask, shape->form),
		};

		/* the first of a run was compared by find_run() */
		rule = find_run(rules, &key);
		if (!rule)
			continue;
		do
			see_rule(lookup, rule);
		while (++rule < end && riprap_rule_has_key(rule, &key));
	}
	if (lookup->denied_by) {
		verdict->reason = RIPRAP_REASON_RULE;
		verdict->rule = lookup->denied_by;
		verdict->matches = 0;
	} else if (verdict->matches) {
		verdict->reason = RIPRAP_REASON_RULE;
		verdict->rule = verdict->match[0].rule;
		verdict->action = verdict->match[0].action;
	}
}

/**
 * riprap_table_verdict() - what the rules say before the peer is known
 * @subject: of the process
 * @inbound: accept, not connect
 * @remote: the other end; IPv4 as ::ffff:a.b.c.d
 * @port: host order; the remote one outbound, the local one inbound
 * @verdict: the answer
 *
 * Shapes are tried from the longest prefix to the shortest. Any context.
 */
void riprap_table_verdict(u32 subject, bool inbound, const struct in6_addr *remote, u16 port,
			  struct riprap_verdict *verdict)
{
	struct lookup lookup = { .verdict = verdict };

	rcu_read_lock();
	lookup.rules = rcu_dereference(riprap_rules);
	look_up(&lookup, subject, inbound, remote, port);
	rcu_read_unlock();
	trace_riprap_verdict(subject, inbound, verdict->mode, verdict->action, verdict->reason, verdict->rule);
}

/**
 * riprap_table_allows_peer() - may the connection stand, now that the peer is known
 * @subject: of the process
 * @inbound: accept, not connect
 * @remote: the other end; IPv4 as ::ffff:a.b.c.d
 * @port: as in riprap_table_verdict()
 * @spiffe_id: the peer's, NUL-terminated
 * @verdict: written anew from the table in force; rule is the one that allows or denies
 *
 * Return: true if a MUTUAL rule takes this peer and no DENY does. Any context.
 */
bool riprap_table_allows_peer(u32 subject, bool inbound, const struct in6_addr *remote, u16 port,
			      const char *spiffe_id, struct riprap_verdict *verdict)
{
	struct lookup lookup = { .verdict = verdict, .peer_id = spiffe_id };

	rcu_read_lock();
	lookup.rules = rcu_dereference(riprap_rules);
	look_up(&lookup, subject, inbound, remote, port);
	rcu_read_unlock();
	if (lookup.denied_by)
		return false;
	if (!lookup.allowed_by) {
		if (verdict->matches)
			verdict->reason = RIPRAP_REASON_PEER_ID;
		return false;
	}
	verdict->rule = lookup.allowed_by;
	return true;
}
