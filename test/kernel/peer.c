// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * A TLS 1.3 peer on a TCP socket made of the engine and a plain record layer:
 * what the module and kTLS are together. Drives interop tests; prints one JSON
 * line for each connection.
 *
 *   peer client|server PORT [option value]...
 *     chain, key, ca FILE     PEM
 *     suites, groups LIST     hexadecimal, comma between
 *     alpn NAME
 *     mutual 1                server: ask for a certificate
 *     connections N           one after the other; a client resumes from the second on
 *     update 1                client: KeyUpdate with a request before its second line
 *     say TEXT                client: a line to send; the answer is printed
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "credential.h"
#include "record_io.h"

#define TICKETS	8

static struct credential credential;
static struct tls13_psk tickets[TICKETS];
static unsigned int ticket_count;
static const char *say;
static bool update;

struct session {
	int fd;
	struct tls13 *t;
	struct tls13_after after;
	struct tls13_traffic send, receive;
	struct port_aead_key send_key, receive_key;
	u8 record[TLS13_RECORD_HEADER + TLS13_RECORD_MAX];
	char line[4096];
	size_t line_len;
	bool closed;
	bool updated;
	u8 alert;
};

static void flush(struct session *s)
{
	size_t len;
	const u8 *out = tls13_output(s->t, &len);

	write_whole(s->fd, out, len);
	tls13_sent(s->t, len);
}

static enum tls13_status answer_verify(struct session *s)
{
	u8 public_key[65];
	unsigned int certs;
	size_t len;
	const u8 *chain = tls13_peer_chain(s->t, &len, &certs);
	u8 alert = credential_judge(&credential, chain, len, public_key);

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
			return TLS13_READ;
		len = tls13_record_length(s->t, s->record, &alert);
		if (len < 0) {
			status = tls13_refuse(s->t, alert);
			break;
		}
		if (!read_whole(s->fd, s->record + TLS13_RECORD_HEADER, (size_t)len))
			return TLS13_READ;
		status = tls13_input(s->t, s->record, TLS13_RECORD_HEADER + (size_t)len);
		if (status == TLS13_VERIFY)
			status = answer_verify(s);
	}
	flush(s);
	return status;
}

static void send_record(struct session *s, u8 content, const void *data, size_t len)
{
	write_record(s->fd, &s->send_key, &s->send, content, data, len);
}

static void send_update(struct session *s, u8 request)
{
	const u8 message[] = { 24, 0, 0, 1, request };

	send_record(s, 22, message, sizeof(message));
	if (tls13_update_keys(&s->after, true, &s->send))
		abort();
	install(&s->send_key, &s->send);
}

static void take_handshake(struct session *s, const u8 *data, size_t len)
{
	while (len >= 4) {
		size_t whole = 4 + ((size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3]);

		if (whole > len)
			abort();
		if (data[0] == 4 && ticket_count < TICKETS &&
		    !tls13_read_ticket(&s->after, data, whole, &tickets[ticket_count]))
			ticket_count++;
		if (data[0] == 24) {
			s->updated = true;
			if (tls13_update_keys(&s->after, false, &s->receive))
				abort();
			install(&s->receive_key, &s->receive);
			if (data[4])
				send_update(s, 0);
		}
		data += whole;
		len -= whole;
	}
}

static bool receive_record(struct session *s)
{
	u8 nonce[12], *data = s->record + 5;
	size_t len;

	if (!read_whole(s->fd, s->record, 5))
		return false;
	len = (size_t)s->record[3] << 8 | s->record[4];
	if (len > TLS13_RECORD_MAX || !read_whole(s->fd, data, len))
		return false;
	next_nonce(&s->receive, nonce);
	if (port_aead_open(&s->receive_key, nonce, s->record, 5, data, len))
		abort();
	len -= 16;
	while (len && !data[len - 1])
		len--;
	if (!len--)
		abort();
	if (data[len] == 22)
		take_handshake(s, data, len);
	if (data[len] == 21) {
		s->alert = data[1];
		s->closed = true;
	}
	if (data[len] == 23) {
		if (s->line_len + len > sizeof(s->line))
			abort();
		memcpy(s->line + s->line_len, data, len);
		s->line_len += len;
	}
	return !s->closed;
}

/* One line, without its end; false at close_notify or the end of the connection. */
static bool receive_line(struct session *s, char *line, size_t size)
{
	char *end;

	while (!(end = memchr(s->line, '\n', s->line_len)))
		if (!receive_record(s))
			return false;
	snprintf(line, size, "%.*s", (int)(end - s->line), s->line);
	s->line_len -= (size_t)(end + 1 - s->line);
	memmove(s->line, end + 1, s->line_len);
	return true;
}

