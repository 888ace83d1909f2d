/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Contexts and submissions of the virtio-gpu device: fences, their order, errors in their place. */

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "gpu_guest.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define BAD_CONTEXT VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID
#define BAD_RESOURCE VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID

#define NEVER_US 1000000000u /* longer than any test */

static struct guest guest;

static const struct guest_response *wait_for(uint32_t token)
{
	return guest_wait(&guest, GPU_QUEUE_CONTROL, token);
}

static void start_with_context(uint32_t ctx_id)
{
	guest_start(&guest, NULL);
	assert_int_equal(create_context(&guest, ctx_id), OK);
}

#define TEST_GUEST(name) TEST_BETWEEN(name, guest_start(&guest, NULL), guest_stop(&guest))
#define TEST_CONTEXT(name) TEST_BETWEEN(name, start_with_context(1), guest_stop(&guest))

/* ---- Contexts ------------------------------------------------------------------------------- */

TEST_CONTEXT(creates_and_destroys_a_context)
{
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 1), OK);
}

TEST_CONTEXT(refuses_a_context_twice_and_id_0)
{
	assert_int_equal(create_context(&guest, 1), BAD_CONTEXT);
	assert_int_equal(create_context(&guest, 0), BAD_CONTEXT);
	assert_int_equal(destroy_context(&guest, 2), BAD_CONTEXT);
}

/* ---- Submissions ---------------------------------------------------------------------------- */

TEST_CONTEXT(a_job_stores_before_its_fence)
{
	assert_int_equal(create_blob(&guest, 7, 4096, 4096), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
	for (uint32_t i = 1; i <= 100; i++) {
		const struct job job = { .ctx_id = 1,
			.fence_id = i,
			.busy_us = 50,
			.resource_id = 7,
			.offset = 4 * i,
			.value = 1000 + i };
		const struct guest_response *response = wait_for(submit(&guest, &job));
		struct virtio_gpu_ctrl_hdr hdr = guest_header(response);

		assert_int_equal(read_memory(&guest, 4096 + 4 * i), 1000 + i);
		assert_int_equal(hdr.type, OK);
		assert_int_equal(hdr.flags, VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
		assert_int_equal(hdr.fence_id, i);
		assert_int_equal(hdr.ctx_id, 1);
		assert_int_equal(hdr.ring_idx, 0);
	}
}

TEST_CONTEXT(jobs_of_a_ring_are_answered_in_order)
{
	uint32_t tokens[50];

	for (uint32_t i = 0; i < 50; i++) {
		const struct job job = { .ctx_id = 1, .fence_id = i + 1, .busy_us = 200 - 4 * i };

		tokens[i] = submit(&guest, &job);
	}
	for (uint32_t i = 0; i < 50; i++) {
		assert_int_equal(wait_for(tokens[i])->order, i + 2); /* the context was first */
	}
}

TEST_CONTEXT(another_ring_is_not_waited_for)
{
	const struct job never = { .ctx_id = 1, .fence_id = 1, .busy_us = NEVER_US };
	const struct job other = { .ctx_id = 1, .ring = 1, .fence_id = 2 };
	uint32_t token;

	token = submit(&guest, &never);
	assert_int_equal(guest_header(wait_for(submit(&guest, &other))).ring_idx, 1);
	assert_false(guest.responses[GPU_QUEUE_CONTROL][token].done);
}

TEST_CONTEXT(a_job_waits_for_anothers_fence)
{
	const struct job producer = {
		.ctx_id = 1, .fence_id = 1, .busy_us = 3000, .resource_id = 7, .value = 11
	};
	const struct job consumer = { .ctx_id = 2,
		.fence_id = 2,
		.resource_id = 7,
		.value = 22,
		.num_in_fences = 1,
		.in_fences = { 1 } };
	struct gpu_stats stats;

	assert_int_equal(create_context(&guest, 2), OK);
	assert_int_equal(create_blob(&guest, 7, 0, 4096), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
	assert_int_equal(attach_context(&guest, 2, 7), OK);
	submit(&guest, &producer);
	assert_int_equal(guest_header(wait_for(submit(&guest, &consumer))).type, OK);
	assert_int_equal(read_memory(&guest, 0), 22);
	gpu_get_stats(guest.gpu, &stats);
	assert_int_equal(stats.fences.submitted, 2);
	assert_int_equal(stats.fences.in_fences, 1);
	assert_int_equal(stats.fences.retired, 2);
}

TEST_CONTEXT(in_fences_are_padding_without_the_feature)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1 };
	struct virtio_gpu_cmd_submit request = {
		.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, 1),
		.padding = htole32(0xffffffff),
	};

	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	gpu_set_features(guest.gpu, guest_features(&guest) & ~(UINT64_C(1) << FENCE_PASSING_BIT));
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	wait_for(submit(&guest, &job));
}

