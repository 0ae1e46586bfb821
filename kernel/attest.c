// SPDX-License-Identifier: GPL-2.0
/*
 * The answer to "who is this process": waits with those who wait for it, makes the
 * key, and ends the identity. Never makes or ends a record; report.c asks.
 *
 * What holds without a daemon is read in one place: riprap_attest_answer().
 */
#define pr_fmt(fmt) "riprap: " fmt

#include <linux/jiffies.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "device.h"
#include "process_record.h"
#include "ticket.h"
#include "trace.h"
#include "work.h"

/* Of the last START; the defaults hold before the first. */
static struct {
	u32 attest_timeout_ms, handshake_timeout_ms, sniff_timeout_ms;
	u8 unknown_mode;
} settings = {
	.attest_timeout_ms = 3000,
	.handshake_timeout_ms = 10000,
	.sniff_timeout_ms = 500,
	.unknown_mode = RIPRAP_MODE_OBSERVE,
};

/**
 * riprap_process_configure() - take the settings of a START frame
 * @start: checked by riprap_frame_read()
 */
void riprap_process_configure(const struct riprap_start *start)
{
	WRITE_ONCE(settings.attest_timeout_ms, start->attest_timeout_ms);
	WRITE_ONCE(settings.handshake_timeout_ms, start->handshake_timeout_ms);
	WRITE_ONCE(settings.sniff_timeout_ms, start->sniff_timeout_ms);
	WRITE_ONCE(settings.unknown_mode, start->unknown_mode);
}

/**
 * riprap_unknown_mode() - what holds for a process that cannot be attested
 *
 * Return: enum riprap_mode.
 */
u8 riprap_unknown_mode(void)
{
	return READ_ONCE(settings.unknown_mode);
}

/**
 * riprap_handshake_timeout_ms() - how long a TLS handshake may take
 *
 * Return: milliseconds.
 */
unsigned int riprap_handshake_timeout_ms(void)
{
	return READ_ONCE(settings.handshake_timeout_ms);
}

/**
 * riprap_sniff_timeout_ms() - how long a permissive accept waits for a first byte
 *
 * Return: milliseconds.
 */
unsigned int riprap_sniff_timeout_ms(void)
{
	return READ_ONCE(settings.sniff_timeout_ms);
}

/**
 * riprap_attest_timeout() - how long somebody waits for ASSIGN and SVID
 *
 * Return: jiffies.
 */
unsigned long riprap_attest_timeout(void)
{
	return msecs_to_jiffies(READ_ONCE(settings.attest_timeout_ms));
}

/**
 * riprap_attest_answer() - where the question stands
 * @process: its lock is held
 *
 * Whether the daemon is there is looked at only when nothing else gives the answer: cached identities outlive it.
 *
 * Return: the answer.
 */
enum riprap_process_answer riprap_attest_answer(const struct riprap_process *process)
{
	lockdep_assert_held(&process->lock);
	if (process->is_dead || process->state == RIPRAP_STATE_WITHDRAWN)
		return RIPRAP_ANSWER_WITHDRAWN;
	if (process->state == RIPRAP_STATE_UNMANAGED || process->state == RIPRAP_STATE_IDLE)
		return RIPRAP_ANSWER_UNMANAGED;
	if (process->identity && riprap_identity_is_valid(process->identity))
		return RIPRAP_ANSWER_READY;
	if (process->state == RIPRAP_STATE_OVERFLOW || !riprap_device_is_started() ||
	    time_after_eq(jiffies, process->deadline))
		return RIPRAP_ANSWER_UNKNOWN;
	return RIPRAP_ANSWER_PENDING;
}

/**
 * riprap_attest_tell_waiting() - wake those who wait, if the answer is there
 * @process: its lock is held
 */
void riprap_attest_tell_waiting(struct riprap_process *process)
{
	struct riprap_process_watch *watch, *next;

	lockdep_assert_held(&process->lock);
	if (riprap_attest_answer(process) == RIPRAP_ANSWER_PENDING)
		return;
	list_for_each_entry_safe(watch, next, &process->watches, node) {
		list_del_init(&watch->node);
		queue_delayed_work(riprap_handshake_workqueue, watch->work, 0);
	}
}

/* Pending since somebody watches: an answer that does not come in time is one, too. */
static void on_deadline(struct work_struct *work)
{
	struct riprap_process *process = container_of(to_delayed_work(work), struct riprap_process, deadline_work);
	bool is_again;

	spin_lock_bh(&process->lock);
	riprap_attest_tell_waiting(process);
	is_again = !list_empty(&process->watches) &&
		   queue_delayed_work(riprap_workqueue, &process->deadline_work,
				      max_t(long, process->deadline - jiffies, 1));
	spin_unlock_bh(&process->lock);
	if (!is_again)
		riprap_process_put(process);
}

