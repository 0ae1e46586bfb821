/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small harness for programs that talk to themselves over loopback and know
 * nothing of riprap. One line per case: "PASS name" or "FAIL name: why", then
 * "program: N passed, N failed"; exit status 1 if any failed.
 */
#ifndef PAIR_H
#define PAIR_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *case_name;
static char case_failure[512];
static int passed, failed;

/* Ends the case from its own thread or from the server's; the first failure is kept. */
static void fail_at(int line, const char *format, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int error = errno;
	va_list arguments;
	int n;

	pthread_mutex_lock(&lock);
	if (!case_failure[0]) {
		n = snprintf(case_failure, sizeof(case_failure), "line %d: ", line);
		va_start(arguments, format);
		n += vsnprintf(case_failure + n, sizeof(case_failure) - n, format, arguments);
		va_end(arguments);
		snprintf(case_failure + n, sizeof(case_failure) - n, " (errno %d %s)", error, strerror(error));
	}
	pthread_mutex_unlock(&lock);
}

#define CHECK(condition) \
	do { if (!(condition)) fail_at(__LINE__, "%s", #condition); } while (0)
/* For what the rest of the case cannot do without. */
#define NEED(condition) \
	do { if (!(condition)) { fail_at(__LINE__, "%s", #condition); return; } } while (0)
#define EQUAL(got, want) \
	do { long got_ = (long)(got), want_ = (long)(want); \
	     if (got_ != want_) fail_at(__LINE__, "%s is %ld, not %ld", #got, got_, want_); } while (0)

static void run_case(const char *name, void (*body)(void))
{
	case_name = name;
	case_failure[0] = 0;
	alarm(30);
	body();
	alarm(0);
	if (case_failure[0]) {
		printf("FAIL %s: %s\n", name, case_failure);
		failed++;
	} else {
		printf("PASS %s\n", name);
		passed++;
	}
	fflush(stdout);
}

static void on_alarm(int signal_number)
{
	(void)signal_number;
	printf("FAIL %s: still waiting after 30 s%s%s\n", case_name, case_failure[0] ? "; " : "", case_failure);
	fflush(stdout);
	_exit(1);
}

static void begin_cases(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, on_alarm);
}

static int end_cases(const char *program)
{
	printf("%s: %d passed, %d failed\n", program, passed, failed);
	return failed != 0;
}

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t address_len(int family)
{
	return family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static union address loopback(int family, int port)
{
	union address address;

	memset(&address, 0, sizeof(address));
	address.any.sa_family = family;
	if (family == AF_INET6) {
		address.v6.sin6_addr = in6addr_loopback;
		address.v6.sin6_port = htons(port);
	} else {
		address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		address.v4.sin_port = htons(port);
	}
	return address;
}

/* A listener on a free port of loopback. */
static int listen_anywhere(int family, int *port)
{
	union address address = loopback(family, 0);
	socklen_t len = sizeof(address);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, &address.any, address_len(family)) || listen(fd, 16) ||
	    getsockname(fd, &address.any, &len)) {
		fail_at(__LINE__, "cannot listen");
		return -1;
	}
	*port = ntohs(family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
	return fd;
}

static inline int connect_to(int family, int port)
{
	union address address = loopback(family, port);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, &address.any, address_len(family))) {
		fail_at(__LINE__, "cannot connect");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* The server's end runs in a thread of its own, on one accepted connection. */
struct server {
	pthread_t thread;
	int listener, family, port;
	void (*serve)(int fd);
};

static void *run_server(void *argument)
{
	struct server *server = argument;
	int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		fail_at(__LINE__, "cannot accept");
		return NULL;
	}
	server->serve(fd);
	close(fd);
	return NULL;
}

static inline void start_server(struct server *server, int family, void (*serve)(int fd))
{
	server->family = family;
	server->serve = serve;
	server->listener = listen_anywhere(family, &server->port);
	pthread_create(&server->thread, NULL, run_server, server);
}

static inline void stop_server(struct server *server)
{
	pthread_join(server->thread, NULL);
	close(server->listener);
}

/* Client and server ends at once: `client` gets a connected socket. */
static inline void run_pair(int family, void (*serve)(int fd), void (*client)(int fd))
{
	struct server server;
	int fd;

	start_server(&server, family, serve);
	fd = connect_to(family, server.port);
	if (fd >= 0) {
		client(fd);
		close(fd);
	} else {
		shutdown(server.listener, SHUT_RDWR);
	}
	stop_server(&server);
}

static inline bool read_exactly(int fd, void *data, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, (char *)data + have, len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		have += n;
	}
	return true;
}

static inline bool write_all(int fd, const void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

/* Bytes that say where they are. */
static inline void fill_pattern(unsigned char *data, size_t len, size_t offset)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (unsigned char)((offset + i) * 2654435761u >> 13);
}

static inline bool is_pattern(const unsigned char *data, size_t len, size_t offset)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != (unsigned char)((offset + i) * 2654435761u >> 13))
			return false;
	return true;
}

static inline void sleep_ms(int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

static inline long now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

#endif
