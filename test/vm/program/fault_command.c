// SPDX-License-Identifier: Apache-2.0
/*
 * A daemon that dies, falls silent or is late at what it begins itself (START, ADOPT, WITHDRAW, CUT, DRAIN, QUERY) and within the
 * calls that use its CA's keys (IMPORT, SIGN): what a program gets, and that a daemon after it finds everything usable.
 *
 *	fault_command       all cases; "fault_command: N passed, N failed" at the end
 *	riprap-child …      a process under test, named by a filter of the table
 */
#define _GNU_SOURCE
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "fault_daemon.h"

#define BRIEF_MS	1200	/* the attest timeout where somebody has to wait for its end */
#define LATE_BY_MS	(ATTEST_MS / 3)	/* the rest is for the work itself, in a slow kernel too */

static const char *const manner_name[] = { "dead", "silent", "late" };

static void print_result(const char *what, const char *deed, struct result result)
{
	printf("%s %s, %s: %s after %d ms\n", what, manner_name[manner], deed,
	       result.error > 0 ? strerrorname_np(result.error) : result.error ? "no result" : "0", result.ms);
}

static void expect_result(const char *what, char deed, int want, int at_least_ms)
{
	struct result result = ask_client(deed);
	const char name[] = { deed, 0 };

	print_result(what, name, result);
	CHECK_THAT(result.error == want, "%s %s: %c gives %s, not %s", what, manner_name[manner], deed, strerror(result.error),
		   strerror(want));
	CHECK_THAT(result.ms >= at_least_ms && result.ms <= at_least_ms + SLOW_MS, "%s %s: %c after %d ms", what,
		   manner_name[manner], deed, result.ms);
}

/* A client of which nothing is known, and a daemon that has said and heard all. */
static void begin(enum manner how)
{
	manner = how;
	attest_ms = how == FALLS_SILENT ? BRIEF_MS : ATTEST_MS;
	start_daemon();
	client = start_child("client");
}

static void end(const char *what)
{
	attest_ms = ATTEST_MS;
	expect_recovery(what);
	CHECK_THAT(end_child(&client), "a client cannot be killed after %s", what);
	stop_daemon();
}

/* What nobody has answered, when the daemon stops with the question before it; `late_ms` is how long it lies there when it is late. */
static void expect_unanswered(const char *what)
{
	if (manner == IS_LATE) {
		hold_ms = LATE_BY_MS;
		expect_result(what, 'c', 0, LATE_BY_MS);
		expect_flows(what, &served);
		return;
	}
	stop();
	expect_result(what, 'c', EACCES, manner == DIES ? 0 : BRIEF_MS);
	expect_flows(what, manner == DIES ? &no_records : &unknown);
}

static void case_start(enum manner how)
{
	manner = how;
	attest_ms = how == FALLS_SILENT ? BRIEF_MS : ATTEST_MS;
	client = start_child("client");
	open_daemon();
	expect_unanswered("before the ACK of START");
	end("START");
}

static void case_adopt(enum manner how)
{
	begin(how);
	PUT(RIPRAP_ADOPT, ((struct riprap_adopt){ .pid = client.pid }));
	expect_unanswered("before the ACK of ADOPT");
	end("ADOPT");
}

/* With a connection that is kept. */
static void begin_connected(enum manner how)
{
	begin(how);
	CHECK(ask_client('o').error == 0 && ask_client('w').error == 0);
	last_flow = no_records;
}

/* At the end that cut; the other reads an alert. */
#define CUT_FOR(why) { \
	.client = { RIPRAP_FLOW_CUT, RIPRAP_REASON_##why, ECONNRESET }, \
	.server = { RIPRAP_FLOW_CLOSED, RIPRAP_REASON_TLS_ALERT }, \
}

/* It is the process that has no identity any more, whichever daemon comes: only an ASSIGN gives it one. */
static void case_withdraw(enum manner how)
{
	static const struct outcomes cut = CUT_FOR(WITHDRAWN), withdrawn = { .client = DENIED(WITHDRAWN) };

	begin_connected(how);
	PUT(RIPRAP_WITHDRAW, ((struct riprap_withdraw){ .instance = of_client, .reason = RIPRAP_REASON_WITHDRAWN }));
	stop();
	expect_result("WITHDRAW", 'w', ECONNRESET, 0);
	expect_flows("WITHDRAW", how == DIES ? &no_records : &cut);
	expect_result("WITHDRAW", 'c', EACCES, 0);
	expect_flows("WITHDRAW", how == DIES ? &no_records : &withdrawn);
	stop_daemon();
	start_daemon();
	expect_result("WITHDRAW, the next daemon", 'c', EACCES, 0);
	CHECK_THAT(end_child(&client), "a client cannot be killed after WITHDRAW");
	client = start_child("client");
	end("WITHDRAW");
}

