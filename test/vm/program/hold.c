// SPDX-License-Identifier: Apache-2.0
/*
 * A program that holds the locks of its sockets: it sends, and sets options, out of memory that never comes
 * (userfaultfd(2); a file system in user space does the same for anybody). Nothing but its own end lets go.
 *
 *	hold sends PORT COUNT        says a word on each of COUNT connections, then is in a send() on each; writes "holds COUNT"
 *	hold drip PORT               is in a send() of SENT bytes; writes "holds 1", and at the end of its input the memory comes,
 *	                             page by page, as it is asked for; writes "sent BYTES"
 *	hold handshakes PORT COUNT   connects COUNT times to its own server, which never speaks, and holds each socket; writes "holds COUNT"
 *	hold borrow PORT             reads what TCP's socket is while TLS is put under a plain connection, and goes on afterwards; speaks
 *	hold dissolve PORT ROUNDS    lets a socket go again and again while another thread connects it; writes "dissolved ROUNDS"
 */
#include "hostile.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define SENT		(1 << 20)
#define STACK		(64 * 1024)
#define SETTLE_US	200000	/* for a thread to come to where it waits */
#define ROUND_US	2000

static int trap;
static long page;

struct sender {
	int fd;
	const void *from;
	size_t len;
	ssize_t sent;
};

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK);
	if (pthread_create(thread, &attributes, run, argument))
		exit(1);
}

