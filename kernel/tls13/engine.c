// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The door of the engine: starts a handshake, takes records in, hands each
 * whole message to the step that waits for it, and ends it well or with an
 * alert. Knows no message's content.
 */
#include "engine.h"

static const struct tls13_suite_info suites[] = {
	{ TLS13_AES_128_GCM_SHA256, PORT_SHA256, PORT_AES_128_GCM, 16 },
	{ TLS13_AES_256_GCM_SHA384, PORT_SHA384, PORT_AES_256_GCM, 32 },
	{ TLS13_CHACHA20_POLY1305_SHA256, PORT_SHA256, PORT_CHACHA20_POLY1305, 32 },
};

const struct tls13_suite_info *tls13_suite_find(u16 suite)
{
	size_t i;

	for (i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (suites[i].suite == suite)
			return &suites[i];
	return NULL;
}

/*
 * Which message each state waits for. `boundary`: keys change after it, so its record ends with it
 * (section 5.1).
 */
static const struct step {
	enum tls13_state state;
	u8 message;
	bool boundary;
	int (*take)(struct tls13 *t, const u8 *message, size_t len);
} steps[] = {
	{ TLS13_WAIT_SERVER_HELLO, TLS13_SERVER_HELLO, true, tls13_client_server_hello },
	{ TLS13_WAIT_ENCRYPTED_EXTENSIONS, TLS13_ENCRYPTED_EXTENSIONS, false,
	  tls13_client_encrypted_extensions },
	{ TLS13_WAIT_CERTIFICATE_OR_REQUEST, TLS13_CERTIFICATE_REQUEST, false,
	  tls13_client_certificate_request },
	{ TLS13_WAIT_CERTIFICATE_OR_REQUEST, TLS13_CERTIFICATE, false, tls13_certificate_receive },
	{ TLS13_WAIT_SERVER_CERTIFICATE, TLS13_CERTIFICATE, false, tls13_certificate_receive },
	{ TLS13_WAIT_SERVER_VERIFY, TLS13_CERTIFICATE_VERIFY, false,
	  tls13_certificate_verify_receive },
	{ TLS13_WAIT_SERVER_FINISHED, TLS13_FINISHED, true, tls13_client_finished },
	{ TLS13_WAIT_CLIENT_HELLO, TLS13_CLIENT_HELLO, true, tls13_server_client_hello },
	{ TLS13_WAIT_CLIENT_CERTIFICATE, TLS13_CERTIFICATE, false, tls13_certificate_receive },
	{ TLS13_WAIT_CLIENT_VERIFY, TLS13_CERTIFICATE_VERIFY, false,
	  tls13_certificate_verify_receive },
	{ TLS13_WAIT_CLIENT_FINISHED, TLS13_FINISHED, true, tls13_server_finished },
};

static const struct step *find_step(const struct tls13 *t)
{
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (steps[i].state == t->state && steps[i].message == t->in[0])
			return &steps[i];
	return NULL;
}

size_t tls13_message_open(struct wire_writer *w, u8 type)
{
	size_t mark = w->used;

	wire_write_uint(w, 1, type);
	wire_open_vector(w, 3);
	return mark;
}

/* Fills in the length and takes the message into the transcript. */
int tls13_message_close(struct tls13 *t, struct wire_writer *w, size_t mark)
{
	wire_close_vector(w, 3, mark + 1);
	if (w->full)
		return tls13_fail_port(t);
	return tls13_transcript_add(t, w->base + mark, w->used - mark);
}

static void wipe_secrets(struct tls13 *t)
{
	tls13_record_unprotect(&t->read);
	tls13_record_unprotect(&t->write);
	port_wipe(&t->psk, sizeof(t->psk));
	port_wipe(t->private_key, sizeof(t->private_key));
	port_wipe(t->shared, sizeof(t->shared));
	port_wipe(t->secret, sizeof(t->secret));
	port_wipe(t->client_handshake, sizeof(t->client_handshake));
	port_wipe(t->server_handshake, sizeof(t->server_handshake));
	port_wipe(t->client_application, sizeof(t->client_application));
	port_wipe(t->server_application, sizeof(t->server_application));
	port_wipe(t->resumption, sizeof(t->resumption));
}

static void drop_message(struct tls13 *t, size_t len)
{
	t->in_len -= len;
	memmove(t->in, t->in + len, t->in_len);
}

/* One message from `in`: 1 when it was taken, 0 when it is not whole yet. */
static int take_message(struct tls13 *t)
{
	const struct step *step;
	size_t len;

	if (!t->in_len)
		return 0;
	step = find_step(t);
	if (!step)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer sent a handshake message out of turn.");
	if (t->in_len < 4)
		return 0;
	len = 4 + ((size_t)t->in[1] << 16 | (size_t)t->in[2] << 8 | t->in[3]);
	if (len > TLS13_MESSAGE_MAX)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The peer's handshake message is too long.");
	if (t->in_len < len)
		return 0;
	if (step->boundary && t->in_len > len)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer sent messages across a change of keys.");
	if (step->take(t, t->in, len))
		return -EPROTO;
	if (t->state != TLS13_ASKED)
		drop_message(t, len);
	return 1;
}

static enum tls13_status end_badly(struct tls13 *t)
{
	if (!t->alert_received)
		tls13_record_send_alert(t);
	wipe_secrets(t);
	t->state = TLS13_ENDED_BADLY;
	return TLS13_FAILED;
}

/* Goes on until the engine needs something from outside. */
static enum tls13_status proceed(struct tls13 *t)
{
	int rc;

	do {
		if (t->state == TLS13_ASKED)
			return TLS13_VERIFY;
		if (t->state == TLS13_ENDED_WELL) {
			tls13_record_unprotect(&t->read);
			tls13_record_unprotect(&t->write);
			return TLS13_DONE;
		}
		rc = take_message(t);
	} while (rc > 0);
	return rc ? end_badly(t) : TLS13_READ;
}

size_t tls13_size(void)
{
	return sizeof(struct tls13);
}

static bool config_is_good(const struct tls13_config *config)
{
	size_t alpn = config->alpn ? strlen(config->alpn) : 1;
	unsigned int i;

	if (!config->suites[0] || !config->groups[0] || !alpn || alpn >= TLS13_ALPN_MAX)
		return false;
	for (i = 0; i < 3 && config->suites[i]; i++)
		if (!tls13_suite_find(config->suites[i]))
			return false;
	for (i = 0; i < 2 && config->groups[i]; i++)
		if (!tls13_key_share_len(config->groups[i]))
			return false;
	if (config->psk &&
	    (config->server || !tls13_psk_fits(config, config->psk) || !config->psk->ticket_len))
		return false;
	return !tls13_certificate_check_own(config);
}

int tls13_start(struct tls13 *t, const struct tls13_config *config)
{
	memset(t, 0, sizeof(*t));
	if (!config_is_good(config)) {
		t->state = TLS13_ENDED_BADLY;
		return -EINVAL;
	}
	t->config = *config;
	if (config->psk)
		t->psk = *config->psk;
	if (!tls13_transcript_start(t) &&
	    !(config->server ? tls13_server_start(t) : tls13_client_start(t)))
		return 0;
	wipe_secrets(t);
	t->out_end = 0;
	t->state = TLS13_ENDED_BADLY;
	return -EIO;
}

enum tls13_status tls13_input(struct tls13 *t, u8 *record, size_t len)
{
	if (t->state == TLS13_ENDED_BADLY)
		return TLS13_FAILED;
	if (t->state == TLS13_AT_REST || t->state == TLS13_ASKED || t->state == TLS13_ENDED_WELL) {
		tls13_fail(t, TLS13_INTERNAL_ERROR, "This side read a record when it should not.");
		return end_badly(t);
	}
	if (tls13_record_receive(t, record, len))
		return end_badly(t);
	return proceed(t);
}

const u8 *tls13_output(const struct tls13 *t, size_t *len)
{
	*len = t->out_end - t->out_start;
	return t->out + t->out_start;
}

void tls13_sent(struct tls13 *t, size_t n)
{
	size_t waiting = t->out_end - t->out_start;

	t->out_start += n < waiting ? n : waiting;
	if (t->out_start == t->out_end)
		t->out_start = t->out_end = 0;
}

const u8 *tls13_peer_chain(const struct tls13 *t, size_t *len, unsigned int *certs)
{
	bool asked = t->state == TLS13_ASKED;

	*len = asked ? t->chain_len : 0;
	*certs = asked ? t->chain_certs : 0;
	return t->in;
}

enum tls13_status tls13_peer_accepted(struct tls13 *t, const u8 public_key[65])
{
	if (t->state != TLS13_ASKED)
		return tls13_refuse(t, TLS13_INTERNAL_ERROR);
	memcpy(t->peer_key, public_key, sizeof(t->peer_key));
	t->state = t->state_after_ask;
	drop_message(t, t->asked_len);
	return proceed(t);
}

enum tls13_status tls13_refuse(struct tls13 *t, u8 alert)
{
	if (t->state == TLS13_ENDED_BADLY)
		return TLS13_FAILED;
	tls13_fail(t, alert, "This side refused to go on.");
	return end_badly(t);
}

void tls13_result(const struct tls13 *t, struct tls13_result *result)
{
	memset(result, 0, sizeof(*result));
	result->suite = t->suite ? t->suite->suite : 0;
	result->group = t->group;
	result->alert = t->alert;
	result->alert_received = t->alert_received;
	result->resumed = t->resumed;
	result->hello_retry = t->hello_retry;
	memcpy(result->alpn, t->alpn, sizeof(result->alpn));
	result->error = t->error;
}

void tls13_traffic_keys(const struct tls13 *t, bool send, struct tls13_traffic *traffic)
{
	memset(traffic, 0, sizeof(*traffic));
	if (t->state == TLS13_ENDED_WELL)
		tls13_schedule_traffic(t->suite, tls13_application_secret(t, send), traffic);
}

void tls13_after(const struct tls13 *t, struct tls13_after *after)
{
	memset(after, 0, sizeof(*after));
	if (t->state != TLS13_ENDED_WELL)
		return;
	after->suite = t->suite->suite;
	after->hash_len = (u8)tls13_hash_len(t);
	after->ticket_wanted = t->psk_allowed;
	memcpy(after->resumption_secret, t->resumption, sizeof(t->resumption));
	memcpy(after->send_secret, tls13_application_secret(t, true), TLS13_SECRET_MAX);
	memcpy(after->receive_secret, tls13_application_secret(t, false), TLS13_SECRET_MAX);
}

void tls13_wipe(struct tls13 *t)
{
	tls13_record_unprotect(&t->read);
	tls13_record_unprotect(&t->write);
	port_wipe(t, sizeof(*t));
}
