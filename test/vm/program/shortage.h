/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th allocation of the module fails: fault injection of a kernel that has it, its stack filter set to the module's text. Counts
 * of the whole machine, so nothing else of riprap may be going on.
 */
#ifndef SHORTAGE_H
#define SHORTAGE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STUCK_S		60	/* longer than any timeout of the module, on a slow machine */
#define PAST_END	3	/* so many n in a row that nothing failed for end the walk */

static char attributes[64];	/* directory of failslab or fail_page_alloc */
static unsigned long counted;	/* what the kernel's own counter stands at */

/* `kind`: slab or page. */
static void choose_allocator(const char *kind)
{
	snprintf(attributes, sizeof(attributes), "/sys/kernel/debug/fail%s", !strcmp(kind, "slab") ? "slab" : "_page_alloc");
}

static void set(const char *name, unsigned long value)
{
	char path[128], text[32];
	int fd, len;

	snprintf(path, sizeof(path), "%s/%s", attributes, name);
	fd = open(path, O_WRONLY);
	len = snprintf(text, sizeof(text), "%lu", value);
	if (fd < 0 || write(fd, text, len) != len) {
		perror(path);
		exit(2);
	}
	close(fd);
}

static long get(const char *name)
{
	char path[128], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", attributes, name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) {
		perror(path);
		exit(2);
	}
	close(fd);
	return atol(text);
}

/* The kernel fails each `interval`-th of what it counts, and counts only while it may still fail one. */
static void arm(unsigned long n)
{
	set("interval", counted + n);
	set("times", 1);
	set("probability", 100);
}

/* True when it has failed one. Where it has not, how far the kernel counted is not known, and the next begins beyond it. */
static bool disarm(unsigned long n)
{
	bool fired = get("times") == 0;

	set("probability", 0);
	if (counted + n > 1)
		counted += n;
	return fired;
}

static const char *name_of(int error)
{
	return error < 0 ? "stuck" : error ? strerrorname_np(error) : "0";
}

#endif
