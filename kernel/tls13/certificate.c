// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Certificates as opaque bytes, and the proof that their key is held (RFC 8446
 * sections 4.3.2, 4.4.2, 4.4.3). Never looks inside a certificate: the chain
 * goes to the caller, who answers with the leaf's key.
 */
#include "engine.h"

/* A chain of ours: u32 (host order) length and DER, again and again. */
static bool take_own(struct wire_reader *chain, struct wire_reader *certificate)
{
	const u8 *head;
	u32 len;

	if (!wire_take(chain, sizeof(len), &head))
		return false;
	memcpy(&len, head, sizeof(len));
	certificate->left = len;
	return len && wire_take(chain, len, &certificate->at);
}

int tls13_certificate_check_own(const struct tls13_config *config)
{
	struct wire_reader chain = { config->chain, config->chain_len };
	struct wire_reader certificate;

	if (!config->chain_len)
		return config->server ? -EINVAL : 0;
	if (!config->chain || !config->sign || config->chain_len > TLS13_CHAIN_MAX)
		return -EINVAL;
	while (chain.left)
		if (!take_own(&chain, &certificate))
			return -EINVAL;
	return 0;
}

int tls13_certificate_request_send(struct tls13 *t, struct wire_writer *w)
{
	size_t message = tls13_message_open(w, TLS13_CERTIFICATE_REQUEST);
	size_t extensions;

	wire_write_uint(w, 1, 0);	/* no context during the handshake */
	extensions = wire_open_vector(w, 2);
	tls13_extension_write_signatures(w);
	wire_close_vector(w, 2, extensions);
	return tls13_message_close(t, w, message);
}

int tls13_certificate_request_receive(struct tls13 *t, const u8 *message, size_t len)
{
	struct wire_reader r = { message + 4, len - 4 };
	struct wire_reader context, list;
	struct tls13_extensions found;

	if (!wire_read_vector(&r, 1, &context))
		return tls13_fail(t, TLS13_DECODE_ERROR, "The CertificateRequest is malformed.");
	if (context.left)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The CertificateRequest has a context.");
	if (tls13_extension_parse(t, TLS13_IN_CERTIFICATE_REQUEST, &r, &found))
		return -EPROTO;
	r = found.body[TLS13_EXT_SIGNATURE_ALGORITHMS];
	if (!r.at)
		return tls13_fail(t, TLS13_MISSING_EXTENSION,
				  "The CertificateRequest lacks signature_algorithms.");
	if (!wire_read_vector(&r, 2, &list) || r.left || !list.left || list.left % 2)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The CertificateRequest's signature_algorithms are malformed.");
	t->certificate_requested = true;
	t->signature_acceptable = wire_list_holds(list, TLS13_ECDSA_P256_SHA256);
	return 0;
}

bool tls13_certificate_is_wanted(const struct tls13 *t)
{
	return t->certificate_requested && t->signature_acceptable && t->config.chain_len;
}

/* `empty`: section 4.4.2.3, a client that cannot give what was asked for says so. */
int tls13_certificate_send(struct tls13 *t, struct wire_writer *w, bool empty)
{
	size_t message = tls13_message_open(w, TLS13_CERTIFICATE);
	struct wire_reader chain = { t->config.chain, t->config.chain_len };
	struct wire_reader certificate;
	size_t list, entry;

	wire_write_uint(w, 1, 0);
	list = wire_open_vector(w, 3);
	while (!empty && take_own(&chain, &certificate)) {
		entry = wire_open_vector(w, 3);
		wire_write_bytes(w, certificate.at, certificate.left);
		wire_close_vector(w, 3, entry);
		wire_write_uint(w, 2, 0);
	}
	wire_close_vector(w, 3, list);
	return tls13_message_close(t, w, message);
}

/*
 * Moves the entries together into the form of config->chain, in place: an entry on the wire is at
 * least one byte longer (3 + DER + 2) than ours (4 + DER), so writing never overtakes reading.
 */
static int gather_chain(struct tls13 *t, struct wire_reader *list)
{
	struct wire_reader certificate, block, inner;
	struct tls13_extensions none;
	size_t used = 0;
	u32 len;

	while (list->left) {
		if (!wire_read_vector(list, 3, &certificate) || !certificate.left)
			return tls13_fail(t, TLS13_DECODE_ERROR,
					  "The peer's Certificate is malformed.");
		block = *list;
		if (!wire_read_vector(list, 2, &inner))
			return tls13_fail(t, TLS13_DECODE_ERROR,
					  "The peer's Certificate is malformed.");
		block.left -= list->left;
		if (tls13_extension_parse(t, TLS13_IN_CERTIFICATE, &block, &none))
			return -EPROTO;
		if (t->chain_certs == TLS13_CERTIFICATES_MAX)
			return tls13_fail(t, TLS13_BAD_CERTIFICATE,
					  "The peer's chain has too many certificates.");
		len = (u32)certificate.left;
		memmove(t->in + used + sizeof(len), certificate.at, len);
		memcpy(t->in + used, &len, sizeof(len));
		used += sizeof(len) + len;
		t->chain_certs++;
	}
	t->chain_len = used;
	return 0;
}

