/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The virtio-gpu device with Vulkan: contexts, their fences and blobs, and what is left when the
 * render server has ended. Needs that (package virgl-server) and a Vulkan driver of the host's
 * (mesa-vulkan-drivers). */

#include <endian.h>
#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpu_guest.h"
#include "gpu_private.h"
#include "render_server.h"
#include "venus_stream.h"
#include "virgl_map.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define CAPSET_VENUS 4
#define CAPSET_INDEX 2
#define SHMEM_SIZE (64u << 10)
#define WORD 0x12345678

enum { VENUS = 1, OTHER = 2, SHMEM = 10, PLAIN = 11, RING = 5 };

static struct guest guest;

static void begin(void)
{
	static const struct gpu_options options = {
		.num_scanouts = 1,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.renderer = { .vulkan = true },
	};

	guest_start_with(&guest, &options, renderer_virgl_create);
}

static void finish(void)
{
	guest_stop(&guest);
}

#define TEST_VENUS(name) TEST_BETWEEN(name, begin(), finish())

static uint32_t create_venus(uint32_t ctx_id)
{
	const struct virtio_gpu_ctx_create request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, ctx_id),
		.context_init = htole32(CAPSET_VENUS),
	};

	return guest_call(&guest, &request, sizeof(request));
}

/* A submission of nothing, for its fence. */
static uint32_t submit_fence(uint32_t ctx_id, uint8_t ring, uint64_t fence_id)
{
	struct virtio_gpu_cmd_submit request = {
		.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, ctx_id),
	};

	request.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	request.hdr.ring_idx = ring;
	request.hdr.fence_id = htole64(fence_id);
	return guest_call(&guest, &request, sizeof(request));
}

static uint32_t create_venus_blob(uint32_t ctx_id, uint32_t resource_id, uint64_t blob_id)
{
	const struct virtio_gpu_resource_create_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, ctx_id),
		.resource_id = htole32(resource_id),
		.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_HOST3D),
		.blob_flags = htole32(VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE),
		.blob_id = htole64(blob_id),
		.size = htole64(SHMEM_SIZE),
	};

	return guest_call(&guest, &request, sizeof(request));
}

TEST_VENUS(venus_is_offered)
{
	const struct virtio_gpu_get_capset_info info_request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0),
		.capset_index = htole32(CAPSET_INDEX),
	};
	const struct virtio_gpu_get_capset request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0),
		.capset_id = htole32(CAPSET_VENUS),
	};
	struct {
		uint32_t capset_id, max_version, max_size, padding;
	} info;
	uint32_t wire_format_version, capset[256] = { 0 };

	assert_int_equal(
		guest_ask(&guest, &info_request, sizeof(info_request), &info, sizeof(info)),
		VIRTIO_GPU_RESP_OK_CAPSET_INFO);
	assert_int_equal(le32toh(info.capset_id), CAPSET_VENUS);
	assert_in_range(le32toh(info.max_size), sizeof(wire_format_version), sizeof(capset));
	assert_int_equal(
		guest_ask(&guest, &request, sizeof(request), capset, le32toh(info.max_size)),
		VIRTIO_GPU_RESP_OK_CAPSET);
	/* It is zero if the renderer does not run. */
	wire_format_version = capset[0];
	assert_int_not_equal(wire_format_version, 0);
}

TEST_VENUS(fences_of_venus_retire)
{
	assert_int_equal(create_venus(VENUS), OK);
	assert_int_equal(submit_fence(VENUS, 0, 1), OK);
	assert_int_equal(submit_fence(VENUS, 0, 2), OK);
}

TEST_VENUS(a_ring_without_a_queue_ends_its_context_alone)
{
	assert_int_equal(create_venus(VENUS), OK);
	assert_int_equal(create_venus(OTHER), OK);
	assert_int_not_equal(submit_fence(VENUS, RING, 1), OK);
	assert_int_equal(submit_fence(OTHER, 0, 2), OK);
	assert_int_not_equal(submit_fence(VENUS, 0, 3), OK);
}

/* A front end's process sees what this one writes. */
static void assert_mapped(uint32_t resource_id)
{
	struct virgl_map map;
	void *address, *again;

	assert_int_equal(virgl_map_resource(resource_id, &map), 0);
	assert_int_equal(map.offset % 4096, 0);
	assert_true(map.size >= SHMEM_SIZE);
	assert_int_equal(map.map_info, VIRTIO_GPU_MAP_CACHE_CACHED);
	address = mmap(
		NULL, map.size, PROT_READ | PROT_WRITE, MAP_SHARED, map.fd, (off_t)map.offset);
	assert_ptr_not_equal(address, MAP_FAILED);
	memset(address, 0x5a, map.size);
	close(map.fd);
	assert_int_equal(virgl_map_resource(resource_id, &map), 0);
	again = mmap(NULL, map.size, PROT_READ, MAP_SHARED, map.fd, (off_t)map.offset);
	assert_ptr_not_equal(again, MAP_FAILED);
	assert_memory_equal(address, again, map.size);
	munmap(address, map.size);
	munmap(again, map.size);
	close(map.fd);
}

