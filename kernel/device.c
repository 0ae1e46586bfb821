// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/riprap: one daemon, whole frames, both ways. Sees the daemon come and
 * die. Never waits for the daemon; what a frame of its does is in device_frame.c.
 */
#define pr_fmt(fmt) "riprap: " fmt

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "authority_key.h"
#include "compat.h"
#include "device.h"
#include "device_frame.h"
#include "limits.h"
#include "peer.h"
#include "process.h"
#include "table.h"

struct queued {
	struct list_head node;
	size_t len;		/* of head and payload */
	struct riprap_frame head;
	u8 payload[];
};

/*
 * @queue_lock guards everything up to @snapshots. @read_lock makes the reader the
 * only one who takes frames off, @write_lock serialises the daemon's frames.
 */
static struct {
	spinlock_t queue_lock;
	struct list_head queue;
	u32 frames;
	size_t bytes;
	u64 lost;
	u64 snapshots;		/* SNAPSHOT frames queued so far */
	bool connected, started, woken;
	u64 epoch;
	wait_queue_head_t readable;
	struct mutex read_lock;
	u64 sent;		/* sequence of the last frame read by the daemon; read_lock */
	struct mutex write_lock;
	u64 received;		/* sequence of the last frame written by it; write_lock */
	atomic_t opened;
	u64 boot_nonce;
} device = {
	.queue_lock = __SPIN_LOCK_UNLOCKED(device.queue_lock),
	.queue = LIST_HEAD_INIT(device.queue),
	.readable = __WAIT_QUEUE_HEAD_INITIALIZER(device.readable),
	.read_lock = __MUTEX_INITIALIZER(device.read_lock),
	.write_lock = __MUTEX_INITIALIZER(device.write_lock),
};

struct riprap_counters riprap_counters;

/**
 * riprap_device_is_started() - is there a daemon that has said START
 *
 * Return: true while one holds the device.
 */
bool riprap_device_is_started(void)
{
	return READ_ONCE(device.started);
}

/* riprap_device_start() - the daemon has said START */
void riprap_device_start(void)
{
	WRITE_ONCE(device.started, true);
}

/* riprap_device_wake() - the pending read(), or the next, gives 0 */
void riprap_device_wake(void)
{
	WRITE_ONCE(device.woken, true);
	wake_up_interruptible(&device.readable);
}

/**
 * riprap_device_snapshots() - how many SNAPSHOT frames were queued since the device was opened
 *
 * Return: it.
 */
u64 riprap_device_snapshots(void)
{
	u64 snapshots;

	spin_lock_irq(&device.queue_lock);
	snapshots = device.snapshots;
	spin_unlock_irq(&device.queue_lock);
	return snapshots;
}

/**
 * riprap_device_epoch() - which opening of the device this is
 *
 * Return: a number that grows with each opening; 0 while the device is closed.
 */
u64 riprap_device_epoch(void)
{
	return smp_load_acquire(&device.connected) ? READ_ONCE(device.epoch) : 0;
}

static void free_queued(struct queued *frame)
{
	atomic64_sub(sizeof(*frame) + frame->len, &riprap_counters.memory_bytes);
	kvfree(frame);
}

/* FLOW frames give way first; what the daemon must not miss has four times the room. */
static int enqueue(struct queued *frame)
{
	bool may_lose = frame->head.type == RIPRAP_FLOW && !(frame->head.flags & RIPRAP_FRAME_SNAPSHOT);
	u32 max = may_lose ? RIPRAP_QUEUE_FRAMES : 4 * RIPRAP_QUEUE_FRAMES;
	unsigned long flags;
	int err = 0;

	spin_lock_irqsave(&device.queue_lock, flags);
	if (!device.connected) {
		err = -ENOTCONN;
	} else if (device.frames >= max || device.bytes + frame->len > RIPRAP_QUEUE_BYTES) {
		err = -ENOBUFS;
		device.lost += may_lose;
	} else {
		/* HELLO is first, though others may have seen `connected` before it came */
		if (frame->head.type == RIPRAP_HELLO)
			list_add(&frame->node, &device.queue);
		else
			list_add_tail(&frame->node, &device.queue);
		device.frames++;
		device.bytes += frame->len;
		device.snapshots += !!(frame->head.flags & RIPRAP_FRAME_SNAPSHOT);
	}
	spin_unlock_irqrestore(&device.queue_lock, flags);
	if (err == -ENOBUFS && may_lose)
		atomic64_inc(&riprap_counters.lost_flow_events);
	if (!err)
		wake_up_interruptible(&device.readable);
	return err;
}

/**
 * riprap_device_send_gfp() - queue a frame for the daemon
 * @type: enum riprap_frame_type
 * @flags: enum riprap_frame_flag
 * @fixed: the type's struct
 * @fixed_len: its size
 * @part: the tail's parts, in order
 * @parts: how many
 * @gfp: how to allocate
 *
 * Return: 0, -ENOTCONN (no daemon), -ENOBUFS (the queue is full), -EMSGSIZE
 * (longer than a frame may be), -ENOMEM.
 */
