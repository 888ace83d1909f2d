/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "guest.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest_memory.h"
#include "soft_gpu.h"

#define GUEST_ADDR 0x100000u
#define PAGE 4096u
#define CONTEXT 1
#define CAPSET_DRM 6 /* VIRTIO_GPU_CAPSET_DRM, the software GPU's */

/* ---- Requests -------------------------------------------------------------------------------- */

static bool has_its_fence(const struct bench_guest *guest, uint32_t token)
{
	const struct virtio_gpu_ctrl_hdr *response = &guest->requests[token].response;
	struct virtio_gpu_ctrl_hdr request;

	memcpy(&request, guest->requests[token].bytes, sizeof(request));
	return response->fence_id == request.fence_id &&
		((request.flags & htole32(VIRTIO_GPU_FLAG_FENCE)) == 0 ||
			(response->flags == request.flags && response->ctx_id == request.ctx_id &&
				response->ring_idx == request.ring_idx));
}

void bench_guest_note_complete(void *cookie, enum gpu_queue queue, uint32_t token, uint32_t written)
{
	struct bench_guest *guest = cookie;

	(void)queue;
	(void)written;
	guest->num_wrong += guest->requests[token].is_done || !has_its_fence(guest, token);
	guest->requests[token].is_done = true;
}

static uint32_t take_token(struct bench_guest *guest)
{
	uint32_t token;

	do {
		token = guest->next_token++ % BENCH_GUEST_REQUESTS;
	} while (guest->requests[token].is_kept ||
		(guest->requests[token].is_sent && !guest->requests[token].is_done));
	return token;
}

static uint32_t send(struct bench_guest *guest, const void *request, size_t size)
{
	uint32_t token = take_token(guest);
	struct iovec *readable = &guest->requests[token].readable;
	struct iovec *writable = &guest->requests[token].writable;
	const struct gpu_request gpu_request = {
		.queue = GPU_QUEUE_CONTROL,
		.token = token,
		.readable = readable,
		.num_readable = 1,
		.writable = writable,
		.num_writable = 1,
	};

	memcpy(guest->requests[token].bytes, request, size);
	*readable = (struct iovec){ guest->requests[token].bytes, size };
	*writable = (struct iovec){ &guest->requests[token].response,
		sizeof(guest->requests[token].response) };
	memset(&guest->requests[token].response, 0, sizeof(guest->requests[token].response));
	guest->requests[token].is_sent = true;
	guest->requests[token].is_done = false;
	gpu_handle(guest->gpu, &gpu_request);
	return token;
}

void bench_guest_keep(struct bench_guest *guest, uint32_t token, bool keep)
{
	guest->requests[token].is_kept = keep;
}

int bench_guest_result(const struct bench_guest *guest, uint32_t token)
{
	if (!guest->requests[token].is_done) {
		return -EINPROGRESS;
	}
	return le32toh(guest->requests[token].response.type) == VIRTIO_GPU_RESP_OK_NODATA ? 0 :
											    -EIO;
}

/* One that the device answers at once. */
static int call(struct bench_guest *guest, const void *request, size_t size)
{
	int ret = bench_guest_result(guest, send(guest, request, size));

	return ret == -EINPROGRESS ? -EIO : ret;
}

static struct virtio_gpu_ctrl_hdr fenced(struct bench_guest *guest, uint32_t type, int timeline)
{
	bool is_global = timeline == BENCH_GUEST_GLOBAL;

	return (struct virtio_gpu_ctrl_hdr){
		.type = htole32(type),
		.flags = htole32(
			VIRTIO_GPU_FLAG_FENCE | (is_global ? 0 : VIRTIO_GPU_FLAG_INFO_RING_IDX)),
		.fence_id = htole64(++guest->last_fence_id),
		.ctx_id = htole32(is_global ? 0 : CONTEXT),
		.ring_idx = is_global ? 0 : (uint8_t)timeline,
	};
}

int bench_guest_show(struct bench_guest *guest, uint32_t scanout, uint32_t resource_id)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB),
		.r = { .width = htole32(guest->width), .height = htole32(guest->height) },
		.scanout_id = htole32(scanout),
		.resource_id = htole32(resource_id),
		.width = htole32(guest->width),
		.height = htole32(guest->height),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(guest->width * 4) },
	};

	return call(guest, &request, sizeof(request));
}

uint32_t bench_guest_submit(struct bench_guest *guest, uint32_t busy_us)
{
	const struct {
		struct virtio_gpu_cmd_submit request;
		uint32_t words[2];
	} submit = {
		.request.hdr = fenced(guest, VIRTIO_GPU_CMD_SUBMIT_3D, 0),
		.request.size = htole32(sizeof(submit.words)),
		.words = { htole32(SOFT_GPU_BUSY), htole32(busy_us) },
	};

	return send(guest, &submit, sizeof(submit));
}

