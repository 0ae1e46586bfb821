// SPDX-License-Identifier: GPL-2.0
/*
 * A table on its way into force: received in pieces, checked, indexed, swapped
 * in. The one in force stays until its successor is whole.
 */
#define pr_fmt(fmt) "riprap: " fmt

#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "device.h"
#include "table.h"
#include "table_build.h"

u8 riprap_rules_filter_kinds;

/* The upload under way; only device.c's writer, or its release, comes here. */
static struct {
	u64 generation;
	u32 length, received;
	u8 *blob;
} upload;

/* riprap_table_abort() - forget a table that did not come to its end */
void riprap_table_abort(void)
{
	kvfree(upload.blob);
	memset(&upload, 0, sizeof(upload));
}

/**
 * riprap_table_begin() - make room for a table
 * @begin: checked by riprap_frame_read()
 *
 * Return: 0, -ESTALE (its generation is not newer), -ENOMEM.
 */
int riprap_table_begin(const struct riprap_table_begin *begin)
{
	riprap_table_abort();
	if (begin->generation <= riprap_table_generation())
		return -ESTALE;
	upload.blob = kvmalloc(begin->length, GFP_KERNEL);
	if (!upload.blob)
		return -ENOMEM;
	upload.generation = begin->generation;
	upload.length = begin->length;
	return 0;
}

/**
 * riprap_table_data() - take the next piece
 * @data: checked by riprap_frame_read()
 * @bytes: data->length of them
 *
 * Return: 0, or -EINVAL (no such table is on its way, or not its next bytes; the upload is forgotten).
 */
int riprap_table_data(const struct riprap_table_data *data, const u8 *bytes)
{
	if (!upload.blob || data->generation != upload.generation || data->offset != upload.received ||
	    data->length > upload.length - upload.received) {
		riprap_table_abort();
		return -EINVAL;
	}
	memcpy(upload.blob + upload.received, bytes, data->length);
	upload.received += data->length;
	return 0;
}

static void free_rules(struct riprap_rules *rules)
{
	if (!rules)
		return;
	atomic64_sub(rules->bytes, &riprap_counters.memory_bytes);
	kvfree(rules->blob);
	kvfree(rules->rule_slots);
	kvfree(rules->filter_slots);
	kvfree(rules->subjects);
	kvfree(rules->shapes);
	kfree(rules);
}

static void *counted_array(struct riprap_rules *rules, size_t n, size_t size)
{
	void *array = kvcalloc(n, size, GFP_KERNEL);

	if (array) {
		rules->bytes += n * size;
		atomic64_add(n * size, &riprap_counters.memory_bytes);
	}
	return array;
}

/* Rules with one key lie side by side: the first stands for all. */
static void index_rules(struct riprap_rules *rules)
{
	struct riprap_rule_key key = { 0 };
	u32 i, slot;

	for (i = 0; i < rules->view.head->rules; i++) {
		if (!(i % 4096))
			cond_resched();
		if (i && riprap_rule_has_key(&rules->view.rules[i], &key))
			continue;
		key = riprap_rule_key_of(&rules->view.rules[i]);
		slot = riprap_rule_hash(rules, &key) & rules->rule_mask;
		while (rules->rule_slots[slot])
			slot = (slot + 1) & rules->rule_mask;
		rules->rule_slots[slot] = i + 1;
	}
}

static void index_filters(struct riprap_rules *rules)
{
	u32 i, slot;

	for (i = 0; i < rules->view.head->filters; i++) {
		const struct riprap_table_filter *f = &rules->view.filters[i];
		const struct riprap_filter_key key = {
			.has = f->has, .uid = f->uid,
			.name = (const char *)rules->view.strings + f->name, .name_len = f->name_len,
			.exe = (const char *)rules->view.strings + f->exe, .exe_len = f->exe_len,
		};

		slot = riprap_filter_hash(rules, &key) & rules->filter_mask;
		while (rules->filter_slots[slot])
			slot = (slot + 1) & rules->filter_mask;
		rules->filter_slots[slot] = i + 1;
		rules->filter_kinds |= BIT(f->has);
	}
}

static bool same_shape(const struct riprap_table_rule *a, const struct riprap_table_rule *b)
{
	return a->subject == b->subject && a->inbound == b->inbound && a->prefix_len == b->prefix_len &&
	       a->port_bits == b->port_bits;
}

static struct riprap_rules_shape shape_of(const struct riprap_table_rule *rule)
{
	struct riprap_rules_shape shape = {
		.port_mask = ~(0xffff >> rule->port_bits),
		.form = riprap_rule_form(rule->inbound, rule->prefix_len, rule->port_bits),
	};
	u8 mask[16] = { 0 };

