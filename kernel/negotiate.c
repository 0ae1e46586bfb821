// SPDX-License-Identifier: GPL-2.0
/*
 * Feeds the TLS engine with exactly one record after another, sends what it
 * says, answers its questions, and hands the keys to kTLS. What follows the
 * last handshake record stays in TCP's queue for kTLS.
 */
#include <linux/sched.h>
#include <linux/slab.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "device.h"
#include "flow.h"
#include "handshake.h"
#include "identity.h"
#include "negotiate.h"
#include "record.h"
#include "socket.h"
#include "ticket.h"

#define ALPN	"riprap/1"
#define RECORD_HANDSHAKE	22	/* RFC 8446 section 5.1 */

static struct riprap_ticket_owner owner_of(const struct riprap_handshake *handshake)
{
	return (struct riprap_ticket_owner) {
		.instance = handshake->identity->instance,
		.spiffe_id = handshake->identity->spiffe_id,
	};
}

static bool may_be(struct riprap_handshake *handshake, const struct riprap_peer *peer)
{
	return riprap_table_allows_peer(handshake->subject, handshake->server, &handshake->remote, handshake->port,
					peer->spiffe_id, &handshake->verdict);
}

/* What the program gets when the peer is not to be spoken with: connect() says so, an accepted connection is reset. */
static int denied(const struct riprap_handshake *handshake)
{
	return handshake->server ? ECONNRESET : EACCES;
}

/* tls13_config.find_psk: only what this identity issued to a peer that the rules still allow. */
static int find_psk(void *arg, const u8 *ticket, size_t len, u32 obfuscated_age, struct tls13_psk *psk)
{
	struct riprap_handshake *handshake = arg;
	struct riprap_ticket_owner own = owner_of(handshake);
	struct riprap_peer *peer;
	u32 age_ms;
	int err;

	err = riprap_ticket_find(&own, ticket, len, psk, &age_ms, &peer);
	if (err)
		return err;
	if (!may_be(handshake, peer)) {
		memzero_explicit(psk, sizeof(*psk));
		riprap_peer_put(peer);
		return -ENOENT;
	}
	if (handshake->psk_peer)
		riprap_peer_put(handshake->psk_peer);
	handshake->psk_peer = peer;
	handshake->psk_aging = age_ms / MSEC_PER_SEC >= psk->lifetime / 2;
	return 0;
}

static int sign(void *arg, const u8 digest[32], u8 sig[72], size_t *sig_len)
{
	struct riprap_handshake *handshake = arg;

	return riprap_identity_sign(handshake->identity, digest, sig, sig_len);
}

static void offer_psk(struct riprap_handshake *handshake)
{
	struct riprap_ticket_owner own = owner_of(handshake);

	if (riprap_ticket_offer(&own, &handshake->remote, handshake->port, &handshake->psk,
				&handshake->config.psk_age_ms, &handshake->psk_peer))
		return;
	if (may_be(handshake, handshake->psk_peer))
		handshake->config.psk = &handshake->psk;
}

/* The SVID that was there when the verdict was given may be near its end by now, and its successor there. */
static void take_newest_identity(struct riprap_handshake *handshake)
{
	struct riprap_identity *newest;
	u32 subject;

	riprap_process_answer(handshake->process, &subject, &newest);
	if (newest && !strcmp(newest->spiffe_id, handshake->identity->spiffe_id))
		swap(newest, handshake->identity);
	riprap_identity_put(newest);
}

int riprap_negotiate_begin(struct riprap_handshake *handshake)
{
	struct tls13_config *config = &handshake->config;

	take_newest_identity(handshake);
	*config = (struct tls13_config) {
		.server = handshake->server,
		.chain = handshake->identity->chain,
		.chain_len = handshake->identity->chain_len,
		.sign = sign,
		.find_psk = find_psk,
		.arg = handshake,
		.alpn = ALPN,
		.suites = { TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256 },
		.groups = { TLS13_X25519, TLS13_SECP256R1 },
		.mutual = true,
	};
	if (!handshake->server)
		offer_psk(handshake);
	handshake->record = kvmalloc(RIPRAP_RECORD_ROOM, GFP_KERNEL);
	handshake->engine = handshake->record ? kvzalloc(tls13_size(), GFP_KERNEL) : NULL;
	if (!handshake->engine)
		return -ENOMEM;
	handshake->started = ktime_get();
	handshake->have = 0;
	return tls13_start(handshake->engine, config);
}