static void send_key(const struct riprap_process *process, const struct riprap_key_pair *key)
{
	struct riprap_key frame = { .instance = process->instance, .key_id = riprap_key_id(key) };

	memcpy(frame.public_key, riprap_key_public(key), sizeof(frame.public_key));
	riprap_device_send_gfp(RIPRAP_KEY, 0, &frame, sizeof(frame), NULL, 0, GFP_KERNEL | __GFP_NOFAIL);
}

static void send_exit(const struct riprap_process *process)
{
	const struct riprap_process_exit frame = { .instance = process->instance, .exit_code = process->exit_code };

	riprap_device_send_gfp(RIPRAP_PROCESS_EXIT, 0, &frame, sizeof(frame), NULL, 0, GFP_KERNEL | __GFP_NOFAIL);
}

/* A key takes a millisecond of arithmetic: not in the daemon's write(). */
static void make_key(struct work_struct *work)
{
	struct riprap_process *process = container_of(work, struct riprap_process, key_work);
	struct riprap_key_pair *key = NULL, *fresh = NULL;
	bool is_exit_due;

	if (!READ_ONCE(process->pending) && !READ_ONCE(process->is_dead))
		fresh = riprap_key_make();
	spin_lock_bh(&process->lock);
	if (!process->is_dead && process->state == RIPRAP_STATE_ASSIGNED) {
		if (!process->pending && !IS_ERR_OR_NULL(fresh)) {
			WRITE_ONCE(process->pending, fresh);
			fresh = NULL;
		}
		if (process->pending)
			key = riprap_key_get(process->pending);
	}
	is_exit_due = process->is_exit_due;
	process->is_exit_due = false;
	spin_unlock_bh(&process->lock);
	if (is_exit_due)
		send_exit(process);
	if (IS_ERR(fresh))
		pr_err_ratelimited("cannot make a key: %ld\n", PTR_ERR(fresh));
	else
		riprap_key_put(fresh);
	if (key) {
		trace_riprap_key_made(process->instance, riprap_key_id(key));
		send_key(process, key);
		riprap_key_put(key);
	}
	riprap_process_put(process);
}

/**
 * riprap_attest_want_key() - make the pending key, or tell of it again
 * @process: referenced
 */
void riprap_attest_want_key(struct riprap_process *process)
{
	riprap_process_get(process);
	if (!queue_work(riprap_workqueue, &process->key_work))
		riprap_process_put(process);
}

/**
 * riprap_attest_retry_key() - make the key that could not be made for want of memory
 * @process: referenced
 */
void riprap_attest_retry_key(struct riprap_process *process)
{
	bool is_missing;

	spin_lock_bh(&process->lock);
	is_missing = process->state == RIPRAP_STATE_ASSIGNED && !process->identity && !process->pending &&
		     !process->is_dead && time_after_eq(jiffies, process->deadline);
	if (is_missing)
		process->deadline = jiffies + riprap_attest_timeout();
	spin_unlock_bh(&process->lock);
	if (is_missing)
		riprap_attest_want_key(process);
}

/**
 * riprap_attest_init_record() - make attest.c's part of a record
 * @process: zeroed
 */
void riprap_attest_init_record(struct riprap_process *process)
{
	spin_lock_init(&process->lock);
	INIT_LIST_HEAD(&process->watches);
	INIT_DELAYED_WORK(&process->deadline_work, on_deadline);
	INIT_WORK(&process->key_work, make_key);
}

/**
 * riprap_attest_free_record() - free attest.c's part
 * @process: without references
 */
void riprap_attest_free_record(struct riprap_process *process)
{
	riprap_identity_put(process->identity);
	riprap_key_put(process->pending);
	kfree(process->spiffe_id);
}

/* The identity ends; its memory goes with the record, so that this is for any context. */
static void end_identity_locked(struct riprap_process *process)
{
	lockdep_assert_held(&process->lock);
	riprap_identity_withdraw(process->identity);
	riprap_key_wipe(process->pending);
}

/**
 * riprap_attest_end() - the process has exited, executed anew, or changed credentials
 * @process: no longer in the hashes
 * @exit_code: as wait4() gives it; 0 unless it exited
 *
 * Any context.
 */
