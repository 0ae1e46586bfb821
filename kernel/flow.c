// SPDX-License-Identifier: GPL-2.0
/* Live connections: what the daemon is told of them, and how they are cut. Never touches a packet. */
#include <linux/ipv6.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>

#include "device.h"
#include "flow.h"
#include "peer.h"
#include "socket.h"
#include "table.h"
#include "trace.h"

static LIST_HEAD(flows);
static DEFINE_SPINLOCK(flows_lock);
static DEFINE_MUTEX(cut_lock);			/* one cut at a time: guards recheck_verdict */
static struct riprap_verdict recheck_verdict;	/* under cut_lock; too large for a stack */
static atomic64_t last_flow;
static atomic64_t cuts;

struct riprap_flow *riprap_flow_new(struct riprap_socket *socket, bool inbound)
{
	struct riprap_flow *flow = kzalloc(sizeof(*flow), GFP_KERNEL);

	if (!flow)
		return NULL;
	INIT_LIST_HEAD(&flow->node);
	refcount_set(&flow->ref, 1);
	flow->socket = socket;
	flow->event.flow = atomic64_inc_return(&last_flow);
	flow->event.opened_ns = ktime_get_real_ns();
	if (inbound)
		flow->event.flags |= RIPRAP_FLOW_INBOUND;
	atomic64_inc(&riprap_counters.flows_seen);
	return flow;
}

void riprap_flow_put(struct riprap_flow *flow)
{
	if (!flow || !refcount_dec_and_test(&flow->ref))
		return;
	if (flow->peer)
		riprap_peer_put(flow->peer);
	kfree(flow->own_id);
	kfree(flow);
}

void riprap_flow_note_verdict(struct riprap_flow *flow, const struct riprap_verdict *verdict)
{
	flow->event.table_generation = verdict->generation;
	flow->event.rule = verdict->rule;
	flow->event.mode = verdict->mode;
	flow->event.reason = verdict->reason;
}

u64 riprap_flow_cuts(void)
{
	/* Before what is then decided by the state in force. */
	return atomic64_read_acquire(&cuts);
}

static void map_address(u8 out[16], const struct sock *sk, __be32 v4, const struct in6_addr *v6)
{
	struct in6_addr address;

	if (sk->sk_family == AF_INET)
		ipv6_addr_set_v4mapped(v4, &address);
	else
		address = *v6;
	memcpy(out, &address, sizeof(address));
}

void riprap_flow_note_addresses(struct riprap_flow *flow)
{
	const struct sock *sk = flow->socket->sk;
	const struct inet_sock *inet = inet_sk(sk);
	struct riprap_flow_event *event = &flow->event;
	struct in6_addr none = {};

#if IS_ENABLED(CONFIG_IPV6)
	map_address(event->local, sk, inet->inet_saddr, inet6_sk(sk) ? &inet6_sk(sk)->saddr : &none);
	map_address(event->remote, sk, inet->inet_daddr, &sk->sk_v6_daddr);
#else
	map_address(event->local, sk, inet->inet_saddr, &none);
	map_address(event->remote, sk, inet->inet_daddr, &none);
#endif
	event->local_port = ntohs(inet->inet_sport);
	event->remote_port = ntohs(inet->inet_dport);
	if (ipv6_addr_v4mapped((const struct in6_addr *)event->remote))
		event->flags |= RIPRAP_FLOW_IPV4;
}

/* Under flows_lock while the flow may be live, or by the socket's owner. */
static void count_bytes(struct riprap_flow *flow)
{
	flow->event.bytes_sent = atomic64_read(&flow->socket->sent);
	flow->event.bytes_received = atomic64_read(&flow->socket->received);
}

static void send_event(struct riprap_flow *flow, u8 state, u32 flags)
{
	struct riprap_flow_event event = flow->event;
	struct riprap_part part[2] = {};

	event.state = state;
	if (flow->own_id) {
		part[0].data = flow->own_id;
		part[0].len = strlen(flow->own_id);
	}
	if (flow->peer && flow->peer->spiffe_id) {
		part[1].data = flow->peer->spiffe_id;
		part[1].len = strlen(flow->peer->spiffe_id);
	}
	event.own_id_len = part[0].len;
	event.peer_id_len = part[1].len;
	if (!(flags & RIPRAP_FRAME_SNAPSHOT))
		trace_riprap_flow(event.flow, event.instance, state, event.tls, event.reason, event.error);
	riprap_device_send(RIPRAP_FLOW, flags, &event, sizeof(event), part, ARRAY_SIZE(part));
}

