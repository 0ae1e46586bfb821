/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that holds the locks of its sockets: it sends out of memory that never comes (userfaultfd(2); a file
 * system in user space does the same for anybody). Nothing but its own end lets go.
 *
 *	hold PORT COUNT   says a word on each of COUNT connections, then is in a send() on each; writes "holds COUNT"
 */
#include "hostile.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

struct sender {
	int fd;
	const void *page;
};

static void *send_what_never_comes(void *argument)
{
	const struct sender *sender = argument;

	send(sender->fd, sender->page, sysconf(_SC_PAGESIZE), MSG_NOSIGNAL);
	return NULL;
}

/* Pages of which each waits for somebody to bring it. */
static char *make_pages(int trap, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register whole = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	whole.range.start = (unsigned long)pages;
	whole.range.len = size;
	return ioctl(trap, UFFDIO_API, &api) || ioctl(trap, UFFDIO_REGISTER, &whole) ? NULL : pages;
}

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[2]) : 0, trap = syscall(SYS_userfaultfd, O_CLOEXEC);
	size_t page = sysconf(_SC_PAGESIZE);
	char *pages = count > 0 ? make_pages(trap, count * page) : NULL;
	struct sender *senders = calloc(count, sizeof(*senders));
	struct uffd_msg message;

	if (!pages || !senders)
		return 2;
	for (int i = 0; i < count; i++) {
		pthread_t thread;

		senders[i] = (struct sender){ tcp_socket(), pages + i * page };
		if (strcmp(connect_and_speak(senders[i].fd, atoi(argv[1]), "word"), "spoke"))
			return 1;
		if (pthread_create(&thread, NULL, send_what_never_comes, &senders[i]))
			return 1;
	}
	for (int i = 0; i < count; i++)
		if (read(trap, &message, sizeof(message)) != sizeof(message))
			return 1;
	printf("holds %d\n", count);
	fflush(stdout);
	pause();
	return 0;
}
