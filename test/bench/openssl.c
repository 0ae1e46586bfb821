// SPDX-License-Identifier: Apache-2.0
/*
 * The peer "OpenSSL": TLS 1.3 in user space, both ends with a certificate, the same loads as wire.c.
 *
 *   openssl serve PORT DIRECTORY
 *   openssl rr ADDRESS PORT SECONDS DIRECTORY      100-byte request and response on one connection
 *   openssl stream ADDRESS PORT MIB DIRECTORY      16 KiB writes on one connection
 *   openssl handshake COUNT DIRECTORY              full mutual handshakes of both ends in memory, no socket
 *
 * DIRECTORY holds ca.crt, and client.pem and server.pem with chain and key. Prints one JSON line; exits 1 with a
 * sentence on standard error when anything fails.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

#define MESSAGE_BYTES	100
#define STREAM_BYTES	16384

static SSL_CTX *context;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "openssl: cannot %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

/* AES-128-GCM and X25519, no tickets: what riprap's full handshake does. */
static SSL_CTX *make_context(const char *directory, int server)
{
	SSL_CTX *made = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	const char *name = server ? "server" : "client";
	char root[256], pem[256];

	snprintf(root, sizeof(root), "%s/ca.crt", directory);
	snprintf(pem, sizeof(pem), "%s/%s.pem", directory, name);
	if (!made || !SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(made, "TLS_AES_128_GCM_SHA256") || !SSL_CTX_set1_groups_list(made, "X25519") ||
	    !SSL_CTX_load_verify_locations(made, root, NULL) || SSL_CTX_use_certificate_chain_file(made, pem) != 1 ||
	    SSL_CTX_use_PrivateKey_file(made, pem, SSL_FILETYPE_PEM) != 1)
		fail("load the certificates");
	SSL_CTX_set_verify(made, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_num_tickets(made, 0);
	SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
	return made;
}

static int read_whole(SSL *tls, void *data, int len)
{
	int have = 0;

	while (have < len) {
		int n = SSL_read(tls, (char *)data + have, len - have);

		if (n <= 0)
			return 0;
		have += n;
	}
	return 1;
}

static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg, one = 1, n;
	char data[STREAM_BYTES];
	SSL *tls = SSL_new(context);
	uint64_t total = 0;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	SSL_set_fd(tls, fd);
	if (SSL_accept(tls) != 1 || !read_whole(tls, data, MESSAGE_BYTES))
		goto out;
	if (data[0] == 'S') {
		while ((n = SSL_read(tls, data, sizeof(data))) > 0)
			total += (uint64_t)n;
		SSL_write(tls, &total, sizeof(total));
	} else {
		do {
			SSL_write(tls, data, MESSAGE_BYTES);
		} while (read_whole(tls, data, MESSAGE_BYTES));
	}
	SSL_shutdown(tls);
out:
	SSL_free(tls);
	close(fd);
	return NULL;
}

static _Noreturn void serve(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 128))
		fail("listen");
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		pthread_t thread;

		if (peer >= 0 && !pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)peer))
			pthread_detach(thread);
	}
}

static SSL *open_connection(const char *address, uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	SSL *tls = SSL_new(context);

	if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	SSL_set_fd(tls, fd);
	if (SSL_connect(tls) != 1)
		fail("shake hands");
	return tls;
}

static void run_rr(SSL *tls, double seconds)
{
	uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
	char data[MESSAGE_BYTES] = "R";
	size_t n = 0;

	for (; now_ns() < end; n++)
		if (SSL_write(tls, data, sizeof(data)) != sizeof(data) || !read_whole(tls, data, sizeof(data)))
			fail("read a response");
	printf("{\"what\":\"rr\",\"count\":%zu,\"per_second\":%.1f}\n", n, n * 1e9 / (now_ns() - begin));
}

static void run_stream(SSL *tls, size_t mib)
{
	static char data[STREAM_BYTES];
	uint64_t begin = now_ns(), total = 0;

	data[0] = 'S';
	if (SSL_write(tls, data, MESSAGE_BYTES) != MESSAGE_BYTES)
		fail("write");
	for (size_t i = 0; i < mib * 64; i++)
		if (SSL_write(tls, data, sizeof(data)) != sizeof(data))
			fail("write");
	SSL_shutdown(tls);
	if (!read_whole(tls, &total, sizeof(total)) || total != mib << 20)
		fail("read the byte count");
	printf("{\"what\":\"stream\",\"mib\":%zu,\"mib_per_second\":%.2f}\n", mib, mib * 1e9 / (now_ns() - begin));
}

static void shake_hands(SSL_CTX *client_context, SSL_CTX *server_context)
{
	SSL *client = SSL_new(client_context), *server = SSL_new(server_context);
	BIO *near, *far;

	if (!BIO_new_bio_pair(&near, 65536, &far, 65536))
		fail("make a pipe");
	SSL_set_bio(client, near, near);
	SSL_set_bio(server, far, far);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	for (int i = 0; i < 8 && !(SSL_is_init_finished(client) && SSL_is_init_finished(server)); i++) {
		SSL_do_handshake(client);
		SSL_do_handshake(server);
	}
	if (!SSL_is_init_finished(client) || !SSL_is_init_finished(server))
		fail("shake hands in memory");
	SSL_free(client);
	SSL_free(server);
}

static void run_handshakes(const char *directory, size_t count)
{
	SSL_CTX *client = make_context(directory, 0), *server = make_context(directory, 1);
	uint64_t begin;

	for (int i = 0; i < 3; i++)
		shake_hands(client, server);
	begin = now_ns();
	for (size_t i = 0; i < count; i++)
		shake_hands(client, server);
	printf("{\"what\":\"handshake\",\"count\":%zu,\"ns\":%.0f}\n", count, (double)(now_ns() - begin) / count);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "handshake")) {
		run_handshakes(argv[3], strtoul(argv[2], NULL, 10));
	} else if (argc == 4 && !strcmp(argv[1], "serve")) {
		context = make_context(argv[3], 1);
		serve((uint16_t)atoi(argv[2]));
	} else if (argc == 6) {
		context = make_context(argv[5], 0);
		if (!strcmp(argv[1], "rr"))
			run_rr(open_connection(argv[2], (uint16_t)atoi(argv[3])), atof(argv[4]));
		else
			run_stream(open_connection(argv[2], (uint16_t)atoi(argv[3])), strtoul(argv[4], NULL, 10));
	} else {
		fprintf(stderr, "usage: openssl serve PORT DIRECTORY | rr|stream ADDRESS PORT N DIRECTORY | handshake COUNT DIRECTORY\n");
		return 2;
	}
	return 0;
}