TEST_CONTEXT(a_fence_has_no_descriptor)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1, .busy_us = NEVER_US };
	int before = count_fds();

	submit(&guest, &job);
	assert_int_equal(count_fds(), before);
}

TEST_CONTEXT(a_fence_without_a_descriptor_is_waited_for_by_the_gpu)
{
	const struct job producer = { .ctx_id = 1, .fence_id = 1, .busy_us = NEVER_US };
	const struct job consumer = {
		.ctx_id = 1, .ring = 1, .fence_id = 2, .num_in_fences = 1, .in_fences = { 1 }
	};
	const struct job other = { .ctx_id = 1, .ring = 2, .fence_id = 3 };
	uint32_t token;
	struct gpu_stats stats;

	submit(&guest, &producer);
	token = submit(&guest, &consumer);
	gpu_get_stats(guest.gpu, &stats);
	assert_int_equal(stats.fences.run_driver, 1);
	assert_int_equal(stats.fences.held, 0);
	/* Without the wait it would be done before this one is. */
	wait_for(submit(&guest, &other));
	assert_false(guest.responses[GPU_QUEUE_CONTROL][token].done);
}

TEST_CONTEXT(an_unfenced_job_is_answered_at_once)
{
	const struct job job = { .ctx_id = 1, .busy_us = NEVER_US };
	uint32_t token;

	token = submit(&guest, &job);
	assert_true(guest.responses[GPU_QUEUE_CONTROL][token].done);
	assert_int_equal(guest_header(&guest.responses[GPU_QUEUE_CONTROL][token]).flags, 0);
}

TEST(all_commands_may_be_cut_anywhere)
{
	for (size_t piece = 1; piece < 40; piece += 6) {
		const struct job first = { .ctx_id = 1, .fence_id = 1, .busy_us = 100 };
		const struct job job = { .ctx_id = 1,
			.fence_id = 2,
			.resource_id = 7,
			.offset = 8,
			.value = 5,
			.num_in_fences = 1,
			.in_fences = { 1 } };

		guest_start(&guest, NULL);
		guest.piece = piece;
		assert_int_equal(create_context(&guest, 1), OK);
		assert_int_equal(create_blob(&guest, 7, 0, 4096), OK);
		assert_int_equal(attach_context(&guest, 1, 7), OK);
		submit(&guest, &first);
		assert_int_equal(guest_header(wait_for(submit(&guest, &job))).type, OK);
		assert_int_equal(read_memory(&guest, 8), 5);
		guest_stop(&guest);
	}
}

/* ---- Errors in their place ------------------------------------------------------------------ */

/* Sends a fenced request on ring 0 of context 1. */
static uint32_t send_fenced(void *request, size_t size, uint64_t fence_id)
{
	struct virtio_gpu_ctrl_hdr *hdr = request;

	hdr->flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	hdr->fence_id = htole64(fence_id);
	return guest_send(&guest, GPU_QUEUE_CONTROL, request, size, sizeof(*hdr));
}

/* A request that is wrong, behind a job that takes a while, is answered with `type` in its turn. */
static void check_refused_in_place(void *request, size_t size, uint32_t type)
{
	const struct job before = { .ctx_id = 1, .fence_id = 1, .busy_us = 2000 };
	const struct job after = { .ctx_id = 1, .fence_id = 3 };
	struct virtio_gpu_ctrl_hdr hdr;
	uint32_t tokens[3];

	start_with_context(1);
	tokens[0] = submit(&guest, &before);
	tokens[1] = send_fenced(request, size, 2);
	tokens[2] = submit(&guest, &after);
	wait_for(tokens[2]);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(wait_for(tokens[i])->order, i + 2);
	}
	hdr = guest_header(wait_for(tokens[1]));
	assert_int_equal(hdr.type, type);
	assert_int_equal(hdr.flags, VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	assert_int_equal(hdr.fence_id, 2);
	assert_int_equal(guest_header(wait_for(tokens[2])).type, OK);
	guest_stop(&guest);
}

