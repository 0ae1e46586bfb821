// SPDX-License-Identifier: Apache-2.0
/*
 * Makes connections, and takes them: many one after another, many at once, many by processes that live for one. Knows
 * nothing of riprap. What came of them is one line on standard output: "ok N" and " NAME N" for each errno that was met.
 *
 *   load serve PORT                    echoes until it is killed; at SIGTERM it takes no more, and goes with the last connection
 *   load connect PORT TOTAL AT_ONCE    TOTAL connections, each says a few bytes and hears them again
 *   load hold PORT TOTAL AT_ONCE       AT_ONCE on their way at a time, all of them open before the first says anything
 *   load spawn PORT TOTAL AT_ONCE      TOTAL processes, each executes this program for one connection
 *   load one PORT                      such a one
 *   load ask PORT                      a connection for each byte of standard input, and a line: "ok" or its errno, milliseconds
 *   load talk PORT TOTAL               keeps TOTAL connections, and does what each byte of standard input says: see talk()
 *   load churn PORT SECONDS AT_ONCE    processes that fork, execute, and are killed at any moment while they connect
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DESCRIPTORS	20000
#define PATIENCE_MS	120000	/* past this a connection is stuck: it counts as ETIMEDOUT */
#define WORD		"a few bytes here"
#define WORD_LEN	(sizeof(WORD) - 1)

static long ok, failed[200];

static void count(int error)
{
	if (!error)
		ok++;
	else
		failed[error < 200 ? error : 199]++;
}

static int report(void)
{
	bool any = false;
	int error;

	printf("ok %ld", ok);
	for (error = 1; error < 200; error++) {
		if (failed[error])
			printf(" %s %ld", strerrorname_np(error) ?: "?", failed[error]);
		any |= failed[error] > 0;
	}
	printf("\n");
	return any;
}

static void raise_limits(void)
{
	struct rlimit limit = { DESCRIPTORS, DESCRIPTORS };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		perror("setrlimit");
	signal(SIGPIPE, SIG_IGN);
}

static struct sockaddr_in loopback(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the server ---- */

static long served;	/* connections that are open */
static volatile sig_atomic_t is_leaving;

static void leave(int signal_number)
{
	(void)signal_number;
	is_leaving = 1;
}

static void echo(int fd)
{
	char piece[4096];
	ssize_t n = read(fd, piece, sizeof(piece));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || write(fd, piece, n) != n) {
		close(fd);
		served--;
	}
}

static int serve(int port)
{
	struct sockaddr_in address = loopback(port);
	struct epoll_event event = { .events = EPOLLIN }, ready[256];
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, poller = epoll_create1(0), fd, i, n;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096)) {
		perror("listen");
		return 1;
	}
	signal(SIGTERM, leave);
	event.data.fd = listener;
	epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
	while (!is_leaving || served) {
		if (is_leaving && listener >= 0) {
			close(listener);
			listener = -1;
		}
		/* The signal may come just before it waits. */
		n = epoll_wait(poller, ready, 256, 200);
		for (i = 0; i < n; i++) {
			if (ready[i].data.fd != listener) {
				echo(ready[i].data.fd);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				event.data.fd = fd;
				epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
				served++;
			}
		}
	}
	return 0;
}

/* ---- the client ---- */

enum step { CONNECTING, HEARING, WAITING };

struct connection {
	enum step step;
	long since;
};

static struct connection connections[DESCRIPTORS];
static int poller, alive, waiting;
static bool hold;

static void finish(int fd, int error)
{
	if (connections[fd].step == WAITING)
		waiting--;
	count(error);
	close(fd);
	alive--;
}

static void begin(int port)
{
	struct sockaddr_in address = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct epoll_event event = { .events = EPOLLOUT, .data.fd = fd };

	if (fd < 0) {
		count(errno);
		return;
	}
	alive++;
	connections[fd] = (struct connection){ CONNECTING, now_ms() };
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) && errno != EINPROGRESS) {
		finish(fd, errno);
		return;
	}
	epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void say(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (connections[fd].step == WAITING)
		waiting--;
	connections[fd].step = HEARING;
	if (write(fd, WORD, WORD_LEN) != WORD_LEN) {
		finish(fd, errno);
		return;
	}
	epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
}

static void step(int fd)
{
	struct epoll_event none = { .events = 0, .data.fd = fd };
	socklen_t len = sizeof(int);
	char word[WORD_LEN];
	int error = 0;
	ssize_t n;

	if (connections[fd].step == CONNECTING) {
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error) {
			finish(fd, error);
		} else if (hold) {
			connections[fd].step = WAITING;
			waiting++;
			epoll_ctl(poller, EPOLL_CTL_MOD, fd, &none);
		} else {
			say(fd);
		}
		return;
	}
	n = read(fd, word, sizeof(word));
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		finish(fd, errno);
	else
		finish(fd, n == WORD_LEN && !memcmp(word, WORD, n) ? 0 : EPROTO);
}

static void give_up_on_stuck(void)
{
	long now = now_ms();
	int fd;

	for (fd = 0; fd < DESCRIPTORS; fd++)
		if (connections[fd].since && now - connections[fd].since > PATIENCE_MS && fcntl(fd, F_GETFD) >= 0 &&
		    fd != poller)
			finish(fd, ETIMEDOUT);
}

static int make_connections(int port, long total, int at_once)
{
	struct epoll_event ready[256];
	long begun = 0;
	int i, n, fd;

	poller = epoll_create1(0);
	while (begun < total || alive) {
		for (i = 0; begun < total && alive - waiting < at_once && i < 64; begun++, i++)
			begin(port);
		n = epoll_wait(poller, ready, 256, begun < total && alive - waiting < at_once ? 0 : 1000);
		for (i = 0; i < n; i++)
			step(ready[i].data.fd);
		if (!n && begun == total)
			give_up_on_stuck();
		if (hold && begun == total && waiting == alive) {
			hold = false;
			printf("open %d ", alive);
			fflush(stdout);
			for (fd = 0; fd < DESCRIPTORS; fd++)
				if (connections[fd].since && connections[fd].step == WAITING)
					say(fd);
		}
	}
	return report();
}

