/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Blobs with memory of the host, and the window in which a guest maps them. */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gpu_guest.h"
#include "gpu_private.h"
#include "renderer.h"
#include "udmabuf.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define MAPPED VIRTIO_GPU_RESP_OK_MAP_INFO
#define UNSPECIFIED VIRTIO_GPU_RESP_ERR_UNSPEC
#define NO_MEMORY VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define BAD_RESOURCE VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID

#define WINDOW (64u << 20)
#define PAGE 4096u

static struct guest guest;
static struct guest_window *const window = &guest.window;

static void start(void)
{
	const struct gpu_options options = {
		.num_scanouts = 1,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.hostmem_size = WINDOW,
	};

	guest_start(&guest, &options);
}

/* With blobs 1 and 2 of four pages. */
static void start_with_blobs(void)
{
	start();
	assert_int_equal(create_host_blob(&guest, 1, 4 * PAGE), OK);
	assert_int_equal(create_host_blob(&guest, 2, 4 * PAGE), OK);
}

#define TEST_GUEST(name) TEST_BETWEEN(name, start(), guest_stop(&guest))
#define TEST_BLOBS(name) TEST_BETWEEN(name, start_with_blobs(), guest_stop(&guest))

bool __wrap_udmabuf_is_there(void);
int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count);

bool __wrap_udmabuf_is_there(void)
{
	return true;
}

int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count)
{
	assert_int_equal(count, 1);
	return fcntl(pieces[0].fd, F_DUPFD_CLOEXEC, 0);
}

static uint32_t *words_at(uint64_t offset)
{
	return (uint32_t *)(window->memory + offset);
}

static bool is_done(uint32_t token)
{
	return guest.responses[GPU_QUEUE_CONTROL][token].done;
}

static uint32_t type_of(uint32_t token)
{
	return guest_header(&guest.responses[GPU_QUEUE_CONTROL][token]).type;
}

static struct gpu_stats stats(void)
{
	struct gpu_stats now;

	gpu_get_stats(guest.gpu, &now);
	return now;
}

/* ---- Memory --------------------------------------------------------------------------------- */

/* A job's store is seen in the window, where the blob was mapped. */
TEST_BLOBS(the_guest_sees_what_the_gpu_writes)
{
	struct job job = {
		.ctx_id = 1, .fence_id = 1, .resource_id = 1, .offset = PAGE, .value = 0x12345678
	};

	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(attach_context(&guest, 1, 1), OK);
	assert_int_equal(map_blob(&guest, 1, 8 * PAGE), MAPPED);
	assert_int_equal(window->num_mapped_pages, 4);
	guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
	assert_int_equal(le32toh(words_at(9 * PAGE)[0]), 0x12345678);
	assert_int_equal(words_at(8 * PAGE)[0], 0);
	/* It was not its neighbour's. */
	assert_int_equal(map_blob(&guest, 2, 0), MAPPED);
	assert_int_equal(words_at(PAGE)[0], 0);
}

TEST_BLOBS(the_answer_says_how_to_map_it)
{
	struct virtio_gpu_resp_map_info info;
	const struct guest_response *response = guest_wait(
		&guest, GPU_QUEUE_CONTROL, send_map(&guest, 1, 0, 0));

	assert_int_equal(response->written, sizeof(info));
	memcpy(&info, response->bytes, sizeof(info));
	assert_int_equal(le32toh(info.map_info), VIRTIO_GPU_MAP_CACHE_CACHED);
}

/* It is still there when it is mapped again, elsewhere. */
TEST_BLOBS(what_the_guest_writes_stays)
{
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	words_at(0)[5] = 42;
	assert_int_equal(unmap_blob(&guest, 1), OK);
	assert_int_equal(window->num_mapped_pages, 0);
	assert_int_equal(map_blob(&guest, 1, WINDOW - 4 * PAGE), MAPPED);
	assert_int_equal(words_at(WINDOW - 4 * PAGE)[5], 42);
}

