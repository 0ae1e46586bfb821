// SPDX-License-Identifier: GPL-2.0
/*
 * accept(): gives the new socket its own state and decides what the peer must
 * speak. The handshake itself never holds up the accepting program.
 */
#include <linux/ipv6.h>
#include <linux/module.h>
#include <net/inet_sock.h>
#include <net/tcp.h>

#include "accept.h"
#include "decide.h"
#include "device.h"
#include "flow.h"
#include "handshake.h"
#include "identity.h"
#include "socket.h"

#define CONTENT_HANDSHAKE	22	/* first byte of any TLS connection, RFC 8446 section 5.1 */
#define VERSION_MAJOR		3	/* second byte */

static void open_plain(struct riprap_handshake *handshake, u8 tls)
{
	struct riprap_socket *rs = handshake->rs;

	if (rs->flow)
		rs->flow->event.tls = tls;
	if (tls == RIPRAP_TLS_PASSTHROUGH)
		set_bit(RIPRAP_SOCKET_PASSTHROUGH, &rs->flags);
	riprap_handshake_open(handshake, RIPRAP_PHASE_PLAIN);
}

static void begin_sniff(struct riprap_handshake *handshake)
{
	handshake->stage = RIPRAP_STAGE_SNIFF;
	riprap_handshake_arm(handshake, riprap_sniff_timeout_ms());
}

static void decide(struct riprap_handshake *handshake)
{
	enum riprap_decision decision;
	u16 flags = 0;

	decision = riprap_handshake_decide(handshake, &flags);
	if (decision == RIPRAP_DECISION_WAIT)
		return;
	if (decision != RIPRAP_DECISION_BARE && riprap_handshake_make_flow(handshake, flags)) {
		riprap_handshake_fail(handshake, RIPRAP_REASON_NO_MEMORY, ECONNRESET);
		return;
	}
	switch (decision) {
	case RIPRAP_DECISION_DENY:
		riprap_handshake_fail(handshake, handshake->verdict.reason, ECONNRESET);
		return;
	case RIPRAP_DECISION_PASSTHROUGH:
		begin_sniff(handshake);
		return;
	case RIPRAP_DECISION_MUTUAL:
		if (handshake->verdict.mode == RIPRAP_MODE_PERMISSIVE)
			begin_sniff(handshake);
		else
			handshake->stage = RIPRAP_STAGE_BEGIN;
		return;
	default:
		open_plain(handshake, RIPRAP_TLS_PLAIN);
	}
}

enum sniffed { SNIFFED_NOTHING, SNIFFED_TLS, SNIFFED_OTHER };

/* Looks at the peer's first bytes and leaves them where they are. Or -errno. */
static int sniff(struct riprap_handshake *handshake)
{
	struct riprap_socket *rs = handshake->rs;
	u8 head[2];
	struct kvec vec = { .iov_base = head, .iov_len = sizeof(head) };
	struct msghdr msg = {};
	int n;

	iov_iter_kvec(&msg.msg_iter, READ, &vec, 1, sizeof(head));
	n = rs->plain->recvmsg(rs->socket, &msg, sizeof(head), MSG_DONTWAIT | MSG_PEEK);
	if (n == -EAGAIN)
		return time_after(jiffies, handshake->deadline) ? SNIFFED_OTHER : SNIFFED_NOTHING;
	if (n < 0)
		return n;
	if (n == 0 || head[0] != CONTENT_HANDSHAKE || (n == 2 && head[1] != VERSION_MAJOR))
		return SNIFFED_OTHER;
	if (n == 1 && !time_after(jiffies, handshake->deadline))
		return SNIFFED_NOTHING;
	return n == 1 ? SNIFFED_OTHER : SNIFFED_TLS;
}

