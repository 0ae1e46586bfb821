// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Follows a published handshake (test/rfc/8448) with the engine's own inner
 * parts: transcript, key schedule, record protection both ways, Finished,
 * binder and ticket. Ends with 1 at the first value that differs.
 *
 *   trace FILE      lines: psk, private, public, record, expect
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../kernel/tls13/engine.h"
#include "port_test.h"

#define VALUES_MAX	64

static struct {
	char name[48];
	u8 bytes[64];
	size_t len;
} values[VALUES_MAX];
static size_t value_count;

static struct tls13 t;
static struct tls13_direction early, direction[2];	/* 0: the client writes */
static u8 private_key[2][32], public_key[2][65];
static size_t public_len[2];
static struct tls13_after after;
static bool early_data;
static unsigned int records_sealed;

static void fail(const char *what)
{
	fprintf(stderr, "differs: %s\n", what);
	exit(1);
}

static void must(int rc, const char *what)
{
	if (rc)
		fail(what);
}

static void note(const char *name, const void *bytes, size_t len)
{
	if (value_count == VALUES_MAX)
		fail("too many values");
	snprintf(values[value_count].name, sizeof(values[0].name), "%s", name);
	memcpy(values[value_count].bytes, bytes, len);
	values[value_count++].len = len;
}

static void note_keys(const char *side, const u8 *secret)
{
	struct tls13_traffic traffic;
	char name[48];

	must(tls13_schedule_traffic(t.suite, secret, &traffic), "traffic keys");
	snprintf(name, sizeof(name), "%s_key", side);
	note(name, traffic.key, traffic.key_len);
	snprintf(name, sizeof(name), "%s_iv", side);
	note(name, traffic.iv, sizeof(traffic.iv));
}

static void note_derived(const char *name, const char *label)
{
	u8 digest[TLS13_HASH_MAX], secret[TLS13_SECRET_MAX];
	bool empty = !strcmp(label, "derived");

	must(tls13_transcript_hash(&t, digest), "transcript");
	must(tls13_derive_secret(PORT_SHA256, t.secret, label, empty ? NULL : digest, secret), label);
	note(name, secret, 32);
}

/* The resumption trace: binder, then early traffic, both under the PSK of section 3. */
static void take_psk_hello(const u8 *message, size_t len)
{
	struct tls13_client_hello hello;
	struct tls13_config config = { .server = true };
	struct tls13_traffic traffic;
	u8 digest[TLS13_HASH_MAX], secret[TLS13_SECRET_MAX], key[TLS13_SECRET_MAX];

	t.config = config;
	must(tls13_client_hello_parse(&t, message, len, &hello), "ClientHello");
	must(tls13_schedule_early(PORT_SHA256, &t.psk, secret), "early secret");
	note("early_secret", secret, 32);
	must(tls13_derive_secret(PORT_SHA256, secret, "res binder", NULL, key), "binder key");
	note("resumption_binder_key", key, 32);
	must(tls13_transcript_add(&t, message, len), "transcript");
	must(tls13_transcript_hash(&t, digest), "transcript");
	must(tls13_derive_secret(PORT_SHA256, secret, "e exp master", digest, key), "early exporter");
	note("e_exp_master", key, 32);
	must(tls13_derive_secret(PORT_SHA256, secret, "c e traffic", digest, key), "early traffic");
	note("c_e_traffic", key, 32);
	t.suite = tls13_suite_find(0x1301);
	note_keys("c_e_traffic", key);
	must(tls13_schedule_traffic(t.suite, key, &traffic), "early keys");
	must(tls13_record_protect(&t, &early, key), "early keys");
	early_data = true;
	t.resumed = true;
}

static void take_server_hello(const u8 *message, size_t len)
{
	static const u8 retry_head[] = { 0xcf, 0x21, 0xad, 0x74 };
	struct wire_reader r = { message + 38, len - 38 }, session_id;
	u8 shared[2][32], secret[TLS13_SECRET_MAX];
	u16 suite;

	if (!wire_read_vector(&r, 1, &session_id) || !wire_read_u16(&r, &suite))
		fail("ServerHello");
	t.suite = tls13_suite_find(suite);
	tls13_transcript_select(&t);
	if (!memcmp(message + 6, retry_head, sizeof(retry_head))) {
		must(tls13_transcript_retry(&t), "message_hash");
		must(tls13_transcript_add(&t, message, len), "transcript");
		return;
	}
	must(tls13_transcript_add(&t, message, len), "transcript");
	for (int i = 0; i < 2; i++)
		must(public_len[0] == 32 ? port_x25519_shared(private_key[i], public_key[!i], shared[i]) :
					   port_p256_shared(private_key[i], public_key[!i], shared[i]), "shared secret");
	must(memcmp(shared[0], shared[1], 32), "shared secret");
	note("shared_secret", shared[0], 32);
	if (!t.resumed) {
		must(tls13_schedule_early(PORT_SHA256, NULL, secret), "early secret");
		note("early_secret", secret, 32);
	}
	memcpy(t.secret, t.resumed ? values[0].bytes : secret, 32);
	note_derived("handshake_derived", "derived");
	memcpy(t.shared, shared[0], 32);
	must(tls13_schedule_handshake(&t), "handshake secret");
	note("handshake", t.secret, 32);
	note("c_hs_traffic", t.client_handshake, 32);
	note("s_hs_traffic", t.server_handshake, 32);
	note_keys("handshake_client", t.client_handshake);
	note_keys("handshake_server", t.server_handshake);
	note_derived("master_derived", "derived");
	must(tls13_record_protect(&t, &direction[0], t.client_handshake), "client keys");
	must(tls13_record_protect(&t, &direction[1], t.server_handshake), "server keys");
}

