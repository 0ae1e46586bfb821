// SPDX-License-Identifier: GPL-2.0
/*
 * Asks the daemon who a process is: decides by the table's filters whether to ask,
 * and builds the PROCESS frame. Never waits for the answer; attest.c does.
 */
#include <linux/jiffies.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/user_namespace.h>

#include "device.h"
#include "process_record.h"
#include "table.h"

/* What the frame says of the answer so far. The identity, referenced, when it is valid. */
static struct riprap_identity *state_of(struct riprap_process *process, struct riprap_process_facts *out)
{
	struct riprap_identity *identity = NULL;

	spin_lock_bh(&process->lock);
	if (riprap_attest_answer(process) == RIPRAP_ANSWER_READY)
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
	out->ns_user = facts->ns_user;
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

/* IDLE -> ASKED; a question that is asked anew has its whole time. */
static void start_asking(struct riprap_process *process)
{
	spin_lock_bh(&process->lock);
	if (process->state == RIPRAP_STATE_IDLE && !process->is_dead)
		WRITE_ONCE(process->state, RIPRAP_STATE_ASKED);
	if (process->state == RIPRAP_STATE_ASKED)
		process->deadline = jiffies + riprap_attest_timeout();
	spin_unlock_bh(&process->lock);
}

/* At most once for each daemon, unless `is_again`. */
static int report(struct riprap_process *process, struct task_struct *task, u32 frame_flags, bool is_again)
{
	u64 epoch = riprap_device_epoch();
	bool is_due, is_dead;
	int err;

	spin_lock_bh(&process->lock);
	is_dead = process->is_dead;
	is_due = !is_dead && epoch && (is_again || process->epoch != epoch);
	if (is_due) {
		process->epoch = epoch;
		process->is_reported = true;
	}
	spin_unlock_bh(&process->lock);
	if (is_dead)
		return -ESRCH;
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
 * riprap_report_send() - tell the daemon of a process, whatever the filters say
 * @process: referenced
 * @task: of it, referenced
 * @frame_flags: enum riprap_frame_flag
 *
 * Return: 0, -ESRCH (it has ended), or -errno of riprap_device_send_gfp().
 */
int riprap_report_send(struct riprap_process *process, struct task_struct *task, u32 frame_flags)
{
	start_asking(process);
	return report(process, task, frame_flags, true);
}

/**
 * riprap_report_consider() - is this process managed, or may it be
 * @process: referenced
 * @task: of it
 *
 * Looks at the filters if the table changed since they last missed, and asks the daemon if one matches.
 * What could not be asked or made for want of memory is tried again.
 *
 * Return: 1 if it may be managed, 0 if it is not, -ENOMEM (the daemon could not be asked). May sleep,
 * never for the daemon.
 */
int riprap_report_consider(struct riprap_process *process, struct task_struct *task)
{
	const struct riprap_facts *facts = process->facts;
	u8 state = READ_ONCE(process->state);
	u64 generation;
	int err = 0;

	if (state == RIPRAP_STATE_OVERFLOW)
		return 1;
	if (state == RIPRAP_STATE_UNMANAGED)
		return 0;
	if (state == RIPRAP_STATE_IDLE) {
		if (!riprap_table_filter(from_kuid_munged(&init_user_ns, process->euid), facts->comm,
					 facts->comm_len, riprap_fact_exe(facts), facts->exe_len, &generation)) {
			WRITE_ONCE(process->filtered_by, generation);
			return 0;
		}
		start_asking(process);
	}
	/* its own context: this runs at once, and sockets that it listens on are ours before the answer */
	riprap_process_convert(process, task);
	if (READ_ONCE(process->epoch) != riprap_device_epoch()) {
		start_asking(process);
		err = report(process, task, 0, false);
	}
	riprap_attest_retry_key(process);
	return err == -ENOMEM ? err : 1;
}

/**
 * riprap_process_replay() - tell the daemon of all records that any daemon was ever asked about
 * @frame_flags: REPLAY after open, SNAPSHOT in answer to QUERY
 *
 * Records that no filter ever matched stay the module's own: the daemon names those it wants by ADOPT.
 *
 * Return: 0 or -ENOMEM.
 */
int riprap_process_replay(u32 frame_flags)
{
	struct riprap_process **all;
	struct task_struct *task;
	u32 count, i;

	all = riprap_process_all(&count);
	if (!all)
		return -ENOMEM;
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
	return 0;
}
