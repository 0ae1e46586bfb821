/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which process is this: one record per task group and exec generation, made
 * at fork and exec, ended at exit. Identity hangs on it.
 */
#ifndef RIPRAP_PROCESS_H
#define RIPRAP_PROCESS_H

#include <linux/refcount.h>
#include <linux/types.h>

#include "abi.h"

struct riprap_process;		/* refcounted; fields private to process.c */
struct riprap_identity;		/* identity.h */

/*
 * The record of current's task group, referenced; NULL when it is unmanaged for
 * good (kernel thread, no filter matches, or the daemon said so). Re-instances
 * the record when uid or gid changed since the facts were taken (CAUSE_CRED),
 * and sends PROCESS for a forked child at its first call. May allocate, never
 * waits for the daemon. ERR_PTR(-ENOMEM): nobody can say who it is, nothing may be sent.
 */
struct riprap_process *riprap_process_current(void);

/* Atomic context: may current be managed? A hash lookup; false costs one load when no rules are loaded. */
bool riprap_process_maybe_managed(void);

/* Does a record of this number live? Any context. */
bool riprap_process_is_live(u64 instance);

void riprap_process_put(struct riprap_process *process);
u64 riprap_process_instance(const struct riprap_process *process);
u32 riprap_process_pid(const struct riprap_process *process);

enum riprap_process_answer {
	RIPRAP_ANSWER_PENDING,		/* ask again after the callback */
	RIPRAP_ANSWER_UNMANAGED,
	RIPRAP_ANSWER_READY,		/* *identity is set, referenced, and has a key and a valid SVID */
	RIPRAP_ANSWER_WITHDRAWN,
	RIPRAP_ANSWER_UNKNOWN,		/* no daemon, or it did not answer within attest_timeout_ms: riprap_unknown_mode() applies */
};

/* Where the question stands now. *subject is set once ASSIGNed (also while the SVID is still missing). Atomic-safe. */
enum riprap_process_answer riprap_process_answer(struct riprap_process *process, u32 *subject,
						 struct riprap_identity **identity);

/* One-shot: `work` is queued on riprap_workqueue when the answer leaves PENDING (at once if it has). */
struct riprap_process_watch {
	struct list_head node;
	struct delayed_work *work;
};
void riprap_process_watch(struct riprap_process *process, struct riprap_process_watch *watch);
void riprap_process_unwatch(struct riprap_process *process, struct riprap_process_watch *watch);

u8 riprap_unknown_mode(void);		/* enum riprap_mode */
unsigned int riprap_handshake_timeout_ms(void);
unsigned int riprap_sniff_timeout_ms(void);

/* ---- from device.c: the daemon's frames, checked by riprap_frame_read(), one at a time ---- */

void riprap_process_configure(const struct riprap_start *start);
int riprap_process_assign(const struct riprap_assign *assign, const char *spiffe_id);
int riprap_process_install(const struct riprap_svid *svid, const u8 *chain);
void riprap_process_renew(u64 instance);
void riprap_process_withdraw(u64 instance, u8 reason);
int riprap_process_adopt(const struct riprap_adopt *adopt, u64 sequence);
/* A PROCESS frame for each record that the daemon was ever asked about. */
int riprap_process_replay(u32 frame_flags);
void riprap_process_set_daemon(bool is_open);
void riprap_process_daemon_gone(void);
u64 riprap_process_next_instance(void);

int riprap_process_init(void);
void riprap_process_exit(void);

#endif
