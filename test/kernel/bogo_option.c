// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* The runner's command line: a table of what is understood; all else is "unimplemented", never passed over. */
#include "bogo.h"

#include <stdio.h>
#include <stdlib.h>

__attribute__((noreturn)) void bogo_unimplemented(const char *what)
{
	const char *path = getenv("BOGO_REASONS");
	FILE *file = path ? fopen(path, "a") : NULL;

	if (file) {
		fprintf(file, "%s\n", what);
		fclose(file);
	}
	exit(BOGO_UNIMPLEMENTED);
}

static void take_port(struct bogo_options *o, const char *value) { o->port = atoi(value); }
static void take_resume_count(struct bogo_options *o, const char *value) { o->resume_count = atoi(value); }
static void take_key(struct bogo_options *o, const char *value) { o->key_file = value; }
static void take_certificate(struct bogo_options *o, const char *value) { o->cert_file = value; }
static void take_expected_alpn(struct bogo_options *o, const char *value) { o->expect_alpn = value; }
static void take_expected_group(struct bogo_options *o, const char *value) { o->expect_group = (u16)atoi(value); }

static void take_alpn(struct bogo_options *o, const char *value)
{
	if (!*value || strlen(value) >= TLS13_ALPN_MAX)
		bogo_unimplemented("an ALPN name of that length");
	o->alpn = value;
}

/* The engine offers one protocol; the list is in its wire form. */
static void take_alpn_list(struct bogo_options *o, const char *value)
{
	if ((size_t)value[0] + 1 != strlen(value))
		bogo_unimplemented("more than one ALPN name");
	take_alpn(o, value + 1);
}

static void take_group(struct bogo_options *o, const char *value)
{
	u16 group = (u16)atoi(value);

	if (group != TLS13_X25519 && group != TLS13_SECP256R1)
		bogo_unimplemented("another group than X25519 and P-256");
	if (!o->groups[0])
		o->groups[0] = group;
	else if (o->groups[0] != group)
		o->groups[1] = group;
}

static void want_signature(struct bogo_options *o, const char *value)
{
	(void)o;
	if (atoi(value) != 0x0403)
		bogo_unimplemented("another signature than ECDSA with P-256");
}

static void want_version(struct bogo_options *o, const char *value)
{
	(void)o;
	if (atoi(value) != 0x0304)
		bogo_unimplemented("another version than TLS 1.3");
}

static void want_lower_version(struct bogo_options *o, const char *value)
{
	(void)o;
	if (atoi(value) > 0x0304)
		bogo_unimplemented("a version after TLS 1.3");
}

static void pass_over(struct bogo_options *o, const char *value)
{
	(void)o;
	(void)value;
}

static const struct {
	const char *name;
	void (*take)(struct bogo_options *o, const char *value);
} values[] = {
	{ "port", take_port }, { "resume-count", take_resume_count },
	{ "key-file", take_key }, { "cert-file", take_certificate },
	{ "advertise-alpn", take_alpn_list }, { "select-alpn", take_alpn }, { "expect-alpn", take_expected_alpn },
	{ "curves", take_group }, { "expect-curve-id", take_expected_group },
	{ "signing-prefs", want_signature }, { "verify-prefs", want_signature },
	{ "expect-peer-signature-algorithm", want_signature },
	{ "max-version", want_version }, { "expect-version", want_version }, { "min-version", want_lower_version },
	{ "read-size", pass_over }, { "expect-total-renegotiations", pass_over },
};

#define OFFSET(member)	offsetof(struct bogo_options, member)
#define NOTHING		SIZE_MAX	/* the engine does that anyway, or it is about how BoringSSL is called */

