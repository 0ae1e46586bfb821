// SPDX-License-Identifier: GPL-2.0
/*
 * Takes the facts of a program: path and identity of its executable, script,
 * arguments, credentials, cgroup, namespaces. Never judges them, and keeps no
 * reference to the task.
 *
 * The executable's path is as the process itself would see it; a process in a
 * mount namespace or chroot of its own chooses its paths, so device and inode
 * stand beside it, and ns_mnt says that it may have.
 */
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/ipc_namespace.h>
#include <linux/mm.h>
#include <linux/nsproxy.h>
#include <linux/ns_common.h>
#include <linux/pid_namespace.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>
#include <linux/utsname.h>
#include <net/net_namespace.h>

#include "compat.h"
#include "device.h"
#include "fact.h"

/* Where facts are gathered before their exact size is known. */
struct scratch {
	char path[RIPRAP_PATH_MAX];
	char argv[RIPRAP_ARGV_MAX];
};

static size_t read_args(struct task_struct *task, struct scratch *scratch, bool *is_cut)
{
	struct mm_struct *mm = get_task_mm(task);
	unsigned long start, end;
	size_t len;
	int got;

	*is_cut = false;
	if (!mm)
		return 0;
	spin_lock(&mm->arg_lock);
	start = mm->arg_start;
	end = mm->arg_end;
	spin_unlock(&mm->arg_lock);
	len = end > start ? end - start : 0;
	if (len > sizeof(scratch->argv)) {
		len = sizeof(scratch->argv);
		*is_cut = true;
	}
	if (task == current)
		got = len - copy_from_user(scratch->argv, (const void __user *)start, len);
	else	/* a stranger could make a fault in its memory last for ever */
		got = access_process_vm(task, start, scratch->argv, len, FOLL_FORCE | FOLL_NOFAULT);
	mmput_async(mm);
	*is_cut |= got < (int)len;
	return got > 0 ? got : 0;
}

static s64 to_ns(struct timespec64 time)
{
	return timespec64_to_ns(&time);
}

static u32 user_namespace(struct task_struct *task)
{
	const struct cred *cred = get_task_cred(task);
	u32 inode = cred->user_ns->ns.inum;

	put_cred(cred);
	return inode;
}

static void read_exe(struct riprap_facts *facts, struct file *exe)
{
	struct kstat stat;

	if (!exe || vfs_getattr(&exe->f_path, &stat, STATX_BASIC_STATS, AT_STATX_DONT_SYNC))
		return;
	facts->exe_dev = stat.dev;
	facts->exe_ino = stat.ino;
	facts->exe_size = stat.size;
	facts->exe_mtime_ns = to_ns(stat.mtime);
	facts->exe_ctime_ns = to_ns(stat.ctime);
}

static size_t facts_size(const struct riprap_facts *facts)
{
	return struct_size(facts, text, facts->exe_len + facts->script_len + facts->argv_len);
}

/**
 * riprap_fact_take() - take the facts of a program
 * @task: current at exec, or a stranger at adoption
 * @exe: its executable, or NULL
 * @script: what execve was given when an interpreter runs it, or NULL
 *
 * Return: facts with one reference, or NULL (no memory).
 */
struct riprap_facts *riprap_fact_take(struct task_struct *task, struct file *exe, const char *script)
{
	struct scratch *scratch = kmalloc(sizeof(*scratch), GFP_KERNEL);
	size_t exe_len = 0, script_len = 0, argv_len;
	struct riprap_facts *facts;
	char *path = NULL;
	bool is_cut;