TEST(a_refused_command_stream_keeps_its_place)
{
	struct {
		struct virtio_gpu_cmd_submit request;
		uint32_t words[2];
	} unknown = { { .hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, 1), .size = htole32(8) },
		{ htole32(99), 0 } };

	check_refused_in_place(&unknown, sizeof(unknown), BAD_PARAMETER);
}

TEST(a_command_stream_past_the_end_keeps_its_place)
{
	struct virtio_gpu_cmd_submit request = {
		.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, 1),
		.size = htole32(0xfffffffc),
	};

	check_refused_in_place(&request, sizeof(request), BAD_PARAMETER);
}

TEST(too_many_in_fences_keep_their_place)
{
	struct virtio_gpu_cmd_submit request = {
		.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, 1),
		.padding = htole32(0xffffffff),
	};

	check_refused_in_place(&request, sizeof(request), BAD_PARAMETER);
}

TEST(an_unknown_in_fence_keeps_its_place)
{
	struct {
		struct virtio_gpu_cmd_submit request;
		uint64_t in_fence;
	} unknown = {
		{ .hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, 1), .padding = htole32(1) },
		htole64(12345),
	};

	check_refused_in_place(&unknown, sizeof(unknown), BAD_PARAMETER);
}

TEST(another_command_that_fails_keeps_its_place)
{
	struct virtio_gpu_ctx_resource request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1),
		.resource_id = htole32(99),
	};

	check_refused_in_place(&request, sizeof(request), BAD_RESOURCE);
}

TEST(an_unknown_command_keeps_its_place)
{
	struct virtio_gpu_ctrl_hdr request = header(0x4242, 1);

	check_refused_in_place(&request, sizeof(request), VIRTIO_GPU_RESP_ERR_UNSPEC);
}

TEST_CONTEXT(another_command_with_a_fence_is_answered_in_its_turn)
{
	const struct job before = { .ctx_id = 1, .fence_id = 1, .busy_us = 2000 };
	struct virtio_gpu_ctx_resource request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1),
		.resource_id = htole32(7),
	};
	uint32_t tokens[2];

	assert_int_equal(create_blob(&guest, 7, 0, 4096), OK);
	tokens[0] = submit(&guest, &before);
	tokens[1] = send_fenced(&request, sizeof(request), 2);
	assert_int_equal(guest_header(wait_for(tokens[1])).type, OK);
	assert_true(wait_for(tokens[0])->order < wait_for(tokens[1])->order);
}

/* ---- Stores --------------------------------------------------------------------------------- */

