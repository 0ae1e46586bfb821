// SPDX-License-Identifier: GPL-2.0
/*
 * kTLS carries the records from here on: gives it the keys, and deals with
 * tickets, alerts and KeyUpdate so that the program sees none of them.
 */
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/net.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sockptr.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/tls.h>

#include "flow.h"
#include "handshake.h"
#include "limits.h"
#include "record.h"
#include "socket.h"
#include "ticket.h"
#include "tls13/tls13.h"

#define TYPE_ALERT		21	/* RFC 8446 section 5.1 */
#define TYPE_HANDSHAKE		22
#define TYPE_DATA		23
#define ALERT_WARNING		1	/* section 6 */
#define ALERT_FATAL		2
#define ALERT_USER_CANCELED	90
#define KEY_UPDATE		24	/* section 4 */
#define OPTION_MAX		128	/* the longest of kTLS's keys has 72 bytes */
#define CLOSE_PATIENCE_MS	200	/* for a writer in kTLS, before the stream ends without close_notify */
#define CLOSE_ROOM		(128 * 1024)	/* send buffer lent at close: eight records that kTLS may still hold, and ours */

union crypto_info {
	struct tls12_crypto_info_aes_gcm_128 aes_128;
	struct tls12_crypto_info_aes_gcm_256 aes_256;
	struct tls12_crypto_info_chacha20_poly1305 chacha;
};

/* RFC 8446's 12 IV bytes are kTLS's salt and IV one after the other. Length of the struct, or 0. */
static unsigned int fill_crypto_info(union crypto_info *info, const struct tls13_traffic *traffic)
{
	__be64 sequence = cpu_to_be64(traffic->sequence);

	memset(info, 0, sizeof(*info));
	info->aes_128.info.version = TLS_1_3_VERSION;
	switch (traffic->suite) {
	case TLS13_AES_128_GCM_SHA256:
		info->aes_128.info.cipher_type = TLS_CIPHER_AES_GCM_128;
		memcpy(info->aes_128.key, traffic->key, sizeof(info->aes_128.key));
		memcpy(info->aes_128.salt, traffic->iv, sizeof(info->aes_128.salt));
		memcpy(info->aes_128.iv, traffic->iv + sizeof(info->aes_128.salt), sizeof(info->aes_128.iv));
		memcpy(info->aes_128.rec_seq, &sequence, sizeof(sequence));
		return sizeof(info->aes_128);
	case TLS13_AES_256_GCM_SHA384:
		info->aes_256.info.cipher_type = TLS_CIPHER_AES_GCM_256;
		memcpy(info->aes_256.key, traffic->key, sizeof(info->aes_256.key));
		memcpy(info->aes_256.salt, traffic->iv, sizeof(info->aes_256.salt));
		memcpy(info->aes_256.iv, traffic->iv + sizeof(info->aes_256.salt), sizeof(info->aes_256.iv));
		memcpy(info->aes_256.rec_seq, &sequence, sizeof(sequence));
		return sizeof(info->aes_256);
	case TLS13_CHACHA20_POLY1305_SHA256:
		info->chacha.info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
		memcpy(info->chacha.key, traffic->key, sizeof(info->chacha.key));
		memcpy(info->chacha.iv, traffic->iv, sizeof(info->chacha.iv));
		memcpy(info->chacha.rec_seq, &sequence, sizeof(sequence));
		return sizeof(info->chacha);
	}
	return 0;
}

/*
 * kTLS reads and writes sk->sk_socket->ops, and for a moment in between leaves plain ones there. So it
 * gets a socket of its own to write to: the program's never has any operations but ours, and kTLS's
 * global tables never see ours. Whoever reads sk->sk_socket meanwhile, and only then waits (setsockopt(2) for the
 * program's memory), comes back to the stand-in: it lives as long as there can be a call, and its operations are ours.
 */
static struct socket *borrow_sk(struct riprap_socket *rs)
{
	struct sock *sk = rs->sk;
	struct socket *stand_in = rs->stand_in;
	int err;

