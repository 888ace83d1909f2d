/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FUZZ_H
#define FUZZ_H

/*
 * What the fuzz targets share: a program that makes inputs, mutates them and runs them through
 * LLVMFuzzerTestOneInput, if there is no libFuzzer, or replays files.
 *
 *     PROGRAM [--runs N] [--seed N] [--corpus DIRECTORY] [--traces DIRECTORY] [FILE...]
 *
 * With clang, -fsanitize=fuzzer and -DLIBFUZZER a target is libFuzzer's. The program writes it
 * something to begin with: `--corpus DIRECTORY --runs N`.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert, which NDEBUG would take away. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

uint64_t next_random(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t bound);

#define FUZZ_MAX_INPUT 16384

struct fuzz_input {
	uint8_t bytes[FUZZ_MAX_INPUT];
	size_t size;
};

struct fuzz_program {
	const char *name;     /* of the files in a corpus */
	uint64_t runs;        /* if no number is given */
	uint32_t num_changes; /* fewer than these are made to an input */
	void (*make)(struct fuzz_input *input, uint64_t *random);
	void (*mutate)(struct fuzz_input *input, uint64_t *random); /* it has a byte at least */
	void (*load_traces)(const char *directory); /* NULL: the target has no use for them */
};

/* Returns the exit status. */
int fuzz_main(const struct fuzz_program *program, int argc, char **argv);

#endif
