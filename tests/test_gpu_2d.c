/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Resources of the virtio-gpu device, their backing, and transfers. */

#include <endian.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu_guest.h"

#include "backing.h"
#include "guest_memory.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define BAD_RESOURCE VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID
#define NO_MEMORY VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY
#define UNSPECIFIED VIRTIO_GPU_RESP_ERR_UNSPEC

#define WIDTH 16
#define HEIGHT 8
#define SIZE (WIDTH * HEIGHT * 4)

static struct guest guest;

/* Resource 1 with a backing at the beginning of the guest's memory. */
static void start_with_resource(void)
{
	guest_start(&guest, NULL);
	assert_int_equal(create_2d(&guest, 1, WIDTH, HEIGHT), OK);
	assert_int_equal(attach_backing(&guest, 1, 0, SIZE), OK);
}

#define TEST_GUEST(name) TEST_BETWEEN(name, guest_start(&guest, NULL), guest_stop(&guest))
#define TEST_RESOURCE(name) TEST_BETWEEN(name, start_with_resource(), guest_stop(&guest))

static uint32_t pixel(uint32_t x, uint32_t y)
{
	return y << 16 | x << 8 | 0x11;
}

static void draw(void)
{
	uint32_t *pixels = (uint32_t *)guest.memory;

	for (uint32_t i = 0; i < WIDTH * HEIGHT; i++) {
		pixels[i] = pixel(i % WIDTH, i / WIDTH);
	}
}

static uint32_t to_host_2d(uint32_t x, uint32_t y, uint32_t width, uint32_t height, uint64_t offset)
{
	const struct virtio_gpu_transfer_to_host_2d request = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, 0),
		.r = { htole32(x), htole32(y), htole32(width), htole32(height) },
		.offset = htole64(offset),
		.resource_id = htole32(1),
	};

	return guest_call(&guest, &request, sizeof(request));
}

static struct virtio_gpu_transfer_host_3d transfer_3d(
	uint32_t type, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
	return (struct virtio_gpu_transfer_host_3d){
		.hdr = header(type, 0),
		.box = { htole32(x), htole32(y), 0, htole32(width), htole32(height), htole32(1) },
		.resource_id = htole32(1),
	};
}

/* Copies the whole resource to the guest's memory, and checks it there. */
static void read_back(uint32_t *pixels)
{
	struct virtio_gpu_transfer_host_3d request = transfer_3d(
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 0, 0, WIDTH, HEIGHT);

	memset(guest.memory, 0xee, SIZE);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	memcpy(pixels, guest.memory, SIZE);
}

/* ---- Resources ------------------------------------------------------------------------------ */

TEST_GUEST(creates_and_destroys_resources)
{
	for (uint32_t i = 1; i <= 100; i++) {
		assert_int_equal(create_2d(&guest, i, 64, 64), OK);
	}
	for (uint32_t i = 1; i <= 100; i++) {
		assert_int_equal(unref(&guest, i), OK);
		assert_int_equal(unref(&guest, i), BAD_RESOURCE);
	}
	assert_int_equal(create_2d(&guest, 1, 64, 64), OK);
}

TEST_RESOURCE(refuses_ids_that_are_0_or_taken)
{
	assert_int_equal(create_2d(&guest, 0, 64, 64), BAD_RESOURCE);
	assert_int_equal(create_2d(&guest, 1, 64, 64), BAD_RESOURCE);
	assert_int_equal(create_blob(&guest, 1, 0, 4096), BAD_RESOURCE);
}

TEST_GUEST(refuses_sizes_that_are_0_or_wrap)
{
	assert_int_equal(create_2d(&guest, 1, 0, 64), BAD_PARAMETER);
	assert_int_equal(create_2d(&guest, 1, 64, 0), BAD_PARAMETER);
	assert_int_equal(create_2d(&guest, 1, 0x80000000, 2), NO_MEMORY);
	assert_int_equal(create_2d(&guest, 1, 0x10000, 0x10000), NO_MEMORY);
	assert_int_equal(create_2d(&guest, 1, 1, 16385), NO_MEMORY);
	assert_int_equal(create_2d(&guest, 1, 16385, 1), NO_MEMORY);
	assert_int_equal(create_2d(&guest, 1, 0xffffffff, 0xffffffff), NO_MEMORY);
	assert_int_equal(create_2d(&guest, 1, 1, 1), OK);
}