TEST_CONTEXT(a_store_that_cannot_be_made_fails_the_job)
{
	static const struct job bad[] = {
		{ .resource_id = 8 },                       /* not attached */
		{ .resource_id = 99 },                      /* not there */
		{ .resource_id = 7, .offset = 4093 },       /* reaches out */
		{ .resource_id = 7, .offset = 4096 },       /* behind the end */
		{ .resource_id = 7, .offset = 0xfffffffc }, /* far behind it */
		{ .resource_id = 9 },                       /* no backing */
	};

	assert_int_equal(create_blob(&guest, 7, 0, 4096), OK);
	assert_int_equal(create_blob(&guest, 8, 4096, 4096), OK);
	assert_int_equal(create_2d(&guest, 9, 16, 16), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
	assert_int_equal(attach_context(&guest, 1, 9), OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct job job = bad[i];
		struct virtio_gpu_ctrl_hdr hdr;

		job.ctx_id = 1;
		job.fence_id = i + 1;
		job.value = 1;
		hdr = guest_header(wait_for(submit(&guest, &job)));
		assert_int_equal(hdr.type, BAD_PARAMETER);
		assert_true(hdr.flags & VIRTIO_GPU_FLAG_FENCE);
	}
	for (uint32_t i = 0; i < 8192; i += 4) {
		assert_int_equal(read_memory(&guest, i), 0);
	}
}

/* Takes an attachment away while a job is to write to it. */
static void check_taken_away(uint32_t (*take)(struct guest *guest))
{
	/* On any machine it is not done before the resource is taken away. */
	const struct job job = {
		.ctx_id = 1, .fence_id = 1, .busy_us = 1000000, .resource_id = 7, .value = 1
	};
	uint32_t token;

	start_with_context(1);
	assert_int_equal(create_2d(&guest, 7, 16, 16), OK);
	assert_int_equal(attach_backing(&guest, 7, 0, 4096), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
	token = submit(&guest, &job);
	assert_int_equal(take(&guest), OK);
	assert_int_equal(guest_header(wait_for(token)).type, BAD_PARAMETER);
	assert_int_equal(read_memory(&guest, 0), 0);
	guest_stop(&guest);
}

static uint32_t take_attachment(struct guest *from)
{
	return detach_context(from, 1, 7);
}

static uint32_t take_backing(struct guest *from)
{
	return detach_backing(from, 7);
}

static uint32_t take_resource(struct guest *from)
{
	return unref(from, 7);
}

TEST(a_resource_may_be_detached_under_a_job)
{
	check_taken_away(take_attachment);
}

/* Memory goes when the job is done. */
static void check_kept(uint32_t (*take)(struct guest *guest))
{
	const struct job job = {
		.ctx_id = 1, .fence_id = 1, .busy_us = 100000, .resource_id = 7, .value = 1
	};
	uint32_t token;

	start_with_context(1);
	assert_int_equal(create_2d(&guest, 7, 16, 16), OK);
	assert_int_equal(attach_backing(&guest, 7, 0, 4096), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
	token = submit(&guest, &job);
	assert_int_equal(take(&guest), OK);
	assert_int_equal(read_memory(&guest, 0), 1);
	assert_int_equal(guest_header(wait_for(token)).type, OK);
	guest_stop(&guest);
}

TEST(a_backing_that_a_job_writes_to_is_detached_behind_it)
{
	check_kept(take_backing);
}

TEST(a_resource_that_a_job_writes_to_is_destroyed_behind_it)
{
	check_kept(take_resource);
}

TEST_CONTEXT(a_context_may_be_destroyed_under_its_jobs)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1, .busy_us = 2000 };
	uint32_t token;

	token = submit(&guest, &job);
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(guest_header(wait_for(token)).type, OK);
}

/* What it was to write to is gone with its context, whoever has that ID and the resource then. */
TEST_CONTEXT(a_job_does_nothing_to_memory_of_the_next_context_with_its_id)
{
	const struct job job = {
		.ctx_id = 1, .fence_id = 1, .busy_us = 1000000, .resource_id = 7, .value = 1
	};
	const struct job next = {
		.ctx_id = 1, .ring = 1, .fence_id = 2, .resource_id = 7, .offset = 4, .value = 2
	};
	uint32_t token;

	assert_int_equal(create_blob(&guest, 7, 0, 4096), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
	token = submit(&guest, &job);
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
	assert_int_equal(guest_header(wait_for(submit(&guest, &next))).type, OK);
	assert_int_equal(guest_header(wait_for(token)).type, BAD_PARAMETER);
	assert_int_equal(read_memory(&guest, 0), 0);
	assert_int_equal(read_memory(&guest, 4), 2);
}

/* Nor does who takes memory back wait for jobs of a context that had the ID before. */
TEST_CONTEXT(memory_is_taken_back_behind_work_of_its_own_context)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1, .busy_us = NEVER_US };

	submit(&guest, &job);
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_blob(&guest, 7, 0, 4096), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
	assert_int_equal(unref(&guest, 7), OK);
}

/* ---- Reset, drain, the end ------------------------------------------------------------------ */

#define MANY 600

static void fill(uint32_t *tokens)
{
	for (uint32_t i = 0; i < MANY; i++) {
		const struct job job = { .ctx_id = 1,
			.ring = (uint8_t)(i % 8),
			.fence_id = i + 1,
			.busy_us = i < 8 ? NEVER_US : 1 };

		tokens[i] = submit(&guest, &job);
	}
}

static void assert_answered(enum gpu_queue queue, const struct virtio_gpu_ctrl_hdr *sent)
{
	const struct {
		struct virtio_gpu_ctrl_hdr hdr;
		uint8_t rest[32];
	} request = { .hdr = *sent };
	uint32_t token = guest_send(&guest, queue, &request, sizeof(request), sizeof(*sent));
	struct virtio_gpu_ctrl_hdr response = guest_header(guest_wait(&guest, queue, token));
	uint32_t sent_flags = le32toh(sent->flags);

	assert_true(response.type != 0);
	assert_int_equal(response.flags, sent_flags);
	assert_int_equal(response.fence_id, le64toh(sent->fence_id));
	assert_int_equal(response.ctx_id, le32toh(sent->ctx_id));
	assert_int_equal(
		response.ring_idx, sent_flags & VIRTIO_GPU_FLAG_INFO_RING_IDX ? sent->ring_idx : 0);
}

