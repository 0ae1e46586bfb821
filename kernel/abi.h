/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The binary interface of /dev/riprap between the module and the one daemon
 * that holds it open. The only source of it: the TypeScript codec is held
 * against sizeof and offsetof dumped from this file.
 *
 * Every frame is a struct riprap_frame followed by `length` payload bytes: the
 * fixed struct of its type, then its variable tail. All integers are in host
 * order (both ends are on one machine), all structs are padded by name and a
 * multiple of 8 bytes, all strings are UTF-8 or raw bytes without a NUL.
 * A tail is the concatenation of the parts in the order named in its comment.
 *
 * read() returns whole frames only; write() takes whole frames only (one or
 * several) and refuses all of a malformed write with -EINVAL.
 */
#ifndef RIPRAP_ABI_H
#define RIPRAP_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define RIPRAP_ABI_MAGIC	0x50525052u	/* "RPRP" */
#define RIPRAP_ABI_VERSION	1

/* Bounds. A frame or field past one of these is refused, never cut, unless its comment says so. */
#define RIPRAP_FRAME_MAX	65536u	/* payload bytes of any frame: a chain of 4 certificates fits eight times */
#define RIPRAP_SPIFFE_ID_MAX	2048u	/* SPIFFE-ID section 2.3 */
#define RIPRAP_PATH_MAX		4096u	/* PATH_MAX */
#define RIPRAP_ARGV_MAX		4096u	/* longer argv is cut at this and flagged */
#define RIPRAP_COMM_MAX		16u	/* TASK_COMM_LEN */
#define RIPRAP_CHAIN_MAX	16384u	/* DER bytes of one chain, as carried by a TLS Certificate message */
#define RIPRAP_CHAIN_CERTS_MAX	8u
#define RIPRAP_TABLE_MAX	(32u << 20)	/* bytes of one compiled rule table: 100,000 rules take 6 MiB */
#define RIPRAP_REASON_MAX	128u

struct riprap_frame {
	__u32 magic;
	__u16 version;
	__u16 type;		/* enum riprap_frame_type */
	__u32 length;		/* payload bytes after this header */
	__u32 flags;		/* enum riprap_frame_flag */
	__u64 sequence;		/* per direction, from 1 at open, without gaps */
};

enum riprap_frame_flag {
	RIPRAP_FRAME_REPLAY	= 1,	/* sent because the device was opened, not because it happened now */
	RIPRAP_FRAME_SNAPSHOT	= 2,	/* sent in answer to a QUERY */
};

enum riprap_frame_type {
	/* module -> daemon */
	RIPRAP_HELLO		= 0x01,
	RIPRAP_PROCESS		= 0x02,
	RIPRAP_PROCESS_EXIT	= 0x03,
	RIPRAP_KEY		= 0x04,
	RIPRAP_VERIFY		= 0x05,
	RIPRAP_FLOW		= 0x06,
	RIPRAP_ACK		= 0x07,
	RIPRAP_LOST		= 0x08,
	RIPRAP_QUERY_DONE	= 0x09,
	/* daemon -> module */
	RIPRAP_START		= 0x81,
	RIPRAP_ASSIGN		= 0x82,
	RIPRAP_SVID		= 0x83,
	RIPRAP_VERIFIED		= 0x84,
	RIPRAP_TABLE_BEGIN	= 0x85,
	RIPRAP_TABLE_DATA	= 0x86,
	RIPRAP_TABLE_COMMIT	= 0x87,
	RIPRAP_TRUST		= 0x88,
	RIPRAP_CUT		= 0x89,
	RIPRAP_ADOPT		= 0x8a,
	RIPRAP_RENEW		= 0x8b,
	RIPRAP_WITHDRAW		= 0x8c,
	RIPRAP_DRAIN		= 0x8d,
	RIPRAP_QUERY		= 0x8e,
	RIPRAP_WAKE		= 0x8f,
};

