// SPDX-License-Identifier: Apache-2.0
/*
 * The module through its device, with real processes and sockets and with this
 * program as the daemon: what it says of processes, what it holds them to, and
 * what stays when the daemon is gone.
 *
 *	device              all cases; "device: N passed, N failed" at the end
 *	riprap-child …      a process under test, named by a filter of the table
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "device.h"

#define CLIENT		7	/* subjects of the table */
#define SERVER		8
#define ALLOWED_PORT	8080
#define DENIED_PORT	8081
#define CHILD		"/tmp/riprap-child"
#define SCRIPT		"/tmp/riprap-script"
#define CLIENT_ID	"spiffe://device.test/client"
#define SERVER_ID	"spiffe://device.test/server"

/* ---- a process under test: one letter on standard input is one deed, an int on descriptor 3 its result ---- */

static struct sockaddr_in address_of(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

/* 0 when a byte went there and came back, else errno. */
static int connect_and_echo(int port)
{
	struct sockaddr_in address = address_of(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char byte = 'x';
	int error = 0;

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) || write(fd, &byte, 1) != 1)
		error = errno;
	else if (read(fd, &byte, 1) != 1)
		error = ECONNRESET;
	close(fd);
	return error;
}

static int fork_and_echo(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(connect_and_echo(ALLOWED_PORT) ? 6 : 5);
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static int deed(char letter, char **argv)
{
	switch (letter) {
	case 'c':
		return connect_and_echo(ALLOWED_PORT);
	case 'd':
		return connect_and_echo(DENIED_PORT);
	case 'f':
		return fork_and_echo();
	case 'u':
		if (setgid(4242) || setuid(4242))
			return -1;
		return connect_and_echo(ALLOWED_PORT);
	case 'l':	/* lie: what /proc says from now on */
		memset(argv[1], 'L', strlen(argv[1]));
		return prctl(PR_SET_NAME, "liar");
	case 'x':
		execl(CHILD, "riprap-child", "anew", NULL);
		return errno;
	case 's':
		execl(SCRIPT, SCRIPT, "argument", NULL);
		return errno;
	}
	return -1;
}

static int be_child(char **argv)
{
	char letter;
	int result;

	while (read(0, &letter, 1) == 1) {
		result = deed(letter, argv);
		if (write(3, &result, sizeof(result)) != sizeof(result))
			return 1;
	}
	return 0;
}

static int be_server(void)
{
	struct sockaddr_in address = address_of(ALLOWED_PORT);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
	char byte;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 64))
		return 1;
	while ((peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno != EBADF) {
		if (read(peer, &byte, 1) == 1 && write(peer, &byte, 1) == 1)
			(void)!read(peer, &byte, 1);
		close(peer);
	}
	return 0;
}

struct child {
	pid_t pid;
	int in, out;
};

static struct child start_child(const char *argument)
{
	int in[2], out[2];
	struct child child;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		exit(1);
	child = (struct child){ .pid = fork(), .in = in[1], .out = out[0] };
	if (child.pid)
		goto out_close;
	dup2(in[0], 0);
	dup2(out[1], 3);
	execl(CHILD, "riprap-child", argument, NULL);
	_exit(127);
out_close:
	close(in[0]);
	close(out[1]);
	return child;
}

static void tell(const struct child *child, char letter)
{
	if (write(child->in, &letter, 1) != 1)
		CHECK_THAT(false, "the child is gone");
}

static void end_child(struct child *child)
{
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	close(child->in);
	close(child->out);
}

/* ---- the daemon ---- */

/* What it does by itself while a case waits for something else. */
static struct {
	bool assigns, signs, verifies;
	pid_t server;
	int verify_count;
	struct riprap_flow_event last_client_flow, last_denied;
} policy = { .assigns = true, .signs = true, .verifies = true };

static struct riprap_process_facts facts;	/* of the last PROCESS frame, with its tail */
static char fact_text[RIPRAP_FRAME_MAX];

