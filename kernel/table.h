/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The compiled rules in force, looked up and never interpreted. Swapped whole
 * under RCU; a lookup costs one hash probe for each distinct shape (prefix
 * length, port bits) of the subject, whatever the number of rules.
 */
#ifndef RIPRAP_TABLE_H
#define RIPRAP_TABLE_H

#include <linux/in6.h>
#include <linux/types.h>

#include "abi.h"
#include "limits.h"

struct riprap_match {
	u32 rule;
	u32 peer_set;
	u8 action;		/* enum riprap_action */
};

/* What the table says of one connection before the peer is known. */
struct riprap_verdict {
	u64 generation;
	u8 mode;		/* enum riprap_mode of the subject in this direction */
	u8 action;		/* enum riprap_action of the most specific match; DENY when none or a deny matched */
	u8 reason;		/* enum riprap_reason: RULE, NO_RULE, NO_POLICY */
	u8 matches;		/* allow matches, most specific first; the peer must satisfy one */
	u32 rule;		/* the rule named in the flow record; 0: none */
	struct riprap_match match[RIPRAP_MATCHES_MAX];
};

/* `port` in host order: the remote one outbound, the local one inbound. Atomic-safe. */
void riprap_table_verdict(u32 subject, bool inbound, const struct in6_addr *remote, u16 port,
			  struct riprap_verdict *verdict);

/*
 * The peer is `spiffe_id`: may the connection stand? Looks the connection up anew if the table was
 * swapped since. Sets verdict->rule to the rule that allows it. Atomic-safe.
 */
bool riprap_table_allows_peer(u32 subject, bool inbound, const struct in6_addr *remote, u16 port,
			      const char *spiffe_id, struct riprap_verdict *verdict);

u64 riprap_table_generation(void);

/* Is any process worth a look? One load: false until a table with filters is in force. */
bool riprap_table_has_filters(void);
/* May some rule select a process that looks like this? Generation of the answer in *generation. Atomic-safe. */
bool riprap_table_filter(u32 euid, const char *comm, size_t comm_len, const char *exe, size_t exe_len,
			 u64 *generation);

/* From device.c, one at a time: TABLE_BEGIN, _DATA, _COMMIT; abort forgets a half-sent table. */
int riprap_table_begin(const struct riprap_table_begin *begin);
int riprap_table_data(const struct riprap_table_data *data, const u8 *bytes);
int riprap_table_commit(u64 generation);
void riprap_table_abort(void);

int riprap_table_init(void);
void riprap_table_exit(void);

#endif
