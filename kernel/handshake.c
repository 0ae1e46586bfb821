// SPDX-License-Identifier: GPL-2.0
/*
 * Life and drive of a handshake: who runs its steps, what wakes it, when it
 * times out, how it ends. What the TLS steps do is in negotiate.c.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "crowd.h"
#include "decide.h"
#include "device.h"
#include "flow.h"
#include "handshake.h"
#include "identity.h"
#include "negotiate.h"
#include "record.h"
#include "socket.h"
#include "work.h"

/*
 * While a program holds its socket the work tries again after one jiffy, 4,
 * 16 and so on: thousands of held sockets must cost little. The handshake's
 * limit kicks all the same.
 */
#define RETRY_SHIFT_STEP	2
#define RETRY_SHIFT_MAX		12

void riprap_handshake_kick(struct riprap_socket *rs)
{
	set_bit(RIPRAP_SOCKET_KICKED, &rs->flags);
	/* Pairs with the increment of drivers before its last look at KICKED. */
	smp_mb__after_atomic();
	if (atomic_read(&rs->drivers))
		wake_up(&rs->done);
	else if (READ_ONCE(rs->retry_shift))
		mod_delayed_work(riprap_handshake_workqueue, &rs->work, 0);
	else
		queue_delayed_work(riprap_handshake_workqueue, &rs->work, 0);
}

/* A late kick, from a pointer that was read before unlisten(), must not queue work for a socket that goes. Under sk_callback_lock. */
static void kick_if_under_way(struct riprap_socket *rs)
{
	if (rs && riprap_socket_phase(rs) == RIPRAP_PHASE_UNDER_WAY)
		riprap_handshake_kick(rs);
}

void riprap_handshake_kick_under_way(struct riprap_socket *rs)
{
	read_lock_bh(&rs->sk->sk_callback_lock);
	kick_if_under_way(rs);
	read_unlock_bh(&rs->sk->sk_callback_lock);
}

/*
 * sk's callbacks while UNDER_WAY. Whoever polls or waits must not be woken for the handshake's bytes:
 * io_uring takes the wake-up's word for it that there is something to read.
 */
static void on_event(struct sock *sk)
{
	read_lock_bh(&sk->sk_callback_lock);
	/* None while kTLS has the stand-in: what comes then is looked for right afterwards. */
	kick_if_under_way(sk->sk_socket ? riprap_socket_of(sk->sk_socket) : NULL);
	read_unlock_bh(&sk->sk_callback_lock);
}

static void listen_to(struct riprap_socket *rs)
{
	struct sock *sk = rs->sk;

	write_lock_bh(&sk->sk_callback_lock);
	rs->saved.data_ready = sk->sk_data_ready;
	rs->saved.state_change = sk->sk_state_change;
	rs->saved.write_space = sk->sk_write_space;
	sk->sk_data_ready = on_event;
	sk->sk_state_change = on_event;
	sk->sk_write_space = on_event;
	write_unlock_bh(&sk->sk_callback_lock);
}

static void unlisten(struct riprap_socket *rs, u8 phase)
{
	struct sock *sk = rs->sk;

	lockdep_assert_held(&rs->lock);
	write_lock_bh(&sk->sk_callback_lock);
	if (sk->sk_data_ready == on_event)
		sk->sk_data_ready = rs->saved.data_ready;
	if (sk->sk_state_change == on_event)
		sk->sk_state_change = rs->saved.state_change;
	if (sk->sk_write_space == on_event)
		sk->sk_write_space = rs->saved.write_space;
	/* Under the lock that on_event() looks at it under: afterwards none of them kicks. */
	riprap_socket_set_phase(rs, phase);
	write_unlock_bh(&sk->sk_callback_lock);
}

void riprap_handshake_unlisten(struct riprap_socket *rs)
{
	unlisten(rs, rs->phase);
}

static void on_timer(struct timer_list *timer)
{
	struct riprap_handshake *handshake = from_timer(handshake, timer, timer);

	riprap_handshake_kick(handshake->rs);
}

struct riprap_handshake *riprap_handshake_new(struct riprap_socket *rs, struct riprap_process *process, bool server)
{
	struct riprap_handshake *handshake;

	if (!riprap_crowd_enter(server))
		goto put_process;
	handshake = kzalloc(sizeof(*handshake), GFP_KERNEL);
	if (!handshake)
		goto uncount;
	handshake->rs = rs;
	handshake->process = process;
	handshake->server = server;
	INIT_LIST_HEAD(&handshake->age);
	timer_setup(&handshake->timer, on_timer, 0);
	return handshake;

uncount:
	riprap_crowd_forget(server);
put_process:
	riprap_process_put(process);
	return NULL;
}

