// SPDX-License-Identifier: GPL-2.0
/*
 * Processes without a record: older than the module, or without memory at their
 * exec. Their facts are those of now, and their cause says so.
 */
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "device.h"
#include "limits.h"
#include "process_record.h"
#include "table.h"
#include "work.h"

static bool is_dead_group(const struct signal_struct *signal)
{
	return !atomic_read(&signal->live);
}

/* Facts of a process that has no record: as it is now, not as it was at exec. NULL: no memory. */
static struct riprap_facts *adopt_facts(struct task_struct *task)
{
	struct mm_struct *mm = get_task_mm(task);
	struct file *exe = mm ? riprap_compat_mm_exe_file(mm) : NULL;
	struct riprap_facts *facts;

	if (mm)
		mmput_async(mm);
	facts = riprap_fact_take(task, exe, NULL);
	if (exe)
		fput(exe);
	return facts;
}

/* Referenced, or NULL: no memory or no room. */
static struct riprap_process *adopt(struct task_struct *task, struct riprap_facts *facts)
{
	struct riprap_process *process = riprap_process_make(task, facts, RIPRAP_CAUSE_ADOPT, GFP_KERNEL);

	if (!process)
		return NULL;
	riprap_process_get(process);
	if (!riprap_process_hash(process, NULL)) {
		riprap_process_put(process);
		riprap_process_put(process);
		return riprap_process_find(task->signal);
	}
	/* pairs with the exit probe: one of the two sees the other */
	smp_mb();
	if (is_dead_group(task->signal))
		riprap_process_end(task->signal, 0);
	return process;
}

/**
 * riprap_adopt_current() - make a record of current, which has none
 * @overflow: what to give when it may be managed and there is no room for it
 *
 * Return: the record or @overflow, referenced; NULL when there is no room and no filter matches;
 * ERR_PTR(-ENOMEM).
 */
struct riprap_process *riprap_adopt_current(struct riprap_process *overflow)
{
	struct riprap_facts *facts = adopt_facts(current);
	struct riprap_process *process;
	u64 generation;

	if (!facts)
		return ERR_PTR(-ENOMEM);
	process = adopt(current, facts);
	if (!process && !riprap_process_is_full())
		process = ERR_PTR(-ENOMEM);
	else if (!process && riprap_table_filter(from_kuid_munged(&init_user_ns, current_euid()), facts->comm,
						 facts->comm_len, riprap_fact_exe(facts), facts->exe_len,
						 &generation))
		process = riprap_process_get(overflow);
	riprap_fact_put(facts);
	return process;
}

struct adoption {
	struct work_struct work;
	struct riprap_adopt adopt;
	u64 sequence;
};

static atomic_t adoptions;

/* Within one tick of /proc/PID/stat. */
static bool is_start_time(const struct task_struct *task, u64 wanted_ns)
{
	s64 apart = task->group_leader->start_boottime - wanted_ns;

	return !wanted_ns || abs(apart) <= 10 * NSEC_PER_MSEC;
}

static int adopt_task(struct task_struct *task)
{
	struct riprap_process *process = riprap_process_find(task->signal);
	struct riprap_facts *facts;
	int err;

	if (!process) {
		facts = adopt_facts(task);
		process = facts ? adopt(task, facts) : NULL;
		riprap_fact_put(facts);
	}
	if (!process)
		return -ENOMEM;
	err = riprap_report_send(process, task, 0);
	riprap_process_put(process);
	return err;
}

static void run_adoption(struct work_struct *work)
{
	struct adoption *adoption = container_of(work, struct adoption, work);
	struct task_struct *task;
	int err = -ESRCH;

	rcu_read_lock();
	task = pid_task(find_pid_ns(adoption->adopt.pid, &init_pid_ns), PIDTYPE_TGID);
	if (task)
		get_task_struct(task);
	rcu_read_unlock();
	if (task) {
		if (!(task->flags & PF_KTHREAD) && !is_dead_group(task->signal) &&
		    is_start_time(task, adoption->adopt.start_time_ns))
			err = adopt_task(task);
		put_task_struct(task);
	}
	riprap_device_ack(RIPRAP_ACK_ADOPT, adoption->adopt.pid, err, adoption->sequence);
	kfree(adoption);
	atomic_dec(&adoptions);
}

/**
 * riprap_process_adopt() - the daemon asks for a process by its PID
 * @adopt: checked by riprap_frame_read()
 * @sequence: of the frame, for the ACK
 *
 * The answer comes later: PROCESS, then ACK. A record with the facts of its exec is
 * reported as it is; the PID is asked about whatever the filters say.
 *
 * Return: 0, -EAGAIN (too many at once), -ENOMEM; then there is no other answer.
 */
int riprap_process_adopt(const struct riprap_adopt *adopt, u64 sequence)
{
	struct adoption *adoption;

	if (atomic_inc_return(&adoptions) > RIPRAP_ADOPTIONS_MAX) {
		atomic_dec(&adoptions);
		return -EAGAIN;
	}
	adoption = kmalloc(sizeof(*adoption), GFP_KERNEL);
	if (!adoption) {
		atomic_dec(&adoptions);
		return -ENOMEM;
	}
	INIT_WORK(&adoption->work, run_adoption);
	adoption->adopt = *adopt;
	adoption->sequence = sequence;
	queue_work(riprap_workqueue, &adoption->work);
	return 0;
}