TEST_GUEST(pixels_are_limited_to_256_mib)
{
	assert_int_equal(create_2d(&guest, 1, 4096, 16384), OK);
	assert_int_equal(create_2d(&guest, 2, 1, 1), NO_MEMORY);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(create_2d(&guest, 2, 4096, 16384), OK);
}

TEST_GUEST(refuses_formats_it_does_not_know)
{
	struct virtio_gpu_resource_create_2d request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, 0),
		.resource_id = htole32(1),
		.format = htole32(5),
		.width = htole32(8),
		.height = htole32(8),
	};

	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	request.format = htole32(VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
}

TEST_RESOURCE(a_uuid_stays_the_same_and_is_its_own)
{
	struct virtio_gpu_resource_assign_uuid request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID, 0),
		.resource_id = htole32(1),
	};
	uint8_t first[16], again[16], other[16];

	assert_int_equal(create_2d(&guest, 2, 8, 8), OK);
	assert_int_equal(guest_ask(&guest, &request, sizeof(request), first, 16),
		VIRTIO_GPU_RESP_OK_RESOURCE_UUID);
	assert_int_equal(guest_ask(&guest, &request, sizeof(request), again, 16),
		VIRTIO_GPU_RESP_OK_RESOURCE_UUID);
	assert_memory_equal(first, again, 16);
	assert_int_equal(first[6] >> 4, 4);
	request.resource_id = htole32(2);
	assert_int_equal(guest_ask(&guest, &request, sizeof(request), other, 16),
		VIRTIO_GPU_RESP_OK_RESOURCE_UUID);
	assert_memory_not_equal(first, other, 16);
	request.resource_id = htole32(3);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_RESOURCE);
}

TEST_GUEST(there_is_nothing_to_map_a_blob_into)
{
	struct virtio_gpu_resource_map_blob map = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB, 0),
		.resource_id = htole32(1),
	};
	struct virtio_gpu_resource_unmap_blob unmap = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB, 0),
		.resource_id = htole32(1),
	};

	assert_int_equal(guest_call(&guest, &map, sizeof(map)), BAD_RESOURCE);
	assert_int_equal(create_blob(&guest, 1, 0, 4096), OK);
	assert_int_equal(guest_call(&guest, &map, sizeof(map)), BAD_PARAMETER);
	assert_int_equal(guest_call(&guest, &unmap, sizeof(unmap)), BAD_PARAMETER);
}

TEST_GUEST(refuses_blobs_that_are_of_no_memory)
{
	struct virtio_gpu_resource_create_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
		.resource_id = htole32(1),
		.size = htole64(4096),
	};

	for (uint32_t mem = 0; mem < 5; mem++) {
		request.blob_mem = htole32(mem);
		if (mem != VIRTIO_GPU_BLOB_MEM_GUEST && mem != VIRTIO_GPU_BLOB_MEM_HOST3D) {
			assert_int_equal(
				guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
		}
	}
	/* Nothing. */
	request.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST);
	request.size = 0;
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	/* A flag that means nothing. */
	request.size = htole64(4096);
	request.blob_flags = htole32(8);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	request.blob_flags = 0;
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
}

TEST_GUEST(a_blob_needs_memory_for_all_of_it)
{
	struct {
		struct virtio_gpu_resource_create_blob request;
		struct virtio_gpu_mem_entry entry;
	} blob = {
		.request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
			.resource_id = htole32(1),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
			.nr_entries = htole32(1),
			.size = htole64(4097),
		},
		.entry = { .addr = htole64(GUEST_ADDR), .length = htole32(4096) },
	};

	assert_int_equal(guest_call(&guest, &blob, sizeof(blob)), BAD_PARAMETER);
	blob.request.size = htole64(UINT64_MAX);
	assert_int_equal(guest_call(&guest, &blob, sizeof(blob)), BAD_PARAMETER);
	blob.request.size = htole64(4096);
	assert_int_equal(guest_call(&guest, &blob, sizeof(blob)), OK);
}

