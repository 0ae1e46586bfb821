// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The record layer (RFC 8446 section 5): fragments and seals what is sent,
 * opens and gathers what comes in. Never looks inside a handshake message.
 */
#include "engine.h"

#define TAG	16

static void nonce_of(const struct tls13_direction *d, u8 nonce[12])
{
	unsigned int i;

	memcpy(nonce, d->iv, 12);
	for (i = 0; i < 8; i++)
		nonce[4 + i] ^= (u8)(d->sequence >> (56 - 8 * i));
}

static void write_header(u8 *at, u8 content, u16 version, size_t len)
{
	at[0] = content;
	at[1] = (u8)(version >> 8);
	at[2] = (u8)version;
	at[3] = (u8)(len >> 8);
	at[4] = (u8)len;
}

/* Replaces the keys of one direction and starts its sequence anew. */
int tls13_record_protect(struct tls13 *t, struct tls13_direction *d, const u8 *secret)
{
	struct tls13_traffic traffic;
	int rc;

	tls13_record_unprotect(d);
	rc = tls13_schedule_traffic(t->suite, secret, &traffic);
	if (!rc)
		rc = port_aead_set(&d->key, t->suite->aead, traffic.key);
	if (!rc) {
		memcpy(d->iv, traffic.iv, sizeof(d->iv));
		d->on = true;
	}
	port_wipe(&traffic, sizeof(traffic));
	return rc ? tls13_fail_port(t) : 0;
}

void tls13_record_unprotect(struct tls13_direction *d)
{
	port_aead_clear(&d->key);
	port_wipe(d, sizeof(*d));
}

/* Room for the plaintext of one flight of one content type, where its first record will stand. */
void tls13_record_open(struct tls13 *t, struct wire_writer *w)
{
	size_t overhead = 2 * (TLS13_RECORD_HEADER + 1 + TAG);
	size_t room;

	if (t->out_start) {
		memmove(t->out, t->out + t->out_start, t->out_end - t->out_start);
		t->out_end -= t->out_start;
		t->out_start = 0;
	}
	room = TLS13_OUT_MAX - t->out_end;
	memset(w, 0, sizeof(*w));
	w->base = t->out + t->out_end + TLS13_RECORD_HEADER;
	w->size = room > overhead ? room - overhead : 0;
}

static int seal_piece(struct tls13 *t, u8 *at, u8 content, size_t len)
{
	struct tls13_direction *d = &t->write;
	u8 nonce[12];
	int rc;

	if (!d->on) {
		/*
		 * RFC 8446 section 5.1: only the first ClientHello may carry 0x0301, for old
		 * middleboxes.
		 */
		bool first = t->state == TLS13_AT_REST && !t->config.server;

		write_header(at, content, first ? 0x0301 : TLS13_LEGACY_VERSION, len);
		return 0;
	}
	write_header(at, TLS13_APPLICATION_DATA, TLS13_LEGACY_VERSION, len + 1 + TAG);
	at[TLS13_RECORD_HEADER + len] = content;
	nonce_of(d, nonce);
	rc = port_aead_seal(&d->key, nonce, at, TLS13_RECORD_HEADER, at + TLS13_RECORD_HEADER,
			    len + 1);
	d->sequence++;
	return rc;
}

/* Cuts the plaintext into records, in place; at most two, as the writer's room allows no more. */
int tls13_record_close(struct tls13 *t, const struct wire_writer *w, u8 content)
{
	size_t tail = t->write.on ? 1 + TAG : 0;
	u8 *at = w->base - TLS13_RECORD_HEADER;
	size_t left = w->used;

	if (w->full)
		return tls13_fail_port(t);
	while (left) {
		size_t piece = left < TLS13_PLAINTEXT_MAX ? left : TLS13_PLAINTEXT_MAX;
		u8 *end = at + TLS13_RECORD_HEADER + piece;

		left -= piece;
		memmove(end + tail + TLS13_RECORD_HEADER, end, left);
		if (seal_piece(t, at, content, piece))
			return tls13_fail_port(t);
		at = end + tail;
		t->out_end = (size_t)(at - t->out);
	}
	return 0;
}

