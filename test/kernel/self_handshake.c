// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Whole handshakes between two engines: those that end well, and those that one side's rules end. */
#include "self.h"

#include <stdlib.h>

static const u16 suites[] = { 0x1301, 0x1302, 0x1303 };
static const u16 groups[] = { TLS13_X25519, TLS13_SECP256R1 };

static void check_result(struct pair *p, u16 suite, u16 group, bool resumed, bool retry)
{
	struct tls13_result r;

	check_done(p);
	for (int i = 0; i < 2; i++) {
		tls13_result(p->side[i], &r);
		check(r.suite == suite && r.group == group, "suite and group are the expected ones");
		check(r.resumed == resumed && r.hello_retry == retry, "resumed and retried as expected");
		check(!strcmp(r.alpn, "riprap/1"), "the protocol is agreed");
	}
}

static void run_full(void)
{
	struct pair p;

	for (int s = 0; s < 3; s++) {
		for (int g = 0; g < 2; g++) {
			for (int mutual = 0; mutual < 2; mutual++) {
				pair_open(&p);
				p.config[CLIENT].suites[0] = suites[s];
				p.config[CLIENT].suites[1] = 0;
				p.config[CLIENT].groups[0] = groups[g];
				p.config[CLIENT].groups[1] = groups[!g];
				p.config[SERVER].mutual = p.config[CLIENT].mutual = mutual;
				pair_start(&p);
				pair_run(&p);
				check_result(&p, suites[s], groups[g], false, false);
				pair_close(&p);
			}
		}
	}
}

static void run_retry(void)
{
	struct pair p;

	for (int s = 0; s < 3; s++) {
		pair_open(&p);
		p.config[SERVER].suites[0] = suites[s];
		p.config[SERVER].suites[1] = 0;
		p.config[SERVER].groups[0] = TLS13_SECP256R1;
		p.config[SERVER].groups[1] = 0;
		pair_start(&p);
		pair_run(&p);
		check_result(&p, suites[s], TLS13_SECP256R1, false, true);
		pair_close(&p);
	}
}

static void run_resumption(void)
{
	struct tls13_psk psk;
	struct pair p;

	for (int s = 0; s < 3; s++) {
		for (int retry = 0; retry < 2; retry++) {
			pair_open(&p);
			p.config[CLIENT].suites[0] = suites[s];
			p.config[CLIENT].suites[1] = 0;
			pair_start(&p);
			pair_run(&p);
			psk = pair_ticket(&p);
			pair_close(&p);
			p.config[CLIENT].psk = &psk;
			p.config[CLIENT].psk_age_ms = 1000;
			if (retry) {
				p.config[SERVER].groups[0] = TLS13_SECP256R1;
				p.config[SERVER].groups[1] = 0;
			}
			p.messages = 0;
			pair_start(&p);
			pair_run(&p);
			check_result(&p, suites[s], retry ? TLS13_SECP256R1 : TLS13_X25519, true, retry);
			check(p.find_calls == 1, "the ticket is looked up once");
			pair_close(&p);
		}
	}
}

/* The server prefers another suite, but the PSK's is what resumption needs. */
static void run_resumption_suite(void)
{
	struct tls13_psk psk;
	struct pair p;

	pair_open(&p);
	p.config[CLIENT].suites[0] = TLS13_AES_256_GCM_SHA384;
	p.config[CLIENT].suites[1] = 0;
	pair_start(&p);
	pair_run(&p);
	psk = pair_ticket(&p);
	pair_close(&p);
	p.config[CLIENT].suites[0] = TLS13_AES_128_GCM_SHA256;
	p.config[CLIENT].suites[1] = TLS13_AES_256_GCM_SHA384;
	p.config[CLIENT].suites[2] = 0;
	p.config[CLIENT].psk = &psk;
	pair_start(&p);
	pair_run(&p);
	check_result(&p, TLS13_AES_256_GCM_SHA384, TLS13_X25519, true, false);
	pair_close(&p);

	/* With a HelloRetryRequest the suite is settled first; the PSK no longer goes with it and is dropped. */
	p.config[SERVER].groups[0] = TLS13_SECP256R1;
	p.config[SERVER].groups[1] = 0;
	pair_start(&p);
	pair_run(&p);
	check_result(&p, TLS13_AES_128_GCM_SHA256, TLS13_SECP256R1, false, true);
	pair_close(&p);
}

