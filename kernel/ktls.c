// SPDX-License-Identifier: GPL-2.0
/* Finds kTLS when the module loads, has it copy the plain operations, and keeps it loaded. */
#include <linux/module.h>
#include <linux/net.h>
#include <linux/tcp.h>
#include <net/sock.h>
#include <net/tls.h>

#include "record.h"

#ifdef CONFIG_TLS_DEVICE
/* Were kTLS unloaded and loaded again, it would copy tcp_prot with our hooks in it. */
static bool pin_ktls(void)
{
	return symbol_get(tls_encrypt_skb);
}

void riprap_record_exit(void)
{
	symbol_put(tls_encrypt_skb);
}
#else
static bool pin_ktls(void)
{
	return true;
}

void riprap_record_exit(void)
{
}
#endif

/* A socket that is connected nowhere is refused, but only after kTLS has made its tables for the family. */
static int prime(int family, const struct proto_ops **ops)
{
	struct socket *socket;
	char name[] = "tls";
	int err;

	err = sock_create_kern(&init_net, family, SOCK_STREAM, IPPROTO_TCP, &socket);
	if (err)
		return err;
	if (ops)
		*ops = socket->ops;
	err = socket->ops->setsockopt(socket, SOL_TCP, TCP_ULP, KERNEL_SOCKPTR(name), sizeof(name));
	sock_release(socket);
	return err == -ENOTCONN ? 0 : err ?: -EPROTO;
}

/**
 * riprap_record_init() - find kTLS and make it take the plain operations of both families
 * @v6: the operations of IPv6 stream sockets, which are not exported; NULL without IPv6
 *
 * Return: 0, or -EOPNOTSUPP when this kernel has no kTLS.
 */
int riprap_record_init(const struct proto_ops **v6)
{
	int err;

	*v6 = NULL;
	err = prime(AF_INET, NULL);
	if (!err) {
		err = prime(AF_INET6, v6);
		if (err == -EAFNOSUPPORT)
			err = 0;
	}
	if (!err && !pin_ktls())
		err = -ENOENT;
	if (!err)
		return 0;
	pr_err("riprap: no kernel TLS (%d): load the module tls, or use a kernel built with CONFIG_TLS\n", err);
	return -EOPNOTSUPP;
}
