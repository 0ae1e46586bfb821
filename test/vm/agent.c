// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Process 1 of a laboratory VM (or the child of it that stays, where systemd is to be process 1): mounts the root file system, then
 * runs programs for the host over one virtio-serial port.
 * Never decides anything about a test, never speaks to the network.
 *
 * Both directions carry frames: struct frame, then `length` bytes. A channel is one process, numbered by the host.
 * Standard input is flow controlled by CREDIT; standard output is not, because the host always reads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <grp.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL_COUNT	64		/* processes at once; a test that needs more has lost track of some */
#define FRAME_MAX	(128 * 1024)	/* payload: a START with its environment, or one piece of a stream */
#define PIECE_MAX	32768		/* bytes of one read from a program */
#define INPUT_MAX	(256 * 1024)	/* standard input that waits for a program; the host never sends more without CREDIT */
#define STRING_COUNT	256		/* argv and environment entries of one START */

enum frame_type {
	START = 1, INPUT = 2, INPUT_END = 3, SIGNAL = 4, POWER_OFF = 5,
	STARTED = 65, OUTPUT = 66, ERROR = 67, EXITED = 68, CREDIT = 69, READY = 70,
};

struct frame {
	uint32_t channel;
	uint32_t type;
	uint32_t length;
};

/* START: this, then argv, then the environment, each string with its NUL. */
struct start {
	uint32_t uid;
	uint32_t gid;
	uint32_t argument_count;
	uint32_t environment_count;
};

struct channel {
	bool used;
	uint32_t id;
	pid_t pid;
	int in, out, err;
	char *input;		/* INPUT_MAX bytes, of which input_length wait */
	size_t input_length;
	bool input_ended;
};

static struct channel channels[CHANNEL_COUNT];
static char frame_bytes[FRAME_MAX];
static int port = -1;
static int child_pipe[2];

static void die(const char *what)
{
	fprintf(stderr, "riprap laboratory: %s: %s\n", what, strerror(errno));
	sync();
	reboot(RB_POWER_OFF);
	_exit(1);
}

static void must_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, data))
		die(target);
}

/* The initramfs holds /modules/NN-name.ko in the order of their dependencies, already decompressed by the host. */
static void load_boot_modules(void)
{
	struct dirent **names;
	char path[512];
	int count = scandir("/modules", &names, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			die(path);
		close(fd);
	}
}

static void wait_for(const char *path)
{
	for (int i = 0; i < 500; i++) {
		if (!access(path, F_OK))
			return;
		usleep(20000);
	}
	errno = ENODEV;
	die(path);
}

/*
 * vda: programs; vdb: the kernel's modules; vdc and on: the layers that the host names, each above those before. All read-only,
 * under one tmpfs that dies with the VM.
 */
static void enter_root(char **layers, int layer_count)
{
	char device[] = "/dev/vdc", path[64], lower[256] = "/kernel:/programs", options[512];

	must_mount("/dev/vda", "/programs", "ext4", MS_RDONLY, "");
	must_mount("/dev/vdb", "/kernel", "ext4", MS_RDONLY, "");
	for (int i = 0; i < layer_count; i++) {
		char below[sizeof(lower)];

		device[sizeof(device) - 2] = 'c' + i;
		wait_for(device);
		snprintf(path, sizeof(path), "/%s", layers[i]);
		must_mount(device, path, "ext4", MS_RDONLY, "");
		memcpy(below, lower, sizeof(below));
		if ((size_t)snprintf(lower, sizeof(lower), "%s:%s", path, below) >= sizeof(lower)) {
			errno = ENAMETOOLONG;
			die("layers");
		}
	}
	must_mount("tmpfs", "/upper", "tmpfs", 0, "size=75%");
	mkdir("/upper/data", 0755);
	mkdir("/upper/work", 0755);
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=/upper/data,workdir=/upper/work", lower);
	must_mount("overlay", "/root", "overlay", 0, options);
	mkdir("/root/dev", 0755);
	mkdir("/root/proc", 0755);
	mkdir("/root/sys", 0755);
	if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) || mount("/proc", "/root/proc", NULL, MS_MOVE, NULL) ||
	    mount("/sys", "/root/sys", NULL, MS_MOVE, NULL))
		die("move mounts");
	if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		die("switch root");
	must_mount("tmpfs", "/run", "tmpfs", 0, "mode=755");
	must_mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777");
	must_mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777");
	must_mount("devpts", "/dev/pts", "devpts", 0, "mode=620,ptmxmode=666");
	must_mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "");
	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, "");
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
}

static void write_whole(const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length) {
		ssize_t written = write(port, at, length);
		if (written < 0 && (errno == EINTR || errno == EAGAIN)) {
			poll(&(struct pollfd){ .fd = port, .events = POLLOUT }, 1, 100);
			continue;
		}
		if (written < 0)
			die("write to the port");
		at += written;
		length -= written;
	}
}

