/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A managed program that tries to get round its rules, one way after another,
 * with every privilege a program can have. Judges nothing: writes a line
 * "case outcome" for each; the test knows what each must be.
 *
 *	hostile_local all            the cases
 *	hostile_local serve          the server that it may reach
 *	hostile_local stranger       its accomplice, which no rule selects
 */
#include "hostile.h"
#include "hostile_local_race.h"
#include "hostile_local_stranger.h"

#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/kcm.h>
#include <netinet/ip.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "ring.h"

static const char *current;	/* the case: also the word that it tries to say */

static const char *ask_helper(const char *deed, int fd, int *given)
{
	static char text[WORD_MAX];
	struct sockaddr_un address = helper_address();
	int channel = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), none;

	snprintf(text, sizeof(text), "%s %s", deed, current);
	if (connect(channel, (struct sockaddr *)&address, sizeof(address)) || !pass(channel, text, fd) ||
	    !take(channel, text, sizeof(text), given ?: &none))
		strcpy(text, errno_word());
	close(channel);
	return text;
}

static const char *allowed(void) { return try_port(ALLOWED, current); }
static const char *denied(void) { return try_port(DENIED, current); }

/* ---- becoming another ---- */

/* In a child, whose outcome comes back through a pipe. */
static const char *in_child(const char *(*body)(void))
{
	static char outcome[WORD_MAX];
	int out[2], status;
	ssize_t n;
	pid_t pid;

	if (pipe(out))
		return errno_word();
	pid = fork();
	if (!pid) {
		const char *said = body();

		_exit(write(out[1], said, strlen(said)) < 0);
	}
	close(out[1]);
	n = read(out[0], outcome, sizeof(outcome) - 1);
	close(out[0]);
	waitpid(pid, &status, 0);
	outcome[n > 0 ? n : 0] = 0;
	return outcome;
}

static const char *fork_and_connect(void) { return in_child(denied); }

/* In the same memory. */
static const char *vfork_and_connect(void)
{
	static const char *outcome;
	pid_t pid = vfork();

	if (!pid) {
		outcome = denied();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return outcome;
}

static const char *exec_itself(void)
{
	char *argv[] = { MANAGED, "connect", (char *)current, NULL };

	return output_of(argv);
}

static const char *exec_stranger(void)
{
	char *argv[] = { STRANGER, "connect", (char *)current, NULL };

	return output_of(argv);
}

static const char *become_another_user(void)
{
	return setgid(1000) || setuid(1000) ? errno_word() : denied();
}

static const char *setuid_and_connect(void) { return in_child(become_another_user); }

static const char *dup_before_exec(void)
{
	char *argv[] = { STRANGER, "connect-passed", (char *)current, NULL };
	const char *outcome;

	dup2(tcp_socket(), PASSED_FD);
	outcome = output_of(argv);
	close(PASSED_FD);
	return outcome;
}

static const char *socket_over_exec(void) { return ask_helper("exec-unconnected", -1, NULL); }
static const char *connection_over_exec(void) { return ask_helper("exec-connected", -1, NULL); }

static const char *leave_namespace(int flag) { return unshare(flag) ? errno_word() : denied(); }
static const char *leave_user(void) { return leave_namespace(CLONE_NEWUSER); }
static const char *leave_net(void) { return leave_namespace(CLONE_NEWNET); }
static const char *leave_pid(void) { return unshare(CLONE_NEWPID) ? errno_word() : in_child(denied); }
static const char *unshare_user(void) { return in_child(leave_user); }
static const char *unshare_net(void) { return in_child(leave_net); }
static const char *unshare_pid(void) { return in_child(leave_pid); }

/* Away, and back by descriptor. */
static const char *there_and_back(void)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (home < 0 || unshare(CLONE_NEWNET) || setns(home, CLONE_NEWNET))
		return errno_word();
	return denied();
}

static const char *setns_net(void) { return in_child(there_and_back); }

