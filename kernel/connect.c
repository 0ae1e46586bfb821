// SPDX-License-Identifier: GPL-2.0
/*
 * connect(): who asks, what the rules say, then the SYN, then the handshake.
 * The verdict is never waited for under the socket lock.
 */
#include <linux/ipv6.h>
#include <linux/sched/signal.h>
#include <net/inet_common.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "compat.h"
#include "connect.h"
#include "crowd.h"
#include "decide.h"
#include "device.h"
#include "flow.h"
#include "handshake.h"
#include "identity.h"
#include "socket.h"

#define SILENCE_MS	3000	/* many times a busy server's handshake, and a third of the handshake's default limit */

/* TCP takes the unspecified address for this machine: for where the socket is bound, or else the loopback address. */
static __be32 resolve_v4(const struct sock *sk, __be32 address)
{
	return address ?: inet_sk(sk)->inet_saddr ?: htonl(INADDR_LOOPBACK);
}

#if IS_ENABLED(CONFIG_IPV6)
static void resolve_v6(const struct sock *sk, struct in6_addr *address)
{
	if (ipv6_addr_v4mapped(address))
		address->s6_addr32[3] = resolve_v4(sk, address->s6_addr32[3]);
	else if (!ipv6_addr_any(address))
		return;
	else if (ipv6_addr_v4mapped(&sk->sk_v6_rcv_saddr))
		ipv6_addr_set_v4mapped(htonl(INADDR_LOOPBACK), address);
	else
		*address = in6addr_loopback;
}
#endif

/* Address and port to which TCP will go by what connect() was given, or false when TCP itself will refuse it. */
static bool read_address(const struct sock *sk, const struct sockaddr *address, int len, struct in6_addr *remote,
			 u16 *port)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

	if (len < (int)sizeof(address->sa_family) || address->sa_family != sk->sk_family)
		return false;
	if (sk->sk_family == AF_INET && len >= (int)sizeof(*v4)) {
		ipv6_addr_set_v4mapped(resolve_v4(sk, v4->sin_addr.s_addr), remote);
		*port = ntohs(v4->sin_port);
		return true;
	}
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6 && len >= SIN6_LEN_RFC2133) {
		*remote = v6->sin6_addr;
		resolve_v6(sk, remote);
		*port = ntohs(v6->sin6_port);
		return true;
	}
#endif
	return false;
}

/* What the program gave, with the address that the verdict is about: TCP has nothing left to choose. */
static void keep_address(struct riprap_handshake *handshake, const struct sockaddr *address, int len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&handshake->address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&handshake->address;

	handshake->address_len = min_t(int, len, sizeof(handshake->address));
	memcpy(&handshake->address, address, handshake->address_len);
	if (address->sa_family == AF_INET)
		v4->sin_addr.s_addr = handshake->remote.s6_addr32[3];
	else
		v6->sin6_addr = handshake->remote;
}

/* TCP's own connect, told that this address was approved. Never blocks when flags say so. */
static int connect_tcp(struct riprap_socket *rs, struct sockaddr *address, int len, int flags)
{
	int err;

	lockdep_assert_held(&rs->lock);
	WRITE_ONCE(rs->approver, current);
	err = rs->plain->connect(rs->socket, address, len, flags);
	WRITE_ONCE(rs->approver, NULL);
	return err;
}

static bool is_connecting(const struct riprap_socket *rs, int err)
{
	return !err || err == -EINPROGRESS || rs->socket->state != SS_UNCONNECTED;
}

static int deny(struct riprap_handshake *handshake)
{
	struct riprap_flow *flow = handshake->rs->flow;

	flow->event.error = EACCES;
	memcpy(flow->event.remote, &handshake->remote, sizeof(handshake->remote));
	flow->event.remote_port = handshake->port;
	if (ipv6_addr_v4mapped(&handshake->remote))
		flow->event.flags |= RIPRAP_FLOW_IPV4;
	riprap_flow_end(flow, RIPRAP_FLOW_DENIED);
	return -EACCES;
}

/* The plain kinds: TCP alone from here on. */
static int go_plain(struct riprap_handshake *handshake, enum riprap_decision decision)
{
	struct riprap_socket *rs = handshake->rs;
	int err;

	err = connect_tcp(rs, (struct sockaddr *)&handshake->address, handshake->address_len, O_NONBLOCK);
	if (!is_connecting(rs, err)) {
		if (rs->flow) {
			rs->flow->event.error = -err;
			riprap_flow_end(rs->flow, RIPRAP_FLOW_FAILED);
		}
		return err;
	}
	if (decision == RIPRAP_DECISION_PASSTHROUGH)
		set_bit(RIPRAP_SOCKET_PASSTHROUGH, &rs->flags);
	if (rs->flow && decision == RIPRAP_DECISION_PASSTHROUGH)
		rs->flow->event.tls = RIPRAP_TLS_PASSTHROUGH;
	riprap_handshake_open(handshake, RIPRAP_PHASE_PLAIN);
	return 0;
}

