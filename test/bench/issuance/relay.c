// SPDX-License-Identifier: Apache-2.0
/* Callers of the Workload API that are processes of their own and do nothing: each hands on what passes between one connection and the socket. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int open_socket(const char *path, int listens)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		exit(2);
	strcpy(address.sun_path, path);
	if (listens ? bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1)
		    : connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		perror(path);
		exit(2);
	}
	return fd;
}

/* False at the end of either side. */
static int hand_on(int from, int to)
{
	static char buffer[65536];
	ssize_t length = read(from, buffer, sizeof(buffer));

	for (ssize_t at = 0; at < length;) {
		ssize_t written = write(to, buffer + at, length - at);

		if (written <= 0)
			return 0;
		at += written;
	}
	return length > 0;
}

static void relay(int listener, const char *target)
{
	struct pollfd ends[2] = { { .events = POLLIN }, { .events = POLLIN } };

	ends[0].fd = accept(listener, NULL, NULL);
	if (ends[0].fd < 0)
		exit(2);
	ends[1].fd = open_socket(target, 0);
	while (poll(ends, 2, -1) > 0)
		for (int i = 0; i < 2; i++)
			if (ends[i].revents != 0 && !hand_on(ends[i].fd, ends[!i].fd))
				exit(0);
}

/* relay TARGET FOLDER COUNT: listens at FOLDER/0 and so on, says "ready", ends with its standard input. */
int main(int argc, char **argv)
{
	char path[256], byte;

	if (argc != 4)
		return 2;
	for (int i = 0; i < atoi(argv[3]); i++) {
		int listener;

		snprintf(path, sizeof(path), "%s/%d", argv[2], i);
		listener = open_socket(path, 1);
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			relay(listener, argv[1]);
		}
		close(listener);
	}
	puts("\"ready\"");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
