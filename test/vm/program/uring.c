/* SPDX-License-Identifier: Apache-2.0 */
/* The same by io_uring, without a library: connect, accept, send, receive, poll. */
#include "pair.h"

#include "ring.h"

static void submit(struct ring *ring)
{
	__atomic_store_n(ring->sq_tail, *ring->sq_tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0) != 1)
		fail_at(__LINE__, "io_uring_enter");
}

/* Result of one completion; its user_data in *which. */
static int complete(struct ring *ring, uint64_t *which)
{
	struct io_uring_cqe *cqe;
	int result;

	while (*ring->cq_head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) {
		if (syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR) {
			fail_at(__LINE__, "io_uring_enter");
			return -errno;
		}
	}
	cqe = &ring->cqes[*ring->cq_head & *ring->cq_mask];
	result = cqe->res;
	if (which)
		*which = cqe->user_data;
	__atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
	return result;
}

static int transfer(struct ring *ring, int opcode, int fd, void *data, size_t len)
{
	struct io_uring_sqe *sqe = next_entry(ring, opcode, fd);

	sqe->addr = (uintptr_t)data;
	sqe->len = len;
	submit(ring);
	return complete(ring, NULL);
}

static void echo(int fd)
{
	char data[4096];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		NEED(write_all(fd, data, n));
	EQUAL(n, 0);
}

static void client_with_flags(int flags)
{
	union address address;
	struct io_uring_sqe *sqe;
	struct server server;
	struct ring ring;
	char data[16] = {};
	int fd, i;

	if (!open_ring(&ring)) {
		printf("SKIP %s: io_uring_setup: %s\n", case_name, strerror(errno));
		return;
	}
	start_server(&server, AF_INET, echo);
	address = loopback(AF_INET, server.port);
	fd = socket(AF_INET, SOCK_STREAM | flags, 0);
	sqe = next_entry(&ring, IORING_OP_CONNECT, fd);
	sqe->addr = (uintptr_t)&address;
	sqe->off = sizeof(address.v4);
	submit(&ring);
	i = complete(&ring, NULL);
	/* An O_NONBLOCK file gets what connect(2) gives. */
	if (flags && i == -EINPROGRESS) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

		EQUAL(poll(&poll_fd, 1, 10000), 1);
	} else {
		EQUAL(i, 0);
	}
	for (i = 0; i < 3; i++) {
		EQUAL(transfer(&ring, IORING_OP_SEND, fd, "uring", 5), 5);
		if (flags) {
			struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

			EQUAL(poll(&poll_fd, 1, 10000), 1);
		}
		EQUAL(transfer(&ring, IORING_OP_RECV, fd, data, sizeof(data)), 5);
		CHECK(!memcmp(data, "uring", 5));
	}
	close(fd);
	stop_server(&server);
	close(ring.fd);
}

static void client(void) { client_with_flags(0); }
static void client_nonblocking(void) { client_with_flags(SOCK_NONBLOCK); }

static void *talk(void *argument)
{
	int fd = connect_to(AF_INET, *(int *)argument);
	char data[8];

	if (fd < 0)
		return NULL;
	sleep_ms(100);
	CHECK(write_all(fd, "hello", 5));
	CHECK(read_exactly(fd, data, 5));
	close(fd);
	return NULL;
}

static void server(void)
{
	struct io_uring_sqe *sqe;
	pthread_t thread;
	struct ring ring;
	char data[16];
	int port, listener, fd;

	if (!open_ring(&ring)) {
		printf("SKIP %s: io_uring_setup: %s\n", case_name, strerror(errno));
		return;
	}
	listener = listen_anywhere(AF_INET, &port);
	next_entry(&ring, IORING_OP_ACCEPT, listener);
	submit(&ring);
	pthread_create(&thread, NULL, talk, &port);
	fd = complete(&ring, NULL);
	NEED(fd >= 0);
	/* Armed before there is anything: completes when the bytes are there, not before. */
	sqe = next_entry(&ring, IORING_OP_POLL_ADD, fd);
	sqe->poll_events = POLLIN;
	submit(&ring);
	EQUAL(complete(&ring, NULL) & POLLIN, POLLIN);
	EQUAL(recv(fd, data, sizeof(data), MSG_DONTWAIT), 5);
	EQUAL(transfer(&ring, IORING_OP_WRITE, fd, "world", 5), 5);
	EQUAL(transfer(&ring, IORING_OP_READ, fd, data, sizeof(data)), 0);
	pthread_join(thread, NULL);
	close(fd);
	close(listener);
	close(ring.fd);
}

/* A read that waits in the kernel while a write of the same socket goes on. */
static void read_beside_write(void)
{
	struct server server;
	struct io_uring_sqe *sqe;
	struct ring ring;
	char data[16];
	uint64_t which;
	int fd, i, n;

	if (!open_ring(&ring)) {
		printf("SKIP %s: io_uring_setup: %s\n", case_name, strerror(errno));
		return;
	}
	start_server(&server, AF_INET, echo);
	fd = connect_to(AF_INET, server.port);
	NEED(fd >= 0);
	sqe = next_entry(&ring, IORING_OP_RECV, fd);
	sqe->addr = (uintptr_t)data;
	sqe->len = sizeof(data);
	sqe->user_data = 1;
	submit(&ring);
	sleep_ms(50);
	sqe = next_entry(&ring, IORING_OP_SEND, fd);
	sqe->addr = (uintptr_t)"both";
	sqe->len = 4;
	sqe->user_data = 2;
	submit(&ring);
	for (i = 0; i < 2; i++) {
		n = complete(&ring, &which);
		EQUAL(n, 4);
		CHECK(which == 1 || which == 2);
	}
	CHECK(!memcmp(data, "both", 4));
	close(fd);
	stop_server(&server);
	close(ring.fd);
}

int main(void)
{
	begin_cases();
	run_case("client", client);
	run_case("client_nonblocking", client_nonblocking);
	run_case("server", server);
	run_case("read_beside_write", read_beside_write);
	return end_cases("uring");
}