static uint32_t job_store(uint32_t value)
{
	static uint64_t fence_id;
	const struct job job = {
		.ctx_id = 1, .fence_id = ++fence_id, .resource_id = 1, .offset = 8, .value = value
	};

	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job))).type;
}

TEST_GUEST(a_blob_gets_and_loses_its_memory)
{
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_empty_blob(&guest, 1, 4096), OK);
	assert_int_equal(attach_context(&guest, 1, 1), OK);
	assert_int_equal(job_store(1), BAD_PARAMETER);
	assert_int_equal(detach_backing(&guest, 1), UNSPECIFIED);
	assert_int_equal(attach_backing(&guest, 1, 0, 4095), BAD_PARAMETER); /* not all of it */
	assert_int_equal(job_store(2), BAD_PARAMETER);
	assert_int_equal(attach_backing(&guest, 1, 4096, 4096), OK);
	assert_int_equal(attach_backing(&guest, 1, 0, 4096), UNSPECIFIED);
	assert_int_equal(job_store(3), OK);
	assert_int_equal(detach_backing(&guest, 1), OK);
	assert_int_equal(job_store(4), BAD_PARAMETER);
	assert_int_equal(read_memory(&guest, 4096 + 8), 3);
	assert_int_equal(attach_backing(&guest, 1, 8192, 4096), OK);
	assert_int_equal(job_store(5), OK);
	assert_int_equal(read_memory(&guest, 4096 + 8), 3);
	assert_int_equal(read_memory(&guest, 8192 + 8), 5);
	assert_int_equal(unref(&guest, 1), OK);
}

/* ---- Backing -------------------------------------------------------------------------------- */

/* Asks for a backing of resource 1 with that many entries, but sends only two. */
static uint32_t attach_entries(uint32_t num_entries, const struct virtio_gpu_mem_entry *first,
	const struct virtio_gpu_mem_entry *second)
{
	struct {
		struct virtio_gpu_resource_attach_backing request;
		struct virtio_gpu_mem_entry entries[2];
	} attach = {
		.request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, 0),
			.resource_id = htole32(1),
			.nr_entries = htole32(num_entries),
		},
		.entries = { *first, *second },
	};

	return guest_call(&guest, &attach, sizeof(attach));
}

TEST_GUEST(refuses_more_entries_than_there_are)
{
	const struct virtio_gpu_mem_entry entry = { htole64(GUEST_ADDR), htole32(4096), 0 };

	assert_int_equal(create_2d(&guest, 1, WIDTH, HEIGHT), OK);
	assert_int_equal(attach_entries(0, &entry, &entry), BAD_PARAMETER);
	assert_int_equal(attach_entries(3, &entry, &entry), BAD_PARAMETER);
	assert_int_equal(attach_entries(0x10000001, &entry, &entry), BAD_PARAMETER);
	assert_int_equal(attach_entries(0xffffffff, &entry, &entry), BAD_PARAMETER);
	assert_int_equal(attach_entries(2, &entry, &entry), OK);
}

TEST_GUEST(refuses_entries_outside_guest_memory)
{
	const struct virtio_gpu_mem_entry good = { htole64(GUEST_ADDR), htole32(4096), 0 };
	const struct virtio_gpu_mem_entry bad[] = {
		{ htole64(GUEST_ADDR - 1), htole32(4096), 0 },
		{ htole64(GUEST_ADDR + GUEST_SIZE - 4095), htole32(4096), 0 },
		{ htole64(GUEST_ADDR + GUEST_SIZE), htole32(1), 0 },
		{ htole64(UINT64_MAX), htole32(2), 0 },
		{ htole64(GUEST_ADDR), htole32(UINT32_MAX), 0 },
		{ 0, htole32(1), 0 },
	};

	assert_int_equal(create_2d(&guest, 1, WIDTH, HEIGHT), OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(attach_entries(2, &good, &bad[i]), BAD_PARAMETER);
	}
	gpu_set_memory(guest.gpu, NULL);
	assert_int_equal(attach_entries(2, &good, &good), BAD_PARAMETER);
}