TEST_VENUS(shared_memory_of_venus_can_be_mapped)
{
	assert_int_equal(create_venus(VENUS), OK);
	assert_int_equal(create_venus_blob(VENUS, SHMEM, 0), OK);
	assert_mapped(SHMEM);
}

static uint32_t submit_stream(uint8_t ring, uint64_t fence_id, const struct venus_stream *stream)
{
	struct {
		struct virtio_gpu_cmd_submit head;
		uint32_t words[VENUS_STREAM_WORDS];
	} request = {
		.head = { .hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, VENUS),
			.size = htole32((uint32_t)stream->count * 4) },
	};

	request.head.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	request.head.hdr.ring_idx = ring;
	request.head.hdr.fence_id = htole64(fence_id);
	memcpy(request.words, stream->words, stream->count * 4);
	return guest_call(&guest, &request, sizeof(request.head) + stream->count * 4);
}

/* What a front end does: it has the descriptor and nothing else. */
static bool child_sees(const struct virgl_map *map, uint32_t word)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		const uint32_t *words = mmap(
			NULL, map->size, PROT_READ, MAP_SHARED, map->fd, (off_t)map->offset);
		for (uint32_t i = 0; words != MAP_FAILED && i < SHMEM_SIZE / 4; i++) {
			if (words[i] != word) {
				_exit(1);
			}
		}
		_exit(words == MAP_FAILED);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status == 0;
}

/* Each has a description there. */
static bool has_driver(void)
{
	glob_t found;
	int ret = glob("/usr/share/vulkan/icd.d/*.json", 0, NULL, &found);

	globfree(&found);
	return ret == 0;
}

TEST_VENUS(memory_of_vulkan_can_be_mapped_by_another_process)
{
	struct venus_stream stream;
	struct virgl_map map;

	if (!has_driver()) {
		printf("skipped: no Vulkan driver (package mesa-vulkan-drivers)\n");
		finish();
		skip();
	}
	assert_int_equal(create_venus(VENUS), OK);
	venus_stream_begin(&stream, RING);
	venus_stream_instance(&stream);
	venus_stream_device(&stream, SHMEM_SIZE);
	assert_int_equal(submit_stream(0, 1, &stream), OK);
	assert_int_equal(create_venus_blob(VENUS, SHMEM, venus_stream_blob_id(RING)), OK);
	assert_int_equal(virgl_map_resource(SHMEM, &map), 0);
	assert_int_equal(map.offset % 4096, 0);
	assert_int_equal(map.size, SHMEM_SIZE);
	assert_int_equal(map.map_info, VIRTIO_GPU_MAP_CACHE_CACHED);
	assert_true(child_sees(&map, 0));

	venus_stream_begin(&stream, RING);
	venus_stream_fill(&stream, SHMEM_SIZE, WORD, 0);
	assert_int_equal(submit_stream(RING, 2, &stream), OK);
	assert_true(child_sees(&map, WORD));
	close(map.fd);
}

TEST_VENUS(what_has_no_descriptor_cannot_be_mapped)
{
	const struct virtio_gpu_resource_create_2d request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, 0),
		.resource_id = htole32(PLAIN),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM),
		.width = htole32(16),
		.height = htole32(16),
	};
	struct virgl_map map = { .fd = -1 };

	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	assert_int_equal(virgl_map_resource(PLAIN, &map), -EOPNOTSUPP);
	assert_int_equal(virgl_map_resource(12345, &map), -EOPNOTSUPP);
	assert_int_equal(map.fd, -1);
}

/* The only child of this process. */
static void kill_server(void)
{
	char text[64] = "";
	FILE *file = fopen("/proc/thread-self/children", "re");
	int pid = 0;

	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_int_equal(sscanf(text, "%d", &pid), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
}

TEST_VENUS(the_next_guest_has_vulkan_after_the_server_was_killed)
{
	assert_int_equal(create_venus(VENUS), OK);
	kill_server();
	while (create_venus(OTHER) == OK) {
		/* It may be about to end. */
		const struct virtio_gpu_ctx_destroy request = {
			.hdr = header(VIRTIO_GPU_CMD_CTX_DESTROY, OTHER),
		};
		guest_call(&guest, &request, sizeof(request));
	}
	gpu_reset(guest.gpu);
	gpu_set_features(guest.gpu, guest_features(&guest));
	assert_int_equal(create_venus(VENUS), OK);
	assert_int_equal(submit_fence(VENUS, 0, 1), OK);
}

static void ignore(void *cookie, const struct vgf_retired *retired)
{
}

static bool is_too_old(void)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(callbacks), .retire = ignore };
	const struct renderer_options options = { .vulkan = true };
	struct renderer *renderer;
	int ret = renderer_virgl_create(&callbacks, NULL, &options, &renderer);

	if (ret == 0) {
		renderer->ops->destroy(renderer);
	}
	return ret == -EOPNOTSUPP;
}

int main(int argc, char *argv[])
{
	if (access(render_server_path(), X_OK) < 0) {
		printf("skipped: no %s (package virgl-server)\n", render_server_path());
		return 77;
	}
	if (is_too_old()) {
		printf("skipped: Venus needs virglrenderer 1.0 or newer\n");
		return 77;
	}
	return run_registered_tests(argv);
}