static int go_mutual(struct riprap_handshake *handshake)
{
	int err;

	handshake->stage = RIPRAP_STAGE_TCP;
	err = connect_tcp(handshake->rs, (struct sockaddr *)&handshake->address, handshake->address_len, O_NONBLOCK);
	if (is_connecting(handshake->rs, err)) {
		riprap_crowd_give_way(handshake);
		return 0;
	}
	handshake->rs->flow->event.reason = RIPRAP_REASON_TCP;
	handshake->rs->flow->event.error = -err;
	riprap_flow_end(handshake->rs->flow, RIPRAP_FLOW_FAILED);
	return err;
}

/*
 * Asks who the process is, and goes as far as the answer allows. Under rs->lock. 0: under way, open, or
 * (stage still IDENTITY) waiting; else nothing was sent and the program gets this errno.
 */
static int resolve(struct riprap_handshake *handshake)
{
	enum riprap_decision decision;
	u16 flags = 0;
	int err;

	decision = riprap_handshake_decide(handshake, &flags);
	if (decision == RIPRAP_DECISION_WAIT)
		return 0;
	if (decision != RIPRAP_DECISION_BARE) {
		err = riprap_handshake_make_flow(handshake, flags);
		if (err)
			return err;
	}
	switch (decision) {
	case RIPRAP_DECISION_DENY:
		return deny(handshake);
	case RIPRAP_DECISION_MUTUAL:
		return go_mutual(handshake);
	default:
		return go_plain(handshake, decision);
	}
}

static void drop_flow(struct riprap_socket *rs)
{
	riprap_flow_put(rs->flow);
	rs->flow = NULL;
}

/* Ends a connect that sent nothing: the socket is as before. */
static void undo(struct riprap_handshake *handshake)
{
	drop_flow(handshake->rs);
	riprap_handshake_finish(handshake, RIPRAP_PHASE_IDLE);
}

static void check_tcp(struct riprap_handshake *handshake)
{
	struct riprap_socket *rs = handshake->rs;
	struct sock *sk = rs->sk;
	int state = inet_sk_state_load(sk);

	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV)
		return;
	if (state == TCP_CLOSE) {
		riprap_handshake_fail(handshake, RIPRAP_REASON_TCP, READ_ONCE(sk->sk_err) ?: ECONNABORTED);
		return;
	}
	riprap_handshake_start_tls(handshake);
}

void riprap_connect_step(struct riprap_handshake *handshake)
{
	struct riprap_socket *rs = handshake->rs;
	struct sock *sk = rs->sk;
	int err;

	if (handshake->stage == RIPRAP_STAGE_TCP) {
		check_tcp(handshake);
		return;
	}
	err = resolve(handshake);
	if (!err && rs->handshake && handshake->stage == RIPRAP_STAGE_TCP)
		check_tcp(handshake);
	if (!err)
		return;
	/* Nobody waits in connect() for this errno: SO_ERROR and poll() carry it. */
	lock_sock(sk);
	sk->sk_err = -err;
	release_sock(sk);
	drop_flow(rs);
	riprap_handshake_finish(handshake, RIPRAP_PHASE_FAILED);
	sk_error_report(sk);
}

/* TCP is there, and the server has not said a byte: its program has not accepted yet. */
static bool is_peer_silent(struct riprap_socket *rs)
{
	struct riprap_handshake *handshake;
	bool silent;

	mutex_lock(&rs->lock);
	handshake = rs->handshake;
	silent = handshake && handshake->stage == RIPRAP_STAGE_TLS && !handshake->read_any && !handshake->have;
	mutex_unlock(&rs->lock);
	return silent;
}

/*
 * A socket whose connection failed before it was open can be used again. One that has been mutual cannot: kTLS
 * stays on it, with its keys, and readers may still look at its flow.
 */
static void reuse(struct riprap_socket *rs)
{
	lockdep_assert_held(&rs->lock);
	if (rs->phase != RIPRAP_PHASE_FAILED || rs->after)
		return;
	drop_flow(rs);
	riprap_socket_set_phase(rs, RIPRAP_PHASE_IDLE);
}

