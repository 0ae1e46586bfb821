// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * What may follow a handshake: NewSessionTicket and KeyUpdate (RFC 8446
 * sections 4.6.1 and 4.6.3), cut into records as the peer likes. Works on what
 * the caller keeps and sends nothing.
 */
#include "engine.h"

#define LIFETIME_MAX	604800u	/* seven days, section 4.6.1 */

static int derive_psk(const struct tls13_after *after, const u8 *nonce, size_t nonce_len,
		      struct tls13_psk *psk)
{
	const struct tls13_suite_info *info = tls13_suite_find(after->suite);

	if (!info || nonce_len > TLS13_HASH_MAX)
		return -EINVAL;
	psk->suite = after->suite;
	psk->key_len = (u8)info->hash;
	return tls13_expand_label(info->hash, after->resumption_secret, "resumption", nonce,
				  nonce_len, psk->key, psk->key_len);
}

int tls13_write_ticket(struct tls13_after *after, const u8 *ticket, size_t ticket_len, u32 lifetime,
		       u32 age_add, const u8 nonce[8], u8 *message, size_t size,
		       struct tls13_psk *psk)
{
	struct wire_writer w = { .base = message, .size = size };
	size_t start = tls13_message_open(&w, TLS13_NEW_SESSION_TICKET);
	size_t mark;
	int rc;

	memset(psk, 0, sizeof(*psk));
	if (!ticket_len || ticket_len > TLS13_TICKET_MAX || lifetime > LIFETIME_MAX)
		return -EINVAL;
	wire_write_uint(&w, 4, lifetime);
	wire_write_uint(&w, 4, age_add);
	mark = wire_open_vector(&w, 1);
	wire_write_bytes(&w, nonce, 8);
	wire_close_vector(&w, 1, mark);
	mark = wire_open_vector(&w, 2);
	wire_write_bytes(&w, ticket, ticket_len);
	wire_close_vector(&w, 2, mark);
	wire_write_uint(&w, 2, 0);	/* no early data */
	wire_close_vector(&w, 3, start + 1);
	if (w.full)
		return -ENOSPC;
	rc = derive_psk(after, nonce, 8, psk);
	if (rc)
		return rc;
	psk->lifetime = lifetime;
	psk->age_add = age_add;
	psk->ticket_len = (u16)ticket_len;
	memcpy(psk->ticket, ticket, ticket_len);
	return (int)w.used;
}

/*
 * Extensions of a ticket are passed over; they only have to be well formed, single and in their
 * place.
 */
static bool extensions_are_good(struct wire_reader *r)
{
	struct wire_reader list, rest, body;
	u16 type, other;

	if (!wire_read_vector(r, 2, &list) || r->left)
		return false;
	while (list.left) {
		if (!wire_read_u16(&list, &type) || !wire_read_vector(&list, 2, &body))
			return false;
		if (type == 42 && body.left != 4)
			return false;
		for (rest = list; rest.left;) {
			if (!wire_read_u16(&rest, &other) || !wire_read_vector(&rest, 2, &body) ||
			    other == type)
				return false;
		}
	}
	return true;
}

int tls13_read_ticket(struct tls13_after *after, const u8 *message, size_t len,
		      struct tls13_psk *psk)
{
	struct wire_reader r = { message, len };
	struct wire_reader nonce, ticket;
	u8 type;
	u32 said;
	int rc;

	memset(psk, 0, sizeof(*psk));
	if (!wire_read_u8(&r, &type) || type != TLS13_NEW_SESSION_TICKET ||
	    !wire_read_u24(&r, &said) || said != r.left || said > TLS13_MESSAGE_MAX)
		return -EBADMSG;
	if (!wire_read_u32(&r, &psk->lifetime) || !wire_read_u32(&r, &psk->age_add) ||
	    !wire_read_vector(&r, 1, &nonce) || !wire_read_vector(&r, 2, &ticket) || !ticket.left ||
	    !extensions_are_good(&r) || psk->lifetime > LIFETIME_MAX)
		return -EBADMSG;
	/* A life of 0 says that the ticket is to be thrown away at once. */
	if (ticket.left > TLS13_TICKET_MAX || nonce.left > TLS13_HASH_MAX || !psk->lifetime)
		return -ENOSPC;
	rc = derive_psk(after, nonce.at, nonce.left, psk);
	if (rc)
		return rc;
	psk->ticket_len = (u16)ticket.left;
	memcpy(psk->ticket, ticket.at, ticket.left);
	return 0;
}

static size_t message_len_of(const u8 head[4])
{
	return (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
}

static bool may_follow(const u8 *head, size_t len)
{
	if (head[0] != TLS13_NEW_SESSION_TICKET && head[0] != TLS13_KEY_UPDATE)
		return false;
	return len < 4 || message_len_of(head) <= TLS13_MESSAGE_MAX;
}

static void move_past(const u8 **data, size_t *len, size_t n)
{
	*data += n;
	*len -= n;
}

/* One byte of a head, or as much of a body as there is: the type when that was its end, else 0. */
static int take_piece(struct tls13_post *post, const u8 **data, size_t *len)
{
	size_t n = 1;

	if (post->head_len < 4) {
		post->head[post->head_len++] = **data;
		if (!may_follow(post->head, post->head_len))
			return -EBADMSG;
		if (post->head_len == 4)
			post->left = (u32)message_len_of(post->head);
	} else {
		n = *len < post->left ? *len : post->left;
		post->left -= (u32)n;
	}
	move_past(data, len, n);
	if (post->head_len < 4 || post->left)
		return 0;
	post->head_len = 0;
	return post->head[0];
}

int tls13_post_next(struct tls13_post *post, const u8 **data, size_t *len, const u8 **message,
		    size_t *message_len)
{
	int type = 0;

	*message = NULL;
	*message_len = 0;
	while (*len && !type) {
		if (!post->head_len && *len >= 4 && !may_follow(*data, 4))
			return -EBADMSG;
		if (!post->head_len && *len >= 4 && *len - 4 >= message_len_of(*data)) {
			*message = *data;
			*message_len = 4 + message_len_of(*data);
			move_past(data, len, *message_len);
			return (*message)[0];
		}
		type = take_piece(post, data, len);
	}
	return type;
}

/* The secret is replaced by its successor before the keys are made, as both sides must. */
int tls13_update_keys(struct tls13_after *after, bool send, struct tls13_traffic *traffic)
{
	const struct tls13_suite_info *info = tls13_suite_find(after->suite);
	u8 *secret = send ? after->send_secret : after->receive_secret;
	u8 next[TLS13_SECRET_MAX];
	int rc;

	if (!info)
		return -EINVAL;
	rc = tls13_expand_label(info->hash, secret, "traffic upd", NULL, 0, next,
				(size_t)info->hash);
	if (!rc) {
		memcpy(secret, next, (size_t)info->hash);
		rc = tls13_schedule_traffic(info, secret, traffic);
	}
	port_wipe(next, sizeof(next));
	return rc;
}
