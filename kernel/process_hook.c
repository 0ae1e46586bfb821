// SPDX-License-Identifier: GPL-2.0
/*
 * Where the kernel tells of fork, exec and exit, and the task_works that run in a
 * program's own context. Never decides whether a process matters.
 */
#define pr_fmt(fmt) "riprap: " fmt

#include <linux/binfmts.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/tracepoint.h>

#include "compat.h"
#include "device.h"
#include "process_record.h"

struct exec_work {
	struct callback_head work;
	struct file *exe;
	char *script;
	u32 exec_generation;
	u64 parent_instance;
};

static void free_exec_work(struct exec_work *exec)
{
	fput(exec->exe);
	kfree(exec->script);
	kfree(exec);
	/* riprap_process_exit() waits for the rest of this function by synchronize_rcu_tasks() */
	module_put(THIS_MODULE);
}

/* In the new program's context, before its first instruction. */
static void run_exec_work(struct callback_head *work)
{
	struct exec_work *exec = container_of(work, struct exec_work, work);
	struct riprap_facts *facts = riprap_fact_take(current, exec->exe, exec->script);
	struct riprap_process *process;

	process = facts ? riprap_process_make(current, facts, RIPRAP_CAUSE_EXEC, GFP_KERNEL) : NULL;
	if (process) {
		process->exec_generation = exec->exec_generation;
		if (exec->parent_instance)
			process->parent_instance = exec->parent_instance;
		riprap_process_get(process);
		/* a group that is being killed gets no record: nobody would end it */
		if (current->flags & PF_EXITING || !riprap_process_hash(process, NULL))
			riprap_process_put(process);
		else
			riprap_report_consider(process, current);
		riprap_process_put(process);
	}
	riprap_fact_put(facts);
	free_exec_work(exec);
}

/*
 * The old instance ends here, in the middle of exec. Should the rest fail for want of memory, the
 * new program has no record and is adopted later.
 */
static void on_exec(void *data, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	struct riprap_process *old = riprap_process_unhash(task->signal);
	struct exec_work *exec = NULL;

	if (try_module_get(THIS_MODULE)) {
		exec = kzalloc(sizeof(*exec), GFP_ATOMIC | __GFP_NOWARN);
		if (!exec)
			module_put(THIS_MODULE);
	}
	if (exec) {
		init_task_work(&exec->work, run_exec_work);
		exec->exe = get_file(bprm->file);
		if (bprm->interp != bprm->filename)
			exec->script = kstrdup(bprm->filename, GFP_ATOMIC | __GFP_NOWARN);
		if (old) {
			exec->exec_generation = old->exec_generation + 1;
			exec->parent_instance = old->parent_instance;
		}
		if (task_work_add(task, &exec->work, TWA_RESUME))
			free_exec_work(exec);
	}
	if (old) {
		riprap_attest_end(old, 0);
		riprap_process_put(old);
	}
}

/* A child is attested on its own, but when it first touches a TCP socket: most never do. */
static void on_fork(void *data, struct task_struct *parent, struct task_struct *child)
{
	struct riprap_process *of_parent, *process;

	if (child->signal == parent->signal)
		return;
	of_parent = riprap_process_find(parent->signal);
	if (!of_parent)
		return;
	process = riprap_process_make(child, of_parent->facts, RIPRAP_CAUSE_FORK, GFP_ATOMIC | __GFP_NOWARN);
	if (process && !riprap_process_hash(process, NULL))
		riprap_process_put(process);
	riprap_process_put(of_parent);
}

static void on_exit(void *data, struct task_struct *task RIPRAP_COMPAT_EXIT_ARGS)
{
	const struct signal_struct *signal = task->signal;

	if (atomic_read(&signal->live))
		return;
	riprap_process_end(signal, signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : task->exit_code);
}

struct convert_work {
	struct callback_head work;
};

static void run_convert_work(struct callback_head *work)
{
	riprap_socket_convert_files();
	kfree(container_of(work, struct convert_work, work));
	module_put(THIS_MODULE);
}

/**
 * riprap_process_convert() - let a process that is managed from now on bring its sockets
 * @process: referenced
 * @task: of it
 *
 * Best effort: a thread asleep in a system call converts when it wakes, and what
 * it does until then meets the backstops of the data path. Until then the module
 * stays, too: so this is not for processes that were only asked about.
 */
void riprap_process_convert(struct riprap_process *process, struct task_struct *task)
{
	struct convert_work *convert;
	struct task_struct *thread;

	if (READ_ONCE(process->is_converted) || xchg(&process->is_converted, true))
		return;
	if (!try_module_get(THIS_MODULE))
		goto out_again;
	convert = kzalloc(sizeof(*convert), GFP_KERNEL);
	if (!convert)
		goto out_put;
	init_task_work(&convert->work, run_convert_work);
	if (task == current) {
		if (!task_work_add(current, &convert->work, TWA_RESUME))
			return;
	} else {
		rcu_read_lock();
		for_each_thread(task, thread) {
			if (thread->flags & (PF_EXITING | PF_KTHREAD) ||
			    task_work_add(thread, &convert->work, TWA_RESUME))
				continue;
			rcu_read_unlock();
			return;
		}
		rcu_read_unlock();
	}
	kfree(convert);
out_put:
	module_put(THIS_MODULE);
out_again:
	WRITE_ONCE(process->is_converted, false);
}

static struct process_hook {
	const char *name;
	void *probe;
	struct tracepoint *point;
} process_hooks[] = {
	{ "sched_process_exit", on_exit },	/* first: a record made by the others must be ended */
	{ "sched_process_fork", on_fork },
	{ "sched_process_exec", on_exec },
};

/* The tracepoints are not exported; their list is. */
static void match_tracepoint(struct tracepoint *point, void *data)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(process_hooks); i++)
		if (!strcmp(point->name, process_hooks[i].name))
			process_hooks[i].point = point;
}

static void unhook(size_t n)
{
	while (n-- > 0)
		tracepoint_probe_unregister(process_hooks[n].point, process_hooks[n].probe, NULL);
	tracepoint_synchronize_unregister();
}

/**
 * riprap_process_hook() - start to see exit, fork and exec
 *
 * Return: 0, -EOPNOTSUPP (a tracepoint is not there), or -errno of its registration.
 */
int riprap_process_hook(void)
{
	size_t i;
	int err;

	for_each_kernel_tracepoint(match_tracepoint, NULL);
	for (i = 0; i < ARRAY_SIZE(process_hooks); i++) {
		err = process_hooks[i].point ?
		      tracepoint_probe_register(process_hooks[i].point, process_hooks[i].probe, NULL) : -EOPNOTSUPP;
		if (err) {
			pr_err("cannot hook %s: %d\n", process_hooks[i].name, err);
			unhook(i);
			return err;
		}
	}
	return 0;
}

/* riprap_process_unhook() - no probe runs any more when it returns */
void riprap_process_unhook(void)
{
	unhook(ARRAY_SIZE(process_hooks));
}
