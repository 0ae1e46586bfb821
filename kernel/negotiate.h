/* SPDX-License-Identifier: GPL-2.0 */
/* The TLS steps of a handshake. */
#ifndef RIPRAP_NEGOTIATE_H
#define RIPRAP_NEGOTIATE_H

#include <linux/types.h>

struct riprap_handshake;

/* Under the socket's lock. Sets up the engine; 0 or -errno. */
int riprap_negotiate_begin(struct riprap_handshake *handshake);
/* Under the socket's lock: why an authenticated peer, or this end's identity, may not be believed any more; RIPRAP_REASON_NONE when they may. */
u8 riprap_negotiate_fault(struct riprap_handshake *handshake);
/* Under the socket's lock: goes as far as it can without waiting. May end the handshake. */
void riprap_negotiate_step(struct riprap_handshake *handshake);
/* Under the socket's lock: wipes the engine and what it works on. Only the handshake's end may follow. */
void riprap_negotiate_free(struct riprap_handshake *handshake);
/* Under the socket's lock: past its limit, so that the next step ends it. */
bool riprap_negotiate_is_late(const struct riprap_handshake *handshake);

#endif
