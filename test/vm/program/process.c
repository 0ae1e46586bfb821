/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets and processes: fork, exec, signals, time limits. */
#include "pair.h"

#include <sys/time.h>

static void echo(int fd)
{
	char data[4096];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		NEED(write_all(fd, data, n));
	EQUAL(n, 0);
}

static void wait_for_end(int fd)
{
	char byte;

	EQUAL(read(fd, &byte, 1), 0);
}

static int exit_status(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/* Exits with the case's verdict: a child cannot report by itself. */
static void end_child(void)
{
	if (case_failure[0])
		printf("child: %s\n", case_failure);
	fflush(stdout);
	_exit(case_failure[0] != 0);
}

static void child_uses_socket(int fd)
{
	char data[8];
	pid_t pid;

	NEED(write_all(fd, "one ", 4));
	NEED(read_exactly(fd, data, 4));
	pid = fork();
	if (!pid) {
		CHECK(write_all(fd, "two ", 4));
		CHECK(read_exactly(fd, data, 4));
		CHECK(!memcmp(data, "two ", 4));
		end_child();
	}
	EQUAL(exit_status(pid), 0);
	/* The child's exit closed its descriptor, not the connection. */
	NEED(write_all(fd, "last", 4));
	NEED(read_exactly(fd, data, 4));
	CHECK(!memcmp(data, "last", 4));
}

static void inherited_connection(void) { run_pair(AF_INET, echo, child_uses_socket); }

/* A preforking server: the parent listens, the child accepts. */
static void inherited_listener(void)
{
	int port, listener = listen_anywhere(AF_INET, &port), fd;
	char data[8];
	pid_t pid = fork();

	if (!pid) {
		fd = accept(listener, NULL, NULL);
		CHECK(fd >= 0);
		CHECK(read_exactly(fd, data, 4));
		CHECK(write_all(fd, data, 4));
		close(fd);
		end_child();
	}
	fd = connect_to(AF_INET, port);
	NEED(fd >= 0);
	NEED(write_all(fd, "fork", 4));
	NEED(read_exactly(fd, data, 4));
	EQUAL(read(fd, data, 1), 0);
	EQUAL(exit_status(pid), 0);
	close(fd);
	close(listener);
}

/* By its real path: that, and the name of the file, are what it is known by. */
static void exec_self(const char *what)
{
	char path[4096] = {};

	if (readlink("/proc/self/exe", path, sizeof(path) - 1) > 0)
		execl(path, path, what, NULL);
	_exit(1);
}

/* As inetd does it: the connection is the standard input and output of another program. */
static void connection_over_exec(void)
{
	int port, listener = listen_anywhere(AF_INET, &port), fd;
	char data[8];
	pid_t pid = fork();

	if (!pid) {
		fd = accept(listener, NULL, NULL);
		pid = fork();
		if (pid) {
			close(fd);
			_exit(exit_status(pid));
		}
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		exec_self("--cat");
	}
	fd = connect_to(AF_INET, port);
	NEED(fd >= 0);
	NEED(write_all(fd, "exec", 4));
	NEED(read_exactly(fd, data, 4));
	CHECK(!memcmp(data, "exec", 4));
	shutdown(fd, SHUT_WR);
	EQUAL(read(fd, data, 1), 0);
	EQUAL(exit_status(pid), 0);
	close(fd);
	close(listener);
}

/* A listener that comes over exec, as from systemd: descriptor 3. */
static void listener_over_exec(void)
{
	int port, listener = listen_anywhere(AF_INET, &port), fd;
	char data[8];
	pid_t pid = fork();

	if (!pid) {
		/* dup2() onto itself would keep the flag. */
		fcntl(listener, F_SETFD, 0);
		dup2(listener, 3);
		exec_self("--accept");
	}
	fd = connect_to(AF_INET, port);
	NEED(fd >= 0);
	NEED(write_all(fd, "exec", 4));
	NEED(read_exactly(fd, data, 4));
	CHECK(!memcmp(data, "exec", 4));
	close(fd);
	EQUAL(exit_status(pid), 0);
	close(listener);
}

static void client_has_timeout(int fd)
{
	struct timeval limit = { .tv_usec = 200000 };
	long start;
	char byte;

	CHECK(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	start = now_ms();
	EQUAL(recv(fd, &byte, 1, 0), -1);
	EQUAL(errno, EAGAIN);
	CHECK(now_ms() - start >= 150 && now_ms() - start < 5000);
}

static void receive_timeout(void) { run_pair(AF_INET, wait_for_end, client_has_timeout); }

static void never_read(int fd)
{
	(void)fd;
	sleep_ms(3000);
}

static void client_fills(int fd)
{
	struct timeval limit = { .tv_usec = 200000 };
	static char data[1 << 16];
	int i, size = 32768;
	ssize_t n = 0;

	CHECK(!setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
	CHECK(!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
	for (i = 0; i < 1000; i++) {
		n = send(fd, data, sizeof(data), MSG_NOSIGNAL);
		if (n < 0)
			break;
	}
	EQUAL(n, -1);
	EQUAL(errno, EAGAIN);
}

static void send_timeout(void) { run_pair(AF_INET, never_read, client_fills); }

static volatile int signals;

static void count_signal(int number)
{
	(void)number;
	signals++;
}

static void *interrupt_main(void *argument)
{
	sleep_ms(150);
	pthread_kill(*(pthread_t *)argument, SIGUSR1);
	return NULL;
}

static void interrupt(int flags)
{
	struct sigaction action = { .sa_handler = count_signal, .sa_flags = flags };

	signals = 0;
	sigaction(SIGUSR1, &action, NULL);
}

static void client_interrupted(int fd)
{
	pthread_t self = pthread_self(), other;
	char byte;

	interrupt(0);
	pthread_create(&other, NULL, interrupt_main, &self);
	EQUAL(recv(fd, &byte, 1, 0), -1);
	EQUAL(errno, EINTR);
	EQUAL(signals, 1);
	pthread_join(other, NULL);
}

static void interrupted_read(void) { run_pair(AF_INET, wait_for_end, client_interrupted); }

static int asked_fd;

/* The answer comes after the signal, however slow the machine is. */
static void *interrupt_and_ask(void *argument)
{
	interrupt_main(argument);
	CHECK(write_all(asked_fd, "?", 1));
	return NULL;
}

static void answer(int fd)
{
	char byte;

	NEED(read_exactly(fd, &byte, 1));
	NEED(write_all(fd, "z", 1));
}

static void client_restarted(int fd)
{
	pthread_t self = pthread_self(), other;
	char byte = 0;

	asked_fd = fd;
	interrupt(SA_RESTART);
	pthread_create(&other, NULL, interrupt_and_ask, &self);
	EQUAL(recv(fd, &byte, 1, 0), 1);
	EQUAL(byte, 'z');
	EQUAL(signals, 1);
	pthread_join(other, NULL);
}

static void restarted_read(void) { run_pair(AF_INET, answer, client_restarted); }

/* The connection of a killed process ends as a connection does. */
static void killed_peer(void)
{
	int port, listener = listen_anywhere(AF_INET, &port), fd;
	char data[8];
	pid_t pid = fork();

	if (!pid) {
		fd = accept(listener, NULL, NULL);
		CHECK(write_all(fd, "up", 2));
		pause();
		end_child();
	}
	fd = connect_to(AF_INET, port);
	NEED(fd >= 0);
	NEED(read_exactly(fd, data, 2));
	kill(pid, SIGKILL);
	EQUAL(read(fd, data, 1), 0);
	waitpid(pid, NULL, 0);
	close(fd);
	close(listener);
}

static void sigpipe_comes(void)
{
	int port, listener = listen_anywhere(AF_INET, &port), fd, status = 0;
	pid_t pid = fork();

	if (!pid) {
		signal(SIGPIPE, SIG_DFL);
		fd = connect_to(AF_INET, port);
		shutdown(fd, SHUT_WR);
		if (write(fd, "x", 1) < 0)
			_exit(3);
		_exit(4);
	}
	fd = accept(listener, NULL, NULL);
	waitpid(pid, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
	close(fd);
	close(listener);
}

static int cat(void)
{
	char data[256];
	ssize_t n;

	while ((n = read(0, data, sizeof(data))) > 0)
		if (!write_all(1, data, n))
			return 1;
	return n < 0;
}

static int accept_inherited(void)
{
	char data[4];
	int fd = accept(3, NULL, NULL);

	if (fd < 0 || !read_exactly(fd, data, 4) || !write_all(fd, data, 4))
		return 1;
	return read(fd, data, 1) != 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--cat"))
		return cat();
	if (argc > 1 && !strcmp(argv[1], "--accept"))
		return accept_inherited();
	begin_cases();
	run_case("inherited_connection", inherited_connection);
	run_case("inherited_listener", inherited_listener);
	run_case("connection_over_exec", connection_over_exec);
	run_case("listener_over_exec", listener_over_exec);
	run_case("receive_timeout", receive_timeout);
	run_case("send_timeout", send_timeout);
	run_case("interrupted_read", interrupted_read);
	run_case("restarted_read", restarted_read);
	run_case("killed_peer", killed_peer);
	run_case("sigpipe_comes", sigpipe_comes);
	return end_cases("process");
}
