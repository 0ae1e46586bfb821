// SPDX-License-Identifier: GPL-2.0
/* Until 6.4: sendfile() reaches a socket through proto_ops.sendpage. */
#include <linux/net.h>

ssize_t probe(const struct proto_ops *ops);
ssize_t probe(const struct proto_ops *ops)
{
	return ops->sendpage(NULL, NULL, 0, 0, 0);
}
