// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Checks a compiled rule table before anything looks into it: after this, no
 * lookup can leave the blob. Never allocates; linear in the table.
 */
#include "frame.h"

#define TABLE_FILTER_BITS (RIPRAP_FILTER_UID | RIPRAP_FILTER_NAME | RIPRAP_FILTER_EXE)

int riprap_table_compare(const u8 *a, size_t a_len, const u8 *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (order)
		return order;
	return (a_len > b_len) - (a_len < b_len);
}

bool riprap_table_is_masked(const u8 address[16], unsigned int prefix_len)
{
	unsigned int i = prefix_len / 8;

	if (prefix_len % 8) {
		if (address[i] & (0xff >> (prefix_len % 8)))
			return false;
		i++;
	}
	for (; i < 16; i++)
		if (address[i])
			return false;
	return true;
}

static bool is_port_masked(u16 port, unsigned int bits)
{
	return !(port & (0xffffu >> bits));
}

static const char *check_subjects(const struct riprap_table_view *view)
{
	u32 i;

	for (i = 0; i < view->head->subjects; i++) {
		const struct riprap_table_subject *s = &view->subjects[i];

		if (s->subject <= (i ? view->subjects[i - 1].subject : 0))
			return "subjects are not sorted";
		if (s->egress_mode > RIPRAP_MODE_ENFORCE || s->ingress_mode > RIPRAP_MODE_ENFORCE || s->pad0)
			return "a subject has no such mode";
	}
	return NULL;
}

static int compare_u64(u64 a, u64 b)
{
	return (a > b) - (a < b);
}

static u64 shape_key(const struct riprap_table_rule *r)
{
	return (u64)r->subject << 32 | (u32)r->inbound << 16 | (u32)r->prefix_len << 8 | r->port_bits;
}

static int compare_rules(const struct riprap_table_rule *a, const struct riprap_table_rule *b)
{
	int order = compare_u64(shape_key(a), shape_key(b));

	if (!order)
		order = memcmp(a->address, b->address, sizeof(a->address));
	if (!order)
		order = compare_u64(a->port, b->port);
	return order ? order : compare_u64(a->number, b->number);
}

static bool has_peer_set(const struct riprap_table_view *view, u32 set)
{
	u32 low = 0, high = view->head->peers;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (view->peers[middle].set < set)
			low = middle + 1;
		else
			high = middle;
	}
	return low < view->head->peers && view->peers[low].set == set;
}

static const char *check_rule(const struct riprap_table_view *view, const struct riprap_table_rule *r)
{
	if (!r->number || r->pad0 || r->pad1 || r->inbound > 1 || r->action > RIPRAP_ACTION_PLAIN)
		return "a rule is malformed";
	if (r->prefix_len > 128 || r->port_bits > 16)
		return "a rule's prefix is too long";
	if (!riprap_table_is_masked(r->address, r->prefix_len) || !is_port_masked(r->port, r->port_bits))
		return "a rule has bits outside its mask";
	if (r->peer_set && !has_peer_set(view, r->peer_set))
		return "a rule names a peer set that is not there";
	return NULL;
}

/* Rules and subjects are both sorted by subject: one walk finds every rule's subject and counts shapes. */
static const char *check_rules(const struct riprap_table_view *view)
{
	u32 i, subject = 0, shapes = 0;

	for (i = 0; i < view->head->rules; i++) {
		const struct riprap_table_rule *r = &view->rules[i], *last = i ? r - 1 : NULL;
		const char *reason = check_rule(view, r);

		if (reason)
			return reason;
		if (last && compare_rules(last, r) >= 0)
			return "rules are not sorted";
		while (subject < view->head->subjects && view->subjects[subject].subject < r->subject)
			subject++;
		if (subject == view->head->subjects || view->subjects[subject].subject != r->subject)
			return "a rule names a subject that is not there";
		if (!last || last->subject != r->subject || last->inbound != r->inbound)
			shapes = 1;
		else if (shape_key(last) != shape_key(r))
			shapes++;
		if (shapes > RIPRAP_TABLE_SHAPES_MAX)
			return "a subject has too many shapes of rules";
	}
	return NULL;
}

