/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Decoding of SUBMIT_3D. The wire format is written down once more here, in numbers: the library's
 * own constants would only be compared with themselves.
 */

#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vgfence/submit_3d.h>
#include <vgfence/vgfence.h>

#include "alloc.h"

#define SUBMIT_3D 0x0207
#define FENCE 1u
#define INFO_RING_IDX 2u
#define SHAREABLE 4u

#define FENCE_ID 0x8877665544332211u
#define CTX_ID 0xc0ffee01u
#define RING 5

#define REQUEST_SIZE 64 /* header 24, size and num_in_fences 8, IDs 24, command stream 8 */
#define TYPE_AT 0
#define FLAGS_AT 4
#define RING_AT 20
#define SIZE_AT 24
#define NUM_IN_FENCES_AT 28
#define IN_FENCES_AT 32
#define COMMAND_AT 56

static const uint64_t in_fences[3] = { 0x0102030405060708u, UINT64_MAX, 1 };
static const uint8_t command[8] = { 0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3 };

static void put(uint8_t *to, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++) {
		to[i] = (uint8_t)(value >> (8 * i));
	}
}

static void make_request(uint8_t request[REQUEST_SIZE])
{
	memset(request, 0, REQUEST_SIZE);
	put(request + TYPE_AT, SUBMIT_3D, 4);
	put(request + FLAGS_AT, FENCE | INFO_RING_IDX | SHAREABLE, 4);
	put(request + 8, FENCE_ID, 8);
	put(request + 16, CTX_ID, 4);
	request[RING_AT] = RING;
	put(request + SIZE_AT, sizeof(command), 4);
	put(request + NUM_IN_FENCES_AT, 3, 4);
	for (size_t i = 0; i < 3; i++) {
		put(request + IN_FENCES_AT + i * 8, in_fences[i], 8);
	}
	memcpy(request + COMMAND_AT, command, sizeof(command));
}

/* A descriptor chain. Each element has memory of its own and of its exact size, so that a sanitizer
 * sees a read past it. */
struct chain {
	struct iovec iov[2 * REQUEST_SIZE + 2];
	size_t count;
};

static void chain_add(struct chain *chain, const uint8_t *bytes, size_t size)
{
	struct iovec *iov = &chain->iov[chain->count++];

	assert_true(chain->count <= sizeof(chain->iov) / sizeof(chain->iov[0]));
	*iov = (struct iovec){ .iov_len = size };
	if (size > 0) {
		iov->iov_base = malloc(size);
		assert_non_null(iov->iov_base);
		memcpy(iov->iov_base, bytes, size);
	}
}

static void chain_finish(struct chain *chain)
{
	for (size_t i = 0; i < chain->count; i++) {
		free(chain->iov[i].iov_base);
	}
	chain->count = 0;
}

static int decode_bytes(const uint8_t *bytes, size_t size, struct vgf_submit_3d *submit)
{
	struct chain chain = { 0 };
	const char *reason = "not set";
	int ret;

	chain_add(&chain, bytes, size);
	ret = vgf_submit_3d_decode(chain.iov, chain.count, true, NULL, submit, &reason);
	chain_finish(&chain);
	if (ret < 0) {
		assert_non_null(reason);
		assert_string_not_equal(reason, "not set");
		assert_null(submit->storage);
		assert_int_equal(submit->submission.num_in_fences, 0);
		assert_int_equal(submit->submission.size, 0);
	} else {
		assert_null(reason);
	}
	return ret;
}

static void assert_fence(const struct vgf_submission *submission)
{
	assert_true(submission->fence.fence_id == FENCE_ID);
	assert_int_equal(submission->fence.ctx_id, CTX_ID);
	assert_int_equal(submission->fence.ring, RING);
	assert_int_equal(submission->flags, VGF_FENCED | VGF_SHAREABLE);
}

static void assert_no_fence(const struct vgf_submission *submission)
{
	assert_int_equal(submission->flags, 0);
	assert_true(submission->fence.fence_id == 0);
}

/* Decodes a request, which must be that of make_request. */
static void assert_decodes(const struct chain *chain)
{
	struct vgf_submit_3d submit;
	const struct vgf_submission *submission = &submit.submission;

	assert_int_equal(
		vgf_submit_3d_decode(chain->iov, chain->count, true, NULL, &submit, NULL), 0);
	assert_fence(submission);
	assert_int_equal(submission->num_in_fences, 3);
	assert_memory_equal(submission->in_fences, in_fences, sizeof(in_fences));
	assert_int_equal(submission->size, sizeof(command));
	assert_memory_equal(submission->command, command, sizeof(command));
	vgf_submit_3d_finish(&submit);
}

