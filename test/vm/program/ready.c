/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that do not block: connect, poll, epoll, select, and what they say when. */
#include "pair.h"

#include <sys/epoll.h>
#include <sys/select.h>

static void answer_late(int fd)
{
	char data[8];
	ssize_t n;

	while ((n = read(fd, data, 4)) == 4) {
		sleep_ms(100);
		NEED(write_all(fd, data, 4));
	}
	EQUAL(n, 0);
}

static int begin_connect(int family, int port)
{
	union address address = loopback(family, port);
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (connect(fd, &address.any, address_len(family)) && errno != EINPROGRESS)
		fail_at(__LINE__, "connect");
	return fd;
}

static short wait_for(int fd, short events, int timeout)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	return poll(&poll_fd, 1, timeout) == 1 ? poll_fd.revents : 0;
}

static int socket_error(int fd)
{
	int value = -1;
	socklen_t len = sizeof(value);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len);
	return value;
}

static void exchange_nonblocking(int family)
{
	union address peer;
	socklen_t len = sizeof(peer);
	struct server server;
	char data[8];
	int fd, i;

	start_server(&server, family, answer_late);
	fd = begin_connect(family, server.port);
	EQUAL(wait_for(fd, POLLOUT, 10000), POLLOUT);
	EQUAL(socket_error(fd), 0);
	CHECK(!getpeername(fd, &peer.any, &len));
	for (i = 0; i < 3; i++) {
		EQUAL(recv(fd, data, 4, 0), -1);
		EQUAL(errno, EAGAIN);
		EQUAL(send(fd, "ping", 4, 0), 4);
		EQUAL(wait_for(fd, POLLIN, 20), 0);
		EQUAL(wait_for(fd, POLLIN, 10000), POLLIN);
		/* Readable means that a read gives something. */
		EQUAL(recv(fd, data, 4, 0), 4);
		EQUAL(wait_for(fd, POLLIN | POLLOUT, 0), POLLOUT);
	}
	shutdown(fd, SHUT_WR);
	EQUAL(wait_for(fd, POLLIN, 10000) & POLLIN, POLLIN);
	EQUAL(recv(fd, data, 4, 0), 0);
	close(fd);
	stop_server(&server);
}

static void nonblocking_v4(void) { exchange_nonblocking(AF_INET); }
static void nonblocking_v6(void) { exchange_nonblocking(AF_INET6); }

static void connect_twice(void)
{
	union address address;
	struct server server;
	char data[4];
	int fd, err;

	start_server(&server, AF_INET, answer_late);
	address = loopback(AF_INET, server.port);
	fd = begin_connect(AF_INET, server.port);
	err = connect(fd, &address.any, sizeof(address.v4));
	CHECK(!err || errno == EALREADY || errno == EISCONN);
	EQUAL(wait_for(fd, POLLOUT, 10000), POLLOUT);
	err = connect(fd, &address.any, sizeof(address.v4));
	CHECK(!err || errno == EISCONN);
	EQUAL(connect(fd, &address.any, sizeof(address.v4)), -1);
	EQUAL(errno, EISCONN);
	EQUAL(send(fd, "ping", 4, 0), 4);
	fcntl(fd, F_SETFL, 0);
	NEED(read_exactly(fd, data, 4));
	close(fd);
	stop_server(&server);
}

static int free_port(void)
{
	int port, fd = listen_anywhere(AF_INET, &port);

	close(fd);
	return port;
}

