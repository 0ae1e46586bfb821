// SPDX-License-Identifier: GPL-2.0
/*
 * Peer chains and what the daemon said of them, by SHA-256 of the chain. A chain
 * is asked about once, however many handshakes wait for it. Never looks into one.
 */
#include <crypto/sha2.h>
#include <linux/hashtable.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "device.h"
#include "limits.h"
#include "peer.h"
#include "trace.h"
#include "work.h"

#define INTERNAL_ERROR 80	/* TLS alert of a question that nobody answers: RFC 8446 section 6 */

/* One chain: asked about (peer NULL) or answered. All under `lock`. */
struct entry {
	struct hlist_node node;
	struct list_head recent;	/* answered: in `answered`, the latest used last; asked: in `asked` */
	struct list_head waiting;	/* struct riprap_peer_ask */
	u8 digest[SHA256_DIGEST_SIZE];
	u64 ask;
	u64 trust_generation;
	struct riprap_peer *peer;
	s64 expires;			/* boot-time seconds; of a refusal */
};

static DEFINE_SPINLOCK(lock);
static DEFINE_HASHTABLE(entries, 10);
static LIST_HEAD(answered);
static LIST_HEAD(asked);
static u32 answered_count, asked_count;
static u64 last_ask;
static u64 trust_generation;

/**
 * riprap_trust_generation() - of the trust bundle that answers rest on
 *
 * Return: it; 0 before the first TRUST.
 */
u64 riprap_trust_generation(void)
{
	return READ_ONCE(trust_generation);
}

/**
 * riprap_peer_get() - one more reference
 * @peer: referenced
 *
 * Return: @peer.
 */
struct riprap_peer *riprap_peer_get(struct riprap_peer *peer)
{
	refcount_inc(&peer->ref);
	return peer;
}

/**
 * riprap_peer_put() - one reference less
 * @peer: may be NULL
 */
void riprap_peer_put(struct riprap_peer *peer)
{
	if (!peer || !refcount_dec_and_test(&peer->ref))
		return;
	atomic64_sub(sizeof(*peer), &riprap_counters.memory_bytes);
	kfree(peer->spiffe_id);
	kfree(peer);
}

/**
 * riprap_peer_is_valid() - may it be believed now
 * @peer: any
 *
 * Return: true if accepted, of the trust in force, and not past its end.
 */
bool riprap_peer_is_valid(const struct riprap_peer *peer)
{
	return !peer->alert && peer->trust_generation == riprap_trust_generation() &&
	       ktime_get_real_seconds() < peer->not_after;
}

/* One reference, or NULL. */
static struct riprap_peer *make_peer(const struct riprap_verified *verified, const char *spiffe_id, gfp_t gfp)
{
	struct riprap_peer *peer = kzalloc(sizeof(*peer), gfp);

	if (!peer)
		return NULL;
	peer->spiffe_id = kmemdup_nul(spiffe_id, verified->spiffe_id_len, gfp);
	if (!peer->spiffe_id) {
		kfree(peer);
		return NULL;
	}
	refcount_set(&peer->ref, 1);
	peer->trust_generation = verified->trust_generation;
	peer->not_after = verified->not_after;
	peer->alert = verified->alert;
	memcpy(peer->public_key, verified->public_key, sizeof(peer->public_key));
	atomic64_add(sizeof(*peer), &riprap_counters.memory_bytes);
	return peer;
}

static void free_entry_locked(struct entry *entry)
{
	lockdep_assert_held(&lock);
	hash_del(&entry->node);
	list_del(&entry->recent);
	if (entry->peer)
		answered_count--;
	else
		asked_count--;
	riprap_peer_put(entry->peer);
	atomic64_sub(sizeof(*entry), &riprap_counters.memory_bytes);
	kfree(entry);
}

static u32 bucket_of(const u8 digest[SHA256_DIGEST_SIZE])
{
	u32 key;

	memcpy(&key, digest, sizeof(key));
	return key;
}

static struct entry *find_locked(const u8 digest[SHA256_DIGEST_SIZE])
{
	struct entry *entry;

	lockdep_assert_held(&lock);
	hash_for_each_possible(entries, entry, node, bucket_of(digest))
		if (!memcmp(entry->digest, digest, sizeof(entry->digest)))
			return entry;
	return NULL;
}

static bool is_fresh(const struct entry *entry)
{
	if (entry->trust_generation != trust_generation)
		return false;
	return entry->peer->alert ? ktime_get_boottime_seconds() < entry->expires : riprap_peer_is_valid(entry->peer);
}