TEST(decodes_a_request_in_one_piece)
{
	uint8_t request[REQUEST_SIZE];
	struct chain chain = { 0 };

	make_request(request);
	chain_add(&chain, request, REQUEST_SIZE);
	assert_decodes(&chain);
	chain_finish(&chain);
}

TEST(decodes_at_every_cut)
{
	uint8_t request[REQUEST_SIZE];

	make_request(request);
	for (size_t cut = 0; cut <= REQUEST_SIZE; cut++) {
		struct chain chain = { 0 };

		chain_add(&chain, request, cut);
		chain_add(&chain, request + cut, REQUEST_SIZE - cut);
		assert_decodes(&chain);
		chain_finish(&chain);
	}
}

TEST(decodes_at_every_two_cuts)
{
	uint8_t request[REQUEST_SIZE];

	make_request(request);
	for (size_t first = 0; first <= REQUEST_SIZE; first++) {
		for (size_t second = first; second <= REQUEST_SIZE; second++) {
			struct chain chain = { 0 };

			chain_add(&chain, request, first);
			chain_add(&chain, request + first, second - first);
			chain_add(&chain, request + second, REQUEST_SIZE - second);
			assert_decodes(&chain);
			chain_finish(&chain);
		}
	}
}

TEST(decodes_single_bytes_with_empty_elements_between)
{
	uint8_t request[REQUEST_SIZE];
	struct chain chain = { 0 };

	make_request(request);
	for (size_t i = 0; i < REQUEST_SIZE; i++) {
		chain_add(&chain, NULL, 0);
		chain_add(&chain, request + i, 1);
	}
	chain_add(&chain, NULL, 0);
	assert_decodes(&chain);
	chain_finish(&chain);
}

TEST(ignores_bytes_after_the_command_stream)
{
	uint8_t request[REQUEST_SIZE], more[16];
	struct chain chain = { 0 };

	make_request(request);
	memset(more, 0xff, sizeof(more));
	chain_add(&chain, request, REQUEST_SIZE);
	chain_add(&chain, more, sizeof(more));
	assert_decodes(&chain);
	chain_finish(&chain);
}

TEST(refuses_every_truncation_at_every_cut)
{
	uint8_t request[REQUEST_SIZE];

	make_request(request);
	for (size_t size = 0; size < REQUEST_SIZE; size++) {
		for (size_t cut = 0; cut <= size; cut++) {
			struct chain chain = { 0 };
			struct vgf_submit_3d submit;

			chain_add(&chain, request, cut);
			chain_add(&chain, request + cut, size - cut);
			assert_int_equal(vgf_submit_3d_decode(
						 chain.iov, chain.count, true, NULL, &submit, NULL),
				-EBADMSG);
			if (size < 24) {
				assert_no_fence(&submit.submission);
			} else {
				assert_fence(&submit.submission);
			}
			chain_finish(&chain);
		}
	}
}

TEST(refuses_an_empty_chain)
{
	const struct iovec empty[2] = { { 0 } };
	struct vgf_submit_3d submit;

	assert_int_equal(vgf_submit_3d_decode(NULL, 0, true, NULL, &submit, NULL), -EBADMSG);
	assert_no_fence(&submit.submission);
	assert_int_equal(vgf_submit_3d_decode(empty, 2, true, NULL, &submit, NULL), -EBADMSG);
	assert_no_fence(&submit.submission);
}

TEST(lengths_whose_sum_overflows_are_no_fault)
{
	uint8_t request[REQUEST_SIZE];
	struct vgf_submit_3d submit;
	struct iovec iov[3];

	make_request(request);
	/* A chain may name the same pages again and again. Nothing past the request is read. */
	iov[0] = (struct iovec){ request, 30 };
	iov[1] = (struct iovec){ request + 30, SIZE_MAX - 29 };
	iov[2] = (struct iovec){ request, SIZE_MAX };
	for (size_t count = 2; count <= 3; count++) {
		assert_int_equal(vgf_submit_3d_decode(iov, count, true, NULL, &submit, NULL), 0);
		assert_fence(&submit.submission);
		assert_memory_equal(submit.submission.command, command, sizeof(command));
		vgf_submit_3d_finish(&submit);
	}
}