void riprap_negotiate_free(struct riprap_handshake *handshake)
{
	if (handshake->engine) {
		tls13_wipe(handshake->engine);
		kvfree_sensitive(handshake->engine, tls13_size());
	}
	kvfree_sensitive(handshake->record, RIPRAP_RECORD_ROOM);
	handshake->engine = NULL;
	handshake->record = NULL;
}

bool riprap_negotiate_is_late(const struct riprap_handshake *handshake)
{
	return (handshake->stage == RIPRAP_STAGE_TLS || handshake->stage == RIPRAP_STAGE_VERIFY) &&
	       time_after(jiffies, handshake->deadline);
}

/* 1: all is sent, 0: wait for room, or -errno. */
static int flush(struct riprap_handshake *handshake)
{
	struct riprap_socket *rs = handshake->rs;
	const u8 *out;
	size_t len;
	int n;

	while ((out = tls13_output(handshake->engine, &len)) && len) {
		struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
		struct kvec vec = { .iov_base = (void *)out, .iov_len = len };

		iov_iter_kvec(&msg.msg_iter, WRITE, &vec, 1, len);
		n = rs->plain->sendmsg(rs->socket, &msg, len);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return n;
		tls13_sent(handshake->engine, n);
	}
	return 1;
}

/* Reads up to `need` bytes of the record in all. 1: they are there, 0: wait, or -errno (-ENODATA at FIN). */
static int fill(struct riprap_handshake *handshake, size_t need)
{
	struct riprap_socket *rs = handshake->rs;
	int n;

	while (handshake->have < need) {
		struct msghdr msg = {};
		struct kvec vec = {
			.iov_base = handshake->record + handshake->have,
			.iov_len = need - handshake->have,
		};

		iov_iter_kvec(&msg.msg_iter, READ, &vec, 1, vec.iov_len);
		n = rs->plain->recvmsg(rs->socket, &msg, vec.iov_len, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return 0;
		if (n <= 0)
			return n ?: -ENODATA;
		handshake->have += n;
	}
	return 1;
}

static void refuse(struct riprap_handshake *handshake, u8 alert, u8 reason, int error)
{
	tls13_refuse(handshake->engine, alert);
	handshake->failing = true;
	handshake->reason = reason;
	handshake->error = error;
	handshake->rs->flow->event.alert = alert + 1;
	handshake->rs->flow->event.flags |= RIPRAP_FLOW_ALERT_SENT;
}

/* The engine failed by itself: what it says of it. */
static void note_failure(struct riprap_handshake *handshake)
{
	struct riprap_flow_event *event = &handshake->rs->flow->event;
	struct tls13_result result;

	tls13_result(handshake->engine, &result);
	handshake->failing = true;
	handshake->reason = RIPRAP_REASON_TLS_ALERT;
	/* A peer that refuses us looks to the program like a port that does. */
	handshake->error = result.alert_received && !handshake->server ? ECONNREFUSED : ECONNRESET;
	event->alert = result.alert + 1;
	if (!result.alert_received)
		event->flags |= RIPRAP_FLOW_ALERT_SENT;
}

/* One record from TCP. 1: whole, 0: wait, or -errno. A header that is none is refused here. */
static int read_record(struct riprap_handshake *handshake)
{
	u8 alert = TLS13_UNEXPECTED_MESSAGE;
	int len, err;

	err = fill(handshake, TLS13_RECORD_HEADER);
	if (err <= 0)
		return err;
	len = tls13_record_length(handshake->engine, handshake->record, &alert);
	if (len >= 0 && len <= TLS13_RECORD_MAX)
		return fill(handshake, TLS13_RECORD_HEADER + len);
	if (!handshake->read_any)
		return -EPROTO;
	refuse(handshake, alert, RIPRAP_REASON_TLS_ALERT, ECONNRESET);
	return 1;
}

/* The daemon's answer is there: go on, or refuse. */
static enum tls13_status judge_peer(struct riprap_handshake *handshake)
{
	struct riprap_peer *peer = handshake->ask.answer;

	handshake->ask.answer = NULL;
	handshake->asking = false;
	if (handshake->peer)
		riprap_peer_put(handshake->peer);
	handshake->peer = peer;
	if (peer->alert) {
		refuse(handshake, peer->alert, RIPRAP_REASON_PEER_CHAIN, denied(handshake));
		return TLS13_FAILED;
	}
	handshake->rs->flow->peer = riprap_peer_get(peer);
	if (!riprap_peer_is_valid(peer)) {
		refuse(handshake, TLS13_CERTIFICATE_EXPIRED, RIPRAP_REASON_PEER_CHAIN, denied(handshake));
		return TLS13_FAILED;
	}
	if (!may_be(handshake, peer)) {
		refuse(handshake, TLS13_ACCESS_DENIED, RIPRAP_REASON_PEER_ID, denied(handshake));
		return TLS13_FAILED;
	}
	return tls13_peer_accepted(handshake->engine, peer->public_key);
}

static enum tls13_status ask_about_peer(struct riprap_handshake *handshake)
{
	struct riprap_flow_event *event = &handshake->rs->flow->event;
	struct riprap_verify about = {
		.flow = event->flow,
		.instance = event->instance,
		.trust_generation = riprap_trust_generation(),
		.peer_is_server = !handshake->server,
	};
	unsigned int certs;
	const u8 *chain;
	size_t len;
	int err;

	chain = tls13_peer_chain(handshake->engine, &len, &certs);
	about.certs = certs;
	about.chain_len = len;
	memset(&handshake->ask, 0, sizeof(handshake->ask));
	handshake->asking = true;
	err = riprap_peer_ask(&handshake->ask, &handshake->rs->work, &about, chain, len);
	if (!err)
		return judge_peer(handshake);
	if (err == -EINPROGRESS) {
		handshake->stage = RIPRAP_STAGE_VERIFY;
		return TLS13_VERIFY;
	}
	handshake->asking = false;
	refuse(handshake, TLS13_INTERNAL_ERROR, RIPRAP_REASON_PEER_CHAIN, denied(handshake));
	return TLS13_FAILED;
}

static void note_result(struct riprap_handshake *handshake, const struct tls13_result *result)
{
	struct riprap_flow *flow = handshake->rs->flow;

	flow->event.suite = result->suite;
	flow->event.group = result->group;
	flow->event.handshake_ns = ktime_to_ns(ktime_sub(ktime_get(), handshake->started));
	if (result->resumed) {
		flow->event.flags |= RIPRAP_FLOW_RESUMED;
		swap(handshake->peer, handshake->psk_peer);
		if (!flow->peer && handshake->peer)
			flow->peer = riprap_peer_get(handshake->peer);
	}
	if (result->hello_retry)
		flow->event.flags |= RIPRAP_FLOW_HELLO_RETRY;
	flow->event.rule = handshake->verdict.rule;
	flow->event.reason = RIPRAP_REASON_RULE;
	atomic64_inc(result->resumed ? &riprap_counters.handshakes_resumed : &riprap_counters.handshakes_full);
}

/* Another riprap goes on using the one it has; other clients use each ticket once. */
static bool is_ticket_due(const struct riprap_handshake *handshake, const struct tls13_result *result)
{
	return handshake->server && (!result->resumed || handshake->psk_aging || !result->alpn[0]);
}

u8 riprap_negotiate_fault(struct riprap_handshake *handshake)
{
	if (!handshake->peer || !riprap_peer_is_valid(handshake->peer))
		return RIPRAP_REASON_PEER_CHAIN;
	if (!may_be(handshake, handshake->peer))
		return RIPRAP_REASON_PEER_ID;
	if (!riprap_identity_is_valid(handshake->identity))
		return RIPRAP_REASON_WITHDRAWN;
	return RIPRAP_REASON_NONE;
}

/* Both ends are authenticated and all is sent: kTLS takes over. */
static void hand_over(struct riprap_handshake *handshake)
{
	struct riprap_socket *rs = handshake->rs;
	struct riprap_flow *flow = rs->flow;
	struct tls13_result result;
	u8 fault;
	int err;

	tls13_result(handshake->engine, &result);
	note_result(handshake, &result);
	/* A peer was judged some time ago: its SVID may have ended since, trust or rules may have moved. */
	fault = riprap_negotiate_fault(handshake);
	if (fault) {
		riprap_handshake_fail(handshake, fault, denied(handshake));
		return;
	}
	riprap_handshake_unlisten(rs);
	err = riprap_record_install(rs, handshake->engine);
	if (err) {
		riprap_handshake_fail(handshake, err == -ENOMEM ? RIPRAP_REASON_NO_MEMORY : RIPRAP_REASON_NO_KTLS,
				      ECONNABORTED);
		return;
	}
	flow->event.tls = RIPRAP_TLS_MUTUAL;
	if (is_ticket_due(handshake, &result))
		set_bit(RIPRAP_SOCKET_TICKET_DUE, &rs->flags);
	else if (!handshake->server)
		set_bit(RIPRAP_SOCKET_LOOK_AHEAD, &rs->flags);
	riprap_handshake_open(handshake, RIPRAP_PHASE_MUTUAL);
}

/* TCP ended or broke under the handshake. */
static void fail_tcp(struct riprap_handshake *handshake, int err)
{
	bool plaintext = err == -EPROTO && handshake->record[0] != RECORD_HANDSHAKE;

	if (plaintext)
		riprap_handshake_fail(handshake, RIPRAP_REASON_PEER_PLAINTEXT, denied(handshake));
	else if (err == -ENODATA || err == -EPROTO)
		riprap_handshake_fail(handshake, RIPRAP_REASON_TRUNCATED, ECONNRESET);
	else
		riprap_handshake_fail(handshake, RIPRAP_REASON_TCP, -err);
}

/* What the engine wants next, when it is not one more record. False: nothing more to do now. */
static bool follow(struct riprap_handshake *handshake, enum tls13_status status)
{
	while (status == TLS13_VERIFY) {
		status = ask_about_peer(handshake);
		if (handshake->stage == RIPRAP_STAGE_VERIFY)
			return false;
	}
	if (status == TLS13_DONE)
		handshake->done = true;
	else if (status == TLS13_FAILED && !handshake->failing)
		note_failure(handshake);
	return true;
}

/*
 * A worker does not begin to wait for a program that took the socket while it computed: `held`, and it comes back. A
 * program that drives its own handshake waits for its own other threads.
 */
static bool is_held(struct riprap_handshake *handshake)
{
	handshake->held = current->flags & PF_WQ_WORKER && READ_ONCE(handshake->rs->sk->sk_lock.owned);
	return handshake->held;
}

void riprap_negotiate_step(struct riprap_handshake *handshake)
{
	bool go_on = true;
	int err;

	if (riprap_negotiate_is_late(handshake)) {
		riprap_handshake_fail(handshake, RIPRAP_REASON_TIMEOUT, handshake->server ? ECONNRESET : ETIMEDOUT);
		return;
	}
	if (handshake->stage == RIPRAP_STAGE_VERIFY) {
		if (!handshake->ask.answer)
			return;
		handshake->stage = RIPRAP_STAGE_TLS;
		go_on = follow(handshake, judge_peer(handshake));
	}
	while (go_on && !is_held(handshake)) {
		err = flush(handshake);
		if (err < 0 && !handshake->failing) {
			fail_tcp(handshake, err);
			return;
		}
		if (handshake->failing) {
			riprap_handshake_fail(handshake, handshake->reason, handshake->error);
			return;
		}
		if (!err)
			return;
		if (handshake->done) {
			hand_over(handshake);
			return;
		}
		err = read_record(handshake);
		if (err < 0) {
			fail_tcp(handshake, err);
			return;
		}
		if (!err)
			return;
		if (handshake->failing)
			continue;
		handshake->read_any = true;
		go_on = follow(handshake, tls13_input(handshake->engine, handshake->record, handshake->have));
		handshake->have = 0;
	}
}