static void send_frame(uint32_t channel, uint32_t type, const void *payload, uint32_t length)
{
	static char out[sizeof(struct frame) + PIECE_MAX];
	struct frame head = { .channel = channel, .type = type, .length = length };

	memcpy(out, &head, sizeof(head));
	memcpy(out + sizeof(head), payload, length);
	write_whole(out, sizeof(head) + length);
}

static void read_whole(void *bytes, size_t length)
{
	char *at = bytes;

	while (length) {
		ssize_t got = read(port, at, length);
		if (got <= 0) {
			if (got < 0 && errno != EINTR && errno != EAGAIN)
				die("read from the port");
			poll(&(struct pollfd){ .fd = port, .events = POLLIN }, 1, 100);
			continue;
		}
		at += got;
		length -= got;
	}
}

static struct channel *find_channel(uint32_t id)
{
	for (int i = 0; i < CHANNEL_COUNT; i++)
		if (channels[i].used && channels[i].id == id)
			return &channels[i];
	return NULL;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Splits the strings of a START; returns false when the frame does not hold as many as it says. */
static bool split_strings(char *at, const char *end, char **strings, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		char *nul = memchr(at, 0, end - at);
		if (!nul)
			return false;
		strings[i] = at;
		at = nul + 1;
	}
	return true;
}

static void exec_program(const struct start *start, char **argv, char **environment, const int *fds)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	for (int i = 0; i < 3; i++)
		dup2(fds[i], i);
	if (start->gid && (setgroups(0, NULL) || setgid(start->gid)))
		_exit(126);
	if (start->uid && setuid(start->uid))
		_exit(126);
	environ = environment;
	execvp(argv[0], argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static void refuse_start(uint32_t id, const char *why)
{
	int32_t status = 125 << 8;

	send_frame(id, ERROR, why, strlen(why));
	send_frame(id, EXITED, &status, sizeof(status));
}

static void start_program(uint32_t id, char *payload, uint32_t length)
{
	char *strings[STRING_COUNT + 2] = { 0 };
	struct channel *channel = NULL;
	struct start start;
	int in[2], out[2], err[2];

	memcpy(&start, payload, sizeof(start));
	uint32_t arguments = start.argument_count, environments = start.environment_count;
	if (length < sizeof(start) || !arguments || arguments > STRING_COUNT || environments > STRING_COUNT - arguments ||
	    !split_strings(payload + sizeof(start), payload + length, strings, arguments + environments))
		return refuse_start(id, "laboratory: malformed START\n");
	/* Makes room for the NULL between argv and the environment. */
	memmove(&strings[arguments + 1], &strings[arguments], environments * sizeof(char *));
	strings[arguments] = NULL;
	for (int i = 0; i < CHANNEL_COUNT && !channel; i++)
		if (!channels[i].used)
			channel = &channels[i];
	if (!channel)
		return refuse_start(id, "laboratory: more programs at once than the agent holds\n");
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		die("pipe");
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		exec_program(&start, strings, &strings[arguments + 1], (int[]){ in[0], out[1], err[1] });
	close(in[0]);
	close(out[1]);
	close(err[1]);
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	*channel = (struct channel){ .used = true, .id = id, .pid = pid, .in = in[1], .out = out[0], .err = err[0],
				     .input = malloc(INPUT_MAX) };
	send_frame(id, STARTED, &pid, sizeof(pid));
}

static void push_input(struct channel *channel)
{
	while (channel->input_length) {
		ssize_t written = write(channel->in, channel->input, channel->input_length);
		if (written < 0 && errno == EAGAIN)
			return;
		/* A program that closed its input swallows the rest, as a shell's pipe would. */
		size_t past = written < 0 ? channel->input_length : (size_t)written;
		uint32_t done = past;
		memmove(channel->input, channel->input + done, channel->input_length - done);
		channel->input_length -= done;
		send_frame(channel->id, CREDIT, &done, sizeof(done));
	}
	if (channel->input_ended)
		close_fd(&channel->in);
}

static void take_input(struct channel *channel, const char *payload, uint32_t length)
{
	if (channel->in < 0) {
		send_frame(channel->id, CREDIT, &length, sizeof(length));
		return;
	}
	if (length > INPUT_MAX - channel->input_length) {
		errno = ENOBUFS;
		die("the host sent past its credit");
	}
	memcpy(channel->input + channel->input_length, payload, length);
	channel->input_length += length;
	push_input(channel);
}

static void take_frame(void)
{
	struct channel *channel;
	struct frame head;
	int32_t number;

	read_whole(&head, sizeof(head));
	if (head.length > FRAME_MAX) {
		errno = EMSGSIZE;
		die("frame");
	}
	read_whole(frame_bytes, head.length);
	if (head.type == START)
		return start_program(head.channel, frame_bytes, head.length);
	if (head.type == POWER_OFF) {
		sync();
		reboot(RB_POWER_OFF);
	}
	channel = find_channel(head.channel);
	if (!channel)
		return;
	if (head.type == INPUT)
		take_input(channel, frame_bytes, head.length);
	if (head.type == INPUT_END) {
		channel->input_ended = true;
		push_input(channel);
	}
	if (head.type == SIGNAL && head.length == sizeof(number)) {
		memcpy(&number, frame_bytes, sizeof(number));
		/* A negative number is for the whole process group, which START made. */
		kill(number < 0 ? -channel->pid : channel->pid, number < 0 ? -number : number);
	}
}

/* Returns false when nothing was there to read. */
static bool forward_output(struct channel *channel, int *fd, uint32_t type)
{
	static char piece[PIECE_MAX];
	ssize_t got = *fd < 0 ? -1 : read(*fd, piece, sizeof(piece));

	if (got > 0)
		send_frame(channel->id, type, piece, got);
	if (!got)
		close_fd(fd);
	return got > 0;
}

/* What a program wrote before it ended is forwarded; what its orphans write later is not waited for. */
static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < CHANNEL_COUNT; i++) {
			struct channel *channel = &channels[i];
			if (!channel->used || channel->pid != pid)
				continue;
			while (forward_output(channel, &channel->out, OUTPUT))
				;
			while (forward_output(channel, &channel->err, ERROR))
				;
			close_fd(&channel->in);
			close_fd(&channel->out);
			close_fd(&channel->err);
			free(channel->input);
			channel->used = false;
			send_frame(channel->id, EXITED, &status, sizeof(status));
		}
	}
}