/* One thing wrong with a request each. */
static const struct fault {
	size_t at;
	uint32_t value;
	size_t length; /* of the request */
	int error;
	bool has_fence;
} faults[] = {
	{ 0, SUBMIT_3D, 23, -EBADMSG, false },
	{ RING_AT, 64, REQUEST_SIZE, -EINVAL, false },
	{ TYPE_AT, 0x0206, REQUEST_SIZE, -EINVAL, true },
	{ 0, SUBMIT_3D, 31, -EBADMSG, true },
	{ NUM_IN_FENCES_AT, 5, REQUEST_SIZE, -EBADMSG, true },
	{ SIZE_AT, 12, REQUEST_SIZE, -EBADMSG, true },
	{ SIZE_AT, 7, REQUEST_SIZE, -EINVAL, true },
};

TEST(each_fault_has_an_error_and_a_reason_of_its_own)
{
	const struct vgf_limits few = { .max_in_fences = 2 };
	const struct vgf_limits little = { .max_command_size = 4 };
	const char *reasons[16];
	uint8_t request[REQUEST_SIZE];
	struct iovec iov = { request, REQUEST_SIZE };
	struct vgf_submit_3d submit;
	size_t count = 0;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		make_request(request);
		put(request + faults[i].at, faults[i].value, faults[i].at == RING_AT ? 1 : 4);
		iov.iov_len = faults[i].length;
		assert_int_equal(
			vgf_submit_3d_decode(&iov, 1, true, NULL, &submit, &reasons[count++]),
			faults[i].error);
		if (faults[i].has_fence) {
			assert_fence(&submit.submission);
		} else {
			assert_no_fence(&submit.submission);
		}
	}

	make_request(request);
	iov.iov_len = REQUEST_SIZE;
	assert_int_equal(
		vgf_submit_3d_decode(&iov, 1, true, &few, &submit, &reasons[count++]), -E2BIG);
	assert_fence(&submit.submission);
	assert_int_equal(
		vgf_submit_3d_decode(&iov, 1, true, &little, &submit, &reasons[count++]), -E2BIG);
	assert_fence(&submit.submission);
	alloc_fail(1);
	assert_int_equal(
		vgf_submit_3d_decode(&iov, 1, true, NULL, &submit, &reasons[count++]), -ENOMEM);
	assert_fence(&submit.submission);

	for (size_t i = 0; i < count; i++) {
		assert_non_null(reasons[i]);
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(reasons[i], reasons[j]);
		}
	}
}

TEST(a_command_stream_is_a_multiple_of_four)
{
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];

	for (uint32_t size = 0; size <= sizeof(command); size++) {
		make_request(request);
		put(request + SIZE_AT, size, 4);
		assert_int_equal(
			decode_bytes(request, REQUEST_SIZE, &submit), size % 4 == 0 ? 0 : -EINVAL);
		assert_fence(&submit.submission);
		vgf_submit_3d_finish(&submit);
	}
}

TEST(rings_end_at_63)
{
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];

	make_request(request);
	for (unsigned int ring = 0; ring <= UINT8_MAX; ring++) {
		request[RING_AT] = (uint8_t)ring;
		if (ring <= 63) {
			assert_int_equal(decode_bytes(request, REQUEST_SIZE, &submit), 0);
			assert_int_equal(submit.submission.fence.ring, ring);
			vgf_submit_3d_finish(&submit);
		} else {
			assert_int_equal(decode_bytes(request, REQUEST_SIZE, &submit), -EINVAL);
			assert_no_fence(&submit.submission);
		}
	}
}

TEST(without_a_ring_the_fence_is_global)
{
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];

	make_request(request);
	put(request + FLAGS_AT, FENCE, 4);
	request[RING_AT] = 255;
	assert_int_equal(decode_bytes(request, REQUEST_SIZE, &submit), 0);
	assert_int_equal(submit.submission.fence.ring, VGF_RING_GLOBAL);
	assert_int_equal(submit.submission.fence.ctx_id, CTX_ID);
	assert_true(submit.submission.fence.fence_id == FENCE_ID);
	assert_int_equal(submit.submission.flags, VGF_FENCED);
	vgf_submit_3d_finish(&submit);
}

