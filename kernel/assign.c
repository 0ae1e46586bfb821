// SPDX-License-Identifier: GPL-2.0
/*
 * What the daemon decides of a process: its SPIFFE ID, its SVID, its renewal, its
 * end. Only device.c's writer comes here, one frame at a time.
 */
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "device.h"
#include "process_record.h"
#include "ticket.h"
#include "trace.h"

/* The identity goes, with its key. Returns it, to be put once the lock is left. */
static struct riprap_identity *drop_identity_locked(struct riprap_process *process)
{
	struct riprap_identity *identity = process->identity;

	lockdep_assert_held(&process->lock);
	riprap_identity_withdraw(identity);
	riprap_key_wipe(process->pending);
	riprap_key_put(process->pending);
	process->identity = NULL;
	process->pending = NULL;
	return identity;
}

static bool has_id(const struct riprap_process *process, const char *spiffe_id, size_t len)
{
	return process->state == RIPRAP_STATE_ASSIGNED && process->spiffe_id &&
	       strlen(process->spiffe_id) == len && !memcmp(process->spiffe_id, spiffe_id, len);
}

static void set_unmanaged(struct riprap_process *process)
{
	struct riprap_identity *identity;

	spin_lock_bh(&process->lock);
	identity = drop_identity_locked(process);
	WRITE_ONCE(process->state, RIPRAP_STATE_UNMANAGED);
	WRITE_ONCE(process->is_converted, false);
	process->subject = 0;
	riprap_attest_tell_waiting(process);
	spin_unlock_bh(&process->lock);
	riprap_identity_put(identity);
	riprap_ticket_forget(process->instance);
}

/* The same ID under another number: the rule table was compiled anew. The key and chain stay. */
static int renumber(struct riprap_process *process, u32 subject)
{
	struct riprap_identity *old = process->identity, *fresh = NULL;

	if (old) {
		fresh = riprap_identity_make(process->instance, subject, old->spiffe_id, strlen(old->spiffe_id),
					     old->key, old->chain, old->chain_len, GFP_KERNEL);
		if (!fresh)
			return -ENOMEM;
		fresh->not_before = old->not_before;
		fresh->not_after = old->not_after;
	}
	spin_lock_bh(&process->lock);
	process->subject = subject;
	if (process->is_dead)
		swap(old, fresh);
	else
		process->identity = fresh;
	spin_unlock_bh(&process->lock);
	riprap_identity_put(old);
	return 0;
}

