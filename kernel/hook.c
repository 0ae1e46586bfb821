// SPDX-License-Identifier: GPL-2.0
/*
 * The three entries of tcp_prot and tcpv6_prot that are replaced: init gives a
 * managed process's new socket its operations; connect and accept catch sockets
 * that came to it another way. Who is not managed leaves by a tail call, so that
 * no thread sleeps with a frame of ours on its stack.
 */
#include <linux/bpf-cgroup.h>
#include <linux/delay.h>
#include <linux/fdtable.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/transp_v6.h>

#include "compat.h"
#include "connect.h"
#include "decide.h"
#include "device.h"
#include "flow.h"
#include "hook.h"
#include "identity.h"
#include "process.h"
#include "socket.h"

#define ADOPT_BATCH	32	/* files held at once while a table of descriptors is walked */

struct saved {
	int (*init)(struct sock *sk);
	int (*connect)(struct sock *sk, struct sockaddr *address, int len);
	struct sock *(*accept)(struct sock *sk, RIPRAP_PROTO_ACCEPT_PARAMETERS);
};

static struct saved saved_v4, saved_v6;
static DEFINE_PER_CPU(long, inside);	/* threads in the parts below that may sleep, and task works to come */

static void enter(void)
{
	this_cpu_inc(inside);
}

static void leave(void)
{
	this_cpu_dec(inside);
}

struct later {
	struct callback_head work;
	struct sock *sk;	/* held */
};

static void convert(struct socket *socket)
{
	struct sock *sk = socket->sk;
	struct riprap_socket *rs;

	if (!sk || sk->sk_kern_sock || (sk->sk_prot != &tcp_prot && sk->sk_prot != &tcpv6_prot))
		return;
	lock_sock(sk);
	if (sk->sk_state == TCP_LISTEN || (sk->sk_state == TCP_CLOSE && socket->state == SS_UNCONNECTED)) {
		rs = riprap_socket_attach(socket, false);
		if (IS_ERR(rs) && PTR_ERR(rs) == -ENOMEM)
			pr_warn_ratelimited("riprap: no memory to take over a socket: its connections will be refused\n");
	}
	release_sock(sk);
}

struct walk {
	struct file *file[ADOPT_BATCH];
	unsigned int files;
	unsigned int next;	/* descriptor after the last one taken */
};

/* iterate_fd() callback, under the table's lock: only collects. */
static int collect(const void *data, struct file *file, unsigned int fd)
{
	struct walk *walk = (struct walk *)data;
	struct socket *socket = sock_from_file(file);

	walk->next = fd + 1;
	if (!socket || socket->type != SOCK_STREAM || !socket->ops || riprap_socket_of(socket))
		return 0;
	walk->file[walk->files++] = get_file(file);
	return walk->files == ADOPT_BATCH;
}

void riprap_socket_convert_files(void)
{
	struct walk *walk;
	unsigned int i;
	bool more;

	/* A task that is exiting has no table any more. */
	if (!current->files || riprap_socket_is_draining())
		return;
	walk = kzalloc(sizeof(*walk), GFP_KERNEL);
	if (!walk)
		return;
	do {
		walk->files = 0;
		more = iterate_fd(current->files, walk->next, collect, walk);
		for (i = 0; i < walk->files; i++) {
			convert(sock_from_file(walk->file[i]));
			fput(walk->file[i]);
		}
		cond_resched();
	} while (more);
	kfree(walk);
}

static void on_return(struct callback_head *work)
{
	struct later *later = container_of(work, struct later, work);

	if (later->sk->sk_socket)
		convert(later->sk->sk_socket);
	sock_put(later->sk);
	kfree(later);
	leave();
}

static int on_the_way_out(struct sock *sk, enum task_work_notify_mode notify)
{
	struct later *later = kzalloc(sizeof(*later), GFP_KERNEL);

	if (!later)
		return -ENOMEM;
	sock_hold(sk);
	later->sk = sk;
	init_task_work(&later->work, on_return);
	enter();
	if (!task_work_add(current, &later->work, notify))
		return 0;
	leave();
	sock_put(sk);
	kfree(later);
	return -ESRCH;
}

static bool is_program(const struct sock *sk)
{
	return !sk->sk_kern_sock && !(current->flags & PF_KTHREAD);
}

/*
 * Does a filter match current? Until one is asked, a process that is older than the module or the table may be
 * anything, and its sockets would hold the module though no rule is about it. Yes, without memory to find out.
 * May sleep.
 */
static bool is_selected(void)
{
	struct riprap_process *process;

	enter();
	process = riprap_process_current();
	if (!IS_ERR(process))
		riprap_process_put(process);
	leave();
	return process;
}

/* ---- init ---- */

