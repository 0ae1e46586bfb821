// SPDX-License-Identifier: GPL-2.0
/*
 * The life of process records: made at fork and exec, replaced when credentials
 * change, ended at exit. Never asks the daemon; attest.c does.
 *
 * Every program executed since the module was loaded has a record with the facts
 * of its exec, managed or not: a table that comes later may select it, and its
 * argv could by then be what it wants us to read. That is one allocation of
 * exact size an exec, shared by all forks. A process without a record (older than
 * the module, or no memory at its exec) is adopted when it first touches a TCP
 * socket while a table is in force, and its cause says so.
 */
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/hashtable.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "compat.h"
#include "device.h"
#include "limits.h"
#include "process_record.h"
#include "table.h"
#include "work.h"

static DEFINE_SPINLOCK(table_lock);	/* writers of both tables; readers use RCU */
static DEFINE_HASHTABLE(by_signal, RIPRAP_PROCESS_BUCKETS_LOG);
static DEFINE_HASHTABLE(by_instance, RIPRAP_PROCESS_BUCKETS_LOG);
static atomic64_t last_instance;
static struct pid *daemon;		/* referenced, so that no other process has it meanwhile; NULL without one */

/* Stands for every process that matches a filter and has no room for a record: refused or let through as unknown. */
static struct riprap_process overflow = { .ref = REFCOUNT_INIT(1), .state = RIPRAP_STATE_OVERFLOW };

/**
 * riprap_process_next_instance() - the number that the next record will have
 *
 * Return: it.
 */
u64 riprap_process_next_instance(void)
{
	return atomic64_read(&last_instance) + 1;
}

/**
 * riprap_process_get() - one more reference
 * @process: referenced
 *
 * Return: @process.
 */
struct riprap_process *riprap_process_get(struct riprap_process *process)
{
	refcount_inc(&process->ref);
	return process;
}

/**
 * riprap_process_put() - one reference less
 * @process: may be NULL
 *
 * Any context.
 */
void riprap_process_put(struct riprap_process *process)
{
	if (!process || !refcount_dec_and_test(&process->ref))
		return;
	riprap_attest_free_record(process);
	riprap_fact_put(process->facts);
	atomic64_sub(sizeof(*process), &riprap_counters.memory_bytes);
	kfree_rcu(process, rcu);
}

/**
 * riprap_process_instance() - the number that the daemon knows it by
 * @process: any
 *
 * Return: it; 0 for a process that had no room for a record.
 */
u64 riprap_process_instance(const struct riprap_process *process)
{
	return process->instance;
}

/**
 * riprap_process_pid() - its thread group ID in the initial namespace
 * @process: any
 *
 * Return: it.
 */
u32 riprap_process_pid(const struct riprap_process *process)
{
	return process->pid;
}

static struct riprap_process *lookup_signal(const struct signal_struct *signal)
{
	struct riprap_process *process;

	hash_for_each_possible_rcu(by_signal, process, by_signal, (unsigned long)signal,
				   lockdep_is_held(&table_lock))
		if (process->signal == signal)
			return process;
	return NULL;
}

/**
 * riprap_process_find() - the live record of a task group
 * @signal: of the group
 *
 * Return: the record, referenced, or NULL.
 */
struct riprap_process *riprap_process_find(const struct signal_struct *signal)
{
	struct riprap_process *process;

	rcu_read_lock();
	process = lookup_signal(signal);
	if (process && !refcount_inc_not_zero(&process->ref))
		process = NULL;
	rcu_read_unlock();
	return process;
}

/**
 * riprap_process_find_instance() - the live record of this number
 * @instance: from the daemon
 *
 * Return: the record, referenced, or NULL.
 */
struct riprap_process *riprap_process_find_instance(u64 instance)
{
	struct riprap_process *process;

	rcu_read_lock();
	hash_for_each_possible_rcu(by_instance, process, by_instance, instance)
		if (process->instance == instance && refcount_inc_not_zero(&process->ref))
			goto out_unlock;
	process = NULL;
out_unlock:
	rcu_read_unlock();
	return process;
}

/**
 * riprap_process_is_live() - has the process of this number not ended yet
 * @instance: of a flow, say
 *
 * Return: true while its record is in force.
 */
bool riprap_process_is_live(u64 instance)
{
	struct riprap_process *process = riprap_process_find_instance(instance);

	riprap_process_put(process);
	return process;
}

/**
 * riprap_process_all() - all live records
 * @count: how many
 *
 * Return: an array of referenced records for kvfree(), or NULL (no memory).
 */
struct riprap_process **riprap_process_all(u32 *count)
{
	u32 room = atomic_read(&riprap_counters.processes_live) + 64, bucket;
	struct riprap_process **all, *process;