static int set_id(struct riprap_process *process, u32 subject, const char *spiffe_id, size_t len)
{
	struct riprap_identity *identity;
	char *copy, *old;

	copy = kmemdup_nul(spiffe_id, len, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	spin_lock_bh(&process->lock);
	identity = drop_identity_locked(process);
	old = process->spiffe_id;
	process->spiffe_id = copy;
	process->subject = subject;
	process->deadline = jiffies + riprap_attest_timeout();
	WRITE_ONCE(process->state, RIPRAP_STATE_ASSIGNED);
	spin_unlock_bh(&process->lock);
	riprap_identity_put(identity);
	kfree(old);
	return 0;
}

static void bring_sockets(struct riprap_process *process)
{
	struct task_struct *task;

	if (READ_ONCE(process->is_converted))
		return;
	task = riprap_process_task(process);
	if (!task)
		return;
	riprap_process_convert(process, task);
	put_task_struct(task);
}

/**
 * riprap_process_assign() - take the answer to PROCESS
 * @assign: checked by riprap_frame_read()
 * @spiffe_id: assign->spiffe_id_len bytes; none: the process is not managed
 *
 * At any time: rules may change. The same ID again leaves a valid SVID alone, and tells the key anew otherwise.
 *
 * Return: 0, -ESRCH (no such live instance), -ENOMEM.
 */
int riprap_process_assign(const struct riprap_assign *assign, const char *spiffe_id)
{
	struct riprap_process *process = riprap_process_find_instance(assign->instance);
	int err = 0;

	if (!process)
		return -ESRCH;
	trace_riprap_process_assigned(process->instance, process->pid, assign->subject);
	if (!assign->spiffe_id_len) {
		set_unmanaged(process);
		goto out_put;
	}
	if (!has_id(process, spiffe_id, assign->spiffe_id_len))
		err = set_id(process, assign->subject, spiffe_id, assign->spiffe_id_len);
	else if (process->subject != assign->subject)
		err = renumber(process, assign->subject);
	if (err)
		goto out_put;
	if (!process->identity || !riprap_identity_is_valid(process->identity))
		riprap_attest_want_key(process);
	bring_sockets(process);
out_put:
	riprap_process_put(process);
	return err;
}

/* The certificate must be for our key: its SubjectPublicKeyInfo holds the point byte by byte. */
static bool is_leaf_of(const struct riprap_key_pair *key, const u8 *chain)
{
	const u8 *point = riprap_key_public(key), *leaf = chain + sizeof(u32);
	u32 len, at;

	memcpy(&len, chain, sizeof(len));
	for (at = 0; at + 65 <= len; at++)
		if (!memcmp(leaf + at, point, 65))
			return true;
	return false;
}

static int publish(struct riprap_process *process, const struct riprap_svid *svid, const u8 *chain,
		   struct riprap_key_pair *key)
{
	struct riprap_identity *identity, *old = NULL;
	struct riprap_key_pair *used = NULL;
	int err = -ESRCH;

	identity = riprap_identity_make(process->instance, process->subject, process->spiffe_id,
					strlen(process->spiffe_id), key, chain, svid->chain_len, GFP_KERNEL);
	if (!identity)
		return -ENOMEM;
	identity->not_before = svid->not_before;
	identity->not_after = svid->not_after;
	spin_lock_bh(&process->lock);
	if (!process->is_dead) {
		old = process->identity;
		used = process->pending;
		process->identity = identity;
		process->pending = NULL;
		process->is_overdue = false;
		identity = NULL;
		err = 0;
		riprap_attest_tell_waiting(process);
	}
	spin_unlock_bh(&process->lock);
	riprap_identity_put(identity);
	riprap_identity_put(old);
	riprap_key_put(used);
	return err;
}

/**
 * riprap_process_install() - take the SVID for a key told by KEY
 * @svid: checked by riprap_frame_read()
 * @chain: svid->chain_len bytes, checked likewise
 *
 * Return: 0, -ESRCH (no such live instance), -ENOKEY (not the key that waits), -EKEYREJECTED
 * (the leaf is for another key), -EKEYEXPIRED (its time is over), -ENOMEM.
 */
int riprap_process_install(const struct riprap_svid *svid, const u8 *chain)
{
	struct riprap_process *process = riprap_process_find_instance(svid->instance);
	struct riprap_key_pair *key = NULL;
	int err = -ENOKEY;

	if (!process)
		return -ESRCH;
	spin_lock_bh(&process->lock);
	if (process->state == RIPRAP_STATE_ASSIGNED && process->pending &&
	    riprap_key_id(process->pending) == svid->key_id)
		key = riprap_key_get(process->pending);
	spin_unlock_bh(&process->lock);
	if (!key)
		goto out_put;
	if (svid->not_after <= ktime_get_real_seconds())
		err = -EKEYEXPIRED;
	else if (!is_leaf_of(key, chain))
		err = -EKEYREJECTED;
	else
		err = publish(process, svid, chain, key);
	riprap_key_put(key);
out_put:
	riprap_process_put(process);
	return err;
}

/**
 * riprap_process_renew() - make the next key; the SVID in use stays until its successor is installed
 * @instance: whose; an unknown one is ignored: its PROCESS_EXIT is on its way
 */
void riprap_process_renew(u64 instance)
{
	struct riprap_process *process = riprap_process_find_instance(instance);

	if (!process)
		return;
	riprap_attest_want_key(process);
	riprap_process_put(process);
}

/**
 * riprap_process_withdraw() - end an identity now: key, then flows
 * @instance: whose
 * @reason: enum riprap_reason, for the flow records
 */
void riprap_process_withdraw(u64 instance, u8 reason)
{
	struct riprap_process *process = riprap_process_find_instance(instance);
	const struct riprap_cut cut = { .value = instance, .by = RIPRAP_CUT_INSTANCE, .reason = reason };
	struct riprap_identity *identity = NULL;

	if (process) {
		spin_lock_bh(&process->lock);
		identity = drop_identity_locked(process);
		WRITE_ONCE(process->state, RIPRAP_STATE_WITHDRAWN);
		riprap_attest_tell_waiting(process);
		spin_unlock_bh(&process->lock);
		riprap_identity_put(identity);
		riprap_process_put(process);
	}
	riprap_ticket_forget(instance);
	/* flows may outlive their process: a socket is inherited */
	riprap_flow_cut(&cut, NULL);
}
