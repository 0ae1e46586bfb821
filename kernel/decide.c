// SPDX-License-Identifier: GPL-2.0
/*
 * Turns who the process is and what the rules say into one decision. The one
 * place where the modes mean something. Never sleeps, allocates or sends.
 */
#include <linux/string.h>

#include "decide.h"

/* Nobody can say who this process is: the mode for unknown ones applies. */
static enum riprap_decision decide_unknown(struct riprap_verdict *verdict, u16 *flow_flags)
{
	memset(verdict, 0, sizeof(*verdict));
	verdict->generation = riprap_table_generation();
	verdict->mode = riprap_unknown_mode();
	verdict->reason = RIPRAP_REASON_UNKNOWN_PROCESS;
	if (verdict->mode == RIPRAP_MODE_ENFORCE)
		return RIPRAP_DECISION_DENY;
	if (verdict->mode != RIPRAP_MODE_NONE)
		*flow_flags |= RIPRAP_FLOW_WOULD_DENY;
	return RIPRAP_DECISION_PLAIN;
}

static enum riprap_decision deny(struct riprap_verdict *verdict, u8 reason)
{
	verdict->mode = RIPRAP_MODE_ENFORCE;
	verdict->reason = reason;
	return RIPRAP_DECISION_DENY;
}

/* A rule wants TLS: is there an identity to speak with? */
static enum riprap_decision decide_mutual(const struct riprap_question *question, struct riprap_verdict *verdict,
					  u16 *flow_flags)
{
	switch (question->answer) {
	case RIPRAP_ANSWER_READY:
		return RIPRAP_DECISION_MUTUAL;
	case RIPRAP_ANSWER_PENDING:
		return RIPRAP_DECISION_WAIT;
	default:
		break;
	}
	if (verdict->mode != RIPRAP_MODE_PERMISSIVE)
		return deny(verdict, RIPRAP_REASON_NO_IDENTITY);
	verdict->reason = RIPRAP_REASON_NO_IDENTITY;
	*flow_flags |= RIPRAP_FLOW_WOULD_DENY;
	return RIPRAP_DECISION_PLAIN;
}

static enum riprap_decision decide_by_table(const struct riprap_question *question, struct riprap_verdict *verdict,
					    u16 *flow_flags)
{
	riprap_table_verdict(question->subject, question->inbound, &question->remote, question->port, verdict);
	if (verdict->mode == RIPRAP_MODE_NONE)
		return RIPRAP_DECISION_PLAIN;
	if (verdict->mode == RIPRAP_MODE_OBSERVE) {
		if (verdict->action == RIPRAP_ACTION_DENY)
			*flow_flags |= RIPRAP_FLOW_WOULD_DENY;
		return RIPRAP_DECISION_PLAIN;
	}
	if (question->draining && verdict->mode == RIPRAP_MODE_ENFORCE)
		return deny(verdict, RIPRAP_REASON_DRAINING);
	switch (verdict->action) {
	case RIPRAP_ACTION_MUTUAL:
		return decide_mutual(question, verdict, flow_flags);
	case RIPRAP_ACTION_PASSTHROUGH:
		return RIPRAP_DECISION_PASSTHROUGH;
	case RIPRAP_ACTION_PLAIN:
		return RIPRAP_DECISION_PLAIN;
	}
	if (verdict->mode == RIPRAP_MODE_PERMISSIVE) {
		*flow_flags |= RIPRAP_FLOW_WOULD_DENY;
		return RIPRAP_DECISION_PLAIN;
	}
	return RIPRAP_DECISION_DENY;
}

enum riprap_decision riprap_decide(const struct riprap_question *question, struct riprap_verdict *verdict,
				   u16 *flow_flags)
{
	switch (question->answer) {
	case RIPRAP_ANSWER_UNMANAGED:
		return RIPRAP_DECISION_BARE;
	case RIPRAP_ANSWER_WITHDRAWN:
		memset(verdict, 0, sizeof(*verdict));
		return deny(verdict, RIPRAP_REASON_WITHDRAWN);
	case RIPRAP_ANSWER_PENDING:
		if (!question->subject)
			return RIPRAP_DECISION_WAIT;
		break;
	case RIPRAP_ANSWER_UNKNOWN:
		if (!question->subject)
			return decide_unknown(verdict, flow_flags);
		break;
	case RIPRAP_ANSWER_READY:
		break;
	}
	return decide_by_table(question, verdict, flow_flags);
}
