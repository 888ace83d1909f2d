/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "fuzz.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u; /* SplitMix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t random_below(uint64_t *state, uint64_t bound)
{
	return next_random(state) % bound;
}

/* From a block of just that size, so that a sanitizer sees what is read beyond it. */
static int run_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(path, "rbe");
	uint8_t *exact;
	size_t size;

	if (!file) {
		perror(path);
		return 1;
	}
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	exact = malloc(size + !size);
	CHECK(exact);
	memcpy(exact, data, size);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	return 0;
}

static int write_input(
	const char *directory, const char *name, uint64_t number, const struct fuzz_input *input)
{
	char path[4096];
	FILE *file;
	bool written;

	snprintf(path, sizeof(path), "%s/%s-%" PRIu64, directory, name, number);
	file = fopen(path, "wbe");
	written = file && fwrite(input->bytes, 1, input->size, file) == input->size;
	if (file && fclose(file) != 0) {
		written = false;
	}
	if (!written) {
		perror(path);
	}
	return written ? 0 : 1;
}

static int run_random(
	const struct fuzz_program *program, uint64_t runs, uint64_t seed, const char *corpus)
{
	static struct fuzz_input input;
	uint64_t random = seed;

	printf("seed %" PRIu64 ", %" PRIu64 " inputs\n", seed, runs);
	fflush(stdout);
	for (uint64_t i = 0; i < runs; i++) {
		input.size = 0;
		program->make(&input, &random);
		if (corpus) {
			if (write_input(corpus, program->name, i, &input) != 0) {
				return 1;
			}
			continue;
		}
		for (uint64_t left = random_below(&random, program->num_changes);
			left > 0 && input.size > 0; left--) {
			program->mutate(&input, &random);
		}
		LLVMFuzzerTestOneInput(input.bytes, input.size);
	}
	return 0;
}

int fuzz_main(const struct fuzz_program *program, int argc, char **argv)
{
	const char *inputs = getenv("VGF_TEST_INPUTS");
	uint64_t runs = inputs ? strtoull(inputs, NULL, 0) : program->runs,
		 seed = (uint64_t)time(NULL);
	const char *corpus = NULL;
	bool files = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc) {
			runs = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--corpus") == 0 && i + 1 < argc) {
			corpus = argv[++i];
		} else if (strcmp(argv[i], "--traces") == 0 && i + 1 < argc &&
			program->load_traces) {
			program->load_traces(argv[++i]);
		} else {
			files = true;
			if (run_file(argv[i]) != 0) {
				return 1;
			}
		}
	}
	return files ? 0 : run_random(program, runs, seed, corpus);
}