/* What a connection failed with: reported once. 0: that was done, and the socket is free. */
static int take_failure(struct riprap_socket *rs, struct sockaddr *address, int len)
{
	int err;

	mutex_lock(&rs->lock);
	riprap_socket_settle(rs);
	if (rs->phase != RIPRAP_PHASE_FAILED) {
		err = -EALREADY;
	} else if (rs->socket->state == SS_CONNECTED) {
		err = -EISCONN;
	} else if (rs->after) {
		err = sock_error(rs->sk) ?: -EISCONN;
	} else {
		/* TCP has ended: it reports its error and lets the socket go, and waits for nothing. */
		err = rs->socket->state == SS_UNCONNECTED ? sock_error(rs->sk) :
							    rs->plain->connect(rs->socket, address, len, O_NONBLOCK);
		reuse(rs);
	}
	mutex_unlock(&rs->lock);
	return err;
}

/* A plain connect that failed by itself leaves a socket that is free again. */
static bool is_free_again(const struct riprap_socket *rs)
{
	return rs->socket->state == SS_UNCONNECTED && inet_sk_state_load(rs->sk) == TCP_CLOSE;
}

/* What came of the connection that was waited for. Begins no other, whatever other threads have done to this one. */
static int result_of(struct riprap_socket *rs, struct sockaddr *address, int len, int flags)
{
	int err = 0;

	switch (riprap_socket_phase(rs)) {
	case RIPRAP_PHASE_FAILED:
		err = take_failure(rs, address, len);
		break;
	case RIPRAP_PHASE_PLAIN:
	case RIPRAP_PHASE_MUTUAL:
		if (!is_free_again(rs))
			return rs->inner->connect(rs->socket, address, len, flags);
		break;
	default:
		break;
	}
	return err ?: -ECONNABORTED;
}

/*
 * Waits for what is under way and gives connect()'s result. TCP's own connect does the rest: it
 * reports the error and makes the socket usable again, or turns it to connected. A server that only
 * queued the connection must not hold up a program that may be the one to accept it: connect() then
 * succeeds as with TCP alone, and the first byte waits for the peer's identity.
 */
static int wait_for_result(struct riprap_socket *rs, struct sockaddr *address, int len, int flags, int pending)
{
	long timeout = sock_sndtimeo(rs->sk, flags & O_NONBLOCK);
	long patience = msecs_to_jiffies(SILENCE_MS);
	struct socket *socket = rs->socket;
	int err;

	if (!timeout)
		return pending;
	if (timeout <= patience) {
		err = riprap_handshake_drive(rs, &timeout);
	} else {
		err = riprap_handshake_drive(rs, &patience);
		if (err == -EAGAIN && is_peer_silent(rs))
			return rs->plain->connect(socket, address, len, flags);
		if (err == -EAGAIN)
			err = riprap_handshake_drive(rs, &timeout);
	}
	if (err)
		return err == -EAGAIN ? pending : err;
	return result_of(rs, address, len, flags);
}

/* No other thread was first, and none is still in an operation of a plain connection that this socket had before. */
static bool may_begin(struct riprap_socket *rs)
{
	lockdep_assert_held(&rs->lock);
	/* Pairs with riprap_stream_enter_plain(). */
	smp_mb();
	return rs->phase == RIPRAP_PHASE_IDLE && !atomic_read(&rs->inside);
}

static int begin(struct riprap_socket *rs, struct sockaddr *address, int len, int flags)
{
	struct riprap_handshake *handshake;
	struct riprap_process *process;
	struct in6_addr remote = {};
	u16 port = 0;
	int err;

	if (inet_sk_state_load(rs->sk) != TCP_CLOSE || !read_address(rs->sk, address, len, &remote, &port))
		return rs->plain->connect(rs->socket, address, len, flags);
	process = riprap_process_current();
	if (IS_ERR(process))
		return PTR_ERR(process);
	if (!process) {
		mutex_lock(&rs->lock);
		if (!may_begin(rs)) {
			mutex_unlock(&rs->lock);
			return -EALREADY;
		}
		err = connect_tcp(rs, address, len, O_NONBLOCK);
		if (is_connecting(rs, err))
			riprap_socket_set_phase(rs, RIPRAP_PHASE_PLAIN);
		mutex_unlock(&rs->lock);
		return err == -EINPROGRESS ? rs->plain->connect(rs->socket, address, len, flags) : err;
	}
	handshake = riprap_handshake_new(rs, process, false);
	if (!handshake)
		return -ENOMEM;
	handshake->remote = remote;
	handshake->port = port;
	keep_address(handshake, address, len);

	mutex_lock(&rs->lock);
	if (!may_begin(rs)) {
		mutex_unlock(&rs->lock);
		riprap_handshake_free(handshake);
		return -EALREADY;
	}
	riprap_handshake_install(handshake);
	err = resolve(handshake);
	if (err)
		undo(handshake);
	else if (rs->handshake && handshake->stage == RIPRAP_STAGE_IDENTITY)
		riprap_handshake_watch_process(handshake);
	mutex_unlock(&rs->lock);
	if (err)
		return err;
	if (flags & O_NONBLOCK && riprap_socket_phase(rs) == RIPRAP_PHASE_UNDER_WAY)
		riprap_handshake_kick(rs);
	return wait_for_result(rs, address, len, flags, -EINPROGRESS);
}