static void run_unknown_ticket(void)
{
	struct tls13_psk psk;
	struct pair p;

	pair_open(&p);
	pair_start(&p);
	pair_run(&p);
	psk = pair_ticket(&p);
	pair_close(&p);
	p.ticket_count = 0;
	p.config[CLIENT].psk = &psk;
	pair_start(&p);
	pair_run(&p);
	check_result(&p, TLS13_AES_128_GCM_SHA256, TLS13_X25519, false, false);
	pair_close(&p);
}

static void run_wrong_psk(void)
{
	struct tls13_psk psk;
	struct pair p;

	pair_open(&p);
	pair_start(&p);
	pair_run(&p);
	psk = pair_ticket(&p);
	pair_close(&p);
	psk.key[0] ^= 1;
	p.config[CLIENT].psk = &psk;
	pair_start(&p);
	pair_run(&p);
	check_failed(&p, SERVER, TLS13_DECRYPT_ERROR);
	check(p.status[CLIENT] == TLS13_FAILED, "the client hears of it");
	pair_close(&p);
}

/* One byte of a message in each record: five times as many bytes, the same handshake. */
static void run_pieces(void)
{
	struct pair p;

	for (size_t piece = 1; piece < 80; piece += piece < 8 ? 1 : 13) {
		pair_open(&p);
		p.message_mode = true;
		p.piece = piece;
		p.config[SERVER].groups[0] = TLS13_SECP256R1;
		p.config[SERVER].groups[1] = 0;
		pair_start(&p);
		pair_run(&p);
		check_done(&p);
		pair_close(&p);
	}
}

/* The longest chain that is allowed makes a flight of two records. */
static void run_long_chain(void)
{
	u8 *chain = malloc(TLS13_CHAIN_MAX);
	u32 len = TLS13_CHAIN_MAX - 4;
	struct pair p;

	memset(chain, 'x', TLS13_CHAIN_MAX);
	memcpy(chain, &len, sizeof(len));
	for (int side = 0; side < 2; side++) {
		pair_open(&p);
		p.config[side].chain = chain;
		p.config[side].chain_len = TLS13_CHAIN_MAX;
		pair_start(&p);
		pair_run(&p);
		check_done(&p);
		pair_close(&p);
	}
	free(chain);
}

static void run_many_certificates(void)
{
	u8 chain[TLS13_CERTIFICATES_MAX + 1][6];
	u32 len = 2;
	struct pair p;

	for (int i = 0; i <= TLS13_CERTIFICATES_MAX; i++) {
		memcpy(chain[i], &len, sizeof(len));
		chain[i][4] = chain[i][5] = (u8)i;
	}
	for (int extra = 0; extra < 2; extra++) {
		pair_open(&p);
		p.config[CLIENT].chain = chain[0];
		p.config[CLIENT].chain_len = sizeof(chain) - (extra ? 0 : 6);
		pair_start(&p);
		pair_run(&p);
		if (extra)
			check_failed(&p, SERVER, TLS13_BAD_CERTIFICATE);
		else
			check_done(&p);
		pair_close(&p);
	}
}

static void run_wrong_signature(void)
{
	struct pair p;

	for (int side = 0; side < 2; side++) {
		pair_open(&p);
		p.wrong_digest[side] = true;
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, !side, TLS13_DECRYPT_ERROR);
		pair_close(&p);
	}
}

static void run_wrong_key(void)
{
	struct pair p;

	for (int side = 0; side < 2; side++) {
		pair_open(&p);
		p.wrong_key[side] = true;
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, side, TLS13_DECRYPT_ERROR);
		pair_close(&p);
	}
}

static void run_bad_point(void)
{
	struct pair p;

	pair_open(&p);
	memset(p.public_key[SERVER] + 1, 0x11, 64);
	pair_start(&p);
	pair_run(&p);
	check_failed(&p, CLIENT, TLS13_BAD_CERTIFICATE);
	pair_close(&p);
}

