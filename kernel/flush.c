// SPDX-License-Identifier: GPL-2.0
/* What a program holds back by MSG_MORE: who sends it, and when. */
#include <linux/net.h>
#include <net/sock.h>

#include "compat.h"
#include "record.h"
#include "socket.h"
#include "work.h"

#define MORE_MS		200	/* as long as TCP holds back a short segment under TCP_CORK */

/*
 * TCP sends what MSG_MORE held back after 200 ms; kTLS would keep its record open for good, and a program
 * that waits for the answer would wait for ever.
 */
void riprap_stream_flush_later(struct riprap_socket *rs)
{
	queue_delayed_work(riprap_flush_workqueue, &rs->flush, msecs_to_jiffies(MORE_MS));
}

/* Whoever holds kTLS's own lock is about to send. */
static void flush_now(struct riprap_socket *rs)
{
	int err;

	if (riprap_socket_phase(rs) != RIPRAP_PHASE_MUTUAL)
		return;
	err = riprap_record_flush(rs);
	if (err == -EBUSY || err == -EAGAIN)
		riprap_stream_flush_later(rs);
}

void riprap_stream_flush(struct work_struct *work)
{
	struct riprap_socket *rs = container_of(to_delayed_work(work), struct riprap_socket, flush);

	if (!riprap_socket_trylock(rs)) {
		riprap_stream_flush_later(rs);
		return;
	}
	flush_now(rs);
	mutex_unlock(&rs->lock);
}

#ifdef HAVE_PROTO_OPS_SPLICE_EOF
void riprap_stream_splice_eof(struct socket *socket)
{
	struct riprap_socket *rs = riprap_socket_of(socket);

	/* kTLS's own would wait for another thread's send, and no signal would end that. */
	if (riprap_socket_phase(rs) == RIPRAP_PHASE_MUTUAL) {
		flush_now(rs);
	} else if (riprap_stream_enter_plain(rs)) {
		if (rs->inner->splice_eof)
			rs->inner->splice_eof(socket);
		riprap_stream_leave_plain(rs);
	}
}
#endif