int riprap_device_send_gfp(u16 type, u32 flags, const void *fixed, size_t fixed_len, const struct riprap_part *part,
			   unsigned int parts, gfp_t gfp)
{
	size_t len = fixed_len, at = fixed_len;
	struct queued *frame;
	unsigned int i;
	int err;

	if (!READ_ONCE(device.connected))
		return -ENOTCONN;
	for (i = 0; i < parts; i++)
		len += part[i].len;
	if (WARN_ON_ONCE(len > RIPRAP_FRAME_MAX))
		return -EMSGSIZE;
	if (gfpflags_allow_blocking(gfp))
		frame = kvmalloc(sizeof(*frame) + len, gfp);
	else
		frame = kmalloc(sizeof(*frame) + len, gfp | __GFP_NOWARN);
	if (!frame)
		return -ENOMEM;
	frame->len = sizeof(frame->head) + len;
	frame->head = (struct riprap_frame){
		.magic = RIPRAP_ABI_MAGIC, .version = RIPRAP_ABI_VERSION,
		.type = type, .length = len, .flags = flags,
	};
	memcpy(frame->payload, fixed, fixed_len);
	for (i = 0; i < parts; at += part[i].len, i++)
		if (part[i].len)
			memcpy(frame->payload + at, part[i].data, part[i].len);
	atomic64_add(sizeof(*frame) + frame->len, &riprap_counters.memory_bytes);
	err = enqueue(frame);
	if (err)
		free_queued(frame);
	return err;
}

/**
 * riprap_device_send() - queue a frame for the daemon, from any context
 * @type: enum riprap_frame_type
 * @flags: enum riprap_frame_flag
 * @fixed: the type's struct
 * @fixed_len: its size
 * @part: the tail's parts, in order
 * @parts: how many
 *
 * Return: as riprap_device_send_gfp().
 */
int riprap_device_send(u16 type, u32 flags, const void *fixed, size_t fixed_len, const struct riprap_part *part,
		       unsigned int parts)
{
	return riprap_device_send_gfp(type, flags, fixed, fixed_len, part, parts, GFP_ATOMIC);
}

/**
 * riprap_device_ack() - answer one of the daemon's frames
 * @what: enum riprap_ack_what
 * @generation: what abi.h says of @what
 * @error: 0 or -errno
 * @sequence: of the daemon's frame
 *
 * May sleep, for memory too: a daemon that waits for an ACK would wait for ever.
 */
void riprap_device_ack(u32 what, u64 generation, int error, u64 sequence)
{
	const struct riprap_ack ack = {
		.generation = generation, .what = what, .error = error, .sequence = sequence,
	};

	riprap_device_send_gfp(RIPRAP_ACK, 0, &ack, sizeof(ack), NULL, 0, GFP_KERNEL | __GFP_NOFAIL);
}

static int send_hello(void)
{
	struct riprap_hello hello = {
		.abi = RIPRAP_ABI_VERSION,
		.features = RIPRAP_FEATURE_KTLS,
		.boot_nonce = device.boot_nonce,
		.table_generation = riprap_table_generation(),
		.trust_generation = riprap_trust_generation(),
		.next_instance = riprap_process_next_instance(),
		.draining = riprap_socket_is_draining(),
		.unknown_mode = riprap_unknown_mode(),
		.live_flows = atomic_read(&riprap_counters.flows_live),
	};

	if (IS_ENABLED(CONFIG_IPV6))
		hello.features |= RIPRAP_FEATURE_IPV6;
	strscpy(hello.module_version, THIS_MODULE->version ?: "", sizeof(hello.module_version));
	return riprap_device_send_gfp(RIPRAP_HELLO, 0, &hello, sizeof(hello), NULL, 0, GFP_KERNEL);
}

/* What goes with the one who had the device open. */
static void disconnect(void)
{
	struct queued *frame, *next;
	LIST_HEAD(dead);

	spin_lock_irq(&device.queue_lock);
	device.connected = false;
	WRITE_ONCE(device.started, false);
	list_splice_init(&device.queue, &dead);
	device.frames = 0;
	device.bytes = 0;
	spin_unlock_irq(&device.queue_lock);
	list_for_each_entry_safe(frame, next, &dead, node)
		free_queued(frame);
	riprap_authority_key_forget_all();
	riprap_table_abort();
	riprap_peer_daemon_gone();
	riprap_process_daemon_gone();
	riprap_process_set_daemon(false);
	atomic_set_release(&device.opened, 0);
}

static int device_open(struct inode *inode, struct file *file)
{
	int err;

	/* The daemon decides over access: the capability of that, so that its unit need not hold CAP_SYS_ADMIN. */
	if (!ns_capable(&init_user_ns, CAP_MAC_ADMIN))
		return -EPERM;
	if (atomic_cmpxchg(&device.opened, 0, 1))
		return -EBUSY;
	riprap_process_set_daemon(true);
	device.sent = 0;
	device.received = 0;
	spin_lock_irq(&device.queue_lock);
	device.epoch++;
	device.lost = 0;
	device.woken = false;
	spin_unlock_irq(&device.queue_lock);
	smp_store_release(&device.connected, true);
	err = send_hello();
	if (!err)
		err = riprap_process_replay(RIPRAP_FRAME_REPLAY);
	if (err) {
		disconnect();
		return err;
	}
	return nonseekable_open(inode, file);
}