/* Stops a child at the door of connect() to the allowed port, and makes another port of it. */
static const char *ptrace_rewrite(void)
{
	struct user_regs_struct registers;
	int out[2], status;
	char outcome_text[WORD_MAX] = {};
	static char outcome[WORD_MAX];
	pid_t pid;

	if (pipe(out))
		return errno_word();
	pid = fork();
	if (!pid) {
		const char *said;

		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		said = allowed();
		_exit(write(out[1], said, strlen(said)) < 0);
	}
	waitpid(pid, &status, 0);
	while (!ptrace(PTRACE_SYSCALL, pid, 0, 0) && waitpid(pid, &status, 0) == pid && !WIFEXITED(status)) {
		ptrace(PTRACE_GETREGS, pid, 0, &registers);
		if (registers.orig_rax == SYS_connect && (long)registers.rax == -ENOSYS) {
			long word = ptrace(PTRACE_PEEKDATA, pid, registers.rsi, 0);

			word = (word & ~0xffff0000l) | (long)htons(DENIED) << 16;
			ptrace(PTRACE_POKEDATA, pid, registers.rsi, word);
		}
	}
	close(out[1]);
	if (read(out[0], outcome_text, sizeof(outcome_text) - 1) < 0)
		return errno_word();
	close(out[0]);
	return strcpy(outcome, outcome_text);
}

/* ---- sockets of another ---- */

static const char *give_connection(void)
{
	struct sockaddr_in address = address_of(ALLOWED);
	int fd = tcp_socket();
	const char *outcome;

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return errno_word();
	outcome = ask_helper("speak", fd, NULL);
	close(fd);
	return outcome;
}

static const char *give_socket(void)
{
	int fd = tcp_socket();
	const char *outcome = ask_helper("connect", fd, NULL);

	close(fd);
	return outcome;
}

static const char *take_socket(void)
{
	int fd = -1;

	ask_helper("give-unconnected", -1, &fd);
	return connect_and_speak(fd, DENIED, current);
}

static const char *take_connection(void)
{
	int fd = -1;

	ask_helper("give-connected", -1, &fd);
	return speak(fd, current);
}

static int fetch(bool connected)
{
	int pid = 0, first = -1, second = -1, pidfd;

	sscanf(ask_helper("show", -1, NULL), "%d %d %d", &pid, &first, &second);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	return syscall(SYS_pidfd_getfd, pidfd, connected ? first : second, 0);
}

static const char *pidfd_socket(void) { return connect_and_speak(fetch(false), DENIED, current); }
static const char *pidfd_connection(void) { return speak(fetch(true), current); }

/* ---- other hands: io_uring's threads ---- */

static int ring_result(struct ring *ring, bool polled)
{
	struct io_uring_cqe *cqe;
	int result;

	__atomic_store_n(ring->sq_tail, *ring->sq_tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS | (polled ? IORING_ENTER_SQ_WAKEUP : 0),
		    NULL, 0) < 0)
		return -errno;
	while (*ring->cq_head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
		usleep(1000);
	cqe = &ring->cqes[*ring->cq_head & *ring->cq_mask];
	result = cqe->res;
	__atomic_store_n(ring->cq_head, *ring->cq_head + 1, __ATOMIC_RELEASE);
	return result;
}

static const char *ring_connect(unsigned int setup, bool makes_socket)
{
	struct sockaddr_in address = address_of(DENIED);
	struct io_uring_sqe *sqe;
	struct ring ring;
	int fd = makes_socket ? -1 : tcp_socket(), result;

	if (!open_ring_with(&ring, setup))
		return errno_word();
	if (makes_socket) {
		sqe = next_entry(&ring, IORING_OP_SOCKET, AF_INET);
		sqe->off = SOCK_STREAM;
		sqe->flags = IOSQE_ASYNC;
		fd = ring_result(&ring, setup & IORING_SETUP_SQPOLL);
	}
	sqe = next_entry(&ring, IORING_OP_CONNECT, fd);
	sqe->addr = (uintptr_t)&address;
	sqe->off = sizeof(address);
	sqe->flags = IOSQE_ASYNC;
	result = fd < 0 ? fd : ring_result(&ring, setup & IORING_SETUP_SQPOLL);
	errno = -result;
	return result ? errno_word() : speak(fd, current);
}