static const char *fact_exe(void) { return fact_text + facts.comm_len; }
static const char *fact_script(void) { return fact_exe() + facts.exe_len; }
static const char *fact_argv(void) { return fact_script() + facts.script_len; }
static const char *fact_cgroup(void) { return fact_argv() + facts.argv_len; }

static void see_process(void)
{
	bool is_server;

	facts = device.body.facts;
	memcpy(fact_text, device.body.bytes + sizeof(facts), device.head.length - sizeof(facts));
	is_server = facts.pid == (uint32_t)policy.server;
	if (facts.flags & RIPRAP_PROCESS_WANTS_ANSWER && policy.assigns)
		put_assign(facts.instance, is_server ? SERVER : CLIENT, is_server ? SERVER_ID : CLIENT_ID);
}

static void see_flow(void)
{
	const struct riprap_flow_event *flow = &device.body.flow;

	if (flow->state == RIPRAP_FLOW_DENIED)
		policy.last_denied = *flow;
	if (flow->state == RIPRAP_FLOW_OPEN && !(flow->flags & RIPRAP_FLOW_INBOUND))
		policy.last_client_flow = *flow;
}

static void act(void)
{
	struct riprap_key key;

	switch (device.head.type) {
	case RIPRAP_PROCESS:
		see_process();
		break;
	case RIPRAP_KEY:
		key = device.body.key;
		if (policy.signs)
			put_svid(&key, false, 300);
		break;
	case RIPRAP_VERIFY:
		policy.verify_count++;
		if (policy.verifies)
			put_verified(device.body.verify.peer_is_server ? SERVER_ID : CLIENT_ID);
		break;
	case RIPRAP_FLOW:
		see_flow();
		break;
	}
}

static bool wait_frame(uint16_t type)
{
	while (device_next(ANSWER_MS)) {
		act();
		if (device.head.type == type)
			return true;
	}
	CHECK_THAT(false, "no frame of type %#x", type);
	return false;
}

static bool wait_process(pid_t pid)
{
	while (wait_frame(RIPRAP_PROCESS))
		if (facts.pid == (uint32_t)pid)
			return true;
	return false;
}

static bool wait_exit(uint64_t instance)
{
	while (wait_frame(RIPRAP_PROCESS_EXIT))
		if (device.body.exit.instance == instance)
			return true;
	return false;
}

/* An ACK of this kind; those of SVIDs signed on the way are passed over. */
static int wait_ack(uint32_t what)
{
	while (wait_frame(RIPRAP_ACK))
		if (device.body.ack.what == what)
			return device.body.ack.error;
	return 1;
}

/* The child does what it was told while the daemon works. */
static int await_result(const struct child *child)
{
	struct pollfd ready[] = { { .fd = child->out, .events = POLLIN }, { .fd = device.fd, .events = POLLIN } };
	int result = -2;

	for (;;) {
		if (poll(ready, device.fd < 0 ? 1 : 2, ANSWER_MS) <= 0)
			return -3;
		if (ready[0].revents) {
			if (read(child->out, &result, sizeof(result)) != sizeof(result))
				result = -4;
			break;
		}
		while (device_next(0))
			act();
	}
	while (device.fd >= 0 && device_next(0))
		act();
	return result;
}

static int result_of(const struct child *child, char letter)
{
	tell(child, letter);
	return await_result(child);
}

static void start_daemon(uint8_t unknown_mode, uint32_t attest_timeout_ms)
{
	const struct riprap_start start = {
		.abi = RIPRAP_ABI_VERSION, .unknown_mode = unknown_mode, .attest_timeout_ms = attest_timeout_ms,
		.handshake_timeout_ms = 20000, .sniff_timeout_ms = 500,
	};

	CHECK(PUT(RIPRAP_START, start) == 0);
	CHECK(wait_ack(RIPRAP_ACK_START) == 0);
}

