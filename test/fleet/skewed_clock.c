// SPDX-License-Identifier: Apache-2.0
/* Preloaded into a daemon of a test: its wall clock is wrong by a number of seconds, its timers are not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int (*true_clock)(clockid_t id, struct timespec *now);
static time_t skew;

__attribute__((constructor)) static void look(void)
{
	const char *seconds = getenv("RIPRAP_TEST_SKEW_S");

	skew = seconds ? atol(seconds) : 0;
	true_clock = dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	int err;

	/* Other libraries may ask before this one is ready. */
	if (!true_clock)
		look();
	err = true_clock(id, now);
	if (!err && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		now->tv_sec += skew;
	return err;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec exact;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &exact))
		return -1;
	now->tv_sec = exact.tv_sec;
	now->tv_usec = exact.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec exact;

	clock_gettime(CLOCK_REALTIME, &exact);
	if (now)
		*now = exact.tv_sec;
	return exact.tv_sec;
}

/* The true clock judges it: a time of a slow clock would be over at once, and a thread that waits would spin. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition,
			   pthread_mutex_t *restrict mutex,
			   const struct timespec *restrict until)
{
	struct timespec exact = *until;

	/* No machine has been up for that long. */
	if (exact.tv_sec < 1000000000)
		return pthread_cond_clockwait(condition, mutex,
					      CLOCK_MONOTONIC, &exact);
	/* For ever is no time of any clock. */
	if (exact.tv_sec < 1LL << 40)
		exact.tv_sec -= skew;
	return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, &exact);
}