static const struct {
	const char *name;
	size_t member;
} switches[] = {
	{ "server", OFFSET(server) }, { "no-ticket", OFFSET(no_ticket) },
	{ "require-any-client-certificate", OFFSET(ask_certificate) },
	{ "shim-writes-first", OFFSET(writes_first) }, { "shim-shuts-down", OFFSET(shuts_down) },
	{ "check-close-notify", OFFSET(check_close_notify) }, { "verify-fail", NOTHING },
	{ "expect-session-miss", OFFSET(expect_session_miss) },
	{ "expect-hrr", OFFSET(expect_retry) }, { "expect-no-hrr", OFFSET(expect_no_retry) },
	{ "verify-peer", NOTHING }, { "async", NOTHING }, { "implicit-handshake", NOTHING },
	{ "use-custom-verify-callback", NOTHING }, { "handshake-twice", NOTHING },
	{ "renegotiate-freely", NOTHING }, { "renegotiate-ignore", NOTHING }, { "renegotiate-once", NOTHING },
	{ "enable-all-curves", NOTHING }, { "no-tls1", NOTHING }, { "no-tls11", NOTHING }, { "no-tls12", NOTHING },
	{ "no-ssl3", NOTHING }, { "forbid-renegotiation-after-handshake", NOTHING },
	{ "fallback-scsv", NOTHING }, { "permute-extensions", NOTHING },
	{ "expect-verify-result", NOTHING }, { "use-old-client-cert-callback", NOTHING },
	{ "no-op-extra-handshake", NOTHING }, { "expect-session-id", NOTHING }, { "expect-no-session-id", NOTHING },
};

/* Takes argv[*i] and what belongs to it; `wanted`: its prefix is of this connection. */
static void take_one(struct bogo_options *o, const char *name, char **argv, int argc, int *i, bool wanted)
{
	size_t at;

	for (at = 0; at < sizeof(switches) / sizeof(switches[0]); at++) {
		if (strcmp(switches[at].name, name))
			continue;
		if (wanted && switches[at].member != NOTHING)
			*(bool *)((char *)o + switches[at].member) = true;
		/* BoringSSL has two ways of judging, with an alert each. */
		if (wanted && !strcmp(name, "verify-fail") && !o->verify_fail)
			o->verify_fail = TLS13_HANDSHAKE_FAILURE;
		if (wanted && !strcmp(name, "use-custom-verify-callback"))
			o->custom_verify = true;
		/* A client is always asked to judge the server's chain; a server must be told to want one. */
		if (wanted && !strcmp(name, "verify-peer"))
			o->ask_certificate = true;
		return;
	}
	if (!strcmp(name, "key-update")) {
		o->key_updates += wanted;
		return;
	}
	for (at = 0; at < sizeof(values) / sizeof(values[0]); at++) {
		if (strcmp(values[at].name, name) || *i + 1 >= argc)
			continue;
		++*i;
		if (wanted)
			values[at].take(o, argv[*i]);
		return;
	}
	bogo_unimplemented(name);
}

void bogo_parse(struct bogo_options *o, int connection, int argc, char **argv)
{
	static const struct {
		const char *prefix;
		bool first, later;
	} scopes[] = { { "-on-initial-", true, false }, { "-on-resume-", false, true }, { "-", true, true } };
	int i;

	memset(o, 0, sizeof(*o));
	for (i = 1; i < argc; i++) {
		size_t scope = 0;

		if (!strncmp(argv[i], "-on-", 4) && strncmp(argv[i], scopes[0].prefix, strlen(scopes[0].prefix)) &&
		    strncmp(argv[i], scopes[1].prefix, strlen(scopes[1].prefix)))
			bogo_unimplemented(argv[i]);
		while (scope < 3 && strncmp(argv[i], scopes[scope].prefix, strlen(scopes[scope].prefix)))
			scope++;
		if (scope == 3)
			bogo_unimplemented(argv[i]);
		take_one(o, argv[i] + strlen(scopes[scope].prefix), argv, argc, &i,
			 connection ? scopes[scope].later : scopes[scope].first);
	}
	if (o->verify_fail && o->custom_verify)
		o->verify_fail = TLS13_CERTIFICATE_UNKNOWN;
	if (!o->groups[0]) {
		o->groups[0] = TLS13_X25519;
		o->groups[1] = TLS13_SECP256R1;
	}
}
