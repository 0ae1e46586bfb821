// SPDX-License-Identifier: GPL-2.0
/*
 * The life of a managed socket: how it gets its operations, the operations that
 * carry no bytes, how it is cut and how it goes. A live one pins the module.
 */
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/inet_common.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <asm/ioctls.h>

#include "accept.h"
#include "compat.h"
#include "connect.h"
#include "crowd.h"
#include "device.h"
#include "flow.h"
#include "handshake.h"
#include "hook.h"
#include "record.h"
#include "socket.h"
#include "tls13/tls13.h"
#include "work.h"

#define CUT_RETRY_MS	10	/* doubled each time, while a program holds what its cut has to take: it gets no further meanwhile */
#define CUT_RETRIES_MAX	7	/* times that it is doubled: about a second */

static const struct proto_ops *inet6_operations;	/* not exported; NULL without IPv6 */
static LIST_HEAD(sockets);
static DEFINE_SPINLOCK(sockets_lock);
static bool draining;

static int socket_release(struct socket *socket);

struct riprap_socket *riprap_socket_of(const struct socket *socket)
{
	const struct proto_ops *ops = READ_ONCE(socket->ops);

	if (!ops || ops->release != socket_release)
		return NULL;
	return container_of(ops, struct riprap_socket, ops);
}

const struct proto_ops *riprap_socket_plain_ops(const struct sock *sk)
{
	return sk->sk_family == AF_INET6 ? inet6_operations : &inet_stream_ops;
}

void riprap_socket_get(struct riprap_socket *rs)
{
	refcount_inc(&rs->ref);
}

void riprap_socket_put(struct riprap_socket *rs)
{
	if (!refcount_dec_and_test(&rs->ref))
		return;
	riprap_flow_put(rs->flow);
	kfree_sensitive(rs->after);
	sock_put(rs->sk);
	kfree_rcu(rs, rcu);
}

void riprap_socket_set_phase(struct riprap_socket *rs, u8 phase)
{
	lockdep_assert_held(&rs->lock);
	smp_store_release(&rs->phase, phase);
}

void riprap_socket_reset(struct riprap_socket *rs, int error)
{
	struct sock *sk = rs->sk;

	lockdep_assert_held(&rs->lock);
	if (tcp_abort(sk, error) != -ENOENT)
		return;
	/*
	 * TCP ended by itself: the handshake took its error, or the peer answered our alert with a reset before
	 * we came here. What the program gets is why we ended it.
	 */
	lock_sock(sk);
	WRITE_ONCE(sk->sk_err, error);
	release_sock(sk);
}

bool riprap_socket_trylock(struct riprap_socket *rs)
{
	if (!mutex_trylock(&rs->lock))
		return false;
	if (!READ_ONCE(rs->sk->sk_lock.owned))
		return true;
	mutex_unlock(&rs->lock);
	return false;
}

static void cut(struct riprap_socket *rs, u8 reason)
{
	static const struct { u8 level, description; } __packed denied = { 2, TLS13_ACCESS_DENIED };

	lockdep_assert_held(&rs->lock);
	if (!rs->flow || (rs->phase != RIPRAP_PHASE_PLAIN && rs->phase != RIPRAP_PHASE_MUTUAL))
		return;
	if (rs->phase == RIPRAP_PHASE_MUTUAL)
		riprap_record_send(rs, 21, &denied, sizeof(denied));
	riprap_socket_set_phase(rs, RIPRAP_PHASE_FAILED);
	riprap_socket_reset(rs, ECONNRESET);
	rs->flow->event.reason = reason;
	rs->flow->event.error = ECONNRESET;
	riprap_flow_end(rs->flow, RIPRAP_FLOW_CUT);
}

void riprap_socket_cut(struct riprap_socket *rs, u8 reason)
{
	mutex_lock(&rs->lock);
	cut(rs, reason);
	mutex_unlock(&rs->lock);
}

