// SPDX-License-Identifier: GPL-2.0
/* 6.10: proto.accept takes a struct proto_accept_arg in place of (int flags, int *err, bool kern). */
#include <net/sock.h>

static struct sock *probe(struct sock *sk, struct proto_accept_arg *arg)
{
	return arg->err ? NULL : sk;
}

struct proto probe_proto = { .accept = probe };