static void stop_daemon(void)
{
	close(device.fd);
	device.fd = -1;
}

/* Two subjects that may meet at one port, and a filter for our children and their script. */
static size_t build_table(uint8_t *out, uint64_t generation, uint8_t action)
{
	static const char strings[] = "riprap-childriprap-script";
	const struct riprap_table head = {
		.magic = RIPRAP_TABLE_MAGIC, .version = RIPRAP_ABI_VERSION, .generation = generation,
		.subjects = 2, .rules = 2, .filters = 2, .string_bytes = sizeof(strings) - 1,
	};
	const struct riprap_table_subject subjects[] = {
		{ .subject = CLIENT, .egress_mode = RIPRAP_MODE_ENFORCE },
		{ .subject = SERVER, .ingress_mode = RIPRAP_MODE_ENFORCE },
	};
	const struct riprap_table_rule rules[] = {
		{ .number = 31, .subject = CLIENT, .port = ALLOWED_PORT, .port_bits = 16, .action = action },
		{ .number = 32, .subject = SERVER, .port = ALLOWED_PORT, .port_bits = 16, .inbound = 1,
		  .action = RIPRAP_ACTION_MUTUAL },
	};
	const struct riprap_table_filter filters[] = {
		{ .has = RIPRAP_FILTER_NAME, .name = 0, .name_len = 12 },
		{ .has = RIPRAP_FILTER_NAME, .name = 12, .name_len = 13 },
	};
	const struct riprap_part { const void *data; size_t len; } parts[] = {
		{ &head, sizeof(head) }, { subjects, sizeof(subjects) }, { rules, sizeof(rules) },
		{ filters, sizeof(filters) }, { strings, sizeof(strings) - 1 },
	};
	size_t len = 0, i;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); len += parts[i].len, i++)
		memcpy(out + len, parts[i].data, parts[i].len);
	return len;
}

/* ---- cases, in order: each leaves what the next begins with ---- */

struct trust_frame {
	struct riprap_frame head;
	struct riprap_trust body;
};

static int put_raw(const void *frame, size_t len)
{
	return write(device.fd, frame, len) < 0 ? -errno : 0;
}

/* One thing wrong with each: none is acted on, none counts as received, and the next good one is taken. */
static void case_frames(void)
{
	const struct trust_frame good = {
		.head = { .magic = RIPRAP_ABI_MAGIC, .version = RIPRAP_ABI_VERSION, .type = RIPRAP_TRUST,
			  .length = sizeof(good.body), .sequence = device.sent + 1 },
		.body = { .generation = 1 },
	};
	struct trust_frame bad[10];
	size_t i;

	for (i = 0; i < 10; i++)
		bad[i] = good;
	bad[0].head.magic ^= 1;
	bad[1].head.version++;
	bad[2].head.type = 0;
	bad[3].head.type = 0xffff;
	bad[4].head.length--;
	bad[5].head.length++;
	bad[6].head.length = ~0u;
	bad[7].head.flags = 1;
	bad[8].head.sequence++;
	bad[9].head.sequence--;
	for (i = 0; i < 10; i++)
		CHECK_THAT(put_raw(&bad[i], sizeof(bad[i])) == -EINVAL, "frame %zu", i);
	for (i = 1; i < sizeof(good); i++)
		CHECK_THAT(put_raw(&good, i) == -EINVAL, "%zu bytes of a frame", i);
	CHECK(put_raw(NULL, sizeof(good)) == -EFAULT);
	CHECK(put_raw(&good, (1 << 20) + 1) == -EMSGSIZE);
}

