// SPDX-License-Identifier: Apache-2.0
/*
 * How soon after exec a process can speak under its identity. Each child is a new process that no rule was asked about
 * before; it connects to a port where nobody listens, which is refused by TCP as soon as the identity is there.
 *
 *   spawn run PROBE ADDRESS PORT COUNT RATE      starts COUNT children, RATE a second
 *   spawn probe ADDRESS PORT EXEC_NS             what a child runs (PROBE is a copy of this file that a rule selects)
 *
 * Prints one JSON line: from the exec to the identity, what of it connect() itself waited, and who was denied for lack of one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

struct answer {
	uint64_t since_exec, waited;
	uint64_t denied;	/* no identity within the daemon's time limit */
};

static int probe(const char *address, uint16_t port, uint64_t exec_ns)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t begin = now_ns();
	struct answer answer = { 0 };

	if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
		die("make a socket");
	if (!connect(fd, (struct sockaddr *)&to, sizeof(to)) || (errno != ECONNREFUSED && errno != EACCES))
		die("be refused by TCP");
	answer.denied = errno == EACCES;
	answer.since_exec = now_ns() - exec_ns;
	answer.waited = now_ns() - begin;
	return write(1, &answer, sizeof(answer)) == sizeof(answer) ? 0 : 1;
}

static void start(char **argv, int out)
{
	pid_t child = fork();
	char exec_ns[32];

	if (child < 0)
		die("fork");
	if (child)
		return;
	dup2(out, 1);
	snprintf(exec_ns, sizeof(exec_ns), "%lu", now_ns());
	execl(argv[2], argv[2], "probe", argv[3], argv[4], exec_ns, NULL);
	die("exec");
}

static void run(char **argv)
{
	size_t count = strtoul(argv[5], NULL, 10), rate = strtoul(argv[6], NULL, 10), answered = 0, denied = 0;
	uint64_t *since = calloc(count, 8), *waited = calloc(count, 8), begin = now_ns(), next = begin;
	struct answer answer;
	int ends[2];

	if (pipe(ends))
		die("make a pipe");
	for (size_t i = 0; i < count; i++, next += 1000000000ull / rate) {
		struct timespec at = { (time_t)(next / 1000000000ull), (long)(next % 1000000000ull) };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		start(argv, ends[1]);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	close(ends[1]);
	for (; answered < count && read(ends[0], &answer, sizeof(answer)) == sizeof(answer); answered++) {
		since[answered] = answer.since_exec;
		waited[answered] = answer.waited;
		denied += answer.denied;
	}
	if (answered < count)
		die("get an answer of every child");
	next = now_ns() - begin;
	sort_figures(since, count);
	sort_figures(waited, count);
	printf("{\"what\":\"spawn\",\"count\":%zu,\"denied\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"wait_p50_us\":%.1f,\"wait_p99_us\":%.1f,\"per_second\":%.1f}\n",
	       count, denied, since[count / 2] / 1e3, since[count * 99 / 100] / 1e3, waited[count / 2] / 1e3,
	       waited[count * 99 / 100] / 1e3, count * 1e9 / next);
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "probe"))
		return probe(argv[2], (uint16_t)atoi(argv[3]), strtoull(argv[4], NULL, 10));
	if (argc != 7 || strcmp(argv[1], "run")) {
		fprintf(stderr, "usage: spawn run PROBE ADDRESS PORT COUNT RATE | probe ADDRESS PORT EXEC_NS\n");
		return 2;
	}
	run(argv);
	return 0;
}
