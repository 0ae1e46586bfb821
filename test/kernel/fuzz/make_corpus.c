// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Writes the seeds of corpus/ from honest handshakes, in each target's input
 * form. Run by hand when a form changes.
 *
 *   make_corpus CORPUS
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz.h"

static const char *root;
static u8 flags;
static u8 flight[2][8192];
static size_t flight_len[2];
static u8 hellos[2][2][2048];
static size_t hello_len[2][2];
static unsigned int hello_count[2];
static u8 stream[2][16384];
static size_t stream_len[2];

static void save(const char *target, const char *name, const u8 *head, size_t head_len, const u8 *body, size_t len,
		 const u8 *more, size_t more_len)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", root, target);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/%s/%s_%u", root, target, name, flags);
	file = fopen(path, "wb");
	fwrite(head, 1, head_len, file);
	fwrite(body, 1, len, file);
	if (more_len)
		fwrite(more, 1, more_len, file);
	fclose(file);
}

static void keep_message(struct pair *p, int to, u8 *message, size_t *len)
{
	(void)p;
	if (message[0] == TLS13_CLIENT_HELLO || message[0] == TLS13_SERVER_HELLO) {
		unsigned int n = hello_count[to]++;

		memcpy(hellos[to][n], message, *len);
		hello_len[to][n] = *len;
		return;
	}
	memcpy(flight[to] + flight_len[to], message, *len);
	flight_len[to] += *len;
}

static void keep_record(struct pair *p, int to, u8 *record, size_t *len)
{
	(void)p;
	memcpy(stream[to] + stream_len[to], record, *len);
	stream_len[to] += *len;
}

static void save_all(void)
{
	static const char *const hello_targets[] = { "server_hello", "client_hello" };

	for (int to = 0; to < 2; to++) {
		u8 head[3] = { flags, (u8)(hello_len[to][0] >> 8), (u8)hello_len[to][0] };
		u8 flight_head[2] = { (u8)(flags | (to == SERVER ? 16 : 0)), 0 };

		save(hello_targets[to], "hello", head, 3, hellos[to][0], hello_len[to][0], hellos[to][1], hello_len[to][1]);
		save("flight", to == SERVER ? "client" : "server", flight_head, 2, flight[to], flight_len[to], NULL, 0);
		save("record", to == SERVER ? "client" : "server", flight_head, 1, stream[to], stream_len[to], NULL, 0);
	}
}

int main(int argc, char **argv)
{
	static const u8 ticket[32] = { 1 }, nonce[8] = { 2 };
	struct tls13_after after = { .suite = 0x1301, .hash_len = 32 };
	struct tls13_psk psk;
	u8 message[256];
	int len;

	if (argc != 2)
		return 2;
	root = argv[1];
	for (flags = 0; flags < 8; flags++) {
		struct pair p;

		memset(flight_len, 0, sizeof(flight_len));
		memset(hello_len, 0, sizeof(hello_len));
		memset(hello_count, 0, sizeof(hello_count));
		memset(stream_len, 0, sizeof(stream_len));
		fuzz_open(&p, flags);
		p.hook = keep_message;
		p.record_hook = keep_record;
		pair_run(&p);
		check_done(&p);
		pair_close(&p);
		save_all();
	}
	flags = 0;
	len = tls13_write_ticket(&after, ticket, 32, 600, 5, nonce, message, sizeof(message), &psk);
	save("after", "ticket", (const u8[]){ 0x0c }, 1, message, (size_t)len, NULL, 0);
	return 0;
}