TEST_RESOURCE(a_resource_has_one_backing_at_a_time)
{
	assert_int_equal(attach_backing(&guest, 1, 0, SIZE), UNSPECIFIED);
	assert_int_equal(detach_backing(&guest, 1), OK);
	assert_int_equal(detach_backing(&guest, 1), UNSPECIFIED);
	assert_int_equal(to_host_2d(0, 0, WIDTH, HEIGHT, 0), UNSPECIFIED);
	assert_int_equal(attach_backing(&guest, 1, 0, SIZE), OK);
	assert_int_equal(attach_backing(&guest, 2, 0, SIZE), BAD_RESOURCE);
	assert_int_equal(detach_backing(&guest, 2), BAD_RESOURCE);
}

/* Attaches as many pages as fit in one request, one page over and over. */
static uint32_t attach_many(uint32_t resource_id, uint32_t num_entries)
{
	size_t size = sizeof(struct virtio_gpu_resource_attach_backing) +
		num_entries * sizeof(struct virtio_gpu_mem_entry);
	struct virtio_gpu_resource_attach_backing *request = calloc(1, size);
	struct virtio_gpu_mem_entry *entries = (struct virtio_gpu_mem_entry *)(request + 1);
	uint32_t type;

	assert_non_null(request);
	request->hdr = header(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, 0);
	request->resource_id = htole32(resource_id);
	request->nr_entries = htole32(num_entries);
	for (uint32_t i = 0; i < num_entries; i++) {
		entries[i].addr = htole64(GUEST_ADDR);
		entries[i].length = htole32(4096);
	}
	type = guest_call(&guest, request, size);
	free(request);
	return type;
}

TEST_GUEST(backings_are_limited)
{
	for (uint32_t i = 1; i <= 5; i++) {
		assert_int_equal(create_2d(&guest, i, 8, 8), OK);
	}
	for (uint32_t i = 1; i <= 4; i++) {
		assert_int_equal(attach_many(i, 1 << 18), OK);
	}
	assert_int_equal(attach_many(5, 1), NO_MEMORY);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(attach_many(5, 1 << 18), OK);
}

/* Otherwise the limit on pieces would bound half of the memory that they take. */
TEST_GUEST(a_backing_keeps_no_room_for_more)
{
	struct virtio_gpu_mem_entry entries[(1 << 10) + 1];
	struct reader reader = { (const uint8_t *)entries, sizeof(entries) };
	struct backing *backing;
	uint32_t num_iov = 0;

	for (size_t i = 0; i < (1 << 10) + 1; i++) {
		entries[i] = (struct virtio_gpu_mem_entry){ htole64(GUEST_ADDR), htole32(4), 0 };
	}
	assert_int_equal(
		backing_create(guest.table, &reader, (1 << 10) + 1, &num_iov, &backing), 0);
	assert_int_equal(num_iov, (1 << 10) + 1);
	assert_in_range(malloc_usable_size(backing->base.iov), num_iov * sizeof(struct iovec),
		(num_iov + 4) * sizeof(struct iovec));
	backing_destroy(backing, &num_iov);
}

