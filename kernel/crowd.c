// SPDX-License-Identifier: GPL-2.0
/*
 * How many handshakes there may be, and how many workers compute them. Neither bound may be used up by a program that
 * holds its own sockets: who makes room waits for no lock of another's socket, a worker that has to wait is not counted,
 * and an identity that keeps many of them waiting gets no more.
 */
#include <linux/hash.h>
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <net/sock.h>

#include "crowd.h"
#include "handshake.h"
#include "limits.h"
#include "negotiate.h"
#include "socket.h"
#include "work.h"

#define ADMIT_TRIES	8	/* another thread may take the place that was made */
#define PATIENCE	(HZ / 2)	/* a step that takes longer and sleeps waits for a program */
#define IDENTITIES_LOG	8	/* two that share a place share its bound */

static atomic_t under_way[2];	/* outbound, inbound */
/* `age` of those that give way, oldest first */
static struct list_head yielding[2] = { LIST_HEAD_INIT(yielding[0]), LIST_HEAD_INIT(yielding[1]) };
static DEFINE_SPINLOCK(yielding_lock);
static LIST_HEAD(turns);
static DEFINE_SPINLOCK(turns_lock);
static unsigned int waiting;	/* of the last look at `turns` */
static u16 waiting_for[1 << IDENTITIES_LOG];	/* the same, by identity; written by that look alone */

static void look_at_turns(struct work_struct *work);
static DECLARE_DELAYED_WORK(look, look_at_turns);

/* Its place is free from here on, though it may take a while until it has ended. Under yielding_lock. */
static void uncount(struct riprap_handshake *handshake)
{
	list_del_init(&handshake->age);
	if (handshake->uncounted)
		return;
	handshake->uncounted = true;
	atomic_dec(&under_way[handshake->server]);
}

static bool push_out_oldest(bool server)
{
	struct riprap_handshake *oldest;
	struct riprap_socket *rs = NULL;

	spin_lock_bh(&yielding_lock);
	oldest = list_first_entry_or_null(&yielding[server], struct riprap_handshake, age);
	if (oldest) {
		uncount(oldest);
		WRITE_ONCE(oldest->crowded, true);
		rs = oldest->rs;
		riprap_socket_get(rs);
	}
	spin_unlock_bh(&yielding_lock);
	if (!rs)
		return false;
	/* It may be another one by now. Whoever holds the lock is in a step, and frees it all. */
	if (mutex_trylock(&rs->lock)) {
		if (rs->handshake && READ_ONCE(rs->handshake->crowded))
			riprap_negotiate_free(rs->handshake);
		mutex_unlock(&rs->lock);
	}
	riprap_handshake_kick_under_way(rs);
	riprap_socket_put(rs);
	return true;
}

bool riprap_crowd_enter(bool server)
{
	unsigned int tries;

	for (tries = 0; !atomic_add_unless(&under_way[server], 1, RIPRAP_HANDSHAKES_MAX); tries++)
		if (tries == ADMIT_TRIES || !push_out_oldest(server))
			return false;
	return true;
}

void riprap_crowd_forget(bool server)
{
	atomic_dec(&under_way[server]);
}

void riprap_crowd_give_way(struct riprap_handshake *handshake)
{
	lockdep_assert_held(&handshake->rs->lock);
	spin_lock_bh(&yielding_lock);
	if (!handshake->uncounted)
		list_add_tail(&handshake->age, &yielding[handshake->server]);
	spin_unlock_bh(&yielding_lock);
}

void riprap_crowd_leave(struct riprap_handshake *handshake)
{
	spin_lock_bh(&yielding_lock);
	uncount(handshake);
	spin_unlock_bh(&yielding_lock);
}

bool riprap_crowd_begin_turn(struct riprap_turn *turn, u32 subject)
{
	turn->identity = hash_32(subject, IDENTITIES_LOG);
	/* Of nobody in particular is what waits for the daemon to say whose it is. */
	if (subject && READ_ONCE(waiting_for[turn->identity]) >= RIPRAP_HANDSHAKE_WORKERS_HELD)
		return false;
	turn->since = jiffies;
	turn->worker = current;
	spin_lock(&turns_lock);
	list_add_tail(&turn->node, &turns);
	spin_unlock(&turns_lock);
	if (!delayed_work_pending(&look))
		queue_delayed_work(riprap_workqueue, &look, PATIENCE);
	return true;
}

void riprap_crowd_end_turn(struct riprap_turn *turn)
{
	spin_lock(&turns_lock);
	list_del(&turn->node);
	spin_unlock(&turns_lock);
}

/*
 * Room for two more for each worker that waits, as soon as it goes on for as many fewer: its socket's work may have been
 * queued again meanwhile (by the handshake's limit, say), and the queue has that wait for this very worker, and counts both.
 */
static void look_at_turns(struct work_struct *work)
{
	u16 held_by[ARRAY_SIZE(waiting_for)] = {};
	unsigned int held = 0, limit, i;
	struct riprap_turn *turn;
	bool any;

	spin_lock(&turns_lock);
	any = !list_empty(&turns);
	list_for_each_entry(turn, &turns, node) {
		if (time_before(jiffies, turn->since + PATIENCE))
			break;
		/* Slow, because the processors are busy. */
		if (task_is_running(turn->worker))
			continue;
		held++;
		held_by[turn->identity]++;
	}
	spin_unlock(&turns_lock);
	for (i = 0; i < ARRAY_SIZE(held_by); i++)
		WRITE_ONCE(waiting_for[i], held_by[i]);
	limit = min_t(unsigned int, RIPRAP_HANDSHAKE_WORKERS + 2 * held, RIPRAP_HANDSHAKE_WORKERS_MAX);
	if (held != waiting)
		workqueue_set_max_active(riprap_handshake_workqueue, limit);
	waiting = held;
	if (any)
		queue_delayed_work(riprap_workqueue, &look, PATIENCE);
}

void riprap_crowd_exit(void)
{
	WARN_ON_ONCE(!list_empty(&turns));
	cancel_delayed_work_sync(&look);
	waiting = 0;
	memset(waiting_for, 0, sizeof(waiting_for));
}