void riprap_socket_settle(struct riprap_socket *rs)
{
	lockdep_assert_held(&rs->lock);
	if (!test_bit(RIPRAP_SOCKET_DOOMED, &rs->flags))
		return;
	/* Pairs with riprap_socket_doom(). */
	smp_rmb();
	cut(rs, READ_ONCE(rs->cut_reason));
	clear_bit(RIPRAP_SOCKET_DOOMED, &rs->flags);
}

/*
 * A program is in an operation that began before, and holds its lock. It goes no further than the segment or record
 * that it is at: kTLS looks for an error at each, TCP for room at each, and then for the end. Without the lock.
 */
static void stop_operations(struct riprap_socket *rs)
{
	struct sock *sk = rs->sk;

	WRITE_ONCE(sk->sk_err, ECONNRESET);
	WRITE_ONCE(sk->sk_shutdown, SHUTDOWN_MASK);
	WRITE_ONCE(sk->sk_sndbuf, SOCK_MIN_SNDBUF);
	sk->sk_state_change(sk);
	sk->sk_write_space(sk);
}

static void cut_doomed(struct work_struct *work)
{
	struct riprap_socket *rs = container_of(to_delayed_work(work), struct riprap_socket, cut);
	unsigned long delay = msecs_to_jiffies(CUT_RETRY_MS << rs->cut_retries);

	if (riprap_socket_trylock(rs)) {
		rs->cut_retries = 0;
		riprap_socket_settle(rs);
		mutex_unlock(&rs->lock);
		goto put;
	}
	/* Not at once: an operation that ends by itself leaves room for the alert. */
	if (rs->cut_retries && test_bit(RIPRAP_SOCKET_DOOMED, &rs->flags))
		stop_operations(rs);
	if (rs->cut_retries < CUT_RETRIES_MAX)
		rs->cut_retries++;
	if (queue_delayed_work(riprap_cut_workqueue, &rs->cut, delay))
		return;
put:
	riprap_socket_put(rs);
}

void riprap_socket_doom(struct riprap_socket *rs, u8 reason)
{
	WRITE_ONCE(rs->cut_reason, reason);
	/* Pairs with riprap_socket_settle(). */
	smp_mb__before_atomic();
	set_bit(RIPRAP_SOCKET_DOOMED, &rs->flags);
	riprap_socket_get(rs);
	if (!queue_delayed_work(riprap_cut_workqueue, &rs->cut, 0))
		riprap_socket_put(rs);
}

static int socket_release(struct socket *socket)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	const struct proto_ops *inner;
	int err;

	riprap_handshake_abandon(rs);
	cancel_delayed_work_sync(&rs->flush);
	mutex_lock(&rs->lock);
	riprap_socket_settle(rs);
	if (rs->phase == RIPRAP_PHASE_MUTUAL) {
		riprap_record_close(rs);
		riprap_record_drain(rs);
	}
	riprap_socket_set_phase(rs, RIPRAP_PHASE_CLOSED);
	inner = rs->inner;
	rs->socket = NULL;
	riprap_flow_end(rs->flow, RIPRAP_FLOW_CLOSED);
	mutex_unlock(&rs->lock);
	/* Nobody dooms it any more: its flow is not among the live ones. */
	if (cancel_delayed_work_sync(&rs->cut))
		riprap_socket_put(rs);
	spin_lock_bh(&sockets_lock);
	list_del(&rs->node);
	spin_unlock_bh(&sockets_lock);
	atomic_dec(&riprap_counters.sockets_managed);
	err = inner->release(socket);
	riprap_record_release(rs);
	riprap_socket_put(rs);
	return err;
}

int riprap_socket_shut(struct riprap_socket *rs, int how)
{
	lockdep_assert_held(&rs->lock);
	if (how == SHUT_RD || how == SHUT_RDWR)
		set_bit(RIPRAP_SOCKET_READ_SHUT, &rs->flags);
	if (rs->phase == RIPRAP_PHASE_MUTUAL && how != SHUT_RD)
		riprap_record_close(rs);
	return rs->inner->shutdown(rs->socket, how);
}