static void take_finished(int side, const u8 *message, size_t len)
{
	u8 digest[TLS13_HASH_MAX], mac[TLS13_HASH_MAX];

	must(tls13_transcript_hash(&t, digest), "transcript");
	must(tls13_finished_mac(PORT_SHA256, side ? t.server_handshake : t.client_handshake, digest, mac), "Finished");
	must(len != 36 || memcmp(mac, message + 4, 32), "Finished");
	must(tls13_transcript_add(&t, message, len), "transcript");
	if (side) {
		must(tls13_schedule_application(&t), "application secrets");
		note("master", t.secret, 32);
		note("c_ap_traffic", t.client_application, 32);
		note("s_ap_traffic", t.server_application, 32);
		note_keys("application_client", t.client_application);
		note_keys("application_server", t.server_application);
		note_derived("exp_master", "exp master");
	} else {
		must(tls13_schedule_resumption(&t), "resumption secret");
		note("res_master", t.resumption, 32);
		t.state = TLS13_ENDED_WELL;
		tls13_after(&t, &after);
	}
	must(tls13_record_protect(&t, &direction[side], side ? t.server_application : t.client_application), "keys");
}

static void take_ticket(const u8 *message, size_t len)
{
	struct tls13_psk psk;

	must(tls13_read_ticket(&after, message, len, &psk), "NewSessionTicket");
	note("resumption", psk.key, psk.key_len);
}

static void take_messages(int side, const u8 *data, size_t len)
{
	while (len >= 4) {
		size_t whole = 4 + ((size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3]);

		if (whole > len)
			fail("message length");
		if (data[0] == TLS13_CLIENT_HELLO && t.psk.key_len)
			take_psk_hello(data, whole);
		else if (data[0] == TLS13_SERVER_HELLO)
			take_server_hello(data, whole);
		else if (data[0] == TLS13_FINISHED)
			take_finished(side, data, whole);
		else if (data[0] == TLS13_NEW_SESSION_TICKET)
			take_ticket(data, whole);
		else
			must(tls13_transcript_add(&t, data, whole), "transcript");
		if (data[0] == 5)	/* EndOfEarlyData */
			early_data = false;
		data += whole;
		len -= whole;
	}
}

/* Seals what was opened with the same key and number: the record must come back. */
static void seal_again(struct tls13_direction *d, const u8 *record, size_t len, const u8 *inner, size_t inner_len)
{
	struct wire_writer w;
	struct tls13_direction saved = t.write;

	t.write = *d;
	t.out_start = t.out_end = 0;
	tls13_record_open(&t, &w);
	wire_write_bytes(&w, inner, inner_len - 1);
	must(tls13_record_close(&t, &w, inner[inner_len - 1]), "sealing");
	must(t.out_end != len || memcmp(t.out, record, len), "a sealed record");
	t.write = saved;
	records_sealed++;
}

static void take_sealed(int side, u8 *record, size_t len)
{
	struct tls13_direction *d = !side && early_data ? &early : &direction[side];
	struct tls13_direction before = *d;
	static u8 copy[TLS13_RECORD_HEADER + TLS13_RECORD_MAX];
	size_t inner = len - 5 - 16;
	u8 nonce[12];

	memcpy(copy, record, len);
	memcpy(nonce, d->iv, 12);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (u8)(d->sequence >> (56 - 8 * i));
	must(port_aead_open(&d->key, nonce, record, 5, record + 5, len - 5), "opening a record");
	seal_again(&before, copy, len, record + 5, inner);
	d->sequence++;
	if (record[5 + inner - 1] == TLS13_HANDSHAKE)
		take_messages(side, record + 5, inner - 1);
}

static const u8 *early_hello;
static size_t early_hello_len;

