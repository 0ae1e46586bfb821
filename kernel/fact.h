/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a program was when it was executed: facts that the process itself could
 * change later. Immutable, refcounted, shared by all forks of it.
 */
#ifndef RIPRAP_FACT_H
#define RIPRAP_FACT_H

#include <linux/fs.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/types.h>

#include "abi.h"

struct riprap_facts {
	refcount_t ref;
	bool argv_cut;
	u32 ns_user;		/* in which the paths below were looked up */
	u16 comm_len, exe_len, script_len, argv_len;
	u64 exe_dev, exe_ino, exe_size;
	s64 exe_mtime_ns, exe_ctime_ns;
	char comm[RIPRAP_COMM_MAX];
	char text[];		/* exe path, script path, argv: exactly as long as they are */
};

static inline const char *riprap_fact_exe(const struct riprap_facts *facts)
{
	return facts->text;
}

static inline const char *riprap_fact_script(const struct riprap_facts *facts)
{
	return facts->text + facts->exe_len;
}

static inline const char *riprap_fact_argv(const struct riprap_facts *facts)
{
	return facts->text + facts->exe_len + facts->script_len;
}

/*
 * Of current, before its new program's first instruction (or, at adoption, of a
 * stranger: then `task` is not current and nothing is faulted in). `exe` may be
 * NULL, `script` may be NULL. May sleep. NULL: no memory.
 */
struct riprap_facts *riprap_fact_take(struct task_struct *task, struct file *exe, const char *script);
struct riprap_facts *riprap_fact_get(struct riprap_facts *facts);
void riprap_fact_put(struct riprap_facts *facts);

/* Fills the parts of a PROCESS frame that are read from the living task, at the time of asking. */
void riprap_fact_of_task(struct task_struct *task, struct riprap_process_facts *out);
/* Its cgroup v2 path; the length, 0 when there is none. Any context. */
size_t riprap_fact_cgroup(struct task_struct *task, char *path, size_t size);

#endif
