/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a stream socket: order, ends, flags. */
#include "pair.h"

#define BULK	(4u << 20)

static void echo(int fd)
{
	char data[4096];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		NEED(write_all(fd, data, n));
	EQUAL(n, 0);
}

static void client_echo(int fd)
{
	char data[16] = {};

	NEED(write_all(fd, "ping", 4));
	NEED(read_exactly(fd, data, 4));
	CHECK(!memcmp(data, "ping", 4));
	CHECK(!shutdown(fd, SHUT_WR));
	EQUAL(read(fd, data, sizeof(data)), 0);
	EQUAL(read(fd, data, sizeof(data)), 0);
}

static void echo_v4(void) { run_pair(AF_INET, echo, client_echo); }
static void echo_v6(void) { run_pair(AF_INET6, echo, client_echo); }

static void echo_mapped(void)
{
	union address address = loopback(AF_INET6, 0);
	struct server server;
	int fd;

	start_server(&server, AF_INET, echo);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.v6.sin6_addr);
	address.v6.sin6_port = htons(server.port);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	CHECK(!connect(fd, &address.any, sizeof(address.v6)));
	client_echo(fd);
	close(fd);
	stop_server(&server);
}

static void greet(int fd)
{
	char data[8];

	NEED(write_all(fd, "220 hello\r\n", 11));
	EQUAL(read(fd, data, 4), 4);
	EQUAL(read(fd, data, 4), 0);
}

static void client_listens(int fd)
{
	char data[11];

	NEED(read_exactly(fd, data, 11));
	CHECK(!memcmp(data, "220 hello\r\n", 11));
	NEED(write_all(fd, "QUIT", 4));
}

static void server_first(void) { run_pair(AF_INET, greet, client_listens); }

static void read_then_answer(int fd)
{
	char data[64];
	size_t total = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		total += n;
	EQUAL(n, 0);
	EQUAL(total, 1000);
	NEED(write_all(fd, "answer", 6));
}

static void client_half_closes(int fd)
{
	char data[1000] = {};

	NEED(write_all(fd, data, sizeof(data)));
	CHECK(!shutdown(fd, SHUT_WR));
	EQUAL(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	EQUAL(errno, EPIPE);
	NEED(read_exactly(fd, data, 6));
	CHECK(!memcmp(data, "answer", 6));
	EQUAL(read(fd, data, 1), 0);
}

static void half_close(void) { run_pair(AF_INET, read_then_answer, client_half_closes); }

static void send_parts(int fd)
{
	NEED(write_all(fd, "abcd", 4));
	sleep_ms(50);
	NEED(write_all(fd, "efgh", 4));
	sleep_ms(200);
}

static void client_peeks(int fd)
{
	char data[16];
	int available = -1;

	EQUAL(recv(fd, data, 2, MSG_PEEK), 2);
	CHECK(!memcmp(data, "ab", 2));
	EQUAL(recv(fd, data, 3, MSG_PEEK), 3);
	CHECK(!memcmp(data, "abc", 3));
	sleep_ms(100);
	CHECK(!ioctl(fd, FIONREAD, &available));
	EQUAL(available, 8);
	EQUAL(recv(fd, data, sizeof(data), MSG_PEEK), 8);
	CHECK(!memcmp(data, "abcdefgh", 8));
	EQUAL(recv(fd, data, 1, 0), 1);
	EQUAL(recv(fd, data, sizeof(data), MSG_PEEK | MSG_DONTWAIT), 7);
	EQUAL(recv(fd, data, sizeof(data), 0), 7);
	CHECK(!memcmp(data, "bcdefgh", 7));
	EQUAL(recv(fd, data, sizeof(data), MSG_DONTWAIT), -1);
	EQUAL(errno, EAGAIN);
}

static void peek(void) { run_pair(AF_INET, send_parts, client_peeks); }

static void client_waits_for_all(int fd)
{
	char data[8];

	EQUAL(recv(fd, data, 8, MSG_WAITALL), 8);
	CHECK(!memcmp(data, "abcdefgh", 8));
}

static void wait_all(void) { run_pair(AF_INET, send_parts, client_waits_for_all); }

static void client_discards(int fd)
{
	char data[8];

	EQUAL(recv(fd, NULL, 3, MSG_TRUNC), 3);
	EQUAL(recv(fd, data, 1, 0), 1);
	EQUAL(data[0], 'd');
}

static void discard(void) { run_pair(AF_INET, send_parts, client_discards); }

static void send_bulk(int fd)
{
	unsigned char data[50000];
	size_t done = 0;

	while (done < BULK) {
		size_t n = BULK - done < sizeof(data) ? BULK - done : sizeof(data);

		fill_pattern(data, n, done);
		NEED(write_all(fd, data, n));
		done += n;
	}
}

/* Closing at once must not lose what is still on its way. */
static void client_reads_bulk(int fd)
{
	unsigned char data[70000];
	size_t total = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0) {
		NEED(is_pattern(data, n, total));
		total += n;
	}
	EQUAL(n, 0);
	EQUAL(total, BULK);
}

static void bulk_then_close(void) { run_pair(AF_INET, send_bulk, client_reads_bulk); }
static void bulk_up(void) { run_pair(AF_INET6, client_reads_bulk, send_bulk); }

/* A writer that never blocks, with a small buffer and a slow reader, then close. */
static void send_nonblocking(int fd)
{
	static unsigned char data[50000];
	size_t done = 0, total = 1u << 20;
	int size = 8192;
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (done < total) {
		size_t len = total - done < sizeof(data) ? total - done : sizeof(data);
		ssize_t n;

		fill_pattern(data, len, done);
		n = write(fd, data, len);
		if (n < 0) {
			NEED(errno == EAGAIN);
			NEED(poll(&poll_fd, 1, 10000) == 1);
			continue;
		}
		done += n;
	}
}

