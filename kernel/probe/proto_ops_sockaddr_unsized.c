// SPDX-License-Identifier: GPL-2.0
/* 6.19: proto_ops.connect takes a struct sockaddr_unsized. */
#include <linux/net.h>

static int probe(struct socket *sock, struct sockaddr_unsized *address, int len, int flags)
{
	return address->sa_family;
}

const struct proto_ops probe_ops = { .connect = probe };