static void run_refusal(void)
{
	static const u8 alerts[] = { TLS13_ACCESS_DENIED, TLS13_UNKNOWN_CA, TLS13_CERTIFICATE_EXPIRED };
	struct tls13_result r;
	struct pair p;

	for (size_t i = 0; i < sizeof(alerts); i++) {
		pair_open(&p);
		p.refuse[CLIENT] = alerts[i];
		pair_start(&p);
		pair_run(&p);
		check_failed(&p, CLIENT, alerts[i]);
		tls13_result(p.side[SERVER], &r);
		check(p.status[SERVER] == TLS13_FAILED && r.alert_received && r.alert == alerts[i],
		      "the server hears the client's alert");
		check_wiped(&p, SERVER);
		pair_close(&p);
	}
}

/* The client is done by then: the alert comes to it under the application keys. */
static void check_late_alert(struct pair *p, u8 alert)
{
	struct tls13_traffic keys;
	struct port_aead_key key = { 0 };
	size_t len;
	u8 record[64];

	memcpy(record, tls13_output(p->side[SERVER], &len), 24);
	check(len == 24, "one alert record waits");
	tls13_traffic_keys(p->side[CLIENT], false, &keys);
	check(!port_aead_set(&key, PORT_AES_128_GCM, keys.key), "the key is set");
	check(!port_aead_open(&key, keys.iv, record, 5, record + 5, 19), "it is under the server's application key");
	check(record[5] == 2 && record[6] == alert && record[7] == TLS13_ALERT, "it is the fatal alert");
	port_aead_clear(&key);
}

static void keep_last_flight(struct pair *p, int to, u8 *record, size_t *len)
{
	/* Gives the client's last flight by hand, so that the server's answer stays in its buffer. */
	if (to == SERVER && record[0] == TLS13_APPLICATION_DATA) {
		pair_give(p, to, record, *len);
		check_late_alert(p, p->refuse[SERVER] ? p->refuse[SERVER] : TLS13_CERTIFICATE_REQUIRED);
		*len = 0;
	}
}

static void run_late_refusal(void)
{
	struct pair p;

	pair_open(&p);
	p.refuse[SERVER] = TLS13_ACCESS_DENIED;
	p.record_hook = keep_last_flight;
	pair_start(&p);
	pair_run(&p);
	check_failed(&p, SERVER, TLS13_ACCESS_DENIED);
	pair_close(&p);
}

static void run_no_client_certificate(void)
{
	struct pair p;

	pair_open(&p);
	p.config[CLIENT].chain_len = 0;
	p.config[CLIENT].mutual = false;
	p.record_hook = keep_last_flight;
	pair_start(&p);
	pair_run(&p);
	check_failed(&p, SERVER, TLS13_CERTIFICATE_REQUIRED);
	pair_close(&p);

	/* Of a client that is to be mutual the server sees no answer at all. */
	p.config[CLIENT].mutual = true;
	p.record_hook = NULL;
	pair_start(&p);
	pair_run(&p);
	check_failed(&p, CLIENT, TLS13_HANDSHAKE_FAILURE);
	check(p.status[SERVER] == TLS13_FAILED, "the server hears of it");
	pair_close(&p);
}

static void run_nothing_in_common(void)
{
	struct pair p;

	pair_open(&p);
	p.config[CLIENT].suites[0] = TLS13_AES_128_GCM_SHA256;
	p.config[CLIENT].suites[1] = 0;
	p.config[SERVER].suites[0] = TLS13_CHACHA20_POLY1305_SHA256;
	p.config[SERVER].suites[1] = 0;
	pair_start(&p);
	pair_run(&p);
	check_failed(&p, SERVER, TLS13_HANDSHAKE_FAILURE);
	pair_close(&p);

	pair_open(&p);
	p.config[CLIENT].groups[1] = 0;
	p.config[SERVER].groups[0] = TLS13_SECP256R1;
	p.config[SERVER].groups[1] = 0;
	pair_start(&p);
	pair_run(&p);
	check_failed(&p, SERVER, TLS13_HANDSHAKE_FAILURE);
	pair_close(&p);

	pair_open(&p);
	p.config[CLIENT].alpn = "h2";
	pair_start(&p);
	pair_run(&p);
	check_failed(&p, SERVER, TLS13_NO_APPLICATION_PROTOCOL);
	pair_close(&p);
}