	lockdep_assert_held(&rs->lock);
	if (!stand_in) {
		err = sock_create_lite(sk->sk_family, SOCK_STREAM, IPPROTO_TCP, &stand_in);
		if (err)
			return ERR_PTR(err);
		stand_in->state = SS_CONNECTED;
		stand_in->sk = sk;
		rs->stand_in = stand_in;
	}
	WRITE_ONCE(stand_in->ops, rs->inner);
	write_lock_bh(&sk->sk_callback_lock);
	sk_set_socket(sk, stand_in);
	write_unlock_bh(&sk->sk_callback_lock);
	return stand_in;
}

static void return_sk(struct riprap_socket *rs, struct socket *stand_in)
{
	struct sock *sk = rs->sk;

	write_lock_bh(&sk->sk_callback_lock);
	sk_set_socket(sk, rs->socket);
	write_unlock_bh(&sk->sk_callback_lock);
	/* Ordered before the change of phase that makes others read it. */
	WRITE_ONCE(rs->inner, stand_in->ops);
	WRITE_ONCE(stand_in->ops, &rs->ops);
	/* A plain connection's writer may have begun to wait for room meanwhile. */
	if (test_and_clear_bit(SOCK_NOSPACE, &stand_in->flags)) {
		set_bit(SOCK_NOSPACE, &rs->socket->flags);
		sk->sk_write_space(sk);
	}
}

void riprap_record_release(struct riprap_socket *rs)
{
	struct socket *stand_in = rs->stand_in;

	if (!stand_in)
		return;
	stand_in->ops = NULL;
	stand_in->sk = NULL;
	sock_release(stand_in);
}

static int set_key(struct socket *stand_in, int name, const struct tls13_traffic *traffic)
{
	union crypto_info info;
	unsigned int len = fill_crypto_info(&info, traffic);
	int err = -EOPNOTSUPP;

	if (len)
		err = stand_in->ops->setsockopt(stand_in, SOL_TLS, name, KERNEL_SOCKPTR(&info), len);
	memzero_explicit(&info, sizeof(info));
	return err;
}

int riprap_record_prepare(struct riprap_socket *rs)
{
	struct socket *stand_in;
	char name[] = "tls";
	int err;

	lockdep_assert_held(&rs->lock);
	stand_in = borrow_sk(rs);
	if (IS_ERR(stand_in))
		return PTR_ERR(stand_in);
	err = stand_in->ops->setsockopt(stand_in, SOL_TCP, TCP_ULP, KERNEL_SOCKPTR(name), sizeof(name));
	return_sk(rs, stand_in);
	return err;
}

int riprap_record_install(struct riprap_socket *rs, struct tls13 *engine)
{
	struct tls13_traffic traffic;
	struct tls13_after *after;
	struct socket *stand_in;
	int err;

	lockdep_assert_held(&rs->lock);
	after = kzalloc(sizeof(*after), GFP_KERNEL);
	if (!after)
		return -ENOMEM;
	stand_in = borrow_sk(rs);
	if (IS_ERR(stand_in)) {
		kfree(after);
		return PTR_ERR(stand_in);
	}
	tls13_traffic_keys(engine, true, &traffic);
	err = set_key(stand_in, TLS_TX, &traffic);
	if (err)
		goto wipe;
	tls13_traffic_keys(engine, false, &traffic);
	err = set_key(stand_in, TLS_RX, &traffic);
	if (err)
		goto wipe;
	tls13_after(engine, after);
	/* kTLS does not rekey: only tickets are made of what is kept. */
	memzero_explicit(after->send_secret, sizeof(after->send_secret));
	memzero_explicit(after->receive_secret, sizeof(after->receive_secret));
	rs->after = after;
	after = NULL;
wipe:
	memzero_explicit(&traffic, sizeof(traffic));
	return_sk(rs, stand_in);
	kfree_sensitive(after);
	return err;
}

