// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The module's own lookup, asked from outside: the table is the file named as
 * argument, each line of standard input a question.
 *
 *	c SUBJECT INBOUND REMOTE(hex) PORT PEER	-> mode action reason rule matches | allowed rule
 *	f EUID NAME EXE				-> 1: some rule may select such a process
 */
#include "kernel_shim.h"

#include "device.h"
#include "process.h"
#include "table.h"
#include "table_build.h"

struct riprap_counters riprap_counters;

/* Declared by headers that are private to the module's files. */
int riprap_table_begin(const struct riprap_table_begin *begin);
int riprap_table_data(const struct riprap_table_data *data, const u8 *bytes);
int riprap_table_commit(u64 generation);
bool riprap_table_filter(u32 euid, const char *comm, size_t comm_len, const char *exe, size_t exe_len,
			 u64 *generation);

u8 riprap_unknown_mode(void)
{
	return RIPRAP_MODE_OBSERVE;
}

static int load(const char *path)
{
	static u8 bytes[RIPRAP_TABLE_MAX];
	struct riprap_table_begin begin = { 0 };
	struct riprap_table_data data = { 0 };
	FILE *file = fopen(path, "rb");

	if (!file)
		return -ENOENT;
	begin.length = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	memcpy(&begin.generation, bytes + offsetof(struct riprap_table, generation), 8);
	data.generation = begin.generation;
	data.length = begin.length;
	return riprap_table_begin(&begin) ?: riprap_table_data(&data, bytes) ?: riprap_table_commit(begin.generation);
}

static void answer_connection(const char *line)
{
	unsigned int subject, inbound, port;
	struct riprap_verdict verdict;
	char hex[33], peer[2049];
	struct in6_addr remote;
	bool allowed;
	int i;

	if (sscanf(line, "c %u %u %32s %u %2048s", &subject, &inbound, hex, &port, peer) != 5)
		exit(3);
	for (i = 0; i < 16; i++)
		sscanf(hex + 2 * i, "%2hhx", &remote.s6_addr[i]);
	riprap_table_verdict(subject, inbound, &remote, port, &verdict);
	printf("%u %u %u %u %u | ", verdict.mode, verdict.action, verdict.reason, verdict.rule, verdict.matches);
	allowed = riprap_table_allows_peer(subject, inbound, &remote, port, peer, &verdict);
	printf("%d %u\n", allowed, allowed ? verdict.rule : 0);
}

static void answer_filter(const char *line)
{
	char name[64], exe[4096];
	u64 generation;
	u32 euid;

	if (sscanf(line, "f %u %63s %4095s", &euid, name, exe) != 3)
		exit(3);
	printf("%d\n", riprap_table_filter(euid, name, strlen(name), exe, strlen(exe), &generation));
}

int main(int argc, char **argv)
{
	char line[8192];

	if (argc != 2 || load(argv[1]))
		return 2;
	while (fgets(line, sizeof(line), stdin))
		line[0] == 'c' ? answer_connection(line) : answer_filter(line);
	riprap_table_exit();
	return riprap_counters.memory_bytes.counter ? 4 : 0;
}
