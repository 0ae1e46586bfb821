// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * A libssl server that keeps no state between two ClientHellos: the one way to
 * get a cookie from OpenSSL. Answers one line with itself.
 *
 *   stateless CHAIN KEY
 */
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char cookie[] = "a cookie that says nothing";

static int make_cookie(SSL *ssl, unsigned char *out, size_t *len)
{
	(void)ssl;
	memcpy(out, cookie, sizeof(cookie));
	*len = sizeof(cookie);
	return 1;
}

static int check_cookie(SSL *ssl, const unsigned char *in, size_t len)
{
	(void)ssl;
	return len == sizeof(cookie) && !memcmp(in, cookie, len);
}

static int open_listener(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&address, len) || listen(fd, 1))
		return -1;
	getsockname(fd, (struct sockaddr *)&address, &len);
	printf("ACCEPT 127.0.0.1:%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int listener = open_listener(), rc = 0, n = 0;
	char line[256];
	SSL *ssl;

	if (argc != 3 || listener < 0 || SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1)
		return 2;
	SSL_CTX_set_stateless_cookie_generate_cb(ctx, make_cookie);
	SSL_CTX_set_stateless_cookie_verify_cb(ctx, check_cookie);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, accept(listener, NULL, NULL));
	/* 0 after the HelloRetryRequest, and -1 for the compatibility record before the second ClientHello. */
	for (int tries = 0; tries < 4 && rc != 1; tries++)
		rc = SSL_stateless(ssl);
	if (rc == 1 && SSL_accept(ssl) == 1 && (n = SSL_read(ssl, line, sizeof(line))) > 0)
		SSL_write(ssl, line, n);
	SSL_shutdown(ssl);
	SSL_shutdown(ssl);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(listener);
	return n > 0 ? 0 : 1;
}
