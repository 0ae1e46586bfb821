/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What kernel/table.c and table_build.c take from Linux, for one thread in
 * user space. The test makes every <linux/...> name an include of this file.
 */
#ifndef KERNEL_SHIM_H
#define KERNEL_SHIM_H

#include <errno.h>
#include <linux/types.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
typedef int32_t s32;
typedef int gfp_t;
typedef struct { int counter; } atomic_t;
typedef struct { long long counter; } atomic64_t;
typedef struct { int count; } refcount_t;
struct work_struct { int unused; };
struct list_head { struct list_head *next, *prev; };

#define __rcu
#define GFP_KERNEL 0
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n) (1u << (n))
#define READ_ONCE(x) (x)
#define WRITE_ONCE(x, v) ((x) = (v))
#define WARN_ON_ONCE(x) ((x) ? (abort(), 1) : 0)
#define ERR_PTR(e) ((void *)(long)(e))
#define PTR_ERR(p) ((int)(long)(p))
#define IS_ERR(p) ((unsigned long)(p) >= (unsigned long)-4095)
#define rcu_read_lock() ((void)0)
#define rcu_read_unlock() ((void)0)
#define rcu_dereference(p) (p)
#define rcu_replace_pointer(p, v, c) ({ __typeof__(p) old_ = (p); (p) = (v); old_; })
#define synchronize_rcu() ((void)0)
#define cond_resched() ((void)0)
#define kzalloc(n, gfp) calloc(1, n)
#define kfree free
#define kvmalloc(n, gfp) malloc(n)
#define kvcalloc(n, size, gfp) calloc(n, size)
#define kvfree free
#define pr_err(...) fprintf(stderr, __VA_ARGS__)
#define atomic64_add(n, v) ((v)->counter += (n))
#define atomic64_sub(n, v) ((v)->counter -= (n))
#define get_random_u32() 0x5eedu

static inline unsigned long roundup_pow_of_two(unsigned long n)
{
	unsigned long power = 1;

	while (power < n)
		power <<= 1;
	return power;
}

/* Any hash serves: it decides where an entry lies, never whether it is found. */
static inline u32 jhash(const void *key, u32 len, u32 seed)
{
	const u8 *bytes = key;
	u32 hash = seed ^ 2166136261u;

	while (len--)
		hash = (hash ^ *bytes++) * 16777619u;
	return hash;
}

static inline u32 jhash2(const u32 *key, u32 words, u32 seed)
{
	return jhash(key, words * 4, seed);
}

static inline u32 jhash_2words(u32 a, u32 b, u32 seed)
{
	const u32 words[2] = { a, b };

	return jhash2(words, 2, seed);
}

/* kernel/trace.h is for the kernel alone; a look at a table tells nobody here. */
#define RIPRAP_TRACE_H
#define trace_riprap_verdict(...) ((void)0)

#endif
