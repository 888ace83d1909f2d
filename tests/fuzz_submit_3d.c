/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fuzzes the decoding of SUBMIT_3D, against a second decoder written here from the protocol's page.
 *
 * Built as a program, it replays files, or runs pseudo-random mutations of valid requests:
 *     fuzz_submit_3d [--runs N] [--seed N] [FILE...]
 * With clang, -fsanitize=fuzzer and -DLIBFUZZER it is a libFuzzer target; `--corpus DIR --runs N`
 * of the program writes it something to begin with.
 *
 * An input is a byte of options, a byte that seeds the cuts of the iovec, and the request.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <vgfence/vgfence.h>

#define OPTION_FENCE_PASSING 1
#define OPTION_SMALL_LIMITS 2
#define OPTION_NO_LIMITS 4

#define MAX_ELEMENTS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert, which NDEBUG would take away. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u; /* SplitMix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t random_below(uint64_t *state, uint64_t bound)
{
	return next_random(state) % bound;
}

/* ---- The reference ------------------------------------------------------------------------ */

struct expected {
	int ret;
	uint32_t flags;
	uint64_t fence_id;
	uint32_t ctx_id;
	int32_t ring;
	uint64_t num_in_fences;
	uint64_t size;
	const uint8_t *in_fences;
	const uint8_t *command;
};

static uint64_t get(const uint8_t *bytes, unsigned int size)
{
	uint64_t value = 0;

	while (size-- > 0) {
		value = value << 8 | bytes[size];
	}
	return value;
}

static int expect_payload(const uint8_t *request, uint64_t length, bool fence_passing,
	const struct vgf_limits *limits, struct expected *expected)
{
	uint64_t max_in_fences = limits ? limits->max_in_fences : 256;
	uint64_t max_size = limits ? limits->max_command_size : 4 << 20;

	if (length < 32) {
		return -EBADMSG;
	}
	expected->size = get(request + 24, 4);
	expected->num_in_fences = fence_passing ? get(request + 28, 4) : 0;
	if (32 + 8 * expected->num_in_fences + expected->size > length) {
		return -EBADMSG;
	}
	if (expected->size & 3) {
		return -EINVAL;
	}
	if (expected->num_in_fences > max_in_fences || expected->size > max_size) {
		return -E2BIG;
	}
	expected->in_fences = request + 32;
	expected->command = request + 32 + 8 * expected->num_in_fences;
	return 0;
}

static struct expected expect(const uint8_t *request, uint64_t length, bool fence_passing,
	const struct vgf_limits *limits)
{
	struct expected expected = { .ret = -EBADMSG };
	uint64_t flags;

	if (length < 24) {
		return expected;
	}
	flags = get(request + 4, 4);
	if ((flags & 2) && request[20] > 63) {
		expected.ret = -EINVAL;
		return expected;
	}
	expected.ctx_id = (uint32_t)get(request + 16, 4);
	expected.ring = flags & 2 ? request[20] : -1;
	if (flags & 1) {
		expected.fence_id = get(request + 8, 8);
		expected.flags = VGF_FENCED;
		if (fence_passing && (flags & 4)) {
			expected.flags = VGF_FENCED | VGF_SHAREABLE;
		}
	}
	if (get(request, 4) != 0x207) {
		expected.ret = -EINVAL;
	} else {
		expected.ret = expect_payload(request, length, fence_passing, limits, &expected);
	}
	return expected;
}

static void check_payload(const struct vgf_submission *submission, const struct expected *expected)
{
	CHECK(submission->num_in_fences == expected->num_in_fences);
	CHECK(submission->size == expected->size);
	for (uint32_t i = 0; i < submission->num_in_fences; i++) {
		CHECK(submission->in_fences[i] == get(expected->in_fences + 8 * (size_t)i, 8));
	}
	if (submission->size > 0) {
		CHECK(memcmp(submission->command, expected->command, submission->size) == 0);
	}
}

static void check_submit(int ret, const char *reason, const struct vgf_submit_3d *submit,
	const struct expected *expected)
{
	const struct vgf_submission *submission = &submit->submission;

	CHECK(ret == expected->ret);
	CHECK(submission->flags == expected->flags);
	CHECK(submission->fence.fence_id == expected->fence_id);
	CHECK(submission->fence.ctx_id == expected->ctx_id);
	CHECK(submission->fence.ring == expected->ring);
	if (ret == 0) {
		CHECK(!reason);
		check_payload(submission, expected);
	} else {
		CHECK(reason && reason[0] != '\0');
		CHECK(!submit->storage && !submission->in_fences && !submission->command);
		CHECK(submission->num_in_fences == 0 && submission->size == 0);
	}
}

/* ---- One input ---------------------------------------------------------------------------- */

/* Each element gets memory of its own and of its exact size, where a sanitizer sees a read past
 * it. */
