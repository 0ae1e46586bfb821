/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plain ends of hostile_peer.test.ts: an echo server and a client, which the
 * rules select, and a flood of connections that never say a word.
 *
 *	hostile_peer serve PORT          echoes, as many connections at once as there are
 *	hostile_peer connect PORT WORD   writes "spoke", or what became of it
 *	hostile_peer later PORT WORD     the same once its input has ended
 *	hostile_peer flood PORT COUNT    "flood N" when N are open; holds them until its input ends
 */
#include "hostile.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#define DESCRIPTORS	30000
#define EVENTS		256

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

static int flood(int port, int count)
{
	struct sockaddr_in address = address_of(port);
	char byte;
	int opened = 0;

	want_descriptors();
	for (int i = 0; i < count; i++) {
		int fd = tcp_socket();

		if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
			close(fd);
		else
			opened++;
	}
	printf("flood %d\n", opened);
	return read(0, &byte, 1) < 0;
}

int main(int argc, char **argv)
{
	char byte;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc != 4)
		return 2;
	if (!strcmp(argv[1], "flood"))
		return flood(atoi(argv[2]), atoi(argv[3]));
	/* Known to the daemon by then, however busy that is. */
	if (!strcmp(argv[1], "later"))
		while (read(0, &byte, 1) > 0)
			;
	return !puts(try_port(atoi(argv[2]), argv[3]));
}