/* RFC 8446 appendix D.4: once, before the first thing that an old middlebox could not read. */
int tls13_record_send_ccs(struct tls13 *t)
{
	struct wire_writer w;
	u8 *at;

	if (t->ccs_sent || !t->session_id_len)
		return 0;
	tls13_record_open(t, &w);
	at = wire_reserve(&w, 1);
	if (!at)
		return tls13_fail_port(t);
	at[0] = 1;
	write_header(at - TLS13_RECORD_HEADER, TLS13_CHANGE_CIPHER_SPEC, TLS13_LEGACY_VERSION, 1);
	t->out_end += TLS13_RECORD_HEADER + 1;
	t->ccs_sent = true;
	return 0;
}

/*
 * Appendix D.4: nothing protected of the client comes before its change_cipher_spec, an alert no
 * more than a flight. Without room the alert goes alone.
 */
static void send_ccs_before_alert(struct tls13 *t)
{
	const char *error = t->error;
	u8 alert = t->alert;

	if (!t->config.server && t->write.on && tls13_record_send_ccs(t))
		tls13_fail(t, alert, error);
}

/* Its room is set aside beyond TLS13_OUT_MAX, so that a full buffer cannot swallow it. */
void tls13_record_send_alert(struct tls13 *t)
{
	struct wire_writer w;

	send_ccs_before_alert(t);
	/* Section 4.4.4: what follows one's own Finished is under application keys. */
	if ((t->flight_sent || t->state == TLS13_ENDED_WELL) &&
	    tls13_record_protect(t, &t->write, tls13_application_secret(t, true)))
		return;
	tls13_record_open(t, &w);
	w.size = 2;
	wire_write_uint(&w, 1, t->alert == TLS13_CLOSE_NOTIFY ? 1 : 2);
	wire_write_uint(&w, 1, t->alert);
	if (tls13_record_close(t, &w, TLS13_ALERT))
		t->out_end = (size_t)(w.base - TLS13_RECORD_HEADER - t->out);
}

int tls13_record_length(const struct tls13 *t, const u8 header[TLS13_RECORD_HEADER], u8 *alert)
{
	int len = header[3] << 8 | header[4];
	bool sealed = header[0] == TLS13_APPLICATION_DATA;

	*alert = TLS13_UNEXPECTED_MESSAGE;
	/* The minor version is ignored (section 5.1); another major one is not TLS at all. */
	if (header[0] < TLS13_CHANGE_CIPHER_SPEC || header[0] > TLS13_APPLICATION_DATA ||
	    header[1] != 3)
		return -EBADMSG;
	if (sealed && !t->read.on && !t->early_data_offered)
		return -EBADMSG;
	*alert = TLS13_RECORD_OVERFLOW;
	return len > (sealed ? TLS13_RECORD_MAX : TLS13_PLAINTEXT_MAX) ? -EBADMSG : len;
}

static int receive_alert(struct tls13 *t, const u8 *data, size_t len)
{
	if (len != 2)
		return tls13_fail(t, TLS13_DECODE_ERROR, "The peer sent a malformed alert.");
	tls13_fail(t, data[1], "The peer ended the handshake with an alert.");
	t->alert_received = true;
	return -EPROTO;
}

static int receive_handshake(struct tls13 *t, const u8 *data, size_t len)
{
	if (!len)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer sent an empty handshake record.");
	if (len > sizeof(t->in) - t->in_len)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The peer's handshake messages are too long.");
	memcpy(t->in + t->in_len, data, len);
	t->in_len += len;
	return 0;
}

/*
 * Sections 5 and D.4: one byte of 1, after the first ClientHello, never between the parts of a
 * message.
 */
static int receive_ccs(struct tls13 *t, const u8 *data, size_t len)
{
	bool early = t->state == TLS13_WAIT_CLIENT_HELLO && !t->hello_retry;

	if (len != 1 || data[0] != 1 || early || t->in_len || t->ccs_received == TLS13_CCS_MAX)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer sent a change_cipher_spec out of place.");
	t->ccs_received++;
	return 0;
}

