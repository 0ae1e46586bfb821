// SPDX-License-Identifier: GPL-2.0
/*
 * Bytes of a managed socket, in and out. While the connection is under way the
 * program waits; afterwards kTLS or TCP does the work, and what is not the
 * program's (alerts, tickets) is dealt with on the way.
 */
#include <linux/net.h>
#include <linux/splice.h>
#include <linux/tcp.h>
#include <linux/uio.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/tls.h>

#include "compat.h"
#include "connect.h"
#include "device.h"
#include "flow.h"
#include "handshake.h"
#include "record.h"
#include "socket.h"

#define PASSTHROUGH_HEAD	3	/* content type and version: what makes bytes look like TLS */
#define AVAILABLE_MAX		(1 << 20)	/* FIONREAD counts up to here: more than any receive buffer's default */
/* What kTLS knows; the rest means nothing on a stream of records, or must not reach it. */
#define SEND_FLAGS		(MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CMSG_COMPAT | RIPRAP_MSG_SPLICE_PAGES)
#define RECEIVE_FLAGS		(MSG_PEEK | MSG_DONTWAIT | MSG_WAITALL | MSG_ERRQUEUE | MSG_NOSIGNAL | MSG_CMSG_COMPAT)

/* Does it begin like a TLS connection? Looks, and consumes nothing. */
static int check_passthrough(struct riprap_socket *rs, struct iov_iter *iter)
{
	u8 head[PASSTHROUGH_HEAD], seen;
	size_t i, n, got;

	/* Another thread may have been first while this one's memory came: then its own bytes are the next. */
	do {
		seen = READ_ONCE(rs->passthrough_seen);
		if (seen >= PASSTHROUGH_HEAD)
			return 0;
		n = min_t(size_t, iov_iter_count(iter), PASSTHROUGH_HEAD - seen);
		got = copy_from_iter(head, n, iter);
		iov_iter_revert(iter, got);
		if (got < n)
			return -EFAULT;
		for (i = 0; i < n; i++) {
			u8 at = seen + i;
			/* handshake, or the alert of a server that refuses; 3.x */
			bool good = at == 0 ? head[i] == 22 || head[i] == 21 : at == 1 ? head[i] == 3 : head[i] <= 4;

			if (!good) {
				riprap_socket_cut(rs, RIPRAP_REASON_NOT_TLS);
				return -EACCES;
			}
		}
	} while (cmpxchg(&rs->passthrough_seen, seen, seen + n) != seen);
	if (seen + n == PASSTHROUGH_HEAD)
		clear_bit(RIPRAP_SOCKET_PASSTHROUGH, &rs->flags);
	return 0;
}

/*
 * The ticket and the program's first bytes leave together. Without the cork Nagle's algorithm would hold
 * the bytes until the ticket is acknowledged.
 */
static bool send_ticket(struct riprap_socket *rs)
{
	struct sock *sk = rs->sk;
	bool corked;

	if (likely(!test_bit(RIPRAP_SOCKET_TICKET_DUE, &rs->flags)) ||
	    !test_and_clear_bit(RIPRAP_SOCKET_TICKET_DUE, &rs->flags))
		return false;
	corked = tcp_sk(sk)->nonagle & TCP_NAGLE_CORK;
	if (!corked)
		tcp_sock_set_cork(sk, true);
	/* Another thread is in kTLS: whoever sends next brings it. */
	if (riprap_record_send_ticket(rs) == -EBUSY)
		set_bit(RIPRAP_SOCKET_TICKET_DUE, &rs->flags);
	return !corked;
}

/* kTLS copies: the notification that the program waits for says so, as TCP's does when it had to copy. */
static void notify_zerocopy(struct sock *sk, size_t len)
{
	struct ubuf_info *notification;

	lock_sock(sk);
	notification = msg_zerocopy_realloc(sk, len, NULL);
	if (notification)
		uarg_to_msgzc(notification)->zerocopy = 0;
	release_sock(sk);
	net_zcopy_put(notification);
}

