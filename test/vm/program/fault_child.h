/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs of the faults: one byte on standard input is one deed, what came of it goes to descriptor 3. `c` is a connection,
 * `o` one that is kept, `w` a word on that.
 */
#ifndef FAULT_CHILD_H
#define FAULT_CHILD_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
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

static int echo(int fd)
{
	char byte = 'x';

	if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
		return errno;
	return read(fd, &byte, 1) == 1 ? 0 : errno ?: ECONNRESET;
}

static int connect_and_echo(int *kept)
{
	struct sockaddr_in address = server_address();
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	error = fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) ? errno : echo(fd);
	if (kept && !error)
		*kept = fd;
	else
		close(fd);
	return error;
}

static int be_client(void)
{
	struct result result;
	int kept = -1;
	char byte;

	while (read(0, &byte, 1) == 1) {
		long begun = now_ms();

		errno = 0;
		result.error = byte == 'w' ? echo(kept) : connect_and_echo(byte == 'o' ? &kept : NULL);
		result.ms = now_ms() - begun;
		if (write(3, &result, sizeof(result)) != sizeof(result))
			return 1;
	}
	return 0;
}

static void *answer(void *argument)
{
	int peer = (int)(long)argument;
	char byte;

	while (read(peer, &byte, 1) == 1 && send(peer, &byte, 1, MSG_NOSIGNAL) == 1)
		;
	close(peer);
	return NULL;
}

static int be_server(void)
{
	struct sockaddr_in address = server_address();
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
	pthread_t thread;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 64))
		return 1;
	for (;;) {
		peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (peer < 0)
			continue;
		if (!pthread_create(&thread, NULL, answer, (void *)(long)peer))
			pthread_detach(thread);
	}
}

struct child {
	pid_t pid;
	int in, out;
};

/* Its executable, which the filter knows by its name. */
static void prepare_child(void)
{
	if (!system("cp /proc/$PPID/exe " CHILD " && chmod 755 " CHILD " && ip link set lo up"))
		return;
	printf("FAIL cannot prepare " CHILD "\n");
	exit(1);
}

static struct child start_child(const char *role)
{
	int in[2], out[2], executed[2];
	struct child child;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(executed, O_CLOEXEC))
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
	close(executed[1]);
	/* Until then it holds what we have open, the device too. */
	(void)!read(executed[0], &(char){ 0 }, 1);
	close(executed[0]);
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
