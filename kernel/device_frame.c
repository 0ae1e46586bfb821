// SPDX-License-Identifier: GPL-2.0
/*
 * What each frame of the daemon does: a table from type to the room that it
 * belongs to. Decides nothing itself; device.c's writer calls, one at a time.
 */
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "device.h"
#include "device_frame.h"
#include "frame.h"
#include "peer.h"
#include "process.h"
#include "table.h"

static void on_start(const struct riprap_frame_view *view)
{
	const struct riprap_start *start = &view->fixed.start;
	int err = start->abi == RIPRAP_ABI_VERSION ? 0 : -EPROTONOSUPPORT;

	if (!err) {
		riprap_process_configure(start);
		riprap_device_start();
	}
	riprap_device_ack(RIPRAP_ACK_START, 0, err, view->sequence);
}

static void on_assign(const struct riprap_frame_view *view)
{
	int err = riprap_process_assign(&view->fixed.assign, (const char *)view->tail);

	if (err)
		riprap_device_ack(RIPRAP_ACK_ASSIGN, view->fixed.assign.instance, err, view->sequence);
}

static void on_svid(const struct riprap_frame_view *view)
{
	int err = riprap_process_install(&view->fixed.svid, view->tail);

	riprap_device_ack(RIPRAP_ACK_SVID, view->fixed.svid.key_id, err, view->sequence);
}

static void on_verified(const struct riprap_frame_view *view)
{
	riprap_peer_answer(&view->fixed.verified, (const char *)view->tail);
}

static void on_table_begin(const struct riprap_frame_view *view)
{
	int err = riprap_table_begin(&view->fixed.table_begin);

	if (err)
		riprap_device_ack(RIPRAP_ACK_TABLE, view->fixed.table_begin.generation, err, view->sequence);
}

static void on_table_data(const struct riprap_frame_view *view)
{
	int err = riprap_table_data(&view->fixed.table_data, view->tail);

	if (err)
		riprap_device_ack(RIPRAP_ACK_TABLE, view->fixed.table_data.generation, err, view->sequence);
}

static void on_table_commit(const struct riprap_frame_view *view)
{
	int err = riprap_table_commit(view->fixed.table_commit.generation);

	riprap_device_ack(RIPRAP_ACK_TABLE, view->fixed.table_commit.generation, err, view->sequence);
}

static void on_trust(const struct riprap_frame_view *view)
{
	int err = riprap_peer_trust(view->fixed.trust.generation);

	if (!err)
		riprap_ticket_flush();
	riprap_device_ack(RIPRAP_ACK_TRUST, view->fixed.trust.generation, err, view->sequence);
}

static void on_cut(const struct riprap_frame_view *view)
{
	char *peer_id = NULL;
	u64 cut;

	if (view->tail_len) {
		peer_id = kmemdup_nul((const char *)view->tail, view->tail_len, GFP_KERNEL);
		if (!peer_id) {
			riprap_device_ack(RIPRAP_ACK_CUT, 0, -ENOMEM, view->sequence);
			return;
		}
	}
	cut = riprap_flow_cut(&view->fixed.cut, peer_id);
	kfree(peer_id);
	riprap_device_ack(RIPRAP_ACK_CUT, cut, 0, view->sequence);
}

static void on_adopt(const struct riprap_frame_view *view)
{
	int err = riprap_process_adopt(&view->fixed.adopt, view->sequence);

	if (err)
		riprap_device_ack(RIPRAP_ACK_ADOPT, view->fixed.adopt.pid, err, view->sequence);
}

static void on_renew(const struct riprap_frame_view *view)
{
	riprap_process_renew(view->fixed.renew.instance);
}

static void on_withdraw(const struct riprap_frame_view *view)
{
	riprap_process_withdraw(view->fixed.withdraw.instance, view->fixed.withdraw.reason);
}

static void on_drain(const struct riprap_frame_view *view)
{
	riprap_socket_drain(view->fixed.drain.on);
	riprap_device_ack(RIPRAP_ACK_DRAIN, atomic_read(&riprap_counters.flows_live), 0, view->sequence);
}