static void recycle(struct riprap_socket *rs)
{
	lockdep_assert_held(&rs->lock);
	if (rs->phase != RIPRAP_PHASE_PLAIN || !is_free_again(rs))
		return;
	riprap_flow_end(rs->flow, RIPRAP_FLOW_CLOSED);
	drop_flow(rs);
	rs->passthrough_seen = 0;
	clear_bit(RIPRAP_SOCKET_PASSTHROUGH, &rs->flags);
	riprap_socket_set_phase(rs, RIPRAP_PHASE_IDLE);
}

/* connect(AF_UNSPEC): TCP lets a socket go; kTLS refuses by itself. */
static int dissolve(struct riprap_socket *rs, struct sockaddr *address, int len, int flags)
{
	int err;

	riprap_handshake_abandon(rs);
	err = rs->inner->connect(rs->socket, address, len, flags);
	mutex_lock(&rs->lock);
	riprap_socket_settle(rs);
	if (!err)
		reuse(rs);
	recycle(rs);
	/* Begun by another thread after ours had abandoned what there was: TCP told nobody that it let go. */
	if (rs->phase == RIPRAP_PHASE_UNDER_WAY)
		riprap_handshake_kick(rs);
	mutex_unlock(&rs->lock);
	return err;
}

/**
 * riprap_connect() - proto_ops.connect of a managed socket
 * @socket: whose operations are ours
 * @address: already in kernel memory
 * @len: bytes of @address
 * @flags: of the file: O_NONBLOCK matters
 *
 * Return: as connect(2), and -EACCES when a rule, or the lack of one, refuses the
 * connection: then nothing was sent.
 */
int riprap_connect(struct socket *socket, struct sockaddr *address, int len, int flags)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	int err;

	if (len >= (int)sizeof(address->sa_family) && address->sa_family == AF_UNSPEC)
		return dissolve(rs, address, len, flags);
	if (riprap_socket_phase(rs) == RIPRAP_PHASE_PLAIN && is_free_again(rs)) {
		mutex_lock(&rs->lock);
		riprap_socket_settle(rs);
		recycle(rs);
		mutex_unlock(&rs->lock);
	}
	switch (riprap_socket_phase(rs)) {
	case RIPRAP_PHASE_IDLE:
		return begin(rs, address, len, flags);
	case RIPRAP_PHASE_UNDER_WAY:
		if (socket->state == SS_CONNECTED)
			return -EISCONN;
		return wait_for_result(rs, address, len, flags, -EALREADY);
	case RIPRAP_PHASE_FAILED:
		err = take_failure(rs, address, len);
		return err ?: begin(rs, address, len, flags);
	default:
		return rs->inner->connect(socket, address, len, flags);
	}
}

int riprap_connect_check(struct riprap_socket *rs, const struct sockaddr *address, int len)
{
	struct riprap_handshake *handshake;
	struct riprap_verdict verdict;
	struct in6_addr remote;
	u16 port;

	/* Another thread's approval is not ours: only the approver holds the lock under which there is a handshake. */
	if (READ_ONCE(rs->approver) != current)
		return -EACCES;
	handshake = rs->handshake;
	/* Unmanaged, or not an address at all. */
	if (!handshake || !rs->flow || !read_address(rs->sk, address, len, &remote, &port))
		return 0;
	if (ipv6_addr_equal(&remote, &handshake->remote) && port == handshake->port)
		return 0;
	/* A BPF program sent it elsewhere after the verdict: the rules must say the same of that place. */
	riprap_table_verdict(handshake->subject, false, &remote, port, &verdict);
	if (verdict.mode == RIPRAP_MODE_ENFORCE &&
	    (handshake->verdict.mode != RIPRAP_MODE_ENFORCE || verdict.action != handshake->verdict.action ||
	     verdict.action == RIPRAP_ACTION_DENY))
		return -EACCES;
	handshake->remote = remote;
	handshake->port = port;
	handshake->verdict = verdict;
	return 0;
}