static void case_cut(enum manner how)
{
	static const struct outcomes cut = CUT_FOR(REVOKED);

	begin_connected(how);
	PUT(RIPRAP_CUT, ((struct riprap_cut){ .value = of_client, .by = RIPRAP_CUT_INSTANCE, .reason = RIPRAP_REASON_REVOKED }));
	stop();
	expect_result("CUT", 'w', ECONNRESET, 0);
	expect_flows("CUT", how == DIES ? &no_records : &cut);
	expect_result("CUT", 'c', 0, 0);
	expect_flows("CUT", how == DIES ? &no_records : &served);
	end("CUT");
}

/* A drain is not the daemon's: it lasts until somebody ends it. */
static void case_drain(enum manner how)
{
	begin_connected(how);
	PUT(RIPRAP_DRAIN, ((struct riprap_drain){ .on = 1 }));
	stop();
	expect_result("DRAIN", 'w', 0, 0);
	expect_result("DRAIN", 'c', EACCES, 0);
	expect_flows("DRAIN", &no_records);
	stop_daemon();
	start_daemon();
	CHECK_THAT(was_draining, "the drain ended with its daemon");
	expect_result("DRAIN, the next daemon", 'c', EACCES, 0);
	CHECK(PUT(RIPRAP_DRAIN, ((struct riprap_drain){ .on = 0 })) == 0 && wait_ack(RIPRAP_ACK_DRAIN));
	end("DRAIN");
}

static void case_query(enum manner how)
{
	begin_connected(how);
	PUT(RIPRAP_QUERY, ((struct riprap_query){ .query = 1, .what = RIPRAP_QUERY_FLOWS | RIPRAP_QUERY_PROCESSES }));
	stop();
	expect_result("QUERY", 'w', 0, 0);
	expect_result("QUERY", 'c', 0, 0);
	expect_flows("QUERY", how == DIES ? &no_records : &served);
	end("QUERY");
}

/* ---- a daemon that is stopped inside an ioctl, by a page that is not there when the module reads or writes it ---- */

enum place { READING, WRITING };

struct trap {
	int fd, told;	/* the userfaultfd, and where it is told that somebody is in it */
	void *page;
	enum place place;
};

