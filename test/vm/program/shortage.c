// SPDX-License-Identifier: Apache-2.0
/*
 * One allocation of riprap's fails, the n-th, for each n in the way from a new process to the first byte of an answer; after
 * each, a connection that lacks nothing must work. Needs a kernel with fault injection and its stack filter set to the
 * module's text; counts of the whole machine, so nothing else of riprap may be going on.
 *
 *	shortage slab|page fork|thread FIRST STEP TRIES
 *
 * fork: the client is a process of its own, which must be attested, given a key and an SVID, and verified by its peer.
 * thread: the client is this process, which resumes. One line for each n: "n OUTCOME AFTER", with "-" where n was past the
 * last allocation; OUTCOME and AFTER are "0" or an errno's name. "stuck" is what must never be read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shortage.h"

#define WORD		"sixteen bytes..."
#define WORD_LEN	16
#define PORT		8080	/* of fault.c's rules */

static struct sockaddr_in address(void)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static void *serve_one(void *argument)
{
	int fd = (int)(long)argument;
	char word[WORD_LEN];
	ssize_t n = recv(fd, word, sizeof(word), MSG_WAITALL);

	/* Bytes that nobody authenticated must not come. */
	if (n > 0 && (n != WORD_LEN || memcmp(word, WORD, n)))
		printf("WRONG %zd bytes\n", n);
	if (n == WORD_LEN)
		(void)!write(fd, word, n);
	close(fd);
	return NULL;
}

static void *serve(void *argument)
{
	int listener = (int)(long)argument, fd;
	pthread_t thread;

	while ((fd = accept(listener, NULL, NULL)) >= 0 || errno != EBADF) {
		if (fd < 0)
			continue;
		if (pthread_create(&thread, NULL, serve_one, (void *)(long)fd))
			close(fd);
		else
			pthread_detach(thread);
	}
	return NULL;
}

static int connect_once(void)
{
	struct sockaddr_in to = address();
	int fd = socket(AF_INET, SOCK_STREAM, 0), error = 0;
	char word[WORD_LEN];

	errno = 0;
	if (fd < 0)
		return errno;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) || send(fd, WORD, WORD_LEN, MSG_NOSIGNAL) != WORD_LEN)
		error = errno ?: EPIPE;
	else if (recv(fd, word, sizeof(word), MSG_WAITALL) != WORD_LEN)
		error = errno ?: ECONNRESET;
	close(fd);
	return error;
}

static int wait_for(pid_t child, int seconds)
{
	int status, tries;

	for (tries = 0; tries < seconds * 100; tries++) {
		if (waitpid(child, &status, WNOHANG) == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
		usleep(10000);
	}
	return -1;
}

/* An errno, or -1: stuck. */
static int connect_as(bool forks)
{
	int error;
	pid_t child;

	if (!forks)
		return connect_once();
	child = fork();
	if (!child)
		_exit(connect_once());
	error = wait_for(child, STUCK_S);
	if (error >= 0)
		return error;
	kill(child, SIGKILL);
	if (wait_for(child, STUCK_S) < 0)
		printf("UNKILLABLE\n");
	return -1;
}

/* Ends the program where it cannot. */
static void start_serving(void)
{
	struct sockaddr_in at = address();
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	pthread_t thread;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 16) ||
	    pthread_create(&thread, NULL, serve, (void *)(long)listener)) {
		perror("listen");
		exit(2);
	}
}

/* The first has no ticket yet, and the identity of this process may still be on its way. */
static void warm_up(bool forks)
{
	int outcome, tries = 100;

	while ((outcome = connect_as(forks)) && --tries)
		usleep(100000);
	printf("0 %s 0\n", name_of(outcome));
}

/* True when there was an n-th allocation. */
static bool fail_at(unsigned long n, bool forks)
{
	int outcome, after = 0;
	bool fired;

	arm(n);
	outcome = connect_as(forks);
	fired = disarm(n);
	if (fired || outcome)
		after = connect_as(forks);
	/* What failed is tried again by the next who needs it. */
	if (after > 0) {
		printf("%lu again after %s\n", n, name_of(after));
		after = connect_as(forks);
	}
	printf("%lu %s %s\n", n, fired ? name_of(outcome) : "-", name_of(after));
	return fired;
}

int main(int argc, char **argv)
{
	unsigned long n, step, tries;
	int past = 0;
	bool forks;

	if (argc != 6)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	choose_allocator(argv[1]);
	forks = !strcmp(argv[2], "fork");
	start_serving();
	warm_up(forks);
	n = strtoul(argv[3], NULL, 10);
	step = strtoul(argv[4], NULL, 10);
	for (tries = strtoul(argv[5], NULL, 10); tries > 0 && past < PAST_END; tries--, n += step)
		past = fail_at(n, forks) ? 0 : past + 1;
	printf("shortage: walked to %lu\n", n);
	return 0;
}
