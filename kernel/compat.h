/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Differences between kernels, and nothing else. What is there is found by
 * compiling the files of probe/ against the headers (riprap_probe.h), never by a version
 * number: distributions backport.
 */
#ifndef RIPRAP_COMPAT_H
#define RIPRAP_COMPAT_H

#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/rcupdate.h>
#include <net/sock.h>

#include "riprap_probe.h"

/* The executable of an mm, referenced, or NULL. The kernel's own getter is not exported. */
static inline struct file *riprap_compat_mm_exe_file(struct mm_struct *mm)
{
	struct file *file;

	rcu_read_lock();
#ifdef HAVE_GET_FILE_RCU_POINTER
	file = get_file_rcu(&mm->exe_file);
#else
	file = rcu_dereference(mm->exe_file);
	if (file && !get_file_rcu(file))
		file = NULL;
#endif
	rcu_read_unlock();
	return file;
}

/* 6.5: sendfile() arrives as sendmsg with this flag. */
#ifdef MSG_SPLICE_PAGES
#define RIPRAP_MSG_SPLICE_PAGES		MSG_SPLICE_PAGES
#else
#define RIPRAP_MSG_SPLICE_PAGES		0
#endif

/* proto_ops.accept: its last parameters, handed on as they are, and what matters in them. */
#ifdef HAVE_PROTO_OPS_ACCEPT_ARG
#define RIPRAP_ACCEPT_PARAMETERS	struct proto_accept_arg *arg
#define RIPRAP_ACCEPT_ARGUMENTS		arg
#define RIPRAP_ACCEPT_IS_KERNEL		(arg->kern)
#else
#define RIPRAP_ACCEPT_PARAMETERS	int flags, bool kern
#define RIPRAP_ACCEPT_ARGUMENTS		flags, kern
#define RIPRAP_ACCEPT_IS_KERNEL		(kern)
#endif

/* proto.accept: the same for TCP's own, which says -errno through a parameter. */
#ifdef HAVE_PROTO_ACCEPT_ARG
#define RIPRAP_PROTO_ACCEPT_PARAMETERS	struct proto_accept_arg *arg
#define RIPRAP_PROTO_ACCEPT_ARGUMENTS	arg
#define RIPRAP_PROTO_ACCEPT_ERROR	(arg->err)
#define RIPRAP_PROTO_ACCEPT_IS_KERNEL	(arg->kern)
#else
#define RIPRAP_PROTO_ACCEPT_PARAMETERS	int flags, int *err, bool kern
#define RIPRAP_PROTO_ACCEPT_ARGUMENTS	flags, err, kern
#define RIPRAP_PROTO_ACCEPT_ERROR	(*err)
#define RIPRAP_PROTO_ACCEPT_IS_KERNEL	(kern)
#endif

/* What the sched_process_exit tracepoint passes beyond the task. */
#ifdef HAVE_EXIT_GROUP_DEAD
#define RIPRAP_COMPAT_EXIT_ARGS	, bool group_dead
#else
#define RIPRAP_COMPAT_EXIT_ARGS
#endif

#endif
