// SPDX-License-Identifier: GPL-2.0
/*
 * Two bounded caches of resumption secrets: by server address for clients, by
 * ticket name for servers. Secrets are wiped when they leave.
 */
#include <linux/jhash.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "device.h"
#include "limits.h"
#include "peer.h"
#include "process.h"
#include "ticket.h"
#include "tls13/tls13.h"

#define BUCKETS_LOG	10	/* RIPRAP_TICKETS_MAX / 4 */
#define MARGIN_SECONDS	2	/* a handshake that begins later might outlast the chain */

struct name {			/* hashed whole: zeroed before it is filled */
	u64 instance;
	union {
		struct {
			struct in6_addr remote;
			u16 port;
		};
		u8 ticket[RIPRAP_TICKET_LEN];
	};
};

struct entry {
	struct hlist_node hash;
	struct list_head age;		/* oldest first */
	struct name name;
	char *own_id;
	struct riprap_peer *peer;
	ktime_t stored;
	s64 renewal;			/* real-time seconds; of a client: from then on a handshake is to bring a new one */
	struct tls13_psk psk;
};

struct cache {
	spinlock_t lock;
	unsigned int entries;
	struct list_head age;
	struct hlist_head bucket[1 << BUCKETS_LOG];
};

static struct cache *client, *server;
static u32 hash_seed;

static struct hlist_head *bucket_of(struct cache *cache, const struct name *name)
{
	return &cache->bucket[jhash(name, sizeof(*name), hash_seed) & ((1 << BUCKETS_LOG) - 1)];
}

static void free_entry(struct entry *entry)
{
	riprap_peer_put(entry->peer);
	kfree(entry->own_id);
	kfree_sensitive(entry);
	atomic64_sub(sizeof(*entry), &riprap_counters.memory_bytes);
}

/* Under cache->lock. */
static void unlink_entry(struct cache *cache, struct entry *entry, struct list_head *out)
{
	lockdep_assert_held(&cache->lock);
	hlist_del(&entry->hash);
	list_move(&entry->age, out);
	cache->entries--;
}

static void free_list(struct list_head *list)
{
	struct entry *entry, *next;

	list_for_each_entry_safe(entry, next, list, age)
		free_entry(entry);
}

static struct entry *lookup(struct cache *cache, const struct name *name)
{
	struct entry *entry;

	lockdep_assert_held(&cache->lock);
	hlist_for_each_entry(entry, bucket_of(cache, name), hash) {
		if (!memcmp(&entry->name, name, sizeof(*name)))
			return entry;
	}
	return NULL;
}

static u32 age_of(const struct entry *entry)
{
	return ktime_ms_delta(ktime_get_boottime(), entry->stored);
}

/* Seconds until the ticket or the chain that it rests on ends. */
static s64 left_of(const struct entry *entry)
{
	s64 ticket = (s64)min_t(u32, entry->psk.lifetime, RIPRAP_TICKET_SECONDS) - age_of(entry) / MSEC_PER_SEC;

	return min_t(s64, ticket, entry->peer->not_after - ktime_get_real_seconds());
}

static bool is_alive(const struct entry *entry)
{
	return left_of(entry) > 0 && riprap_peer_is_valid(entry->peer);
}

/* Those at the old end that are of no more use. */
static void reap(struct cache *cache, struct list_head *out)
{
	struct entry *entry, *next;

	list_for_each_entry_safe(entry, next, &cache->age, age) {
		if (is_alive(entry))
			return;
		unlink_entry(cache, entry, out);
	}
}

/* One of those who ask goes without, and comes back with a new one. Under cache->lock. */
static bool is_renewal_due(struct entry *entry)
{
	s64 now = ktime_get_real_seconds();

	if (now < entry->renewal)
		return false;
	entry->renewal = now + RIPRAP_TICKET_RETRY_SECONDS;
	return true;
}

/* In the second half of what both chains have left; the server tells by the lifetime when it sees the end of ours. */
static s64 find_renewal(const struct tls13_psk *psk, const struct riprap_peer *peer)
{
	s64 now = ktime_get_real_seconds(), left = peer->not_after - now;

	if (psk->lifetime < RIPRAP_TICKET_SECONDS)
		left = min_t(s64, left, psk->lifetime);
	return now + left - left / 2;
}

u32 riprap_ticket_lifetime(const struct riprap_peer *peer)
{
	return clamp_t(s64, peer->not_after - ktime_get_real_seconds(), 0, RIPRAP_TICKET_SECONDS);
}

static int take(struct cache *cache, const struct name *name, const struct riprap_ticket_owner *own,
		struct tls13_psk *psk, u32 *age_ms, struct riprap_peer **peer)
{
	struct entry *entry;
	int err = -ENOENT;
	LIST_HEAD(gone);

	spin_lock_bh(&cache->lock);
	entry = lookup(cache, name);
	if (entry && !(is_alive(entry) && !strcmp(entry->own_id, own->spiffe_id))) {
		unlink_entry(cache, entry, &gone);
	} else if (entry && !(cache == client && (left_of(entry) <= MARGIN_SECONDS || is_renewal_due(entry)))) {
		*psk = entry->psk;
		*age_ms = age_of(entry);
		*peer = riprap_peer_get(entry->peer);
		err = 0;
	}
	spin_unlock_bh(&cache->lock);
	free_list(&gone);
	return err;
}

static void forget(struct cache *cache, u64 instance)
{
	struct entry *entry, *next;
	LIST_HEAD(gone);

	spin_lock_bh(&cache->lock);
	list_for_each_entry_safe(entry, next, &cache->age, age)
		if (entry->name.instance == instance)
			unlink_entry(cache, entry, &gone);
	spin_unlock_bh(&cache->lock);
	free_list(&gone);
}

