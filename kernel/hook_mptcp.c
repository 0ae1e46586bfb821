// SPDX-License-Identifier: GPL-2.0
/*
 * Multipath TCP has a protocol of its own and would carry a managed program past
 * the mediation; some language runtimes listen by it without being asked. A
 * managed process is told that there is none here, and falls back to TCP.
 */
#include <linux/net.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "hook.h"
#include "process.h"

static struct proto *mptcp_v4, *mptcp_v6;	/* NULL: not in this kernel */
static int (*saved_v4)(struct sock *sk), (*saved_v6)(struct sock *sk);

/* As with net.mptcp.enabled=0: refused after its own init, which its destructor counts on. */
static int init(struct sock *sk, int (*saved)(struct sock *sk))
{
	int err = saved(sk);

	return err ?: -ENOPROTOOPT;
}

static bool is_refused(const struct sock *sk)
{
	return !sk->sk_kern_sock && riprap_process_maybe_managed();
}

static int init_v4(struct sock *sk)
{
	return is_refused(sk) ? init(sk, saved_v4) : saved_v4(sk);
}

static int init_v6(struct sock *sk)
{
	return is_refused(sk) ? init(sk, saved_v6) : saved_v6(sk);
}

/* The protocols are not exported: a socket knows its own. */
static struct proto *find(int family)
{
	struct proto *proto;
	struct socket *socket;

	if (sock_create_kern(&init_net, family, SOCK_STREAM, IPPROTO_MPTCP, &socket))
		return NULL;
	proto = socket->sk->sk_prot;
	sock_release(socket);
	return proto->init ? proto : NULL;
}

void riprap_hook_mptcp_init(void)
{
	mptcp_v4 = find(AF_INET);
	mptcp_v6 = find(AF_INET6);
	if (mptcp_v4) {
		saved_v4 = mptcp_v4->init;
		WRITE_ONCE(mptcp_v4->init, init_v4);
	}
	if (mptcp_v6) {
		saved_v6 = mptcp_v6->init;
		WRITE_ONCE(mptcp_v6->init, init_v6);
	}
}

/* The caller waits for the threads that are still in: none sleeps there. */
void riprap_hook_mptcp_exit(void)
{
	if (mptcp_v4)
		WRITE_ONCE(mptcp_v4->init, saved_v4);
	if (mptcp_v6)
		WRITE_ONCE(mptcp_v6->init, saved_v6);
}