static void refused(void)
{
	union address address = loopback(AF_INET, free_port());
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	EQUAL(connect(fd, &address.any, sizeof(address.v4)), -1);
	EQUAL(errno, ECONNREFUSED);
	EQUAL(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	EQUAL(errno, EPIPE);
	/* The same socket may try again. */
	EQUAL(connect(fd, &address.any, sizeof(address.v4)), -1);
	EQUAL(errno, ECONNREFUSED);
	close(fd);
}

static void refused_later(void)
{
	union address address = loopback(AF_INET, free_port());
	int fd = begin_connect(AF_INET, ntohs(address.v4.sin_port));
	short events = wait_for(fd, POLLOUT, 10000);

	CHECK(events & POLLERR);
	CHECK(events & POLLOUT);
	EQUAL(socket_error(fd), ECONNREFUSED);
	EQUAL(socket_error(fd), 0);
	close(fd);
}

static void refused_then_served(void)
{
	union address address = loopback(AF_INET, free_port());
	int fd = begin_connect(AF_INET, ntohs(address.v4.sin_port));
	struct server server;
	char data[4];

	CHECK(wait_for(fd, POLLOUT, 10000) & POLLERR);
	EQUAL(connect(fd, &address.any, sizeof(address.v4)), -1);
	EQUAL(errno, ECONNREFUSED);
	start_server(&server, AF_INET, answer_late);
	address = loopback(AF_INET, server.port);
	fcntl(fd, F_SETFL, 0);
	NEED(!connect(fd, &address.any, sizeof(address.v4)));
	NEED(write_all(fd, "ping", 4));
	NEED(read_exactly(fd, data, 4));
	close(fd);
	stop_server(&server);
}

/* One thread, both ends in one epoll set, edge-triggered: nothing here may block. */
struct loop {
	int epoll, listener, client, served;
	size_t client_sent, served_got, served_sent, client_got;
	bool client_done, served_done;
};

#define LOOP_BYTES	300000

static void add(struct loop *loop, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd };

	CHECK(!epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event));
}

static bool pump(int fd, size_t *got, size_t *sent, bool *shut, bool *done)
{
	unsigned char data[10000];
	ssize_t n;

	while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
		if (!is_pattern(data, n, *got))
			return false;
		*got += n;
	}
	if (n == 0)
		*done = true;
	else if (errno != EAGAIN)
		return false;
	while (*sent < LOOP_BYTES) {
		size_t len = LOOP_BYTES - *sent < sizeof(data) ? LOOP_BYTES - *sent : sizeof(data);

		fill_pattern(data, len, *sent);
		n = send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN;
		*sent += n;
	}
	if (!*shut) {
		*shut = true;
		shutdown(fd, SHUT_WR);
	}
	return true;
}

static void edge_triggered(void)
{
	struct loop loop = { .epoll = epoll_create1(0), .served = -1 };
	bool client_shut = false, served_shut = false;
	struct epoll_event events[8];
	int port, n, i;

	loop.listener = listen_anywhere(AF_INET, &port);
	fcntl(loop.listener, F_SETFL, O_NONBLOCK);
	EQUAL(accept(loop.listener, NULL, NULL), -1);
	EQUAL(errno, EAGAIN);
	add(&loop, loop.listener);
	loop.client = begin_connect(AF_INET, port);
	add(&loop, loop.client);
	while (!loop.client_done || !loop.served_done) {
		n = epoll_wait(loop.epoll, events, 8, 10000);
		NEED(n > 0);
		for (i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == loop.listener) {
				loop.served = accept4(fd, NULL, NULL, SOCK_NONBLOCK);
				NEED(loop.served >= 0);
				add(&loop, loop.served);
			} else if (fd == loop.client) {
				if (socket_error(fd) || !(events[i].events & ~EPOLLHUP))
					continue;
				NEED(pump(fd, &loop.client_got, &loop.client_sent, &client_shut, &loop.client_done));
			} else {
				NEED(pump(fd, &loop.served_got, &loop.served_sent, &served_shut, &loop.served_done));
			}
		}
	}
	EQUAL(loop.client_got, LOOP_BYTES);
	EQUAL(loop.served_got, LOOP_BYTES);
	close(loop.client);
	close(loop.served);
	close(loop.listener);
	close(loop.epoll);
}

static void hang_up(int fd)
{
	NEED(write_all(fd, "bye", 3));
}

static void client_hears(int fd)
{
	char data[8];
	short events;

	NEED(read_exactly(fd, data, 3));
	events = wait_for(fd, POLLIN | POLLRDHUP, 10000);
	CHECK(events & POLLIN);
	/* close_notify can be read before the FIN behind it has come, in a slow kernel by much. */
	CHECK(wait_for(fd, POLLRDHUP, 10000) & POLLRDHUP);
	EQUAL(read(fd, data, 1), 0);
	CHECK(wait_for(fd, POLLIN, 10000) & POLLIN);
	EQUAL(read(fd, data, 1), 0);
}

