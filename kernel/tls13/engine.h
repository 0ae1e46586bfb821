/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The engine's own state and the seams between its files. Never included by a
 * caller: tls13.h is the door.
 */
#ifndef RIPRAP_TLS13_ENGINE_H
#define RIPRAP_TLS13_ENGINE_H

#include "tls13.h"
#include "wire.h"

#define TLS13_HASH_MAX		48
#define TLS13_SECRET_MAX	48
#define TLS13_VERSION		0x0304
#define TLS13_LEGACY_VERSION	0x0303
#define TLS13_SSL3		0x0300	/* as legacy_version: to be refused (section D.5) */
#define TLS13_ECDSA_P256_SHA256	0x0403
#define TLS13_PSK_DHE_KE	1
#define TLS13_SHARE_MAX		65
#define TLS13_SIGNATURE_MAX	72	/* DER of two 32-byte integers */
#define TLS13_CHAIN_MAX		16384	/* own chain; its flight fits TLS13_OUT_MAX */
#define TLS13_CERTIFICATES_MAX	8	/* in a peer's chain; RIPRAP_CHAIN_CERTS_MAX */
#define TLS13_IDENTITIES_MAX	4	/* PSKs that are looked up; clients offer one or two */
#define TLS13_CCS_MAX		4	/* one comes with each flight; more is a flood */
#define TLS13_EARLY_SKIP_MAX	16384	/* early data; no ticket of ours allows any */
#define TLS13_COOKIE_MAX	2048	/* a hash state and a tag are far less */
#define TLS13_IN_MAX		(TLS13_MESSAGE_MAX + 1024)	/* and what follows it */
#define TLS13_ALERT_ROOM	(TLS13_RECORD_HEADER + 2 + 1 + 16)	/* an alert always fits */

enum tls13_message {		/* RFC 8446 section 4 */
	TLS13_CLIENT_HELLO		= 1,
	TLS13_SERVER_HELLO		= 2,
	TLS13_NEW_SESSION_TICKET	= 4,
	TLS13_ENCRYPTED_EXTENSIONS	= 8,
	TLS13_CERTIFICATE		= 11,
	TLS13_CERTIFICATE_REQUEST	= 13,
	TLS13_CERTIFICATE_VERIFY	= 15,
	TLS13_FINISHED			= 20,
	TLS13_KEY_UPDATE		= 24,
	TLS13_MESSAGE_HASH		= 254,
};

enum tls13_content {		/* RFC 8446 section 5.1 */
	TLS13_CHANGE_CIPHER_SPEC	= 20,
	TLS13_ALERT			= 21,
	TLS13_HANDSHAKE			= 22,
	TLS13_APPLICATION_DATA		= 23,
};

enum tls13_state {
	TLS13_AT_REST,
	TLS13_WAIT_SERVER_HELLO,
	TLS13_WAIT_ENCRYPTED_EXTENSIONS,
	TLS13_WAIT_CERTIFICATE_OR_REQUEST,
	TLS13_WAIT_SERVER_CERTIFICATE,
	TLS13_WAIT_SERVER_VERIFY,
	TLS13_WAIT_SERVER_FINISHED,
	TLS13_WAIT_CLIENT_HELLO,
	TLS13_WAIT_CLIENT_CERTIFICATE,
	TLS13_WAIT_CLIENT_VERIFY,
	TLS13_WAIT_CLIENT_FINISHED,
	TLS13_ASKED,		/* the caller judges the peer's chain */
	TLS13_ENDED_WELL,
	TLS13_ENDED_BADLY,
};

/* The extensions that the engine reads; extension.c knows the others by number only. */
enum tls13_extension {
	TLS13_EXT_SUPPORTED_GROUPS,
	TLS13_EXT_SIGNATURE_ALGORITHMS,
	TLS13_EXT_ALPN,
	TLS13_EXT_PRE_SHARED_KEY,
	TLS13_EXT_EARLY_DATA,
	TLS13_EXT_SUPPORTED_VERSIONS,
	TLS13_EXT_COOKIE,
	TLS13_EXT_PSK_MODES,
	TLS13_EXT_KEY_SHARE,
	TLS13_EXT_READ,		/* how many */
};

/* Where an extension stands: the columns of RFC 8446 section 4.2. */
enum tls13_place {
	TLS13_IN_CLIENT_HELLO		= 1,
	TLS13_IN_SERVER_HELLO		= 2,
	TLS13_IN_HELLO_RETRY		= 4,
	TLS13_IN_ENCRYPTED		= 8,
	TLS13_IN_CERTIFICATE		= 16,
	TLS13_IN_CERTIFICATE_REQUEST	= 32,
	TLS13_IN_TICKET			= 64,
};

struct tls13_extensions {
	struct wire_reader body[TLS13_EXT_READ];	/* at is NULL where absent */
	bool psk_last;
};

struct tls13_suite_info {
	u16 suite;
	enum port_hash hash;
	enum port_aead aead;
	u8 key_len;
};