uint32_t bench_guest_flush(struct bench_guest *guest, uint32_t resource_id, int timeline)
{
	const struct virtio_gpu_resource_flush request = {
		.hdr = fenced(guest, VIRTIO_GPU_CMD_RESOURCE_FLUSH, timeline),
		.r = { .width = htole32(guest->width), .height = htole32(guest->height) },
		.resource_id = htole32(resource_id),
	};

	return send(guest, &request, sizeof(request));
}

/* ---- Memory ---------------------------------------------------------------------------------- */

uint32_t *bench_guest_pixels(const struct bench_guest *guest, uint32_t resource_id)
{
	return (uint32_t *)(guest->memory + (resource_id - 1) * guest->picture_size);
}

/* As QEMU has it: sealed. */
static int make_memory(struct bench_guest *guest)
{
	size_t size = guest->picture_size * guest->num_pictures;
	const struct guest_region region = { .guest_addr = GUEST_ADDR, .size = size };
	int fd = memfd_create("vgfence-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret = 0;

	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)size) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		ret = -errno;
	} else {
		guest->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ret = guest->memory == MAP_FAILED ?
			-errno :
			guest_memory_create(&region, &fd, 1, NULL, &guest->table);
	}
	close(fd);
	return ret;
}

static int create_context(struct bench_guest *guest)
{
	const struct virtio_gpu_ctx_create request = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_CTX_CREATE),
		.hdr.ctx_id = htole32(CONTEXT),
		.context_init = htole32(CAPSET_DRM),
	};

	return call(guest, &request, sizeof(request));
}

static int create_picture(struct bench_guest *guest, uint32_t resource_id)
{
	uint32_t size = (uint32_t)guest->picture_size;
	const struct {
		struct virtio_gpu_resource_create_blob body;
		struct virtio_gpu_mem_entry entry;
	} create = {
		.body = {
			.hdr.type = htole32(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB),
			.resource_id = htole32(resource_id),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
			.blob_flags = htole32(VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE),
			.nr_entries = htole32(1),
			.size = htole64(size),
		},
		.entry = {
			.addr = htole64(GUEST_ADDR + (resource_id - 1) * guest->picture_size),
			.length = htole32(size),
		},
	};
	const struct virtio_gpu_ctx_resource attach = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE),
		.hdr.ctx_id = htole32(CONTEXT),
		.resource_id = htole32(resource_id),
	};
	int ret = call(guest, &create, sizeof(create));

	return ret < 0 ? ret : call(guest, &attach, sizeof(attach));
}

/* ---- Its life -------------------------------------------------------------------------------- */

int bench_guest_start(struct bench_guest *guest, const struct gpu_callbacks *callbacks,
	const struct gpu_options *options)
{
	size_t bytes = (size_t)guest->width * guest->height * 4;
	int ret;

	guest->picture_size = (bytes + PAGE - 1) / PAGE * PAGE;
	ret = make_memory(guest);
	if (ret == 0) {
		ret = gpu_create(callbacks, guest, options, renderer_soft_create, &guest->gpu);
	}
	if (ret < 0) {
		return ret;
	}
	gpu_set_features(guest->gpu, gpu_get_features(guest->gpu));
	gpu_set_memory(guest->gpu, guest->table);
	ret = create_context(guest);
	for (uint32_t id = 1; id <= guest->num_pictures && ret == 0; id++) {
		ret = create_picture(guest, id);
	}
	return ret;
}

void bench_guest_stop(struct bench_guest *guest)
{
	gpu_destroy(guest->gpu);
	guest_memory_unref(guest->table);
	if (guest->memory != NULL && guest->memory != MAP_FAILED) {
		munmap(guest->memory, guest->picture_size * guest->num_pictures);
	}
	memset(guest, 0, sizeof(*guest));
}

/* ---- Displays -------------------------------------------------------------------------------- */

void bench_guest_ignore_cursor(void *cookie, uint32_t scanout, const struct gpu_cursor *cursor)
{
	(void)cookie;
	(void)scanout;
	(void)cursor;
}

int bench_guest_read(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	struct bench_guest *guest = cookie;

	return gpu_read_scanout(guest->gpu, scanout, rect, pixels);
}

int bench_guest_get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	struct bench_guest *guest = cookie;

	return gpu_get_scanout_buffer(guest->gpu, scanout, out);
}

void bench_guest_release(void *cookie, uint64_t key)
{
	struct bench_guest *guest = cookie;

	gpu_tell_released(guest->gpu, key);
}

void bench_guest_shown(void *cookie, uint32_t scanout, uint64_t frame)
{
	struct bench_guest *guest = cookie;

	gpu_tell_shown(guest->gpu, scanout, frame);
}