static void judge_sniffed(struct riprap_handshake *handshake)
{
	struct riprap_flow *flow = handshake->rs->flow;
	bool passthrough = handshake->verdict.action == RIPRAP_ACTION_PASSTHROUGH;
	int seen = sniff(handshake);

	if (seen == SNIFFED_NOTHING)
		return;
	if (seen < 0) {
		riprap_handshake_fail(handshake, RIPRAP_REASON_TCP, -seen);
		return;
	}
	if (seen == SNIFFED_TLS) {
		if (passthrough)
			open_plain(handshake, RIPRAP_TLS_PASSTHROUGH);
		else
			riprap_handshake_start_tls(handshake);
		return;
	}
	if (handshake->verdict.mode != RIPRAP_MODE_PERMISSIVE) {
		riprap_handshake_fail(handshake, RIPRAP_REASON_NOT_TLS, ECONNRESET);
		return;
	}
	flow->event.reason = passthrough ? RIPRAP_REASON_NOT_TLS : RIPRAP_REASON_PEER_PLAINTEXT;
	flow->event.flags |= RIPRAP_FLOW_WOULD_DENY;
	open_plain(handshake, RIPRAP_TLS_PLAIN);
}

void riprap_accept_step(struct riprap_handshake *handshake)
{
	struct riprap_socket *rs = handshake->rs;

	if (handshake->stage == RIPRAP_STAGE_IDENTITY)
		decide(handshake);
	/* What the next stage waits for may have come before, and would not kick again. The last may be over. */
	if (rs->handshake && handshake->stage == RIPRAP_STAGE_SNIFF)
		judge_sniffed(handshake);
	else if (rs->handshake && handshake->stage == RIPRAP_STAGE_BEGIN)
		riprap_handshake_start_tls(handshake);
}

static void note_ends(struct riprap_handshake *handshake, const struct sock *sk)
{
	const struct inet_sock *inet = inet_sk(sk);

#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6)
		handshake->remote = sk->sk_v6_daddr;
	else
#endif
		ipv6_addr_set_v4mapped(inet->inet_daddr, &handshake->remote);
	handshake->port = ntohs(inet->inet_sport);
}

/* The accepted socket of a managed process. -errno: it must not reach the program. */
static int mediate(struct socket *accepted)
{
	struct riprap_handshake *handshake;
	struct riprap_process *process;
	struct riprap_socket *rs;

	process = riprap_process_current();
	if (IS_ERR_OR_NULL(process))
		return PTR_ERR_OR_ZERO(process);
	rs = riprap_socket_attach(accepted, false);
	if (IS_ERR(rs)) {
		riprap_process_put(process);
		return PTR_ERR(rs);
	}
	handshake = riprap_handshake_new(rs, process, true);
	if (!handshake)
		return -ENOMEM;
	note_ends(handshake, rs->sk);
	mutex_lock(&rs->lock);
	riprap_handshake_install(handshake);
	decide(handshake);
	if (rs->handshake && rs->handshake->stage == RIPRAP_STAGE_IDENTITY)
		riprap_handshake_watch_process(handshake);
	mutex_unlock(&rs->lock);
	if (riprap_socket_phase(rs) == RIPRAP_PHASE_UNDER_WAY)
		riprap_handshake_kick(rs);
	return 0;
}

/*
 * riprap_accept() - proto_ops.accept of a managed listener
 *
 * As accept(2); -ECONNABORTED when the new connection could not be given
 * its state (it is then reset), -EOPNOTSUPP for a kernel user of the listener.
 */
int riprap_accept(struct socket *socket, struct socket *accepted, RIPRAP_ACCEPT_PARAMETERS)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	int err;

	/* kernel_accept() copies the listener's operations afterwards: its state would be taken for the child's. */
	if (RIPRAP_ACCEPT_IS_KERNEL)
		return -EOPNOTSUPP;
	/* The caller copied the listener's operations, with a reference on this module. */
	if (accepted->ops == &rs->ops) {
		accepted->ops = rs->plain;
		module_put(THIS_MODULE);
	}
	err = rs->plain->accept(socket, accepted, RIPRAP_ACCEPT_ARGUMENTS);
	if (err)
		return err;
	err = mediate(accepted);
	if (err) {
		tcp_abort(accepted->sk, ECONNABORTED);
		return -ECONNABORTED;
	}
	return 0;
}
