// SPDX-License-Identifier: Apache-2.0
/*
 * Verdicts of tables of any size, without the time that a daemon takes to compile them: this process is the daemon, and its child is
 * the one that the rules are about. The slots of a table lie by a seed of its own, so that several are tried.
 *
 *   verdict ADDRESS PORT SIZE TABLES CONNECTS    pushes TABLES tables of SIZE rules each, CONNECTS connections under each
 *   verdict child ADDRESS PORT CONNECTS          the child: connects so often for each byte of standard input
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../vm/program/device.h"

#define SUBJECT		1
#define ID		"spiffe://cost.test/child"
#define PIECE		60000	/* bytes of a table in one frame */

static uint64_t generation;
static int to_child, from_child;

static void stop(const char *what)
{
	fprintf(stderr, "verdict: cannot %s\n", what);
	exit(1);
}

static struct sockaddr_in parse_address(char **words)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(words[1])) };

	if (inet_pton(AF_INET, words[0], &address.sin_addr) != 1)
		stop("parse the address");
	return address;
}

static int be_child(char **words)
{
	struct sockaddr_in to = parse_address(words);
	int count = atoi(words[2]);
	char byte;

	while (read(0, &byte, 1) == 1) {
		for (int i = 0; i < count; i++) {
			int fd = socket(AF_INET, SOCK_STREAM, 0);

			if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
				return 1;
			close(fd);
		}
		if (write(1, &byte, 1) != 1)
			return 1;
	}
	return 0;
}

static void start_child(char **argv)
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		stop("make pipes");
	if (!fork()) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(argv[0], argv[0], "child", argv[1], argv[2], argv[5], NULL);
		_exit(127);
	}
	to_child = in[1];
	from_child = out[0];
}

static void act(void)
{
	if (device.head.type == RIPRAP_PROCESS && device.body.facts.flags & RIPRAP_PROCESS_WANTS_ANSWER)
		put_assign(device.body.facts.instance, SUBJECT, ID);
	if (device.head.type == RIPRAP_KEY)
		put_svid(&device.body.key, false, 3600);
}

static void wait_ack(uint32_t what)
{
	while (device_next(ANSWER_MS)) {
		act();
		if (device.head.type == RIPRAP_ACK && device.body.ack.what == what && !device.body.ack.error)
			return;
	}
	stop("get the module's answer");
}

/* The looked-up rule is the last by address; the others are of the private network 10. */
static uint8_t *build_table(const struct sockaddr_in *wanted, uint32_t size, size_t *len)
{
	static const char strings[] = "verdict";
	const struct riprap_table head = {
		.magic = RIPRAP_TABLE_MAGIC, .version = RIPRAP_ABI_VERSION, .generation = generation,
		.subjects = 1, .rules = size, .filters = 1, .string_bytes = sizeof(strings) - 1,
	};
	const struct riprap_table_subject subject = { .subject = SUBJECT, .egress_mode = RIPRAP_MODE_ENFORCE };
	const struct riprap_table_filter filter = { .has = RIPRAP_FILTER_NAME, .name_len = sizeof(strings) - 1 };
	uint8_t *table = malloc(sizeof(head) + sizeof(subject) + size * sizeof(struct riprap_table_rule) + 200), *at = table;

	at = mempcpy(at, &head, sizeof(head));
	at = mempcpy(at, &subject, sizeof(subject));
	for (uint32_t i = 0; i < size; i++) {
		const uint32_t address = i + 1 < size ? htonl(0x0a000001u + i) : wanted->sin_addr.s_addr;
		struct riprap_table_rule rule = {
			.number = i + 1, .subject = SUBJECT, .address = { [10] = 0xff, [11] = 0xff }, .prefix_len = 128,
			.port = ntohs(wanted->sin_port), .port_bits = 16, .action = RIPRAP_ACTION_PLAIN,
		};

		memcpy(rule.address + 12, &address, sizeof(address));
		at = mempcpy(at, &rule, sizeof(rule));
	}
	at = mempcpy(at, &filter, sizeof(filter));
	at = mempcpy(at, strings, sizeof(strings) - 1);
	*len = at - table;
	return table;
}

static void push_table(const struct sockaddr_in *wanted, uint32_t size)
{
	size_t len, at, n;
	uint8_t *table;

	generation++;
	table = build_table(wanted, size, &len);
	PUT(RIPRAP_TABLE_BEGIN, ((struct riprap_table_begin){ .generation = generation, .length = len }));
	for (at = 0; at < len; at += n) {
		n = len - at < PIECE ? len - at : PIECE;
		struct riprap_table_data data = { .generation = generation, .offset = at, .length = n };

		device_put(RIPRAP_TABLE_DATA, &data, sizeof(data), table + at, n);
	}
	PUT(RIPRAP_TABLE_COMMIT, ((struct riprap_table_commit){ .generation = generation }));
	free(table);
	wait_ack(RIPRAP_ACK_TABLE);
}

/* The child connects while we answer. */
static void connect_all(void)
{
	struct pollfd done = { .fd = from_child, .events = POLLIN };
	char byte = 'c';

	if (write(to_child, &byte, 1) != 1)
		stop("speak with the child");
	while (poll(&done, 1, 0) == 0)
		if (device_next(5))
			act();
	if (read(from_child, &byte, 1) != 1)
		stop("connect");
}

int main(int argc, char **argv)
{
	const struct riprap_start start = {
		.abi = RIPRAP_ABI_VERSION, .unknown_mode = RIPRAP_MODE_ENFORCE, .attest_timeout_ms = 30000,
		.handshake_timeout_ms = 30000, .sniff_timeout_ms = 500,
	};
	struct sockaddr_in wanted;

	if (argc == 5 && !strcmp(argv[1], "child"))
		return be_child(argv + 2);
	if (argc != 6) {
		fprintf(stderr, "usage: verdict ADDRESS PORT SIZE TABLES CONNECTS\n");
		return 2;
	}
	wanted = parse_address(argv + 1);
	device_open();
	if (!device_next(ANSWER_MS) || device.head.type != RIPRAP_HELLO)
		stop("hear HELLO");
	generation = device.body.hello.table_generation;
	PUT(RIPRAP_START, start);
	wait_ack(RIPRAP_ACK_START);
	push_table(&wanted, strtoul(argv[3], NULL, 10));
	start_child(argv);
	for (int i = atoi(argv[4]); i > 0; i--) {
		push_table(&wanted, strtoul(argv[3], NULL, 10));
		connect_all();
	}
	return 0;
}
