/* SPDX-License-Identifier: GPL-2.0 */
/* The bounds on handshakes: of those under way, and of the workers that compute them. */
#ifndef RIPRAP_CROWD_H
#define RIPRAP_CROWD_H

#include <linux/list.h>
#include <linux/types.h>

struct riprap_handshake;
struct task_struct;

/* A step in a worker. */
struct riprap_turn {
	struct list_head node;
	unsigned long since;		/* jiffies */
	struct task_struct *worker;
	u8 identity;			/* by a hash of its number */
};

/*
 * Counts one more of this direction. Past RIPRAP_HANDSHAKES_MAX the oldest that gives way is told to end (`crowded`), and
 * its memory is freed. False when none does. Waits for nobody.
 */
bool riprap_crowd_enter(bool server);
/* One that was counted and never made. */
void riprap_crowd_forget(bool server);
/*
 * Under the socket's lock: waits for its peer from here on, and gives way when it is the oldest of too many. Inbound
 * by install; outbound once its SYN is out, for until then it waits for nobody but the daemon.
 */
void riprap_crowd_give_way(struct riprap_handshake *handshake);
/* Is not counted any more, though it may not have ended. */
void riprap_crowd_leave(struct riprap_handshake *handshake);

/*
 * Around a step in a worker: one that takes too long waits for a program that holds its socket, and gets another worker
 * beside it. False: RIPRAP_HANDSHAKE_WORKERS_HELD wait for programs of this identity, and there is no turn now.
 */
bool riprap_crowd_begin_turn(struct riprap_turn *turn, u32 subject);
void riprap_crowd_end_turn(struct riprap_turn *turn);

/* After the last socket. */
void riprap_crowd_exit(void);

#endif