static void set_trap(struct trap *trap, const void *argument, size_t len)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register whole = { .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect protect = { .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	size_t size = sysconf(_SC_PAGESIZE);

	trap->fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	trap->page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	whole.range.start = protect.range.start = (unsigned long)trap->page;
	whole.range.len = protect.range.len = size;
	if (ioctl(trap->fd, UFFDIO_API, &api) || ioctl(trap->fd, UFFDIO_REGISTER, &whole))
		_exit(2);
	if (trap->place == READING)
		return;
	/* Of a page that is there, the write alone waits. */
	struct uffdio_zeropage fill = { .range = whole.range };

	if (ioctl(trap->fd, UFFDIO_ZEROPAGE, &fill))
		_exit(2);
	memcpy(trap->page, argument, len);
	if (ioctl(trap->fd, UFFDIO_WRITEPROTECT, &protect))
		_exit(2);
}

static uint8_t prepared[4096] __attribute__((aligned(4096)));

/* Tells of who is in it, and lets a late one go on after its time. */
static void *watch_trap(void *argument)
{
	const struct trap *trap = argument;
	struct uffdio_copy copy = { .dst = (unsigned long)trap->page, .src = (unsigned long)prepared, .len = sizeof(prepared) };
	struct uffdio_writeprotect open = { .range = { (unsigned long)trap->page, sizeof(prepared) } };
	struct uffd_msg message;

	if (read(trap->fd, &message, sizeof(message)) != sizeof(message) || write(trap->told, "i", 1) != 1)
		_exit(2);
	if (manner != IS_LATE)
		return NULL;
	usleep(LATE_BY_MS * 1000);
	if (trap->place == READING ? ioctl(trap->fd, UFFDIO_COPY, &copy) : ioctl(trap->fd, UFFDIO_WRITEPROTECT, &open))
		_exit(2);
	return NULL;
}

static uint32_t import_key(void)
{
	struct riprap_authority_import import = { .private_key = { 1, 2, 3 } };

	return ioctl(device.fd, RIPRAP_AUTHORITY_IMPORT, &import) ? UINT32_MAX : import.slot;
}

/* The daemon, in a process of its own that can be killed; a late one goes on to serve. */
static _Noreturn void be_daemon(unsigned long command, struct trap *trap)
{
	struct riprap_authority_import import = { .private_key = { 3, 2, 1 } };
	struct riprap_authority_sign sign = { 0 };
	const void *argument = command == RIPRAP_AUTHORITY_IMPORT ? (void *)&import : (void *)&sign;
	size_t len = command == RIPRAP_AUTHORITY_IMPORT ? sizeof(import) : sizeof(sign);
	pthread_t watcher;

	for_others = true;
	start_daemon();
	sign.slot = import_key();
	memcpy(prepared, argument, len);
	set_trap(trap, argument, len);
	pthread_create(&watcher, NULL, watch_trap, trap);
	if (ioctl(device.fd, command, trap->page))
		_exit(3);
	for (;;)
		serve_for(1000);
}

/* A key that outlived its daemon would have a place. */
static void expect_no_keys(void)
{
	unsigned int keys = 0;

	while (import_key() != UINT32_MAX)
		keys++;
	CHECK_THAT(keys == RIPRAP_AUTHORITY_KEYS_MAX, "room for %u keys of %u", keys, RIPRAP_AUTHORITY_KEYS_MAX);
}

static void case_ioctl(const char *what, unsigned long command, enum place place, enum manner how)
{
	struct child daemon = { 0 };
	int told[2];
	char byte;

	manner = how;
	attest_ms = how == FALLS_SILENT ? BRIEF_MS : ATTEST_MS;
	CHECK(pipe2(told, O_CLOEXEC) == 0);
	daemon.pid = fork();
	if (!daemon.pid)
		be_daemon(command, &(struct trap){ .told = told[1], .place = place });
	close(told[1]);
	CHECK_THAT(read(told[0], &byte, 1) == 1, "%s: nobody came into the trap", what);
	close(told[0]);
	daemon.in = daemon.out = -1;
	client = start_child("client");
	if (how == DIES)
		CHECK_THAT(end_child(&daemon), "a daemon within %s cannot be killed", what);
	expect_result(what, 'c', how == IS_LATE ? 0 : EACCES, how == FALLS_SILENT ? BRIEF_MS : 0);
	if (how != DIES)
		CHECK_THAT(end_child(&daemon), "a daemon within %s cannot be killed", what);
	start_daemon();
	expect_no_keys();
	end(what);
}

static void run_cases(void)
{
	enum manner how;

	/* Younger than the table: nobody adopts it here, and an accept() that waits when the first table comes is TCP's alone. */
	start_daemon();
	server = start_child("server");
	serve_for(500);
	stop_daemon();
	for (how = DIES; how <= IS_LATE; how++) {
		case_start(how);
		case_adopt(how);
	}
	for (how = DIES; how <= FALLS_SILENT; how++) {
		case_withdraw(how);
		case_cut(how);
		case_drain(how);
		case_query(how);
	}
	case_ioctl("IMPORT, reading", RIPRAP_AUTHORITY_IMPORT, READING, DIES);
	case_ioctl("IMPORT, writing", RIPRAP_AUTHORITY_IMPORT, WRITING, DIES);
	case_ioctl("IMPORT, reading", RIPRAP_AUTHORITY_IMPORT, READING, FALLS_SILENT);
	case_ioctl("IMPORT, writing", RIPRAP_AUTHORITY_IMPORT, WRITING, IS_LATE);
	case_ioctl("SIGN, reading", RIPRAP_AUTHORITY_SIGN, READING, DIES);
	case_ioctl("SIGN, writing", RIPRAP_AUTHORITY_SIGN, WRITING, DIES);
	case_ioctl("SIGN, writing", RIPRAP_AUTHORITY_SIGN, WRITING, FALLS_SILENT);
	case_ioctl("SIGN, reading", RIPRAP_AUTHORITY_SIGN, READING, IS_LATE);
	CHECK(end_child(&server));
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[0], "riprap-child"))
		return !strcmp(argv[1], "server") ? be_server() : be_client();
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	prepare_child();
	run_cases();
	printf("fault_command: %d passed, %d failed\n", passed, failed);
	return failed != 0;
}
