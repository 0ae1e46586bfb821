// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The shim between BoringSSL's test runner and the engine: connects to the
 * runner, handshakes, then sends every byte back inverted. What follows the
 * handshake is treated as kernel/record.c and kTLS treat it, KeyUpdate apart,
 * which is taken so that tls13_update_keys() meets another implementation.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bogo.h"
#include "record_io.h"

#define TICKETS		8
#define UPDATES_MAX	32	/* KeyUpdates with no data between them */

static struct credential credential;
static struct tls13_psk tickets[TICKETS];
static unsigned int ticket_count;

struct session {
	const struct bogo_options *options;
	int fd;
	struct tls13 *t;
	struct tls13_after after;
	struct tls13_post post;
	struct tls13_traffic send, receive;
	struct port_aead_key send_key, receive_key;
	u8 record[TLS13_RECORD_HEADER + TLS13_RECORD_MAX];
	unsigned int updates;
	bool update_owed;
	const char *error;
};

enum end { GO_ON, CLOSED, CUT, BROKEN };	/* how a connection stands; the last two are failures or not by option */

static void flush(struct session *s)
{
	size_t len;
	const u8 *out = tls13_output(s->t, &len);

	write_whole(s->fd, out, len);
	tls13_sent(s->t, len);
}

static enum tls13_status judge(struct session *s)
{
	u8 public_key[65];
	unsigned int certs;
	size_t len;
	const u8 *chain = tls13_peer_chain(s->t, &len, &certs);
	u8 alert = s->options->verify_fail ? s->options->verify_fail :
					     credential_judge(&credential, chain, len, public_key);

	return alert ? tls13_refuse(s->t, alert) : tls13_peer_accepted(s->t, public_key);
}

static enum tls13_status handshake(struct session *s)
{
	enum tls13_status status = TLS13_READ;
	u8 alert;
	int len;

	while (status == TLS13_READ) {
		flush(s);
		if (!read_whole(s->fd, s->record, TLS13_RECORD_HEADER))
			break;
		len = tls13_record_length(s->t, s->record, &alert);
		if (len < 0) {
			status = tls13_refuse(s->t, alert);
			break;
		}
		if (!read_whole(s->fd, s->record + TLS13_RECORD_HEADER, (size_t)len))
			break;
		status = tls13_input(s->t, s->record, TLS13_RECORD_HEADER + (size_t)len);
		if (status == TLS13_VERIFY)
			status = judge(s);
	}
	flush(s);
	return status;
}

/* ---- what kTLS and kernel/record.c do ---- */

static void send_record(struct session *s, u8 content, const void *data, size_t len)
{
	write_record(s->fd, &s->send_key, &s->send, content, data, len);
}

static enum end break_with(struct session *s, u8 alert, const char *error)
{
	const u8 fatal[] = { 2, alert };

	send_record(s, 21, fatal, sizeof(fatal));
	s->error = error;
	return BROKEN;
}

static void send_update(struct session *s)
{
	const u8 message[] = { 24, 0, 0, 1, 0 };

	send_record(s, 22, message, sizeof(message));
	if (tls13_update_keys(&s->after, true, &s->send))
		abort();
	install(&s->send_key, &s->send);
	s->update_owed = false;
}

static void send_ticket(struct session *s)
{
	u8 message[512], ticket[32], nonce[8] = { 0 };
	u32 age_add;
	int len;

	if (ticket_count == TICKETS || s->options->no_ticket || !s->after.ticket_wanted)
		return;
	port_random(ticket, sizeof(ticket));
	port_random(&age_add, sizeof(age_add));
	len = tls13_write_ticket(&s->after, ticket, sizeof(ticket), 600, age_add, nonce, message, sizeof(message),
				 &tickets[ticket_count]);
	if (len < 0)
		abort();
	ticket_count++;
	send_record(s, 22, message, (size_t)len);
}

static enum end take_update(struct session *s, const u8 *body, size_t len, bool last)
{
	if (len != 1)
		return break_with(s, TLS13_DECODE_ERROR, "malformed KeyUpdate");
	if (body[0] > 1)
		return break_with(s, TLS13_ILLEGAL_PARAMETER, "unknown KeyUpdate request");
	/* Section 5.1: keys change behind it. */
	if (!last)
		return break_with(s, TLS13_UNEXPECTED_MESSAGE, "messages behind a KeyUpdate");
	if (++s->updates > UPDATES_MAX)
		return break_with(s, TLS13_UNEXPECTED_MESSAGE, "too many KeyUpdates");
	if (tls13_update_keys(&s->after, false, &s->receive))
		abort();
	install(&s->receive_key, &s->receive);
	s->update_owed = s->update_owed || body[0];
	return GO_ON;
}