static void case_open(void)
{
	const struct riprap_trust trust = { .generation = 1 };

	device_open();
	CHECK(open("/dev/riprap", O_RDWR) < 0 && errno == EBUSY);
	CHECK(wait_frame(RIPRAP_HELLO) && device.body.hello.abi == RIPRAP_ABI_VERSION);
	CHECK(PUT(RIPRAP_TRUST, trust) == -EPROTO);
	CHECK(device_put(0x55, NULL, 0, NULL, 0) == -EINVAL);
	CHECK(device_put(RIPRAP_TRUST, &trust, sizeof(trust), "x", 1) == -EINVAL);
	case_frames();
	start_daemon(RIPRAP_MODE_ENFORCE, 2000);
	CHECK(PUT(RIPRAP_TRUST, trust) == 0 && wait_ack(RIPRAP_ACK_TRUST) == 0);
	CHECK(device_put(RIPRAP_WAKE, NULL, 0, NULL, 0) == 0 &&
	      read(device.fd, device.buffer, sizeof(device.buffer)) == 0);
}

static void case_table(void)
{
	uint8_t table[1024];
	size_t len = build_table(table, 1, RIPRAP_ACTION_MUTUAL);

	table[len - 1] = 0;
	put_table(1, table, len);
	CHECK(wait_ack(RIPRAP_ACK_TABLE) == -EINVAL);
	len = build_table(table, 1, RIPRAP_ACTION_MUTUAL);
	put_table(1, table, len);
	CHECK(wait_ack(RIPRAP_ACK_TABLE) == 0 && device.body.ack.generation == 1);
	put_table(1, table, len);
	CHECK(wait_ack(RIPRAP_ACK_TABLE) == -ESTALE);
}

/* Executed before any table: the facts are of its exec all the same. */
static void case_liar(struct child *liar)
{
	const struct riprap_adopt adopt = { .pid = liar->pid };

	policy.assigns = false;
	CHECK(result_of(liar, 'l') == 0);
	CHECK(PUT(RIPRAP_ADOPT, adopt) == 0 && wait_process(liar->pid));
	CHECK_THAT(facts.cause == RIPRAP_CAUSE_EXEC, "cause %u", facts.cause);
	CHECK(facts.comm_len == 12 && !memcmp(fact_text, "riprap-child", 12));
	CHECK(facts.argv_len == 19 && !memcmp(fact_argv(), "riprap-child\0early", 19));
	CHECK(wait_ack(RIPRAP_ACK_ADOPT) == 0);
	policy.assigns = true;
	end_child(liar);
	CHECK(wait_exit(facts.instance) && device.body.exit.exit_code == SIGKILL);
}

static void case_adopt(void)
{
	struct riprap_adopt adopt = { .pid = 2 };

	CHECK_THAT(PUT(RIPRAP_ADOPT, adopt) == 0 && wait_ack(RIPRAP_ACK_ADOPT) == -ESRCH, "a kernel thread");
	adopt = (struct riprap_adopt){ .pid = getpid(), .start_time_ns = 1 };
	CHECK_THAT(PUT(RIPRAP_ADOPT, adopt) == 0 && wait_ack(RIPRAP_ACK_ADOPT) == -ESRCH, "another start time");
	policy.assigns = false;
	adopt = (struct riprap_adopt){ .pid = 1 };
	CHECK(PUT(RIPRAP_ADOPT, adopt) == 0 && wait_process(1) && facts.cause == RIPRAP_CAUSE_ADOPT);
	put_assign(facts.instance, 0, "");
	policy.assigns = true;
}

static uint64_t namespace_of(pid_t pid, const char *name)
{
	struct stat stat_;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	return stat(path, &stat_) ? 0 : stat_.st_ino;
}

static unsigned long long start_ticks(pid_t pid)
{
	char path[64], line[1024], *field;
	int fd, i;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY);
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	line[n < 0 ? 0 : n] = 0;
	field = strrchr(line, ')');
	for (i = 2; field && i < 22; i++)
		field = strchr(field + 1, ' ');
	return field ? strtoull(field, NULL, 10) : 0;
}