static int send_mutual(struct riprap_socket *rs, struct socket *socket, struct msghdr *msg, size_t len)
{
	size_t controllen = msg->msg_controllen;
	unsigned int flags = msg->msg_flags;
	bool corked;
	int n;

	if (flags & MSG_OOB)
		return -EOPNOTSUPP;
	/* kTLS would take an error from TCP for a broken record layer, and end reading too. */
	if (READ_ONCE(socket->sk->sk_shutdown) & SEND_SHUTDOWN)
		return sk_stream_error(socket->sk, flags, -EPIPE);
	/* A record type from the program would speak in our name. */
	msg->msg_controllen = 0;
	msg->msg_flags = flags & SEND_FLAGS;
	corked = send_ticket(rs);
	n = rs->inner->sendmsg(socket, msg, len);
	if (unlikely(corked))
		tcp_sock_set_cork(socket->sk, false);
	if (flags & MSG_MORE)
		riprap_stream_flush_later(rs);
	if (flags & MSG_ZEROCOPY && n > 0 && !msg->msg_ubuf && sock_flag(socket->sk, SOCK_ZEROCOPY))
		notify_zerocopy(socket->sk, n);
	msg->msg_controllen = controllen;
	msg->msg_flags = flags;
	return n;
}

/* What there is to do before bytes can pass. 0: look at the phase again. */
static int wait_until_open(struct riprap_socket *rs, long timeout)
{
	return riprap_handshake_drive(rs, &timeout);
}

static int send_fast_open(struct socket *socket, struct msghdr *msg)
{
	int flags = msg->msg_flags & MSG_DONTWAIT ? O_NONBLOCK : 0;

	msg->msg_flags &= ~MSG_FASTOPEN;
	if (!msg->msg_name)
		return -EDESTADDRREQ;
	return riprap_connect(socket, msg->msg_name, msg->msg_namelen, flags);
}

bool riprap_stream_enter_plain(struct riprap_socket *rs)
{
	atomic_inc(&rs->inside);
	/* Pairs with may_begin() of connect.c. */
	smp_mb__after_atomic();
	if (likely(riprap_socket_phase(rs) == RIPRAP_PHASE_PLAIN))
		return true;
	atomic_dec(&rs->inside);
	return false;
}

void riprap_stream_leave_plain(struct riprap_socket *rs)
{
	smp_mb__before_atomic();
	atomic_dec(&rs->inside);
}

/* What TCP says of a socket that is connected nowhere; without TCP, because a connection may begin meanwhile. */
static int receive_idle(struct sock *sk)
{
	int err = sock_flag(sk, SOCK_DONE) ? 0 : sock_error(sk) ?: -ENOTCONN;

	return err == -ENOTCONN && READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN ? 0 : err;
}

/* What lies in TCP's queue was never the program's. An error that somebody else has taken is no end of the stream. */
static int receive_failed(struct riprap_socket *rs)
{
	if (test_bit(RIPRAP_SOCKET_READ_SHUT, &rs->flags))
		return sock_error(rs->sk);
	return sock_error(rs->sk) ?: -ECONNRESET;
}

/* A cut that is still to be done is done first: TCP then says why, as it does of a reset. */
static int send_failed(struct riprap_socket *rs, unsigned int flags)
{
	mutex_lock(&rs->lock);
	riprap_socket_settle(rs);
	mutex_unlock(&rs->lock);
	return sk_stream_error(rs->sk, flags, -EPIPE);
}

/**
 * riprap_stream_sendmsg() - proto_ops.sendmsg of a managed socket
 * @socket: whose operations are ours
 * @msg: the program's; control messages do not pass kTLS
 * @len: bytes of it
 *
 * Return: as send(2); -EOPNOTSUPP for MSG_OOB on a mutual connection, -EACCES for
 * bytes that are not TLS on a passthrough one, which is then reset.
 */
