// SPDX-License-Identifier: Apache-2.0
/*
 * The load of the data path benches: one plain-socket server and client that know nothing of TLS,
 * and with --ktls the peer "bare kTLS": the same bytes over TLS records with fixed keys set by
 * setsockopt, without any handshake.
 *
 *   wire serve PORT [--ktls]
 *   wire connect ADDRESS PORT COUNT [--spread] new connections one after the other, 100 bytes each way;
 *                                              --spread: each to the next address, so that none can resume another
 *   wire rr ADDRESS PORT SECONDS [--ktls]      100-byte request and response on one connection
 *   wire stream ADDRESS PORT MIB [--ktls]      16 KiB writes on one connection
 *   wire sendfile ADDRESS PORT MIB [--ktls]    the same bytes out of a file, by sendfile()
 *
 * Prints one JSON line; exits 1 with a sentence on standard error when anything fails.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define MESSAGE_BYTES	100
#define STREAM_BYTES	16384
#define FILE_BYTES	(1u << 20)
#define SETTLE_US	300000

static int use_ktls, spread;

/* Both directions of both ends use the same key: there is no secrecy to lose in a bench. */
static void set_ktls(int fd)
{
	struct tls12_crypto_info_aes_gcm_128 info = {
		.info = { .version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128 },
	};

	memset(info.key, 0x2a, sizeof(info.key));
	memset(info.iv, 0x17, sizeof(info.iv));
	memset(info.salt, 0x33, sizeof(info.salt));
	if (setsockopt(fd, SOL_TCP, TCP_ULP, "tls", sizeof("tls")))
		die("set TCP_ULP tls");
	if (setsockopt(fd, SOL_TLS, TLS_TX, &info, sizeof(info)) || setsockopt(fd, SOL_TLS, TLS_RX, &info, sizeof(info)))
		die("set TLS_TX and TLS_RX");
}

static int read_whole(int fd, void *data, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, (char *)data + have, len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return have || n < 0 ? -1 : 0;
		have += (size_t)n;
	}
	return 1;
}

static void write_whole(int fd, const void *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("write");
		data = (const char *)data + n;
		len -= (size_t)n;
	}
}

/* The first byte of the first message says which load it is. */
static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg, one = 1;
	static _Thread_local char data[STREAM_BYTES];
	uint64_t total = 0;
	ssize_t n;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (use_ktls)
		set_ktls(fd);
	if (read_whole(fd, data, MESSAGE_BYTES) <= 0)
		goto out;
	if (data[0] == 'S') {
		while ((n = read(fd, data, sizeof(data))) > 0)
			total += (uint64_t)n;
		write_whole(fd, &total, sizeof(total));
		goto out;
	}
	do {
		write_whole(fd, data, MESSAGE_BYTES);
	} while (read_whole(fd, data, MESSAGE_BYTES) > 0);
out:
	close(fd);
	return NULL;
}

static _Noreturn void serve(uint16_t port)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_any };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), one = 1;
	pthread_attr_t detached;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&detached, 256 * 1024);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 4096))
		die("listen");
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		pthread_t thread;

		if (peer < 0)
			continue;
		if (pthread_create(&thread, &detached, serve_one, (void *)(intptr_t)peer))
			close(peer);
	}
}

static int open_connection(const char *address, uint16_t port, size_t nth)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
		die("parse the address");
	if (spread)
		to.sin_addr.s_addr = htonl(ntohl(to.sin_addr.s_addr) + (uint32_t)nth);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("connect");
	if (use_ktls)
		set_ktls(fd);
	return fd;
}

/* Whoever is told of a new connection (riprap's daemon writes its flow down) has done so: the figure is of one that stands. */
static int open_settled(const char *address, uint16_t port)
{
	int fd = open_connection(address, port, 0);

	usleep(SETTLE_US);
	return fd;
}

static void report(const char *what, uint64_t *took, size_t n, uint64_t total_ns)
{
	sort_figures(took, n);
	printf("{\"what\":\"%s\",\"count\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"per_second\":%.1f}\n", what, n,
	       took[n / 2] / 1e3, took[n * 99 / 100] / 1e3, n * 1e9 / total_ns);
}

