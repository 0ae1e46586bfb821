/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon of fault.c and fault_command.c, which fails where it is told to, the client that connects meanwhile, and what must be
 * true of both. Its children are the programs; a case has one of its own, so that nothing is known of it.
 */
#ifndef FAULT_DAEMON_H
#define FAULT_DAEMON_H

#include "device.h"
#include "fault_child.h"

#define CLIENT		7	/* subjects of the table */
#define SERVER		8
#define CLIENT_ID	"spiffe://fault.test/client"
#define SERVER_ID	"spiffe://fault.test/server"
#define ATTEST_MS	3000
#define HANDSHAKE_MS	6000
#define SHORT_S		8	/* an SVID that ends in the middle of a case, and not before two connections */
#define LATE_MS		2000	/* how much past its time a late answer of the daemon comes */
#define SLOW_MS		4000	/* ... and one to the program may come: emulation is slow, and the machine has other work */

/* Where the daemon stops. Of the client unless the name says otherwise. */
enum step {
	AT_PROCESS, AT_KEY, AT_ASSIGNED, AT_VERIFY_SERVER, AT_VERIFY_CLIENT, AT_TABLE, AT_TRUST, AT_RENEW, AT_NEXT_KEY, NEVER,
};

enum manner { DIES, FALLS_SILENT, IS_LATE };

/* ---- the daemon ---- */

static struct child server, client;
static enum step stop_at = NEVER;
static enum manner manner;
static bool stopped;
static int attest_ms = ATTEST_MS;
static int late_ms;		/* how long the frame at `stop_at` lies there */
static int hold_ms;		/* how long everything lies there once the client has begun its next deed */
static bool was_draining;	/* when it came */
static int svid_s = 300;	/* how long the client's SVIDs last */
static uint64_t of_client;	/* its instance */
static bool for_others;		/* whom it answers is not ours, and is client and server in one */

/* How a flow record ends; all zero: there is none. */
struct outcome { int state, reason, error; };
struct outcomes { struct outcome client, server; };

static struct outcomes last_flow;	/* since it was cleared */

#define DENIED(why)	{ RIPRAP_FLOW_DENIED, RIPRAP_REASON_##why, EACCES }
static const struct outcomes no_records, served = {
	.client = { RIPRAP_FLOW_CLOSED, RIPRAP_REASON_RULE }, .server = { RIPRAP_FLOW_CLOSED, RIPRAP_REASON_RULE },
}, unknown = { .client = DENIED(UNKNOWN_PROCESS) }, without_identity = { .client = DENIED(NO_IDENTITY) }, both_time_out = {
	.client = { RIPRAP_FLOW_FAILED, RIPRAP_REASON_TIMEOUT, ETIMEDOUT },
	.server = { RIPRAP_FLOW_FAILED, RIPRAP_REASON_TIMEOUT, ECONNRESET },
}, server_times_out = {
	.client = { RIPRAP_FLOW_CLOSED, RIPRAP_REASON_RULE },
	.server = { RIPRAP_FLOW_FAILED, RIPRAP_REASON_TIMEOUT, ECONNRESET },
};

static bool is_clients(uint64_t instance)
{
	if (device.head.type == RIPRAP_PROCESS && device.body.facts.pid == (uint32_t)client.pid)
		of_client = device.body.facts.instance;
	return instance == of_client;
}

static void stop_daemon(void)
{
	if (device.fd >= 0)
		close(device.fd);
	device.fd = -1;
}

/* Dead or silent from here on. */
static void stop(void)
{
	stopped = true;
	if (manner == DIES)
		stop_daemon();
}

/* True when the daemon is to stop instead of going on from here. */
static bool stops_at(enum step step)
{
	if (stop_at != step || stopped)
		return stopped;
	if (manner == IS_LATE) {
		stop_at = NEVER;
		usleep(late_ms * 1000);
		return false;
	}
	stop();
	return true;
}

static void on_process(void)
{
	const struct riprap_process_facts *facts = &device.body.facts;
	bool of_client = is_clients(facts->instance);

	if (!(facts->flags & RIPRAP_PROCESS_WANTS_ANSWER) || (of_client && stops_at(AT_PROCESS)))
		return;
	put_assign(facts->instance, of_client ? CLIENT : SERVER, of_client ? CLIENT_ID : SERVER_ID);
	if (of_client)
		stops_at(AT_ASSIGNED);
}