static const char *uring_worker(void) { return ring_connect(0, false); }
static const char *uring_poller(void) { return ring_connect(IORING_SETUP_SQPOLL, false); }
static const char *uring_socket(void) { return ring_connect(0, true); }

/* ---- options of a socket ---- */

static const char *fastopen_send(void)
{
	struct sockaddr_in address = address_of(DENIED);
	int fd = tcp_socket();
	ssize_t n = sendto(fd, current, strlen(current), MSG_FASTOPEN, (struct sockaddr *)&address, sizeof(address));

	return n < 0 ? errno_word() : "sent";
}

static const char *fastopen_option(void)
{
	int fd = tcp_socket(), one = 1;

	return setsockopt(fd, SOL_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)) ? errno_word() :
	       connect_and_speak(fd, DENIED, current);
}

/* On a connection under an identity. */
static int mutual_socket(void)
{
	struct sockaddr_in address = address_of(ALLOWED);
	int fd = tcp_socket();

	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -1 : fd;
}

static const char *set_option(int level, int name, const void *value, socklen_t len)
{
	return setsockopt(mutual_socket(), level, name, value, len) ? errno_word() : "set";
}

static const char *tcp_ulp(void) { return set_option(SOL_TCP, TCP_ULP, "tls", 4); }
static const char *tcp_repair(void) { return set_option(SOL_TCP, TCP_REPAIR, &(int){ 1 }, sizeof(int)); }
static const char *sol_tls(void) { return set_option(282, 1, &(char[40]){ 4, 3 }, 40); }

/* An eBPF program that lets everything pass; where it parses messages, each is as long as what has come. */
static int load_filter(void)
{
	static const struct bpf_insn pass_all[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1 }, { .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attributes = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insns = (uintptr_t)pass_all, .insn_cnt = 2,
		.license = (uintptr_t)"GPL",
	};

	return syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes));
}

/* May it be there, and does the connection go on? */
static const char *attach_bpf(void)
{
	int program = load_filter(), fd = mutual_socket();

	if (program < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)))
		return errno_word();
	return speak(fd, current);
}

/* A map of sockets puts its own operations between a program and TCP. */
static const char *sockmap(void)
{
	union bpf_attr map = { .map_type = BPF_MAP_TYPE_SOCKMAP, .key_size = 4, .value_size = 4, .max_entries = 1 };
	int made = syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof(map)), fd = mutual_socket(), key = 0;
	union bpf_attr update = { .map_fd = made, .key = (uintptr_t)&key, .value = (uintptr_t)&fd };

	if (made < 0 || syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &update, sizeof(update)))
		return errno_word();
	return "joined";
}

/* A multiplexer of messages, which writes TCP by itself: is what comes through it under the identity, or in the clear? */
static const char *kcm_attached(void)
{
	int mux = socket(AF_KCM, SOCK_SEQPACKET, KCMPROTO_CONNECTED), fd = mutual_socket();
	struct kcm_attach attach = { .fd = fd, .bpf_fd = load_filter() };
	struct kcm_unattach unattach = { .fd = fd };
	const struct timeval patience = { .tv_sec = 2 };
	char back[WORD_MAX] = {};

	if (mux < 0 || ioctl(mux, SIOCKCMATTACH, &attach) || send(mux, current, strlen(current), MSG_EOR) < 0)
		return errno_word();
	usleep(500000);
	if (ioctl(mux, SIOCKCMUNATTACH, &unattach))
		return errno_word();
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return read(fd, back, sizeof(back) - 1) <= 0 ? errno_word() : strcmp(back, current) ? "garbled" : "spoke";
}