static void run_connect(const char *address, uint16_t port, size_t count)
{
	uint64_t *took = calloc(count, sizeof(*took)), begin = now_ns();
	char data[MESSAGE_BYTES] = "R";

	for (size_t i = 0; i < count; i++) {
		uint64_t start = now_ns();
		int fd = open_connection(address, port, i);

		write_whole(fd, data, sizeof(data));
		if (read_whole(fd, data, sizeof(data)) <= 0)
			die("read the first answer");
		took[i] = now_ns() - start;
		close(fd);
	}
	report("connect", took, count, now_ns() - begin);
}

static void run_rr(const char *address, uint16_t port, double seconds)
{
	size_t max = 4000000, n = 0;
	uint64_t *took = calloc(max, sizeof(*took)), begin, end;
	int fd = open_settled(address, port);
	char data[MESSAGE_BYTES] = "R";

	begin = now_ns();
	end = begin + (uint64_t)(seconds * 1e9);
	while (n < max && now_ns() < end) {
		uint64_t start = now_ns();

		write_whole(fd, data, sizeof(data));
		if (read_whole(fd, data, sizeof(data)) <= 0)
			die("read a response");
		took[n++] = now_ns() - start;
	}
	report("rr", took, n, now_ns() - begin);
}

static void send_file(int fd, int file, size_t bytes)
{
	while (bytes) {
		off_t from = 0;
		ssize_t n = sendfile(fd, file, &from, bytes < FILE_BYTES ? bytes : FILE_BYTES);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("sendfile");
		bytes -= (size_t)n;
	}
}

static void run_stream(const char *address, uint16_t port, size_t mib, int from_file)
{
	static char data[STREAM_BYTES];
	int fd = open_settled(address, port), file = memfd_create("wire", 0);
	uint64_t begin, total = 0, took;

	if (file < 0 || ftruncate(file, FILE_BYTES))
		die("make a file");
	data[0] = 'S';
	begin = now_ns();
	write_whole(fd, data, MESSAGE_BYTES);
	if (from_file)
		send_file(fd, file, mib << 20);
	for (size_t i = 0; i < mib * 64 && !from_file; i++)
		write_whole(fd, data, sizeof(data));
	shutdown(fd, SHUT_WR);
	if (read_whole(fd, &total, sizeof(total)) <= 0 || total != mib << 20)
		die("read the byte count");
	took = now_ns() - begin;
	printf("{\"what\":\"%s\",\"mib\":%zu,\"mib_per_second\":%.2f}\n", from_file ? "sendfile" : "stream", mib,
	       mib * 1e9 / took);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[argc - 1], "--ktls")) {
		use_ktls = 1;
		argc--;
	} else if (argc > 1 && !strcmp(argv[argc - 1], "--spread")) {
		spread = 1;
		argc--;
	}
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve((uint16_t)atoi(argv[2]));
	if (argc == 5 && !strcmp(argv[1], "connect"))
		run_connect(argv[2], (uint16_t)atoi(argv[3]), strtoul(argv[4], NULL, 10));
	else if (argc == 5 && !strcmp(argv[1], "rr"))
		run_rr(argv[2], (uint16_t)atoi(argv[3]), atof(argv[4]));
	else if (argc == 5 && !strcmp(argv[1], "stream"))
		run_stream(argv[2], (uint16_t)atoi(argv[3]), strtoul(argv[4], NULL, 10), 0);
	else if (argc == 5 && !strcmp(argv[1], "sendfile"))
		run_stream(argv[2], (uint16_t)atoi(argv[3]), strtoul(argv[4], NULL, 10), 1);
	else {
		fprintf(stderr, "usage: wire serve PORT | connect ADDRESS PORT COUNT | rr ADDRESS PORT SECONDS | stream|sendfile ADDRESS PORT MIB [--ktls | --spread]\n");
		return 2;
	}
	return 0;
}