/* Gives everybody who waits the answer, and lets them go on. */
static void answer_waiting_locked(struct entry *entry, struct riprap_peer *peer)
{
	struct riprap_peer_ask *ask, *next;

	lockdep_assert_held(&lock);
	list_for_each_entry_safe(ask, next, &entry->waiting, node) {
		list_del_init(&ask->node);
		ask->answer = riprap_peer_get(peer);
		queue_delayed_work(riprap_handshake_workqueue, ask->work, 0);
	}
}

/* A new question, or NULL (no memory). */
static struct entry *new_entry_locked(const u8 digest[SHA256_DIGEST_SIZE])
{
	struct entry *entry = kzalloc(sizeof(*entry), GFP_ATOMIC | __GFP_NOWARN);

	lockdep_assert_held(&lock);
	if (!entry)
		return NULL;
	INIT_LIST_HEAD(&entry->waiting);
	memcpy(entry->digest, digest, sizeof(entry->digest));
	entry->ask = ++last_ask;
	entry->trust_generation = trust_generation;
	hash_add(entries, &entry->node, bucket_of(digest));
	list_add_tail(&entry->recent, &asked);
	asked_count++;
	atomic64_add(sizeof(*entry), &riprap_counters.memory_bytes);
	return entry;
}

/* 0: answered from the cache. -EINPROGRESS: waits; *is_new when the question must be sent. -EAGAIN, -ENOTCONN. */
static int join_locked(struct riprap_peer_ask *ask, const u8 digest[SHA256_DIGEST_SIZE], bool *is_new)
{
	struct entry *entry = find_locked(digest);

	*is_new = false;
	if (entry && entry->peer && !is_fresh(entry)) {
		free_entry_locked(entry);
		entry = NULL;
	}
	if (entry && entry->peer) {
		list_move_tail(&entry->recent, &answered);
		ask->answer = riprap_peer_get(entry->peer);
		ask->ask = entry->ask;
		return 0;
	}
	if (!riprap_device_is_started())
		return -ENOTCONN;
	if (!entry) {
		if (asked_count >= RIPRAP_ASKS_MAX)
			return -EAGAIN;
		entry = new_entry_locked(digest);
		if (!entry)
			return -EAGAIN;
		*is_new = true;
	}
	ask->ask = entry->ask;
	list_add_tail(&ask->node, &entry->waiting);
	return -EINPROGRESS;
}

static struct entry *find_asked_locked(u64 ask)
{
	struct entry *entry;

	lockdep_assert_held(&lock);
	list_for_each_entry(entry, &asked, recent)
		if (entry->ask == ask)
			return entry;
	return NULL;
}

/* Nobody will answer: everybody who waits gets INTERNAL_ERROR, and nothing is cached. */
static void fail_locked(struct entry *entry)
{
	const struct riprap_verified refusal = { .trust_generation = trust_generation, .alert = INTERNAL_ERROR };
	static struct riprap_peer nobody = {
		.ref = REFCOUNT_INIT(1), .alert = INTERNAL_ERROR, .spiffe_id = (char *)"",
	};
	struct riprap_peer *peer = make_peer(&refusal, "", GFP_ATOMIC | __GFP_NOWARN);

	answer_waiting_locked(entry, peer ?: &nobody);
	riprap_peer_put(peer);
	free_entry_locked(entry);
}

/**
 * riprap_peer_ask() - who is the holder of this chain
 * @ask: the caller's, zeroed before first use; lives until answered or cancelled
 * @work: queued on riprap_handshake_workqueue when @ask has its answer
 * @about: flow, instance, direction and number of certificates; the rest is filled in
 * @chain: as in struct riprap_verify's tail
 * @chain_len: its length, at most RIPRAP_CHAIN_MAX
 *
 * Process context.
 *
 * Return: 0 (ask->answer is set), -EINPROGRESS (@work will be queued; it may be already), -EAGAIN (too
 * many questions), -ENOTCONN (no daemon, and nothing cached), -ENOMEM, -ENOBUFS (the queue to the daemon is full).
 */
