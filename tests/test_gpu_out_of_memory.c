/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The virtio-gpu device without memory, and what it does without allocating any. */

#include <endian.h>
#include <errno.h>

#include "alloc.h"
#include "gpu_guest.h"
#include "soft_gpu.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

static struct guest guest;

/* ---- What is asked for ---------------------------------------------------------------------- */

static uint32_t make_context(void)
{
	return create_context(&guest, 1);
}

static uint32_t make_2d(void)
{
	return create_2d(&guest, 1, 64, 64);
}

static uint32_t make_blob(void)
{
	return create_blob(&guest, 2, 0, 4096);
}

static uint32_t add_backing(void)
{
	return attach_backing(&guest, 1, 4096, 16384);
}

static uint32_t give_to_context(void)
{
	return attach_context(&guest, 1, 2);
}

static uint32_t ask_for_capset(void)
{
	const struct virtio_gpu_get_capset request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0),
		.capset_id = htole32(6),
	};
	uint32_t capset[6];
	uint32_t type = guest_ask(&guest, &request, sizeof(request), capset, sizeof(capset));

	return type == VIRTIO_GPU_RESP_OK_CAPSET ? OK : type;
}

/* Also an error comes back with its fence. */
static uint32_t type_of(const struct guest_response *response, uint64_t fence_id)
{
	struct virtio_gpu_ctrl_hdr answer;

	assert_true(response->written > 0);
	answer = guest_header(response);
	assert_true(answer.flags & VIRTIO_GPU_FLAG_FENCE);
	assert_int_equal(answer.fence_id, fence_id);
	return answer.type;
}

static uint32_t run_job(void)
{
	static uint64_t fence_id;
	const struct job job = {
		.ctx_id = 1, .fence_id = ++fence_id, .resource_id = 2, .value = 1
	};
	const struct guest_response *response = guest_wait(
		&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));

	return type_of(response, fence_id);
}

static uint32_t bind_and_fill(void)
{
	static const uint32_t bind[] = { SOFT_GPU_RESOURCE, 2, SOFT_GPU_MAP, SOFT_GPU_PAGE };
	static const uint32_t fill[] = { SOFT_GPU_FILL, SOFT_GPU_PAGE };
	static uint64_t fence_id = 500;
	uint32_t type = OK;

	for (uint32_t i = 0; i < 2 && type == OK; i++) {
		const struct job job = { .ctx_id = 1,
			.fence_id = ++fence_id,
			.words = i == 0 ? bind : fill,
			.num_words = i == 0 ? 4 : 2 };
		const struct guest_response *response = guest_wait(
			&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));

		type = type_of(response, fence_id);
	}
	return type;
}

/* Behind a fence that has not signalled, so that it is held. */
static uint32_t flush_behind(void)
{
	static uint64_t fence_id = 1000;
	struct flush_request flush = {
		.resource_id = 1,
		.width = 64,
		.height = 64,
		.fence_id = fence_id + 2,
		.num_in_fences = 1,
		.in_fences = { fence_id + 1 },
	};
	uint32_t nth = guest.fail_nth, held, flushed;

	guest.fail_nth = 0;
	held = guest_hold(&guest, 1, 0, fence_id + 1);
	guest.fail_nth = nth;
	flushed = send_flush_behind(&guest, &flush);
	fence_id += 2;
	guest_signal(&guest, held);
	guest_wait(&guest, GPU_QUEUE_CONTROL, held);
	return type_of(guest_wait(&guest, GPU_QUEUE_CONTROL, flushed), fence_id);
}

static uint32_t make_host_blob(void)
{
	return create_host_blob(&guest, 3, 4096);
}

/* The answer has a payload if all goes well. */
static uint32_t map_host_blob(void)
{
	uint32_t type = map_blob(&guest, 3, 0);

	return type == VIRTIO_GPU_RESP_OK_MAP_INFO ? OK : type;
}

static uint32_t unmap_host_blob(void)
{
	return unmap_blob(&guest, 3);
}

static uint32_t end_resources(void)
{
	uint32_t type = unref(&guest, 1);

	return type == OK ? unref(&guest, 2) : type;
}

static uint32_t end_context(void)
{
	return destroy_context(&guest, 1);
}