static bool is_string(const struct riprap_table_view *view, u32 offset, u32 len, u32 max)
{
	u32 size = view->head->string_bytes;

	return len && len <= max && offset <= size && len <= size - offset &&
	       !memchr(view->strings + offset, 0, len);
}

static const char *check_peers(const struct riprap_table_view *view)
{
	u32 i;

	for (i = 0; i < view->head->peers; i++) {
		const struct riprap_table_peer *p = &view->peers[i], *last = i ? p - 1 : NULL;
		bool slash;

		if (!p->set || p->pad0 || p->pad1 || !is_string(view, p->string, p->length, RIPRAP_SPIFFE_ID_MAX))
			return "a peer is malformed";
		slash = view->strings[p->string + p->length - 1] == '/';
		if (p->match != (slash ? RIPRAP_PEER_PREFIX : RIPRAP_PEER_EXACT))
			return "a peer's match does not go with its string";
		if (last && (p->set < last->set ||
			     (p->set == last->set &&
			      riprap_table_compare(view->strings + last->string, last->length,
						   view->strings + p->string, p->length) >= 0)))
			return "peers are not sorted";
	}
	return NULL;
}

static const char *check_filters(const struct riprap_table_view *view)
{
	u32 i;

	for (i = 0; i < view->head->filters; i++) {
		const struct riprap_table_filter *f = &view->filters[i];
		bool name = f->has & RIPRAP_FILTER_NAME, exe = f->has & RIPRAP_FILTER_EXE;

		if (f->has & ~TABLE_FILTER_BITS || f->pad0)
			return "a filter is malformed";
		if (name ? !is_string(view, f->name, f->name_len, RIPRAP_COMM_MAX - 1) : f->name_len)
			return "a filter's name is malformed";
		if (exe ? !is_string(view, f->exe, f->exe_len, RIPRAP_PATH_MAX) : f->exe_len)
			return "a filter's executable is malformed";
	}
	return NULL;
}

/* Counts are bounded first, so that the sum below cannot overflow. */
static const char *lay_out(const void *blob, size_t size, struct riprap_table_view *view)
{
	const struct riprap_table *head = blob;
	const u8 *at = blob;
	u64 need;

	if (size < sizeof(*head) || size > RIPRAP_TABLE_MAX)
		return "the table has no header";
	if (head->magic != RIPRAP_TABLE_MAGIC || head->version != RIPRAP_ABI_VERSION || head->pad0)
		return "the table is of another version";
	if (head->subjects > RIPRAP_TABLE_SUBJECTS_MAX || head->rules > RIPRAP_TABLE_RULES_MAX ||
	    head->peers > RIPRAP_TABLE_PEERS_MAX || head->filters > RIPRAP_TABLE_FILTERS_MAX)
		return "the table has too many entries";
	need = sizeof(*head) + (u64)head->subjects * sizeof(*view->subjects) +
	       (u64)head->rules * sizeof(*view->rules) + (u64)head->peers * sizeof(*view->peers) +
	       (u64)head->filters * sizeof(*view->filters) + head->string_bytes;
	if (need != size)
		return "the table's parts do not fill it";
	view->head = head;
	at += sizeof(*head);
	view->subjects = (const void *)at;
	at += head->subjects * sizeof(*view->subjects);
	view->rules = (const void *)at;
	at += head->rules * sizeof(*view->rules);
	view->peers = (const void *)at;
	at += head->peers * sizeof(*view->peers);
	view->filters = (const void *)at;
	at += head->filters * sizeof(*view->filters);
	view->strings = at;
	return NULL;
}

int riprap_table_check(const void *blob, size_t size, struct riprap_table_view *view, const char **reason)
{
	*reason = lay_out(blob, size, view);
	if (!*reason)
		*reason = check_subjects(view);
	if (!*reason)
		*reason = check_peers(view);
	if (!*reason)
		*reason = check_rules(view);
	if (!*reason)
		*reason = check_filters(view);
	return *reason ? -EINVAL : 0;
}
