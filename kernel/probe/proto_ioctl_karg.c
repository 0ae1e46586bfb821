// SPDX-License-Identifier: GPL-2.0
/* 6.5: proto.ioctl takes a kernel int pointer in place of a user address. */
#include <net/sock.h>

static int probe(struct sock *sk, int cmd, int *karg)
{
	return *karg;
}

struct proto probe_proto = { .ioctl = probe };
