// SPDX-License-Identifier: Apache-2.0
/*
 * A plugin of QEMU's: how often each block of a guest's code ran, times its instructions. For guests of one processor, or of
 * processors that share a thread.
 *
 *   -plugin libcount.so,control=FIFO
 *
 * Each line that comes through the FIFO is a path: the counts since the line before go there, as lines "ADDRESS INSTRUCTIONS" in
 * hexadecimal and decimal, and the file takes its name when it is whole.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of version 1 of the plugin interface, what is used here: no package has its header. */
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op, void *counter, uint64_t amount);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

#define EXPORTED __attribute__((visibility("default")))
#define CHUNK	65536

EXPORTED int qemu_plugin_version = 1;

/* One for each translation of a block: translated code adds to it without a call, so that it must stay where it is. */
struct block {
	uint64_t address, instructions;
};

struct chunk {
	struct chunk *next;
	size_t used;
	struct block block[CHUNK];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* of the list; the counters are only ever torn, never lost */
static struct chunk *chunks;

static struct block *new_block(uint64_t address)
{
	struct block *block = NULL;

	pthread_mutex_lock(&lock);
	if (!chunks || chunks->used == CHUNK) {
		struct chunk *fresh = calloc(1, sizeof(*fresh));

		if (fresh) {
			fresh->next = chunks;
			chunks = fresh;
		}
	}
	if (chunks && chunks->used < CHUNK) {
		block = &chunks->block[chunks->used++];
		block->address = address;
	}
	pthread_mutex_unlock(&lock);
	return block;
}

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	struct block *block = new_block(qemu_plugin_tb_vaddr(tb));

	(void)id;
	if (block)
		qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &block->instructions,
							 qemu_plugin_tb_n_insns(tb));
}

static void write_counts(const char *path)
{
	char part[4096];
	struct chunk *chunk;
	FILE *file;
	size_t i;

	snprintf(part, sizeof(part), "%s.part", path);
	file = fopen(part, "w");
	pthread_mutex_lock(&lock);
	for (chunk = chunks; chunk; chunk = chunk->next) {
		for (i = 0; i < chunk->used; i++) {
			uint64_t count = __atomic_exchange_n(&chunk->block[i].instructions, 0, __ATOMIC_RELAXED);

			if (count && file)
				fprintf(file, "%lx %lu\n", chunk->block[i].address, count);
		}
	}
	pthread_mutex_unlock(&lock);
	if (file && !fclose(file))
		rename(part, path);
}

static void *obey(void *argument)
{
	char line[4000];
	FILE *control;

	while ((control = fopen(argument, "r"))) {
		while (fgets(line, sizeof(line), control)) {
			line[strcspn(line, "\n")] = 0;
			write_counts(line);
		}
		fclose(control);
	}
	return NULL;
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	static const char option[] = "control=";
	pthread_t thread;

	(void)info;
	if (argc != 1 || strncmp(argv[0], option, sizeof(option) - 1))
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
	return pthread_create(&thread, NULL, obey, strdup(argv[0] + sizeof(option) - 1)) ? -1 : 0;
}
