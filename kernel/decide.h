/* SPDX-License-Identifier: GPL-2.0 */
/* What becomes of a connection before its peer is known. */
#ifndef RIPRAP_DECIDE_H
#define RIPRAP_DECIDE_H

#include "process.h"
#include "table.h"

enum riprap_decision {
	RIPRAP_DECISION_WAIT,		/* an identity is needed and may yet come */
	RIPRAP_DECISION_BARE,		/* not managed: plain, without a flow */
	RIPRAP_DECISION_PLAIN,
	RIPRAP_DECISION_PASSTHROUGH,
	RIPRAP_DECISION_MUTUAL,
	RIPRAP_DECISION_DENY,
};

struct riprap_question {
	enum riprap_process_answer answer;
	u32 subject;
	bool inbound;
	struct in6_addr remote;
	u16 port;		/* remote outbound, local inbound; host order */
	bool draining;
};

/*
 * Values in, values out: fills verdict (mode and reason also where the table was not asked) and
 * *flow_flags with RIPRAP_FLOW_WOULD_DENY.
 */
enum riprap_decision riprap_decide(const struct riprap_question *question, struct riprap_verdict *verdict,
				   u16 *flow_flags);

#endif
