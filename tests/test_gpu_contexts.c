/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Contexts and submissions of the virtio-gpu device: fences, their order, errors in their place. */

#include <endian.h>
#include <string.h>

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

/* ---- Contexts ------------------------------------------------------------------------------- */

static void creates_and_destroys_a_context(void **state)
{
	(void)state;
	start_with_context(1);
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 1), OK);
	guest_stop(&guest);
}

static void refuses_a_context_twice_and_id_0(void **state)
{
	(void)state;
	start_with_context(1);
	assert_int_equal(create_context(&guest, 1), BAD_CONTEXT);
	assert_int_equal(create_context(&guest, 0), BAD_CONTEXT);
	assert_int_equal(destroy_context(&guest, 2), BAD_CONTEXT);
	guest_stop(&guest);
}

/* ---- Submissions ---------------------------------------------------------------------------- */

static void a_job_stores_before_its_fence(void **state)
{
	(void)state;
	start_with_context(1);
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
	guest_stop(&guest);
}

static const struct CMUnitTest tests[] = {
	counted_test(creates_and_destroys_a_context),
	counted_test(refuses_a_context_twice_and_id_0),
	counted_test(a_job_stores_before_its_fence),
};

int main(void)
{
	return cmocka_run_group_tests_name("gpu_contexts", tests, NULL, NULL);
}