/* Section 4.2.10: the server that takes no early data passes over it, up to a bound. */
static int skip_early_data(struct tls13 *t, size_t len)
{
	t->early_skipped += (u32)len;
	if (t->in_len || t->early_skipped > TLS13_EARLY_SKIP_MAX)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The client sent more early data than is passed over.");
	return 0;
}

static int receive_inner(struct tls13 *t, const u8 *data, size_t len)
{
	u8 content;

	if (len > TLS13_PLAINTEXT_MAX + 1)
		return tls13_fail(t, TLS13_RECORD_OVERFLOW,
				  "The peer sent a record that is too long.");
	while (len && !data[len - 1])
		len--;
	if (!len)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer sent a record without a content type.");
	content = data[--len];
	if (content == TLS13_HANDSHAKE)
		return receive_handshake(t, data, len);
	if (t->in_len)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer put a record between the parts of a message.");
	if (content == TLS13_ALERT)
		return receive_alert(t, data, len);
	return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
			  "The peer sent a record that is no part of a handshake.");
}

static int receive_sealed(struct tls13 *t, u8 *record, size_t len)
{
	size_t sealed = len - TLS13_RECORD_HEADER;
	bool early = t->early_data_offered && !t->decrypted;
	u8 nonce[12];
	int rc;

	if (!t->read.on && early)
		return skip_early_data(t, sealed);
	if (!t->read.on)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer sent a protected record too early.");
	if (sealed < 1 + TAG)
		return tls13_fail(t, TLS13_BAD_RECORD_MAC,
				  "The peer sent a protected record that is too short.");
	nonce_of(&t->read, nonce);
	rc = port_aead_open(&t->read.key, nonce, record, TLS13_RECORD_HEADER,
			    record + TLS13_RECORD_HEADER, sealed);
	if (rc && rc != -EBADMSG)
		return tls13_fail_port(t);
	if (rc && early)
		return skip_early_data(t, sealed);
	if (rc)
		return tls13_fail(t, TLS13_BAD_RECORD_MAC, "A record of the peer does not verify.");
	t->read.sequence++;
	t->decrypted = true;
	return receive_inner(t, record + TLS13_RECORD_HEADER, sealed - TAG);
}

/* One record; its handshake bytes, if any, stand at the end of `in` afterwards. */
int tls13_record_receive(struct tls13 *t, u8 *record, size_t len)
{
	const u8 *data = record + TLS13_RECORD_HEADER;
	u8 alert;
	int said;

	said = len < TLS13_RECORD_HEADER ? -EBADMSG : tls13_record_length(t, record, &alert);
	if (said < 0)
		return tls13_fail(t, len < TLS13_RECORD_HEADER ? TLS13_DECODE_ERROR : alert,
				  "The peer sent a record with an impossible header.");
	if ((size_t)said != len - TLS13_RECORD_HEADER)
		return tls13_fail(t, TLS13_DECODE_ERROR, "The peer sent half a record.");
	if (record[0] == TLS13_CHANGE_CIPHER_SPEC)
		return receive_ccs(t, data, (size_t)said);
	if (record[0] == TLS13_APPLICATION_DATA)
		return receive_sealed(t, record, len);
	/*
	 * A client that cannot read the ServerHello says so in the clear, when the server already
	 * has its keys.
	 */
	if (record[0] == TLS13_ALERT && t->config.server && !t->decrypted)
		return receive_alert(t, data, (size_t)said);
	if (t->read.on)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer sent a record in the clear.");
	if (record[0] == TLS13_HANDSHAKE)
		return receive_handshake(t, data, (size_t)said);
	if (t->in_len)
		return tls13_fail(t, TLS13_UNEXPECTED_MESSAGE,
				  "The peer put a record between the parts of a message.");
	return receive_alert(t, data, (size_t)said);
}