struct tls13_direction {	/* one direction's record protection */
	struct port_aead_key key;
	u8 iv[12];
	u64 sequence;
	bool on;
};

struct tls13_client_hello {	/* a parsed one; borrows the message */
	const u8 *message;
	size_t len;
	size_t prefix_len;	/* up to the extensions */
	struct wire_reader session_id;
	struct wire_reader suites;
	struct tls13_extensions extensions;
};

struct tls13_server_hello {	/* a parsed ServerHello or HelloRetryRequest */
	bool retry;
	u16 suite;
	u16 group;		/* 0: none named */
	struct wire_reader share;
	struct wire_reader cookie;
	bool psk;
};

struct tls13 {
	struct tls13_config config;
	enum tls13_state state;
	enum tls13_state state_after_ask;
	const struct tls13_suite_info *suite;
	u16 group;
	u8 alert;
	bool alert_received;
	bool flight_sent;	/* server: what follows is under application keys */
	bool hello_retry;
	bool psk_offered;	/* client: psk stands in the last ClientHello */
	bool resumed;
	u8 psk_selected;	/* server: index of the identity */
	bool psk_allowed;	/* server: the client takes PSK with (EC)DHE */
	bool certificate_requested;
	bool signature_acceptable;	/* client: the server takes ECDSA with P-256 */
	bool ccs_sent;
	u8 ccs_received;
	bool decrypted;		/* a record of the peer was good: no more early data */
	bool early_data_offered;
	u32 early_skipped;
	const char *error;
	char alpn[TLS13_ALPN_MAX];

	struct tls13_psk psk;
	u8 random[32];		/* client: its own, kept for the second ClientHello */
	u8 session_id[32];
	u8 session_id_len;
	u8 hello_digest[32];	/* server: what the second ClientHello must repeat */
	u8 private_key[32];
	u8 shared[32];		/* of the key agreement, until the schedule has taken it */
	u8 public_key[TLS13_SHARE_MAX];
	u8 peer_key[TLS13_SHARE_MAX];

	/* Until the suite is settled both hashes run: nobody knows which one counts. */
	struct port_hash_state transcript;
	struct port_hash_state transcript_sha384;
	bool transcript_both;

	u8 secret[TLS13_SECRET_MAX];	/* early, handshake, then master secret */
	u8 client_handshake[TLS13_SECRET_MAX];
	u8 server_handshake[TLS13_SECRET_MAX];
	u8 client_application[TLS13_SECRET_MAX];
	u8 server_application[TLS13_SECRET_MAX];
	u8 resumption[TLS13_SECRET_MAX];

	struct tls13_direction read;
	struct tls13_direction write;

	size_t chain_at;	/* the peer's chain within `in` while asked */
	size_t chain_len;
	unsigned int chain_certs;
	size_t asked_len;	/* the message that asked */

	size_t in_len;
	size_t out_start;
	size_t out_end;
	u8 in[TLS13_IN_MAX];
	u8 out[TLS13_OUT_MAX + TLS13_ALERT_ROOM];
};

/* Notes why the handshake ends; always -EPROTO, so that a caller can return it. */
static inline int tls13_fail(struct tls13 *t, u8 alert, const char *error)
{
	t->alert = alert;
	t->error = error;
	return -EPROTO;
}

static inline int tls13_fail_port(struct tls13 *t)
{
	return tls13_fail(t, TLS13_INTERNAL_ERROR,
			  "A cryptographic operation or a buffer of this side failed.");
}

const struct tls13_suite_info *tls13_suite_find(u16 suite);
static inline size_t tls13_hash_len(const struct tls13 *t)
{
	return (size_t)t->suite->hash;
}

static inline const u8 *tls13_application_secret(const struct tls13 *t, bool send)
{
	return send == t->config.server ? t->server_application : t->client_application;
}

/* engine.c: handshake messages */
size_t tls13_message_open(struct wire_writer *w, u8 type);
int tls13_message_close(struct tls13 *t, struct wire_writer *w, size_t mark);

/* record.c */
void tls13_record_open(struct tls13 *t, struct wire_writer *w);
int tls13_record_close(struct tls13 *t, const struct wire_writer *w, u8 content);
int tls13_record_receive(struct tls13 *t, u8 *record, size_t len);
int tls13_record_send_ccs(struct tls13 *t);
void tls13_record_send_alert(struct tls13 *t);
int tls13_record_protect(struct tls13 *t, struct tls13_direction *d, const u8 *secret);
void tls13_record_unprotect(struct tls13_direction *d);

/* key_schedule.c: RFC 8446 section 7.1 */
int tls13_hmac(enum port_hash hash, const u8 *key, size_t key_len, const void *data, size_t len,
	       u8 *mac);
int tls13_expand_label(enum port_hash hash, const u8 *secret, const char *label, const u8 *context,
		       size_t context_len, u8 *out, size_t len);
int tls13_derive_secret(enum port_hash hash, const u8 *secret, const char *label, const u8 *digest,
			u8 *out);