void riprap_handshake_free(struct riprap_handshake *handshake)
{
	riprap_crowd_leave(handshake);
	timer_shutdown_sync(&handshake->timer);
	if (handshake->watching)
		riprap_process_unwatch(handshake->process, &handshake->watch);
	if (handshake->asking)
		riprap_peer_cancel(&handshake->ask);
	if (handshake->ask.answer)
		riprap_peer_put(handshake->ask.answer);
	if (handshake->peer)
		riprap_peer_put(handshake->peer);
	if (handshake->psk_peer)
		riprap_peer_put(handshake->psk_peer);
	riprap_negotiate_free(handshake);
	if (handshake->identity)
		riprap_identity_put(handshake->identity);
	riprap_process_put(handshake->process);
	kfree_sensitive(handshake);
}

void riprap_handshake_install(struct riprap_handshake *handshake)
{
	struct riprap_socket *rs = handshake->rs;
	struct sock *sk = rs->sk;

	lockdep_assert_held(&rs->lock);
	/* One byte is news while records are read; the program's own mark is put back at the end. */
	WRITE_ONCE(rs->low_water, READ_ONCE(sk->sk_rcvlowat));
	WRITE_ONCE(sk->sk_rcvlowat, 1);
	rs->handshake = handshake;
	riprap_socket_set_phase(rs, RIPRAP_PHASE_UNDER_WAY);
	listen_to(rs);
	/* Now that a kick reaches it. */
	if (handshake->server)
		riprap_crowd_give_way(handshake);
}

void riprap_handshake_arm(struct riprap_handshake *handshake, unsigned int ms)
{
	handshake->deadline = jiffies + msecs_to_jiffies(ms);
	/* One tick later, so that the step surely sees the deadline passed. */
	mod_timer(&handshake->timer, handshake->deadline + 1);
}

void riprap_handshake_watch_process(struct riprap_handshake *handshake)
{
	handshake->watching = true;
	handshake->watch.work = &handshake->rs->work;
	riprap_process_watch(handshake->process, &handshake->watch);
}

/* Who the process is as far as is known. An identity that is ready is kept. */
static void ask(struct riprap_handshake *handshake, struct riprap_question *question)
{
	struct riprap_identity *identity = NULL;

	lockdep_assert_held(&handshake->rs->lock);
	question->answer = riprap_process_answer(handshake->process, &question->subject, &identity);
	question->inbound = handshake->server;
	question->remote = handshake->remote;
	question->port = handshake->port;
	question->draining = riprap_socket_is_draining();
	if (!identity)
		return;
	if (handshake->identity)
		riprap_identity_put(handshake->identity);
	handshake->identity = identity;
}

enum riprap_decision riprap_handshake_decide(struct riprap_handshake *handshake, u16 *flow_flags)
{
	struct riprap_question question = {};

	handshake->cuts = riprap_flow_cuts();
	ask(handshake, &question);
	handshake->decision = riprap_decide(&question, &handshake->verdict, flow_flags);
	if (handshake->decision != RIPRAP_DECISION_WAIT)
		handshake->subject = question.subject;
	return handshake->decision;
}

/* Does what was decided still hold? Else the reason why not. */
static u8 fault_of(struct riprap_handshake *handshake, u8 phase)
{
	struct riprap_question question = {};
	u16 flags = 0;

	ask(handshake, &question);
	/* It speaks as somebody whom this process is no longer. */
	if (handshake->subject && question.subject != handshake->subject)
		return RIPRAP_REASON_WITHDRAWN;
	/* A drain lets what is open go on. */
	question.draining = false;
	if (riprap_decide(&question, &handshake->verdict, &flags) != handshake->decision)
		return handshake->verdict.reason;
	return phase == RIPRAP_PHASE_MUTUAL ? riprap_negotiate_fault(handshake) : RIPRAP_REASON_NONE;
}

void riprap_handshake_open(struct riprap_handshake *handshake, u8 phase)
{
	struct riprap_socket *rs = handshake->rs;
	u8 fault = RIPRAP_REASON_NONE;

	if (rs->flow) {
		riprap_flow_start(rs->flow);
		/* One that came since the decision did not find this flow among the live ones. */
		if (unlikely(riprap_flow_cuts() != handshake->cuts))
			fault = fault_of(handshake, phase);
	}
	/* First: whoever sees it open sees that it is to be cut. */
	if (fault)
		riprap_socket_doom(rs, fault);
	riprap_handshake_finish(handshake, phase);
}

