// SPDX-License-Identifier: GPL-2.0
/* Until 5.18: proto.recvmsg has a noblock argument. */
#include <net/sock.h>

static int probe(struct sock *sk, struct msghdr *msg, size_t len, int noblock, int flags, int *addr_len)
{
	return noblock;
}

struct proto probe_proto = { .recvmsg = probe };