static uint32_t create_both(uint32_t resource_id, uint32_t size)
{
	const struct {
		struct virtio_gpu_resource_create_blob blob;
		struct virtio_gpu_mem_entry entry;
	} request = {
		.blob = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
			.resource_id = htole32(resource_id),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST),
			.blob_flags = htole32(VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE),
			.nr_entries = htole32(1),
			.size = htole64(size),
		},
		.entry = { htole64(GUEST_ADDR), htole32(size), 0 },
	};

	return guest_call(&guest, &request, sizeof(request));
}

static uint32_t transfer(uint32_t type, uint32_t x, uint32_t w, uint32_t h, uint64_t offset)
{
	const struct virtio_gpu_transfer_host_3d request = {
		.hdr = header(type, 0),
		.box = { .x = htole32(x), .w = htole32(w), .h = htole32(h), .d = htole32(1) },
		.offset = htole64(offset),
		.resource_id = htole32(3),
	};

	return guest_call(&guest, &request, sizeof(request));
}

/* A blob of both memories: one is copied to the other, byte by byte. */
TEST_GUEST(transfers_go_between_both_memories)
{
	const uint32_t to = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D;
	const uint32_t from = VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D;

	assert_int_equal(create_both(3, 2 * PAGE), OK);
	assert_int_equal(map_blob(&guest, 3, 0), MAPPED);
	memcpy(guest.memory + 100, "to the host", 11);
	assert_int_equal(transfer(to, 200, 11, 1, 100), OK);
	assert_memory_equal(window->memory + 200, "to the host", 11);
	memcpy(window->memory + PAGE, "from the host", 13);
	assert_int_equal(transfer(from, PAGE, 13, 1, 2 * PAGE - 13), OK);
	assert_memory_equal(guest.memory + 2 * PAGE - 13, "from the host", 13);
	/* Beyond either of them, and no bytes. */
	assert_int_equal(transfer(to, 2 * PAGE - 10, 11, 1, 0), BAD_PARAMETER);
	assert_int_equal(transfer(to, 2 * PAGE + 1, 0, 1, 0), BAD_PARAMETER);
	assert_int_equal(transfer(from, 0, 11, 1, 2 * PAGE - 10), BAD_PARAMETER);
	assert_int_equal(transfer(to, 0, 11, 2, 0), BAD_PARAMETER);
	assert_int_equal(transfer(to, 2 * PAGE, 0, 1, 0), OK);
}

TEST_BLOBS(a_scanout_shows_host_memory)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { 0, 0, htole32(16), htole32(16) },
		.resource_id = htole32(1),
		.width = htole32(16),
		.height = htole32(16),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(64) },
		.offsets = { htole32(PAGE) },
	};

	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	words_at(PAGE)[0] = htole32(0xff00ff);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	guest_wait(&guest, GPU_QUEUE_CONTROL, send_flush(&guest, 1, 16, 16, 0));
	assert_int_equal(guest.flushed_pixel, 0xff00ff);
}

/* ---- What cannot be mapped ------------------------------------------------------------------ */

TEST_BLOBS(refuses_places_outside_the_window)
{
	static const uint64_t places[] = { 1, PAGE / 2, WINDOW - 3 * PAGE, WINDOW, UINT64_MAX,
		UINT64_MAX - PAGE + 1, UINT64_MAX - 4 * PAGE + 1 };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		assert_int_equal(map_blob(&guest, 1, places[i]), BAD_PARAMETER);
	}
	assert_int_equal(window->num_maps, 0);
	assert_int_equal(map_blob(&guest, 1, WINDOW - 4 * PAGE), MAPPED);
}

TEST_BLOBS(refuses_places_that_are_taken)
{
	static const uint64_t places[] = { 5, 6, 8, 10, 11 };

	assert_int_equal(map_blob(&guest, 1, 8 * PAGE), MAPPED);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		assert_int_equal(map_blob(&guest, 2, places[i] * PAGE), BAD_PARAMETER);
	}
	assert_int_equal(map_blob(&guest, 2, 12 * PAGE), MAPPED);
	assert_int_equal(unmap_blob(&guest, 2), OK);
	assert_int_equal(map_blob(&guest, 2, 4 * PAGE), MAPPED);
	assert_int_equal(window->num_maps, 3);
}