	memset(mask, 0xff, rule->prefix_len / 8);
	if (rule->prefix_len % 8)
		mask[rule->prefix_len / 8] = (u8)~(0xff >> (rule->prefix_len % 8));
	memcpy(shape.address_mask, mask, sizeof(mask));
	return shape;
}

/*
 * Rules are sorted by rising specificity inside a subject and direction, and
 * lookups want the falling one: the walk goes from the last rule to the first.
 */
static void index_shapes(struct riprap_rules *rules)
{
	u32 subject = rules->view.head->subjects, shapes = 0, i;

	for (i = rules->view.head->rules; i-- > 0;) {
		const struct riprap_table_rule *rule = &rules->view.rules[i];
		struct riprap_rules_subject *s;

		while (!subject || rules->view.subjects[subject - 1].subject != rule->subject) {
			if (WARN_ON_ONCE(!subject))
				return;
			subject--;
		}
		s = &rules->subjects[subject - 1];
		if (i + 1 < rules->view.head->rules && same_shape(rule, rule + 1))
			continue;
		if (!s->direction[rule->inbound].shapes++)
			s->direction[rule->inbound].first_shape = shapes;
		rules->shapes[shapes++] = shape_of(rule);
	}
	for (i = 0; i < rules->view.head->subjects; i++) {
		rules->subjects[i].direction[0].mode = rules->view.subjects[i].egress_mode;
		rules->subjects[i].direction[1].mode = rules->view.subjects[i].ingress_mode;
	}
}

static u32 count_shapes(const struct riprap_table_view *view)
{
	u32 i, shapes = 0;

	for (i = 0; i < view->head->rules; i++)
		shapes += !i || !same_shape(&view->rules[i], &view->rules[i - 1]);
	return shapes;
}

/* Takes the blob on success. */
static struct riprap_rules *build_rules(u8 *blob, size_t length, u64 generation)
{
	struct riprap_rules *rules = kzalloc(sizeof(*rules), GFP_KERNEL);
	const char *reason;
	int err = -ENOMEM;
	u32 shapes;

	if (!rules)
		return ERR_PTR(err);
	err = riprap_table_check(blob, length, &rules->view, &reason);
	if (!err && rules->view.head->generation != generation) {
		reason = "the table is of another generation";
		err = -EINVAL;
	}
	if (err) {
		pr_err("cannot take rule table %llu: %s\n", generation, reason);
		goto out_free;
	}
	err = -ENOMEM;
	shapes = count_shapes(&rules->view);
	rules->seed = get_random_u32();
	rules->rule_mask = roundup_pow_of_two(2 * rules->view.head->rules + 1) - 1;
	rules->filter_mask = roundup_pow_of_two(2 * rules->view.head->filters + 1) - 1;
	rules->rule_slots = counted_array(rules, rules->rule_mask + 1, sizeof(u32));
	rules->filter_slots = counted_array(rules, rules->filter_mask + 1, sizeof(u32));
	rules->subjects = counted_array(rules, rules->view.head->subjects + 1, sizeof(*rules->subjects));
	rules->shapes = counted_array(rules, shapes + 1, sizeof(*rules->shapes));
	if (!rules->rule_slots || !rules->filter_slots || !rules->subjects || !rules->shapes)
		goto out_free;
	index_rules(rules);
	index_filters(rules);
	index_shapes(rules);
	rules->blob = blob;
	rules->bytes += length;
	atomic64_add(length, &riprap_counters.memory_bytes);
	return rules;
out_free:
	free_rules(rules);
	return ERR_PTR(err);
}

static void swap_in(struct riprap_rules *rules)
{
	struct riprap_rules *old = rcu_replace_pointer(riprap_rules, rules, true);

	WRITE_ONCE(riprap_rules_filter_kinds, rules ? rules->filter_kinds : 0);
	if (!old)
		return;
	synchronize_rcu();
	free_rules(old);
}

/**
 * riprap_table_commit() - check the received table and put it in force
 * @generation: of its TABLE_BEGIN
 *
 * Waits for a grace period: when it returns, no lookup sees the old table.
 *
 * Return: 0, -EINVAL (not whole, or malformed: the kernel log says how), -ENOMEM.
 * On error the earlier table is still in force.
 */
int riprap_table_commit(u64 generation)
{
	struct riprap_rules *rules;

	if (!upload.blob || upload.generation != generation || upload.received != upload.length) {
		riprap_table_abort();
		return -EINVAL;
	}
	rules = build_rules(upload.blob, upload.length, generation);
	if (IS_ERR(rules)) {
		riprap_table_abort();
		return PTR_ERR(rules);
	}
	upload.blob = NULL;
	riprap_table_abort();
	swap_in(rules);
	return 0;
}

/**
 * riprap_table_init() - nothing is in force at first
 *
 * Return: 0.
 */
int riprap_table_init(void)
{
	return 0;
}

void riprap_table_exit(void)
{
	riprap_table_abort();
	swap_in(NULL);
}
