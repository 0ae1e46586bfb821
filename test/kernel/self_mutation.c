// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Every message of a handshake cut at every byte and every byte changed, inside
 * the protection of its record, and every byte of every record. The receiver of
 * a changed message never ends well, and whoever fails says why and wipes.
 */
#include "self.h"

struct mutation {
	unsigned int message;	/* which one, counted over both directions */
	size_t at;
	enum { FLIP, CUT, CUT_AND_SAY_SO } kind;
	u8 mask;
	int receiver;		/* out: who got it; -1: nobody did */
	size_t len;		/* out: of the message before */
};

static void mutate(struct pair *p, int to, u8 *message, size_t *len)
{
	struct mutation *m = p->arg;

	if (p->messages != m->message)
		return;
	m->receiver = to;
	m->len = *len;
	if (m->at >= *len)
		return;
	if (m->kind == FLIP) {
		message[m->at] ^= m->mask;
		return;
	}
	*len = m->at;
	if (m->kind == CUT_AND_SAY_SO && *len >= 4) {
		message[1] = 0;
		message[2] = (u8)((*len - 4) >> 8);
		message[3] = (u8)(*len - 4);
	}
}

enum scenario { FULL, RETRY, RESUMED };

static struct tls13_psk resumed_psk;

static void prepare(struct pair *p, enum scenario scenario)
{
	pair_open(p);
	if (scenario == RESUMED) {
		p->config[CLIENT].suites[0] = TLS13_CHACHA20_POLY1305_SHA256;
		p->config[CLIENT].suites[1] = 0;
		pair_start(p);
		pair_run(p);
		resumed_psk = pair_ticket(p);
		pair_close(p);
		p->messages = p->records = 0;
		p->config[CLIENT].psk = &resumed_psk;
	}
	if (scenario == RETRY) {
		p->config[SERVER].suites[0] = TLS13_AES_256_GCM_SHA384;
		p->config[SERVER].suites[1] = 0;
		p->config[SERVER].groups[0] = TLS13_SECP256R1;
		p->config[SERVER].groups[1] = 0;
	}
}

/* After anything at all happened: who failed has an alert and no secrets left. */
static void check_sides(struct pair *p)
{
	struct tls13_result r;

	for (int i = 0; i < 2; i++) {
		tls13_result(p->side[i], &r);
		if (p->status[i] == TLS13_FAILED) {
			check(r.error, "a failure has a reason");
			check(r.alert_received || r.alert != TLS13_INTERNAL_ERROR, "a peer cannot cause an internal error");
			check_wiped(p, i);
		}
	}
}

/* Runs one mutated handshake; false when there is no such message or byte. */
static bool run_one(struct pair *base, struct mutation *m)
{
	struct pair p = *base;

	m->receiver = -1;
	p.message_mode = true;
	p.hook = mutate;
	p.arg = m;
	port_test.counter = 1000;
	pair_start(&p);
	pair_run(&p);
	if (m->receiver >= 0 && m->at < m->len) {
		check(p.status[m->receiver] != TLS13_DONE, "a changed message never leads to success");
		if (m->kind == CUT_AND_SAY_SO && m->at >= 4)
			check(p.status[m->receiver] == TLS13_FAILED, "a message cut short is refused at once");
		check_sides(&p);
	}
	*base = p;
	base->messages = base->records = 0;
	memset(base->opened, 0, sizeof(base->opened));
	return m->receiver >= 0 && m->at < m->len;
}

static void run_kind(enum scenario scenario, struct mutation kind)
{
	unsigned int least = scenario == RESUMED ? 5 : scenario == RETRY ? 12 : 10;
	struct pair p;
	struct mutation m = kind;

	prepare(&p, scenario);
	p.ticket_count = p.ticket_count ? 1 : 0;
	for (m.message = 0;; m.message++) {
		m.at = 0;
		if (!run_one(&p, &m))
			break;
		for (m.at = 1; run_one(&p, &m); m.at++)
			;
	}
	check(m.message == least, "every message of the handshake was changed");
	pair_close(&p);
}

static void run_flips(enum scenario scenario)
{
	run_kind(scenario, (struct mutation){ .kind = FLIP, .mask = 0x01 });
	run_kind(scenario, (struct mutation){ .kind = FLIP, .mask = 0x80 });
	run_kind(scenario, (struct mutation){ .kind = FLIP, .mask = 0xff });
}

static void run_cuts(enum scenario scenario)
{
	run_kind(scenario, (struct mutation){ .kind = CUT });
	run_kind(scenario, (struct mutation){ .kind = CUT_AND_SAY_SO });
}

static void flip_full(void) { run_flips(FULL); }
static void flip_retry(void) { run_flips(RETRY); }
static void flip_resumed(void) { run_flips(RESUMED); }
static void cut_full(void) { run_cuts(FULL); }
static void cut_retry(void) { run_cuts(RETRY); }
static void cut_resumed(void) { run_cuts(RESUMED); }

struct record_mutation {
	unsigned int record;
	size_t at;
	bool cut;
	int receiver;
	size_t len;
	u8 content;
};

static void mutate_record(struct pair *p, int to, u8 *record, size_t *len)
{
	struct record_mutation *m = p->arg;

	if (p->records != m->record + 1)
		return;
	m->receiver = to;
	m->len = *len;
	m->content = record[0];
	if (m->at >= *len)
		return;
	if (m->cut)
		*len = m->at;
	else
		record[m->at] ^= 0x01;
}

static bool run_one_record(struct pair *base, struct record_mutation *m)
{
	struct pair p = *base;
	bool ignored;

	m->receiver = -1;
	p.record_hook = mutate_record;
	p.arg = m;
	port_test.counter = 1000;
	pair_start(&p);
	pair_run(&p);
	/* Two things are ignored by the standard: the minor version of a plain record, and a lost compatibility record. */
	ignored = (m->content != TLS13_APPLICATION_DATA && m->at == 2 && !m->cut) ||
		  (m->content == TLS13_CHANGE_CIPHER_SPEC && (m->cut || m->at >= 3));
	if (m->receiver >= 0 && m->at < m->len) {
		check(ignored || p.status[m->receiver] != TLS13_DONE, "a changed record never leads to success");
		check_sides(&p);
	}
	*base = p;
	base->messages = base->records = 0;
	return m->receiver >= 0 && m->at < m->len;
}

static void run_records(void)
{
	struct record_mutation m = { 0 };
	struct pair p;

	for (int scenario = FULL; scenario <= RESUMED; scenario++) {
		prepare(&p, scenario);
		for (m.cut = false;; m.cut = true) {
			for (m.record = 0;; m.record++) {
				m.at = 0;
				if (!run_one_record(&p, &m))
					break;
				for (m.at = 1; run_one_record(&p, &m); m.at++)
					;
			}
			if (m.cut)
				break;
		}
		check(m.record >= 5, "every record was changed");
		pair_close(&p);
	}
}

const struct self_test self_mutation[] = {
	{ "tls13_input() never succeeds when any byte of a full handshake's message is changed", flip_full },
	{ "tls13_input() never succeeds when any byte of a retried handshake's message is changed", flip_retry },
	{ "tls13_input() never succeeds when any byte of a resumed handshake's message is changed", flip_resumed },
	{ "tls13_input() never succeeds when a full handshake's message is cut anywhere", cut_full },
	{ "tls13_input() never succeeds when a retried handshake's message is cut anywhere", cut_retry },
	{ "tls13_input() never succeeds when a resumed handshake's message is cut anywhere", cut_resumed },
	{ "tls13_input() never succeeds when any byte of a record is changed or missing", run_records },
	{ NULL, NULL },
};