TEST_BLOBS(refuses_what_is_mapped_or_not)
{
	assert_int_equal(unmap_blob(&guest, 1), BAD_PARAMETER);
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	assert_int_equal(map_blob(&guest, 1, 8 * PAGE), BAD_PARAMETER);
	assert_int_equal(unmap_blob(&guest, 1), OK);
	assert_int_equal(unmap_blob(&guest, 1), BAD_PARAMETER);
	assert_int_equal(map_blob(&guest, 3, 0), BAD_RESOURCE);
	assert_int_equal(unmap_blob(&guest, 3), BAD_RESOURCE);
}

TEST_GUEST(refuses_resources_that_are_not_mappable)
{
	const struct virtio_gpu_resource_create_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
		.resource_id = htole32(3),
		.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_HOST3D),
		.blob_flags = htole32(VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE),
		.size = htole64(PAGE),
	};

	assert_int_equal(create_2d(&guest, 1, 16, 16), OK);
	assert_int_equal(create_blob(&guest, 2, 0, PAGE), OK);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	for (uint32_t id = 1; id <= 3; id++) {
		assert_int_equal(map_blob(&guest, id, 0), BAD_PARAMETER);
	}
}

TEST(without_a_window_nothing_is_mapped)
{
	const struct gpu_options options = { .fence_passing_bit = -1 };

	guest_start(&guest, &options);
	assert_int_equal(create_host_blob(&guest, 1, PAGE), OK);
	assert_int_equal(map_blob(&guest, 1, 0), BAD_PARAMETER);
	guest_stop(&guest);
}

TEST(a_window_is_a_power_of_two_of_pages)
{
	const struct gpu_callbacks callbacks = { 0 };
	static const uint64_t sizes[] = { 1, 2048, 3 * PAGE, (UINT64_C(1) << 40) + PAGE };
	struct gpu *gpu;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct gpu_options options = {
			.fence_passing_bit = -1,
			.hostmem_size = sizes[i],
		};

		assert_int_equal(gpu_create(&callbacks, NULL, &options, renderer_soft_create, &gpu),
			-EINVAL);
	}
}

TEST_BLOBS(what_the_front_end_refuses_is_an_error)
{
	window->status = -EREMOTEIO;
	assert_int_equal(map_blob(&guest, 1, 0), UNSPECIFIED);
	assert_true(strstr(guest.warning, "resource 1 is not mapped at 0x0") != NULL);
	window->status = 0;
	assert_int_equal(unmap_blob(&guest, 1), BAD_PARAMETER);
	assert_int_equal(map_blob(&guest, 2, 0), MAPPED);
	assert_int_equal(map_blob(&guest, 1, 4 * PAGE), MAPPED);
	/* What it does not unmap is not mapped for us any more. */
	window->status = -EREMOTEIO;
	assert_int_equal(unmap_blob(&guest, 1), UNSPECIFIED);
	window->status = 0;
	assert_int_equal(unmap_blob(&guest, 1), BAD_PARAMETER);
	assert_int_equal(stats().mapped_bytes, 4 * PAGE);
}

/* ---- The order ------------------------------------------------------------------------------ */

/* A Linux guest gives a place to another blob before the unmapping is answered. */
TEST_BLOBS(a_guest_need_not_wait_for_answers)
{
	uint32_t tokens[4];

	window->held = true;
	tokens[0] = send_map(&guest, 1, 0, 0);
	tokens[1] = send_unmap(&guest, 1);
	tokens[2] = send_map(&guest, 2, 2 * PAGE, 0);
	tokens[3] = send_map(&guest, 1, 8 * PAGE, 0);
	assert_int_equal(window->num_maps, 1);
	for (size_t i = 0; i < 4; i++) {
		assert_false(is_done(tokens[i]));
		guest_answer(&guest);
		assert_true(is_done(tokens[i]));
		assert_int_equal(type_of(tokens[i]), i == 1 ? OK : MAPPED);
	}
	assert_false(window->asked);
	assert_int_equal(window->num_mapped_pages, 8);
}

