/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hostile programs have in common: connecting, speaking, descriptors
 * over a Unix socket. An outcome is a word: "spoke", or the name of an errno.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANAGED		"/srv/managed/hostile_local"	/* selected by the rules, by its path */
#define STRANGER	"/usr/lib/riprap/program/hostile_local"
#define HELPER		"/tmp/stranger"
#define HEARD		"/tmp/heard"	/* what came to the stranger's server in the clear */
#define ALLOWED		7001
#define DENIED		7002
#define PASSED_FD	9		/* where a descriptor stands that goes over exec */
#define WORD_MAX	64

static inline struct sockaddr_in address_of(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static inline const char *errno_word(void)
{
	return strerrorname_np(errno) ?: "unknown";
}

/* The other end says it back. */
static inline const char *speak(int fd, const char *word)
{
	char back[WORD_MAX] = {};
	size_t len = strlen(word), have = 0;
	ssize_t n;

	if (send(fd, word, len, MSG_NOSIGNAL) != (ssize_t)len)
		return errno_word();
	while (have < len) {
		n = read(fd, back + have, len - have);
		if (n <= 0)
			return n ? errno_word() : "closed";
		have += n;
	}
	return memcmp(back, word, len) ? "garbled" : "spoke";
}

static inline const char *connect_and_speak(int fd, int port, const char *word)
{
	struct sockaddr_in address = address_of(port);

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return errno_word();
	return speak(fd, word);
}

static inline int tcp_socket(void)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static inline const char *try_port(int port, const char *word)
{
	int fd = tcp_socket();
	const char *outcome = connect_and_speak(fd, port, word);

	close(fd);
	return outcome;
}

/* One message with a descriptor beside it, or without: fd < 0. */
static inline bool pass(int channel, const char *text, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec vec = { (void *)text, strlen(text) + 1 };
	struct msghdr message = { .msg_iov = &vec, .msg_iovlen = 1 };
	struct cmsghdr *header = (struct cmsghdr *)control;

	if (fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	}
	return sendmsg(channel, &message, MSG_NOSIGNAL) > 0;
}

static inline bool take(int channel, char *text, size_t size, int *fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec vec = { text, size - 1 };
	struct msghdr message = {
		.msg_iov = &vec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;
	ssize_t n = recvmsg(channel, &message, 0);

	if (n <= 0)
		return false;
	text[n] = 0;
	*fd = -1;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(header), sizeof(*fd));
	return true;
}

static inline struct sockaddr_un helper_address(void)
{
	return (struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = HELPER };
}

/* The first line that a program writes. */
static inline const char *output_of(char *const argv[])
{
	static char line[WORD_MAX];
	int out[2];
	ssize_t n;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC))
		return errno_word();
	pid = fork();
	if (!pid) {
		dup2(out[1], 1);
		execv(argv[0], argv);
		_exit(127);
	}
	close(out[1]);
	n = read(out[0], line, sizeof(line) - 1);
	close(out[0]);
	waitpid(pid, NULL, 0);
	line[n > 0 ? n : 0] = 0;
	line[strcspn(line, "\n")] = 0;
	return line;
}

#endif
