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

#include "fault_daemon.h"

static const char *const step_name[] = {
	"before ASSIGN", "before SVID", "after ASSIGN, before KEY is read", "before VERIFIED (of the server)",
	"before VERIFIED (of the client)", "in the middle of a table", "before the ACK of TRUST",
	"after RENEW, before KEY is read", "before the next SVID",
};

/* ---- cases ---- */

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
	prepare_child();
	run_cases();
	printf("fault: %d passed, %d failed\n", passed, failed);
	return failed != 0;
}
