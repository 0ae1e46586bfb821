// SPDX-License-Identifier: Apache-2.0
/*
 * What one connect() costs, call by call. Under -icount shift=0 a nanosecond of the guest's clock is one
 * instruction, so the medians are instruction counts that two boots agree on.
 *
 *   cost sink PORT                               accepts and closes, for ever
 *   cost connect ADDRESS PORT COUNT              socket(), connect(), close(), COUNT times
 *   cost connect ADDRESS PORT COUNT CGROUP SIZE  the same inside CGROUP, where a cgroup/connect4 eBPF program first looks
 *                                                the address up in a hash of SIZE entries
 *   cost fork COUNT                              fork() and the child's end
 *   cost exec COUNT                              the same with an execve() of this program between them
 *
 * Prints one JSON line; exits 1 with a sentence on standard error when anything fails.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define WARM_UP	8	/* the first calls fill caches and slabs */

/* What this thread itself ran: who is woken by a connection does not count here. */
static uint64_t thread_ns(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t median(uint64_t *values, size_t n)
{
	sort_figures(values, n);
	return values[n / 2];
}

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* A hash of `size` addresses, the one that will be asked for among them. */
static int make_map(uint32_t wanted, uint32_t size)
{
	union bpf_attr make = { .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = size };
	int map = bpf(BPF_MAP_CREATE, &make);
	uint32_t one = 1;

	if (map < 0)
		die("make an eBPF hash");
	for (uint32_t i = 0; i < size; i++) {
		uint32_t key = i ? htonl(0x0a000000u + i) : wanted;
		union bpf_attr set = { .map_fd = (uint32_t)map, .key = (uintptr_t)&key, .value = (uintptr_t)&one };

		if (bpf(BPF_MAP_UPDATE_ELEM, &set))
			die("fill the eBPF hash");
	}
	return map;
}

/* Allows what the hash holds: the least that a policy by eBPF has to do. */
static void attach_lookup(const char *cgroup, int map)
{
	struct bpf_insn program[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1,
		  .off = offsetof(struct bpf_sock_addr, user_ip4) },
		{ .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .src_reg = BPF_REG_2, .off = -4 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_2, .imm = -4 },
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map },
		{ 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem },
		{ .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = BPF_REG_0, .off = 1 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
		.expected_attach_type = BPF_CGROUP_INET4_CONNECT,
		.insns = (uintptr_t)program,
		.insn_cnt = sizeof(program) / sizeof(program[0]),
		.license = (uintptr_t)"GPL",
	};
	int file = bpf(BPF_PROG_LOAD, &load), group = open(cgroup, O_RDONLY | O_DIRECTORY);
	union bpf_attr attach = {
		.target_fd = (uint32_t)group,
		.attach_bpf_fd = (uint32_t)file,
		.attach_type = BPF_CGROUP_INET4_CONNECT,
	};

	if (file < 0)
		die("load the eBPF program");
	if (group < 0 || bpf(BPF_PROG_ATTACH, &attach))
		die("attach the eBPF program");
}

static void join(const char *cgroup)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) != 1)
		die("join the cgroup");
	close(fd);
}

static _Noreturn void sink(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 128))
		die("listen");
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		char byte;

		if (peer < 0)
			continue;
		while (read(peer, &byte, 1) > 0)
			;
		close(peer);
	}
}

static void run_connect(const struct sockaddr_in *to, size_t count)
{
	uint64_t *made = calloc(count, 8), *connected = calloc(count, 8), *closed = calloc(count, 8);
	uint64_t *elapsed = calloc(count, 8);

	for (size_t i = 0; i < count + WARM_UP; i++) {
		size_t at = i < WARM_UP ? 0 : i - WARM_UP;
		uint64_t begin = now_ns(), start = thread_ns(), then;
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		then = thread_ns();
		made[at] = then - start;
		if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)))
			die("connect");
		start = thread_ns();
		connected[at] = start - then;
		elapsed[at] = now_ns() - begin;
		start = thread_ns();
		close(fd);
		closed[at] = thread_ns() - start;
		usleep(2000);
	}
	printf("{\"what\":\"connect\",\"count\":%zu,\"socket\":%lu,\"connect\":%lu,\"close\":%lu,\"elapsed\":%lu}\n", count,
	       median(made, count), median(connected, count), median(closed, count), median(elapsed, count));
}

/* The child ends at once, after it has executed this program where `path` names it. */
static void run_fork(const char *what, const char *path, size_t count)
{
	uint64_t *took = calloc(count, 8);

	for (size_t i = 0; i < count + WARM_UP; i++) {
		uint64_t start = now_ns();
		pid_t child = fork();

		if (!child) {
			if (path)
				execl(path, path, "exit", NULL);
			_exit(path ? 1 : 0);
		}
		int status;

		if (child < 0 || waitpid(child, &status, 0) != child || status)
			die(what);
		took[i < WARM_UP ? 0 : i - WARM_UP] = now_ns() - start;
	}
	printf("{\"what\":\"%s\",\"count\":%zu,\"%s\":%lu}\n", what, count, what, median(took, count));
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "exit"))
		return 0;
	if (argc == 3 && !strcmp(argv[1], "sink"))
		sink((uint16_t)atoi(argv[2]));
	if ((argc == 5 || argc == 7) && !strcmp(argv[1], "connect")) {
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3])) };

		if (inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
			die("parse the address");
		if (argc == 7) {
			attach_lookup(argv[5], make_map(to.sin_addr.s_addr, (uint32_t)strtoul(argv[6], NULL, 10)));
			join(argv[5]);
		}
		run_connect(&to, strtoul(argv[4], NULL, 10));
	} else if (argc == 3 && !strcmp(argv[1], "fork")) {
		run_fork("fork", NULL, strtoul(argv[2], NULL, 10));
	} else if (argc == 3 && !strcmp(argv[1], "exec")) {
		run_fork("exec", argv[0], strtoul(argv[2], NULL, 10));
	} else {
		fprintf(stderr, "usage: cost sink PORT | connect ADDRESS PORT COUNT [CGROUP SIZE] | fork COUNT | exec COUNT\n");
		return 2;
	}
	return 0;
}
