// SPDX-License-Identifier: Apache-2.0
/*
 * A daemon that dies, falls silent or is late at each step of each exchange while a program connects: what the program gets,
 * and that a daemon after it finds everything usable. This program is the daemon; its children are the programs.
 *
 *	fault               all cases; "fault: N passed, N failed" at the end
 *	fault daemon        no cases: says "ready", and answers well whatever is named riprap-child, until it is killed
 *	riprap-child …      a process under test, named by a filter of the table
 */
#define _GNU_SOURCE
#include <sys/stat.h>

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

static const char *const step_name[] = {
	"before ASSIGN", "before SVID", "after ASSIGN, before KEY is read", "before VERIFIED (of the server)",
	"before VERIFIED (of the client)", "in the middle of a table", "before the ACK of TRUST",
	"after RENEW, before KEY is read", "before the next SVID",
};

enum manner { DIES, FALLS_SILENT, IS_LATE };

/* ---- the daemon ---- */

static struct child server, client;
static enum step stop_at = NEVER;
static enum manner manner;
static bool stopped;
static int late_ms;		/* how long the frame at `stop_at` lies there */
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
	stopped = true;
	if (manner == DIES) {
		close(device.fd);
		device.fd = -1;
	}
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

static uint64_t generation;

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

static void start_daemon(void)
{
	const struct riprap_start start = {
		.abi = RIPRAP_ABI_VERSION, .unknown_mode = RIPRAP_MODE_ENFORCE, .attest_timeout_ms = ATTEST_MS,
		.handshake_timeout_ms = HANDSHAKE_MS, .sniff_timeout_ms = 500,
	};
	const struct riprap_trust trust = { .generation = ++generation };

	device_open();
	stop_at = NEVER;
	stopped = false;
	last_flow = no_records;
	CHECK(PUT(RIPRAP_START, start) == 0 && wait_ack(RIPRAP_ACK_START));
	send_table(true);
	CHECK(PUT(RIPRAP_TRUST, trust) == 0 && wait_ack(RIPRAP_ACK_TRUST));
	serve_for(200);
}

static void stop_daemon(void)
{
	if (device.fd >= 0)
		close(device.fd);
	device.fd = -1;
}

/* The client connects while the daemon works, as far as it is let. error -1: no result in time. */
static struct result connect_once(void)
{
	struct result result = { .error = -1 };
	long end = now_ms() + ATTEST_MS + HANDSHAKE_MS + ANSWER_MS;

