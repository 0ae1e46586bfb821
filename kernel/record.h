/* SPDX-License-Identifier: GPL-2.0 */
/* The record layer after the handshake: keys to kTLS, and the records that are not the program's. */
#ifndef RIPRAP_RECORD_H
#define RIPRAP_RECORD_H

#include <linux/net.h>
#include <linux/types.h>

struct riprap_socket;
struct tls13;

enum riprap_record_control {
	RIPRAP_RECORD_NONE	= 0,	/* nothing of ours stands at the head of the queue */
	RIPRAP_RECORD_HANDLED	= 1,	/* one was dealt with: read again */
	RIPRAP_RECORD_END	= 2,	/* close_notify: end of file */
};

/*
 * Puts the socket under kTLS, still without keys. Before the handshake, not after it: kTLS takes no socket
 * whose peer has already sent its FIN, and a client may do so right behind its Finished. Under rs->lock.
 */
int riprap_record_prepare(struct riprap_socket *rs);
/* After the last operation of the program's socket. */
void riprap_record_release(struct riprap_socket *rs);
/*
 * Hands the engine's traffic keys to kTLS. socket->ops stays ours throughout; `inner` is kTLS's afterwards.
 * 0 or -errno of kTLS: the connection is then useless. Under rs->lock.
 */
int riprap_record_install(struct riprap_socket *rs, struct tls13 *engine);
/* setsockopt(SOL_TCP, TCP_ULP) and SOL_TLS of a program on a plain connection of its own. */
int riprap_record_setsockopt(struct riprap_socket *rs, int level, int name, sockptr_t value, unsigned int len);
/*
 * One record of this content type, at once or not at all: 0, -EBUSY while a writer is in kTLS, -EAGAIN when there is
 * no room, or -errno. Under rs->lock or in an operation of the open socket.
 */
int riprap_record_send(struct riprap_socket *rs, u8 type, const void *data, size_t len);
/* Sends the record that MSG_MORE left open; returns as riprap_record_send(). */
int riprap_record_flush(struct riprap_socket *rs);
/*
 * A NewSessionTicket, before the server's first byte and never alone: a client that only writes and then
 * closes would answer it with a reset, and what it wrote would be lost. -EBUSY: to be tried again, as
 * riprap_record_send(); else nothing more is to be done.
 */
int riprap_record_send_ticket(struct riprap_socket *rs);
/*
 * What kTLS said to a reader: passed through, unless it means that a record of the peer did not decrypt or was
 * none. Then the peer is told, the connection reset, and the program gets -ECONNRESET, as TCP's words go.
 */
int riprap_record_error(struct riprap_socket *rs, int error);
/* close_notify, once, behind all that was sent, even when the send buffer is full. */
void riprap_record_close(struct riprap_socket *rs);
/* At close: takes away what stands unread but is not the program's, for which TCP would reset the connection. */
void riprap_record_drain(struct riprap_socket *rs);
/* Reads and acts on what stands at the head, if it is not the program's. enum riprap_record_control or -errno. */
int riprap_record_control(struct riprap_socket *rs, struct socket *socket);

/* A piece of a handshake message was read and the rest was not: no other record may come (RFC 8446 section 5.1). */
bool riprap_record_is_in_message(const struct riprap_socket *rs);

/* Once, before any hook: makes kTLS copy the plain operations, so that it never copies ours. -EOPNOTSUPP without kTLS. */
int riprap_record_init(const struct proto_ops **v6);
void riprap_record_exit(void);

#endif
