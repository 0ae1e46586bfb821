// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The server's way through the handshake (RFC 8446 appendix A.2): what each
 * message of the client means and what answers it.
 */
#include "engine.h"

int tls13_server_start(struct tls13 *t)
{
	t->state = TLS13_WAIT_CLIENT_HELLO;
	return 0;
}

/* In this side's order of preference. */
static int choose_suite(struct tls13 *t, const struct tls13_client_hello *hello)
{
	unsigned int i;

	for (i = 0; i < 3 && t->config.suites[i]; i++) {
		if (wire_list_holds(hello->suites, t->config.suites[i])) {
			t->suite = tls13_suite_find(t->config.suites[i]);
			return 0;
		}
	}
	return tls13_fail(t, TLS13_HANDSHAKE_FAILURE,
			  "The client offers none of the configured cipher suites.");
}

/* Section 9.2: without a PSK, signature_algorithms must be there, and ours among them. */
static int check_signatures(struct tls13 *t, const struct tls13_client_hello *hello)
{
	struct wire_reader body = hello->extensions.body[TLS13_EXT_SIGNATURE_ALGORITHMS];
	struct wire_reader list;

	if (t->resumed)
		return 0;
	if (!body.at)
		return tls13_fail(t, TLS13_MISSING_EXTENSION,
				  "The ClientHello lacks signature_algorithms.");
	if (!wire_read_vector(&body, 2, &list) || body.left || !list.left || list.left % 2)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The ClientHello's signature_algorithms are malformed.");
	if (!wire_list_holds(list, TLS13_ECDSA_P256_SHA256))
		return tls13_fail(t, TLS13_HANDSHAKE_FAILURE,
				  "The client does not take ecdsa_secp256r1_sha256.");
	return 0;
}

static int ask_again(struct tls13 *t, const struct tls13_client_hello *hello)
{
	if (tls13_client_hello_remember(t, hello))
		return -EPROTO;
	t->hello_retry = true;
	tls13_transcript_select(t);
	if (tls13_transcript_add(t, hello->message, hello->len) || tls13_transcript_retry(t) ||
	    tls13_server_hello_send(t, true))
		return -EPROTO;
	return tls13_record_send_ccs(t);
}

static int write_encrypted_extensions(struct tls13 *t, struct wire_writer *w)
{
	size_t message = tls13_message_open(w, TLS13_ENCRYPTED_EXTENSIONS);
	size_t list = wire_open_vector(w, 2);

	if (t->alpn[0])
		tls13_extension_write_alpn(t, w);
	wire_close_vector(w, 2, list);
	return tls13_message_close(t, w, message);
}

/* EncryptedExtensions to Finished, then the application secrets that hang on them. */
static int send_flight(struct tls13 *t)
{
	bool mutual = t->config.mutual && !t->resumed;
	struct wire_writer w;

	tls13_record_open(t, &w);
	if (write_encrypted_extensions(t, &w))
		return -EPROTO;
	if (mutual && tls13_certificate_request_send(t, &w))
		return -EPROTO;
	if (!t->resumed &&
	    (tls13_certificate_send(t, &w, false) || tls13_certificate_verify_send(t, &w)))
		return -EPROTO;
	if (tls13_finished_send(t, &w) || tls13_record_close(t, &w, TLS13_HANDSHAKE))
		return -EPROTO;
	if (tls13_schedule_application(t))
		return tls13_fail_port(t);
	t->flight_sent = true;
	t->state = mutual ? TLS13_WAIT_CLIENT_CERTIFICATE : TLS13_WAIT_CLIENT_FINISHED;
	return 0;
}

/* With group, suite and PSK settled and the ClientHello in the transcript. */
static int answer(struct tls13 *t, const struct wire_reader *share)
{
	/* The agreement first: a bad share is refused before anything is promised. */
	if (tls13_key_share_generate(t, t->group) || tls13_key_share_agree(t, share) ||
	    tls13_server_hello_send(t, false) || tls13_record_send_ccs(t) ||
	    tls13_schedule_handshake(t) ||
	    tls13_record_protect(t, &t->write, t->server_handshake) ||
	    tls13_record_protect(t, &t->read, t->client_handshake))
		return -EPROTO;
	return send_flight(t);
}

int tls13_server_client_hello(struct tls13 *t, const u8 *message, size_t len)
{
	struct tls13_client_hello hello;
	struct wire_reader share = { NULL, 0 };

	if (tls13_client_hello_parse(t, message, len, &hello) ||
	    (t->hello_retry && tls13_client_hello_compare(t, &hello)))
		return -EPROTO;
	t->session_id_len = (u8)hello.session_id.left;
	memcpy(t->session_id, hello.session_id.at, hello.session_id.left);
	t->early_data_offered = tls13_extension_found(&hello.extensions, TLS13_EXT_EARLY_DATA);
	if (tls13_key_share_choose(t, &hello, &share))
		return -EPROTO;
	if (!t->hello_retry && choose_suite(t, &hello))
		return -EPROTO;
	if (!share.at)
		return ask_again(t, &hello);
	if (tls13_psk_read_modes(t, &hello) || tls13_psk_choose(t, &hello) || check_signatures(t, &hello) ||
	    tls13_extension_read_alpn(t, hello.extensions.body[TLS13_EXT_ALPN]))
		return -EPROTO;
	tls13_transcript_select(t);
	if (tls13_transcript_add(t, message, len))
		return -EPROTO;
	return answer(t, &share);
}

int tls13_server_finished(struct tls13 *t, const u8 *message, size_t len)
{
	if (tls13_finished_receive(t, message, len))
		return -EPROTO;
	if (tls13_schedule_resumption(t))
		return tls13_fail_port(t);
	t->state = TLS13_ENDED_WELL;
	return 0;
}