enum riprap_mode {		/* what an unmet policy means */
	RIPRAP_MODE_NONE	= 0,	/* no policy selects this direction: plain, and the flow says so */
	RIPRAP_MODE_OBSERVE	= 1,	/* plain, the flow says what would have happened */
	RIPRAP_MODE_PERMISSIVE	= 2,	/* out: an unmet rule goes plain; in: plaintext is taken too */
	RIPRAP_MODE_ENFORCE	= 3,	/* refused */
};

/* ---- module -> daemon ---- */

/* First frame after open. Then PROCESS frames with REPLAY for every live record. */
struct riprap_hello {
	__u32 abi;		/* RIPRAP_ABI_VERSION */
	__u32 features;		/* enum riprap_feature */
	__u64 boot_nonce;	/* random at module load: the daemon sees whether the module was reloaded */
	__u64 table_generation;	/* in force; 0: none */
	__u64 trust_generation;
	__u64 next_instance;
	__u8 draining;
	__u8 unknown_mode;	/* enum riprap_mode */
	__u16 pad0;
	__u32 live_flows;
	char module_version[32];	/* NUL padded */
};

enum riprap_feature {
	RIPRAP_FEATURE_KTLS		= 1,
	RIPRAP_FEATURE_IPV6		= 4,
};

enum riprap_process_cause {
	RIPRAP_CAUSE_EXEC	= 1,
	RIPRAP_CAUSE_FORK	= 2,	/* no exec; sent when the child first touches a TCP socket */
	RIPRAP_CAUSE_ADOPT	= 3,	/* was there before the module; facts taken at adoption */
	RIPRAP_CAUSE_CRED	= 4,	/* uid or gid changed since the last attestation */
};

enum riprap_process_flag {
	RIPRAP_PROCESS_WANTS_ANSWER	= 1,	/* a program may be waiting: answer with ASSIGN */
	RIPRAP_PROCESS_ARGV_CUT		= 2,
	RIPRAP_PROCESS_NO_NEW_PRIVS	= 4,
	RIPRAP_PROCESS_HAS_IDENTITY	= 8,	/* replay: assigned by an earlier daemon and still valid */
	RIPRAP_PROCESS_PTRACED		= 16,
};

/*
 * Tail: comm, exe path, script path (empty unless a #! or binfmt interpreter
 * runs it: then what execve was given), argv (NUL separated), cgroup v2 path,
 * SPIFFE ID (only with HAS_IDENTITY).
 */
struct riprap_process_facts {
	__u64 instance;		/* unique until the module is unloaded: task group, start time, exec generation */
	__u64 parent_instance;	/* 0: none known */
	__u64 start_time_ns;	/* task start_boottime of the group leader; /proc/PID/stat field 22 is this in ticks */
	__u32 pid;		/* tgid in the initial pid namespace */
	__u32 parent_pid;
	__u32 exec_generation;
	__u16 cause;		/* enum riprap_process_cause */
	__u16 flags;		/* enum riprap_process_flag */
	__u32 uid, euid, gid, egid;	/* initial user namespace */
	__u64 caps_effective;
	__u32 seccomp;		/* SECCOMP_MODE_* */
	__u32 subject;		/* with HAS_IDENTITY */
	__u64 exe_dev;		/* kernel dev_t of the file system: major << 20 | minor */
	__u64 exe_ino;
	__u64 exe_size;
	__s64 exe_mtime_ns;
	__s64 exe_ctime_ns;
	__u32 ns_mnt, ns_pid, ns_net, ns_user, ns_uts, ns_ipc;	/* inode numbers; ns_user at exec */
	__u64 not_after;	/* with HAS_IDENTITY: end of the installed SVID, Unix seconds; 0: none */
	__u16 comm_len;
	__u16 exe_len;
	__u16 script_len;
	__u16 argv_len;
	__u16 cgroup_len;
	__u16 spiffe_id_len;
	__u16 pad0[2];
};

struct riprap_process_exit {
	__u64 instance;
	__u32 exit_code;	/* task exit_code, as wait4 gives it */
	__u32 pad0;
};

/* A key pair was made for this instance: sign it. No CSR: the module vouches. */
struct riprap_key {
	__u64 instance;
	__u64 key_id;		/* unique until unload; the SVID frame names it */
	__u8 public_key[65];	/* SEC 1 uncompressed P-256 point */
	__u8 pad0[7];
};