TEST_GUEST(any_fence_of_any_command_is_answered_once)
{
	static const uint64_t ids[] = { 0, 1, 1, 3, 2, UINT64_MAX - 1, UINT64_MAX, 0 };
	static const uint8_t rings[] = { 0, 1, 63, 64, 255 };
	static const uint32_t types[] = { VIRTIO_GPU_CMD_CTX_CREATE, VIRTIO_GPU_CMD_MOVE_CURSOR,
		VIRTIO_GPU_CMD_RESOURCE_UNREF, VIRTIO_GPU_CMD_SUBMIT_3D, VIRTIO_GPU_CMD_CTX_DESTROY,
		0, 0xffffffff };
	struct virtio_gpu_ctrl_hdr hdr;
	uint32_t num_sent = 0;

	for (uint32_t i = 0; i < 7 * 2 * 2 * 5 * 8; i++) {
		uint32_t flags = VIRTIO_GPU_FLAG_FENCE;

		hdr = header(types[i / 8 % 7], i / 56 % 2);
		flags |= i / 112 % 2 ? VIRTIO_GPU_FLAG_INFO_RING_IDX : 0;
		hdr.flags = htole32(flags);
		hdr.fence_id = htole64(ids[i % 8]);
		hdr.ring_idx = rings[i / 224 % 5];
		assert_answered(GPU_QUEUE_CONTROL, &hdr);
		assert_answered(GPU_QUEUE_CURSOR, &hdr);
		num_sent += 2;
	}
	assert_int_equal(guest.num_completed, num_sent);
}

/* Takes away something that jobs write to, another one each time. */
static void take_away(uint32_t round)
{
	switch (round % 7) {
	case 0:
		assert_int_equal(detach_backing(&guest, 1), OK);
		break;
	case 1:
		assert_int_equal(unref(&guest, 1), OK);
		assert_int_equal(unref(&guest, 2), OK);
		break;
	case 2:
		assert_int_equal(detach_context(&guest, 1, 1), OK);
		assert_int_equal(detach_context(&guest, 1, 2), OK);
		break;
	case 3:
		assert_int_equal(destroy_context(&guest, 1), OK);
		break;
	case 4:
		gpu_set_memory(guest.gpu, NULL);
		assert_int_equal(unref(&guest, 2), OK);
		gpu_set_memory(guest.gpu, guest.table);
		break;
	case 5:
		gpu_drain(guest.gpu, 0, -1);
		break;
	default:
		gpu_reset(guest.gpu);
	}
}

/* For ThreadSanitizer and AddressSanitizer: the GPU's thread writes meanwhile, or not. */
TEST_GUEST(what_jobs_write_to_may_go_at_any_moment)
{
	struct job job = { .ctx_id = 1 };

	for (uint32_t round = 0; round < 210; round++) {
		create_context(&guest, 1); /* unless it is there */
		assert_int_equal(create_2d(&guest, 1, 8, 8), OK);
		assert_int_equal(attach_backing(&guest, 1, 4096, 256), OK);
		assert_int_equal(create_blob(&guest, 2, 8192, 4096), OK);
		assert_int_equal(attach_context(&guest, 1, 1), OK);
		assert_int_equal(attach_context(&guest, 1, 2), OK);
		for (uint32_t i = 0; i < 16; i++) {
			job.ring = i % 4;
			job.fence_id++;
			job.busy_us = round % 5 * i;
			job.resource_id = 1 + i % 2;
			job.offset = 4 * i;
			submit(&guest, &job);
		}
		take_away(round);
		gpu_drain(guest.gpu, 10000, -1);
		unref(&guest, 1); /* if they are still there */
		unref(&guest, 2);
	}
}

TEST_CONTEXT(a_reset_completes_everything_once)
{
	uint32_t tokens[MANY];

	assert_int_equal(create_2d(&guest, 7, 16, 16), OK);
	fill(tokens);
	gpu_reset(guest.gpu);
	for (uint32_t i = 0; i < MANY; i++) {
		assert_true(guest.responses[GPU_QUEUE_CONTROL][tokens[i]].done);
	}
	/* IDs start again. */
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_2d(&guest, 7, 16, 16), OK);
	fill(tokens);
}