static void run_no_alpn(void)
{
	struct tls13_result r;
	struct pair p;

	for (int side = 0; side < 2; side++) {
		pair_open(&p);
		p.config[side].alpn = NULL;
		pair_start(&p);
		pair_run(&p);
		check_done(&p);
		tls13_result(p.side[CLIENT], &r);
		check(!r.alpn[0], "no protocol is agreed");
		pair_close(&p);
	}
}

static void check_refused_config(const struct tls13_config *config)
{
	struct tls13 *t = calloc(1, tls13_size());
	size_t len;

	check(tls13_start(t, config) == -EINVAL, "a bad configuration is refused");
	check(tls13_input(t, (u8[]){ 22, 3, 3, 0, 0 }, 5) == TLS13_FAILED, "it cannot be used");
	tls13_output(t, &len);
	check(!len, "it says nothing");
	tls13_wipe(t);
	free(t);
}

static void run_bad_config(void)
{
	struct tls13_psk psk = { .suite = 0x1301, .key_len = 48, .ticket_len = 5 };
	static const u8 half[] = { 9, 0, 0, 0, 1 };
	struct tls13_config config;
	struct pair p;

	pair_open(&p);
	config = p.config[CLIENT];
	config.suites[0] = 0;
	check_refused_config(&config);
	config.suites[0] = 0x1304;
	check_refused_config(&config);
	config = p.config[CLIENT];
	config.groups[0] = 0x18;
	check_refused_config(&config);
	config = p.config[CLIENT];
	config.alpn = "";
	check_refused_config(&config);
	config.alpn = "a-protocol-name-that-is-far-too-long";
	check_refused_config(&config);
	config = p.config[CLIENT];
	config.chain = half;
	config.chain_len = sizeof(half);
	check_refused_config(&config);
	config = p.config[SERVER];
	config.chain_len = 0;
	check_refused_config(&config);
	config = p.config[CLIENT];
	config.psk = &psk;
	check_refused_config(&config);
	psk.key_len = 32;
	psk.ticket_len = 0;
	check_refused_config(&config);
	pair_close(&p);
}

static void run_misuse(void)
{
	u8 record[] = { 22, 3, 3, 0, 1, 0 };
	struct pair p;

	pair_open(&p);
	pair_start(&p);
	pair_run(&p);
	check_done(&p);
	check(tls13_input(p.side[CLIENT], record, sizeof(record)) == TLS13_FAILED, "nothing is read after the end");
	pair_start(&p);
	check(tls13_peer_accepted(p.side[CLIENT], p.public_key[SERVER]) == TLS13_FAILED, "nobody asked");
	pair_close(&p);
}

const struct self_test self_handshake[] = {
	{ "tls13_input() completes a handshake when suites, groups and mutual authentication vary", run_full },
	{ "tls13_input() completes a handshake when the server asks for another group", run_retry },
	{ "tls13_input() resumes when the server knows the ticket, retried or not", run_resumption },
	{ "tls13_input() takes the suite of the PSK when the server would prefer another", run_resumption_suite },
	{ "tls13_input() falls back to certificates when the ticket is unknown", run_unknown_ticket },
	{ "tls13_input() ends with decrypt_error when the binder is of another PSK", run_wrong_psk },
	{ "tls13_input() completes a handshake when messages come in pieces of any size", run_pieces },
	{ "tls13_input() completes a handshake when a chain fills two records", run_long_chain },
	{ "tls13_input() ends with bad_certificate when a chain has too many certificates", run_many_certificates },
	{ "tls13_peer_accepted() ends with decrypt_error when the peer signed something else", run_wrong_signature },
	{ "tls13_peer_accepted() ends with decrypt_error when the key is not the signer's", run_wrong_key },
	{ "tls13_peer_accepted() ends with bad_certificate when the key is no point", run_bad_point },
	{ "tls13_refuse() tells the peer when the caller refuses its chain", run_refusal },
	{ "tls13_refuse() speaks under application keys when the server has sent its Finished", run_late_refusal },
	{ "tls13_input() ends with certificate_required when the client has none", run_no_client_certificate },
	{ "tls13_input() names the reason when the sides have nothing in common", run_nothing_in_common },
	{ "tls13_input() goes on without a protocol when one side names none", run_no_alpn },
	{ "tls13_start() refuses when the configuration is no good", run_bad_config },
	{ "tls13_input() fails when it is called after the end or before the answer", run_misuse },
	{ NULL, NULL },
};