void riprap_ticket_forget(u64 instance)
{
	forget(client, instance);
	forget(server, instance);
}

/* NULL without memory: then there is no resumption, and nothing else is lost. */
static struct entry *make_entry(const struct name *name, const struct riprap_ticket_owner *own,
				const struct tls13_psk *psk, struct riprap_peer *peer)
{
	struct entry *entry = kzalloc(sizeof(*entry), GFP_KERNEL);

	if (!entry)
		return NULL;
	entry->own_id = kstrdup(own->spiffe_id, GFP_KERNEL);
	if (!entry->own_id) {
		kfree(entry);
		return NULL;
	}
	entry->name = *name;
	entry->peer = riprap_peer_get(peer);
	entry->stored = ktime_get_boottime();
	entry->psk = *psk;
	entry->renewal = find_renewal(psk, peer);
	atomic64_add(sizeof(*entry), &riprap_counters.memory_bytes);
	return entry;
}

/* In the place of the one of that name, unless that is good for longer. Under cache->lock. */
static void insert_entry(struct cache *cache, struct entry *entry, bool resumed, struct list_head *out)
{
	struct entry *old = lookup(cache, &entry->name);

	lockdep_assert_held(&cache->lock);
	if (old && resumed) {
		if (left_of(old) > left_of(entry)) {
			list_add(&entry->age, out);
			return;
		}
		entry->renewal = min(entry->renewal, old->renewal);
	}
	if (!old && cache->entries >= RIPRAP_TICKETS_MAX)
		old = list_first_entry(&cache->age, struct entry, age);
	if (old)
		unlink_entry(cache, old, out);
	hlist_add_head(&entry->hash, bucket_of(cache, &entry->name));
	list_add_tail(&entry->age, &cache->age);
	cache->entries++;
}

static void put(struct cache *cache, const struct name *name, const struct riprap_ticket_owner *own,
		const struct tls13_psk *psk, struct riprap_peer *peer, bool resumed)
{
	struct entry *entry = make_entry(name, own, psk, peer);
	LIST_HEAD(gone);

	if (!entry)
		return;
	spin_lock_bh(&cache->lock);
	reap(cache, &gone);
	insert_entry(cache, entry, resumed, &gone);
	spin_unlock_bh(&cache->lock);
	free_list(&gone);
	/* Pairs with riprap_ticket_forget(), which comes after the end of the record: one of the two sees the other. */
	if (!riprap_process_is_live(own->instance))
		forget(cache, own->instance);
}

static void name_server(struct name *name, const struct riprap_ticket_owner *own, const struct in6_addr *remote,
			u16 port)
{
	memset(name, 0, sizeof(*name));
	name->instance = own->instance;
	name->remote = *remote;
	name->port = port;
}

int riprap_ticket_offer(const struct riprap_ticket_owner *own, const struct in6_addr *remote, u16 port,
			struct tls13_psk *psk, u32 *age_ms, struct riprap_peer **peer)
{
	struct name name;

	name_server(&name, own, remote, port);
	return take(client, &name, own, psk, age_ms, peer);
}

void riprap_ticket_keep(const struct riprap_ticket_owner *own, const struct in6_addr *remote, u16 port,
			const struct tls13_psk *psk, struct riprap_peer *peer, bool resumed)
{
	struct name name;

	name_server(&name, own, remote, port);
	put(client, &name, own, psk, peer, resumed);
}

int riprap_ticket_find(const struct riprap_ticket_owner *own, const u8 *ticket, size_t len, struct tls13_psk *psk,
		       u32 *age_ms, struct riprap_peer **peer)
{
	struct name name = { .instance = own->instance };

	if (len != RIPRAP_TICKET_LEN)
		return -ENOENT;
	memcpy(name.ticket, ticket, len);
	return take(server, &name, own, psk, age_ms, peer);
}

void riprap_ticket_issue(const struct riprap_ticket_owner *own, const struct tls13_psk *psk, struct riprap_peer *peer)
{
	struct name name = { .instance = own->instance };

	if (psk->ticket_len != RIPRAP_TICKET_LEN)
		return;
	memcpy(name.ticket, psk->ticket, RIPRAP_TICKET_LEN);
	put(server, &name, own, psk, peer, false);
}

static void flush(struct cache *cache)
{
	struct entry *entry, *next;
	LIST_HEAD(gone);

	spin_lock_bh(&cache->lock);
	list_for_each_entry_safe(entry, next, &cache->age, age)
		unlink_entry(cache, entry, &gone);
	spin_unlock_bh(&cache->lock);
	free_list(&gone);
}

void riprap_ticket_flush(void)
{
	flush(client);
	flush(server);
}

static struct cache *new_cache(void)
{
	struct cache *cache = kzalloc(sizeof(*cache), GFP_KERNEL);

	if (cache) {
		spin_lock_init(&cache->lock);
		INIT_LIST_HEAD(&cache->age);
	}
	return cache;
}

/**
 * riprap_ticket_init() - make both caches
 *
 * Return: 0 or -ENOMEM.
 */
int riprap_ticket_init(void)
{
	hash_seed = get_random_u32();
	client = new_cache();
	server = new_cache();
	if (client && server)
		return 0;
	kfree(client);
	kfree(server);
	return -ENOMEM;
}

void riprap_ticket_exit(void)
{
	riprap_ticket_flush();
	kfree(client);
	kfree(server);
}