TEST_CONTEXT(a_drain_waits_for_work)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1, .busy_us = 5000 };
	uint32_t token;

	token = submit(&guest, &job);
	gpu_drain(guest.gpu, 20000, -1);
	assert_int_equal(guest_header(&guest.responses[GPU_QUEUE_CONTROL][token]).type, OK);
}

/* All of them, and the guest is told of errors. */
static void assert_cancelled(const uint32_t tokens[MANY])
{
	for (uint32_t i = 0; i < MANY; i++) {
		const struct guest_response *response =
			&guest.responses[GPU_QUEUE_CONTROL][tokens[i]];

		assert_true(response->done);
		assert_int_equal(guest_header(response).type, VIRTIO_GPU_RESP_ERR_UNSPEC);
	}
}

TEST_CONTEXT(a_drain_cancels_what_does_not_end)
{
	const struct job job = { .ctx_id = 1, .ring = 9, .fence_id = 10000 };
	uint32_t tokens[MANY];

	fill(tokens);
	gpu_drain(guest.gpu, 0, -1);
	assert_cancelled(tokens);
	/* Contexts are still there. */
	assert_int_equal(guest_header(wait_for(submit(&guest, &job))).type, OK);
}

/* Resource 7, which context 1 has, at the beginning of the guest's memory. */
static void create_written(void)
{
	assert_int_equal(create_blob(&guest, 7, 0, 4096), OK);
	assert_int_equal(attach_context(&guest, 1, 7), OK);
}

TEST_CONTEXT(a_drain_waits_for_work_without_a_fence)
{
	const struct job job = { .ctx_id = 1, .busy_us = 20000, .resource_id = 7, .value = 1 };

	create_written();
	submit(&guest, &job);
	gpu_drain(guest.gpu, 20000, -1);
	assert_int_equal(read_memory(&guest, 0), 1);
}

/* That what came to the GPU before has done nothing, when this one behind it has. */
static void check_unwritten(uint32_t count)
{
	const struct job job = {
		.ctx_id = 1, .fence_id = 100, .resource_id = 7, .offset = 1024, .value = 1
	};

	assert_int_equal(guest_header(wait_for(submit(&guest, &job))).type, OK);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(read_memory(&guest, 4 * i), 0);
	}
	assert_int_equal(read_memory(&guest, 1024), 1);
}

TEST_CONTEXT(after_a_drain_nothing_that_was_left_is_written)
{
	struct job job = { .ctx_id = 1, .resource_id = 7, .value = 1 };

	create_written();
	for (uint32_t i = 0; i < 4; i++) {
		job.busy_us = i == 0 ? 1000000 : 1000; /* the others run behind it */
		job.fence_id = i < 2 ? i + 1 : 0;
		job.offset = 4 * i;
		submit(&guest, &job);
	}
	gpu_drain(guest.gpu, 0, -1);
	check_unwritten(4);
}

/* It comes to the GPU when the fence that it waits for is cancelled. */
TEST_CONTEXT(after_a_drain_nothing_that_was_held_back_is_written)
{
	const struct job job = { .ctx_id = 1,
		.busy_us = 200000,
		.resource_id = 7,
		.value = 1,
		.num_in_fences = 1,
		.in_fences = { 1 } };

	create_written();
	guest_hold(&guest, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(guest_header(wait_for(submit(&guest, &job))).type, OK);
	gpu_drain(guest.gpu, 0, -1);
	check_unwritten(1);
}

TEST_CONTEXT(a_drain_ends_with_the_program)
{
	const uint64_t one = 1;
	uint32_t tokens[MANY];
	int end_fd = eventfd(0, EFD_CLOEXEC);

	fill(tokens);
	assert_int_equal(write(end_fd, &one, sizeof(one)), sizeof(one));
	gpu_drain(guest.gpu, 1000000000, end_fd);
	assert_cancelled(tokens);
	close(end_fd);
}

TEST(nothing_is_completed_once_it_is_destroyed)
{
	uint32_t tokens[MANY];

	start_with_context(1);
	fill(tokens);
	guest_stop(&guest); /* fails for a completion */
}

TEST_CONTEXT(idle_there_is_nothing_to_dispatch)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1 };
	struct pollfd poll_fd = { .events = POLLIN };
	uint32_t num_completed;

	wait_for(submit(&guest, &job));
	num_completed = guest.num_completed;
	gpu_dispatch(guest.gpu);
	assert_int_equal(guest.num_completed, num_completed);
	poll_fd.fd = gpu_get_fd(guest.gpu);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
}