static void client_reads_slowly(int fd)
{
	static unsigned char data[20000];
	size_t total = 0;
	ssize_t n;

	sleep_ms(300);
	while ((n = read(fd, data, sizeof(data))) > 0) {
		NEED(is_pattern(data, n, total));
		total += n;
		if (total < 200000)
			sleep_ms(10);
	}
	EQUAL(n, 0);
	EQUAL(total, 1u << 20);
}

static void full_buffer_then_close(void) { run_pair(AF_INET, send_nonblocking, client_reads_slowly); }

static void *write_side(void *argument)
{
	send_bulk(*(int *)argument);
	shutdown(*(int *)argument, SHUT_WR);
	return NULL;
}

static void both_ways(int fd)
{
	pthread_t writer;

	pthread_create(&writer, NULL, write_side, &fd);
	client_reads_bulk(fd);
	pthread_join(writer, NULL);
}

static void full_duplex(void) { run_pair(AF_INET, both_ways, both_ways); }

static void server_more(int fd)
{
	char data[10];

	NEED(read_exactly(fd, data, 10));
	CHECK(!memcmp(data, "0123456789", 10));
	NEED(write_all(fd, "k", 1));
}

static void client_more(int fd)
{
	struct iovec vec[2] = { { "56", 2 }, { "789", 3 } };
	struct msghdr message = { .msg_iov = vec, .msg_iovlen = 2 };
	char byte;

	EQUAL(send(fd, "01234", 5, MSG_MORE), 5);
	EQUAL(sendmsg(fd, &message, 0), 5);
	NEED(read_exactly(fd, &byte, 1));
}

static void more(void) { run_pair(AF_INET, server_more, client_more); }

static void names(int fd)
{
	union address own, peer;
	socklen_t len = sizeof(own);
	int value = -1, one = 1;
	socklen_t value_len = sizeof(value);

	CHECK(!getsockname(fd, &own.any, &len));
	len = sizeof(peer);
	CHECK(!getpeername(fd, &peer.any, &len));
	CHECK(own.v4.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && own.v4.sin_port != peer.v4.sin_port);
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &value_len));
	EQUAL(value, 0);
	CHECK(!setsockopt(fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one)));
	CHECK(!getsockopt(fd, SOL_TCP, TCP_NODELAY, &value, &value_len));
	EQUAL(value, 1);
	NEED(write_all(fd, "x", 1));
	NEED(read_exactly(fd, &value, 1));
}

static void options(void) { run_pair(AF_INET, names, names); }

static void close_unread(int fd)
{
	NEED(write_all(fd, "hello", 5));
	sleep_ms(100);
}

static void client_reads_then_writes(int fd)
{
	char data[8];
	int i, sent = 0;

	NEED(read_exactly(fd, data, 5));
	EQUAL(read(fd, data, 1), 0);
	/* The peer is gone: soon a write says so. */
	for (i = 0; i < 50 && sent >= 0; i++) {
		sent = send(fd, "x", 1, MSG_NOSIGNAL);
		sleep_ms(10);
	}
	EQUAL(sent, -1);
	CHECK(errno == EPIPE || errno == ECONNRESET);
}

static void write_to_closed(void) { run_pair(AF_INET, close_unread, client_reads_then_writes); }

/* One thread, both ends: the connection stands in the queue while connect() returns. */
static void connect_before_accept(void)
{
	int port, listener = listen_anywhere(AF_INET, &port), client, served;
	char data[4];

	client = connect_to(AF_INET, port);
	served = accept(listener, NULL, NULL);
	NEED(client >= 0 && served >= 0);
	NEED(write_all(client, "ping", 4));
	NEED(read_exactly(served, data, 4));
	CHECK(!memcmp(data, "ping", 4));
	close(served);
	EQUAL(read(client, data, 1), 0);
	close(client);
	close(listener);
}

static void client_zerocopy(int fd)
{
	static char data[40000];
	char control[128];
	struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };
	struct pollfd poll_fd = { .fd = fd };
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)))
		return;
	NEED(send(fd, data, sizeof(data), MSG_ZEROCOPY) == sizeof(data));
	/* The notification that the buffer may be used again. */
	EQUAL(poll(&poll_fd, 1, 10000), 1);
	CHECK(poll_fd.revents & POLLERR);
	CHECK(recvmsg(fd, &message, MSG_ERRQUEUE) >= 0);
	CHECK(CMSG_FIRSTHDR(&message));
	shutdown(fd, SHUT_WR);
	EQUAL(read(fd, data, 1), 0);
}

static void read_to_end(int fd)
{
	char data[4096];
	size_t total = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		total += n;
	EQUAL(n, 0);
	CHECK(total == 40000 || total == 0);
}

static void zerocopy(void) { run_pair(AF_INET, read_to_end, client_zerocopy); }

int main(void)
{
	begin_cases();
	run_case("echo_v4", echo_v4);
	run_case("echo_v6", echo_v6);
	run_case("echo_mapped", echo_mapped);
	run_case("server_first", server_first);
	run_case("half_close", half_close);
	run_case("peek", peek);
	run_case("wait_all", wait_all);
	run_case("discard", discard);
	run_case("bulk_then_close", bulk_then_close);
	run_case("bulk_up", bulk_up);
	run_case("full_buffer_then_close", full_buffer_then_close);
	run_case("full_duplex", full_duplex);
	run_case("more", more);
	run_case("options", options);
	run_case("write_to_closed", write_to_closed);
	run_case("connect_before_accept", connect_before_accept);
	run_case("zerocopy", zerocopy);
	return end_cases("stream");
}