int riprap_stream_sendmsg(struct socket *socket, struct msghdr *msg, size_t len)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	int n;

	for (;;) {
		switch (riprap_socket_phase(rs)) {
		case RIPRAP_PHASE_MUTUAL:
			n = send_mutual(rs, socket, msg, len);
			goto sent;
		case RIPRAP_PHASE_PLAIN:
			if (!riprap_stream_enter_plain(rs))
				continue;
			n = test_bit(RIPRAP_SOCKET_PASSTHROUGH, &rs->flags) ? check_passthrough(rs, &msg->msg_iter) : 0;
			if (!n)
				n = rs->inner->sendmsg(socket, msg, len);
			riprap_stream_leave_plain(rs);
			goto sent;
		case RIPRAP_PHASE_UNDER_WAY:
			n = wait_until_open(rs, sock_sndtimeo(rs->sk, msg->msg_flags & MSG_DONTWAIT));
			break;
		case RIPRAP_PHASE_IDLE:
			if (!(msg->msg_flags & MSG_FASTOPEN))
				return sk_stream_error(rs->sk, msg->msg_flags, -EPIPE);
			n = send_fast_open(socket, msg);
			break;
		default:
			return send_failed(rs, msg->msg_flags);
		}
		if (n)
			return n;
	}
sent:
	if (n > 0)
		atomic64_add(n, &rs->sent);
	return n;
}

/* End of TCP's stream. Only close_notify makes it an end of the program's. */
static int end_of_stream(struct riprap_socket *rs)
{
	if (test_bit(RIPRAP_SOCKET_CLOSE_SEEN, &rs->flags) || test_bit(RIPRAP_SOCKET_READ_SHUT, &rs->flags))
		return 0;
	if (!test_and_set_bit(RIPRAP_SOCKET_TRUNCATED, &rs->flags) && rs->flow->event.reason == RIPRAP_REASON_RULE)
		rs->flow->event.reason = RIPRAP_REASON_TRUNCATED;
	return -ECONNRESET;
}

/* Nothing but a record of ours stands first: 0 when it is gone and reading may go on, 1 at the end, or -errno. */
static int clear_head(struct riprap_socket *rs, struct socket *socket, int otherwise)
{
	int found = riprap_record_control(rs, socket);

	if (found == RIPRAP_RECORD_END)
		return 1;
	if (found == RIPRAP_RECORD_NONE)
		return otherwise;
	return found < 0 ? found : 0;
}

/* One read through kTLS, again until it gives bytes, the end, or an error. */
static int read_records(struct riprap_socket *rs, struct socket *socket, struct msghdr *msg, size_t len, int flags)
{
	int n, err, tries = 0, total = 0;

	for (;;) {
		if (test_bit(RIPRAP_SOCKET_CLOSE_SEEN, &rs->flags))
			return total;
		/* No room for the record type: kTLS then leaves a record that is not data where it is, with -EIO. */
		n = rs->inner->recvmsg(socket, msg, len - total, flags);
		msg->msg_flags &= ~(MSG_CTRUNC | MSG_EOR);
		if (n == -EIO && !total) {
			/* A racing reader may have taken it: then nothing of ours is there the second time. */
			err = clear_head(rs, socket, tries++ ? -EIO : 0);
			if (err)
				return err < 0 ? err : 0;
			continue;
		}
		if (n == 0 && !total && len)
			return end_of_stream(rs);
		if (unlikely(n > 0 && riprap_record_is_in_message(rs)))
			return riprap_record_error(rs, -EINVAL);
		if (n <= 0)
			return total ?: riprap_record_error(rs, n);
		total += n;
		if (!(flags & MSG_WAITALL) || flags & MSG_PEEK || total == len)
			return total;
		/* MSG_WAITALL stopped at a ticket: take it away and go on. */
		err = clear_head(rs, socket, 1);
		if (err)
			return total;
	}
}

