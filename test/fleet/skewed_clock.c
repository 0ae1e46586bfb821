// SPDX-License-Identifier: Apache-2.0
/* Preloaded into a daemon of a test: its wall clock is wrong by a number of seconds, its timers are not. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t skew(void)
{
	const char *seconds = getenv("RIPRAP_TEST_SKEW_S");

	return seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	int err = (int)syscall(SYS_clock_gettime, id, now);

	if (!err && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		now->tv_sec += skew();
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
