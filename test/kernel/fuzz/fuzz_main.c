// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Stands in for libFuzzer where the compiler has none: the corpus as it is,
 * then seeded changes of it until the time is over. Blind to coverage.
 *
 *   fuzz SECONDS SEED CORPUS
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUTS_MAX	512
#define INPUT_MAX	20000

static struct {
	uint8_t *bytes;
	size_t size;
} inputs[INPUTS_MAX];
static size_t count;
static uint64_t state;

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void load(const char *directory)
{
	char path[4096];
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) && count < INPUTS_MAX) {
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		file = fopen(path, "rb");
		if (!file)
			continue;
		inputs[count].bytes = malloc(INPUT_MAX);
		inputs[count].size = fread(inputs[count].bytes, 1, INPUT_MAX, file);
		count++;
		fclose(file);
	}
	if (dir)
		closedir(dir);
}

static size_t mutate(uint8_t *bytes, size_t size)
{
	for (uint64_t n = 1 + next() % 4; n; n--) {
		size_t at = size ? next() % size : 0, other, len;

		switch (size ? next() % 6 : 2) {
		case 0:
			bytes[at] ^= (uint8_t)(1u << next() % 8);
			break;
		case 1:
			bytes[at] = (uint8_t)next();
			break;
		case 2:
			if (size < INPUT_MAX) {
				memmove(bytes + at + 1, bytes + at, size - at);
				bytes[at] = (uint8_t)next();
				size++;
			}
			break;
		case 3:
			size = at;
			break;
		case 4:
			len = 1 + next() % (size - at);
			memmove(bytes + at, bytes + at + len, size - at - len);
			size -= len;
			break;
		default:
			other = next() % size;
			len = next() % (size - (at > other ? at : other));
			memmove(bytes + at, bytes + other, len);
		}
	}
	return size;
}

int main(int argc, char **argv)
{
	static uint8_t bytes[INPUT_MAX];
	unsigned long long runs = 0;
	time_t end;

	if (argc != 4)
		return 2;
	end = time(NULL) + atoi(argv[1]);
	state = strtoull(argv[2], NULL, 10) * 2654435761u + 1;
	load(argv[3]);
	for (size_t i = 0; i < count; i++)
		LLVMFuzzerTestOneInput(inputs[i].bytes, inputs[i].size);
	while (time(NULL) < end) {
		size_t pick = count ? next() % count : 0;
		size_t size = count ? inputs[pick].size : 0;

		if (size)
			memcpy(bytes, inputs[pick].bytes, size);
		size = mutate(bytes, size);
		LLVMFuzzerTestOneInput(bytes, size);
		runs++;
	}
	for (size_t i = 0; i < count; i++)
		free(inputs[i].bytes);
	printf("Done %llu runs\n", runs);
	return 0;
}