static void on_key(void)
{
	const struct riprap_key key = device.body.key;

	if (!is_clients(key.instance))
		put_svid(&key, false, for_others ? 86400 : 300);
	else if (!stops_at(AT_KEY) && !stops_at(AT_NEXT_KEY))
		put_svid(&key, false, for_others ? 86400 : svid_s);
}

static void on_verify(void)
{
	bool of_server = device.body.verify.peer_is_server;

	if (!stops_at(of_server ? AT_VERIFY_SERVER : AT_VERIFY_CLIENT))
		put_verified(of_server || for_others ? SERVER_ID : CLIENT_ID);
}

static void on_flow(void)
{
	const struct riprap_flow_event *flow = &device.body.flow;

	struct outcome *last = flow->flags & RIPRAP_FLOW_INBOUND ? &last_flow.server : &last_flow.client;

	if (flow->state != RIPRAP_FLOW_OPEN)
		*last = (struct outcome){ flow->state, flow->reason, flow->error };
	CHECK_THAT(flow->tls == RIPRAP_TLS_MUTUAL || flow->state != RIPRAP_FLOW_OPEN, "a flow is open in the clear");
}

static void act(void)
{
	switch (device.head.type) {
	case RIPRAP_PROCESS:
		on_process();
		break;
	case RIPRAP_KEY:
		on_key();
		break;
	case RIPRAP_VERIFY:
		on_verify();
		break;
	case RIPRAP_FLOW:
		on_flow();
		break;
	}
}

/* Falling silent is to answer nothing: what became of the flows is still read. */
static void act_unless_stopped(void)
{
	if (!stopped || device.head.type == RIPRAP_FLOW)
		act();
}

static void serve_for(int ms)
{
	long end = now_ms() + ms;

	while (now_ms() < end && device.fd >= 0)
		if (device_next(20))
			act_unless_stopped();
}

static bool wait_ack(uint32_t what)
{
	while (device.fd >= 0 && device_next(ANSWER_MS)) {
		act();
		if (device.head.type == RIPRAP_ACK && device.body.ack.what == what)
			return device.body.ack.error == 0;
	}
	return false;
}

static size_t build_table(uint8_t *out, uint64_t generation)
{
	static const char strings[] = "riprap-child";
	const struct riprap_table head = {
		.magic = RIPRAP_TABLE_MAGIC, .version = RIPRAP_ABI_VERSION, .generation = generation,
		.subjects = 2, .rules = 3, .filters = 1, .string_bytes = sizeof(strings) - 1,
	};
	const struct riprap_table_subject subjects[] = {
		{ .subject = CLIENT, .egress_mode = RIPRAP_MODE_ENFORCE },
		{ .subject = SERVER, .egress_mode = RIPRAP_MODE_ENFORCE, .ingress_mode = RIPRAP_MODE_ENFORCE },
	};
	const struct riprap_table_rule rules[] = {
		{ .number = 31, .subject = CLIENT, .port = PORT, .port_bits = 16, .action = RIPRAP_ACTION_MUTUAL },
		{ .number = 32, .subject = SERVER, .port = PORT, .port_bits = 16, .action = RIPRAP_ACTION_MUTUAL },
		{ .number = 33, .subject = SERVER, .port = PORT, .port_bits = 16, .inbound = 1,
		  .action = RIPRAP_ACTION_MUTUAL },
	};
	const struct riprap_table_filter filter = { .has = RIPRAP_FILTER_NAME, .name = 0, .name_len = 12 };
	const struct { const void *data; size_t len; } parts[] = {
		{ &head, sizeof(head) }, { subjects, sizeof(subjects) }, { rules, sizeof(rules) },
		{ &filter, sizeof(filter) }, { strings, sizeof(strings) - 1 },
	};
	size_t len = 0, i;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); len += parts[i].len, i++)
		memcpy(out + len, parts[i].data, parts[i].len);
	return len;
}

static uint64_t generation;	/* of tables and trust: what is in force, whoever said it */