/* It did not come to pass, so there is nothing to unmap. */
TEST_BLOBS(an_unmap_behind_a_map_that_fails_is_an_error)
{
	uint32_t map, unmap, other;

	window->held = true;
	map = send_map(&guest, 1, 0, 0);
	unmap = send_unmap(&guest, 1);
	other = send_map(&guest, 2, 0, 0);
	window->status = -EREMOTEIO;
	guest_answer(&guest);
	assert_int_equal(type_of(map), UNSPECIFIED);
	assert_int_equal(type_of(unmap), BAD_PARAMETER);
	assert_int_equal(window->num_unmaps, 0);
	window->status = 0;
	guest_answer(&guest);
	assert_int_equal(type_of(other), MAPPED);
}

TEST_BLOBS(work_that_waits_for_a_maps_fence_runs_behind_it)
{
	struct job job = { .ctx_id = 1, .fence_id = 2, .num_in_fences = 1, .in_fences = { 1 } };
	uint32_t map, work;

	assert_int_equal(create_context(&guest, 1), OK);
	window->held = true;
	map = send_map(&guest, 1, 0, 1);
	work = submit(&guest, &job);
	for (int i = 0; i < 10; i++) {
		gpu_dispatch(guest.gpu);
	}
	assert_false(is_done(work));
	guest_answer(&guest);
	guest_wait(&guest, GPU_QUEUE_CONTROL, work);
	assert_true(is_done(map));
	assert_int_equal(type_of(map), MAPPED);
	assert_int_equal(guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, map)).fence_id, 1);
}

/* ---- Endings -------------------------------------------------------------------------------- */

TEST_BLOBS(the_end_of_a_resource_unmaps_it)
{
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	words_at(0)[0] = 42;
	window->held = true;
	assert_int_equal(unref(&guest, 1), OK);
	/* The ID is another's, and so is the place, before the front end has answered. */
	assert_int_equal(create_host_blob(&guest, 1, PAGE), OK);
	send_map(&guest, 1, 0, 0);
	assert_int_equal(window->num_unmaps, 1);
	guest_answer(&guest);
	guest_answer(&guest);
	assert_int_equal(window->num_mapped_pages, 1);
	assert_int_equal(words_at(0)[0], 0);
}

/* That of a resource which ends before its turn; another has its ID by then. */
TEST_BLOBS(a_map_is_of_the_resource_that_it_was_asked_for)
{
	uint32_t second;

	window->held = true;
	send_map(&guest, 2, 0, 0);
	second = send_map(&guest, 1, 8 * PAGE, 0);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(create_host_blob(&guest, 1, 4 * PAGE), OK);
	guest_answer(&guest);
	assert_int_equal(type_of(second), BAD_PARAMETER);
	assert_int_equal(window->num_maps, 1);
	assert_false(window->asked);
	assert_int_equal(window->num_mapped_pages, 4);
}

/* The front end does that by itself. */
TEST_BLOBS(nothing_is_mapped_after_a_reset)
{
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	assert_int_equal(map_blob(&guest, 2, 8 * PAGE), MAPPED);
	guest_reset(&guest);
	assert_false(window->asked);
	assert_int_equal(window->num_unmaps, 0);
	assert_int_equal(stats().mapped_bytes, 0);
	assert_int_equal(create_host_blob(&guest, 1, 4 * PAGE), OK);
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
}