int riprap_peer_ask(struct riprap_peer_ask *ask, struct delayed_work *work, const struct riprap_verify *about,
		    const u8 *chain, size_t chain_len)
{
	const struct riprap_part tail = { chain, chain_len };
	struct riprap_verify frame = *about;
	u8 digest[SHA256_DIGEST_SIZE];
	struct entry *entry;
	bool is_new;
	int err, sent;

	sha256(chain, chain_len, digest);
	ask->work = work;
	ask->answer = NULL;
	INIT_LIST_HEAD(&ask->node);
	spin_lock_bh(&lock);
	frame.trust_generation = trust_generation;
	err = join_locked(ask, digest, &is_new);
	spin_unlock_bh(&lock);
	atomic64_inc(err ? &riprap_counters.verify_misses : &riprap_counters.verify_hits);
	if (!err)
		trace_riprap_peer_verified(ask->ask, ask->answer->alert, true);
	if (!is_new)
		return err;
	frame.ask = ask->ask;
	frame.chain_len = chain_len;
	sent = riprap_device_send_gfp(RIPRAP_VERIFY, 0, &frame, sizeof(frame), &tail, 1, GFP_KERNEL);
	if (!sent)
		return err;
	/* this caller is told here, those who joined meanwhile by their work */
	spin_lock_bh(&lock);
	if (!list_empty(&ask->node)) {
		list_del_init(&ask->node);
		err = sent;
	}
	entry = find_asked_locked(frame.ask);
	if (entry)
		fail_locked(entry);
	spin_unlock_bh(&lock);
	return err;
}

/**
 * riprap_peer_cancel() - no longer wait for an answer
 * @ask: asked, or zeroed; its work is not queued from here on, but may have been
 *
 * The answer, if it has come, stays with the caller.
 */
void riprap_peer_cancel(struct riprap_peer_ask *ask)
{
	if (!ask->node.next)
		return;
	spin_lock_bh(&lock);
	list_del_init(&ask->node);
	spin_unlock_bh(&lock);
}

static void make_room_locked(void)
{
	lockdep_assert_held(&lock);
	if (answered_count >= RIPRAP_PEERS_MAX)
		free_entry_locked(list_first_entry(&answered, struct entry, recent));
}

/**
 * riprap_peer_answer() - take a VERIFIED frame
 * @verified: checked by riprap_frame_read(); an ask that nobody knows is ignored: its flow is gone
 * @spiffe_id: verified->spiffe_id_len bytes
 *
 * An answer that rests on older trust than the one in force is told to those who
 * wait, who refuse it by riprap_peer_is_valid(), and is not kept.
 */
void riprap_peer_answer(const struct riprap_verified *verified, const char *spiffe_id)
{
	struct riprap_peer *peer = make_peer(verified, spiffe_id, GFP_KERNEL);
	struct entry *entry;

	spin_lock_bh(&lock);
	entry = find_asked_locked(verified->ask);
	if (!entry)
		goto out_unlock;
	if (!peer) {
		fail_locked(entry);
		goto out_unlock;
	}
	trace_riprap_peer_verified(entry->ask, peer->alert, false);
	answer_waiting_locked(entry, peer);
	if (verified->trust_generation != trust_generation) {
		free_entry_locked(entry);
		goto out_unlock;
	}
	make_room_locked();
	entry->peer = riprap_peer_get(peer);
	entry->trust_generation = trust_generation;
	entry->expires = ktime_get_boottime_seconds() + RIPRAP_PEER_REFUSAL_SECONDS;
	list_move_tail(&entry->recent, &answered);
	asked_count--;
	answered_count++;
out_unlock:
	spin_unlock_bh(&lock);
	riprap_peer_put(peer);
}

static void drop_answered(void)
{
	struct entry *entry, *next;

	spin_lock_bh(&lock);
	list_for_each_entry_safe(entry, next, &answered, recent)
		free_entry_locked(entry);
	spin_unlock_bh(&lock);
}

/**
 * riprap_peer_trust() - trust has changed: every cached answer is void
 * @generation: of the new trust
 *
 * Return: 0, or -ESTALE (older than the one in force, which stays).
 */
int riprap_peer_trust(u64 generation)
{
	int err = 0;

	spin_lock_bh(&lock);
	if (generation < trust_generation)
		err = -ESTALE;
	else
		WRITE_ONCE(trust_generation, generation);
	spin_unlock_bh(&lock);
	if (!err)
		drop_answered();
	return err;
}

/* riprap_peer_daemon_gone() - open questions get INTERNAL_ERROR; the cache stays */
void riprap_peer_daemon_gone(void)
{
	struct entry *entry, *next;

	spin_lock_bh(&lock);
	list_for_each_entry_safe(entry, next, &asked, recent)
		fail_locked(entry);
	spin_unlock_bh(&lock);
}

/**
 * riprap_peer_init() - the cache is empty at first
 *
 * Return: 0.
 */
int riprap_peer_init(void)
{
	return 0;
}

void riprap_peer_exit(void)
{
	riprap_peer_daemon_gone();
	drop_answered();
}