static int refuse_to_sign(void *arg, const u8 digest[32], u8 sig[72], size_t *sig_len)
{
	(void)arg;
	(void)digest;
	(void)sig;
	(void)sig_len;
	return -EIO;
}

static int find_trace_psk(void *arg, const u8 *ticket, size_t len, u32 age, struct tls13_psk *psk)
{
	(void)ticket;
	(void)len;
	(void)age;
	*psk = *(const struct tls13_psk *)arg;
	return 0;
}

/* A whole server takes the published ClientHello: its binder is right, and its early data is passed over. */
static void check_server(const u8 *record, size_t len)
{
	static const u8 chain[] = { 1, 0, 0, 0, 'x' };
	struct tls13_config config = {
		.server = true, .chain = chain, .chain_len = sizeof(chain), .sign = refuse_to_sign,
		.find_psk = find_trace_psk, .arg = &t.psk, .suites = { 0x1301 }, .groups = { TLS13_X25519 },
	};
	static u8 copy[TLS13_RECORD_HEADER + TLS13_RECORD_MAX];
	struct tls13 *server = calloc(1, tls13_size());
	struct tls13_result result;

	must(tls13_start(server, &config), "start");
	memcpy(copy, early_hello, early_hello_len);
	must(tls13_input(server, copy, early_hello_len) != TLS13_READ, "the server's answer");
	memcpy(copy, record, len);
	must(tls13_input(server, copy, len) != TLS13_READ, "early data passed over");
	tls13_result(server, &result);
	must(!result.resumed, "the binder");
	tls13_wipe(server);
	/* Another PSK's binder would differ. */
	t.psk.key[0] ^= 1;
	must(tls13_start(server, &config), "start");
	memcpy(copy, early_hello, early_hello_len);
	must(tls13_input(server, copy, early_hello_len) != TLS13_FAILED, "a wrong binder refused");
	t.psk.key[0] ^= 1;
	tls13_wipe(server);
	free(server);
}

static size_t parse_hex(const char *text, u8 *out, size_t size)
{
	size_t len = 0;
	unsigned int byte;

	while (len < size && sscanf(text + 2 * len, "%2x", &byte) == 1)
		out[len++] = (u8)byte;
	return len;
}

static void check_expected(const char *name, const u8 *bytes, size_t len)
{
	for (size_t i = 0; i < value_count; i++)
		if (!strcmp(values[i].name, name) && values[i].len == len && !memcmp(values[i].bytes, bytes, len))
			return;
	fail(name);
}

static void take_line(const char *verb, const char *name, const char *hex, unsigned int *counts)
{
	static u8 bytes[TLS13_RECORD_HEADER + TLS13_RECORD_MAX];
	int side = !strcmp(name, "server");
	size_t len = parse_hex(hex, bytes, sizeof(bytes));

	if (!strcmp(verb, "private"))
		memcpy(private_key[side], bytes, 32);
	if (!strcmp(verb, "public")) {
		memcpy(public_key[side], bytes, len);
		public_len[side] = len;
	}
	if (!strcmp(verb, "record")) {
		static u8 hello[2048];

		counts[0]++;
		if (t.psk.key_len && counts[0] == 1) {
			memcpy(hello, bytes, len);
			early_hello = hello;
			early_hello_len = len;
		}
		if (t.psk.key_len && counts[0] == 2)
			check_server(bytes, len);
		if (bytes[0] == TLS13_HANDSHAKE)
			take_messages(side, bytes + 5, len - 5);
		if (bytes[0] == TLS13_APPLICATION_DATA)
			take_sealed(side, bytes, len);
	}
	if (!strcmp(verb, "expect")) {
		counts[1]++;
		check_expected(name, bytes, len);
	}
}

int main(int argc, char **argv)
{
	static char line[40000], hex[40000];
	char verb[16], name[48];
	unsigned int counts[2] = { 0, 0 };
	FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;

	if (!file)
		return 2;
	must(tls13_transcript_start(&t), "transcript");
	while (fgets(line, sizeof(line), file)) {
		if (line[0] == '#')
			continue;
		if (sscanf(line, "psk %39999s", hex) == 1) {
			t.psk.suite = 0x1301;
			t.psk.key_len = (u8)parse_hex(hex, t.psk.key, sizeof(t.psk.key));
		} else if (sscanf(line, "%15s %47s %39999s", verb, name, hex) == 3) {
			take_line(verb, name, hex, counts);
		}
	}
	fclose(file);
	tls13_record_unprotect(&early);
	tls13_record_unprotect(&direction[0]);
	tls13_record_unprotect(&direction[1]);
	printf("%u records, %u of them opened and sealed, %u values\n", counts[0], records_sealed, counts[1]);
	return 0;
}
