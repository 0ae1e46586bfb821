// SPDX-License-Identifier: GPL-2.0
/*
 * The question "who is this process" and its answer: asks the daemon, waits with
 * those who wait, holds the identity, and ends it. Never makes or ends a record.
 *
 * What holds without a daemon is read in one place: answer_locked().
 */
#define pr_fmt(fmt) "riprap: " fmt

#include <linux/jiffies.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "device.h"
#include "process_record.h"
#include "table.h"
#include "trace.h"

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

/* Whether the daemon is there is looked at only when nothing else gives the answer: cached identities outlive it. */
static enum riprap_process_answer answer_locked(const struct riprap_process *process)
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
	if (answer_locked(process) == RIPRAP_ANSWER_PENDING)
		return;
	list_for_each_entry_safe(watch, next, &process->watches, node) {
		list_del_init(&watch->node);
		queue_work(riprap_workqueue, watch->work);
	}
	wake_up_all(&process->wait);
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
	riprap_device_send_gfp(RIPRAP_KEY, 0, &frame, sizeof(frame), NULL, 0, GFP_KERNEL);
}

/* A key takes a millisecond of arithmetic: not in the daemon's write(). */
static void make_key(struct work_struct *work)
{
	struct riprap_process *process = container_of(work, struct riprap_process, key_work);
	struct riprap_key_pair *key = NULL, *fresh = riprap_key_make();

	spin_lock_bh(&process->lock);
	if (!process->is_dead && process->state == RIPRAP_STATE_ASSIGNED) {
		if (!process->pending && !IS_ERR(fresh)) {
			process->pending = fresh;
			fresh = NULL;
		}
		if (process->pending)
			key = riprap_key_get(process->pending);
	}
	spin_unlock_bh(&process->lock);
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
 * riprap_attest_init_record() - make attest.c's part of a record
 * @process: zeroed
 */
void riprap_attest_init_record(struct riprap_process *process)
{
	spin_lock_init(&process->lock);
	INIT_LIST_HEAD(&process->watches);
	init_waitqueue_head(&process->wait);
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
	bool is_reported;

	spin_lock_bh(&process->lock);
	process->is_dead = true;
	is_reported = process->is_reported;
	end_identity_locked(process);
	riprap_attest_tell_waiting(process);
	spin_unlock_bh(&process->lock);
	if (cancel_delayed_work(&process->deadline_work))
		riprap_process_put(process);
	trace_riprap_process_ended(process->instance, process->pid, exit_code);
	if (is_reported)
		riprap_device_send(RIPRAP_PROCESS_EXIT, 0, &frame, sizeof(frame), NULL, 0);
}

/* What the frame says of the answer so far. The identity, referenced, when it is valid. */
static struct riprap_identity *state_of(struct riprap_process *process, struct riprap_process_facts *out)
{
	struct riprap_identity *identity = NULL;

	spin_lock_bh(&process->lock);
	if (answer_locked(process) == RIPRAP_ANSWER_READY)
		identity = riprap_identity_get(process->identity);
	else if (process->state != RIPRAP_STATE_WITHDRAWN)
		out->flags |= RIPRAP_PROCESS_WANTS_ANSWER;
	spin_unlock_bh(&process->lock);
	if (identity) {
		out->flags |= RIPRAP_PROCESS_HAS_IDENTITY;
		out->subject = identity->subject;
		out->not_after = identity->not_after;
		out->spiffe_id_len = strlen(identity->spiffe_id);
	}
	return identity;
}

static void fill_facts(const struct riprap_process *process, struct riprap_process_facts *out)
{
	const struct riprap_facts *facts = process->facts;

	out->instance = process->instance;
	out->parent_instance = process->parent_instance;
	out->start_time_ns = process->start_time_ns;
	out->pid = process->pid;
	out->parent_pid = process->parent_pid;
	out->exec_generation = process->exec_generation;
	out->cause = process->cause;
	out->uid = from_kuid_munged(&init_user_ns, process->uid);
	out->euid = from_kuid_munged(&init_user_ns, process->euid);
	out->gid = from_kgid_munged(&init_user_ns, process->gid);
	out->egid = from_kgid_munged(&init_user_ns, process->egid);
	out->exe_dev = facts->exe_dev;
	out->exe_ino = facts->exe_ino;
	out->exe_size = facts->exe_size;
	out->exe_mtime_ns = facts->exe_mtime_ns;
	out->exe_ctime_ns = facts->exe_ctime_ns;
	out->comm_len = facts->comm_len;
	out->exe_len = facts->exe_len;
	out->script_len = facts->script_len;
	out->argv_len = facts->argv_len;
	if (facts->argv_cut)
		out->flags |= RIPRAP_PROCESS_ARGV_CUT;
}

static int send_process(struct riprap_process *process, struct task_struct *task, u32 frame_flags)
{
	const struct riprap_facts *facts = process->facts;
	struct riprap_process_facts frame = { 0 };
	struct riprap_identity *identity;
	char *cgroup;
	int err;

	cgroup = kmalloc(RIPRAP_PATH_MAX, GFP_KERNEL);
	if (!cgroup)
		return -ENOMEM;
	riprap_fact_of_task(task, &frame);
	fill_facts(process, &frame);
	frame.cgroup_len = riprap_fact_cgroup(task, cgroup, RIPRAP_PATH_MAX);
	identity = state_of(process, &frame);
	{
		const struct riprap_part parts[] = {
			{ facts->comm, facts->comm_len },
			{ riprap_fact_exe(facts), facts->exe_len },
			{ riprap_fact_script(facts), facts->script_len },
			{ riprap_fact_argv(facts), facts->argv_len },
			{ cgroup, frame.cgroup_len },
			{ identity ? identity->spiffe_id : "", frame.spiffe_id_len },
		};

		err = riprap_device_send_gfp(RIPRAP_PROCESS, frame_flags, &frame, sizeof(frame), parts,
					     ARRAY_SIZE(parts), GFP_KERNEL);
	}
	riprap_identity_put(identity);
	kfree(cgroup);
	return err;
}

/* IDLE -> ASKED. True if this call did it. */
static bool start_asking(struct riprap_process *process)
{
	bool is_new;

	spin_lock_bh(&process->lock);
	is_new = process->state == RIPRAP_STATE_IDLE && !process->is_dead;
	if (is_new)
		WRITE_ONCE(process->state, RIPRAP_STATE_ASKED);
	if (process->state == RIPRAP_STATE_ASKED)
		process->deadline = jiffies + riprap_attest_timeout();
	spin_unlock_bh(&process->lock);
	return is_new;
}

/* At most once for each daemon, unless `is_again`. */
static int report(struct riprap_process *process, struct task_struct *task, u32 frame_flags, bool is_again)
{
	u64 epoch = riprap_device_epoch();
	bool is_due;
	int err;

	spin_lock_bh(&process->lock);
	is_due = !process->is_dead && epoch && (is_again || process->epoch != epoch);
	if (is_due) {
		process->epoch = epoch;
		process->is_reported = true;
	}
	spin_unlock_bh(&process->lock);
	if (!is_due)
		return epoch ? 0 : -ENOTCONN;
	err = send_process(process, task, frame_flags);
	if (err) {
		/* the next touch of a socket tries again */
		spin_lock_bh(&process->lock);
		process->epoch = 0;
		spin_unlock_bh(&process->lock);
	}
	return err;
}

/**
 * riprap_attest_report() - tell the daemon of a process, whatever the filters say
 * @process: referenced
 * @task: of it, referenced
 * @frame_flags: enum riprap_frame_flag
 *
 * Return: 0 or -errno of riprap_device_send_gfp().
 */
int riprap_attest_report(struct riprap_process *process, struct task_struct *task, u32 frame_flags)
{
	if (start_asking(process))
		riprap_process_convert(task);
	return report(process, task, frame_flags, true);
}

/**
 * riprap_attest_consider() - is this process managed, or may it be
 * @process: referenced
 * @task: of it
 *
 * Looks at the filters if the table changed since they last missed, and asks the daemon if one matches.
 *
 * Return: false if the process is not managed. May sleep, never for the daemon.
 */
bool riprap_attest_consider(struct riprap_process *process, struct task_struct *task)
{
	const struct riprap_facts *facts = process->facts;
	u8 state = READ_ONCE(process->state);
	u64 generation;

	if (state == RIPRAP_STATE_OVERFLOW)
		return true;
	if (state == RIPRAP_STATE_UNMANAGED)
		return false;
	if (state == RIPRAP_STATE_IDLE) {
		if (!riprap_table_filter(from_kuid_munged(&init_user_ns, process->euid), facts->comm,
					 facts->comm_len, riprap_fact_exe(facts), facts->exe_len, &generation)) {
			WRITE_ONCE(process->filtered_by, generation);
			return false;
		}
		if (start_asking(process))
			riprap_process_convert(task);
	}
	if (READ_ONCE(process->epoch) != riprap_device_epoch())
		report(process, task, 0, false);
	return true;
}

/**
 * riprap_process_replay() - tell the daemon of all records that any daemon was ever asked about
 * @frame_flags: REPLAY after open, SNAPSHOT in answer to QUERY
 *
 * Records that no filter ever matched stay the module's own: the daemon names those it wants by ADOPT.
 */
void riprap_process_replay(u32 frame_flags)
{
	struct riprap_process **all;
	struct task_struct *task;
	u32 count, i;

	all = riprap_process_all(&count);
	for (i = 0; i < count; i++) {
		task = READ_ONCE(all[i]->state) != RIPRAP_STATE_IDLE ? riprap_process_task(all[i]) : NULL;
		if (task) {
			start_asking(all[i]);
			report(all[i], task, frame_flags, frame_flags & RIPRAP_FRAME_SNAPSHOT);
			put_task_struct(task);
		}
		riprap_process_put(all[i]);
		cond_resched();
	}
	kvfree(all);
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
	answer = answer_locked(process);
	*subject = process->state == RIPRAP_STATE_ASSIGNED ? process->subject : 0;
	if (answer == RIPRAP_ANSWER_READY) {
		*identity = riprap_identity_get(process->identity);
		*subject = process->identity->subject;
	}
	spin_unlock_bh(&process->lock);
	return answer;
}

/* Somebody waits from now on: the daemon has its whole time for it. */
static void extend_deadline(struct riprap_process *process)
{
	spin_lock_bh(&process->lock);
	process->deadline = jiffies + riprap_attest_timeout();
	spin_unlock_bh(&process->lock);
}

static bool is_answered(struct riprap_process *process)
{
	bool is_pending;

	spin_lock_bh(&process->lock);
	is_pending = answer_locked(process) == RIPRAP_ANSWER_PENDING;
	spin_unlock_bh(&process->lock);
	return !is_pending;
}

/**
 * riprap_process_wait() - wait until the answer is not PENDING
 * @process: referenced
 * @answer: as riprap_process_answer(); never PENDING
 * @subject: likewise
 * @identity: likewise
 *
 * Return: 0, -ERESTARTSYS (a signal), -ETIMEDOUT (the answer is UNKNOWN).
 */
int riprap_process_wait(struct riprap_process *process, enum riprap_process_answer *answer, u32 *subject,
			struct riprap_identity **identity)
{
	long left;

	extend_deadline(process);
	left = wait_event_interruptible_timeout(process->wait, is_answered(process), riprap_attest_timeout() + 1);
	*answer = riprap_process_answer(process, subject, identity);
	if (*answer != RIPRAP_ANSWER_PENDING)
		return 0;
	*answer = RIPRAP_ANSWER_UNKNOWN;
	return left < 0 ? left : -ETIMEDOUT;
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
	process->deadline = jiffies + riprap_attest_timeout();
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