int riprap_record_setsockopt(struct riprap_socket *rs, int level, int name, sockptr_t value, unsigned int len)
{
	u8 copy[OPTION_MAX] = {};
	struct socket *stand_in;
	int err = -ENOTCONN;

	/* Before the lock is taken: the program's memory may never come. */
	if (len > sizeof(copy))
		return -EINVAL;
	if (copy_from_sockptr(copy, value, len))
		return -EFAULT;
	mutex_lock(&rs->lock);
	if (rs->phase != RIPRAP_PHASE_PLAIN)
		goto unlock;
	stand_in = borrow_sk(rs);
	if (IS_ERR(stand_in)) {
		err = PTR_ERR(stand_in);
		goto unlock;
	}
	err = stand_in->ops->setsockopt(stand_in, level, name, KERNEL_SOCKPTR(copy), len);
	return_sk(rs, stand_in);
unlock:
	mutex_unlock(&rs->lock);
	memzero_explicit(copy, sizeof(copy));
	return err;
}

/* A writer that waits for room holds kTLS's lock: then nothing more can be said. */
static bool is_writer_waiting(const struct sock *sk)
{
	struct tls_context *context = tls_get_ctx(sk);

	return !context || mutex_is_locked(&context->tx_lock);
}

/*
 * kTLS's sendmsg, or -EBUSY when its lock is not to be had. A writer may take the lock after the look at it, and
 * hold it until its peer reads; whoever cuts a connection must not wait for that. kTLS waits for its lock as long
 * as no signal is pending: so one seems to be.
 */
static int send_at_once(struct riprap_socket *rs, struct msghdr *msg, size_t len)
{
	int n;

	if (is_writer_waiting(rs->sk))
		return -EBUSY;
	set_thread_flag(TIF_SIGPENDING);
	n = rs->inner->sendmsg(rs->socket, msg, len);
	spin_lock_irq(&current->sighand->siglock);
	recalc_sigpending();
	spin_unlock_irq(&current->sighand->siglock);
	return n == -EINTR ? -EBUSY : n;
}

