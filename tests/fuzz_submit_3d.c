/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fuzzes the decoding of SUBMIT_3D, against a second decoder written here from the protocol's page.
 *
 * The program (fuzz.h) mutates valid requests.
 *
 * An input is a byte of options, a byte that seeds the cuts of the iovec, and the request.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include <vgfence/submit_3d.h>
#include <vgfence/vgfence.h>

#include "fuzz.h"

#define OPTION_FENCE_PASSING 1
#define OPTION_SMALL_LIMITS 2
#define OPTION_NO_LIMITS 4

#define MAX_ELEMENTS 64

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

/* Each element gets memory of its own and of its exact size, so that a sanitizer sees a read past
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

static void put(uint8_t *to, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++) {
		to[i] = (uint8_t)(value >> (8 * i));
	}
}

static void make_valid(struct fuzz_input *input, uint64_t *random)
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

static void mutate(struct fuzz_input *input, uint64_t *random)
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

int main(int argc, char **argv)
{
	static const struct fuzz_program program = {
		.name = "submit_3d",
		.runs = 100000,
		.num_changes = 4,
		.make = make_valid,
		.mutate = mutate,
	};

	return fuzz_main(&program, argc, argv);
}
#endif