static void note_child(int signal_number)
{
	int saved = errno;

	(void)signal_number;
	if (write(child_pipe[1], "", 1) < 0) {
		/* Full: a wake-up is already on its way. */
	}
	errno = saved;
}

static void serve_channel(struct channel *channel, int fd, short events)
{
	if (!channel->used || !events)
		return;
	if (fd == channel->in)
		push_input(channel);
	else if (fd == channel->out)
		forward_output(channel, &channel->out, OUTPUT);
	else if (fd == channel->err)
		forward_output(channel, &channel->err, ERROR);
}

static void serve(void)
{
	struct pollfd polled[2 + 3 * CHANNEL_COUNT];
	struct channel *owner[2 + 3 * CHANNEL_COUNT];
	char drained[64];

	for (;;) {
		int count = 2;
		polled[0] = (struct pollfd){ .fd = port, .events = POLLIN };
		polled[1] = (struct pollfd){ .fd = child_pipe[0], .events = POLLIN };
		for (int i = 0; i < CHANNEL_COUNT; i++) {
			struct channel *channel = &channels[i];
			if (!channel->used)
				continue;
			int fds[3] = { channel->out, channel->err, channel->input_length ? channel->in : -1 };
			for (int j = 0; j < 3; j++) {
				if (fds[j] < 0)
					continue;
				polled[count] = (struct pollfd){ .fd = fds[j], .events = j == 2 ? POLLOUT : POLLIN };
				owner[count++] = channel;
			}
		}
		if (poll(polled, count, -1) < 0)
			continue;
		for (int i = 2; i < count; i++)
			serve_channel(owner[i], polled[i].fd, polled[i].revents);
		if (polled[1].revents) {
			while (read(child_pipe[0], drained, sizeof(drained)) > 0)
				;
			reap();
		}
		if (polled[0].revents & POLLIN)
			take_frame();
		else if (polled[0].revents)
			usleep(20000); /* the host is not connected yet, or gone */
	}
}

/* Returns in a child; process 1 goes on as systemd, which takes children that it did not start as they are. */
static void leave_process_1_to_systemd(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		setsid();
		return;
	}
	execl("/lib/systemd/systemd", "systemd", NULL);
	die("/lib/systemd/systemd");
}

/* The kernel hands what follows "--" on its command line to process 1: the names of the layers. */
int main(int argc, char **argv)
{
	int layer_count = argc > 1 ? argc - 1 : 0;
	struct utsname name;

	must_mount("devtmpfs", "/dev", "devtmpfs", 0, "");
	must_mount("proc", "/proc", "proc", 0, "");
	must_mount("sysfs", "/sys", "sysfs", 0, "");
	load_boot_modules();
	wait_for("/dev/vda");
	wait_for("/dev/vdb");
	wait_for("/dev/vport0p1");
	enter_root(argv + 1, layer_count);
	if (layer_count && !strcmp(argv[layer_count], "systemd"))
		leave_process_1_to_systemd();
	port = open("/dev/vport0p1", O_RDWR | O_CLOEXEC);
	if (port < 0)
		die("/dev/vport0p1");
	if (pipe2(child_pipe, O_CLOEXEC | O_NONBLOCK))
		die("pipe");
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = note_child, .sa_flags = SA_RESTART }, NULL);
	uname(&name);
	send_frame(0, READY, name.release, strlen(name.release));
	serve();
}
