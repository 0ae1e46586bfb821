/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What BoringSSL's runner asks of the shim, as far as the engine has it. */
#ifndef RIPRAP_TEST_BOGO_H
#define RIPRAP_TEST_BOGO_H

#include "credential.h"

#define BOGO_UNIMPLEMENTED	89	/* the runner's word for "not in this implementation" */

struct bogo_options {
	int port;
	bool server;
	int resume_count;
	const char *key_file;
	const char *cert_file;
	bool ask_certificate;
	bool no_ticket;
	bool writes_first;
	bool shuts_down;
	bool check_close_notify;
	bool custom_verify;
	u8 verify_fail;		/* the alert that the runner waits for, or 0 */
	int key_updates;	/* -key-update: one of the shim's own before its first write */
	const char *alpn;
	const char *expect_alpn;
	u16 groups[2];
	u16 expect_group;
	bool expect_session_miss;
	bool expect_retry, expect_no_retry;
};

/*
 * The options of connection number `connection` (0: the first, later ones are resumptions). Exits with
 * BOGO_UNIMPLEMENTED at one that asks for what the engine has not.
 */
void bogo_parse(struct bogo_options *o, int connection, int argc, char **argv);

/* Ends the shim; the reason is added to the file that $BOGO_REASONS names. */
__attribute__((noreturn)) void bogo_unimplemented(const char *what);

#endif