static enum end take_ticket(struct session *s, const u8 *message, size_t len)
{
	int rc = ticket_count < TICKETS ? tls13_read_ticket(&s->after, message, len, &tickets[ticket_count]) : -ENOSPC;

	ticket_count += !rc;
	return rc == -EBADMSG ? break_with(s, TLS13_DECODE_ERROR, "malformed NewSessionTicket") : GO_ON;
}

static enum end take_handshake(struct session *s, const u8 *data, size_t len)
{
	enum end end = len ? GO_ON : break_with(s, TLS13_UNEXPECTED_MESSAGE, "an empty handshake record");
	const u8 *message;
	size_t message_len;
	int type;

	while (end == GO_ON && (type = tls13_post_next(&s->post, &data, &len, &message, &message_len))) {
		if (type < 0 || (type == 4 && s->options->server) || (type == 24 && !message))
			end = break_with(s, TLS13_UNEXPECTED_MESSAGE, "unexpected handshake message");
		else if (type == 24)
			end = take_update(s, message + 4, message_len - 4, !len);
		else if (message)
			end = take_ticket(s, message, message_len);
	}
	return end;
}

static enum end take_alert(struct session *s, const u8 *data, size_t len)
{
	if (len != 2)
		return break_with(s, TLS13_DECODE_ERROR, "malformed alert");
	if (data[1] == TLS13_CLOSE_NOTIFY)
		return CLOSED;
	if (data[1] == 90)	/* user_canceled */
		return GO_ON;
	s->error = "alert received";
	return BROKEN;
}

static enum end take_data(struct session *s, u8 *data, size_t len)
{
	s->updates = 0;
	if (s->update_owed)
		send_update(s);
	for (size_t i = 0; i < len; i++)
		data[i] ^= 0xff;
	if (len)
		send_record(s, 23, data, len);
	return GO_ON;
}

static enum end receive(struct session *s)
{
	u8 nonce[12], *data = s->record + 5;
	size_t len;

	if (!read_whole(s->fd, s->record, 5))
		return CUT;
	len = (size_t)s->record[3] << 8 | s->record[4];
	if (s->record[0] != 23)
		return break_with(s, TLS13_UNEXPECTED_MESSAGE, "a record in the clear");
	if (len > TLS13_RECORD_MAX)
		return break_with(s, TLS13_RECORD_OVERFLOW, "a record that is too long");
	if (!read_whole(s->fd, data, len))
		return CUT;
	next_nonce(&s->receive, nonce);
	if (len < 17 || port_aead_open(&s->receive_key, nonce, s->record, 5, data, len))
		return break_with(s, TLS13_BAD_RECORD_MAC, "a record that does not verify");
	len -= 16;
	if (len > TLS13_PLAINTEXT_MAX + 1)
		return break_with(s, TLS13_RECORD_OVERFLOW, "a plaintext that is too long");
	while (len && !data[len - 1])
		len--;
	if (!len--)
		return break_with(s, TLS13_UNEXPECTED_MESSAGE, "padding alone");
	if (data[len] == 23)
		return take_data(s, data, len);
	if (data[len] == 22)
		return take_handshake(s, data, len);
	if (data[len] == 21)
		return take_alert(s, data, len);
	return break_with(s, TLS13_UNEXPECTED_MESSAGE, "an unknown content type");
}

/* ---- one connection ---- */

static const char *check_result(const struct bogo_options *o, const struct tls13_result *r, int connection)
{
	if (r->resumed != (connection && !o->expect_session_miss))
		return r->resumed ? "resumed against expectation" : "not resumed";
	if (o->expect_alpn && strcmp(o->expect_alpn, r->alpn))
		return "another protocol than expected";
	if (o->expect_group && o->expect_group != r->group)
		return "another group than expected";
	if ((o->expect_retry && !r->hello_retry) || (o->expect_no_retry && r->hello_retry))
		return "a HelloRetryRequest against expectation, or none";
	return NULL;
}

