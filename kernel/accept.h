/* SPDX-License-Identifier: GPL-2.0 */
/* Inbound: accept() returns at once; the program's first byte waits for the peer's identity. */
#ifndef RIPRAP_ACCEPT_H
#define RIPRAP_ACCEPT_H

#include <linux/net.h>

#include "compat.h"

int riprap_accept(struct socket *socket, struct socket *accepted, RIPRAP_ACCEPT_PARAMETERS);

#endif