/* ---- Limits --------------------------------------------------------------------------------- */

/* Sends jobs until one is refused: without a fence they take up no place in a queue. Returns how
 * many there are. */
static uint32_t fill_with_jobs(uint32_t ctx_id)
{
	const struct job job = { .ctx_id = ctx_id, .busy_us = NEVER_US };
	uint32_t count = 0, type = OK;

	while (type == OK) {
		type = guest_header(wait_for(submit(&guest, &job))).type;
		count += type == OK;
	}
	assert_int_equal(type, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	return count;
}

TEST_CONTEXT(jobs_are_limited)
{
	assert_int_equal(fill_with_jobs(1), 1024);
	for (uint32_t ctx_id = 2; ctx_id <= 4; ctx_id++) {
		assert_int_equal(create_context(&guest, ctx_id), OK);
		assert_int_equal(fill_with_jobs(ctx_id), 1024);
	}
	assert_int_equal(create_context(&guest, 5), OK);
	assert_int_equal(fill_with_jobs(5), 0);
}

/* Nobody could end them. Those of the context that has most left make room. */
TEST_CONTEXT(destroyed_contexts_leave_no_more_jobs_than_one_may_have)
{
	const struct job long_job = { .ctx_id = 1, .fence_id = 1, .busy_us = NEVER_US };
	uint32_t kept = submit(&guest, &long_job), ended;

	assert_int_equal(destroy_context(&guest, 1), OK);
	for (uint32_t ctx_id = 2; ctx_id <= 10; ctx_id++) {
		const struct job job = {
			.ctx_id = ctx_id, .fence_id = ctx_id, .busy_us = NEVER_US
		};

		assert_int_equal(create_context(&guest, ctx_id), OK);
		ended = submit(&guest, &job);
		assert_int_equal(fill_with_jobs(ctx_id), 1023);
		assert_int_equal(destroy_context(&guest, ctx_id), OK);
		assert_int_equal(guest_header(wait_for(ended)).type, VIRTIO_GPU_RESP_ERR_UNSPEC);
	}
	assert_false(guest.responses[GPU_QUEUE_CONTROL][kept].done);
}

static struct renderer_ops spy_ops;
static char spied_name[80];

static int spy_on_name(struct renderer *renderer, uint32_t ctx_id, uint64_t serial,
	uint32_t context_init, const char *name)
{
	(void)renderer;
	(void)ctx_id;
	(void)serial;
	(void)context_init;
	strncpy(spied_name, name, sizeof(spied_name) - 1);
	return -ENOMEM;
}

static int create_spy(const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *options, struct renderer **out)
{
	int ret = renderer_soft_create(callbacks, cookie, options, out);

	if (ret == 0) {
		spy_ops = *(*out)->ops;
		spy_ops.context_create = spy_on_name;
		(*out)->ops = &spy_ops;
	}
	return ret;
}

/* virglrenderer prints it. */
TEST(a_contexts_name_is_fit_to_be_printed)
{
	struct virtio_gpu_ctx_create request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, 3),
		.nlen = htole32(64),
		.debug_name = "a b\n\x1b[2J\xc3~\x7f",
	};

	guest_start_with(&guest, NULL, create_spy);
	assert_int_equal(
		guest_call(&guest, &request, sizeof(request)), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_string_equal(spied_name, "a b??[2J?~?");
	memset(request.debug_name, 'x', sizeof(request.debug_name));
	request.nlen = htole32(2);
	guest_call(&guest, &request, sizeof(request));
	assert_string_equal(spied_name, "xx");
	guest_stop(&guest);
}

TEST_GUEST(a_context_needs_a_capability_set_that_is_there)
{
	struct virtio_gpu_ctx_create request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, 3),
		.context_init = htole32(2),
	};

	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	request.context_init = 0;
	request.nlen = htole32(65);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	request.nlen = htole32(64);
	memset(request.debug_name, 'x', sizeof(request.debug_name));
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
}
