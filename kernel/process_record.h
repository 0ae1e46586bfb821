/* SPDX-License-Identifier: GPL-2.0 */
/* The record of one process instance; private to the files named below. */
#ifndef RIPRAP_PROCESS_RECORD_H
#define RIPRAP_PROCESS_RECORD_H

#include <linux/list.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "fact.h"
#include "identity.h"
#include "process.h"

enum riprap_process_state {
	RIPRAP_STATE_IDLE,	/* no filter of table `filtered_by` matches: nobody was asked */
	RIPRAP_STATE_ASKED,	/* a filter matches (or it was adopted): the daemon owes an ASSIGN */
	RIPRAP_STATE_UNMANAGED,	/* the daemon said that no rule selects it */
	RIPRAP_STATE_ASSIGNED,	/* it has a SPIFFE ID; `identity` once its SVID is there */
	RIPRAP_STATE_WITHDRAWN,
	RIPRAP_STATE_OVERFLOW,	/* of the one record that stands for all that had no room: always UNKNOWN */
};

struct riprap_process {
	refcount_t ref;
	struct rcu_head rcu;

	/* immutable once hashed */
	const struct signal_struct *signal;	/* the task group; compared, never followed */
	u64 instance, parent_instance, start_time_ns;
	u32 pid, parent_pid, exec_generation;
	u16 cause;
	kuid_t uid, euid;
	kgid_t gid, egid;
	struct riprap_facts *facts;

	/* process.c's table lock; readers under RCU */
	struct hlist_node by_signal, by_instance;

	spinlock_t lock;	/* all below, bottom halves off: riprap_process_answer() is for any context */
	bool is_dead;		/* exited, executed anew, or replaced by CAUSE_CRED */
	bool is_converted;	/* its sockets were brought since it was last unmanaged; no lock */
	bool is_reported;	/* some daemon was told of it and wants to hear of its end */
	u8 state;		/* enum riprap_process_state; read without the lock on the fast path */
	u64 filtered_by;	/* table generation of the last filter miss; likewise */
	u64 epoch;		/* riprap_device_epoch() in which it was last reported */
	unsigned long deadline;	/* jiffies; PENDING ends here */
	bool is_overdue;	/* its SVID ended before the next one came, and somebody has asked since */
	u32 subject;
	char *spiffe_id;	/* changed by the device's writer only */
	struct riprap_identity *identity;
	struct riprap_key_pair *pending;	/* told by KEY, waits for SVID */
	struct list_head watches;

	struct delayed_work deadline_work;	/* pending: has a reference */
	struct work_struct key_work;		/* likewise; sends what is due of the two below, too */
	bool is_exit_due;	/* PROCESS_EXIT found no memory */
	int exit_code;		/* with it */
};

/* process.c */
struct riprap_process *riprap_process_get(struct riprap_process *process);
struct riprap_process *riprap_process_find_instance(u64 instance);
/* All live records, each referenced; *count of them. NULL: no memory. kvfree() the array. */
struct riprap_process **riprap_process_all(u32 *count);
struct riprap_process *riprap_process_find(const struct signal_struct *signal);
bool riprap_process_is_full(void);
struct riprap_process *riprap_process_make(struct task_struct *task, struct riprap_facts *facts, u16 cause, gfp_t gfp);
bool riprap_process_hash(struct riprap_process *process, struct riprap_process *old);
struct riprap_process *riprap_process_unhash(const struct signal_struct *signal);
void riprap_process_end(const struct signal_struct *signal, int exit_code);
/* The leader of its task group, referenced, or NULL when it is gone. */
struct task_struct *riprap_process_task(const struct riprap_process *process);

/* adopt.c */
struct riprap_process *riprap_adopt_current(struct riprap_process *overflow);

/* process_hook.c */
int riprap_process_hook(void);
void riprap_process_unhook(void);
/* Makes a thread of the group run riprap_socket_convert_files() before it is next in user mode, once. */
void riprap_process_convert(struct riprap_process *process, struct task_struct *task);

/* attest.c */
void riprap_attest_init_record(struct riprap_process *process);
/* Frees what attest.c owns; the last reference is gone. */
void riprap_attest_free_record(struct riprap_process *process);
/* The record has left the hashes: ends its identity and tells who waits, and the daemon. Any context. */
void riprap_attest_end(struct riprap_process *process, int exit_code);
enum riprap_process_answer riprap_attest_answer(const struct riprap_process *process);
void riprap_attest_tell_waiting(struct riprap_process *process);
void riprap_attest_want_key(struct riprap_process *process);
void riprap_attest_retry_key(struct riprap_process *process);
unsigned long riprap_attest_timeout(void);

/* report.c */
/* Evaluates the filters if they changed, and asks if one matches. 1; 0: unmanaged; -ENOMEM. May sleep. */
int riprap_report_consider(struct riprap_process *process, struct task_struct *task);
/* Asks whatever the filters say. May sleep. 0 or -errno of riprap_device_send_gfp(). */
int riprap_report_send(struct riprap_process *process, struct task_struct *task, u32 frame_flags);

#endif
