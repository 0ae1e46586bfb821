// SPDX-License-Identifier: GPL-2.0
/* 6.5: sendfile() uses sendmsg with MSG_SPLICE_PAGES, and proto_ops.splice_eof ends it. */
#include <linux/net.h>

void probe(const struct proto_ops *ops);
void probe(const struct proto_ops *ops)
{
	ops->splice_eof(NULL);
}
