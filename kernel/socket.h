/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A TCP socket of a managed process: its own proto_ops, and what stands behind
 * them. sk->sk_prot and sk->sk_user_data are never ours.
 */
#ifndef RIPRAP_SOCKET_H
#define RIPRAP_SOCKET_H

#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/refcount.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <net/sock.h>

#include "abi.h"
#include "tls13/tls13.h"

struct riprap_flow;
struct riprap_handshake;

enum riprap_phase {
	RIPRAP_PHASE_IDLE,	/* not connected; bound or listening, perhaps */
	RIPRAP_PHASE_UNDER_WAY,	/* verdict, TCP or handshake pending: programs wait */
	RIPRAP_PHASE_PLAIN,	/* `inner` is plain TCP, by rule or because the process is unmanaged */
	RIPRAP_PHASE_MUTUAL,	/* `inner` is kTLS */
	RIPRAP_PHASE_FAILED,	/* TCP was reset; nothing of its queue reaches the program */
	RIPRAP_PHASE_CLOSED,	/* released; `socket` is gone */
};

enum riprap_socket_bit {
	RIPRAP_SOCKET_KICKED,		/* something happened that the handshake waits for */
	RIPRAP_SOCKET_CLOSE_SENT,	/* our close_notify is out */
	RIPRAP_SOCKET_CLOSE_SEEN,	/* the peer's close_notify was read: EOF */
	RIPRAP_SOCKET_READ_SHUT,	/* the program called shutdown(SHUT_RD) */
	RIPRAP_SOCKET_TICKET_DUE,	/* a server's ticket goes out with its first byte */
	RIPRAP_SOCKET_LOOK_AHEAD,	/* tickets may stand before the first byte: poll() looks */
	RIPRAP_SOCKET_PASSTHROUGH,	/* the program's first bytes must look like TLS */
	RIPRAP_SOCKET_TRUNCATED,	/* FIN came without close_notify */
	RIPRAP_SOCKET_DOOMED,		/* to be cut as soon as its locks are free: nothing passes any more */
};

struct riprap_socket {
	struct proto_ops ops;			/* what socket->ops points at; a copy of `plain` with ours put in */
	const struct proto_ops *plain;		/* inet_stream_ops or inet6_stream_ops */
	const struct proto_ops *inner;		/* what ours hand on to: `plain` or kTLS's; set before `phase` */
	struct socket *socket;			/* `lock`; NULL in CLOSED */
	struct sock *sk;			/* held */
	refcount_t ref;
	struct mutex lock;			/* orders changes of `phase`; taken outside the socket lock */
	u8 phase;				/* enum riprap_phase; written under `lock`, read with acquire */
	u8 passthrough_seen;			/* bytes of the program's first record header that were checked */
	unsigned long flags;			/* enum riprap_socket_bit */
	struct riprap_handshake *handshake;	/* `lock`; set in UNDER_WAY */
	struct task_struct *approver;		/* whose connect of ours is in tcp_prot.connect; compared alone */
	struct socket *stand_in;		/* `lock`; kept to the end once kTLS had it */
	struct riprap_flow *flow;		/* `lock`; constant while PLAIN or MUTUAL */
	struct tls13_after *after;		/* `control_lock`; what tickets and rekeying need */
	struct tls13_post post;			/* `control_lock`; messages that go on in the next record */
	struct mutex control_lock;		/* one reader of control records */
	atomic64_t sent, received;		/* payload bytes of the flow */
	struct delayed_work work;		/* drives the handshake when no program does */
	u8 retry_shift;				/* of `work`, which alone uses it */
	struct delayed_work cut;		/* pending with a reference; what DOOMED asks for */
	u8 cut_reason;				/* written before DOOMED */
	u8 cut_retries;				/* of `cut`, which alone uses it */
	struct delayed_work flush;		/* sends what MSG_MORE held back */
	struct {				/* sk's own callbacks; sk_callback_lock, and set while UNDER_WAY */
		void (*data_ready)(struct sock *sk);
		void (*state_change)(struct sock *sk);
		void (*write_space)(struct sock *sk);
	} saved;
	wait_queue_head_t done;			/* `phase` left UNDER_WAY, or a driver was kicked */
	atomic_t drivers;			/* program threads that drive the handshake in their own context */
	struct list_head node;			/* all of them; the list's own lock */
	atomic_t inside;			/* threads in an operation of a PLAIN socket: no other connection begins meanwhile */
	int low_water;				/* the program's SO_RCVLOWAT while UNDER_WAY; socket lock */
	struct rcu_head rcu;
};