int tls13_schedule_early(enum port_hash hash, const struct tls13_psk *psk, u8 *secret);
int tls13_schedule_handshake(struct tls13 *t);
int tls13_schedule_application(struct tls13 *t);
int tls13_schedule_resumption(struct tls13 *t);
int tls13_schedule_traffic(const struct tls13_suite_info *suite, const u8 *secret,
			   struct tls13_traffic *traffic);

/* transcript.c: RFC 8446 section 4.4.1 */
int tls13_transcript_start(struct tls13 *t);
void tls13_transcript_select(struct tls13 *t);
int tls13_transcript_add(struct tls13 *t, const u8 *message, size_t len);
int tls13_transcript_hash(const struct tls13 *t, u8 *digest);
int tls13_transcript_hash_with(const struct tls13 *t, enum port_hash hash, const u8 *more,
			       size_t len, u8 *digest);
int tls13_transcript_retry(struct tls13 *t);

/* key_share.c: RFC 8446 section 4.2.8 */
size_t tls13_key_share_len(u16 group);
int tls13_key_share_generate(struct tls13 *t, u16 group);
int tls13_key_share_agree(struct tls13 *t, const struct wire_reader *peer);
int tls13_key_share_choose(struct tls13 *t, const struct tls13_client_hello *hello,
			   struct wire_reader *share);

/* extension.c: RFC 8446 section 4.2 */
int tls13_extension_parse(struct tls13 *t, enum tls13_place place, struct wire_reader *message,
			  struct tls13_extensions *found);
bool tls13_extension_find(struct wire_reader message, enum tls13_extension extension,
			  struct wire_reader *body);
size_t tls13_extension_open(struct wire_writer *w, enum tls13_extension extension);
void tls13_extension_close(struct wire_writer *w, size_t mark);
void tls13_extension_write_signatures(struct wire_writer *w);
int tls13_extension_read_alpn(struct tls13 *t, struct wire_reader body);
void tls13_extension_write_alpn(struct tls13 *t, struct wire_writer *w);
static inline bool tls13_extension_found(const struct tls13_extensions *found,
					 enum tls13_extension extension)
{
	return found->body[extension].at;
}

/* client_hello.c: section 4.1.2; server_hello.c: sections 4.1.3 and 4.1.4 */
int tls13_client_hello_send(struct tls13 *t, const struct wire_reader *cookie);
int tls13_client_hello_parse(struct tls13 *t, const u8 *message, size_t len,
			     struct tls13_client_hello *hello);
int tls13_client_hello_remember(struct tls13 *t, const struct tls13_client_hello *hello);
int tls13_client_hello_compare(struct tls13 *t, const struct tls13_client_hello *hello);
int tls13_server_hello_send(struct tls13 *t, bool retry);
int tls13_server_hello_parse(struct tls13 *t, const u8 *message, size_t len,
			     struct tls13_server_hello *hello);

/* psk.c: section 4.2.11 */
size_t tls13_psk_write_identity(struct tls13 *t, struct wire_writer *w);
int tls13_psk_write_binder(struct tls13 *t, struct wire_writer *w, size_t message, size_t binders);
int tls13_psk_read_modes(struct tls13 *t, const struct tls13_client_hello *hello);
int tls13_psk_choose(struct tls13 *t, const struct tls13_client_hello *hello);
bool tls13_psk_fits(const struct tls13_config *config, const struct tls13_psk *psk);

/* certificate.c: sections 4.3.2, 4.4.2 and 4.4.3 */
int tls13_certificate_check_own(const struct tls13_config *config);
int tls13_certificate_request_send(struct tls13 *t, struct wire_writer *w);
int tls13_certificate_request_receive(struct tls13 *t, const u8 *message, size_t len);
/* Client: the server asked, and takes what this side has. */
bool tls13_certificate_is_wanted(const struct tls13 *t);
int tls13_certificate_send(struct tls13 *t, struct wire_writer *w, bool empty);
int tls13_certificate_receive(struct tls13 *t, const u8 *message, size_t len);
int tls13_certificate_verify_send(struct tls13 *t, struct wire_writer *w);
int tls13_certificate_verify_receive(struct tls13 *t, const u8 *message, size_t len);

/* finished.c: section 4.4.4 */
int tls13_finished_mac(enum port_hash hash, const u8 *secret, const u8 *digest, u8 *mac);
int tls13_finished_send(struct tls13 *t, struct wire_writer *w);
int tls13_finished_receive(struct tls13 *t, const u8 *message, size_t len);

/* client.c and server.c: what one message of the peer means */
int tls13_client_start(struct tls13 *t);
int tls13_client_server_hello(struct tls13 *t, const u8 *message, size_t len);
int tls13_client_encrypted_extensions(struct tls13 *t, const u8 *message, size_t len);
int tls13_client_certificate_request(struct tls13 *t, const u8 *message, size_t len);
int tls13_client_finished(struct tls13 *t, const u8 *message, size_t len);
int tls13_server_start(struct tls13 *t);
int tls13_server_client_hello(struct tls13 *t, const u8 *message, size_t len);
int tls13_server_finished(struct tls13 *t, const u8 *message, size_t len);

#endif