/* Is this peer chain good? Asked once for each distinct chain and trust generation. Tail: the certificates, each __u32 length then DER, leaf first. */
struct riprap_verify {
	__u64 ask;
	__u64 flow;
	__u64 instance;		/* of the local process */
	__u64 trust_generation;
	__u8 peer_is_server;	/* 1: we are the TLS client */
	__u8 certs;
	__u16 pad0;
	__u32 chain_len;	/* bytes of the tail */
};

enum riprap_flow_state {
	RIPRAP_FLOW_DENIED	= 1,	/* final; no packet was sent, or the connection was closed at accept */
	RIPRAP_FLOW_OPEN	= 2,	/* the peer is authenticated (or the flow is plain by rule): bytes may pass */
	RIPRAP_FLOW_FAILED	= 3,	/* final; allowed, but TCP or TLS did not come about */
	RIPRAP_FLOW_CLOSED	= 4,	/* final */
	RIPRAP_FLOW_CUT		= 5,	/* final; ended by CUT, WITHDRAW or a failed recheck */
};

enum riprap_flow_tls {
	RIPRAP_TLS_PLAIN	= 0,
	RIPRAP_TLS_MUTUAL	= 1,
	RIPRAP_TLS_PASSTHROUGH	= 2,	/* the program's own TLS, left alone by rule */
};

enum riprap_reason {
	RIPRAP_REASON_NONE		= 0,
	RIPRAP_REASON_RULE		= 1,	/* a rule says so: see rule */
	RIPRAP_REASON_NO_RULE		= 2,	/* the subject has a policy and no rule of it matches */
	RIPRAP_REASON_NO_POLICY		= 3,	/* no policy selects the subject in this direction */
	RIPRAP_REASON_NO_IDENTITY	= 4,	/* no valid SVID in time */
	RIPRAP_REASON_UNKNOWN_PROCESS	= 5,	/* not attested and no daemon, or it did not answer in time */
	RIPRAP_REASON_PEER_ID		= 6,	/* the peer's SPIFFE ID is in no matching rule */
	RIPRAP_REASON_PEER_CHAIN	= 7,	/* the daemon refused the peer's chain */
	RIPRAP_REASON_PEER_PLAINTEXT	= 8,	/* the peer does not speak TLS */
	RIPRAP_REASON_TLS_ALERT		= 9,	/* sent or received: see alert */
	RIPRAP_REASON_TCP		= 10,	/* see error */
	RIPRAP_REASON_TIMEOUT		= 11,	/* handshake or verification took too long */
	RIPRAP_REASON_WITHDRAWN		= 12,
	RIPRAP_REASON_REVOKED		= 13,
	RIPRAP_REASON_DRAINING		= 14,
	RIPRAP_REASON_KEY_UPDATE	= 15,	/* the peer rekeyed and this kernel's kTLS cannot */
	RIPRAP_REASON_TRUNCATED		= 16,	/* FIN without close_notify */
	RIPRAP_REASON_NO_KTLS		= 17,
	RIPRAP_REASON_FOREIGN_SOCKET	= 18,	/* a socket that reached this process round the mediation */
	RIPRAP_REASON_NO_MEMORY		= 19,
	RIPRAP_REASON_NOT_TLS		= 20,	/* a passthrough rule, and the program sent plaintext */
	RIPRAP_REASON_RECORD		= 21,	/* a record did not decrypt */
	RIPRAP_REASON_ABANDONED		= 22,	/* the program closed the socket before the handshake ended */
	RIPRAP_REASON_CROWDED		= 23,	/* the oldest of too many handshakes of its direction: a newer one took its place */
};

enum riprap_flow_flag {
	RIPRAP_FLOW_INBOUND	= 1,
	RIPRAP_FLOW_RESUMED	= 2,
	RIPRAP_FLOW_WOULD_DENY	= 4,	/* permissive or observe let it through */
	RIPRAP_FLOW_IPV4	= 8,
	RIPRAP_FLOW_HELLO_RETRY	= 16,
	RIPRAP_FLOW_ALERT_SENT	= 32,	/* else `alert` was received */
};