	if (!scratch)
		return NULL;
	argv_len = read_args(task, scratch, &is_cut);
	if (exe)
		path = d_path(&exe->f_path, scratch->path, sizeof(scratch->path));
	if (!IS_ERR_OR_NULL(path))
		exe_len = strlen(path);
	if (script)
		script_len = strnlen(script, RIPRAP_PATH_MAX);
	facts = kzalloc(sizeof(*facts) + exe_len + script_len + argv_len, GFP_KERNEL);
	if (!facts)
		goto out_free;
	refcount_set(&facts->ref, 1);
	facts->argv_cut = is_cut;
	facts->ns_user = user_namespace(task);
	facts->exe_len = exe_len;
	facts->script_len = script_len;
	facts->argv_len = argv_len;
	get_task_comm(facts->comm, task);
	facts->comm_len = strnlen(facts->comm, sizeof(facts->comm));
	memcpy(facts->text, path, exe_len);
	memcpy(facts->text + exe_len, script, script_len);
	memcpy(facts->text + exe_len + script_len, scratch->argv, argv_len);
	read_exe(facts, exe);
	atomic64_add(facts_size(facts), &riprap_counters.memory_bytes);
out_free:
	kfree(scratch);
	return facts;
}

/**
 * riprap_fact_get() - one more reference
 * @facts: referenced
 *
 * Return: @facts.
 */
struct riprap_facts *riprap_fact_get(struct riprap_facts *facts)
{
	refcount_inc(&facts->ref);
	return facts;
}

/**
 * riprap_fact_put() - one reference less
 * @facts: may be NULL
 */
void riprap_fact_put(struct riprap_facts *facts)
{
	if (!facts || !refcount_dec_and_test(&facts->ref))
		return;
	atomic64_sub(facts_size(facts), &riprap_counters.memory_bytes);
	kfree(facts);
}

/* struct mnt_namespace is private to fs/, and begins with its ns_common. */
static u32 mount_namespace(const struct nsproxy *proxy)
{
	return ((const struct ns_common *)proxy->mnt_ns)->inum;
}

static void read_namespaces(struct task_struct *task, struct riprap_process_facts *out)
{
	struct pid_namespace *pid_ns;

	rcu_read_lock();
	pid_ns = task_active_pid_ns(task);
	out->ns_pid = pid_ns ? pid_ns->ns.inum : 0;
	rcu_read_unlock();
	task_lock(task);
	if (task->nsproxy) {
		out->ns_mnt = mount_namespace(task->nsproxy);
		out->ns_net = task->nsproxy->net_ns->ns.inum;
		out->ns_uts = task->nsproxy->uts_ns->ns.inum;
#ifdef CONFIG_IPC_NS
		out->ns_ipc = task->nsproxy->ipc_ns->ns.inum;
#endif
	}
	task_unlock(task);
}

/**
 * riprap_fact_of_task() - the facts that are read from the living task
 * @task: referenced, or current
 * @out: uid to ns_ipc, but for ns_user, and the flags NO_NEW_PRIVS and PTRACED are set
 */
void riprap_fact_of_task(struct task_struct *task, struct riprap_process_facts *out)
{
	const struct cred *cred = get_task_cred(task);
	int cap;

	out->uid = from_kuid_munged(&init_user_ns, cred->uid);
	out->euid = from_kuid_munged(&init_user_ns, cred->euid);
	out->gid = from_kgid_munged(&init_user_ns, cred->gid);
	out->egid = from_kgid_munged(&init_user_ns, cred->egid);
	for (cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (cap_raised(cred->cap_effective, cap))
			out->caps_effective |= BIT_ULL(cap);
	put_cred(cred);
#ifdef CONFIG_SECCOMP
	out->seccomp = READ_ONCE(task->seccomp.mode);
#endif
	if (task_no_new_privs(task))
		out->flags |= RIPRAP_PROCESS_NO_NEW_PRIVS;
	if (READ_ONCE(task->ptrace))
		out->flags |= RIPRAP_PROCESS_PTRACED;
	read_namespaces(task, out);
}

/**
 * riprap_fact_cgroup() - the cgroup v2 path of a task
 * @task: referenced, or current
 * @path: not NUL-terminated afterwards, as far as the caller may rely on
 * @size: its size
 *
 * Return: the path's length; 0 when it has none or it does not fit.
 */
size_t riprap_fact_cgroup(struct task_struct *task, char *path, size_t size)
{
	int len = 0;

#ifdef CONFIG_CGROUPS
	rcu_read_lock();
	len = cgroup_path(task_dfl_cgroup(task), path, size);
	rcu_read_unlock();
#endif
	return len > 0 && len < (int)size ? len : 0;
}
