/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* How many contexts, resources and attachments a guest may have; all of it in one thread. */

#include "gpu_guest.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

static struct guest guest;

#define TEST_GUEST(name) TEST_BETWEEN(name, guest_start(&guest, NULL), guest_stop(&guest))

TEST_GUEST(there_are_1024_contexts_at_most)
{
	for (uint32_t i = 1; i <= 1024; i++) {
		assert_int_equal(create_context(&guest, i), OK);
	}
	assert_int_equal(create_context(&guest, 1025), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 1025), OK);
}

TEST_GUEST(there_are_65536_resources_at_most)
{
	for (uint32_t i = 1; i <= 65536; i++) {
		assert_int_equal(create_2d(&guest, i, 1, 1), OK);
	}
	assert_int_equal(create_2d(&guest, 65537, 1, 1), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	for (uint32_t context = 1; context <= 16; context++) {
		assert_int_equal(create_context(&guest, context), OK);
		for (uint32_t i = 1; i <= 16384; i++) {
			assert_int_equal(attach_context(&guest, context, i), OK);
		}
		assert_int_equal(
			attach_context(&guest, context, 16385), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	}
	/* Contexts may have no more than that, of anything. */
	assert_int_equal(create_context(&guest, 17), OK);
	assert_int_equal(attach_context(&guest, 17, 1), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(attach_context(&guest, 4, 1), OK); /* has it already */
	assert_int_equal(unref(&guest, 9), OK);
	assert_int_equal(attach_context(&guest, 17, 1), OK);
	assert_int_equal(create_2d(&guest, 65537, 1, 1), OK);
}