/* As every operation has to see it; `phase` itself under `lock`. */
static inline u8 riprap_socket_phase(const struct riprap_socket *rs)
{
	if (unlikely(test_bit(RIPRAP_SOCKET_DOOMED, &rs->flags)))
		return RIPRAP_PHASE_FAILED;
	return smp_load_acquire(&rs->phase);
}

/* The state behind a socket that has our operations, or NULL. */
struct riprap_socket *riprap_socket_of(const struct socket *socket);
/*
 * Gives `socket`, whose operations are still plain, ours. The caller makes sure that nobody else changes
 * socket->ops. `pinned`: the reference on the module that goes with socket->ops is already there or will be
 * taken by the caller's caller. -EOPNOTSUPP (not plain TCP), -EALREADY, -ENOMEM, -ENODEV.
 */
struct riprap_socket *riprap_socket_attach(struct socket *socket, bool pinned);
void riprap_socket_get(struct riprap_socket *rs);
void riprap_socket_put(struct riprap_socket *rs);
/*
 * Takes `lock` when neither that nor the socket lock is held. A program can hold both for as long as it likes: TCP
 * copies from its memory under the socket lock, and the memory may never come. Who works for others waits for neither.
 */
bool riprap_socket_trylock(struct riprap_socket *rs);
/* Ends a live connection: alert if it can be sent at once, then RST. In the context of a program of the socket's. */
void riprap_socket_cut(struct riprap_socket *rs, u8 reason);
/* The same for a socket of others: no operation that begins from here on passes anything. Waits for nobody, atomic-safe. */
void riprap_socket_doom(struct riprap_socket *rs, u8 reason);
/* Under `lock`: a cut that is still to be done is done now. */
void riprap_socket_settle(struct riprap_socket *rs);
/* Resets TCP with this positive errno and forgets what it queued. Under `lock`. */
void riprap_socket_reset(struct riprap_socket *rs, int error);
/* shutdown(2) of an open connection, close_notify first. Under `lock`. */
int riprap_socket_shut(struct riprap_socket *rs, int how);
void riprap_socket_set_phase(struct riprap_socket *rs, u8 phase);
/* The plain operations of `sk`'s family, or NULL while no IPv6 socket has been seen. */
const struct proto_ops *riprap_socket_plain_ops(const struct sock *sk);

int riprap_socket_init(void);
void riprap_socket_exit(void);

/* stream.c, flush.c and poll.c: bytes in and out, and when */
/*
 * Around an operation of TCP's own. It may sleep before it takes the socket lock, on a fault of the program's memory
 * too. The socket must not have become another connection by then, where the bytes would be in the clear: none begins
 * while somebody is inside. False: look at the phase again.
 */
bool riprap_stream_enter_plain(struct riprap_socket *rs);
void riprap_stream_leave_plain(struct riprap_socket *rs);
int riprap_stream_sendmsg(struct socket *socket, struct msghdr *msg, size_t len);
int riprap_stream_recvmsg(struct socket *socket, struct msghdr *msg, size_t len, int flags);
ssize_t riprap_stream_splice_read(struct socket *socket, loff_t *position, struct pipe_inode_info *pipe, size_t len,
				  unsigned int flags);
ssize_t riprap_stream_sendpage(struct socket *socket, struct page *page, int offset, size_t size, int flags);
void riprap_stream_splice_eof(struct socket *socket);
__poll_t riprap_stream_poll(struct file *file, struct socket *socket, struct poll_table_struct *wait);
void riprap_stream_flush(struct work_struct *work);
void riprap_stream_flush_later(struct riprap_socket *rs);
int riprap_stream_available(struct riprap_socket *rs, struct socket *socket);

#endif