/* ---- Tests ---------------------------------------------------------------------------------- */

/* Lets each allocation of a command fail in turn; then it succeeds. Returns how many there were. */
static uint32_t fail_each(uint32_t (*command)(void))
{
	uint32_t nth = 0, type;

	do {
		guest.fail_nth = ++nth;
		guest.failed = false;
		type = command();
		if (guest.failed && type != VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY) {
			fail_msg("allocation %u: answered with 0x%x", nth, type);
		}
	} while (guest.failed);
	guest.fail_nth = 0;
	assert_int_equal(type, OK);
	return nth - 1;
}

TEST(every_allocation_may_fail)
{
	uint32_t count = 0;

	guest_start(&guest, NULL);
	count += fail_each(make_context);
	count += fail_each(make_2d);
	count += fail_each(make_blob);
	count += fail_each(add_backing);
	count += fail_each(give_to_context);
	count += fail_each(ask_for_capset);
	count += fail_each(run_job);
	count += fail_each(bind_and_fill);
	count += fail_each(flush_behind);
	count += fail_each(make_host_blob);
	count += fail_each(map_host_blob);
	count += fail_each(unmap_host_blob);
	count += fail_each(end_resources);
	count += fail_each(end_context);
	assert_true(count > 18);
	guest_stop(&guest);
}

/* The first request is what the buffer for copies is made for. */
TEST(a_request_without_memory_keeps_its_fence)
{
	const struct job job = { .ctx_id = 1, .fence_id = 7 };
	const struct job next = { .ctx_id = 1, .fence_id = 8 };
	const struct guest_response *response;

	guest_start(&guest, NULL);
	guest.fail_nth = 1;
	response = guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
	guest.fail_nth = 0;
	assert_true(guest.failed);
	assert_int_equal(type_of(response, 7), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(make_context(), OK);
	response = guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &next));
	assert_int_equal(type_of(response, 8), OK);
	guest_stop(&guest);
}

TEST(nothing_is_allocated_to_complete_requests)
{
	/* Cuts the mapping before it in three. */
	static const uint32_t bind[] = { SOFT_GPU_RESOURCE, 2, SOFT_GPU_MAP, 4 * SOFT_GPU_PAGE,
		SOFT_GPU_ADDRESS, SOFT_GPU_PAGE, SOFT_GPU_MAP_NULL, SOFT_GPU_PAGE };
	static const uint32_t fill[] = { SOFT_GPU_FILL, SOFT_GPU_PAGE };
	uint32_t tokens[100];
	unsigned long count;

	guest_start(&guest, NULL);
	assert_int_equal(make_context(), OK);
	assert_int_equal(create_blob(&guest, 2, 0, 4 * SOFT_GPU_PAGE), OK);
	assert_int_equal(give_to_context(), OK);
	for (uint32_t i = 0; i < 100; i++) {
		const struct job job = { .ctx_id = 1,
			.fence_id = i + 1,
			.busy_us = i == 0 ? 100000 : 50, /* the others are submitted meanwhile */
			.words = i % 2 == 0 ? bind : fill,
			.num_words = i % 2 == 0 ? 8 : 2 };

		tokens[i] = submit(&guest, &job);
	}
	count = alloc_count();
	for (uint32_t i = 0; i < 100; i++) {
		guest_wait(&guest, GPU_QUEUE_CONTROL, tokens[i]);
	}
	assert_int_equal(alloc_count(), count);
	guest_stop(&guest);
}

TEST(a_device_that_cannot_be_made_leaves_nothing)
{
	static const struct gpu_callbacks callbacks = { 0 };
	static const struct gpu_options options = { .fence_passing_bit = -1 };
	struct gpu *gpu;
	int ret;

	for (unsigned long nth = 1;; nth++) {
		unsigned long count = alloc_count();

		alloc_fail(nth);
		ret = gpu_create(&callbacks, NULL, &options, renderer_soft_create, &gpu);
		alloc_fail(0);
		if (alloc_count() - count < nth) {
			break;
		}
		assert_int_equal(ret, -ENOMEM);
	}
	assert_int_equal(ret, 0);
	gpu_destroy(gpu);
}