int riprap_handshake_make_flow(struct riprap_handshake *handshake, u16 flags)
{
	struct riprap_flow *flow = riprap_flow_new(handshake->rs, handshake->server);

	lockdep_assert_held(&handshake->rs->lock);
	if (!flow)
		return -ENOMEM;
	riprap_flow_note_verdict(flow, &handshake->verdict);
	if (handshake->server)
		riprap_flow_note_addresses(flow);
	flow->event.flags |= flags;
	flow->event.instance = riprap_process_instance(handshake->process);
	flow->event.pid = riprap_process_pid(handshake->process);
	flow->event.subject = handshake->subject;
	if (handshake->identity) {
		flow->own_id = kstrdup(handshake->identity->spiffe_id, GFP_KERNEL);
		if (!flow->own_id) {
			riprap_flow_put(flow);
			return -ENOMEM;
		}
	}
	handshake->rs->flow = flow;
	return 0;
}

void riprap_handshake_finish(struct riprap_handshake *handshake, u8 phase)
{
	struct riprap_socket *rs = handshake->rs;
	struct sock *sk = rs->sk;
	int shutdown = handshake->shutdown;

	lockdep_assert_held(&rs->lock);
	rs->handshake = NULL;
	riprap_handshake_free(handshake);
	unlisten(rs, phase);
	/* A mark that comes at this very moment is lost. */
	if (READ_ONCE(rs->low_water) != 1) {
		lock_sock(sk);
		rs->plain->set_rcvlowat(sk, rs->low_water);
		release_sock(sk);
	}
	wake_up_all(&rs->done);
	if (shutdown && (phase == RIPRAP_PHASE_PLAIN || phase == RIPRAP_PHASE_MUTUAL))
		riprap_socket_shut(rs, shutdown - 1);
	/* Pollers saw nothing until now. */
	sk->sk_state_change(sk);
	sk_wake_async(sk, SOCK_WAKE_IO, POLL_OUT);
}

/* Refused by us, not broken by circumstance. */
static bool is_denial(u8 reason)
{
	switch (reason) {
	case RIPRAP_REASON_RULE:
	case RIPRAP_REASON_NO_RULE:
	case RIPRAP_REASON_NO_IDENTITY:
	case RIPRAP_REASON_UNKNOWN_PROCESS:
	case RIPRAP_REASON_PEER_ID:
	case RIPRAP_REASON_PEER_CHAIN:
	case RIPRAP_REASON_PEER_PLAINTEXT:
	case RIPRAP_REASON_WITHDRAWN:
	case RIPRAP_REASON_DRAINING:
	case RIPRAP_REASON_FOREIGN_SOCKET:
	case RIPRAP_REASON_NOT_TLS:
		return true;
	}
	return false;
}

void riprap_handshake_fail(struct riprap_handshake *handshake, u8 reason, int error)
{
	struct riprap_socket *rs = handshake->rs;

	lockdep_assert_held(&rs->lock);
	if (rs->flow) {
		riprap_flow_note_addresses(rs->flow);
		rs->flow->event.reason = reason;
		rs->flow->event.error = error;
		if (handshake->started)
			atomic64_inc(&riprap_counters.handshakes_failed);
		riprap_flow_end(rs->flow, is_denial(reason) ? RIPRAP_FLOW_DENIED : RIPRAP_FLOW_FAILED);
	}
	riprap_socket_reset(rs, error);
	riprap_handshake_finish(handshake, RIPRAP_PHASE_FAILED);
}

void riprap_handshake_start_tls(struct riprap_handshake *handshake)
{
	int err;

	handshake->stage = RIPRAP_STAGE_TLS;
	riprap_flow_note_addresses(handshake->rs->flow);
	riprap_handshake_arm(handshake, riprap_handshake_timeout_ms());
	err = riprap_record_prepare(handshake->rs);
	/* Already ended by the peer, before a byte of TLS. */
	if (err == -ENOTCONN)
		riprap_handshake_fail(handshake, RIPRAP_REASON_TCP, ECONNRESET);
	else if (err == -ENOMEM)
		riprap_handshake_fail(handshake, RIPRAP_REASON_NO_MEMORY, ENOMEM);
	else if (err)
		riprap_handshake_fail(handshake, RIPRAP_REASON_NO_KTLS, ECONNABORTED);
	else if (riprap_negotiate_begin(handshake))
		riprap_handshake_fail(handshake, RIPRAP_REASON_NO_MEMORY, ENOMEM);
	else
		riprap_negotiate_step(handshake);
}

