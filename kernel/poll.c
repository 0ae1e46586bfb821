// SPDX-License-Identifier: GPL-2.0
/* What a program is told is ready: never the handshake's bytes, never a record that is not the program's. */
#include <linux/poll.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/tls.h>

#include "compat.h"
#include "record.h"
#include "socket.h"

/* Is there a whole record? TCP alone also counts part of one, at which a program would then block. */
static bool has_record(const struct sock *sk)
{
	struct tls_sw_context_rx *context = tls_sw_ctx_rx(tls_get_ctx(sk));

	return READ_ONCE(context->strp.msg_ready) || !skb_queue_empty_lockless(&context->rx_list);
}

static __poll_t poll_mutual(struct riprap_socket *rs, struct file *file, struct socket *socket,
			    struct poll_table_struct *wait)
{
	struct sock *sk = socket->sk;
	__poll_t mask = rs->inner->poll(file, socket, wait);
	bool open = !(READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN) && inet_sk_state_load(sk) != TCP_CLOSE;

	if (mask & EPOLLIN && open && has_record(sk) && test_bit(RIPRAP_SOCKET_LOOK_AHEAD, &rs->flags)) {
		/* Tickets stand before the server's first byte: a program woken for them would block. */
		while (riprap_record_control(rs, socket) == RIPRAP_RECORD_HANDLED)
			;
		mask = rs->inner->poll(file, socket, NULL);
	}
	if (test_bit(RIPRAP_SOCKET_CLOSE_SEEN, &rs->flags))
		mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
	else if (open && !has_record(sk))
		mask &= ~(EPOLLIN | EPOLLRDNORM);
	return mask;
}

/**
 * riprap_stream_poll() - proto_ops.poll of a managed socket
 * @file: of the socket
 * @socket: whose operations are ours
 * @wait: NULL: only look
 *
 * While the connection is under way nothing is ready; the end of the handshake
 * wakes whoever waits.
 */
__poll_t riprap_stream_poll(struct file *file, struct socket *socket, struct poll_table_struct *wait)
{
	struct riprap_socket *rs = riprap_socket_of(socket);

	if (riprap_socket_phase(rs) == RIPRAP_PHASE_UNDER_WAY) {
		sock_poll_wait(file, socket, wait);
		/* It may have ended before we were on the queue. */
		if (riprap_socket_phase(rs) == RIPRAP_PHASE_UNDER_WAY)
			return 0;
		wait = NULL;
	}
	if (riprap_socket_phase(rs) == RIPRAP_PHASE_MUTUAL)
		return poll_mutual(rs, file, socket, wait);
	return rs->inner->poll(file, socket, wait);
}