/* One was asked for, one was not; an unmap was. */
TEST_BLOBS(a_reset_in_the_middle_leaves_nothing)
{
	for (unsigned int answered = 0; answered < 3; answered++) {
		uint32_t tokens[3];

		window->held = true;
		tokens[0] = send_map(&guest, 1, 0, 1);
		tokens[1] = send_unmap(&guest, 1);
		tokens[2] = send_map(&guest, 2, 0, 2);
		for (unsigned int i = 0; i < answered; i++) {
			guest_answer(&guest);
		}
		guest_reset(&guest);
		for (size_t i = 0; i < 3; i++) {
			assert_true(is_done(tokens[i]));
			assert_int_equal(type_of(tokens[i]),
				i >= answered  ? UNSPECIFIED :
					i == 1 ? OK :
						 MAPPED);
		}
		while (window->asked) {
			guest_answer(&guest);
		}
		assert_int_equal(window->num_mapped_pages, 0);
		assert_int_equal(guest.gpu->hostmem.num_mappings, 0);
		assert_int_equal(create_host_blob(&guest, 1, 4 * PAGE), OK);
		assert_int_equal(create_host_blob(&guest, 2, 4 * PAGE), OK);
	}
}

/* The front end waits for us meanwhile, so no answer can come. */
TEST_BLOBS(draining_waits_for_no_answer)
{
	uint32_t map, unmap, other;

	assert_int_equal(map_blob(&guest, 2, 8 * PAGE), MAPPED);
	window->held = true;
	map = send_map(&guest, 1, 0, 0);
	unmap = send_unmap(&guest, 2);
	assert_int_equal(create_host_blob(&guest, 3, PAGE), OK);
	other = send_map(&guest, 3, 8 * PAGE, 0);
	gpu_drain(guest.gpu, 1000000, -1);
	assert_int_equal(type_of(map), UNSPECIFIED);
	assert_int_equal(type_of(unmap), OK);
	assert_int_equal(type_of(other), UNSPECIFIED);
	/* The guest was told that it is not mapped, so it is not. */
	while (window->asked) {
		guest_answer(&guest);
	}
	assert_int_equal(window->num_mapped_pages, 0);
	window->held = false;
	for (uint32_t id = 1; id <= 3; id++) {
		assert_int_equal(map_blob(&guest, id, id * 4 * PAGE), MAPPED);
	}
}

/* Its fence was given up: the guest has an error for an answer. */
TEST_BLOBS(a_map_whose_fence_is_cancelled_is_undone)
{
	struct vgf_device *device = guest.gpu->renderer->ops->get_device(guest.gpu->renderer);
	const struct vgf_fence_name name = { .fence_id = 1, .ring = VGF_RING_GLOBAL };
	uint32_t map;

	window->held = true;
	map = send_map(&guest, 1, 0, 1);
	assert_int_equal(vgf_fence_cancel(device, &name, -ECANCELED), 0);
	while (!is_done(map)) {
		gpu_dispatch(guest.gpu);
	}
	assert_int_equal(type_of(map), UNSPECIFIED);
	while (window->asked) {
		guest_answer(&guest);
	}
	assert_int_equal(window->num_maps, 1);
	assert_int_equal(window->num_unmaps, 1);
	assert_int_equal(window->num_mapped_pages, 0);
}

TEST(the_end_of_the_device_asks_nothing)
{
	start_with_blobs();
	assert_int_equal(map_blob(&guest, 2, 0), MAPPED);
	window->held = true;
	send_map(&guest, 1, 8 * PAGE, 0);
	guest_stop(&guest);
	assert_int_equal(window->num_unmaps, 0);
}

/* ---- Limits --------------------------------------------------------------------------------- */

static int create_nothing(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	uint32_t blob_mem, uint32_t blob_flags, uint64_t blob_id, uint64_t size,
	const struct renderer_backing *backing)
{
	(void)renderer;
	(void)ctx_id;
	(void)resource_id;
	(void)blob_mem;
	(void)blob_flags;
	(void)blob_id;
	(void)size;
	(void)backing;
	return 0;
}

static struct renderer_map file; /* of whatever is mapped */

static int map_file(struct renderer *renderer, uint32_t resource_id, struct renderer_map *map)
{
	(void)renderer;
	(void)resource_id;
	*map = file;
	map->fd = fcntl(file.fd, F_DUPFD_CLOEXEC, 0);
	return map->fd < 0 ? -errno : 0;
}