static void hang_up_seen(void) { run_pair(AF_INET, hang_up, client_hears); }

/* Sends only when asked: a blocking reader that trusts select() must never hang. */
static void send_on_demand(int fd)
{
	char byte;
	int i;

	for (i = 0; i < 5; i++) {
		NEED(read_exactly(fd, &byte, 1));
		sleep_ms(20);
		NEED(write_all(fd, "0123456789", 10));
	}
}

static void client_selects(int fd)
{
	struct timeval timeout;
	char data[10];
	fd_set set;
	int i;

	for (i = 0; i < 5; i++) {
		size_t have = 0;

		NEED(write_all(fd, "?", 1));
		while (have < sizeof(data)) {
			FD_ZERO(&set);
			FD_SET(fd, &set);
			timeout = (struct timeval){ .tv_sec = 10 };
			EQUAL(select(fd + 1, &set, NULL, NULL, &timeout), 1);
			ssize_t n = recv(fd, data + have, 4, MSG_DONTWAIT);

			NEED(n > 0);
			have += n;
		}
	}
}

static void select_is_true(void) { run_pair(AF_INET, send_on_demand, client_selects); }

static void accepted_nonblocking(void)
{
	int port, listener = listen_anywhere(AF_INET, &port), client, served;
	char data[4];

	client = begin_connect(AF_INET, port);
	EQUAL(wait_for(listener, POLLIN, 10000), POLLIN);
	served = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	NEED(served >= 0);
	EQUAL(wait_for(client, POLLOUT, 10000), POLLOUT);
	EQUAL(wait_for(served, POLLOUT, 10000), POLLOUT);
	EQUAL(recv(served, data, 4, 0), -1);
	EQUAL(errno, EAGAIN);
	EQUAL(send(served, "hi", 2, 0), 2);
	EQUAL(wait_for(client, POLLIN, 10000), POLLIN);
	EQUAL(recv(client, data, 4, 0), 2);
	close(served);
	EQUAL(wait_for(client, POLLIN, 10000) & POLLIN, POLLIN);
	EQUAL(recv(client, data, 4, 0), 0);
	close(client);
	close(listener);
}

/* A mark that is set while the connection is under way holds nothing up, and is in force afterwards. */
static void low_water_early(void)
{
	int port, listener = listen_anywhere(AF_INET, &port), client = begin_connect(AF_INET, port), served, i;
	int mark = 65536, tries = 500;
	socklen_t len = sizeof(mark);
	char data[4];

	EQUAL(setsockopt(client, SOL_SOCKET, SO_RCVLOWAT, &mark, len), 0);
	EQUAL(wait_for(listener, POLLIN, 10000), POLLIN);
	served = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	NEED(served >= 0);
	EQUAL(setsockopt(served, SOL_SOCKET, SO_RCVLOWAT, &mark, len), 0);
	EQUAL(wait_for(client, POLLOUT, 5000), POLLOUT);
	EQUAL(wait_for(served, POLLOUT, 5000), POLLOUT);
	EQUAL(send(served, "pong", 4, 0), 4);
	while (recv(client, data, 4, 0) != 4 && errno == EAGAIN && tries--)
		usleep(10000);
	CHECK(tries > 0);
	for (i = 0; i < 2; i++) {
		EQUAL(getsockopt(i ? client : served, SOL_SOCKET, SO_RCVLOWAT, &mark, &len), 0);
		EQUAL(mark, 65536);
	}
	close(served);
	close(client);
	close(listener);
}

int main(void)
{
	begin_cases();
	run_case("nonblocking_v4", nonblocking_v4);
	run_case("nonblocking_v6", nonblocking_v6);
	run_case("connect_twice", connect_twice);
	run_case("refused", refused);
	run_case("refused_later", refused_later);
	run_case("refused_then_served", refused_then_served);
	run_case("edge_triggered", edge_triggered);
	run_case("hang_up_seen", hang_up_seen);
	run_case("select_is_true", select_is_true);
	run_case("accepted_nonblocking", accepted_nonblocking);
	run_case("low_water_early", low_water_early);
	return end_cases("ready");
}
