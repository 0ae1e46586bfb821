/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Differences between kernels, and nothing else. What is there is found by
 * compiling probe/*.c against the headers (riprap_probe.h), never by a version
 * number: distributions backport.
 */
#ifndef RIPRAP_COMPAT_H
#define RIPRAP_COMPAT_H

#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/rcupdate.h>

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

#endif