TEST(without_a_fence_the_id_is_ignored)
{
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];

	make_request(request);
	put(request + FLAGS_AT, INFO_RING_IDX | SHAREABLE, 4);
	assert_int_equal(decode_bytes(request, REQUEST_SIZE, &submit), 0);
	assert_no_fence(&submit.submission);
	assert_int_equal(submit.submission.fence.ring, RING);
	assert_int_equal(submit.submission.fence.ctx_id, CTX_ID);
	assert_int_equal(submit.submission.num_in_fences, 3);
	vgf_submit_3d_finish(&submit);
}

TEST(unknown_flags_are_ignored)
{
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];

	make_request(request);
	put(request + FLAGS_AT, UINT32_MAX, 4);
	assert_int_equal(decode_bytes(request, REQUEST_SIZE, &submit), 0);
	assert_fence(&submit.submission);
	vgf_submit_3d_finish(&submit);
}

TEST(without_fence_passing_the_count_is_padding)
{
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];
	const struct iovec iov = { request, REQUEST_SIZE };

	make_request(request);
	put(request + NUM_IN_FENCES_AT, UINT32_MAX, 4);
	put(request + SIZE_AT, REQUEST_SIZE - IN_FENCES_AT, 4);
	assert_int_equal(vgf_submit_3d_decode(&iov, 1, false, NULL, &submit, NULL), 0);
	assert_int_equal(submit.submission.flags, VGF_FENCED);
	assert_int_equal(submit.submission.num_in_fences, 0);
	assert_int_equal(submit.submission.size, REQUEST_SIZE - IN_FENCES_AT);
	assert_memory_equal(
		submit.submission.command, request + IN_FENCES_AT, REQUEST_SIZE - IN_FENCES_AT);
	vgf_submit_3d_finish(&submit);
}

TEST(nothing_but_a_fence_allocates_nothing)
{
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];
	const struct iovec iov = { request, IN_FENCES_AT };
	unsigned long before;

	make_request(request);
	put(request + SIZE_AT, 0, 8);
	before = alloc_count();
	assert_int_equal(vgf_submit_3d_decode(&iov, 1, true, NULL, &submit, NULL), 0);
	assert_int_equal(alloc_count(), before);
	assert_fence(&submit.submission);
	assert_null(submit.submission.in_fences);
	assert_null(submit.submission.command);
	vgf_submit_3d_finish(&submit);
	vgf_submit_3d_finish(&submit);
}

TEST(one_request_is_one_allocation)
{
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];
	const struct iovec iov = { request, REQUEST_SIZE };

	make_request(request);
	alloc_reset();
	assert_int_equal(vgf_submit_3d_decode(&iov, 1, true, NULL, &submit, NULL), 0);
	assert_int_equal(alloc_count(), 1);
	assert_int_equal(alloc_largest(), sizeof(in_fences) + sizeof(command));
	vgf_submit_3d_finish(&submit);
}

TEST(huge_counts_in_few_bytes_allocate_nothing)
{
	static const uint32_t counts[] = { 4, 0x1fffffff, 0x20000000, 0x7fffffff, UINT32_MAX };
	static const uint32_t sizes[] = { 12, 0x7ffffffc, 0x80000000, 0xffffffe8, 0xfffffffc };
	const struct vgf_limits no_limits = {
		.max_in_fences = UINT32_MAX,
		.max_command_size = UINT32_MAX,
	};
	struct vgf_submit_3d submit;
	uint8_t request[REQUEST_SIZE];
	const struct iovec iov = { request, REQUEST_SIZE };
	unsigned long before = alloc_count();

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		make_request(request);
		put(request + NUM_IN_FENCES_AT, counts[i], 4);
		assert_int_equal(
			vgf_submit_3d_decode(&iov, 1, true, &no_limits, &submit, NULL), -EBADMSG);
		put(request + SIZE_AT, UINT32_MAX - 3, 4);
		assert_int_equal(
			vgf_submit_3d_decode(&iov, 1, true, &no_limits, &submit, NULL), -EBADMSG);
		make_request(request);
		put(request + SIZE_AT, sizes[i], 4);
		assert_int_equal(
			vgf_submit_3d_decode(&iov, 1, true, &no_limits, &submit, NULL), -EBADMSG);
	}
	assert_int_equal(alloc_count(), before);
}

