// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Reads frames from the daemon: lengths, order, ranges and pads, by one table
 * of types. Never allocates, and never acts on what it read.
 */
#include "frame.h"

#define FRAME_TIMEOUT_MAX_MS	60000u
#define FRAME_HANDSHAKE_MIN_MS	100u
#define FRAME_HANDSHAKE_MAX_MS	120000u

static bool is_zero(const void *data, size_t len)
{
	const u8 *p = data;
	u8 any = 0;

	while (len--)
		any |= *p++;
	return !any;
}

/* Empty, or a URI of the spiffe scheme in graphic ASCII. The daemon has checked the rest of the standard. */
static bool is_spiffe_id(const u8 *id, size_t len)
{
	static const char scheme[] = "spiffe://";
	size_t i;

	if (!len)
		return true;
	if (len < sizeof(scheme) || len > RIPRAP_SPIFFE_ID_MAX || memcmp(id, scheme, sizeof(scheme) - 1))
		return false;
	for (i = 0; i < len; i++)
		if (id[i] <= ' ' || id[i] >= 0x7f)
			return false;
	return true;
}

/* `certs` certificates, each u32 length then bytes, and nothing after them. */
static bool is_chain(const u8 *chain, size_t len, unsigned int certs)
{
	u32 cert;

	if (!certs || certs > RIPRAP_CHAIN_CERTS_MAX || len > RIPRAP_CHAIN_MAX)
		return false;
	while (certs--) {
		if (len < sizeof(cert))
			return false;
		memcpy(&cert, chain, sizeof(cert));
		if (!cert || cert > len - sizeof(cert))
			return false;
		chain += sizeof(cert) + cert;
		len -= sizeof(cert) + cert;
	}
	return !len;
}

static bool check_empty(const struct riprap_frame_view *view)
{
	return !view->tail_len;
}

static bool check_start(const struct riprap_frame_view *view)
{
	const struct riprap_start *start = &view->fixed.start;

	return !view->tail_len && start->unknown_mode <= RIPRAP_MODE_ENFORCE &&
	       start->attest_timeout_ms && start->attest_timeout_ms <= FRAME_TIMEOUT_MAX_MS &&
	       start->handshake_timeout_ms >= FRAME_HANDSHAKE_MIN_MS &&
	       start->handshake_timeout_ms <= FRAME_HANDSHAKE_MAX_MS &&
	       start->sniff_timeout_ms && start->sniff_timeout_ms <= FRAME_TIMEOUT_MAX_MS &&
	       is_zero(start->pad0, sizeof(start->pad0)) && !start->pad1;
}

static bool check_assign(const struct riprap_frame_view *view)
{
	const struct riprap_assign *assign = &view->fixed.assign;

	return view->tail_len == assign->spiffe_id_len && is_spiffe_id(view->tail, view->tail_len) &&
	       !assign->spiffe_id_len == !assign->subject && !assign->pad0;
}

static bool check_svid(const struct riprap_frame_view *view)
{
	const struct riprap_svid *svid = &view->fixed.svid;

	return view->tail_len == svid->chain_len && svid->not_before < svid->not_after && svid->not_before >= 0 &&
	       is_chain(view->tail, view->tail_len, svid->certs) &&
	       is_zero(svid->pad0, sizeof(svid->pad0));
}

static bool check_verified(const struct riprap_frame_view *view)
{
	const struct riprap_verified *verified = &view->fixed.verified;

	return view->tail_len == verified->spiffe_id_len && is_spiffe_id(view->tail, view->tail_len) &&
	       !verified->spiffe_id_len == !!verified->alert &&
	       (verified->alert || verified->public_key[0] == 0x04) &&
	       !verified->pad0 && !verified->pad1 && is_zero(verified->pad2, sizeof(verified->pad2));
}

static bool check_table_begin(const struct riprap_frame_view *view)
{
	const struct riprap_table_begin *begin = &view->fixed.table_begin;

	return !view->tail_len && begin->generation && begin->length >= sizeof(struct riprap_table) &&
	       begin->length <= RIPRAP_TABLE_MAX && !begin->pad0;
}

static bool check_table_data(const struct riprap_frame_view *view)
{
	const struct riprap_table_data *data = &view->fixed.table_data;

	return view->tail_len == data->length && data->length && data->offset < RIPRAP_TABLE_MAX &&
	       data->length <= RIPRAP_TABLE_MAX - data->offset;
}

static bool check_cut(const struct riprap_frame_view *view)
{
	const struct riprap_cut *cut = &view->fixed.cut;

	return view->tail_len == cut->id_len && is_spiffe_id(view->tail, view->tail_len) &&
	       cut->by >= RIPRAP_CUT_FLOW && cut->by <= RIPRAP_CUT_ALL &&
	       (cut->by == RIPRAP_CUT_PEER_ID) == !!cut->id_len &&
	       cut->reason <= RIPRAP_REASON_ABANDONED && !cut->pad0;
}