/* Disconnects, and connects elsewhere. */
static const char *reconnect(void)
{
	const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
	int fd = mutual_socket();

	if (connect(fd, &nowhere, sizeof(nowhere)))
		return errno_word();
	return connect_and_speak(fd, DENIED, current);
}

/* ---- one socket, several threads; and what TCP makes of an address ---- */

static const char *race_connect(void) { return race_after_failure(current); }
static const char *race_send(void) { return race_with_sender(current); }
static const char *unspecified_v4(void) { return unspecified_from(AF_INET, current); }
static const char *unspecified_mapped(void) { return unspecified_from(AF_INET6, current); }

/* ---- other protocols ---- */

static const char *udp(void)
{
	struct sockaddr_in address = address_of(DENIED);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	return sendto(fd, current, strlen(current), 0, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno_word() : "sent";
}

static const char *raw_tcp(void)
{
	struct sockaddr_in address = address_of(0);
	struct tcphdr segment = { .source = htons(40000), .dest = htons(DENIED), .doff = 5, .syn = 1 };
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);

	if (fd < 0)
		return errno_word();
	return sendto(fd, &segment, sizeof(segment), 0, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno_word() : "sent";
}

static const char *packet(void) { return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? errno_word() : "opened"; }
static const char *mptcp(void) { return socket(AF_INET, SOCK_STREAM, 262) < 0 ? errno_word() : "opened"; }

static const char *drop_and_go_raw(void)
{
	return setgid(1000) || setuid(1000) ? errno_word() : raw_tcp();
}

static const char *raw_without_right(void) { return in_child(drop_and_go_raw); }

/* Rides on a TCP socket of the kernel's, which connects for the program. */
static const char *smc_socket(void)
{
	return connect_and_speak(socket(AF_SMC, SOCK_STREAM, 0), DENIED, current);
}

static const char *vsock(void)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = 1 /* this machine */, .svm_port = DENIED };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return errno_word();
	return speak(fd, current);
}

#define CASE(name)	{ #name, name }

static const struct {
	const char *name;
	const char *(*run)(void);
} cases[] = {
	CASE(allowed), CASE(denied), CASE(fork_and_connect), CASE(vfork_and_connect), CASE(exec_itself), CASE(exec_stranger),
	CASE(setuid_and_connect), CASE(dup_before_exec), CASE(socket_over_exec), CASE(connection_over_exec),
	CASE(unshare_user), CASE(unshare_net), CASE(unshare_pid), CASE(setns_net), CASE(ptrace_rewrite),
	CASE(give_connection), CASE(give_socket), CASE(take_socket), CASE(take_connection), CASE(pidfd_socket),
	CASE(pidfd_connection), CASE(uring_worker), CASE(uring_poller), CASE(uring_socket), CASE(fastopen_send),
	CASE(fastopen_option), CASE(tcp_ulp), CASE(tcp_repair), CASE(sol_tls), CASE(attach_bpf), CASE(sockmap),
	CASE(kcm_attached), CASE(reconnect), CASE(smc_socket), CASE(udp), CASE(raw_tcp), CASE(packet), CASE(mptcp), CASE(raw_without_right), CASE(vsock),
	CASE(unspecified_v4), CASE(unspecified_mapped), CASE(race_connect), CASE(race_send),
};

int main(int argc, char **argv)
{
	const char *deed = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(deed, "stranger"))
		return be_stranger();
	if (!strcmp(deed, "serve")) {
		if (!serve_tcp(ALLOWED, false))
			return 1;
		return pause();
	}
	if (argc > 2 && !strcmp(deed, "connect"))
		return !puts(try_port(DENIED, argv[2]));
	if (argc > 2 && !strcmp(deed, "connect-passed"))
		return !puts(connect_and_speak(PASSED_FD, DENIED, argv[2]));
	if (argc > 2 && !strcmp(deed, "speak-passed"))
		return !puts(speak(PASSED_FD, argv[2]));
	if (strcmp(deed, "all"))
		return 2;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		current = cases[i].name;
		printf("%s %s\n", current, cases[i].run());
	}
	return 0;
}
