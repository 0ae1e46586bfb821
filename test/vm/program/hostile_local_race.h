/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attempts of a managed program on one socket from several threads, and on what
 * TCP makes of an address. What it says must never be in the clear on the wire.
 */
#ifndef HOSTILE_LOCAL_RACE_H
#define HOSTILE_LOCAL_RACE_H

#include <poll.h>
#include <pthread.h>

#include "hostile.h"

#define CLOSED		7003		/* a rule allows it, and nobody listens */
#define FORBIDDEN	"127.0.0.9"	/* a rule denies it on every port */
#define RACES		20

struct race {
	int fd;
	const char *word;
	pthread_barrier_t start;
	bool over;
};

static inline void *connect_in_race(void *argument)
{
	struct sockaddr_in address = address_of(ALLOWED);
	struct race *race = argument;
	int i;

	pthread_barrier_wait(&race->start);
	for (i = 0; i < 25; i++) {
		connect(race->fd, (struct sockaddr *)&address, sizeof(address));
		send(race->fd, race->word, strlen(race->word), MSG_NOSIGNAL | MSG_DONTWAIT);
		usleep(1000);
	}
	return NULL;
}

static inline void *send_in_race(void *argument)
{
	struct race *race = argument;

	pthread_barrier_wait(&race->start);
	while (!__atomic_load_n(&race->over, __ATOMIC_ACQUIRE))
		send(race->fd, race->word, strlen(race->word), MSG_NOSIGNAL | MSG_DONTWAIT);
	return NULL;
}

/* A socket whose connection has failed, and several threads that connect it anew and speak at once. */
static inline const char *race_after_failure(const char *word)
{
	struct sockaddr_in address = address_of(CLOSED);
	pthread_t threads[3];
	int round, i;

	for (round = 0; round < RACES; round++) {
		struct race race = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .word = word };
		struct pollfd failed = { .fd = race.fd, .events = POLLOUT };

		connect(race.fd, (struct sockaddr *)&address, sizeof(address));
		poll(&failed, 1, 2000);
		pthread_barrier_init(&race.start, NULL, 3);
		for (i = 0; i < 3; i++)
			pthread_create(&threads[i], NULL, connect_in_race, &race);
		for (i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		close(race.fd);
	}
	return "held";
}

/* One thread sends without a pause, from before there is a connection; the connection itself serves. */
static inline const char *race_with_sender(const char *word)
{
	const char *outcome = "spoke";
	pthread_t sender;
	int round;

	for (round = 0; round < RACES && !strcmp(outcome, "spoke"); round++) {
		struct sockaddr_in address = address_of(ALLOWED);
		struct race race = { .fd = tcp_socket(), .word = word };
		char back;

		pthread_barrier_init(&race.start, NULL, 2);
		pthread_create(&sender, NULL, send_in_race, &race);
		pthread_barrier_wait(&race.start);
		if (connect(race.fd, (struct sockaddr *)&address, sizeof(address)) || read(race.fd, &back, 1) != 1)
			outcome = errno_word();
		__atomic_store_n(&race.over, true, __ATOMIC_RELEASE);
		pthread_join(sender, NULL);
		close(race.fd);
	}
	return outcome;
}

/* Bound to one address of this machine and connected to the unspecified one: TCP goes to the first. */
static inline const char *unspecified_from(int family, const char *word)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *outcome;

	inet_pton(AF_INET, FORBIDDEN, &v4.sin_addr);
	inet_pton(AF_INET6, "::ffff:" FORBIDDEN, &v6.sin6_addr);
	if (bind(fd, address, len))
		return errno_word();
	v4.sin_addr.s_addr = INADDR_ANY;
	inet_pton(AF_INET6, "::ffff:0.0.0.0", &v6.sin6_addr);
	v4.sin_port = v6.sin6_port = htons(ALLOWED);
	outcome = connect(fd, address, len) ? errno_word() : speak(fd, word);
	close(fd);
	return outcome;
}

#endif