/* The first page is there, and the others wait for somebody to bring them. */
static char *make_pages(size_t size)
{
	struct uffdio_register missing = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *pages = mmap(NULL, page + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*pages = 0;
	missing.range.start = (unsigned long)pages + page;
	missing.range.len = size;
	if (ioctl(trap, UFFDIO_REGISTER, &missing))
		exit(2);
	return pages;
}

/* The page that somebody waits for. */
static unsigned long wait_fault(void)
{
	struct uffd_msg message;

	if (read(trap, &message, sizeof(message)) != sizeof(message))
		exit(1);
	return message.arg.pagefault.address & -page;
}

static void bring(unsigned long address)
{
	struct uffdio_zeropage zero = { .range = { .start = address, .len = page } };

	ioctl(trap, UFFDIO_ZEROPAGE, &zero);
}

static void say_and_wait(const char *word, int count)
{
	printf("%s %d\n", word, count);
	fflush(stdout);
	pause();
}

static void *send_it(void *argument)
{
	struct sender *sender = argument;

	for (size_t at = 0; at < sender->len; at += sender->sent) {
		sender->sent = send(sender->fd, (const char *)sender->from + at, sender->len - at, MSG_NOSIGNAL);
		if (sender->sent < 0) {
			sender->sent = at;
			return NULL;
		}
	}
	sender->sent = sender->len;
	return NULL;
}

static int spoken(const char *port)
{
	int fd = tcp_socket();

	if (strcmp(connect_and_speak(fd, atoi(port), "word"), "spoke"))
		exit(1);
	return fd;
}

static int hold_sends(const char *port, int count)
{
	char *pages = make_pages(count * page);
	struct sender *senders = calloc(count, sizeof(*senders));
	pthread_t thread;

	for (int i = 0; i < count; i++) {
		senders[i] = (struct sender){ .fd = spoken(port), .from = pages + page + i * page, .len = page };
		start(&thread, send_it, &senders[i]);
	}
	for (int i = 0; i < count; i++)
		wait_fault();
	say_and_wait("holds", count);
	return 0;
}

static void *bring_all(void *argument)
{
	for (bring(*(unsigned long *)argument);; bring(wait_fault()))
		;
	return NULL;
}

static int drip(const char *port)
{
	struct sender sender = { .fd = spoken(port), .from = make_pages(SENT) + page, .len = SENT };
	unsigned long first;
	pthread_t thread, bringer;
	char byte;

	start(&thread, send_it, &sender);
	first = wait_fault();
	printf("holds 1\n");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	start(&bringer, bring_all, &first);
	pthread_join(thread, NULL);
	printf("sent %zd\n", sender.sent);
	fflush(stdout);
	return 0;
}

struct option {
	int fd, level, name;
	const void *value;
	socklen_t len;
};

static void *set_it(void *argument)
{
	struct option *option = argument;

	setsockopt(option->fd, option->level, option->name, option->value, option->len);
	return NULL;
}

/* Its second half does not come: TCP reads that under its lock. */
static struct option holding_option(int fd, const char *pages)
{
	return (struct option){ fd, SOL_SOCKET, SO_LINGER, pages + page - sizeof(int), sizeof(struct linger) };
}

static int hold_handshakes(const char *port, int count)
{
	struct sockaddr_in address = address_of(atoi(port));
	struct option *options = calloc(count, sizeof(*options));
	char *pages = make_pages(page);
	struct rlimit files = { 2 * count + 64, 2 * count + 64 };
	int server = tcp_socket(), first;
	pthread_t thread;

	if (setrlimit(RLIMIT_NOFILE, &files) || bind(server, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(server, 2 * count))
		return 1;
	/* The first waits, for the daemon too: what waits for that alone is another bound. */
	first = tcp_socket();
	connect(first, (struct sockaddr *)&address, sizeof(address));
	close(first);
	for (int i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		if (fd < 0 || (connect(fd, (struct sockaddr *)&address, sizeof(address)) && errno != EINPROGRESS))
			return 1;
		options[i] = holding_option(fd, pages);
		start(&thread, set_it, &options[i]);
	}
	for (int i = 0; i < count; i++)
		wait_fault();
	say_and_wait("holds", count);
	return 0;
}

static int borrow(const char *port)
{
	int fd = spoken(port);
	char *pages = make_pages(page), *late = make_pages(page);
	struct option holding = holding_option(fd, pages);
	struct option record_layer = { fd, SOL_TCP, TCP_ULP, "tls", sizeof("tls") };
	struct option mark = { fd, SOL_SOCKET, SO_RCVLOWAT, late + page, sizeof(int) };
	pthread_t holder, borrower, reader;
	unsigned long held, read;

	start(&holder, set_it, &holding);
	held = wait_fault();
	start(&borrower, set_it, &record_layer);
	usleep(SETTLE_US);
	start(&reader, set_it, &mark);
	read = wait_fault();
	bring(held);
	pthread_join(holder, NULL);
	pthread_join(borrower, NULL);
	usleep(SETTLE_US);
	bring(read);
	pthread_join(reader, NULL);
	puts(speak(fd, "word"));
	return 0;
}

static volatile bool dissolved;

static void *connect_again(void *argument)
{
	struct option *option = argument;
	struct sched_param none = {};

	/* Runs when the other has let the socket go. */
	pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
	while (!dissolved)
		connect(option->fd, option->value, option->len);
	return NULL;
}

static int dissolve(const char *port, int rounds)
{
	struct sockaddr_in address = address_of(atoi(port)), nowhere = { .sin_family = AF_UNSPEC };
	struct option option = { .fd = tcp_socket(), .value = &address, .len = sizeof(address) };
	int server = tcp_socket();
	pthread_t connecting;

	if (bind(server, (struct sockaddr *)&address, sizeof(address)) || listen(server, 0))
		return 1;
	/* Nobody accepts: what comes after these is not answered. */
	for (int i = 0; i < 8; i++)
		connect(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), (struct sockaddr *)&address, sizeof(address));
	start(&connecting, connect_again, &option);
	for (int i = 0; i < rounds; i++) {
		usleep(ROUND_US);
		connect(option.fd, (struct sockaddr *)&nowhere, sizeof(nowhere));
	}
	dissolved = true;
	shutdown(option.fd, SHUT_RDWR);
	connect(option.fd, (struct sockaddr *)&nowhere, sizeof(nowhere));
	pthread_join(connecting, NULL);
	printf("dissolved %d\n", rounds);
	return 0;
}

int main(int argc, char **argv)
{
	struct uffdio_api api = { .api = UFFD_API };

	page = sysconf(_SC_PAGESIZE);
	trap = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (argc < 3 || trap < 0 || ioctl(trap, UFFDIO_API, &api))
		return 2;
	if (argc == 4 && !strcmp(argv[1], "sends"))
		return hold_sends(argv[2], atoi(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "drip"))
		return drip(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "handshakes"))
		return hold_handshakes(argv[2], atoi(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "borrow"))
		return borrow(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "dissolve"))
		return dissolve(argv[2], atoi(argv[3]));
	return 2;
}