/* Ends in TLS13_ASKED; the message is t->in itself and is overwritten. */
int tls13_certificate_receive(struct tls13 *t, const u8 *message, size_t len)
{
	struct wire_reader r = { message + 4, len - 4 };
	struct wire_reader context, list;

	if (!wire_read_vector(&r, 1, &context) || !wire_read_vector(&r, 3, &list) || r.left)
		return tls13_fail(t, TLS13_DECODE_ERROR, "The peer's Certificate is malformed.");
	if (context.left)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The peer's Certificate has a context.");
	if (!list.left && t->config.server)
		return tls13_fail(t, TLS13_CERTIFICATE_REQUIRED, "The client has no certificate.");
	if (!list.left)
		return tls13_fail(t, TLS13_DECODE_ERROR, "The server has no certificate.");
	if (!t->config.server && t->config.mutual && !tls13_certificate_is_wanted(t))
		return tls13_fail(t, TLS13_HANDSHAKE_FAILURE,
				  "The server asks for no certificate that this side has.");
	if (tls13_transcript_add(t, message, len) || gather_chain(t, &list))
		return -EPROTO;
	t->state_after_ask = t->config.server ? TLS13_WAIT_CLIENT_VERIFY : TLS13_WAIT_SERVER_VERIFY;
	t->state = TLS13_ASKED;
	t->asked_len = len;
	return 0;
}

/* SHA-256 of what a CertificateVerify signs. */
static int digest_verify(struct tls13 *t, bool by_server, u8 digest[32])
{
	static const char server[] = "TLS 1.3, server CertificateVerify";
	static const char client[] = "TLS 1.3, client CertificateVerify";
	struct port_hash_state state;
	u8 content[64 + sizeof(server) + TLS13_HASH_MAX];
	int rc;

	memset(content, ' ', 64);
	memcpy(content + 64, by_server ? server : client,
	       sizeof(server)); /* its final 0 is the separator */
	rc = tls13_transcript_hash(t, content + 64 + sizeof(server));
	if (!rc)
		rc = port_hash_init(&state, PORT_SHA256);
	if (!rc)
		rc = port_hash_update(&state, content, 64 + sizeof(server) + tls13_hash_len(t));
	return rc ? rc : port_hash_final(&state, digest);
}

int tls13_certificate_verify_send(struct tls13 *t, struct wire_writer *w)
{
	u8 digest[32], signature[TLS13_SIGNATURE_MAX];
	size_t signature_len = sizeof(signature);
	size_t message, mark;

	if (digest_verify(t, t->config.server, digest))
		return tls13_fail_port(t);
	if (t->config.sign(t->config.arg, digest, signature, &signature_len) ||
	    signature_len > sizeof(signature))
		return tls13_fail(t, TLS13_INTERNAL_ERROR, "This side's key cannot sign.");
	message = tls13_message_open(w, TLS13_CERTIFICATE_VERIFY);
	wire_write_uint(w, 2, TLS13_ECDSA_P256_SHA256);
	mark = wire_open_vector(w, 2);
	wire_write_bytes(w, signature, signature_len);
	wire_close_vector(w, 2, mark);
	return tls13_message_close(t, w, message);
}

int tls13_certificate_verify_receive(struct tls13 *t, const u8 *message, size_t len)
{
	struct wire_reader r = { message + 4, len - 4 };
	struct wire_reader signature;
	u8 digest[32];
	u16 scheme;
	int rc;

	if (!wire_read_u16(&r, &scheme) || !wire_read_vector(&r, 2, &signature) || r.left)
		return tls13_fail(t, TLS13_DECODE_ERROR,
				  "The peer's CertificateVerify is malformed.");
	if (scheme != TLS13_ECDSA_P256_SHA256)
		return tls13_fail(t, TLS13_ILLEGAL_PARAMETER,
				  "The peer signed with an algorithm that was not offered.");
	if (signature.left > TLS13_SIGNATURE_MAX)
		return tls13_fail(t, TLS13_DECRYPT_ERROR,
				  "The peer's CertificateVerify does not verify.");
	if (digest_verify(t, !t->config.server, digest))
		return tls13_fail_port(t);
	rc = port_p256_verify(t->peer_key, digest, signature.at, signature.left);
	if (rc == -EINVAL)
		return tls13_fail(t, TLS13_BAD_CERTIFICATE,
				  "The peer's certified key is no point of P-256.");
	if (rc == -EBADMSG || rc == -EKEYREJECTED)
		return tls13_fail(t, TLS13_DECRYPT_ERROR,
				  "The peer's CertificateVerify does not verify.");
	if (rc)
		return tls13_fail_port(t);
	t->state = t->config.server ? TLS13_WAIT_CLIENT_FINISHED : TLS13_WAIT_SERVER_FINISHED;
	return tls13_transcript_add(t, message, len);
}
