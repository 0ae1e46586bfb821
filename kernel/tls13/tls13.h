/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * A TLS 1.3 handshake (RFC 8446) as a state machine over whole records: bytes
 * in, bytes out, and the traffic keys at its end. Never allocates, sleeps,
 * reads a clock or a socket, or looks inside a certificate.
 *
 * The caller reads exactly one record at a time, gives it to tls13_input(),
 * sends what stands in `out`, and answers the two questions that only it can:
 * is this chain good (TLS13_VERIFY), and which PSK is this (config->find_psk).
 */
#ifndef RIPRAP_TLS13_H
#define RIPRAP_TLS13_H

#include "port.h"

#define TLS13_RECORD_HEADER	5
#define TLS13_PLAINTEXT_MAX	16384			/* RFC 8446 section 5.1 */
#define TLS13_RECORD_MAX	(TLS13_PLAINTEXT_MAX + 256)	/* section 5.2 */
#define TLS13_OUT_MAX		(20 * 1024)	/* the largest flight: 16 KiB of chain, the rest */
#define TLS13_MESSAGE_MAX	(18 * 1024)	/* one handshake message after reassembly */
#define TLS13_TICKET_MAX	256		/* ours are 32 bytes; a longer one is not kept */
#define TLS13_ALPN_MAX		32

enum tls13_suite {
	TLS13_AES_128_GCM_SHA256	= 0x1301,
	TLS13_AES_256_GCM_SHA384	= 0x1302,
	TLS13_CHACHA20_POLY1305_SHA256	= 0x1303,
};

enum tls13_group { TLS13_SECP256R1 = 0x0017, TLS13_X25519 = 0x001d };

enum tls13_alert {		/* RFC 8446 section 6 */
	TLS13_CLOSE_NOTIFY		= 0,
	TLS13_UNEXPECTED_MESSAGE	= 10,
	TLS13_BAD_RECORD_MAC		= 20,
	TLS13_RECORD_OVERFLOW		= 22,
	TLS13_HANDSHAKE_FAILURE		= 40,
	TLS13_BAD_CERTIFICATE		= 42,
	TLS13_UNSUPPORTED_CERTIFICATE	= 43,
	TLS13_CERTIFICATE_REVOKED	= 44,
	TLS13_CERTIFICATE_EXPIRED	= 45,
	TLS13_CERTIFICATE_UNKNOWN	= 46,
	TLS13_ILLEGAL_PARAMETER		= 47,
	TLS13_UNKNOWN_CA		= 48,
	TLS13_ACCESS_DENIED		= 49,
	TLS13_DECODE_ERROR		= 50,
	TLS13_DECRYPT_ERROR		= 51,
	TLS13_PROTOCOL_VERSION		= 70,
	TLS13_INTERNAL_ERROR		= 80,
	TLS13_MISSING_EXTENSION		= 109,
	TLS13_UNSUPPORTED_EXTENSION	= 110,
	TLS13_CERTIFICATE_REQUIRED	= 116,
	TLS13_NO_APPLICATION_PROTOCOL	= 120,
};

enum tls13_status {
	TLS13_READ	= 0,	/* wants one more record */
	TLS13_VERIFY	= 1,	/* wants tls13_peer_accepted() or tls13_refuse() */
	TLS13_DONE	= 2,	/* traffic keys are there, once `out` has been sent */
	TLS13_FAILED	= 3,	/* an alert stands in `out` unless the peer sent one */
};

/* What one resumption needs: RFC 8446 section 4.6.1. */
struct tls13_psk {
	u16 suite;		/* its hash is the PSK's hash */
	u8 key_len;		/* 32 or 48 */
	u8 key[48];
	u16 ticket_len;
	u8 ticket[TLS13_TICKET_MAX];
	u32 age_add;
	u32 lifetime;		/* seconds, at most 7 days */
};

struct tls13_config {
	bool server;
	/*
	 * Own chain: each certificate as __u32 (host order) length, DER; leaf first. Borrowed,
	 * must outlive the handshake.
	 */
	const u8 *chain;
	size_t chain_len;
	/*
	 * Signs a SHA-256 digest with the key of the chain's leaf; DER ECDSA-Sig-Value into
	 * sig[72]. 0 or -errno. May sleep.
	 */
	int (*sign)(void *arg, const u8 digest[32], u8 sig[72], size_t *sig_len);
	/*
	 * Server: looks up a ticket. Fills psk and returns 0, or -ENOENT for a full handshake.
	 * `obfuscated_age` is the client's claim, psk->age_add already in it. Called for the
	 * first identities only (at most 4), and never before a HelloRetryRequest.
	 */
	int (*find_psk)(void *arg, const u8 *ticket, size_t len, u32 obfuscated_age,
			struct tls13_psk *psk);
	void *arg;
	const struct tls13_psk *psk;	/* client: offer this one; NULL: none */
	u32 psk_age_ms;			/* client: since the ticket came */
	const char *alpn;	/* offered, or required if the client offers any; NULL: none */
	u16 suites[3];			/* in order of preference, 0-terminated when shorter */
	u16 groups[2];		/* in order of preference; a client sends a share of the first */
	/*
	 * Both sides prove themselves. A server asks for a certificate, and refuses an empty answer with
	 * certificate_required; a client refuses a server that asks for none that it has, with
	 * handshake_failure.
	 */
	bool mutual;
};

