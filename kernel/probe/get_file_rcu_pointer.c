// SPDX-License-Identifier: GPL-2.0
/* 6.7: get_file_rcu() takes the address of the pointer, as files are typesafe by RCU. */
#include <linux/fs.h>

struct file *probe(struct file __rcu **f);
struct file *probe(struct file __rcu **f)
{
	return get_file_rcu(f);
}