/* Under way: remembered when there is a connection to shut, else it is the end of it. */
static int shut_early(struct riprap_socket *rs, int how)
{
	struct riprap_handshake *handshake = rs->handshake;
	int both;

	lockdep_assert_held(&rs->lock);
	if (inet_sk_state_load(rs->sk) == TCP_ESTABLISHED || inet_sk_state_load(rs->sk) == TCP_CLOSE_WAIT) {
		both = handshake->shutdown && handshake->shutdown != how + 1;
		handshake->shutdown = (both ? SHUT_RDWR : how) + 1;
		return 0;
	}
	riprap_handshake_fail(handshake, RIPRAP_REASON_ABANDONED, ECONNABORTED);
	return 0;
}

static int socket_shutdown(struct socket *socket, int how)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	int err;

	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	mutex_lock(&rs->lock);
	if (rs->phase == RIPRAP_PHASE_UNDER_WAY)
		err = shut_early(rs, how);
	else
		err = riprap_socket_shut(rs, how);
	mutex_unlock(&rs->lock);
	return err;
}

static int socket_ioctl(struct socket *socket, unsigned int command, unsigned long argument)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	u8 phase = riprap_socket_phase(rs);
	int value;

	if (phase != RIPRAP_PHASE_MUTUAL && phase != RIPRAP_PHASE_UNDER_WAY && phase != RIPRAP_PHASE_FAILED)
		return rs->inner->ioctl(socket, command, argument);
	if (command == SIOCATMARK)
		value = 0;
	else if (command == SIOCINQ)
		value = phase == RIPRAP_PHASE_MUTUAL ? riprap_stream_available(rs, socket) : 0;
	else
		return rs->inner->ioctl(socket, command, argument);
	return put_user(value, (int __user *)argument);
}

/* Would let the program read the keys, or take the record layer or the queue from under us. */
static bool is_ours_to_set(int level, int name)
{
	return level == SOL_TLS || (level == SOL_TCP && (name == TCP_ULP || name == TCP_REPAIR ||
							  name == TCP_ZEROCOPY_RECEIVE));
}

static int socket_setsockopt(struct socket *socket, int level, int name, sockptr_t value, unsigned int len)
{
	struct riprap_socket *rs = riprap_socket_of(socket);

	/* The handshake's bytes would ride in the SYN, or connect() would claim to be done before the verdict. */
	if (level == SOL_TCP && (name == TCP_FASTOPEN_CONNECT || name == TCP_FASTOPEN))
		return 0;
	/* Would put IPv4's plain operations in the place of ours. */
	if (level == SOL_IPV6 && name == IPV6_ADDRFORM)
		return -EBUSY;
	if (!is_ours_to_set(level, name))
		return rs->inner->setsockopt(socket, level, name, value, len);
	if (riprap_socket_phase(rs) == RIPRAP_PHASE_PLAIN && name != TCP_REPAIR)
		return riprap_record_setsockopt(rs, level, name, value, len);
	/* As on a kernel without kTLS. */
	return level == SOL_TCP && name == TCP_ULP ? -ENOENT : level == SOL_TLS ? -ENOPROTOOPT : -EPERM;
}

static int socket_getsockopt(struct socket *socket, int level, int name, char __user *value, int __user *len)
{
	struct riprap_socket *rs = riprap_socket_of(socket);
	u8 phase = riprap_socket_phase(rs);

	if (phase == RIPRAP_PHASE_PLAIN || phase == RIPRAP_PHASE_IDLE || !is_ours_to_set(level, name))
		return rs->inner->getsockopt(socket, level, name, value, len);
	if (level == SOL_TCP && name == TCP_ULP)
		return put_user(0, len);
	return level == SOL_TLS ? -ENOPROTOOPT : -EINVAL;
}

/* SO_RCVLOWAT, under the socket lock. A handshake reads single bytes: the program's mark waits until it is over. */
static int socket_set_rcvlowat(struct sock *sk, int value)
{
	struct riprap_socket *rs = sk->sk_socket ? riprap_socket_of(sk->sk_socket) : NULL;

	/* kTLS is being put in, with a stand-in: the mark is lost, which is a hint and no promise. */
	if (!rs)
		return 0;
	if (riprap_socket_phase(rs) != RIPRAP_PHASE_UNDER_WAY)
		return rs->plain->set_rcvlowat(sk, value);
	WRITE_ONCE(rs->low_water, value ?: 1);
	return 0;
}