static int unref_nothing(
	struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	(void)renderer;
	(void)resource_id;
	done(arg, 0);
	return 0;
}

static const struct renderer_ops *usual_ops;
static struct renderer_ops file_ops;

/* Blobs are all of one file. */
static void start_with_file(void)
{
	start();
	usual_ops = guest.gpu->renderer->ops;
	file_ops = *usual_ops;
	file_ops.create_blob = create_nothing;
	file_ops.map_blob = map_file;
	file_ops.unref = unref_nothing;
	guest.gpu->renderer->ops = &file_ops;
	guest.gpu->resources.max_host_blobs = MAX_HOST_BLOBS; /* none has a descriptor */
	file = (struct renderer_map){ .fd = memfd_create("blobs", MFD_CLOEXEC) };
	assert_true(file.fd >= 0);
	assert_int_equal(ftruncate(file.fd, 4 * PAGE), 0);
}

static void stop_with_file(void)
{
	guest_stop(&guest);
	close(file.fd);
}

#define TEST_FILE(name) TEST_BETWEEN(name, start_with_file(), stop_with_file())

/* Beyond a file's end there is a signal, not memory. */
TEST_FILE(a_file_that_ends_early_is_not_mapped)
{
	assert_int_equal(create_host_blob(&guest, 1, 4 * PAGE), OK);
	file.offset = PAGE;
	assert_int_equal(map_blob(&guest, 1, 0), BAD_PARAMETER);
	file.offset = 2; /* no page begins there */
	assert_int_equal(map_blob(&guest, 1, 0), BAD_PARAMETER);
	file.offset = UINT64_MAX - PAGE + 1;
	assert_int_equal(map_blob(&guest, 1, 0), BAD_PARAMETER);
	assert_int_equal(window->num_maps, 0);
	file.offset = 0;
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	assert_int_equal(create_host_blob(&guest, 2, 2 * PAGE), OK);
	file.offset = 2 * PAGE;
	words_at(2 * PAGE)[0] = 42;
	assert_int_equal(map_blob(&guest, 2, 8 * PAGE), MAPPED);
	assert_int_equal(words_at(8 * PAGE)[0], 42);
}

/* A size that is no whole page, of guests before BLOB_ALIGNMENT: all of the last one. */
TEST_FILE(a_last_page_is_mapped_whole)
{
	assert_int_equal(create_host_blob(&guest, 1, PAGE + 1), OK);
	assert_int_equal(create_host_blob(&guest, 2, PAGE), OK);
	assert_int_equal(map_blob(&guest, 1, WINDOW - PAGE), BAD_PARAMETER);
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	assert_int_equal(window->num_mapped_pages, 2);
	assert_int_equal(map_blob(&guest, 2, PAGE), BAD_PARAMETER);
	assert_int_equal(map_blob(&guest, 2, 2 * PAGE), MAPPED);
}

TEST_FILE(as_many_blobs_and_mappings_as_are_documented)
{
	window->empty = true;
	for (uint32_t id = 1; id <= MAX_HOST_BLOBS; id++) {
		assert_int_equal(create_host_blob(&guest, id, PAGE), OK);
	}
	assert_int_equal(create_host_blob(&guest, MAX_HOST_BLOBS + 1, PAGE), NO_MEMORY);
	for (uint32_t id = 1; id < HOSTMEM_MAX_MAPPINGS; id++) {
		assert_int_equal(map_blob(&guest, id, (uint64_t)(id - 1) * PAGE), MAPPED);
	}
	/* One whose unmapping is not answered counts. */
	window->held = true;
	send_unmap(&guest, 1);
	send_map(&guest, 1, 0, 0);
	assert_int_equal(map_blob(&guest, HOSTMEM_MAX_MAPPINGS, WINDOW - PAGE), NO_MEMORY);
	guest_answer(&guest);
	guest_answer(&guest);
	window->held = false;
	assert_int_equal(map_blob(&guest, HOSTMEM_MAX_MAPPINGS, WINDOW - PAGE), MAPPED);
	assert_int_equal(unref(&guest, 1), OK);
	guest_answer(&guest);
	assert_int_equal(create_host_blob(&guest, MAX_HOST_BLOBS + 1, PAGE), OK);
	guest_reset(&guest);
	assert_int_equal(guest.gpu->hostmem.num_mappings, 0);
}