static bool check_adopt(const struct riprap_frame_view *view)
{
	return !view->tail_len && view->fixed.adopt.pid && view->fixed.adopt.pid <= 0x7fffffff &&
	       !view->fixed.adopt.pad0;
}

static bool check_withdraw(const struct riprap_frame_view *view)
{
	const struct riprap_withdraw *withdraw = &view->fixed.withdraw;

	return !view->tail_len && withdraw->reason <= RIPRAP_REASON_ABANDONED &&
	       is_zero(withdraw->pad0, sizeof(withdraw->pad0));
}

static bool check_drain(const struct riprap_frame_view *view)
{
	const struct riprap_drain *drain = &view->fixed.drain;

	return !view->tail_len && drain->on <= 1 && is_zero(drain->pad0, sizeof(drain->pad0));
}

static bool check_query(const struct riprap_frame_view *view)
{
	const u32 known = RIPRAP_QUERY_STATS | RIPRAP_QUERY_FLOWS | RIPRAP_QUERY_PROCESSES;

	return !view->tail_len && view->fixed.query.what && !(view->fixed.query.what & ~known) &&
	       !view->fixed.query.pad0;
}

static const struct frame_kind {
	u32 fixed;	/* bytes of its struct */
	bool (*check)(const struct riprap_frame_view *view);
} frame_kinds[] = {
#define FRAME_FIRST RIPRAP_START
	[RIPRAP_START - FRAME_FIRST]		= { sizeof(struct riprap_start), check_start },
	[RIPRAP_ASSIGN - FRAME_FIRST]		= { sizeof(struct riprap_assign), check_assign },
	[RIPRAP_SVID - FRAME_FIRST]		= { sizeof(struct riprap_svid), check_svid },
	[RIPRAP_VERIFIED - FRAME_FIRST]		= { sizeof(struct riprap_verified), check_verified },
	[RIPRAP_TABLE_BEGIN - FRAME_FIRST]	= { sizeof(struct riprap_table_begin), check_table_begin },
	[RIPRAP_TABLE_DATA - FRAME_FIRST]	= { sizeof(struct riprap_table_data), check_table_data },
	[RIPRAP_TABLE_COMMIT - FRAME_FIRST]	= { sizeof(struct riprap_table_commit), check_empty },
	[RIPRAP_TRUST - FRAME_FIRST]		= { sizeof(struct riprap_trust), check_empty },
	[RIPRAP_CUT - FRAME_FIRST]		= { sizeof(struct riprap_cut), check_cut },
	[RIPRAP_ADOPT - FRAME_FIRST]		= { sizeof(struct riprap_adopt), check_adopt },
	[RIPRAP_RENEW - FRAME_FIRST]		= { sizeof(struct riprap_renew), check_empty },
	[RIPRAP_WITHDRAW - FRAME_FIRST]		= { sizeof(struct riprap_withdraw), check_withdraw },
	[RIPRAP_DRAIN - FRAME_FIRST]		= { sizeof(struct riprap_drain), check_drain },
	[RIPRAP_QUERY - FRAME_FIRST]		= { sizeof(struct riprap_query), check_query },
	[RIPRAP_WAKE - FRAME_FIRST]		= { 0, check_empty },
};

int riprap_frame_read(const u8 *data, size_t size, size_t *offset, u64 sequence, struct riprap_frame_view *view)
{
	const struct frame_kind *kind;
	struct riprap_frame head;
	size_t left;

	if (*offset > size || size - *offset < sizeof(head))
		return -EINVAL;
	memcpy(&head, data + *offset, sizeof(head));
	left = size - *offset - sizeof(head);
	if (head.magic != RIPRAP_ABI_MAGIC || head.version != RIPRAP_ABI_VERSION || head.flags ||
	    head.sequence != sequence || head.length > RIPRAP_FRAME_MAX || head.length > left)
		return -EINVAL;
	if (head.type < FRAME_FIRST || head.type - FRAME_FIRST >= (int)(sizeof(frame_kinds) / sizeof(frame_kinds[0])))
		return -EINVAL;
	kind = &frame_kinds[head.type - FRAME_FIRST];
	if (!kind->check || head.length < kind->fixed)
		return -EINVAL;
	view->type = head.type;
	view->sequence = head.sequence;
	memcpy(&view->fixed, data + *offset + sizeof(head), kind->fixed);
	view->tail = data + *offset + sizeof(head) + kind->fixed;
	view->tail_len = head.length - kind->fixed;
	if (!kind->check(view))
		return -EINVAL;
	*offset += sizeof(head) + head.length;
	return 0;
}