/* One step of whatever is next. Under rs->lock. */
static void step(struct riprap_socket *rs)
{
	struct riprap_handshake *handshake = rs->handshake;

	lockdep_assert_held(&rs->lock);
	clear_bit(RIPRAP_SOCKET_KICKED, &rs->flags);
	smp_mb__after_atomic();
	if (!handshake)
		return;
	handshake->held = false;
	if (READ_ONCE(handshake->crowded)) {
		riprap_handshake_fail(handshake, RIPRAP_REASON_CROWDED, ECONNRESET);
		return;
	}
	if (handshake->stage == RIPRAP_STAGE_TLS || handshake->stage == RIPRAP_STAGE_VERIFY) {
		riprap_negotiate_step(handshake);
		return;
	}
	if (handshake->stage != RIPRAP_STAGE_BEGIN) {
		if (handshake->server)
			riprap_accept_step(handshake);
		else
			riprap_connect_step(handshake);
	}
	/* Perhaps decided just now; the peer's first bytes are here already, so nothing else would kick. */
	handshake = rs->handshake;
	if (handshake && handshake->stage == RIPRAP_STAGE_BEGIN)
		riprap_handshake_start_tls(handshake);
}

static void step_later(struct riprap_socket *rs)
{
	queue_delayed_work(riprap_handshake_workqueue, &rs->work, 1 << rs->retry_shift);
	if (rs->retry_shift < RETRY_SHIFT_MAX)
		WRITE_ONCE(rs->retry_shift, rs->retry_shift + RETRY_SHIFT_STEP);
}

/* A program holds the socket: what others need is given back meanwhile, for it has no more use for it. */
static void give_back(struct riprap_socket *rs)
{
	struct riprap_handshake *handshake;

	if (!mutex_trylock(&rs->lock))
		return;
	handshake = rs->handshake;
	if (handshake && (READ_ONCE(handshake->crowded) || riprap_negotiate_is_late(handshake))) {
		riprap_crowd_leave(handshake);
		riprap_negotiate_free(handshake);
	}
	mutex_unlock(&rs->lock);
}

/* Takes the socket's lock, when a step is to be made now. */
static bool begin_turn(struct riprap_socket *rs, struct riprap_turn *turn)
{
	if (!riprap_socket_trylock(rs))
		return false;
	/* Undecided, it has no subject. */
	if (riprap_crowd_begin_turn(turn, rs->handshake ? rs->handshake->subject : 0))
		return true;
	mutex_unlock(&rs->lock);
	return false;
}

void riprap_handshake_work(struct work_struct *work)
{
	struct riprap_socket *rs = container_of(to_delayed_work(work), struct riprap_socket, work);
	struct riprap_turn turn;

	if (!begin_turn(rs, &turn)) {
		give_back(rs);
		step_later(rs);
		return;
	}
	step(rs);
	riprap_crowd_end_turn(&turn);
	if (rs->handshake && rs->handshake->held)
		step_later(rs);
	else
		WRITE_ONCE(rs->retry_shift, 0);
	mutex_unlock(&rs->lock);
}

int riprap_handshake_drive(struct riprap_socket *rs, long *timeout)
{
	long left;
	int err = 0;

	atomic_inc(&rs->drivers);
	while (riprap_socket_phase(rs) == RIPRAP_PHASE_UNDER_WAY) {
		mutex_lock(&rs->lock);
		step(rs);
		mutex_unlock(&rs->lock);
		if (!*timeout) {
			err = -EAGAIN;
			break;
		}
		left = wait_event_interruptible_timeout(rs->done,
							test_bit(RIPRAP_SOCKET_KICKED, &rs->flags) ||
							riprap_socket_phase(rs) != RIPRAP_PHASE_UNDER_WAY,
							*timeout);
		if (left < 0) {
			err = sock_intr_errno(*timeout);
			break;
		}
		if (*timeout != MAX_SCHEDULE_TIMEOUT)
			*timeout = left;
	}
	atomic_dec(&rs->drivers);
	smp_mb__after_atomic();
	if (riprap_socket_phase(rs) == RIPRAP_PHASE_UNDER_WAY)
		queue_delayed_work(riprap_handshake_workqueue, &rs->work, 0);
	else
		err = 0;
	return err;
}

void riprap_handshake_abandon(struct riprap_socket *rs)
{
	mutex_lock(&rs->lock);
	if (rs->handshake)
		riprap_handshake_fail(rs->handshake, RIPRAP_REASON_ABANDONED, ECONNABORTED);
	mutex_unlock(&rs->lock);
	/* Nothing kicks any more: the callbacks, the timer, the watch and the question are gone. */
	cancel_delayed_work_sync(&rs->work);
}