static void converse(struct session *s)
{
	static const u8 close_notify[] = { 1, 0 };
	const struct bogo_options *o = s->options;
	enum end end = GO_ON;

	tls13_after(s->t, &s->after);
	tls13_traffic_keys(s->t, true, &s->send);
	tls13_traffic_keys(s->t, false, &s->receive);
	install(&s->send_key, &s->send);
	install(&s->receive_key, &s->receive);
	if (o->server)
		send_ticket(s);
	for (int i = 0; i < o->key_updates; i++)
		send_update(s);
	if (o->writes_first)
		send_record(s, 23, "hello", 5);
	if (o->shuts_down)
		send_record(s, 21, close_notify, sizeof(close_notify));
	while (end == GO_ON && (!o->shuts_down || o->check_close_notify))
		end = receive(s);
	if (end == CUT && o->check_close_notify)
		s->error = "cut without close_notify";
	if (end == CLOSED && !o->shuts_down)
		send_record(s, 21, close_notify, sizeof(close_notify));
	port_aead_clear(&s->send_key);
	port_aead_clear(&s->receive_key);
}

/* Closing with unread bytes would reset the connection and lose an alert on its way. */
static void hang_up(int fd)
{
	u8 rest[4096];

	shutdown(fd, SHUT_WR);
	while (read(fd, rest, sizeof(rest)) > 0)
		;
	close(fd);
}

static const char *run(const struct bogo_options *o, const struct tls13_config *config, int fd, int connection)
{
	static struct session s;
	enum tls13_status status;
	struct tls13_result r;

	memset(&s, 0, sizeof(s));
	s.options = o;
	s.fd = fd;
	s.t = calloc(1, tls13_size());
	if (tls13_start(s.t, config))
		abort();
	status = handshake(&s);
	tls13_result(s.t, &r);
	if (status == TLS13_DONE) {
		s.error = check_result(o, &r, connection);
		if (!s.error)
			converse(&s);
	} else {
		s.error = status == TLS13_FAILED && r.error ? r.error : "the connection ended during the handshake";
	}
	tls13_wipe(s.t);
	free(s.t);
	hang_up(fd);
	return s.error;
}

static int find_psk(void *arg, const u8 *ticket, size_t len, u32 age, struct tls13_psk *psk)
{
	(void)arg;
	(void)age;
	for (unsigned int i = 0; i < ticket_count; i++) {
		if (tickets[i].ticket_len == len && !memcmp(tickets[i].ticket, ticket, len)) {
			*psk = tickets[i];
			return 0;
		}
	}
	return -ENOENT;
}

static int connect_to_runner(int port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons((u16)port), .sin6_addr = in6addr_loopback };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((u16)port) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	if (fd >= 0 && !connect(fd, (struct sockaddr *)&six, sizeof(six)))
		return fd;
	close(fd);
	four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	return fd >= 0 && !connect(fd, (struct sockaddr *)&four, sizeof(four)) ? fd : -1;
}

static const char *make_connection(const struct bogo_options *o, int connection)
{
	struct tls13_config config = {
		.server = o->server, .chain = credential.chain, .chain_len = credential.chain_len,
		.sign = credential_sign, .find_psk = o->no_ticket ? NULL : find_psk, .arg = &credential,
		.suites = { 0x1301, 0x1302, 0x1303 }, .groups = { o->groups[0], o->groups[1] }, .alpn = o->alpn,
		.mutual = o->server && o->ask_certificate,
		.psk = !o->server && ticket_count ? &tickets[ticket_count - 1] : NULL,
	};
	int fd = connect_to_runner(o->port);

	if (fd < 0)
		return "cannot reach the runner";
	return run(o, &config, fd, connection);
}

int main(int argc, char **argv)
{
	struct bogo_options o;
	const char *error = NULL;

	if (argc > 1 && !strcmp(argv[1], "-is-handshaker-supported")) {
		puts("No");
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	bogo_parse(&o, 0, argc, argv);
	credential_load(&credential, o.cert_file, o.key_file, NULL);
	if (credential.key && EVP_PKEY_base_id(credential.key) != EVP_PKEY_EC)
		bogo_unimplemented("a key that is not of an elliptic curve");
	for (int connection = 0; connection <= o.resume_count && !error; connection++) {
		bogo_parse(&o, connection, argc, argv);
		error = make_connection(&o, connection);
	}
	credential_free(&credential);
	if (error)
		fprintf(stderr, "%s\n", error);
	return error ? 1 : 0;
}