int riprap_record_send(struct riprap_socket *rs, u8 type, const void *data, size_t len)
{
	u8 control[CMSG_SPACE(sizeof(type))] __aligned(__alignof__(struct cmsghdr)) = {};
	struct cmsghdr *header = (struct cmsghdr *)control;
	struct kvec vec = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr msg = {
		.msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int n;

	header->cmsg_level = SOL_TLS;
	header->cmsg_type = TLS_SET_RECORD_TYPE;
	header->cmsg_len = CMSG_LEN(sizeof(type));
	*(u8 *)CMSG_DATA(header) = type;
	iov_iter_kvec(&msg.msg_iter, WRITE, &vec, 1, len);
	n = send_at_once(rs, &msg, len);
	return n < 0 ? n : n == len ? 0 : -EAGAIN;
}

/* kTLS closes an open record before it takes a record type, be it with nothing to follow. */
int riprap_record_flush(struct riprap_socket *rs)
{
	return riprap_record_send(rs, TYPE_DATA, NULL, 0);
}

void riprap_record_close(struct riprap_socket *rs)
{
	static const u8 close_notify[] = { ALERT_WARNING, TLS13_CLOSE_NOTIFY };
	struct sock *sk = rs->sk;
	unsigned long patience = jiffies + msecs_to_jiffies(CLOSE_PATIENCE_MS);
	int room;

	if (inet_sk_state_load(sk) != TCP_ESTABLISHED && inet_sk_state_load(sk) != TCP_CLOSE_WAIT)
		return;
	if (test_and_set_bit(RIPRAP_SOCKET_CLOSE_SENT, &rs->flags))
		return;
	/* What kTLS encrypted and TCP had no room for would be dropped at close: lend the room. */
	lock_sock(sk);
	room = sk->sk_sndbuf;
	WRITE_ONCE(sk->sk_sndbuf, max_t(int, room, READ_ONCE(sk->sk_wmem_queued) + CLOSE_ROOM));
	release_sock(sk);
	/* kTLS's own work sends what a program's call left over, and another thread may be in a call: both have the room now. */
	sk->sk_write_space(sk);
	while (riprap_record_send(rs, TYPE_ALERT, close_notify, sizeof(close_notify)) == -EBUSY &&
	       time_before(jiffies, patience))
		msleep(1);
	lock_sock(sk);
	WRITE_ONCE(sk->sk_sndbuf, room);
	release_sock(sk);
}

int riprap_record_send_ticket(struct riprap_socket *rs)
{
	struct riprap_flow *flow = rs->flow;
	struct riprap_ticket_owner own = { .instance = flow->event.instance, .spiffe_id = flow->own_id };
	u8 ticket[RIPRAP_TICKET_LEN], nonce[8], message[256];
	struct tls13_psk psk;
	u32 age_add, lifetime;
	int len, err = 0;

	if (!flow->own_id || !flow->peer || !rs->after->ticket_wanted)
		return 0;
	lifetime = riprap_ticket_lifetime(flow->peer);
	if (!lifetime)
		return 0;
	get_random_bytes(ticket, sizeof(ticket));
	get_random_bytes(nonce, sizeof(nonce));
	get_random_bytes(&age_add, sizeof(age_add));
	len = tls13_write_ticket(rs->after, ticket, sizeof(ticket), lifetime, age_add, nonce, message,
				 sizeof(message), &psk);
	if (len > 0)
		err = riprap_record_send(rs, TYPE_HANDSHAKE, message, len);
	if (len > 0 && !err)
		riprap_ticket_issue(&own, &psk, flow->peer);
	memzero_explicit(&psk, sizeof(psk));
	return err;
}

/* Reads from kTLS into `data` with the content type beside it. Bytes or -errno. */
static int read_typed(struct riprap_socket *rs, struct socket *socket, u8 *data, size_t len, int flags, u8 *type)
{
	u8 control[CMSG_SPACE(sizeof(*type))] __aligned(__alignof__(struct cmsghdr)) = {};
	struct cmsghdr *header = (struct cmsghdr *)control;
	struct kvec vec = { .iov_base = data, .iov_len = len };
	struct msghdr msg = { .msg_control = control, .msg_controllen = sizeof(control) };
	int n;

	iov_iter_kvec(&msg.msg_iter, READ, &vec, 1, len);
	n = rs->inner->recvmsg(socket, &msg, len, flags | MSG_DONTWAIT);
	*type = TYPE_DATA;
	if (n >= 0 && header->cmsg_level == SOL_TLS && header->cmsg_type == TLS_GET_RECORD_TYPE)
		*type = *(u8 *)CMSG_DATA(header);
	return n;
}

static int end(struct riprap_socket *rs, u8 reason, u8 alert)
{
	static const struct { u8 level, description; } __packed unexpected = { ALERT_FATAL, TLS13_UNEXPECTED_MESSAGE };

	if (reason != RIPRAP_REASON_TLS_ALERT)
		riprap_record_send(rs, TYPE_ALERT, &unexpected, sizeof(unexpected));
	rs->flow->event.reason = reason;
	rs->flow->event.alert = alert;
	tcp_abort(rs->sk, ECONNRESET);
	return -ECONNRESET;
}

int riprap_record_error(struct riprap_socket *rs, int error)
{
	struct { u8 level, description; } __packed alert = { .level = ALERT_FATAL };

	switch (error) {
	case -EBADMSG:
		alert.description = TLS13_BAD_RECORD_MAC;
		break;
	case -EMSGSIZE:
		alert.description = TLS13_RECORD_OVERFLOW;
		break;
	case -EINVAL:
		alert.description = TLS13_UNEXPECTED_MESSAGE;
		break;
	default:
		return error;
	}
	mutex_lock(&rs->control_lock);
	/* kTLS leaves it set when a record does not decrypt, and sends nothing while it is: the peer would not be told. */
	sock_error(rs->sk);
	riprap_record_send(rs, TYPE_ALERT, &alert, sizeof(alert));
	rs->flow->event.reason = RIPRAP_REASON_RECORD;
	tcp_abort(rs->sk, ECONNRESET);
	mutex_unlock(&rs->control_lock);
	return -ECONNRESET;
}

static int take_alert(struct riprap_socket *rs, const u8 *data, size_t len)
{
	if (len != 2)
		return end(rs, RIPRAP_REASON_RECORD, 0);
	if (data[1] == TLS13_CLOSE_NOTIFY) {
		set_bit(RIPRAP_SOCKET_CLOSE_SEEN, &rs->flags);
		return RIPRAP_RECORD_END;
	}
	if (data[1] == ALERT_USER_CANCELED)
		return RIPRAP_RECORD_HANDLED;
	return end(rs, RIPRAP_REASON_TLS_ALERT, data[1] + 1);
}

static void take_ticket(struct riprap_socket *rs, const u8 *message, size_t len)
{
	struct riprap_flow *flow = rs->flow;
	struct riprap_ticket_owner own = { .instance = flow->event.instance, .spiffe_id = flow->own_id };
	struct tls13_psk psk;

	if (!flow->own_id || !flow->peer)
		return;
	if (!tls13_read_ticket(rs->after, message, len, &psk))
		riprap_ticket_keep(&own, (const struct in6_addr *)flow->event.remote, flow->event.remote_port, &psk,
				   flow->peer, flow->event.flags & RIPRAP_FLOW_RESUMED);
	memzero_explicit(&psk, sizeof(psk));
}

/* One record of handshake messages, whole or in pieces. */
static int take_handshake(struct riprap_socket *rs, const u8 *data, size_t len)
{
	const u8 *message;
	size_t message_len;
	int type;

	/* Section 5.1: no handshake record is empty. */
	if (!len)
		return end(rs, RIPRAP_REASON_RECORD, 0);
	for (;;) {
		type = tls13_post_next(&rs->post, &data, &len, &message, &message_len);
		if (type <= 0)
			return type ? end(rs, RIPRAP_REASON_RECORD, 0) : RIPRAP_RECORD_HANDLED;
		if (type == KEY_UPDATE)
			return end(rs, RIPRAP_REASON_KEY_UPDATE, 0);
		/* Section 4.6.1: a client has no tickets to give. */
		if (rs->flow->event.flags & RIPRAP_FLOW_INBOUND)
			return end(rs, RIPRAP_REASON_RECORD, 0);
		if (message)
			take_ticket(rs, message, message_len);
	}
}

bool riprap_record_is_in_message(const struct riprap_socket *rs)
{
	return READ_ONCE(rs->post.head_len) != 0;
}

int riprap_record_control(struct riprap_socket *rs, struct socket *socket)
{
	u8 *data, type, first;
	int n;

	mutex_lock(&rs->control_lock);
	/* Looked at first: another reader may have left data at the head meanwhile. */
	n = read_typed(rs, socket, &first, sizeof(first), MSG_PEEK, &type);
	if (n < 0 || type == TYPE_DATA) {
		if (n >= 0 || n == -EAGAIN)
			n = RIPRAP_RECORD_NONE;
		goto unlock;
	}
	n = -ENOMEM;
	data = kmalloc(TLS13_PLAINTEXT_MAX, GFP_KERNEL);
	if (!data)
		goto unlock;
	n = read_typed(rs, socket, data, TLS13_PLAINTEXT_MAX, 0, &type);
	if (n < 0)
		goto free;
	/* Section 5.1: nothing comes between the pieces of a message. */
	if (type != TYPE_HANDSHAKE && riprap_record_is_in_message(rs))
		n = end(rs, RIPRAP_REASON_RECORD, 0);
	else if (type == TYPE_ALERT)
		n = take_alert(rs, data, n);
	else if (type == TYPE_HANDSHAKE)
		n = take_handshake(rs, data, n);
	else
		n = end(rs, RIPRAP_REASON_RECORD, 0);
free:
	kfree_sensitive(data);
unlock:
	mutex_unlock(&rs->control_lock);
	return n;
}

void riprap_record_drain(struct riprap_socket *rs)
{
	struct sock *sk = rs->sk;
	u8 first, type;
	int n;

	while (riprap_record_control(rs, rs->socket) == RIPRAP_RECORD_HANDLED)
		;
	n = read_typed(rs, rs->socket, &first, sizeof(first), MSG_PEEK, &type);
	if (n <= 0 || type != TYPE_DATA)
		return;
	/* kTLS took it out of TCP's sight, and TCP resets a connection that is closed with unread data. */
	lock_sock(sk);
	sock_set_flag(sk, SOCK_LINGER);
	sk->sk_lingertime = 0;
	release_sock(sk);
}