/* One line of a flow's life. Tail: own SPIFFE ID, peer SPIFFE ID. */
struct riprap_flow_event {
	__u64 flow;
	__u64 instance;
	__u64 table_generation;	/* the one the verdict came from */
	__u64 opened_ns;	/* CLOCK_REALTIME of connect() or accept() */
	__u64 handshake_ns;	/* first TLS byte to authenticated */
	__u64 bytes_sent;	/* payload, as the program sees it */
	__u64 bytes_received;
	__u32 pid;
	__u32 subject;
	__u32 rule;		/* rule number of the table; 0: none */
	__s32 error;		/* errno the program sees, positive; 0: none */
	__u8 local[16];		/* IPv4 as ::ffff:a.b.c.d */
	__u8 remote[16];
	__u16 local_port;	/* host order */
	__u16 remote_port;
	__u8 state;		/* enum riprap_flow_state */
	__u8 tls;		/* enum riprap_flow_tls */
	__u8 mode;		/* enum riprap_mode */
	__u8 reason;		/* enum riprap_reason */
	__u16 flags;		/* enum riprap_flow_flag */
	__u16 suite;		/* TLS cipher suite; 0: none */
	__u16 group;		/* TLS named group; 0: none */
	__u16 alert;		/* TLS alert description + 1; 0: none */
	__u16 own_id_len;
	__u16 peer_id_len;
	__u32 pad0;
};

enum riprap_ack_what {
	RIPRAP_ACK_TABLE	= 1,
	RIPRAP_ACK_TRUST	= 2,
	RIPRAP_ACK_START	= 3,
	RIPRAP_ACK_ADOPT	= 4,	/* generation: the pid */
	RIPRAP_ACK_SVID		= 5,	/* generation: the key_id */
	RIPRAP_ACK_CUT		= 6,	/* generation: how many flows were cut */
	RIPRAP_ACK_DRAIN	= 7,	/* generation: live flows left */
	RIPRAP_ACK_ASSIGN	= 8,	/* only on error; generation: the instance */
};

struct riprap_ack {
	__u64 generation;
	__u32 what;		/* enum riprap_ack_what */
	__s32 error;		/* 0, or a negative errno: the earlier state is still in force */
	__u64 sequence;		/* of the daemon's frame */
};

/* The queue to the daemon was full and these were dropped. Never PROCESS, KEY, VERIFY or ACK: those wait. */
struct riprap_lost {
	__u64 flow_events;
	__u64 pad0;
};

struct riprap_query_done {
	__u64 query;
	__u64 frames;
	/* module counters, since load */
	__u64 processes_live, processes_seen;
	__u64 flows_live, flows_seen;
	__u64 denied, allowed_plain, handshakes_full, handshakes_resumed, handshakes_failed;
	__u64 verify_hits, verify_misses;
	__u64 fail_open;	/* flows let through plain that enforce would have refused, but for those of a policy in OBSERVE */
	__u64 sockets_managed;
	__u64 lost_flow_events;
	__u64 memory_bytes;	/* of records, keys, caches and tables, by our own count */
};

/* ---- daemon -> module ---- */

/* First frame from the daemon. Before it the module treats the daemon as absent and takes nothing but DRAIN, QUERY and WAKE. */
struct riprap_start {
	__u32 abi;
	__u8 unknown_mode;	/* enum riprap_mode: a process that cannot be attested */
	__u8 pad0[3];
	__u32 attest_timeout_ms;	/* how long a connect() waits for ASSIGN and SVID; 1..60000 */
	__u32 handshake_timeout_ms;	/* 100..120000 */
	__u32 sniff_timeout_ms;	/* permissive accept: silence this long means plaintext; 1..60000 */
	__u32 pad1;
};

/* Answer to PROCESS. Tail: SPIFFE ID; empty: no rule selects this process, it is not managed. */
struct riprap_assign {
	__u64 instance;
	__u32 subject;		/* index in the rule table; 0 when the ID is empty */
	__u16 spiffe_id_len;
	__u16 pad0;
};