static void send_table(bool to_its_end)
{
	uint8_t table[4096];
	size_t len = build_table(table, ++generation);
	const struct riprap_table_begin begin = { .generation = generation, .length = len };
	const struct riprap_table_data data = { .generation = generation, .offset = 0, .length = 50 };

	if (to_its_end) {
		put_table(generation, table, len);
		CHECK(wait_ack(RIPRAP_ACK_TABLE));
		return;
	}
	PUT(RIPRAP_TABLE_BEGIN, begin);
	device_put(RIPRAP_TABLE_DATA, &data, sizeof(data), table, 50);
}

/* Hears what is in force. */
static void hear_hello(void)
{
	const struct riprap_hello *hello = &device.body.hello;

	CHECK(device_next(ANSWER_MS) && device.head.type == RIPRAP_HELLO);
	was_draining = hello->draining;
	if (generation < hello->table_generation)
		generation = hello->table_generation;
	if (generation < hello->trust_generation)
		generation = hello->trust_generation;
}

/* With START written, and nothing read but HELLO. */
static void open_daemon(void)
{
	const struct riprap_start start = {
		.abi = RIPRAP_ABI_VERSION, .unknown_mode = RIPRAP_MODE_ENFORCE, .attest_timeout_ms = attest_ms,
		.handshake_timeout_ms = HANDSHAKE_MS, .sniff_timeout_ms = 500,
	};

	device_open();
	hear_hello();
	stop_at = NEVER;
	stopped = false;
	last_flow = no_records;
	CHECK(PUT(RIPRAP_START, start) == 0);
}

static void start_daemon(void)
{
	struct riprap_trust trust;

	open_daemon();
	CHECK(wait_ack(RIPRAP_ACK_START));
	send_table(true);
	trust.generation = ++generation;
	CHECK(PUT(RIPRAP_TRUST, trust) == 0 && wait_ack(RIPRAP_ACK_TRUST));
	serve_for(200);
}

/* The client does a deed of its while the daemon works, as far as it is let. error -1: no result in time. */
static struct result ask_client(char deed)
{
	struct result result = { .error = -1 };
	long end = now_ms() + ATTEST_MS + HANDSHAKE_MS + ANSWER_MS;

	if (write(client.in, &deed, 1) != 1)
		return result;
	usleep(hold_ms * 1000);
	hold_ms = 0;
	while (now_ms() < end) {
		struct pollfd done = { .fd = client.out, .events = POLLIN };

		if (poll(&done, 1, 5) > 0) {
			if (read(client.out, &result, sizeof(result)) != sizeof(result))
				result.error = -2;
			break;
		}
		if (device.fd >= 0 && device_next(5))
			act_unless_stopped();
	}
	serve_for(200);
	return result;
}

static struct result connect_once(void)
{
	return ask_client('c');
}

static bool is_same(const struct outcome *a, const struct outcome *b)
{
	return a->state == b->state && a->reason == b->reason && a->error == b->error;
}

static void expect_end(const char *after, const char *end, const struct outcome *got, const struct outcome *want)
{
	CHECK_THAT(is_same(got, want), "%s, the %s's flow: state %d reason %d error %d, not %d %d %d", after, end, got->state,
		   got->reason, got->error, want->state, want->reason, want->error);
}

/* The records come to a daemon that still reads; the last of them perhaps after the program has its errno. */
static void expect_flows(const char *after, const struct outcomes *want)
{
	long end = now_ms() + ANSWER_MS;

	while (device.fd >= 0 && now_ms() < end && ((want->client.state && !last_flow.client.state) ||
						    (want->server.state && !last_flow.server.state)))
		serve_for(100);
	expect_end(after, "client", &last_flow.client, &want->client);
	expect_end(after, "server", &last_flow.server, &want->server);
	last_flow = no_records;
}

/* A daemon that has said and heard all: everything must work, whatever came before. */
static inline void expect_recovery(const char *after)
{
	struct result result;

	stop_daemon();
	start_daemon();
	/* What ended while nobody listened was told to nobody; the server's end may have come later. */
	expect_end(after, "former client", &last_flow.client, &no_records.client);
	last_flow = no_records;
	result = connect_once();
	CHECK_THAT(result.error == 0, "after %s the next daemon's connection ends with %s", after, strerror(result.error));
	expect_flows(after, &served);
}

#endif