/*
 * The module is about to leave and takes on no more sockets. A program that must not speak plainly gets
 * none at all meanwhile: a listener made now would take plaintext.
 */
static int refuse_while_draining(void)
{
	static const struct in6_addr nowhere;
	struct riprap_identity *identity = NULL;
	struct riprap_process *process;
	struct riprap_verdict verdict;
	u32 subject = 0;
	bool enforced;

	process = riprap_process_current();
	if (IS_ERR_OR_NULL(process))
		return PTR_ERR_OR_ZERO(process);
	riprap_process_answer(process, &subject, &identity);
	if (identity)
		riprap_identity_put(identity);
	riprap_process_put(process);
	if (!subject)
		return riprap_unknown_mode() == RIPRAP_MODE_ENFORCE ? -EACCES : 0;
	riprap_table_verdict(subject, false, &nowhere, 0, &verdict);
	enforced = verdict.mode == RIPRAP_MODE_ENFORCE;
	riprap_table_verdict(subject, true, &nowhere, 0, &verdict);
	return enforced || verdict.mode == RIPRAP_MODE_ENFORCE ? -EACCES : 0;
}

/* socket() of a managed process. The core takes the reference on the module that socket->ops->owner asks for. */
static int create(struct sock *sk, const struct saved *saved)
{
	struct riprap_socket *rs;
	int err;

	enter();
	err = saved->init(sk);
	if (err || !sk->sk_socket || !is_selected())
		goto out;
	if (riprap_socket_is_draining()) {
		err = refuse_while_draining();
		goto out;
	}
	/* A BPF program may yet refuse the socket, and the core then forgets its operations: ours go in afterwards. */
	if (cgroup_bpf_enabled(CGROUP_INET_SOCK_CREATE)) {
		err = on_the_way_out(sk, TWA_RESUME);
		goto out;
	}
	if (!try_module_get(THIS_MODULE))
		goto out;
	rs = riprap_socket_attach(sk->sk_socket, true);
	if (IS_ERR(rs) && PTR_ERR(rs) == -ENOMEM)
		err = -ENOMEM;
	module_put(THIS_MODULE);
out:
	leave();
	return err;
}

static int init_v4(struct sock *sk)
{
	if (!is_program(sk) || !riprap_process_maybe_managed())
		return saved_v4.init(sk);
	return create(sk, &saved_v4);
}

static int init_v6(struct sock *sk)
{
	if (!is_program(sk) || !riprap_process_maybe_managed())
		return saved_v6.init(sk);
	return create(sk, &saved_v6);
}

/* ---- connect ---- */

static void report_foreign(struct riprap_process *process, u32 subject, const struct riprap_verdict *verdict,
			   const struct riprap_question *question)
{
	struct riprap_flow_event event = {
		.opened_ns = ktime_get_real_ns(),
		.instance = riprap_process_instance(process),
		.pid = riprap_process_pid(process),
		.subject = subject,
		.table_generation = verdict->generation,
		.state = RIPRAP_FLOW_DENIED,
		.mode = verdict->mode,
		.reason = RIPRAP_REASON_FOREIGN_SOCKET,
		.error = EACCES,
		.remote_port = question->port,
	};

	memcpy(event.remote, &question->remote, sizeof(event.remote));
	atomic64_inc(&riprap_counters.denied);
	riprap_device_send(RIPRAP_FLOW, 0, &event, sizeof(event), NULL, 0);
}

/* A managed process connects a socket that is not mediated. Under the socket lock: nothing is waited for. */
static int check_foreign(struct sockaddr *address)
{
	struct riprap_question question = {};
	struct riprap_identity *identity = NULL;
	struct riprap_process *process;
	struct riprap_verdict verdict = {};
	enum riprap_decision decision;
	u16 flags = 0;

	process = riprap_process_current();
	if (IS_ERR_OR_NULL(process))
		return PTR_ERR_OR_ZERO(process);
	if (address->sa_family == AF_INET6) {
		question.remote = ((struct sockaddr_in6 *)address)->sin6_addr;
		question.port = ntohs(((struct sockaddr_in6 *)address)->sin6_port);
	} else {
		ipv6_addr_set_v4mapped(((struct sockaddr_in *)address)->sin_addr.s_addr, &question.remote);
		question.port = ntohs(((struct sockaddr_in *)address)->sin_port);
	}
	question.answer = riprap_process_answer(process, &question.subject, &identity);
	decision = riprap_decide(&question, &verdict, &flags);
	if (identity)
		riprap_identity_put(identity);
	if (decision == RIPRAP_DECISION_MUTUAL || decision == RIPRAP_DECISION_WAIT)
		decision = RIPRAP_DECISION_DENY;
	if (decision == RIPRAP_DECISION_DENY)
		report_foreign(process, question.subject, &verdict, &question);
	riprap_process_put(process);
	return decision == RIPRAP_DECISION_DENY ? -EACCES : 0;
}