static void on_query(const struct riprap_frame_view *view)
{
	struct riprap_counters *c = &riprap_counters;
	struct riprap_query_done done = { .query = view->fixed.query.query };
	u64 before = riprap_device_snapshots();

	if (view->fixed.query.what & RIPRAP_QUERY_PROCESSES)
		riprap_process_replay(RIPRAP_FRAME_SNAPSHOT);
	if (view->fixed.query.what & RIPRAP_QUERY_FLOWS)
		riprap_flow_snapshot(RIPRAP_FRAME_SNAPSHOT);
	done.frames = riprap_device_snapshots() - before;
	done.processes_live = atomic_read(&c->processes_live);
	done.processes_seen = atomic64_read(&c->processes_seen);
	done.flows_live = atomic_read(&c->flows_live);
	done.flows_seen = atomic64_read(&c->flows_seen);
	done.denied = atomic64_read(&c->denied);
	done.allowed_plain = atomic64_read(&c->allowed_plain);
	done.handshakes_full = atomic64_read(&c->handshakes_full);
	done.handshakes_resumed = atomic64_read(&c->handshakes_resumed);
	done.handshakes_failed = atomic64_read(&c->handshakes_failed);
	done.verify_hits = atomic64_read(&c->verify_hits);
	done.verify_misses = atomic64_read(&c->verify_misses);
	done.fail_open = atomic64_read(&c->fail_open);
	done.sockets_managed = atomic_read(&c->sockets_managed);
	done.lost_flow_events = atomic64_read(&c->lost_flow_events);
	done.memory_bytes = atomic64_read(&c->memory_bytes);
	riprap_device_send_gfp(RIPRAP_QUERY_DONE, 0, &done, sizeof(done), NULL, 0, GFP_KERNEL);
}

static void on_wake(const struct riprap_frame_view *view)
{
	riprap_device_wake();
}

static void (*const on_frame[])(const struct riprap_frame_view *view) = {
	[RIPRAP_START - RIPRAP_START]		= on_start,
	[RIPRAP_ASSIGN - RIPRAP_START]		= on_assign,
	[RIPRAP_SVID - RIPRAP_START]		= on_svid,
	[RIPRAP_VERIFIED - RIPRAP_START]	= on_verified,
	[RIPRAP_TABLE_BEGIN - RIPRAP_START]	= on_table_begin,
	[RIPRAP_TABLE_DATA - RIPRAP_START]	= on_table_data,
	[RIPRAP_TABLE_COMMIT - RIPRAP_START]	= on_table_commit,
	[RIPRAP_TRUST - RIPRAP_START]		= on_trust,
	[RIPRAP_CUT - RIPRAP_START]		= on_cut,
	[RIPRAP_ADOPT - RIPRAP_START]		= on_adopt,
	[RIPRAP_RENEW - RIPRAP_START]		= on_renew,
	[RIPRAP_WITHDRAW - RIPRAP_START]	= on_withdraw,
	[RIPRAP_DRAIN - RIPRAP_START]		= on_drain,
	[RIPRAP_QUERY - RIPRAP_START]		= on_query,
	[RIPRAP_WAKE - RIPRAP_START]		= on_wake,
};

/* What a tool may say that is no daemon: it changes nothing that START would bring. */
static bool needs_start(u16 type)
{
	return type != RIPRAP_START && type != RIPRAP_WAKE && type != RIPRAP_DRAIN && type != RIPRAP_QUERY;
}

/**
 * riprap_device_check() - read all frames of a write, so that a malformed one changes nothing
 * @data: a copy of what was written
 * @size: its length
 * @sequence: what the first frame must carry
 *
 * Return: 0, -EINVAL (malformed), -EPROTO (something before START).
 */
int riprap_device_check(const u8 *data, size_t size, u64 sequence)
{
	bool started = riprap_device_is_started();
	struct riprap_frame_view view;
	size_t at = 0;

	while (at < size) {
		if (riprap_frame_read(data, size, &at, sequence++, &view))
			return -EINVAL;
		started |= view.type == RIPRAP_START;
		if (!started && needs_start(view.type))
			return -EPROTO;
	}
	return 0;
}

/**
 * riprap_device_handle() - act on the frames of a write, in order
 * @data: passed by riprap_device_check()
 * @size: its length
 * @sequence: as there
 *
 * A START of another version leaves the daemon absent, and what follows it void.
 *
 * Return: how many frames there were.
 */
u64 riprap_device_handle(const u8 *data, size_t size, u64 sequence)
{
	struct riprap_frame_view view;
	u64 count = 0;
	size_t at = 0;

	while (at < size && !riprap_frame_read(data, size, &at, sequence + count, &view)) {
		count++;
		if (!needs_start(view.type) || riprap_device_is_started())
			on_frame[view.type - RIPRAP_START](&view);
		cond_resched();
	}
	return count;
}
