/* SPDX-License-Identifier: GPL-2.0 */
/* Outbound: the verdict before the SYN. */
#ifndef RIPRAP_CONNECT_H
#define RIPRAP_CONNECT_H

#include <linux/net.h>

struct riprap_socket;

int riprap_connect(struct socket *socket, struct sockaddr *address, int len, int flags);
/* Called by tcp_prot.connect under the socket lock: may this address be reached now? 0 or -EACCES. */
int riprap_connect_check(struct riprap_socket *rs, const struct sockaddr *address, int len);

#endif
