/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that never pass the program: sendfile and splice, both ways. */
#include "pair.h"

#include <sys/sendfile.h>

#define FILE_BYTES	(3u << 20)

static int pattern_file(void)
{
	static unsigned char data[1 << 16];
	char name[] = "/tmp/riprap-file-XXXXXX";
	int fd = mkstemp(name);
	size_t done;

	unlink(name);
	for (done = 0; done < FILE_BYTES; done += sizeof(data)) {
		fill_pattern(data, sizeof(data), done);
		if (!write_all(fd, data, sizeof(data)))
			fail_at(__LINE__, "cannot write the file");
	}
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static void send_file(int fd)
{
	int file = pattern_file();
	off_t offset = 0;

	NEED(write_all(fd, "head", 4));
	while (offset < FILE_BYTES)
		NEED(sendfile(fd, file, &offset, FILE_BYTES - offset) > 0);
	NEED(write_all(fd, "tail", 4));
	close(file);
}

static void client_reads_file(int fd)
{
	unsigned char data[30000];
	size_t total = 0;

	NEED(read_exactly(fd, data, 4));
	CHECK(!memcmp(data, "head", 4));
	while (total < FILE_BYTES) {
		size_t n = FILE_BYTES - total < sizeof(data) ? FILE_BYTES - total : sizeof(data);

		NEED(read_exactly(fd, data, n));
		NEED(is_pattern(data, n, total));
		total += n;
	}
	NEED(read_exactly(fd, data, 4));
	CHECK(!memcmp(data, "tail", 4));
	EQUAL(read(fd, data, 1), 0);
}

static void sendfile_whole(void) { run_pair(AF_INET, send_file, client_reads_file); }

/* The client's own first byte is a file's: the connection may still be under way. */
static void sendfile_up(void) { run_pair(AF_INET6, client_reads_file, send_file); }

static void send_pattern(int fd)
{
	unsigned char data[40000];
	size_t done = 0;

	while (done < FILE_BYTES) {
		size_t n = FILE_BYTES - done < sizeof(data) ? FILE_BYTES - done : sizeof(data);

		fill_pattern(data, n, done);
		NEED(write_all(fd, data, n));
		done += n;
	}
}

static void client_splices_to_file(int fd)
{
	char name[] = "/tmp/riprap-splice-XXXXXX";
	int file = mkstemp(name), ends[2];
	static unsigned char data[1 << 16];
	size_t total = 0;
	ssize_t n, out;

	unlink(name);
	NEED(!pipe(ends));
	while ((n = splice(fd, NULL, ends[1], NULL, 1 << 16, SPLICE_F_MOVE)) > 0) {
		for (; n > 0; n -= out) {
			out = splice(ends[0], NULL, file, NULL, n, SPLICE_F_MOVE);
			NEED(out > 0);
			total += out;
		}
	}
	EQUAL(n, 0);
	EQUAL(total, FILE_BYTES);
	lseek(file, 0, SEEK_SET);
	for (total = 0; total < FILE_BYTES; total += sizeof(data)) {
		NEED(read_exactly(file, data, sizeof(data)));
		NEED(is_pattern(data, sizeof(data), total));
	}
	close(file);
	close(ends[0]);
	close(ends[1]);
}

static void splice_in(void) { run_pair(AF_INET, send_pattern, client_splices_to_file); }

/* As a proxy does it: socket to pipe to socket. */
static void echo_by_splice(int fd)
{
	int ends[2];
	ssize_t n, out;

	NEED(!pipe(ends));
	while ((n = splice(fd, NULL, ends[1], NULL, 1 << 16, 0)) > 0) {
		for (; n > 0; n -= out) {
			out = splice(ends[0], NULL, fd, NULL, n, n > 1000 ? SPLICE_F_MORE : 0);
			NEED(out > 0);
		}
	}
	EQUAL(n, 0);
	close(ends[0]);
	close(ends[1]);
}

static void client_through_proxy(int fd)
{
	unsigned char data[8000], back[8000];
	size_t done;

	for (done = 0; done < 400000; done += sizeof(data)) {
		fill_pattern(data, sizeof(data), done);
		NEED(write_all(fd, data, sizeof(data)));
		NEED(read_exactly(fd, back, sizeof(back)));
		NEED(is_pattern(back, sizeof(back), done));
	}
	shutdown(fd, SHUT_WR);
	EQUAL(read(fd, data, 1), 0);
}

static void splice_through(void) { run_pair(AF_INET, echo_by_splice, client_through_proxy); }

static void client_splices_nothing(int fd)
{
	int ends[2];

	NEED(!pipe(ends));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	EQUAL(splice(fd, NULL, ends[1], NULL, 100, 0), -1);
	EQUAL(errno, EAGAIN);
	NEED(write_all(fd, "x", 1));
	close(ends[0]);
	close(ends[1]);
}

static void wait_for_byte(int fd)
{
	char byte;

	NEED(read_exactly(fd, &byte, 1));
}

static void splice_nonblocking(void) { run_pair(AF_INET, wait_for_byte, client_splices_nothing); }

static void send_file_nonblocking(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };
	int file = pattern_file();
	off_t offset = 0;

	NEED(write_all(fd, "head", 4));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (offset < FILE_BYTES) {
		if (sendfile(fd, file, &offset, FILE_BYTES - offset) < 0) {
			NEED(errno == EAGAIN);
			NEED(poll(&poll_fd, 1, 10000) == 1);
		}
	}
	fcntl(fd, F_SETFL, 0);
	NEED(write_all(fd, "tail", 4));
	close(file);
}

static void sendfile_nonblocking(void) { run_pair(AF_INET, send_file_nonblocking, client_reads_file); }

int main(void)
{
	begin_cases();
	run_case("sendfile_whole", sendfile_whole);
	run_case("sendfile_up", sendfile_up);
	run_case("sendfile_nonblocking", sendfile_nonblocking);
	run_case("splice_in", splice_in);
	run_case("splice_through", splice_through);
	run_case("splice_nonblocking", splice_nonblocking);
	return end_cases("file");
}
