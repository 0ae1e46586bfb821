/* SPDX-License-Identifier: Apache-2.0 */
/* The accomplice that no rule selects: gives descriptors, takes them, uses them, and writes down what reaches it in the clear. */
#ifndef HOSTILE_LOCAL_STRANGER_H
#define HOSTILE_LOCAL_STRANGER_H

#include <linux/vm_sockets.h>

#include "hostile.h"

static inline void echo(int fd, bool write_down)
{
	char word[WORD_MAX];
	ssize_t n;
	int heard;

	while ((n = read(fd, word, sizeof(word))) > 0) {
		if (write_down) {
			heard = open(HEARD, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
			dprintf(heard, "%.*s\n", (int)n, word);
			close(heard);
		}
		if (send(fd, word, n, MSG_NOSIGNAL) != n)
			break;
	}
	close(fd);
}

/* A child for each listener, and for each connection. */
static inline void serve(int listener, bool write_down)
{
	int fd;

	if (listen(listener, 64) || fork())
		return;
	for (;;) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && !fork()) {
			echo(fd, write_down);
			_exit(0);
		}
		close(fd);
	}
}

static inline bool serve_tcp(int port, bool write_down)
{
	struct sockaddr_in address = address_of(port);
	int fd = tcp_socket(), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		return false;
	serve(fd, write_down);
	return true;
}

static inline void serve_vsock(void)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = DENIED };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)))
		serve(fd, true);
}

static inline int connected_socket(void)
{
	struct sockaddr_in address = address_of(DENIED);
	int fd = tcp_socket();

	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -1 : fd;
}

/* What the managed program makes of a socket that comes to it over exec. */
static inline const char *over_exec(int fd, const char *deed, const char *word)
{
	char *argv[] = { MANAGED, (char *)deed, (char *)word, NULL };
	const char *outcome;

	dup2(fd, PASSED_FD);
	outcome = output_of(argv);
	close(PASSED_FD);
	return outcome;
}

/* "deed word", perhaps with a descriptor; the answer likewise. */
static inline void answer(int channel, char *text, int fd)
{
	char *word = strchr(text, ' ');
	char numbers[WORD_MAX];

	if (!word)
		return;
	*word++ = 0;
	if (!strcmp(text, "give-connected")) {
		pass(channel, "here", connected_socket());
	} else if (!strcmp(text, "give-unconnected")) {
		pass(channel, "here", tcp_socket());
	} else if (!strcmp(text, "show")) {
		/* Left open: pidfd_getfd() takes them from here. */
		snprintf(numbers, sizeof(numbers), "%d %d %d", getpid(), connected_socket(), tcp_socket());
		pass(channel, numbers, -1);
	} else if (!strcmp(text, "speak")) {
		pass(channel, speak(fd, word), -1);
	} else if (!strcmp(text, "connect")) {
		pass(channel, connect_and_speak(fd, DENIED, word), -1);
	} else if (!strcmp(text, "exec-unconnected")) {
		pass(channel, over_exec(tcp_socket(), "connect-passed", word), -1);
	} else if (!strcmp(text, "exec-connected")) {
		pass(channel, over_exec(connected_socket(), "speak-passed", word), -1);
	}
}

static inline int be_stranger(void)
{
	struct sockaddr_un address = helper_address();
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), channel, fd;
	char text[WORD_MAX];

	unlink(HELPER);
	if (!serve_tcp(DENIED, true))
		return 1;
	serve_vsock();
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 8))
		return 1;
	for (;;) {
		channel = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		while (channel >= 0 && take(channel, text, sizeof(text), &fd)) {
			answer(channel, text, fd);
			if (fd >= 0)
				close(fd);
		}
		close(channel);
	}
}

#endif