void riprap_attest_end(struct riprap_process *process, int exit_code)
{
	const struct riprap_process_exit frame = { .instance = process->instance, .exit_code = exit_code };
	bool is_reported, had_identity;

	spin_lock_bh(&process->lock);
	had_identity = process->identity;
	WRITE_ONCE(process->is_dead, true);
	process->exit_code = exit_code;
	is_reported = process->is_reported;
	end_identity_locked(process);
	riprap_attest_tell_waiting(process);
	spin_unlock_bh(&process->lock);
	if (cancel_delayed_work(&process->deadline_work))
		riprap_process_put(process);
	if (had_identity)
		riprap_ticket_forget(process->instance);
	trace_riprap_process_ended(process->instance, process->pid, exit_code);
	if (!is_reported || riprap_device_send(RIPRAP_PROCESS_EXIT, 0, &frame, sizeof(frame), NULL, 0) != -ENOMEM)
		return;
	/* The daemon must hear of it: a work item may wait for memory. */
	spin_lock_bh(&process->lock);
	process->is_exit_due = true;
	spin_unlock_bh(&process->lock);
	riprap_attest_want_key(process);
}

/* riprap_process_daemon_gone() - whoever waits for the daemon waits no more */
void riprap_process_daemon_gone(void)
{
	struct riprap_process **all;
	u32 count, i;

	all = riprap_process_all(&count);
	for (i = 0; i < count; i++) {
		spin_lock_bh(&all[i]->lock);
		riprap_attest_tell_waiting(all[i]);
		spin_unlock_bh(&all[i]->lock);
		riprap_process_put(all[i]);
	}
	kvfree(all);
}

/*
 * The SVID ended before its successor came: the daemon was held up, or the machine asleep. It has its time for this one as for
 * the first, from the first riprap_process_watch(); after that nobody waits until the successor is there.
 */
static bool may_wait_for_successor(const struct riprap_process *process)
{
	lockdep_assert_held(&process->lock);
	return process->state == RIPRAP_STATE_ASSIGNED && process->identity && !process->is_overdue &&
	       riprap_device_is_started();
}

/**
 * riprap_process_answer() - where the question stands
 * @process: referenced
 * @subject: set once a SPIFFE ID is assigned, else 0
 * @identity: set and referenced with READY, else NULL
 *
 * Any context.
 *
 * Return: the answer.
 */
enum riprap_process_answer riprap_process_answer(struct riprap_process *process, u32 *subject,
						 struct riprap_identity **identity)
{
	enum riprap_process_answer answer;

	*identity = NULL;
	spin_lock_bh(&process->lock);
	answer = riprap_attest_answer(process);
	if (answer == RIPRAP_ANSWER_UNKNOWN && may_wait_for_successor(process))
		answer = RIPRAP_ANSWER_PENDING;
	*subject = process->state == RIPRAP_STATE_ASSIGNED ? process->subject : 0;
	if (answer == RIPRAP_ANSWER_READY) {
		*identity = riprap_identity_get(process->identity);
		*subject = process->identity->subject;
	}
	spin_unlock_bh(&process->lock);
	return answer;
}

/**
 * riprap_process_watch() - queue a work item when the answer is not PENDING
 * @process: referenced until the work has run or riprap_process_unwatch() has returned
 * @watch: the caller's; its work is set
 */
void riprap_process_watch(struct riprap_process *process, struct riprap_process_watch *watch)
{
	INIT_LIST_HEAD(&watch->node);
	spin_lock_bh(&process->lock);
	/* Somebody waits from now on: the daemon has its whole time for it. Others who come meanwhile do not lengthen it. */
	if (list_empty(&process->watches))
		process->deadline = jiffies + riprap_attest_timeout();
	/* This is the one time that it is waited for: who asks when it is over must not begin another, which nobody would watch. */
	if (process->state == RIPRAP_STATE_ASSIGNED && process->identity)
		process->is_overdue = true;
	list_add_tail(&watch->node, &process->watches);
	riprap_attest_tell_waiting(process);
	if (!list_empty(&process->watches) &&
	    queue_delayed_work(riprap_workqueue, &process->deadline_work, riprap_attest_timeout() + 1))
		riprap_process_get(process);
	spin_unlock_bh(&process->lock);
}

/**
 * riprap_process_unwatch() - the caller's work is not queued from here on; it may have been
 * @process: as in riprap_process_watch()
 * @watch: likewise
 */
void riprap_process_unwatch(struct riprap_process *process, struct riprap_process_watch *watch)
{
	spin_lock_bh(&process->lock);
	list_del_init(&watch->node);
	spin_unlock_bh(&process->lock);
}
