/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs of fault.c: one byte on standard input is one connection, what came of it goes to descriptor 3.
 */
#ifndef FAULT_CHILD_H
#define FAULT_CHILD_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "device.h"

#define PORT	8080
#define CHILD	"/tmp/riprap-child"	/* where their executable is */
#define KILL_MS	20000	/* a killed process ends at once, on a machine that has the time */

struct result {
	int error;
	int ms;
};

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct sockaddr_in server_address(void)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static int connect_and_echo(void)
{
	struct sockaddr_in address = server_address();
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;
	char byte = 'x';

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) || write(fd, &byte, 1) != 1)
		error = errno;
	else if (read(fd, &byte, 1) != 1)
		error = errno ?: ECONNRESET;
	close(fd);
	return error;
}

static int be_client(void)
{
	struct result result;
	char byte;

	while (read(0, &byte, 1) == 1) {
		long begun = now_ms();

		errno = 0;
		result.error = connect_and_echo();
		result.ms = now_ms() - begun;
		if (write(3, &result, sizeof(result)) != sizeof(result))
			return 1;
	}
	return 0;
}

static int be_server(void)
{
	struct sockaddr_in address = server_address();
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
	char byte;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 64))
		return 1;
	for (;;) {
		peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (peer < 0)
			continue;
		if (read(peer, &byte, 1) == 1 && write(peer, &byte, 1) == 1)
			(void)!read(peer, &byte, 1);
		close(peer);
	}
}

struct child {
	pid_t pid;
	int in, out;
};

static struct child start_child(const char *role)
{
	int in[2], out[2];
	struct child child;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		exit(1);
	child = (struct child){ .pid = fork(), .in = in[1], .out = out[0] };
	if (!child.pid) {
		dup2(in[0], 0);
		dup2(out[1], 3);
		execl(CHILD, "riprap-child", role, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	return child;
}

/* False when it is stuck in the kernel. */
static bool end_child(struct child *child)
{
	long begun = now_ms();
	bool is_gone;

	kill(child->pid, SIGKILL);
	while (!(is_gone = waitpid(child->pid, NULL, WNOHANG) == child->pid) && now_ms() - begun < KILL_MS)
		usleep(10000);
	close(child->in);
	close(child->out);
	return is_gone;
}

#endif