/* A request of any size, all zeros after its head. */
static int decode_sized(uint32_t num_in_fences, uint32_t size, const struct vgf_limits *limits)
{
	uint8_t request[REQUEST_SIZE];
	size_t payload = 8 * (size_t)num_in_fences + size;
	struct iovec iov[2] = { { request, IN_FENCES_AT }, { calloc(1, payload + 1), payload } };
	unsigned long before = alloc_count();
	struct vgf_submit_3d submit;
	int ret;

	make_request(request);
	put(request + NUM_IN_FENCES_AT, num_in_fences, 4);
	put(request + SIZE_AT, size, 4);
	ret = vgf_submit_3d_decode(iov, 2, true, limits, &submit, NULL);
	assert_fence(&submit.submission);
	if (ret == 0) {
		assert_int_equal(submit.submission.num_in_fences, num_in_fences);
		assert_int_equal(submit.submission.size, size);
		vgf_submit_3d_finish(&submit);
	} else {
		assert_int_equal(alloc_count(), before);
	}
	free(iov[1].iov_base);
	return ret;
}

TEST(limits_have_reserved_members)
{
	struct vgf_limits limits = { .reserved[7] = 1 };
	uint8_t request[REQUEST_SIZE];
	struct iovec iov = { request, REQUEST_SIZE };
	struct vgf_submit_3d submit;
	const char *reason;

	make_request(request);
	assert_int_equal(vgf_submit_3d_decode(&iov, 1, true, &limits, &submit, &reason), -EINVAL);
	assert_non_null(reason);
	assert_fence(&submit.submission); /* it can be refused in its place */
	limits.reserved[7] = 0;
	assert_int_equal(vgf_submit_3d_decode(&iov, 1, true, &limits, &submit, &reason), 0);
	vgf_submit_3d_finish(&submit);
}

TEST(limits_hold_to_the_unit)
{
	const struct vgf_limits limits = { .max_in_fences = 7, .max_command_size = 64 };
	const struct vgf_limits defaults = { 0 };

	assert_int_equal(decode_sized(7, 64, &limits), 0);
	assert_int_equal(decode_sized(8, 64, &limits), -E2BIG);
	assert_int_equal(decode_sized(7, 68, &limits), -E2BIG);

	assert_int_equal(decode_sized(256, 4 << 20, NULL), 0);
	assert_int_equal(decode_sized(257, 4 << 20, NULL), -E2BIG);
	assert_int_equal(decode_sized(256, (4 << 20) + 4, NULL), -E2BIG);
	assert_int_equal(decode_sized(256, 4 << 20, &defaults), 0);
	assert_int_equal(decode_sized(257, 4 << 20, &defaults), -E2BIG);
	assert_int_equal(decode_sized(256, (4 << 20) + 4, &defaults), -E2BIG);
}

TEST(a_malformed_request_is_so_whatever_the_limits)
{
	const struct vgf_limits tiny = { .max_in_fences = 1, .max_command_size = 4 };
	uint8_t request[REQUEST_SIZE];
	const struct iovec iov = { request, REQUEST_SIZE };
	struct vgf_submit_3d submit;

	make_request(request);
	put(request + NUM_IN_FENCES_AT, 100, 4);
	assert_int_equal(vgf_submit_3d_decode(&iov, 1, true, &tiny, &submit, NULL), -EBADMSG);
}

static uint8_t shared[REQUEST_SIZE];

static void change_shared_head(void)
{
	memset(shared, 0xff, IN_FENCES_AT);
}

/* The allocation is between the check and the copy: the guest strikes there. */
TEST(a_guest_that_changes_its_request_changes_nothing_checked)
{
	const struct iovec iov = { shared, REQUEST_SIZE };
	struct vgf_submit_3d submit;
	int ret;

	make_request(shared);
	alloc_set_hook(change_shared_head);
	ret = vgf_submit_3d_decode(&iov, 1, true, NULL, &submit, NULL);
	alloc_reset();
	assert_int_equal(ret, 0);
	assert_int_equal(shared[SIZE_AT], 0xff);

	memset(shared, 0xff, REQUEST_SIZE);
	assert_fence(&submit.submission);
	assert_int_equal(submit.submission.num_in_fences, 3);
	assert_memory_equal(submit.submission.in_fences, in_fences, sizeof(in_fences));
	assert_int_equal(submit.submission.size, sizeof(command));
	assert_memory_equal(submit.submission.command, command, sizeof(command));
	vgf_submit_3d_finish(&submit);
}