	*count = 0;
	all = kvmalloc_array(room, sizeof(*all), GFP_KERNEL);
	if (!all)
		return NULL;
	rcu_read_lock();
	hash_for_each_rcu(by_instance, bucket, process, by_instance)
		if (*count < room && refcount_inc_not_zero(&process->ref))
			all[(*count)++] = process;
	rcu_read_unlock();
	return all;
}

/**
 * riprap_process_task() - the leader of a record's task group
 * @process: any
 *
 * Return: the task, referenced, or NULL when the group is gone.
 */
struct task_struct *riprap_process_task(const struct riprap_process *process)
{
	struct task_struct *task;

	rcu_read_lock();
	task = pid_task(find_pid_ns(process->pid, &init_pid_ns), PIDTYPE_TGID);
	if (task && task->signal == process->signal)
		get_task_struct(task);
	else
		task = NULL;
	rcu_read_unlock();
	return task;
}

/**
 * riprap_process_is_full() - is there no room for one more record
 *
 * Return: true while RIPRAP_PROCESSES_MAX of them live.
 */
bool riprap_process_is_full(void)
{
	return atomic_read(&riprap_counters.processes_live) >= RIPRAP_PROCESSES_MAX;
}

/**
 * riprap_process_make() - a record that is not yet in the hashes
 * @task: current, or a task that cannot exit meanwhile, or is referenced
 * @facts: get a reference
 * @cause: enum riprap_process_cause
 * @gfp: how to allocate
 *
 * Return: the record with one reference, or NULL (no memory, or RIPRAP_PROCESSES_MAX reached).
 */
struct riprap_process *riprap_process_make(struct task_struct *task, struct riprap_facts *facts, u16 cause, gfp_t gfp)
{
	struct riprap_process *process, *parent;
	struct task_struct *real_parent;
	const struct cred *cred;

	if (riprap_process_is_full())
		return NULL;
	process = kzalloc(sizeof(*process), gfp);
	if (!process)
		return NULL;
	atomic64_add(sizeof(*process), &riprap_counters.memory_bytes);
	refcount_set(&process->ref, 1);
	process->signal = task->signal;
	process->instance = atomic64_inc_return(&last_instance);
	process->pid = task->tgid;
	process->cause = cause;
	process->facts = riprap_fact_get(facts);
	rcu_read_lock();
	process->start_time_ns = task->group_leader->start_boottime;
	cred = rcu_dereference((task->flags & PF_IO_WORKER ? task->group_leader : task)->real_cred);
	process->uid = cred->uid;
	process->euid = cred->euid;
	process->gid = cred->gid;
	process->egid = cred->egid;
	real_parent = rcu_dereference(task->real_parent);
	process->parent_pid = real_parent->tgid;
	parent = lookup_signal(real_parent->signal);
	process->parent_instance = parent ? parent->instance : 0;
	rcu_read_unlock();
	riprap_attest_init_record(process);
	return process;
}

/**
 * riprap_process_hash() - put a record in force
 * @process: its one reference goes to the hashes on success
 * @old: the record that it replaces, which ends; or NULL
 *
 * Return: false if the group's record is no longer (or not) @old.
 */
bool riprap_process_hash(struct riprap_process *process, struct riprap_process *old)
{
	bool is_hashed;

	spin_lock_bh(&table_lock);
	is_hashed = lookup_signal(process->signal) == old;
	if (is_hashed) {
		if (old) {
			hash_del_rcu(&old->by_signal);
			hash_del_rcu(&old->by_instance);
		}
		hash_add_rcu(by_signal, &process->by_signal, (unsigned long)process->signal);
		hash_add_rcu(by_instance, &process->by_instance, process->instance);
	}
	spin_unlock_bh(&table_lock);
	if (is_hashed) {
		atomic_add(old ? 0 : 1, &riprap_counters.processes_live);
		atomic64_inc(&riprap_counters.processes_seen);
	}
	if (is_hashed && old) {
		riprap_attest_end(old, 0);
		riprap_process_put(old);
	}
	return is_hashed;
}

/**
 * riprap_process_unhash() - take a group's record out
 * @signal: of the group
 *
 * Return: the record with the hashes' reference, for riprap_attest_end(); NULL when there is none.
 */
struct riprap_process *riprap_process_unhash(const struct signal_struct *signal)
{
	struct riprap_process *process;

	spin_lock_bh(&table_lock);
	process = lookup_signal(signal);
	if (process) {
		hash_del_rcu(&process->by_signal);
		hash_del_rcu(&process->by_instance);
	}
	spin_unlock_bh(&table_lock);
	if (process)
		atomic_dec(&riprap_counters.processes_live);
	return process;
}

/**
 * riprap_process_end() - take a group's record out and end it
 * @signal: of the group
 * @exit_code: as wait4() gives it
 */