/* ---- connections that are kept ---- */

/* Says the word and hears it again. */
static int converse(int fd)
{
	char word[WORD_LEN];

	errno = 0;
	if (write(fd, WORD, WORD_LEN) == WORD_LEN && recv(fd, word, sizeof(word), MSG_WAITALL) == sizeof(word) &&
	    !memcmp(word, WORD, sizeof(word)))
		return 0;
	return errno ?: EPROTO;
}

static const char *name_of(int error)
{
	return error ? strerrorname_np(error) ?: "?" : "ok";
}

/* `made`: a socket of earlier, or -1. The call that failed, and why. */
static void try_new(int port, int made)
{
	struct sockaddr_in address = loopback(port);
	int fd = made >= 0 ? made : socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		printf("socket %s\n", name_of(errno));
	else if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		printf("connect %s\n", name_of(errno));
	else
		printf("new %s\n", name_of(converse(fd)));
	if (fd >= 0)
		close(fd);
}

static int hear_all(const int *fds, int count)
{
	int heard = 0, i;

	for (i = 0; i < count; i++)
		heard += !converse(fds[i]);
	return heard;
}

static int open_all(int port, int *fds, int count)
{
	struct sockaddr_in address = loopback(port);
	int i;

	for (i = 0; i < count; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (fds[i] < 0 || connect(fds[i], (struct sockaddr *)&address, sizeof(address)))
			return errno;
	}
	return hear_all(fds, count) == count ? 0 : EPROTO;
}

/*
 * A line for each byte: `w` says a word on all connections, `e` ends one, `n` tries a new one, `s` one on a socket that was made
 * at the start. At the end of standard input it goes, and so does what is open.
 */
static int talk(int port, int count)
{
	static int fds[DESCRIPTORS];
	int made = socket(AF_INET, SOCK_STREAM, 0), error = count < DESCRIPTORS ? open_all(port, fds, count) : EMFILE;
	char byte;

	printf("open %s\n", name_of(error));
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) == 1) {
		switch (byte) {
		case 'w':
			printf("heard %d of %d\n", hear_all(fds, count), count);
			break;
		case 'e':
			if (count)
				close(fds[--count]);
			printf("left %d\n", count);
			break;
		case 'n':
			try_new(port, -1);
			break;
		case 's':
			try_new(port, made);
			made = -1;
			break;
		}
		fflush(stdout);
	}
	return error;
}

/* ---- processes ---- */

static int one(int port)
{
	struct sockaddr_in address = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), error;

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		error = errno;
	else
		error = converse(fd);
	close(fd);
	return error;
}

static int ask(int port)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) == 1) {
		long begun = now_ms();
		int error = one(port);

		printf("%s %ld\n", name_of(error), now_ms() - begun);
		fflush(stdout);
	}
	return 0;
}

static pid_t execute(const char *mode, const char *port)
{
	pid_t child = fork();

	if (child)
		return child;
	execl("/proc/self/exe", "load", mode, port, NULL);
	_exit(ENOEXEC);
}

static int make_processes(const char *port, long total, int at_once)
{
	long begun = 0, ended = 0;
	int status;

	while (ended < total) {
		while (begun < total && begun - ended < at_once) {
			if (execute("one", port) < 0)
				count(errno);
			begun++;
		}
		if (wait(&status) < 0)
			break;
		count(WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
		ended++;
	}
	return report();
}

/* Half go on with the identity that they were forked with, half become somebody new; each is killed within 200 ms. */
static int churn(const char *port, int seconds, int at_once)
{
	pid_t child[256] = { 0 };
	long end = now_ms() + seconds * 1000L, killed = 0;
	int i;

	if (at_once > 256)
		at_once = 256;
	while (now_ms() < end) {
		i = rand() % at_once;
		if (child[i] > 0) {
			kill(child[i], SIGKILL);
			waitpid(child[i], NULL, 0);
			killed++;
		}
		child[i] = fork();
		if (!child[i]) {
			if (rand() % 2)
				execl("/proc/self/exe", "load", "connect", port, "1000000", "4", NULL);
			_exit(make_connections(atoi(port), 1000000, 4));
		}
		usleep(200000 / at_once);
	}
	for (i = 0; i < at_once; i++)
		if (child[i] > 0) {
			kill(child[i], SIGKILL);
			waitpid(child[i], NULL, 0);
		}
	printf("killed %ld\n", killed);
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";
	long a = argc > 3 ? atol(argv[3]) : 0, b = argc > 4 ? atol(argv[4]) : 0;
	int port = argc > 2 ? atoi(argv[2]) : 0;

	raise_limits();
	if (!strcmp(mode, "serve"))
		return serve(port);
	if (!strcmp(mode, "one"))
		return one(port);
	if (!strcmp(mode, "ask"))
		return ask(port);
	if (!strcmp(mode, "talk"))
		return talk(port, a);
	if (!strcmp(mode, "connect"))
		return make_connections(port, a, b);
	if (!strcmp(mode, "hold")) {
		hold = true;
		return make_connections(port, a, b);
	}
	if (!strcmp(mode, "spawn"))
		return make_processes(argv[2], a, b);
	if (!strcmp(mode, "churn"))
		return churn(argv[2], a, b);
	fprintf(stderr, "usage: load serve|connect|hold|spawn|one|ask|talk|churn PORT …\n");
	return 2;
}