static int receive_mutual(struct riprap_socket *rs, struct socket *socket, struct msghdr *msg, size_t len, int flags)
{
	size_t controllen = msg->msg_controllen;
	void *control = msg->msg_control;
	struct iov_iter program;
	int n;

	/* As TCP says when there is no urgent byte. */
	if (flags & MSG_OOB)
		return -EINVAL;
	if (flags & MSG_ERRQUEUE)
		return rs->inner->recvmsg(socket, msg, len, flags);
	program = msg->msg_iter;
	if (flags & MSG_TRUNC)
		iov_iter_discard(&msg->msg_iter, READ, len);
	msg->msg_control = NULL;
	msg->msg_controllen = 0;
	n = read_records(rs, socket, msg, len, flags & RECEIVE_FLAGS);
	msg->msg_control = control;
	msg->msg_controllen = controllen;
	if (flags & MSG_TRUNC)
		msg->msg_iter = program;
	if (n > 0 && test_bit(RIPRAP_SOCKET_LOOK_AHEAD, &rs->flags))
		clear_bit(RIPRAP_SOCKET_LOOK_AHEAD, &rs->flags);
	return n;
}

/**
 * riprap_stream_recvmsg() - proto_ops.recvmsg of a managed socket
 * @socket: whose operations are ours
 * @msg: where to
 * @len: room there
 * @flags: MSG_*
 *
 * Return: as recv(2); -ECONNRESET when the stream ended without close_notify, or
 * the peer was refused.
 */
int riprap_stream_recvmsg(struct socket *socket, struct msghdr *msg, size_t len, int flags)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	int n;

	for (;;) {
		switch (riprap_socket_phase(rs)) {
		case RIPRAP_PHASE_MUTUAL:
			n = receive_mutual(rs, socket, msg, len, flags);
			goto received;
		case RIPRAP_PHASE_PLAIN:
			if (!riprap_stream_enter_plain(rs))
				continue;
			n = rs->inner->recvmsg(socket, msg, len, flags);
			riprap_stream_leave_plain(rs);
			goto received;
		case RIPRAP_PHASE_UNDER_WAY:
			n = wait_until_open(rs, sock_rcvtimeo(rs->sk, flags & MSG_DONTWAIT));
			if (n)
				return n;
			break;
		case RIPRAP_PHASE_IDLE:
			return flags & MSG_ERRQUEUE ? rs->plain->recvmsg(socket, msg, len, flags) : receive_idle(rs->sk);
		default:
			return receive_failed(rs);
		}
	}
received:
	if (n > 0 && !(flags & (MSG_PEEK | MSG_ERRQUEUE)))
		atomic64_add(n, &rs->received);
	return n;
}

static ssize_t splice_mutual(struct riprap_socket *rs, struct socket *socket, loff_t *position,
			     struct pipe_inode_info *pipe, size_t len, unsigned int flags)
{
	ssize_t n;
	int err;

	for (;;) {
		if (test_bit(RIPRAP_SOCKET_CLOSE_SEEN, &rs->flags))
			return 0;
		n = rs->inner->splice_read(socket, position, pipe, len, flags);
		if (n == 0 && len)
			return end_of_stream(rs);
		if (unlikely(n > 0 && riprap_record_is_in_message(rs)))
			return riprap_record_error(rs, -EINVAL);
		if (n != -EINVAL)
			return n < 0 ? riprap_record_error(rs, n) : n;
		/* Also what kTLS says of a record that is not data. */
		err = clear_head(rs, socket, -EINVAL);
		if (err)
			return err < 0 ? err : 0;
	}
}