/* Each of the software GPU's has one: it takes no more than its share. */
TEST(blobs_leave_descriptors_for_the_rest)
{
	struct rlimit before, limit;
	uint32_t id = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 256;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	start();
	assert_int_equal(guest.gpu->resources.max_host_blobs, 64);
	while (create_host_blob(&guest, id + 1, PAGE) == OK) {
		id++;
	}
	assert_int_equal(id, 32);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(create_host_blob(&guest, 1, PAGE), OK);
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	guest_stop(&guest);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_GUEST(memory_has_a_limit)
{
	assert_int_equal(create_host_blob(&guest, 1, 512u << 20), OK);
	assert_int_equal(create_host_blob(&guest, 2, PAGE), NO_MEMORY);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(create_host_blob(&guest, 2, PAGE), OK);
	assert_int_equal(create_host_blob(&guest, 3, 512u << 20), NO_MEMORY);
}

/* A file has whole pages, whatever the guest asks for. */
TEST_GUEST(what_ends_within_a_page_counts_as_all_of_it)
{
	assert_int_equal(create_host_blob(&guest, 1, (256u << 20) - PAGE + 1), OK);
	assert_int_equal(create_host_blob(&guest, 2, (256u << 20) - PAGE + 1), OK);
	assert_int_equal(create_host_blob(&guest, 3, 1), NO_MEMORY);
	assert_int_equal(unref(&guest, 2), OK);
	assert_int_equal(create_host_blob(&guest, 2, 256u << 20), OK);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(unref(&guest, 2), OK);
	assert_int_equal(create_host_blob(&guest, 1, 512u << 20), OK);
}

static int export_pixels(uint32_t resource_id)
{
	struct renderer *renderer = guest.gpu->renderer;
	struct renderer_dma_buf dma_buf;
	int ret = renderer->ops->export_dma_buf(renderer, resource_id, &dma_buf);

	if (ret == 0) {
		close(dma_buf.fd);
	}
	return ret;
}

/* So do pixels that a display reads in place: of all that there may be, one has 4 bytes. */
TEST_GUEST(pixels_in_a_file_count_as_whole_pages)
{
	assert_int_equal(create_2d(&guest, 1, 1, 1), OK);
	assert_int_equal(create_2d(&guest, 2, 8191, 8193), OK);
	assert_int_equal(create_2d(&guest, 3, 1, 1), NO_MEMORY);
	assert_int_equal(export_pixels(1), -ENOSPC);
	assert_int_equal(unref(&guest, 2), OK);
	assert_int_equal(export_pixels(1), 0);
	assert_int_equal(create_2d(&guest, 2, 8191, 8193), NO_MEMORY);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(create_2d(&guest, 2, 8192, 8192), OK);
}

static unsigned int count_mapped_blobs(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int count = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		count += strstr(line, "vgfence-blob") != NULL;
	}
	fclose(maps);
	return count;
}

/* The device's own view of its memory ends with the blob. */
TEST_BLOBS(memory_is_given_back)
{
	assert_true(count_mapped_blobs() > 0);
	assert_int_equal(unref(&guest, 1), OK);
	gpu_reset(guest.gpu);
	assert_int_equal(count_mapped_blobs(), 0);
}

TEST_BLOBS(what_is_mapped_is_counted)
{
	assert_int_equal(map_blob(&guest, 1, 0), MAPPED);
	assert_int_equal(map_blob(&guest, 2, 4 * PAGE), MAPPED);
	assert_int_equal(unmap_blob(&guest, 1), OK);
	assert_int_equal(stats().maps, 2);
	assert_int_equal(stats().mapped_bytes, 4 * PAGE);
	assert_int_equal(stats().max_mapped_bytes, 8 * PAGE);
}
