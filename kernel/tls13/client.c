// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The client's way through the handshake (RFC 8446 appendix A.1): what each
 * message of the server means and what answers it.
 */
#include "engine.h"

int tls13_client_start(struct tls13 *t)
{
	port_random(t->random, sizeof(t->random));
	/* Appendix D.4: a session ID makes middleboxes take this for a resumption of TLS 1.2. */
	port_random(t->session_id, sizeof(t->session_id));
	t->session_id_len = sizeof(t->session_id);
	t->psk_offered = t->config.psk;
	if (tls13_key_share_generate(t, t->config.groups[0]) || tls13_client_hello_send(t, NULL))
		return -EPROTO;
	t->state = TLS13_WAIT_SERVER_HELLO;
	return 0;
}

static int check_retry(struct tls13 *t, const struct tls13_server_hello *hello)
{
	unsigned int i;

	if (t->hello_retry)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The server sent a second HelloRetryRequest.");
	if (!hello->group && !hello->cookie.at)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The HelloRetryRequest asks for no change.");
	if (!hello->group)
		return 0;
	for (i = 0; i < 2 && t->config.groups[i]; i++)
		if (t->config.groups[i] == hello->group && hello->group != t->group)
			return 0;
	return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
			  "The HelloRetryRequest asks for a group not offered, or already sent.");
}

static int answer_retry(struct tls13 *t, const struct tls13_server_hello *hello, const u8 *message,
			size_t len)
{
	if (check_retry(t, hello))
		return -EPROTO;
	t->hello_retry = true;
	t->suite = tls13_suite_find(hello->suite);
	tls13_transcript_select(t);
	if (tls13_transcript_retry(t) || tls13_transcript_add(t, message, len))
		return -EPROTO;
	/* A PSK of another hash can no longer be used (section 4.1.4). */
	if (t->psk_offered && tls13_suite_find(t->psk.suite)->hash != t->suite->hash)
		t->psk_offered = false;
	if (hello->group && tls13_key_share_generate(t, hello->group))
		return -EPROTO;
	if (tls13_record_send_ccs(t))
		return -EPROTO;
	return tls13_client_hello_send(t, &hello->cookie);
}

int tls13_client_server_hello(struct tls13 *t, const u8 *message, size_t len)
{
	struct tls13_server_hello hello;

	if (tls13_server_hello_parse(t, message, len, &hello))
		return -EPROTO;
	if (t->hello_retry && t->suite->suite != hello.suite)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The server changed the suite after its HelloRetryRequest.");
	if (hello.retry)
		return answer_retry(t, &hello, message, len);
	t->suite = tls13_suite_find(hello.suite);
	if (!hello.group)
		return tls13_fail(t, TLS13_MISSING_EXTENSION, "The ServerHello has no key share.");
	if (hello.group != t->group)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The server's key share is of a group that got none.");
	if (hello.psk && tls13_suite_find(t->psk.suite)->hash != t->suite->hash)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The server chose a suite that does not go with the PSK.");
	t->resumed = hello.psk;
	tls13_transcript_select(t);
	if (tls13_transcript_add(t, message, len) || tls13_key_share_agree(t, &hello.share) ||
	    tls13_schedule_handshake(t) ||
	    tls13_record_protect(t, &t->read, t->server_handshake) ||
	    tls13_record_protect(t, &t->write, t->client_handshake))
		return -EPROTO;
	t->state = TLS13_WAIT_ENCRYPTED_EXTENSIONS;
	return 0;
}

int tls13_client_encrypted_extensions(struct tls13 *t, const u8 *message, size_t len)
{
	struct wire_reader r = { message + 4, len - 4 };
	struct tls13_extensions found;

	if (tls13_extension_parse(t, TLS13_IN_ENCRYPTED, &r, &found) ||
	    tls13_extension_read_alpn(t, found.body[TLS13_EXT_ALPN]) ||
	    tls13_transcript_add(t, message, len))
		return -EPROTO;
	/* The server of a resumed session proves itself by the PSK alone (section 2.2). */
	t->state = t->resumed ? TLS13_WAIT_SERVER_FINISHED : TLS13_WAIT_CERTIFICATE_OR_REQUEST;
	return 0;
}

int tls13_client_certificate_request(struct tls13 *t, const u8 *message, size_t len)
{
	if (tls13_certificate_request_receive(t, message, len))
		return -EPROTO;
	t->state = TLS13_WAIT_SERVER_CERTIFICATE;
	return tls13_transcript_add(t, message, len);
}

static int send_flight(struct tls13 *t)
{
	bool empty = !tls13_certificate_is_wanted(t);
	struct wire_writer w;

	if (tls13_record_send_ccs(t))
		return -EPROTO;
	tls13_record_open(t, &w);
	if (t->certificate_requested) {
		if (tls13_certificate_send(t, &w, empty))
			return -EPROTO;
		if (!empty && tls13_certificate_verify_send(t, &w))
			return -EPROTO;
	}
	if (tls13_finished_send(t, &w))
		return -EPROTO;
	return tls13_record_close(t, &w, TLS13_HANDSHAKE);
}

int tls13_client_finished(struct tls13 *t, const u8 *message, size_t len)
{
	if (tls13_finished_receive(t, message, len))
		return -EPROTO;
	if (tls13_schedule_application(t))
		return tls13_fail_port(t);
	if (send_flight(t))
		return -EPROTO;
	if (tls13_schedule_resumption(t))
		return tls13_fail_port(t);
	t->state = TLS13_ENDED_WELL;
	return 0;
}
