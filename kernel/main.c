// SPDX-License-Identifier: GPL-2.0
/*
 * The module's ladder and its mirror. Rooms come up before whoever uses them: the
 * socket hooks second to last, /dev/riprap last, and down the other way.
 */
#define pr_fmt(fmt) "riprap: " fmt

#include <linux/module.h>
#include <net/sock.h>

#include "device.h"
#include "ecdsa.h"
#include "flow.h"
#include "peer.h"
#include "process.h"
#include "socket.h"
#include "table.h"
#include "ticket.h"
#include "tls13_port.h"
#include "work.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* A rung: `down` undoes `up`. */
static const struct rung {
	const char *name;
	int (*up)(void);
	void (*down)(void);
} rungs[] = {
	{ "work queues", riprap_work_init, riprap_work_exit },
	{ "P-256", riprap_ecdsa_init, NULL },
	{ "rule table", riprap_table_init, riprap_table_exit },
	{ "peer cache", riprap_peer_init, riprap_peer_exit },
	{ "TLS primitives", riprap_crypto_init, riprap_crypto_exit },
	{ "tickets", riprap_ticket_init, riprap_ticket_exit },
	{ "process tracking", riprap_process_init, riprap_process_exit },
	{ "flows", riprap_flow_init, riprap_flow_exit },
	{ "socket hooks and kTLS", riprap_socket_init, riprap_socket_exit },
	{ "device", riprap_device_publish, riprap_device_unpublish },
};

static void climb_down(size_t n)
{
	while (n-- > 0)
		if (rungs[n].down)
			rungs[n].down();
}

static int __init riprap_init(void)
{
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(rungs); i++) {
		err = rungs[i].up();
		if (err) {
			pr_err("cannot bring up %s: %d\n", rungs[i].name, err);
			climb_down(i);
			return err;
		}
	}
	return 0;
}

static void __exit riprap_exit(void)
{
	s64 left;

	climb_down(ARRAY_SIZE(rungs));
	left = atomic64_read(&riprap_counters.memory_bytes);
	if (left)
		pr_err("bug: %lld bytes are left of what was counted\n", left);
}

module_init(riprap_init);
module_exit(riprap_exit);

MODULE_DESCRIPTION("Holds each process to its SPIFFE identity");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
MODULE_SOFTDEP("pre: tls");