ssize_t riprap_stream_splice_read(struct socket *socket, loff_t *position, struct pipe_inode_info *pipe, size_t len,
				  unsigned int flags)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	/* As TCP has it: the file's flag decides, not SPLICE_F_NONBLOCK, which kTLS goes by. */
	bool nonblock = socket->file && socket->file->f_flags & O_NONBLOCK;
	unsigned int tls_flags = nonblock ? flags | SPLICE_F_NONBLOCK : flags & ~SPLICE_F_NONBLOCK;
	ssize_t n;

	for (;;) {
		switch (riprap_socket_phase(rs)) {
		case RIPRAP_PHASE_MUTUAL:
			n = splice_mutual(rs, socket, position, pipe, len, tls_flags);
			goto received;
		case RIPRAP_PHASE_PLAIN:
			if (!riprap_stream_enter_plain(rs))
				continue;
			n = rs->inner->splice_read(socket, position, pipe, len, flags);
			riprap_stream_leave_plain(rs);
			goto received;
		case RIPRAP_PHASE_IDLE:
			return receive_idle(rs->sk);
		case RIPRAP_PHASE_UNDER_WAY:
			n = wait_until_open(rs, sock_rcvtimeo(rs->sk, nonblock));
			if (n)
				return n;
			break;
		default:
			return receive_failed(rs);
		}
	}
received:
	if (n > 0)
		atomic64_add(n, &rs->received);
	return n;
}

#ifdef HAVE_PROTO_OPS_SENDPAGE
static ssize_t sendpage_mutual(struct riprap_socket *rs, struct page *page, int offset, size_t size, int flags)
{
	bool corked;
	ssize_t n;

	if (READ_ONCE(rs->sk->sk_shutdown) & SEND_SHUTDOWN)
		return sk_stream_error(rs->sk, flags, -EPIPE);
	corked = send_ticket(rs);
	n = rs->inner->sendpage(rs->socket, page, offset, size, flags);
	if (unlikely(corked))
		tcp_sock_set_cork(rs->sk, false);
	if (flags & (MSG_MORE | MSG_SENDPAGE_NOTLAST))
		riprap_stream_flush_later(rs);
	return n;
}

ssize_t riprap_stream_sendpage(struct socket *socket, struct page *page, int offset, size_t size, int flags)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	struct bio_vec vec = { .bv_page = page, .bv_offset = offset, .bv_len = size };
	struct iov_iter iter;
	ssize_t n;

	for (;;) {
		switch (riprap_socket_phase(rs)) {
		case RIPRAP_PHASE_MUTUAL:
			n = sendpage_mutual(rs, page, offset, size, flags);
			goto sent;
		case RIPRAP_PHASE_PLAIN:
			if (!riprap_stream_enter_plain(rs))
				continue;
			iov_iter_bvec(&iter, WRITE, &vec, 1, size);
			n = test_bit(RIPRAP_SOCKET_PASSTHROUGH, &rs->flags) ? check_passthrough(rs, &iter) : 0;
			if (!n)
				n = rs->inner->sendpage(socket, page, offset, size, flags);
			riprap_stream_leave_plain(rs);
			goto sent;
		case RIPRAP_PHASE_UNDER_WAY:
			n = wait_until_open(rs, sock_sndtimeo(rs->sk, flags & MSG_DONTWAIT));
			if (n)
				return n;
			break;
		case RIPRAP_PHASE_IDLE:
			return sk_stream_error(rs->sk, flags, -EPIPE);
		default:
			return send_failed(rs, flags);
		}
	}
sent:
	if (n > 0)
		atomic64_add(n, &rs->sent);
	return n;
}
#endif

/* FIONREAD: what a read would give, not what TCP holds. */
int riprap_stream_available(struct riprap_socket *rs, struct socket *socket)
{
	struct msghdr msg = {};
	int n, tries = 0;

	do {
		iov_iter_discard(&msg.msg_iter, READ, AVAILABLE_MAX);
		n = rs->inner->recvmsg(socket, &msg, AVAILABLE_MAX, MSG_PEEK | MSG_DONTWAIT);
	} while (n == -EIO && !tries++ && !clear_head(rs, socket, 0));
	return max(n, 0);
}