TEST_GUEST(a_backing_may_be_in_pieces)
{
	struct {
		struct virtio_gpu_resource_attach_backing request;
		struct virtio_gpu_mem_entry entries[SIZE / 4 + 1];
	} attach = {
		.request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, 0),
			.resource_id = htole32(1),
			.nr_entries = htole32(SIZE / 4 + 1),
		},
	};
	uint32_t pixels[WIDTH * HEIGHT];

	assert_int_equal(create_2d(&guest, 1, WIDTH, HEIGHT), OK);
	/* Backwards, a pixel each; and one that is empty. */
	for (uint32_t i = 0; i < SIZE / 4; i++) {
		uint32_t at = SIZE - 4 - 4 * i;

		attach.entries[i].addr = htole64(GUEST_ADDR + at);
		attach.entries[i].length = htole32(4);
		memcpy(guest.memory + at, &(uint32_t){ pixel(i % WIDTH, i / WIDTH) }, 4);
	}
	assert_int_equal(guest_call(&guest, &attach, sizeof(attach)), OK);
	assert_int_equal(to_host_2d(0, 0, WIDTH, HEIGHT, 0), OK);
	assert_int_equal(detach_backing(&guest, 1), OK);
	assert_int_equal(attach_backing(&guest, 1, 0, SIZE), OK);
	read_back(pixels);
	for (uint32_t i = 0; i < WIDTH * HEIGHT; i++) {
		assert_int_equal(pixels[i], pixel(i % WIDTH, i / WIDTH));
	}
}

TEST_RESOURCE(a_backing_keeps_memory_that_is_replaced)
{
	uint32_t pixels[WIDTH * HEIGHT];

	draw();
	gpu_set_memory(guest.gpu, NULL);
	guest_memory_unref(guest.table);
	guest.table = NULL;
	assert_int_equal(to_host_2d(0, 0, WIDTH, HEIGHT, 0), OK);
	read_back(pixels);
	assert_int_equal(pixels[WIDTH + 3], pixel(3, 1));
	assert_int_equal(create_2d(&guest, 2, WIDTH, HEIGHT), OK);
	assert_int_equal(attach_backing(&guest, 2, 0, SIZE), BAD_PARAMETER);
}

/* ---- Transfers ------------------------------------------------------------------------------ */

TEST_RESOURCE(transfers_what_was_asked_for_alone)
{
	uint32_t pixels[WIDTH * HEIGHT];

	draw();
	assert_int_equal(to_host_2d(4, 2, 5, 3, (2 * WIDTH + 4) * 4), OK);
	read_back(pixels);
	for (uint32_t i = 0; i < WIDTH * HEIGHT; i++) {
		uint32_t x = i % WIDTH, y = i / WIDTH;
		bool inside = x >= 4 && x < 9 && y >= 2 && y < 5;

		assert_int_equal(pixels[i], inside ? pixel(x, y) : 0);
	}
}

TEST_RESOURCE(refuses_rectangles_that_reach_out)
{
	assert_int_equal(to_host_2d(1, 0, WIDTH, HEIGHT, 0), BAD_PARAMETER);
	assert_int_equal(to_host_2d(0, 1, WIDTH, HEIGHT, 0), BAD_PARAMETER);
	assert_int_equal(to_host_2d(0xffffffff, 0, 2, 1, 0), BAD_PARAMETER);
	assert_int_equal(to_host_2d(0, 0xffffffff, 1, 2, 0), BAD_PARAMETER);
	assert_int_equal(to_host_2d(1, 1, 0xffffffff, 0xffffffff, 0), BAD_PARAMETER);
	assert_int_equal(to_host_2d(WIDTH, HEIGHT, 0, 0, 0), OK); /* nothing, at the edge */
}

TEST_RESOURCE(refuses_transfers_past_the_backing)
{
	assert_int_equal(to_host_2d(0, 0, WIDTH, HEIGHT, 1), BAD_PARAMETER);
	assert_int_equal(to_host_2d(0, 0, 1, 1, SIZE), BAD_PARAMETER);
	assert_int_equal(to_host_2d(0, 0, 1, 1, SIZE - 3), BAD_PARAMETER);
	assert_int_equal(to_host_2d(0, 0, 1, 1, UINT64_MAX), BAD_PARAMETER);
	assert_int_equal(to_host_2d(0, 0, 1, 1, UINT64_MAX - 3), BAD_PARAMETER);
	assert_int_equal(to_host_2d(0, 0, 1, 1, SIZE - 4), OK);
}