static size_t cut(const uint8_t *request, size_t length, uint64_t seed, struct iovec *iov)
{
	uint64_t most = seed % 5 == 0 ? 1 : 1 + seed % 41;
	size_t count = 0;

	while (length > 0 && count < MAX_ELEMENTS) {
		size_t size = (size_t)random_below(&seed, most + 1);

		if (size > length || count == MAX_ELEMENTS - 1) {
			size = length;
		}
		iov[count] = (struct iovec){ .iov_len = size };
		if (size > 0) {
			iov[count].iov_base = malloc(size);
			CHECK(iov[count].iov_base);
			memcpy(iov[count].iov_base, request, size);
		}
		request += size;
		length -= size;
		count++;
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vgf_limits small = { .max_in_fences = 3, .max_command_size = 16 };
	static const struct vgf_limits none = {
		.max_in_fences = UINT32_MAX,
		.max_command_size = UINT32_MAX,
	};
	const struct vgf_limits *limits = NULL;
	const char *reason = NULL;
	struct iovec iov[MAX_ELEMENTS] = { { 0 } };
	struct vgf_submit_3d submit;
	struct expected expected;
	bool fence_passing;
	size_t count;
	int ret;

	if (size < 2) {
		return 0;
	}
	fence_passing = data[0] & OPTION_FENCE_PASSING;
	if (data[0] & OPTION_SMALL_LIMITS) {
		limits = &small;
	} else if (data[0] & OPTION_NO_LIMITS) {
		limits = &none;
	}
	expected = expect(data + 2, size - 2, fence_passing, limits);

	count = cut(data + 2, size - 2, data[1], iov);
	ret = vgf_submit_3d_decode(iov, count, fence_passing, limits, &submit, &reason);
	for (size_t i = 0; i < count; i++) {
		free(iov[i].iov_base); /* what was decoded must not need it any more */
	}
	check_submit(ret, reason, &submit, &expected);
	vgf_submit_3d_finish(&submit);
	CHECK(!submit.storage);
	return 0;
}

/* ---- The program -------------------------------------------------------------------------- */

#ifndef LIBFUZZER

#define MAX_INPUT 256

struct input {
	uint8_t bytes[MAX_INPUT];
	size_t size;
};

static void put(uint8_t *to, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++) {
		to[i] = (uint8_t)(value >> (8 * i));
	}
}

static void make_valid(struct input *input, uint64_t *random)
{
	uint8_t *request = input->bytes + 2;
	uint64_t num_in_fences = random_below(random, 7);
	uint64_t size = 4 * random_below(random, 17);

	input->size = (size_t)(2 + 32 + 8 * num_in_fences + size);
	for (size_t i = 0; i < input->size; i++) {
		input->bytes[i] = (uint8_t)next_random(random);
	}
	put(request, 0x207, 4);
	request[20] = (uint8_t)random_below(random, 64);
	put(request + 24, size, 4);
	put(request + 28, num_in_fences, 4);
}

static void mutate(struct input *input, uint64_t *random)
{
	static const uint32_t values[] = { 0, 1, 3, 4, 63, 64, 0x207, 0x10000, 0x1fffffff,
		0x20000000, 0x7fffffff, 0x80000000, 0xfffffff8, 0xfffffffc, UINT32_MAX };
	size_t at = (size_t)random_below(random, input->size);

	switch (random_below(random, 5)) {
	case 0:
		input->bytes[at] ^= (uint8_t)(1u << random_below(random, 8));
		break;
	case 1:
		input->bytes[at] = (uint8_t)next_random(random);
		break;
	case 2:
		at = 2 + 4 * (size_t)random_below(random, 8);
		put(input->bytes + at,
			values[random_below(random, sizeof(values) / sizeof(values[0]))], 4);
		break;
	case 3:
		input->size = 1 + at;
		break;
	default:
		input->size += (size_t)random_below(random, MAX_INPUT - input->size + 1);
		break;
	}
}

static int run_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(path, "rb");
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

static int write_input(const char *directory, uint64_t number, const struct input *input)
{
	char path[4096];
	FILE *file;
	bool written;

	snprintf(path, sizeof(path), "%s/submit_3d-%" PRIu64, directory, number);
	file = fopen(path, "wb");
	written = file && fwrite(input->bytes, 1, input->size, file) == input->size;
	if (file && fclose(file) != 0) {
		written = false;
	}
	if (!written) {
		perror(path);
	}
	return written ? 0 : 1;
}

static int run_random(uint64_t runs, uint64_t seed, const char *corpus)
{
	uint64_t random = seed;
	struct input input = { 0 };

	printf("seed %" PRIu64 ", %" PRIu64 " inputs\n", seed, runs);
	fflush(stdout);
	for (uint64_t i = 0; i < runs; i++) {
		make_valid(&input, &random);
		if (corpus) {
			if (write_input(corpus, i, &input) != 0) {
				return 1;
			}
			continue;
		}
		for (uint64_t left = random_below(&random, 4); left > 0; left--) {
			mutate(&input, &random);
		}
		LLVMFuzzerTestOneInput(input.bytes, input.size);
	}
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t runs = 100000, seed = (uint64_t)time(NULL);
	const char *corpus = NULL;
	bool files = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc) {
			runs = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--corpus") == 0 && i + 1 < argc) {
			corpus = argv[++i];
		} else {
			files = true;
			if (run_file(argv[i]) != 0) {
				return 1;
			}
		}
	}
	return files ? 0 : run_random(runs, seed, corpus);
}

#endif