static void case_facts(const struct child *child)
{
	struct stat exe;
	char path[64], line[512], *cgroup;
	FILE *file;

	CHECK(wait_process(child->pid) && facts.cause == RIPRAP_CAUSE_EXEC);
	stat(CHILD, &exe);
	CHECK(facts.exe_ino == exe.st_ino && facts.exe_size == (uint64_t)exe.st_size);
	CHECK(facts.exe_dev == ((uint64_t)major(exe.st_dev) << 20 | minor(exe.st_dev)));
	CHECK(facts.exe_mtime_ns == exe.st_mtim.tv_sec * 1000000000ll + exe.st_mtim.tv_nsec);
	CHECK(facts.exe_ctime_ns == exe.st_ctim.tv_sec * 1000000000ll + exe.st_ctim.tv_nsec);
	CHECK(facts.exe_len == strlen(CHILD) && !memcmp(fact_exe(), CHILD, facts.exe_len));
	CHECK(facts.ns_mnt == namespace_of(child->pid, "mnt") && facts.ns_pid == namespace_of(child->pid, "pid"));
	CHECK(facts.ns_net == namespace_of(child->pid, "net") && facts.ns_user == namespace_of(child->pid, "user"));
	CHECK(facts.ns_uts == namespace_of(child->pid, "uts") && facts.ns_ipc == namespace_of(child->pid, "ipc"));
	CHECK(facts.start_time_ns / 10000000 == start_ticks(child->pid));
	CHECK(facts.parent_pid == (uint32_t)getpid() && facts.uid == 0 && facts.euid == 0);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", child->pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file) && strncmp(line, "0::", 3))
		;
	if (file)
		fclose(file);
	cgroup = line + 3;
	cgroup[strcspn(cgroup, "\n")] = 0;
	CHECK_THAT(facts.cgroup_len == strlen(cgroup) && !memcmp(fact_cgroup(), cgroup, facts.cgroup_len), "%s", cgroup);
}

/* The child waits in connect() until its SVID is there. */
static void case_first_connection(const struct child *child, uint64_t instance)
{
	struct riprap_key key;
	int result;

	policy.signs = false;
	tell(child, 'c');
	CHECK(wait_frame(RIPRAP_KEY) && device.body.key.instance == instance);
	key = device.body.key;
	put_svid(&key, true, 300);
	CHECK_THAT(wait_ack(RIPRAP_ACK_SVID) == -EKEYREJECTED, "a leaf for another key");
	put_svid(&key, false, -5);
	CHECK(wait_ack(RIPRAP_ACK_SVID) == -EKEYEXPIRED);
	policy.signs = true;
	put_svid(&key, false, 300);
	CHECK(wait_ack(RIPRAP_ACK_SVID) == 0);
	put_svid(&key, false, 300);
	CHECK_THAT(wait_ack(RIPRAP_ACK_SVID) == -ENOKEY, "a key that waits no more");
	result = await_result(child);
	CHECK_THAT(result == 0, "errno %d", result);
	CHECK(policy.last_client_flow.tls == RIPRAP_TLS_MUTUAL && policy.last_client_flow.rule == 31);
	CHECK(policy.last_client_flow.instance == instance);
}

static void case_denied(const struct child *child)
{
	CHECK(result_of(child, 'd') == EACCES);
	CHECK(policy.last_denied.reason == RIPRAP_REASON_NO_RULE && policy.last_denied.error == EACCES);
	CHECK(policy.last_denied.remote_port == DENIED_PORT && policy.last_denied.subject == CLIENT);
}

static void case_fork(const struct child *child, uint64_t parent)
{
	CHECK(result_of(child, 'f') == 5);
	CHECK(facts.cause == RIPRAP_CAUSE_FORK && facts.parent_instance == parent && facts.pid != (uint32_t)child->pid);
	CHECK(facts.argv_len == 19 && !memcmp(fact_argv(), "riprap-child\0first", 19));
}