void riprap_flow_start(struct riprap_flow *flow)
{
	riprap_flow_note_addresses(flow);
	atomic_inc(&riprap_counters.flows_live);
	spin_lock_bh(&flows_lock);
	refcount_inc(&flow->ref);
	list_add_tail(&flow->node, &flows);
	spin_unlock_bh(&flows_lock);
	if (flow->event.tls != RIPRAP_TLS_MUTUAL)
		atomic64_inc(&riprap_counters.allowed_plain);
	/* A policy in OBSERVE refuses nothing by design; that nobody could say who asks is none. */
	if (flow->event.flags & RIPRAP_FLOW_WOULD_DENY &&
	    (flow->event.mode != RIPRAP_MODE_OBSERVE || flow->event.reason == RIPRAP_REASON_UNKNOWN_PROCESS)) {
		atomic64_inc(&riprap_counters.fail_open);
		trace_riprap_fail_open(flow->event.flow, flow->event.instance, flow->event.reason);
	}
	send_event(flow, RIPRAP_FLOW_OPEN, 0);
}

void riprap_flow_end(struct riprap_flow *flow, u8 state)
{
	bool was_live;

	if (!flow || test_and_set_bit(0, &flow->ended))
		return;
	spin_lock_bh(&flows_lock);
	was_live = !list_empty(&flow->node);
	list_del_init(&flow->node);
	count_bytes(flow);
	flow->socket = NULL;
	spin_unlock_bh(&flows_lock);
	if (state == RIPRAP_FLOW_DENIED)
		atomic64_inc(&riprap_counters.denied);
	send_event(flow, state, 0);
	if (was_live) {
		atomic_dec(&riprap_counters.flows_live);
		riprap_flow_put(flow);
	}
}

void riprap_flow_snapshot(u32 flags)
{
	struct riprap_flow *flow;

	spin_lock_bh(&flows_lock);
	list_for_each_entry(flow, &flows, node) {
		count_bytes(flow);
		send_event(flow, RIPRAP_FLOW_OPEN, flags);
	}
	spin_unlock_bh(&flows_lock);
}

/* Would the table in force refuse this flow if it were opened now? Under cut_lock. */
static bool is_refused_now(const struct riprap_flow *flow)
{
	const struct riprap_flow_event *event = &flow->event;
	bool inbound = event->flags & RIPRAP_FLOW_INBOUND;
	const struct in6_addr *remote = (const struct in6_addr *)event->remote;
	u16 port = inbound ? event->local_port : event->remote_port;
	struct riprap_verdict *verdict = &recheck_verdict;

	if (!event->subject)
		return false;
	riprap_table_verdict(event->subject, inbound, remote, port, verdict);
	if (verdict->mode != RIPRAP_MODE_ENFORCE)
		return false;
	if (event->tls == RIPRAP_TLS_MUTUAL && flow->peer)
		return !riprap_table_allows_peer(event->subject, inbound, remote, port, flow->peer->spiffe_id, verdict);
	if (event->tls == RIPRAP_TLS_PASSTHROUGH)
		return verdict->action != RIPRAP_ACTION_PASSTHROUGH;
	return verdict->action != RIPRAP_ACTION_PLAIN;
}

static bool is_meant(const struct riprap_flow *flow, const struct riprap_cut *cut, const char *peer_id)
{
	switch (cut->by) {
	case RIPRAP_CUT_FLOW:
		return flow->event.flow == cut->value;
	case RIPRAP_CUT_INSTANCE:
		return flow->event.instance == cut->value;
	case RIPRAP_CUT_PEER_ID:
		return flow->peer && peer_id && !strcmp(flow->peer->spiffe_id, peer_id);
	case RIPRAP_CUT_RECHECK:
		return is_refused_now(flow);
	case RIPRAP_CUT_ALL:
		return true;
	}
	return false;
}

/**
 * riprap_flow_cut() - end live flows
 * @cut: which ones, and the reason that their records will give
 * @peer_id: for RIPRAP_CUT_PEER_ID, NUL-terminated
 *
 * May sleep, but for no program's sake: nothing more passes on them, and each ends
 * as soon as whoever is in an operation of it has left that. Flows opened meanwhile are
 * judged by the state that the caller has already put in force: riprap_handshake_open()
 * looks again once they are live.
 *
 * Return: how many were cut.
 */
u64 riprap_flow_cut(const struct riprap_cut *cut, const char *peer_id)
{
	struct riprap_flow *flow;
	u64 count = 0;

	/* After the state is in force, and before the list's lock is taken: a flow that the walk does not find sees both. */
	atomic64_inc_return(&cuts);
	mutex_lock(&cut_lock);
	spin_lock_bh(&flows_lock);
	list_for_each_entry(flow, &flows, node) {
		if (flow->cutting || !is_meant(flow, cut, peer_id))
			continue;
		flow->cutting = true;
		riprap_socket_doom(flow->socket, cut->reason);
		count++;
	}
	spin_unlock_bh(&flows_lock);
	mutex_unlock(&cut_lock);
	return count;
}

int riprap_flow_init(void)
{
	return 0;
}

void riprap_flow_exit(void)
{
	WARN_ON_ONCE(!list_empty(&flows));
}