static int connect_managed(struct sock *sk, struct sockaddr *address, int len, const struct saved *saved)
{
	struct riprap_socket *rs = sk->sk_socket ? riprap_socket_of(sk->sk_socket) : NULL;
	int err;

	enter();
	/* The shortest address that TCP takes of either family. */
	if (len < (int)sizeof(struct sockaddr_in))
		err = 0;
	else
		err = rs ? riprap_connect_check(rs, address, len) : check_foreign(address);
	if (!err)
		err = saved->connect(sk, address, len);
	leave();
	return err;
}

static bool is_mediated(const struct sock *sk)
{
	return sk->sk_socket && riprap_socket_of(sk->sk_socket);
}

/* Also a kernel socket that connects in a program's own context: AF_SMC, say, which rides on one. */
static bool is_of_program(void)
{
	return !(current->flags & PF_KTHREAD) && riprap_process_maybe_managed();
}

static int connect_v4(struct sock *sk, struct sockaddr *address, int len)
{
	if (!is_mediated(sk) && !is_of_program())
		return saved_v4.connect(sk, address, len);
	return connect_managed(sk, address, len, &saved_v4);
}

static int connect_v6(struct sock *sk, struct sockaddr *address, int len)
{
	if (!is_mediated(sk) && !is_of_program())
		return saved_v6.connect(sk, address, len);
	return connect_managed(sk, address, len, &saved_v6);
}

/* ---- accept ---- */

/*
 * A managed process accepts from a plain listener: gives it our operations, and makes the system call
 * start again, which then finds them.
 */
static struct sock *accept_again(struct sock *sk, RIPRAP_PROTO_ACCEPT_PARAMETERS)
{
	enter();
	if (sk->sk_socket)
		convert(sk->sk_socket);
	RIPRAP_PROTO_ACCEPT_ERROR = -ECONNABORTED;
	if (is_mediated(sk) && !on_the_way_out(sk, TWA_SIGNAL))
		RIPRAP_PROTO_ACCEPT_ERROR = -ERESTARTSYS;
	leave();
	return NULL;
}

static bool is_foreign_listener(const struct sock *sk)
{
	return !is_mediated(sk) && is_program(sk) && riprap_process_maybe_managed() && !riprap_socket_is_draining() &&
	       is_selected();
}

static struct sock *accept_v4(struct sock *sk, RIPRAP_PROTO_ACCEPT_PARAMETERS)
{
	if (RIPRAP_PROTO_ACCEPT_IS_KERNEL || !is_foreign_listener(sk))
		return saved_v4.accept(sk, RIPRAP_PROTO_ACCEPT_ARGUMENTS);
	return accept_again(sk, RIPRAP_PROTO_ACCEPT_ARGUMENTS);
}

static struct sock *accept_v6(struct sock *sk, RIPRAP_PROTO_ACCEPT_PARAMETERS)
{
	if (RIPRAP_PROTO_ACCEPT_IS_KERNEL || !is_foreign_listener(sk))
		return saved_v6.accept(sk, RIPRAP_PROTO_ACCEPT_ARGUMENTS);
	return accept_again(sk, RIPRAP_PROTO_ACCEPT_ARGUMENTS);
}

/* ---- putting in and taking out ---- */

static void save(struct saved *saved, const struct proto *proto)
{
	saved->init = proto->init;
	saved->connect = proto->connect;
	saved->accept = proto->accept;
}

static void restore(struct proto *proto, const struct saved *saved)
{
	WRITE_ONCE(proto->init, saved->init);
	WRITE_ONCE(proto->connect, saved->connect);
	WRITE_ONCE(proto->accept, saved->accept);
}

int riprap_hook_init(void)
{
	static const struct saved hooks_v4 = { init_v4, connect_v4, accept_v4 };
	static const struct saved hooks_v6 = { init_v6, connect_v6, accept_v6 };

	save(&saved_v4, &tcp_prot);
	save(&saved_v6, &tcpv6_prot);
	restore(&tcp_prot, &hooks_v4);
	restore(&tcpv6_prot, &hooks_v6);
	riprap_hook_mptcp_init();
	return 0;
}

static long count_inside(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(inside, cpu));
	return sum;
}

void riprap_hook_exit(void)
{
	riprap_hook_mptcp_exit();
	restore(&tcp_prot, &saved_v4);
	restore(&tcpv6_prot, &saved_v6);
	/* Threads that were preempted on their way in: afterwards they are counted, or gone by their tail call. */
	synchronize_rcu_tasks();
	while (count_inside())
		msleep(10);
	/* ... and those between leave() and their return. */
	synchronize_rcu_tasks();
}