	if (write(client.in, "c", 1) != 1)
		return result;
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

/* ---- cases ---- */

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
static void expect_recovery(const char *after)
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

static void interrupt_tables_and_trust(enum step step)
{
	const struct riprap_trust trust = { .generation = ++generation };

	if (step == AT_TABLE)
		send_table(false);
	else if (step == AT_TRUST)
		PUT(RIPRAP_TRUST, trust);
	else
		return;
	stops_at(step);
}

static void case_stop(enum step step, enum manner how, int want, int patience_ms, const struct outcomes *flows)
{
	struct result result;

	start_daemon();
	stop_at = step;
	manner = how;
	/* One of its own for each: nothing is known of it, and no daemon before this one has heard of it. */
	client = start_child("client");
	interrupt_tables_and_trust(step);
	result = connect_once();
	printf("step %s %s: %s after %d ms\n", step_name[step], how == DIES ? "dead" : "silent",
	       result.error > 0 ? strerrorname_np(result.error) : result.error ? "no result" : "0", result.ms);
	CHECK_THAT(stopped, "the exchange never came to \"%s\"", step_name[step]);
	/* Both ends wait for the silent daemon, and the one that gives up first resets the other. */
	CHECK_THAT(result.error == want || (want == ETIMEDOUT && result.error == ECONNRESET), "daemon stops %s: %s, not %s", step_name[step], strerror(result.error),
		   strerror(want));
	CHECK_THAT(result.ms <= patience_ms + SLOW_MS, "daemon stops %s: %d ms", step_name[step], result.ms);
	expect_flows(step_name[step], flows);
	expect_recovery(step_name[step]);
	CHECK_THAT(end_child(&client), "a client cannot be killed after \"%s\"", step_name[step]);
	stop_daemon();
}

static void case_killed_while_waiting(enum step step)
{
	start_daemon();
	stop_at = step;
	manner = FALLS_SILENT;
	client = start_child("client");
	if (write(client.in, "c", 1) == 1)
		while (!stopped && device_next(ANSWER_MS))
			act();
	CHECK_THAT(end_child(&client), "a client that waits %s cannot be killed", step_name[step]);
	stop_daemon();
}

/* In time, the program waits; too late, it gets its errno, and what was said late holds for the next connection. */
static void case_late(enum step step, int ms, int want, const struct outcomes *flows)
{
	struct result result;

	start_daemon();
	stop_at = step;
	manner = IS_LATE;
	late_ms = ms;
	client = start_child("client");
	result = connect_once();
	CHECK_THAT(stop_at == NEVER, "the exchange never came to \"%s\"", step_name[step]);
	CHECK_THAT(result.error == want || (want == ETIMEDOUT && result.error == ECONNRESET), "%d ms %s: %s", ms, step_name[step],
		   strerror(result.error));
	CHECK_THAT(want || result.ms >= ms, "%d ms %s: answered after %d", ms, step_name[step], result.ms);
	expect_flows(step_name[step], flows);
	CHECK_THAT(connect_once().error == 0, "no connection follows %d ms %s", ms, step_name[step]);
	expect_flows("the connection after", &served);
	CHECK(end_child(&client));
	stop_daemon();
}

/* An SVID that nobody renews serves until it ends; then the daemon has the attest timeout, once, and after that it is refused. */
static void case_renewal(enum step step, enum manner how, int patience_ms, const struct outcomes *flows)
{
	const char *at = step_name[step];
	struct result result;
	int tries;

	start_daemon();
	svid_s = SHORT_S;
	client = start_child("client");
	CHECK_THAT(connect_once().error == 0, "before it stops %s", at);
	expect_flows("the first connection", &served);
	stop_at = step;
	manner = how;
	PUT(RIPRAP_RENEW, ((struct riprap_renew){ .instance = of_client }));
	if (step == AT_RENEW)
		stops_at(step);
	while (!stopped && device_next(ANSWER_MS))
		act();
	CHECK_THAT(connect_once().error == 0, "the SVID in use does not go on when the daemon stops %s", at);
	expect_flows(at, how == DIES ? &no_records : &served);
	svid_s = 300;
	sleep(SHORT_S);
	for (tries = 0; tries < 2; tries++, patience_ms = 0) {
		result = connect_once();
		CHECK_THAT(result.error == EACCES, "daemon stops %s: %s", at, strerror(result.error));
		CHECK_THAT(result.ms >= patience_ms && result.ms < (tries ? ATTEST_MS : patience_ms + SLOW_MS), "daemon stops %s: %d ms", at, result.ms);
		expect_flows(at, flows);
	}
	expect_recovery(at);
	CHECK(end_child(&client));
	stop_daemon();
}

static void run_cases(void)
{
	enum step step;

	/* Younger than the table: nobody adopts it here, and an accept() that waits when the first table comes is TCP's alone. */
	start_daemon();
	server = start_child("server");
	serve_for(500);
	stop_daemon();
	/* Who it is cannot be said any more: the mode for the unknown, which is enforce. */
	case_stop(AT_PROCESS, DIES, EACCES, 0, &no_records);
	case_stop(AT_ASSIGNED, DIES, EACCES, 0, &no_records);
	case_stop(AT_KEY, DIES, EACCES, 0, &no_records);
	case_stop(AT_VERIFY_SERVER, DIES, EACCES, 0, &no_records);
	case_stop(AT_VERIFY_CLIENT, DIES, ECONNRESET, 0, &no_records);
	/* Half a table, or an answer that nobody reads, changes nothing for a process that is known. */
	case_stop(AT_TABLE, DIES, EACCES, 0, &no_records);
	case_stop(AT_TRUST, DIES, EACCES, 0, &no_records);

	case_stop(AT_PROCESS, FALLS_SILENT, EACCES, ATTEST_MS, &unknown);
	case_stop(AT_ASSIGNED, FALLS_SILENT, EACCES, ATTEST_MS, &without_identity);
	case_stop(AT_KEY, FALLS_SILENT, EACCES, ATTEST_MS, &without_identity);
	case_stop(AT_VERIFY_SERVER, FALLS_SILENT, ETIMEDOUT, HANDSHAKE_MS, &both_time_out);
	case_stop(AT_VERIFY_CLIENT, FALLS_SILENT, ECONNRESET, HANDSHAKE_MS, &server_times_out);

	for (step = AT_PROCESS; step <= AT_VERIFY_CLIENT; step++)
		case_late(step, ATTEST_MS / 2, 0, &served);
	case_late(AT_PROCESS, ATTEST_MS + LATE_MS, EACCES, &unknown);
	case_late(AT_KEY, ATTEST_MS + LATE_MS, EACCES, &without_identity);
	case_late(AT_VERIFY_SERVER, HANDSHAKE_MS + LATE_MS, ETIMEDOUT, &both_time_out);

	case_renewal(AT_RENEW, DIES, 0, &no_records);
	case_renewal(AT_NEXT_KEY, FALLS_SILENT, ATTEST_MS, &without_identity);

	for (step = AT_PROCESS; step <= AT_VERIFY_CLIENT; step++)
		case_killed_while_waiting(step);
	CHECK(end_child(&server));
}

static void answer_others(void)
{
	for_others = true;
	start_daemon();
	printf("ready\n");
	for (;;)
		if (device_next(1000))
			act();
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[0], "riprap-child"))
		return !strcmp(argv[1], "server") ? be_server() : be_client();
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && !strcmp(argv[1], "daemon"))
		answer_others();
	if (system("cp /proc/$PPID/exe " CHILD " && chmod 755 " CHILD " && ip link set lo up")) {
		printf("FAIL cannot prepare " CHILD "\n");
		return 1;
	}
	run_cases();
	printf("fault: %d passed, %d failed\n", passed, failed);
	return failed != 0;
}
