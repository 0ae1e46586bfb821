// SPDX-License-Identifier: Apache-2.0
/*
 * One allocation of riprap's fails, the n-th, for each n in what its daemon asks of it between connections: the next SVID of a program
 * that has one, and a signature with a key of the CA. After each, the program is served, and the same asked again succeeds.
 *
 *	shortage_daemon slab|page renewal|signature
 *
 * One line for each n as of shortage.c; "none" is a renewal of which no KEY came. This process is the daemon.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>

#include "fault_daemon.h"
#include "shortage.h"

#define RENEWAL_MS	3000	/* of a KEY that does not come; one that does takes a tenth, in a kernel that checks everything */
#define NO_KEY		9999

/* 0 when the SVID is installed, the errno of its ACK, NO_KEY. */
static int renew(void)
{
	long end = now_ms() + RENEWAL_MS;

	PUT(RIPRAP_RENEW, ((struct riprap_renew){ .instance = of_client }));
	while (now_ms() < end) {
		if (!device_next(50))
			continue;
		act();
		if (device.head.type == RIPRAP_ACK && device.body.ack.what == RIPRAP_ACK_SVID)
			return -device.body.ack.error;
	}
	return NO_KEY;
}

/* The key goes whatever becomes of the signature. */
static int sign(void)
{
	struct riprap_authority_import import = { .private_key = { 1, 2, 3 } };
	struct riprap_authority_sign sign = { .digest = { 5 } };
	struct riprap_authority_forget forget;
	int error;

	if (ioctl(device.fd, RIPRAP_AUTHORITY_IMPORT, &import))
		return errno;
	sign.slot = import.slot;
	forget = (struct riprap_authority_forget){ .slot = import.slot };
	error = ioctl(device.fd, RIPRAP_AUTHORITY_SIGN, &sign) ? errno : 0;
	return ioctl(device.fd, RIPRAP_AUTHORITY_FORGET, &forget) ? errno : error;
}

static bool fail_at(unsigned long n, int (*ask)(void))
{
	int outcome, after;
	bool fired;

	arm(n);
	outcome = ask();
	fired = disarm(n);
	after = connect_once().error;
	if (!after && outcome && ask())
		after = EBUSY;
	printf("%lu %s %s\n", n, !fired ? "-" : outcome == NO_KEY ? "none" : name_of(outcome), name_of(after));
	return fired;
}

int main(int argc, char **argv)
{
	unsigned long n;
	int past = 0;

	if (argc > 1 && !strcmp(argv[0], "riprap-child"))
		return !strcmp(argv[1], "server") ? be_server() : be_client();
	if (argc != 3)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	prepare_child();
	choose_allocator(argv[1]);
	start_daemon();
	server = start_child("server");
	client = start_child("client");
	serve_for(500);
	printf("0 %s 0\n", name_of(connect_once().error));
	for (n = 1; past < PAST_END; n++)
		past = fail_at(n, !strcmp(argv[2], "renewal") ? renew : sign) ? 0 : past + 1;
	CHECK(end_child(&client) && end_child(&server));
	printf("shortage: walked to %lu\n", n);
	return failed != 0;
}