/* Tail: the certificates, each __u32 length then DER, leaf first, without the root. */
struct riprap_svid {
	__u64 instance;
	__u64 key_id;
	__s64 not_before;	/* Unix seconds */
	__s64 not_after;
	__u8 certs;
	__u8 pad0[3];
	__u32 chain_len;
};

/* Tail: SPIFFE ID (empty when refused). */
struct riprap_verified {
	__u64 ask;
	__u64 trust_generation;
	__s64 not_after;	/* the earliest notAfter of the chain */
	__u8 alert;		/* 0: good; else the TLS alert description to send (RFC 8446 section 6) */
	__u8 pad0;
	__u16 spiffe_id_len;
	__u32 pad1;
	__u8 public_key[65];
	__u8 pad2[7];
};

/* A table comes as BEGIN, DATA in order, COMMIT, and is in force when ACKed. */
struct riprap_table_begin {
	__u64 generation;	/* greater than the one in force */
	__u32 length;		/* of the whole table, <= RIPRAP_TABLE_MAX */
	__u32 pad0;
};

struct riprap_table_data {	/* tail: bytes of the table */
	__u64 generation;
	__u32 offset;
	__u32 length;
};

struct riprap_table_commit {
	__u64 generation;
};

/* All cached answers of older generations are void; resumption tickets too. */
struct riprap_trust {
	__u64 generation;
};

enum riprap_cut_by {
	RIPRAP_CUT_FLOW		= 1,	/* value */
	RIPRAP_CUT_INSTANCE	= 2,	/* value */
	RIPRAP_CUT_PEER_ID	= 3,	/* tail: SPIFFE ID, exact */
	RIPRAP_CUT_RECHECK	= 4,	/* every flow that the table in force would no longer allow */
	RIPRAP_CUT_ALL		= 5,
};

struct riprap_cut {
	__u64 value;
	__u8 by;		/* enum riprap_cut_by */
	__u8 reason;		/* enum riprap_reason */
	__u16 id_len;
	__u32 pad0;
};

struct riprap_adopt {
	__u32 pid;
	__u32 pad0;
	__u64 start_time_ns;	/* 0, or what must match within one tick (10 ms) */
};

struct riprap_renew {		/* make a new key pair: answered by KEY; the old SVID stays until the new one is there */
	__u64 instance;
};

struct riprap_withdraw {	/* identity ends now: flows are cut, the key is wiped, connects get EACCES */
	__u64 instance;
	__u8 reason;		/* enum riprap_reason */
	__u8 pad0[7];
};

struct riprap_drain {
	__u8 on;
	__u8 pad0[7];
};

enum riprap_query_what {
	RIPRAP_QUERY_STATS	= 1,	/* QUERY_DONE alone */
	RIPRAP_QUERY_FLOWS	= 2,	/* a FLOW frame with SNAPSHOT for each live flow, then QUERY_DONE */
	RIPRAP_QUERY_PROCESSES	= 4,
};

struct riprap_query {
	__u64 query;
	__u32 what;		/* bits of enum riprap_query_what */
	__u32 pad0;
};

/* WAKE has no payload: the pending read() returns 0 once. */

/* ---- keys of the node's CA: ioctl() on the open device, for the process that opened it ---- */

/* The authority in force, the next and the last, with room. */
#define RIPRAP_AUTHORITY_KEYS_MAX	8u

/* Hands a key in. It is never given out, and wiped at FORGET or when the device is closed. */
struct riprap_authority_import {
	__u8 private_key[32];	/* P-256 scalar, big-endian; zeroes when the call returns */
	__u8 public_key[65];	/* out: its point, uncompressed */
	__u8 pad0[3];
	__u32 slot;		/* out: names the key from now on */
};

struct riprap_authority_sign {
	__u32 slot;
	__u32 signature_len;	/* out */
	__u8 digest[32];	/* SHA-256 of what is signed */
	__u8 signature[72];	/* out: DER ECDSA-Sig-Value */
};

struct riprap_authority_forget {
	__u32 slot;
	__u32 pad0;
};