static void put_in_operations(struct riprap_socket *rs)
{
	struct proto_ops *ops = &rs->ops;

	*ops = *rs->plain;
	ops->owner = THIS_MODULE;
	ops->release = socket_release;
	ops->connect = riprap_connect;
	ops->accept = riprap_accept;
	ops->poll = riprap_stream_poll;
	ops->ioctl = socket_ioctl;
	ops->shutdown = socket_shutdown;
	ops->setsockopt = socket_setsockopt;
	ops->getsockopt = socket_getsockopt;
	ops->set_rcvlowat = socket_set_rcvlowat;
	ops->sendmsg = riprap_stream_sendmsg;
	ops->recvmsg = riprap_stream_recvmsg;
	ops->splice_read = riprap_stream_splice_read;
#ifdef HAVE_PROTO_OPS_SENDPAGE
	ops->sendpage = riprap_stream_sendpage;
	ops->sendpage_locked = NULL;
#endif
#ifdef HAVE_PROTO_OPS_SPLICE_EOF
	ops->splice_eof = riprap_stream_splice_eof;
#endif
	/*
	 * Ways past the operations above, for users inside the kernel and for mapped receive buffers. read_sock
	 * stays TCP's: kTLS reads records by it, and others get no more than those.
	 */
	ops->mmap = sock_no_mmap;
	ops->read_skb = NULL;
	ops->sendmsg_locked = NULL;
}

struct riprap_socket *riprap_socket_attach(struct socket *socket, bool pinned)
{
	const struct proto_ops *plain;
	struct riprap_socket *rs;

	plain = riprap_socket_plain_ops(socket->sk);
	if (!plain || socket->ops != plain || socket->sk->sk_protocol != IPPROTO_TCP)
		return ERR_PTR(socket->ops && riprap_socket_of(socket) ? -EALREADY : -EOPNOTSUPP);
	rs = kzalloc(sizeof(*rs), GFP_KERNEL);
	if (!rs)
		return ERR_PTR(-ENOMEM);
	rs->plain = plain;
	rs->inner = plain;
	rs->socket = socket;
	rs->sk = socket->sk;
	sock_hold(rs->sk);
	refcount_set(&rs->ref, 1);
	mutex_init(&rs->lock);
	mutex_init(&rs->control_lock);
	INIT_DELAYED_WORK(&rs->work, riprap_handshake_work);
	INIT_DELAYED_WORK(&rs->cut, cut_doomed);
	INIT_DELAYED_WORK(&rs->flush, riprap_stream_flush);
	init_waitqueue_head(&rs->done);
	put_in_operations(rs);
	if (!pinned)
		__module_get(THIS_MODULE);
	spin_lock_bh(&sockets_lock);
	list_add_tail(&rs->node, &sockets);
	spin_unlock_bh(&sockets_lock);
	atomic_inc(&riprap_counters.sockets_managed);
	smp_store_release(&socket->ops, &rs->ops);
	return rs;
}

void riprap_socket_drain(bool on)
{
	WRITE_ONCE(draining, on);
}

bool riprap_socket_is_draining(void)
{
	return READ_ONCE(draining);
}

/**
 * riprap_socket_init() - find kTLS and put the hooks in
 *
 * Return: 0, -EOPNOTSUPP without kTLS, -ENOMEM.
 */
int riprap_socket_init(void)
{
	int err;

	err = riprap_record_init(&inet6_operations);
	if (err)
		return err;
	err = riprap_hook_init();
	if (err)
		riprap_record_exit();
	return err;
}

void riprap_socket_exit(void)
{
	riprap_hook_exit();
	WARN_ON_ONCE(!list_empty(&sockets));
	/* The last release may still stand between module_put() and its return, and its memory waits for RCU. */
	rcu_barrier();
	riprap_crowd_exit();
	riprap_record_exit();
}