TEST_RESOURCE(a_transfer_that_is_refused_copies_nothing)
{
	uint32_t pixels[WIDTH * HEIGHT];

	draw();
	assert_int_equal(to_host_2d(0, 0, WIDTH, HEIGHT, 4), BAD_PARAMETER);
	read_back(pixels);
	assert_int_equal(pixels[0], 0);
}

TEST_RESOURCE(transfers_of_3d_have_a_stride)
{
	struct virtio_gpu_transfer_host_3d request = transfer_3d(
		VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 0, 0, 2, 2);
	uint32_t pixels[WIDTH * HEIGHT];

	draw();
	request.stride = htole32(3 * WIDTH * 4);
	request.offset = htole64(4);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	read_back(pixels);
	assert_int_equal(pixels[0], pixel(1, 0));
	assert_int_equal(pixels[1], pixel(2, 0));
	assert_int_equal(pixels[2], 0);
	assert_int_equal(pixels[WIDTH], pixel(1, 3));
}

TEST_RESOURCE(refuses_boxes_that_reach_out)
{
	const struct virtio_gpu_transfer_host_3d good = transfer_3d(
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 0, 0, WIDTH, HEIGHT);
	struct virtio_gpu_transfer_host_3d bad[10];

	for (size_t i = 0; i < 10; i++) {
		bad[i] = good;
	}
	bad[0].box.x = htole32(0xffffffff);
	bad[1].box.y = htole32(1);
	bad[2].box.z = htole32(1);
	bad[3].box.d = htole32(0xffffffff);
	bad[4].level = htole32(1);
	bad[5].stride = htole32(0xffffffff);
	bad[6].offset = htole64(UINT64_MAX);
	bad[7].box.w = htole32(0xffffffff);
	bad[8].offset = htole64(4);
	bad[9].stride = htole32(WIDTH * 4 - 1); /* rows overlap: each piece would be read often */
	for (size_t i = 0; i < 10; i++) {
		assert_int_equal(guest_call(&guest, &bad[i], sizeof(bad[i])), BAD_PARAMETER);
	}
	assert_int_equal(guest_call(&guest, &good, sizeof(good)), OK);
}

TEST_RESOURCE(transfers_need_resource_context_and_kind)
{
	struct virtio_gpu_transfer_host_3d request = transfer_3d(
		VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 0, 0, 1, 1);
	struct virtio_gpu_resource_create_3d create_3d = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, 0),
		.resource_id = htole32(3),
	};

	request.resource_id = htole32(9);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_RESOURCE);
	request.resource_id = htole32(1);
	request.hdr.ctx_id = htole32(5);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)),
		VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
	/* This renderer has no 3D. */
	assert_int_equal(guest_call(&guest, &create_3d, sizeof(create_3d)), UNSPECIFIED);
	assert_int_equal(unref(&guest, 3), BAD_RESOURCE);
}

/* It is its own memory, whatever the box says. */
TEST_GUEST(a_transfer_of_a_blob_has_nothing_to_do)
{
	static const uint32_t types[] = { VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D };

	for (int round = 0; round < 2; round++) {
		assert_int_equal(round == 0 ? create_empty_blob(&guest, 1, 4096) :
					      create_blob(&guest, 1, 0, 4096),
			OK);
		memset(guest.memory, 0x5a, 4096);
		assert_int_equal(to_host_2d(0, 0, WIDTH, HEIGHT, 0), OK);
		assert_int_equal(to_host_2d(1, 0xffffffff, 3, 4, 1), OK);
		for (int i = 0; i < 2; i++) {
			struct virtio_gpu_transfer_host_3d request = transfer_3d(
				types[i], 0, 0, 0xffffffff, 7);

			assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
			request.hdr.ctx_id = htole32(5);
			assert_int_equal(guest_call(&guest, &request, sizeof(request)),
				VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
		}
		for (uint32_t i = 0; i < 4096; i++) {
			assert_int_equal(guest.memory[i], 0x5a);
		}
		assert_int_equal(unref(&guest, 1), OK);
	}
}