static void send_ticket(struct session *s)
{
	u8 message[512], ticket[32], nonce[8] = { 0 };
	u32 age_add;
	int len;

	if (ticket_count == TICKETS || !s->after.ticket_wanted)
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

/* Server: every line comes back with "echo " before it. */
static void serve(struct session *s)
{
	char line[1024], reply[1100];

	send_ticket(s);
	while (receive_line(s, line, sizeof(line))) {
		int len = snprintf(reply, sizeof(reply), "echo %s\n", line);

		send_record(s, 23, reply, (size_t)len);
		if (update)
			send_update(s, 1);
	}
}

static void talk(struct session *s, char *answer, size_t size)
{
	char text[1024];
	int len = snprintf(text, sizeof(text), "%s\n", say);

	for (int round = 0; round < (update ? 3 : 1); round++) {
		if (round)
			send_update(s, 1);
		send_record(s, 23, text, (size_t)len);
		if (!receive_line(s, answer, size))
			return;
	}
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

static void print(const struct session *s, enum tls13_status status, const char *answer)
{
	static const char *const names[] = { "closed", "asked", "done", "failed" };
	struct tls13_result r;

	tls13_result(s->t, &r);
	printf("{\"status\":\"%s\",\"suite\":\"%04x\",\"group\":\"%04x\",\"alert\":%u,\"alertReceived\":%s,\"resumed\":%s,"
	       "\"helloRetry\":%s,\"alpn\":\"%s\",\"error\":\"%s\",\"answer\":\"%s\",\"closeNotify\":%s,\"updated\":%s,"
	       "\"lateAlert\":%u,\"tickets\":%u}\n",
	       names[status], r.suite, r.group, r.alert, r.alert_received ? "true" : "false",
	       r.resumed ? "true" : "false", r.hello_retry ? "true" : "false", r.alpn, r.error ? r.error : "", answer,
	       s->closed && !s->alert ? "true" : "false", s->updated ? "true" : "false", s->alert, ticket_count);
	fflush(stdout);
}

static void run(struct session *s, const struct tls13_config *config)
{
	enum tls13_status status;
	char answer[1024] = "";

	s->t = calloc(1, tls13_size());
	if (tls13_start(s->t, config))
		abort();
	status = handshake(s);
	if (status == TLS13_DONE) {
		const u8 close_notify[] = { 1, 0 };

		tls13_after(s->t, &s->after);
		tls13_traffic_keys(s->t, true, &s->send);
		tls13_traffic_keys(s->t, false, &s->receive);
		install(&s->send_key, &s->send);
		install(&s->receive_key, &s->receive);
		if (config->server)
			serve(s);
		else if (say)
			talk(s, answer, sizeof(answer));
		send_record(s, 21, close_notify, sizeof(close_notify));
		shutdown(s->fd, SHUT_WR);
		while (!s->closed && receive_record(s))
			;
		port_aead_clear(&s->send_key);
		port_aead_clear(&s->receive_key);
	}
	print(s, status, answer);
	tls13_wipe(s->t);
	free(s->t);
	close(s->fd);
}

static void parse_list(const char *text, u16 *list, size_t max)
{
	memset(list, 0, max * sizeof(*list));
	for (size_t i = 0; i < max && *text; i++) {
		list[i] = (u16)strtoul(text, (char **)&text, 16);
		if (*text == ',')
			text++;
	}
}

static int open_socket(bool server, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((u16)port) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!server)
		return connect(fd, (struct sockaddr *)&address, len) ? -1 : fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, len) || listen(fd, 4))
		return -1;
	getsockname(fd, (struct sockaddr *)&address, &len);
	printf("{\"port\":%d}\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	struct tls13_config config = {
		.suites = { 0x1301, 0x1302, 0x1303 }, .groups = { TLS13_X25519, TLS13_SECP256R1 },
		.sign = credential_sign, .arg = &credential, .find_psk = find_psk,
	};
	const char *chain = NULL, *key = NULL, *ca = NULL;
	int connections = 1, listener = -1;

	if (argc < 3)
		return 2;
	config.server = !strcmp(argv[1], "server");
	for (int i = 3; i + 1 < argc; i += 2) {
		const char *name = argv[i], *value = argv[i + 1];

		if (!strcmp(name, "chain"))
			chain = value;
		else if (!strcmp(name, "key"))
			key = value;
		else if (!strcmp(name, "ca"))
			ca = value;
		else if (!strcmp(name, "suites"))
			parse_list(value, config.suites, 3);
		else if (!strcmp(name, "groups"))
			parse_list(value, config.groups, 2);
		else if (!strcmp(name, "alpn"))
			config.alpn = value;
		else if (!strcmp(name, "mutual"))
			config.mutual = true;
		else if (!strcmp(name, "connections"))
			connections = atoi(value);
		else if (!strcmp(name, "update"))
			update = true;
		else if (!strcmp(name, "say"))
			say = value;
		else
			return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	credential_load(&credential, chain, key, ca);
	config.chain = credential.chain;
	config.chain_len = credential.chain_len;
	if (config.server)
		listener = open_socket(true, atoi(argv[2]));
	for (int i = 0; i < connections; i++) {
		static struct session s;

		memset(&s, 0, sizeof(s));
		s.fd = config.server ? accept(listener, NULL, NULL) : open_socket(false, atoi(argv[2]));
		if (s.fd < 0)
			return 3;
		config.psk = !config.server && ticket_count ? &tickets[ticket_count - 1] : NULL;
		run(&s, &config);
	}
	credential_free(&credential);
	return 0;
}