struct tls13;			/* opaque; sizeof by tls13_size() so that the caller allocates */
size_t tls13_size(void);

/*
 * Starts; a client's ClientHello stands in `out` afterwards. 0, -EINVAL for a bad configuration,
 * -EIO when the port failed. *t may hold anything, but one that was started before must be wiped
 * first. config is copied; what it points to (chain, alpn, arg) must outlive the handshake, except
 * psk.
 */
int tls13_start(struct tls13 *t, const struct tls13_config *config);

/*
 * Given the 5 header bytes: payload length still to read, or -EBADMSG (then call tls13_refuse()
 * with RECORD_OVERFLOW or UNEXPECTED_MESSAGE as *alert says).
 */
int tls13_record_length(const struct tls13 *t, const u8 header[TLS13_RECORD_HEADER], u8 *alert);

/* One whole record, header included; decrypted in place. */
enum tls13_status tls13_input(struct tls13 *t, u8 *record, size_t len);

/*
 * What to send now, good until the next call that is not this one; tls13_sent() drops the first n
 * bytes of it.
 */
const u8 *tls13_output(const struct tls13 *t, size_t *len);
void tls13_sent(struct tls13 *t, size_t n);

/* After TLS13_VERIFY: the peer's chain in the form of config->chain, valid until the next call. */
const u8 *tls13_peer_chain(const struct tls13 *t, size_t *len, unsigned int *certs);
/*
 * The leaf's key as an uncompressed P-256 point; the engine then checks CertificateVerify and goes
 * on.
 */
enum tls13_status tls13_peer_accepted(struct tls13 *t, const u8 public_key[65]);
/* Ends the handshake with this alert. */
enum tls13_status tls13_refuse(struct tls13 *t, u8 alert);

struct tls13_result {
	u16 suite;
	u16 group;
	u8 alert;		/* with TLS13_FAILED: the description */
	bool alert_received;	/* ... and who sent it */
	bool resumed;
	bool hello_retry;
	char alpn[TLS13_ALPN_MAX];
	const char *error;	/* a static sentence for a person, or NULL */
};
void tls13_result(const struct tls13 *t, struct tls13_result *result);

struct tls13_traffic {
	u16 suite;
	u8 key_len;		/* 16 or 32 */
	u8 key[32];
	u8 iv[12];
	u64 sequence;		/* of the next record */
};
/* After TLS13_DONE. Wipe the copy after use. */
void tls13_traffic_keys(const struct tls13 *t, bool send, struct tls13_traffic *traffic);

/*
 * Post-handshake secrets, kept apart so that the large struct can be freed:
 * what NewSessionTicket and KeyUpdate need.
 */
struct tls13_after {
	u16 suite;
	u8 hash_len;
	bool ticket_wanted;	/* server: the client can use one (section 4.2.9) */
	u8 resumption_secret[48];
	u8 send_secret[48];
	u8 receive_secret[48];
};
void tls13_after(const struct tls13 *t, struct tls13_after *after);

/*
 * Server: writes a whole NewSessionTicket handshake message (unencrypted) and the PSK that it
 * stands for. Length or -ENOSPC.
 */
int tls13_write_ticket(struct tls13_after *after, const u8 *ticket, size_t ticket_len, u32 lifetime,
		       u32 age_add, const u8 nonce[8], u8 *message, size_t size,
		       struct tls13_psk *psk);
/* Client: reads one (header included). 0, -ENOSPC when the ticket is too long to keep, -EBADMSG. */
int tls13_read_ticket(struct tls13_after *after, const u8 *message, size_t len,
		      struct tls13_psk *psk);
/*
 * Where a reader of post-handshake messages stands between two records: they may be cut anywhere
 * (section 5.1). All zero at first.
 */
struct tls13_post {
	u8 head[4];
	u8 head_len;
	u32 left;	/* of a message whose beginning was in an earlier record */
};
/*
 * The next message of one handshake record; *data and *len move past it. Its type with *message,
 * which is NULL when it came in pieces (a ticket in pieces is not worth gathering); 0 when the
 * record is used up; -EBADMSG when it is none that may follow a handshake.
 */
int tls13_post_next(struct tls13_post *post, const u8 **data, size_t *len, const u8 **message,
		    size_t *message_len);
/* KeyUpdate (RFC 8446 section 4.6.3): next secret of one direction and its keys. */
int tls13_update_keys(struct tls13_after *after, bool send, struct tls13_traffic *traffic);

void tls13_wipe(struct tls13 *t);

#endif
