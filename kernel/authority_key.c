// SPDX-License-Identifier: GPL-2.0
/*
 * The keys of the node's CA, while a daemon holds the device: it hands each in
 * once, has digests signed with it, and never sees it again. What is signed is
 * the daemon's affair.
 */
#include <linux/errno.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "abi.h"
#include "authority_key.h"
#include "device.h"
#include "ecdsa.h"

/* @owner: the process that handed the key in; a child or a receiver of the descriptor is another */
struct authority_key {
	struct pid *owner;
	u8 private_key[32];
};

/* A slot that is free, or was, is NULL. Serialises signing too: there is one daemon. */
static DEFINE_MUTEX(key_lock);
static struct authority_key *keys[RIPRAP_AUTHORITY_KEYS_MAX];

static void free_key(struct authority_key *key)
{
	if (!key)
		return;
	put_pid(key->owner);
	kfree_sensitive(key);
	atomic64_sub(sizeof(*key), &riprap_counters.memory_bytes);
}

/* Takes @key when there is room. 0, -ENOSPC. */
static int keep(struct authority_key *key, u32 *slot)
{
	u32 i;

	lockdep_assert_held(&key_lock);
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		if (keys[i])
			continue;
		keys[i] = key;
		*slot = i;
		return 0;
	}
	return -ENOSPC;
}

/* The caller's key in @slot. -ENOKEY, -EPERM (another process handed it in). */
static struct authority_key *find_key(u32 slot)
{
	lockdep_assert_held(&key_lock);
	if (slot >= ARRAY_SIZE(keys) || !keys[slot])
		return ERR_PTR(-ENOKEY);
	return keys[slot]->owner == task_tgid(current) ? keys[slot] : ERR_PTR(-EPERM);
}

static int import_key(struct riprap_authority_import *import)
{
	struct authority_key *key = kzalloc(sizeof(*key), GFP_KERNEL);
	int err;

	if (!key)
		return -ENOMEM;
	atomic64_add(sizeof(*key), &riprap_counters.memory_bytes);
	key->owner = get_pid(task_tgid(current));
	memcpy(key->private_key, import->private_key, sizeof(key->private_key));
	err = riprap_ecdsa_derive(key->private_key, import->public_key);
	if (err)
		goto out_free;
	mutex_lock(&key_lock);
	err = keep(key, &import->slot);
	mutex_unlock(&key_lock);
	if (!err)
		return 0;
out_free:
	free_key(key);
	return err;
}

/* The caller's copy of the private key is overwritten whatever becomes of it. */
static long on_import(void __user *argument)
{
	struct riprap_authority_import import;
	long err;

	if (copy_from_user(&import, argument, sizeof(import))) {
		memzero_explicit(&import, sizeof(import));
		return -EFAULT;
	}
	err = import.pad0[0] || import.pad0[1] || import.pad0[2] ? -EINVAL : import_key(&import);
	memzero_explicit(import.private_key, sizeof(import.private_key));
	if (err)
		memset(import.public_key, 0, sizeof(import.public_key));
	if (copy_to_user(argument, &import, sizeof(import)) && !err)
		err = -EFAULT;
	return err;
}

static long on_sign(void __user *argument)
{
	struct riprap_authority_sign sign;
	struct authority_key *key;
	size_t len = 0;
	long err;

	if (copy_from_user(&sign, argument, sizeof(sign)))
		return -EFAULT;
	memset(sign.signature, 0, sizeof(sign.signature));
	if (mutex_lock_interruptible(&key_lock))
		return -ERESTARTSYS;
	key = find_key(sign.slot);
	err = PTR_ERR_OR_ZERO(key);
	if (!err)
		err = riprap_ecdsa_sign(key->private_key, sign.digest, sign.signature, &len);
	mutex_unlock(&key_lock);
	if (err)
		return err;
	sign.signature_len = len;
	return copy_to_user(argument, &sign, sizeof(sign)) ? -EFAULT : 0;
}

static long on_forget(void __user *argument)
{
	struct riprap_authority_forget forget;
	struct authority_key *key;

	if (copy_from_user(&forget, argument, sizeof(forget)))
		return -EFAULT;
	if (forget.pad0)
		return -EINVAL;
	mutex_lock(&key_lock);
	key = find_key(forget.slot);
	if (!IS_ERR(key))
		keys[forget.slot] = NULL;
	mutex_unlock(&key_lock);
	if (IS_ERR(key))
		return PTR_ERR(key);
	free_key(key);
	return 0;
}

/**
 * riprap_authority_key_ioctl() - what the daemon asks of the CA's keys
 * @command: RIPRAP_AUTHORITY_IMPORT, _SIGN or _FORGET
 * @argument: pointer to the struct of that command
 *
 * Return: 0, -ENOTTY (no such command), -EFAULT, -EINVAL (no P-256 scalar, or
 * padding that is not zero), -ENOSPC (RIPRAP_AUTHORITY_KEYS_MAX are kept),
 * -ENOKEY (nothing in that slot), -EPERM (another process handed the key in),
 * -ENOMEM, -ERESTARTSYS (a signal, before signing), or -errno of
 * riprap_ecdsa_sign().
 */
long riprap_authority_key_ioctl(unsigned int command, unsigned long argument)
{
	void __user *pointer = (void __user *)argument;

	switch (command) {
	case RIPRAP_AUTHORITY_IMPORT:
		return on_import(pointer);
	case RIPRAP_AUTHORITY_SIGN:
		return on_sign(pointer);
	case RIPRAP_AUTHORITY_FORGET:
		return on_forget(pointer);
	default:
		return -ENOTTY;
	}
}

/* riprap_authority_key_forget_all() - wipe every key: nobody holds the device any more */
void riprap_authority_key_forget_all(void)
{
	u32 i;

	mutex_lock(&key_lock);
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		free_key(keys[i]);
		keys[i] = NULL;
	}
	mutex_unlock(&key_lock);
}