static int device_release(struct inode *inode, struct file *file)
{
	disconnect();
	return 0;
}

static bool is_readable(void)
{
	return !list_empty_careful(&device.queue) || READ_ONCE(device.woken) || READ_ONCE(device.lost);
}

static struct queued *first_queued(void)
{
	struct queued *frame;

	spin_lock_irq(&device.queue_lock);
	frame = list_first_entry_or_null(&device.queue, struct queued, node);
	spin_unlock_irq(&device.queue_lock);
	return frame;
}

/* One LOST frame for all FLOW frames dropped so far. 0 or its size, -EMSGSIZE, -EFAULT. */
static ssize_t read_lost(char __user *buf, size_t size)
{
	struct {
		struct riprap_frame head;
		struct riprap_lost body;
	} lost = {
		.head = {
			.magic = RIPRAP_ABI_MAGIC, .version = RIPRAP_ABI_VERSION, .type = RIPRAP_LOST,
			.length = sizeof(lost.body), .sequence = device.sent + 1,
		},
	};

	if (!READ_ONCE(device.lost))
		return 0;
	if (size < sizeof(lost))
		return -EMSGSIZE;
	spin_lock_irq(&device.queue_lock);
	lost.body.flow_events = device.lost;
	device.lost = 0;
	spin_unlock_irq(&device.queue_lock);
	if (copy_to_user(buf, &lost, sizeof(lost)))
		return -EFAULT;
	device.sent++;
	return sizeof(lost);
}

/* As many whole frames as fit. Bytes; 0: none there; -EMSGSIZE: the first does not fit; -EFAULT. */
static ssize_t read_frames(char __user *buf, size_t size)
{
	ssize_t done = read_lost(buf, size);
	struct queued *frame;

	lockdep_assert_held(&device.read_lock);
	while (done >= 0 && (frame = first_queued())) {
		if (frame->len > size - done)
			return done ?: -EMSGSIZE;
		frame->head.sequence = device.sent + 1;
		if (copy_to_user(buf + done, &frame->head, frame->len))
			return done ?: -EFAULT;
		device.sent++;
		done += frame->len;
		spin_lock_irq(&device.queue_lock);
		list_del(&frame->node);
		device.frames--;
		device.bytes -= frame->len;
		spin_unlock_irq(&device.queue_lock);
		free_queued(frame);
	}
	return done;
}

static ssize_t device_read(struct file *file, char __user *buf, size_t size, loff_t *at)
{
	ssize_t done;

	for (;;) {
		if (mutex_lock_interruptible(&device.read_lock))
			return -ERESTARTSYS;
		done = read_frames(buf, size);
		mutex_unlock(&device.read_lock);
		if (done)
			return done;
		if (xchg(&device.woken, false))
			return 0;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(device.readable, is_readable()))
			return -ERESTARTSYS;
	}
}

static __poll_t device_poll(struct file *file, poll_table *wait)
{
	poll_wait(file, &device.readable, wait);
	return EPOLLOUT | EPOLLWRNORM | (is_readable() ? EPOLLIN | EPOLLRDNORM : 0);
}

static ssize_t device_write(struct file *file, const char __user *buf, size_t size, loff_t *at)
{
	ssize_t done;
	u8 *data;

	if (!size)
		return 0;
	if (size > RIPRAP_WRITE_MAX)
		return -EMSGSIZE;
	data = vmemdup_user(buf, size);
	if (IS_ERR(data))
		return PTR_ERR(data);
	if (mutex_lock_interruptible(&device.write_lock)) {
		done = -ERESTARTSYS;
		goto out_free;
	}
	done = riprap_device_check(data, size, device.received + 1);
	if (!done) {
		device.received += riprap_device_handle(data, size, device.received + 1);
		done = size;
	}
	mutex_unlock(&device.write_lock);
out_free:
	kvfree(data);
	return done;
}

static long device_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	return riprap_authority_key_ioctl(command, argument);
}

static const struct file_operations device_operations = {
	.owner = THIS_MODULE,
	.open = device_open,
	.release = device_release,
	.read = device_read,
	.write = device_write,
	.poll = device_poll,
	.unlocked_ioctl = device_ioctl,
};

static struct miscdevice device_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "riprap",
	.mode = 0600,
	.fops = &device_operations,
};

/**
 * riprap_device_publish() - let the daemon in; last, when every room is ready
 *
 * Return: 0 or -errno of misc_register().
 */
int riprap_device_publish(void)
{
	device.boot_nonce = get_random_u64();
	return misc_register(&device_node);
}

/* riprap_device_unpublish() - nobody can open the device from here on; nobody has it open, or the module could not be removed */
void riprap_device_unpublish(void)
{
	misc_deregister(&device_node);
}
