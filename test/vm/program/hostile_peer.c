/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plain ends of hostile_peer.test.ts: an echo server and a client, which the
 * rules select, and a flood of connections that never say a word.
 *
 *	hostile_peer serve PORT          echoes, as many connections at once as there are; writes the errno of each that breaks
 *	hostile_peer connect PORT WORD   writes "spoke", or what became of it
 *	hostile_peer later PORT WORD     the same once its input has ended
 *	hostile_peer flood PORT COUNT REST   opens COUNT one after the other, and once all but REST are reset writes
 *	                                 "flood OPENED reset N last I", the last that is; the same when its input ends
 *	hostile_peer rush PORT COUNT REST    the same, and waits for none of them to be open
 */
#include "hostile.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define DESCRIPTORS	30000
#define EVENTS		256
#define FLOOD_TRIES	600	/* tenths of a second */

static void want_descriptors(void)
{
	const struct rlimit limit = { DESCRIPTORS, DESCRIPTORS };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		exit(1);
}

static void accept_all(int poller, int listener)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0 || errno == ECONNABORTED) {
		if (fd < 0)
			continue;
		event.data.fd = fd;
		epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
	}
}

static void echo_once(int fd)
{
	char data[4096];
	ssize_t n = read(fd, data, sizeof(data));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		printf("broke %s\n", errno_word());
	if (n <= 0 || send(fd, data, n, MSG_NOSIGNAL) != n)
		close(fd);
}

static int serve(int port)
{
	struct sockaddr_in address = address_of(port);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), poller = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, events[EVENTS];

	want_descriptors();
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096))
		return 1;
	epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == listener)
				accept_all(poller, listener);
			else
				echo_once(events[i].data.fd);
		}
	}
}

/* How many of them the other end has reset; the place of the last one. */
static int count_resets(const int *fds, int count, int *last)
{
	int resets = 0;

	for (int i = 0; i < count; i++) {
		struct pollfd state = { .fd = fds[i] };

		if (poll(&state, 1, 0) != 1 || !(state.revents & POLLERR))
			continue;
		resets++;
		*last = i + 1;
	}
	return resets;
}

static void tell_resets(const int *fds, int opened, int expected)
{
	int last = 0, resets, tries = 0;

	while ((resets = count_resets(fds, opened, &last)) < expected && tries++ < FLOOD_TRIES)
		usleep(100 * 1000);
	printf("flood %d reset %d last %d\n", opened, resets, last);
}

static int flood(int port, int count, int rest, int type)
{
	struct sockaddr_in address = address_of(port);
	int *fds = calloc(count, sizeof(*fds));
	char byte;
	int opened = 0;

	want_descriptors();
	/* The first waits: what waits for the daemon, which does not know of the process yet, gives way to nobody. */
	if (type & SOCK_NONBLOCK) {
		int first = tcp_socket();

		connect(first, (struct sockaddr *)&address, sizeof(address));
		close(first);
	}
	for (int i = 0; fds && i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type, 0);

		if (fd < 0 || (connect(fd, (struct sockaddr *)&address, sizeof(address)) && errno != EINPROGRESS))
			close(fd);
		else
			fds[opened++] = fd;
	}
	tell_resets(fds, opened, opened - rest);
	while (read(0, &byte, 1) > 0)
		;
	tell_resets(fds, opened, 0);
	return 0;
}

int main(int argc, char **argv)
{
	char byte;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc == 5 && !strcmp(argv[1], "flood"))
		return flood(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), 0);
	if (argc == 5 && !strcmp(argv[1], "rush"))
		return flood(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), SOCK_NONBLOCK);
	if (argc != 4)
		return 2;
	/* Known to the daemon by then, however busy that is. */
	if (!strcmp(argv[1], "later"))
		while (read(0, &byte, 1) > 0)
			;
	return !puts(try_port(atoi(argv[2]), argv[3]));
}