#define RIPRAP_AUTHORITY_IMPORT		_IOWR('r', 0x01, struct riprap_authority_import)
#define RIPRAP_AUTHORITY_SIGN		_IOWR('r', 0x02, struct riprap_authority_sign)
#define RIPRAP_AUTHORITY_FORGET		_IOW('r', 0x03, struct riprap_authority_forget)

/* ---- the compiled rule table ---- */

#define RIPRAP_TABLE_MAGIC	0x4c425452u	/* "RTBL" */
#define RIPRAP_TABLE_SUBJECTS_MAX	65536u
#define RIPRAP_TABLE_RULES_MAX		262144u
#define RIPRAP_TABLE_PEERS_MAX		262144u
#define RIPRAP_TABLE_FILTERS_MAX	4096u
#define RIPRAP_TABLE_SHAPES_MAX		64u	/* distinct (prefix_len, port_bits) of one subject and direction */

/* Header, then subjects, rules, peers, filters (each sorted as said), then string bytes. */
struct riprap_table {
	__u32 magic;
	__u32 version;		/* RIPRAP_ABI_VERSION */
	__u64 generation;
	__u32 subjects, rules, peers, filters;	/* counts */
	__u32 string_bytes;
	__u32 pad0;
};

struct riprap_table_subject {	/* sorted by subject; 0 is not a subject */
	__u32 subject;
	__u8 egress_mode;	/* enum riprap_mode; NONE: no policy selects it */
	__u8 ingress_mode;
	__u16 pad0;
};

enum riprap_action {
	RIPRAP_ACTION_DENY		= 0,	/* beats every allow that matches too */
	RIPRAP_ACTION_MUTUAL		= 1,	/* TLS 1.3 with both identities */
	RIPRAP_ACTION_PASSTHROUGH	= 2,	/* must look like TLS, is left alone */
	RIPRAP_ACTION_PLAIN		= 3,	/* plain by explicit rule */
};

/*
 * One rule as looked up: address prefix and port prefix, both exact matches
 * under their mask. A port range is several of these with the same number.
 * Sorted by (subject, inbound, prefix_len, port_bits, address, port, number).
 * `address` is the remote end; `port` the remote one outbound, the local one inbound.
 */
struct riprap_table_rule {
	__u32 number;		/* the daemon's name for it; not 0 */
	__u32 subject;
	__u8 address[16];	/* masked; IPv4 as ::ffff:a.b.c.d with prefix_len 96 + n */
	__u16 port;		/* masked, host order */
	__u8 prefix_len;	/* 0..128; 0 is any address of either family */
	__u8 port_bits;		/* 0..16; 0 is any port */
	__u8 inbound;
	__u8 action;		/* enum riprap_action */
	__u16 pad0;
	__u32 peer_set;		/* 0: any peer of a trusted domain; else a set below */
	__u32 pad1;
};

enum riprap_peer_match {
	RIPRAP_PEER_EXACT	= 1,
	RIPRAP_PEER_PREFIX	= 2,	/* the string ends in '/'; the ID begins with it and goes on */
};

struct riprap_table_peer {	/* sorted by (set, string) */
	__u32 set;
	__u32 string;		/* byte offset in the strings */
	__u16 length;
	__u8 match;		/* enum riprap_peer_match */
	__u8 pad0;
	__u32 pad1;
};

enum riprap_filter_has {
	RIPRAP_FILTER_UID	= 1,	/* effective uid */
	RIPRAP_FILTER_NAME	= 2,	/* comm at exec */
	RIPRAP_FILTER_EXE	= 4,	/* whole executable path */
};

/*
 * What a process must look like for any rule to be able to select it. A process
 * that matches no filter is unmanaged without a question; one with `has` 0 matches all.
 */
struct riprap_table_filter {
	__u32 has;		/* bits of enum riprap_filter_has; all named ones must be equal */
	__u32 uid;
	__u32 name;		/* string offset */
	__u16 name_len;
	__u16 exe_len;
	__u32 exe;		/* string offset */
	__u32 pad0;
};

#endif