static void case_renew(const struct child *child, uint64_t instance)
{
	const struct riprap_renew renew = { .instance = instance };

	policy.signs = false;
	CHECK(PUT(RIPRAP_RENEW, renew) == 0 && wait_frame(RIPRAP_KEY));
	CHECK_THAT(result_of(child, 'c') == 0, "the old SVID stays");
	policy.signs = true;
	CHECK(PUT(RIPRAP_RENEW, renew) == 0 && wait_frame(RIPRAP_KEY) && wait_ack(RIPRAP_ACK_SVID) == 0);
	CHECK(result_of(child, 'c') == 0);
}

static void case_trust(const struct child *child)
{
	const struct riprap_trust next = { .generation = 2 }, old = { .generation = 1 };
	int before;

	CHECK(result_of(child, 'c') == 0);
	before = policy.verify_count;
	CHECK_THAT(result_of(child, 'c') == 0 && policy.verify_count == before, "asked again without a reason");
	CHECK(PUT(RIPRAP_TRUST, next) == 0 && wait_ack(RIPRAP_ACK_TRUST) == 0);
	CHECK(PUT(RIPRAP_TRUST, old) == 0 && wait_ack(RIPRAP_ACK_TRUST) == -ESTALE);
	CHECK_THAT(result_of(child, 'c') == 0 && policy.verify_count > before, "an answer outlived its trust");
}

/* A swapped table holds for the next connection; a deny is as good as no rule. */
static void case_swap(const struct child *child)
{
	uint8_t table[1024];

	put_table(2, table, build_table(table, 2, RIPRAP_ACTION_DENY));
	CHECK(wait_ack(RIPRAP_ACK_TABLE) == 0);
	CHECK(result_of(child, 'c') == EACCES && policy.last_denied.rule == 31 &&
	      policy.last_denied.reason == RIPRAP_REASON_RULE && policy.last_denied.table_generation == 2);
	put_table(3, table, build_table(table, 3, RIPRAP_ACTION_MUTUAL));
	CHECK(wait_ack(RIPRAP_ACK_TABLE) == 0);
	CHECK(result_of(child, 'c') == 0);
}

static void case_no_daemon(const struct child *child, uint64_t instance)
{
	struct child stranger;
	bool is_seen = false;
	int replays = 0;

	stop_daemon();
	CHECK_THAT(result_of(child, 'c') == 0, "a cached identity outlives the daemon");
	stranger = start_child("stranger");
	CHECK_THAT(result_of(&stranger, 'c') == EACCES, "nobody attested it");
	end_child(&stranger);
	stranger = start_child("late");
	device_open();
	policy.assigns = false;
	CHECK(wait_frame(RIPRAP_HELLO) && device.body.hello.table_generation == 3);
	while (device_next(500)) {
		if (device.head.type != RIPRAP_PROCESS)
			continue;
		act();
		CHECK(device.head.flags == RIPRAP_FRAME_REPLAY || facts.pid == (uint32_t)stranger.pid);
		replays++;
		if (facts.instance == instance)
			is_seen = facts.flags & RIPRAP_PROCESS_HAS_IDENTITY && facts.subject == CLIENT &&
				  !memcmp(fact_cgroup() + facts.cgroup_len, CLIENT_ID, facts.spiffe_id_len);
	}
	CHECK_THAT(is_seen && replays >= 3, "%d replayed", replays);
	policy.assigns = true;
	start_daemon(RIPRAP_MODE_ENFORCE, 2000);
	put_assign(facts.instance, CLIENT, CLIENT_ID);
	CHECK(result_of(child, 'c') == 0);
	end_child(&stranger);
}

static void case_unmanaged(void)
{
	struct child child;

	policy.assigns = false;
	child = start_child("plain");
	CHECK(wait_process(child.pid));
	put_assign(facts.instance, 0, "");
	CHECK_THAT(result_of(&child, 'd') == ECONNREFUSED, "nobody listens, and nobody refuses");
	policy.assigns = true;
	put_assign(facts.instance, CLIENT, CLIENT_ID);
	CHECK_THAT(result_of(&child, 'd') == EACCES, "managed from now on");
	end_child(&child);
}