void riprap_process_end(const struct signal_struct *signal, int exit_code)
{
	struct riprap_process *process = riprap_process_unhash(signal);

	if (!process)
		return;
	riprap_attest_end(process, exit_code);
	riprap_process_put(process);
}

/*
 * The program's own credentials: not those that the kernel put on for a moment, nor those that a
 * worker of io_uring kept from its creation.
 */
static bool has_old_credentials(const struct riprap_process *process)
{
	const struct cred *cred = current_real_cred();

	if (current->flags & PF_IO_WORKER)
		return false;
	return !uid_eq(process->uid, cred->uid) || !uid_eq(process->euid, cred->euid) ||
	       !gid_eq(process->gid, cred->gid) || !gid_eq(process->egid, cred->egid);
}

/**
 * riprap_process_maybe_managed() - may current be managed
 *
 * Any context. One load while no table has filters; else one hash lookup.
 *
 * Return: false if riprap_process_current() would be NULL.
 */
bool riprap_process_maybe_managed(void)
{
	const struct riprap_process *process;
	bool is_maybe;

	if (!riprap_table_has_filters() || current->flags & (PF_KTHREAD | PF_EXITING))
		return false;
	rcu_read_lock();
	process = lookup_signal(current->signal);
	is_maybe = !process || has_old_credentials(process);
	if (!is_maybe) {
		u8 state = READ_ONCE(process->state);

		is_maybe = state == RIPRAP_STATE_IDLE ?
			   READ_ONCE(process->filtered_by) != riprap_table_generation() :
			   state != RIPRAP_STATE_UNMANAGED;
	}
	rcu_read_unlock();
	return is_maybe && READ_ONCE(daemon) != task_tgid(current);
}

/**
 * riprap_process_set_daemon() - current has opened the device, or nobody has it open any more
 * @is_open: the former
 *
 * The daemon's own connections are never mediated: it could not wait for its own answer.
 */
void riprap_process_set_daemon(bool is_open)
{
	put_pid(xchg(&daemon, is_open ? get_pid(task_tgid(current)) : NULL));
}

/* A successor with current's credentials; takes the reference on the old one. Referenced, NULL: try again, or ERR_PTR(-ENOMEM). */
static struct riprap_process *replace_credentials(struct riprap_process *old)
{
	struct riprap_process *process = riprap_process_make(current, old->facts, RIPRAP_CAUSE_CRED, GFP_KERNEL);

	if (!process) {
		riprap_process_put(old);
		return riprap_process_is_full() ? riprap_process_get(&overflow) : ERR_PTR(-ENOMEM);
	}
	process->exec_generation = old->exec_generation;
	process->parent_instance = old->parent_instance;
	riprap_process_get(process);
	if (!riprap_process_hash(process, old)) {
		riprap_process_put(process);
		riprap_process_put(process);
		process = NULL;
	}
	riprap_process_put(old);
	return process;
}

/**
 * riprap_process_current() - the record of current's task group
 *
 * May sleep for memory, never for the daemon.
 *
 * Return: the record, referenced; NULL when the process is not managed; ERR_PTR(-ENOMEM) when there is
 * no memory to find out.
 */
struct riprap_process *riprap_process_current(void)
{
	struct riprap_process *process = NULL;
	int err;

	if (!riprap_process_maybe_managed())
		return NULL;
	while (!process) {
		process = riprap_process_find(current->signal);
		if (!process) {
			process = riprap_adopt_current(&overflow);
			if (IS_ERR_OR_NULL(process))
				return process;
		} else if (has_old_credentials(process)) {
			process = replace_credentials(process);
			if (IS_ERR(process))
				return process;
		}
	}
	err = riprap_report_consider(process, current);
	if (err > 0)
		return process;
	riprap_process_put(process);
	return err ? ERR_PTR(err) : NULL;
}

/**
 * riprap_process_init() - make the overflow record and hook the task tracepoints
 *
 * Return: 0 or -errno of riprap_process_hook().
 */
int riprap_process_init(void)
{
	riprap_attest_init_record(&overflow);
	overflow.state = RIPRAP_STATE_OVERFLOW;
	return riprap_process_hook();
}

void riprap_process_exit(void)
{
	struct riprap_process *process;
	struct hlist_node *next;
	u32 bucket;

	riprap_process_unhook();
	/* adoptions and keys may still make or use records */
	flush_workqueue(riprap_workqueue);
	hash_for_each_safe(by_signal, bucket, next, process, by_signal)
		riprap_process_end(process->signal, 0);
	flush_workqueue(riprap_workqueue);
	/* task_works hold a module reference until their last instructions, which this waits for */
	synchronize_rcu_tasks();
	rcu_barrier();
}