/* What a process becomes is another instance. */
static void case_instances(struct child *child, uint64_t instance)
{
	tell(child, 'x');
	CHECK(wait_exit(instance) && wait_process(child->pid) && facts.exec_generation == 2);
	CHECK(!memcmp(fact_argv(), "riprap-child\0anew", 18));
	instance = facts.instance;
	CHECK(result_of(child, 'u') == 0 && facts.cause == RIPRAP_CAUSE_CRED && facts.uid == 4242);
	CHECK(facts.instance != instance && facts.exec_generation == 2);
	instance = facts.instance;
	tell(child, 's');
	CHECK(wait_exit(instance) && wait_process(child->pid));
	CHECK(facts.script_len == strlen(SCRIPT) && !memcmp(fact_script(), SCRIPT, facts.script_len));
	CHECK(facts.exe_len == strlen(CHILD) && !memcmp(fact_exe(), CHILD, facts.exe_len));
	CHECK(facts.comm_len == 13 && !memcmp(fact_text, "riprap-script", 13));
}

static void case_withdraw(const struct child *child)
{
	const struct riprap_withdraw withdraw = { .instance = facts.instance, .reason = RIPRAP_REASON_WITHDRAWN };

	CHECK(result_of(child, 'c') == 0);
	CHECK(PUT(RIPRAP_WITHDRAW, withdraw) == 0);
	CHECK(result_of(child, 'c') == EACCES);
}

static void case_query(void)
{
	const struct riprap_query query = {
		.query = 5, .what = RIPRAP_QUERY_STATS | RIPRAP_QUERY_PROCESSES | RIPRAP_QUERY_FLOWS,
	};

	CHECK(PUT(RIPRAP_QUERY, query) == 0 && wait_frame(RIPRAP_QUERY_DONE));
	CHECK(device.body.done.query == 5 && device.body.done.frames && device.body.done.processes_live);
	CHECK(device.body.done.denied >= 3 && device.body.done.handshakes_full && device.body.done.memory_bytes);
	CHECK(device.body.done.verify_hits && device.body.done.fail_open == 0);
}

static bool prepare(void)
{
	FILE *script;

	if (system("cp /proc/$PPID/exe " CHILD " && chmod 755 " CHILD " && ip link set lo up"))
		return false;
	script = fopen(SCRIPT, "w");
	if (!script)
		return false;
	fprintf(script, "#!" CHILD "\n");
	fclose(script);
	return !chmod(SCRIPT, 0755);
}

static void run_cases(void)
{
	struct child early = start_child("early"), server, child;
	uint64_t instance;

	case_open();
	case_table();
	case_liar(&early);
	case_adopt();
	server = start_child("server");
	policy.server = server.pid;
	CHECK(wait_process(server.pid) && wait_ack(RIPRAP_ACK_SVID) == 0);
	child = start_child("first");
	case_facts(&child);
	instance = facts.instance;
	case_first_connection(&child, instance);
	case_denied(&child);
	case_fork(&child, instance);
	case_renew(&child, instance);
	case_trust(&child);
	case_swap(&child);
	case_no_daemon(&child, instance);
	case_unmanaged();
	case_instances(&child, instance);
	case_withdraw(&child);
	case_query();
	end_child(&child);
	end_child(&server);
	stop_daemon();
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && !strcmp(argv[1], "server"))
		return be_server();
	if (argc > 1)
		return be_child(argv);
	if (!prepare()) {
		printf("FAIL cannot prepare " CHILD "\n");
		return 1;
	}
	run_cases();
	printf("device: %d passed, %d failed\n", passed, failed);
	return failed != 0;
}
