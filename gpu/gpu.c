/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command_table.h"
#include "gpu_private.h"
#include "guest_memory.h"
#include "record.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))

/* ---- Responses ------------------------------------------------------------------------------ */

static bool is_error(uint32_t type)
{
	return type >= VIRTIO_GPU_RESP_ERR_UNSPEC;
}

uint32_t response_of_error(int error)
{
	switch (error) {
	case -ENOMEM:
	case -ENOSPC:
	case -EMFILE:
	case -ENFILE:
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	case -EINVAL:
	case -EBADMSG:
	case -E2BIG:
	case -ENOENT:
	case -EPERM:
	case -ENOTUNIQ:
	case -EFAULT:
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	return VIRTIO_GPU_RESP_ERR_UNSPEC;
}

void respond(struct request *request, const void *payload, size_t size)
{
	struct pending_request *pending = request->pending;
	const struct gpu_request *from = &pending->request;
	const size_t at = sizeof(struct virtio_gpu_ctrl_hdr);

	pending->payload_size = (uint32_t)size;
	pending->overrun = !iov_has_room(from->writable, from->num_writable, at + size);
	if (!pending->overrun) {
		iov_write(from->writable, from->num_writable, at, payload, size);
	}
}

/* Without the fence flag there is nothing to say but the type. */
static void write_header(const struct pending_request *pending)
{
	struct virtio_gpu_ctrl_hdr header = { .type = htole32(pending->type) };

	if (pending->fenced) {
		header.flags = VIRTIO_GPU_FLAG_FENCE;
		header.fence_id = htole64(pending->fence.fence_id);
		header.ctx_id = htole32(pending->fence.ctx_id);
		if (pending->fence.ring != VGF_RING_GLOBAL) {
			header.flags |= VIRTIO_GPU_FLAG_INFO_RING_IDX;
			header.ring_idx = (uint8_t)pending->fence.ring;
		}
		header.flags = htole32(header.flags);
	}
	iov_write(pending->request.writable, pending->request.num_writable, 0, &header,
		sizeof(header));
}

/* Returns how many bytes the guest gets. */
static uint32_t write_response(struct pending_request *pending)
{
	const struct gpu_request *request = &pending->request;
	uint32_t size = (uint32_t)sizeof(struct virtio_gpu_ctrl_hdr);

	if (!pending->has_header || pending->overrun) {
		return 0;
	}
	/* An error after the payload was written: without it. */
	if (!is_error(pending->type)) {
		size += pending->payload_size;
	}
	if (!iov_has_room(request->writable, request->num_writable, size)) {
		return 0;
	}
	write_header(pending);
	return size;
}

static void complete(struct pending_request *pending)
{
	struct gpu *gpu = pending->gpu;
	uint32_t written = write_response(pending);

	if (!pending->has_header || pending->overrun || is_error(pending->type)) {
		gpu->stats.errors++;
	}
	if (pending->seq != 0) {
		recorder_completion(gpu->recorder, &pending->request, pending->seq, written);
	}
	pending_release(&gpu->pending, pending);
	gpu->completed = true;
	gpu->callbacks.complete(
		gpu->cookie, pending->request.queue, pending->request.token, written);
}

static void complete_if_done(struct pending_request *pending)
{
	if (!pending->handling && !pending->awaits_fence && !pending->awaits_renderer) {
		complete(pending);
	}
}

static void end_batch(struct gpu *gpu)
{
	if (gpu->completed) {
		gpu->completed = false;
		gpu->callbacks.complete_end(gpu->cookie);
	}
}

/* ---- Work of the renderer ------------------------------------------------------------------- */

void renderer_begin(struct request *request)
{
	request->pending->type = RESPONSE_LATER;
	request->pending->awaits_renderer = true;
}

void request_done(void *arg, int status)
{
	struct pending_request *pending = arg;
	struct gpu *gpu = pending->gpu;

	pending->awaits_renderer = false;
	backing_destroy(pending->backing, &gpu->resources.num_iov);
	pending->backing = NULL;
	if (pending->resource != NULL) {
		resource_destroy(&gpu->resources, pending->resource);
		pending->resource = NULL;
	}
	if (pending->type == RESPONSE_LATER) {
		pending->type = status < 0 ? response_of_error(status) : VIRTIO_GPU_RESP_OK_NODATA;
	}
	complete_if_done(pending);
}

uint32_t renderer_end(struct request *request, int ret)
{
	struct pending_request *pending = request->pending;

	if (ret < 0) {
		pending->awaits_renderer = false;
		return response_of_error(ret);
	}
	return pending->type;
}

/* ---- Fences --------------------------------------------------------------------------------- */

static void retire(void *cookie, const struct vgf_fence_name *fence, int status)
{
	struct gpu *gpu = cookie;
	struct pending_request *pending = pending_find_fence(&gpu->pending, fence);

	if (pending == NULL) {
		return; /* of a guest that has reset the device */
	}
	pending_remove_fence(pending);
	if (status < 0 && !is_error(pending->type)) {
		pending->type = response_of_error(status);
	}
	complete_if_done(pending);
}

static void log_renderer(void *cookie, enum vgf_log_level level, const char *message)
{
	struct gpu *gpu = cookie;

	if (gpu->callbacks.log != NULL) {
		gpu->callbacks.log(gpu->cookie, level, message);
	}
}

/*
 * The response of a fenced request goes back when its fence retires, so that the guest does not take
 * it for the end of earlier ones; errors too. Where the fence has no place on its timeline, the
 * answer is an error without the fence flag.
 */
static void settle_fence(struct gpu *gpu, const struct request *request, uint32_t type)
{
	struct pending_request *pending = request->pending;
	struct renderer *renderer = gpu->renderer;
	int ret;

	pending_add_fence(&gpu->pending, pending);
	if (is_error(type)) {
		ret = vgf_fence_refuse(renderer->ops->get_device(renderer), &pending->fence,
			request->fence_flags, -EINVAL);
	} else {
		ret = renderer->ops->create_fence(renderer, &pending->fence, request->fence_flags);
	}
	if (ret < 0) {
		pending_remove_fence(pending);
		pending->fenced = false;
		if (!is_error(type)) {
			pending->type = response_of_error(ret);
		}
	}
}

/* ---- Requests ------------------------------------------------------------------------------- */

/* Fills in what the fence needs. Returns whether the header is good. */
static bool decode_header(struct request *request)
{
	struct virtio_gpu_ctrl_hdr *header = &request->header;
	struct pending_request *pending = request->pending;
	bool has_ring;

	header->type = le32toh(header->type);
	header->flags = le32toh(header->flags);
	header->fence_id = le64toh(header->fence_id);
	header->ctx_id = le32toh(header->ctx_id);
	has_ring = header->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX;
	if (has_ring && header->ring_idx >= VGF_MAX_RINGS) {
		return false;
	}
	pending->fenced = header->flags & VIRTIO_GPU_FLAG_FENCE;
	request->fence_flags = pending->fenced ? VGF_FENCED : 0;
	pending->fence = (struct vgf_fence_name){
		.fence_id = header->fence_id,
		.ctx_id = header->ctx_id,
		.ring = has_ring ? header->ring_idx : VGF_RING_GLOBAL,
	};
	return true;
}

static uint32_t run_command(struct gpu *gpu, struct request *request)
{
	const struct command *command = command_find(
		request->header.type, request->pending->request.queue);

	if (command == NULL) {
		log_guest(gpu, "an unknown command, 0x%04x", request->header.type);
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
	if (command->features & ~gpu->features) {
		log_guest(gpu, "%s without its feature", command->name);
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
	return command->run(gpu, request);
}

static void handle(struct gpu *gpu, struct request *request)
{
	struct pending_request *pending = request->pending;
	uint32_t type = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;

	pending->has_header = true;
	if (decode_header(request)) {
		type = run_command(gpu, request);
	}
	pending->type = type;
	if (pending->fenced && !request->fence_settled) {
		settle_fence(gpu, request, type);
	}
}

void gpu_handle(struct gpu *gpu, const struct gpu_request *from)
{
	struct request request = { .pending = pending_take(&gpu->pending, from) };
	struct pending_request *pending = request.pending;
	ptrdiff_t size;

	if (pending == NULL) {
		log_error(gpu, "a request with a token that is out of range, or in use");
		return;
	}
	gpu->stats.requests[from->queue]++;
	pending->gpu = gpu;
	pending->handling = true;
	size = request_copy(&gpu->buffer, from->readable, from->num_readable);
	if (size >= (ptrdiff_t)sizeof(request.header)) {
		request.bytes = gpu->buffer.bytes;
		request.size = (size_t)size;
		request.body = (struct reader){ request.bytes, request.size };
		reader_read(&request.body, &request.header, sizeof(request.header));
		if (gpu->recorder != NULL) {
			pending->seq = recorder_request(
				gpu->recorder, from->queue, request.bytes, request.size);
		}
		handle(gpu, &request);
	} else {
		log_guest(gpu, "a request without a whole header");
	}
	pending->handling = false;
	complete_if_done(pending);
}

/* ---- Loop ----------------------------------------------------------------------------------- */

int gpu_get_fd(struct gpu *gpu)
{
	return gpu->renderer->ops->get_fd(gpu->renderer);
}

void gpu_dispatch(struct gpu *gpu)
{
	gpu->renderer->ops->dispatch(gpu->renderer);
	end_batch(gpu);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void dispatch_until_idle(struct gpu *gpu, int timeout_ms)
{
	int64_t end_ms = now_ms() + timeout_ms;

	while (gpu->pending.count > 0) {
		struct pollfd poll_fd = { .fd = gpu_get_fd(gpu), .events = POLLIN };
		int64_t left_ms = end_ms - now_ms();

		poll(&poll_fd, 1, left_ms > 0 ? (int)left_ms : 0);
		gpu->renderer->ops->dispatch(gpu->renderer);
		if (left_ms <= 0) {
			return;
		}
	}
}

/* Gives up on what is left; it retires with an error. */
static void cancel_pending(struct gpu *gpu)
{
	struct vgf_device *device = gpu->renderer->ops->get_device(gpu->renderer);

	for (size_t queue = 0; queue < GPU_NUM_QUEUES; queue++) {
		for (size_t token = 0; token < GPU_MAX_REQUESTS; token++) {
			struct pending_request *pending = &gpu->pending.requests[queue][token];

			if (pending->used && pending->awaits_renderer) {
				vgf_context_cancel(device, pending->fence.ctx_id);
			}
			if (pending->used && pending->awaits_fence) {
				vgf_fence_cancel(device, &pending->fence, -ECANCELED);
			}
		}
	}
}

/* Far more than cancelled work takes to retire. */
#define CANCEL_MS 1000

void gpu_drain(struct gpu *gpu, int timeout_ms)
{
	dispatch_until_idle(gpu, timeout_ms);
	if (gpu->pending.count > 0) {
		log_error(gpu, "requests that are not done in time are cancelled");
		cancel_pending(gpu);
		dispatch_until_idle(gpu, CANCEL_MS);
	}
	if (gpu->pending.count > 0) {
		log_error(gpu, "requests that do not end: the device is reset");
		gpu_reset(gpu);
	}
	end_batch(gpu);
}

/* All have been completed by the renderer's reset, if it keeps its word. */
static void complete_rest(struct gpu *gpu)
{
	for (size_t queue = 0; queue < GPU_NUM_QUEUES && gpu->pending.count > 0; queue++) {
		for (size_t token = 0; token < GPU_MAX_REQUESTS; token++) {
			struct pending_request *pending = &gpu->pending.requests[queue][token];

			if (pending->used && pending->awaits_fence) {
				pending_remove_fence(pending);
			}
			if (pending->used) {
				pending->type = VIRTIO_GPU_RESP_ERR_UNSPEC;
				request_done(pending, -ECANCELED);
			}
		}
	}
}

void gpu_reset(struct gpu *gpu)
{
	int ret = gpu->renderer->ops->reset(gpu->renderer);

	if (ret < 0) {
		log_error(gpu, "resetting the renderer failed: %s", strerror(-ret));
	}
	complete_rest(gpu);
	resource_destroy_all(&gpu->resources);
	context_remove_all(&gpu->contexts);
	scanouts_reset(gpu);
	gpu->events_read = 0;
	gpu->stats.resets++;
	end_batch(gpu);
}

/* ---- Features, configuration, memory -------------------------------------------------------- */

static uint64_t fence_passing_feature(const struct gpu *gpu)
{
	return gpu->options.fence_passing_bit >= 0 ? FEATURE(gpu->options.fence_passing_bit) : 0;
}

uint64_t gpu_get_features(const struct gpu *gpu)
{
	return FEATURE(VIRTIO_GPU_F_VIRGL) | FEATURE(VIRTIO_GPU_F_EDID) |
		FEATURE(VIRTIO_GPU_F_RESOURCE_UUID) | FEATURE(VIRTIO_GPU_F_RESOURCE_BLOB) |
		FEATURE(VIRTIO_GPU_F_CONTEXT_INIT) | fence_passing_feature(gpu);
}

void gpu_set_features(struct gpu *gpu, uint64_t features)
{
	gpu->features = features & gpu_get_features(gpu);
	gpu->fence_passing = gpu->features & fence_passing_feature(gpu);
}

int gpu_read_config(struct gpu *gpu, uint32_t offset, void *data, uint32_t size)
{
	const struct virtio_gpu_config config = {
		.events_read = htole32(gpu->events_read),
		.num_scanouts = htole32(gpu->options.num_scanouts),
		.num_capsets = htole32(gpu->num_capsets),
	};

	if (offset > sizeof(config) || size > sizeof(config) - offset) {
		return -EINVAL;
	}
	memcpy(data, (const char *)&config + offset, size);
	return 0;
}

int gpu_write_config(struct gpu *gpu, uint32_t offset, const void *data, uint32_t size)
{
	uint32_t events_clear;

	if (offset != offsetof(struct virtio_gpu_config, events_clear) ||
		size != sizeof(events_clear)) {
		return -EINVAL;
	}
	memcpy(&events_clear, data, sizeof(events_clear));
	gpu->events_read &= ~le32toh(events_clear);
	return 0;
}

void gpu_set_memory(struct gpu *gpu, struct guest_memory *memory)
{
	struct guest_memory *before = gpu->memory;

	gpu->memory = memory != NULL ? guest_memory_ref(memory) : NULL;
	guest_memory_unref(before);
}

/* ---- The device ----------------------------------------------------------------------------- */

static bool options_ok(const struct gpu_options *options)
{
	int bit = options->fence_passing_bit;

	if (options->num_scanouts > VIRTIO_GPU_MAX_SCANOUTS) {
		return false;
	}
	if (options->num_scanouts > 0 &&
		(options->width < GPU_MIN_WIDTH || options->width > GPU_MAX_SIZE ||
			options->height < GPU_MIN_HEIGHT || options->height > GPU_MAX_SIZE)) {
		return false;
	}
	return bit < 0 || (bit > VIRTIO_GPU_F_CONTEXT_INIT && bit < 24) || (bit >= 50 && bit < 64);
}

static void count_capsets(struct gpu *gpu)
{
	struct virtio_gpu_resp_capset_info info;

	while (gpu->renderer->ops->capset_info(gpu->renderer, gpu->num_capsets, &info) == 0) {
		gpu->num_capsets++;
	}
}

int gpu_create(const struct gpu_callbacks *callbacks, void *cookie,
	const struct gpu_options *options, renderer_create_fn create_renderer, struct gpu **out)
{
	const struct vgf_callbacks renderer_callbacks = {
		.retire = retire,
		.log = log_renderer,
	};
	struct gpu *gpu;
	int ret;

	if (!options_ok(options)) {
		return -EINVAL;
	}
	gpu = calloc(1, sizeof(*gpu));
	if (gpu == NULL) {
		return -ENOMEM;
	}
	gpu->callbacks = *callbacks;
	gpu->cookie = cookie;
	gpu->options = *options;
	gpu->options.record = NULL; /* the caller's string */
	ret = options->record != NULL ? recorder_create(gpu, options->record, &gpu->recorder) : 0;
	if (ret == 0) {
		ret = create_renderer(&renderer_callbacks, gpu, &gpu->renderer);
	}
	if (ret < 0) {
		recorder_destroy(gpu->recorder);
		free(gpu);
		return ret;
	}
	count_capsets(gpu);
	*out = gpu;
	return 0;
}

static void complete_nothing(void *cookie, enum gpu_queue queue, uint32_t token, uint32_t written)
{
	(void)cookie;
	(void)queue;
	(void)token;
	(void)written;
}

static void end_nothing(void *cookie)
{
	(void)cookie;
}

void gpu_destroy(struct gpu *gpu)
{
	if (gpu == NULL) {
		return;
	}
	gpu->callbacks.complete = complete_nothing;
	gpu->callbacks.complete_end = end_nothing;
	gpu_reset(gpu);
	gpu->renderer->ops->destroy(gpu->renderer);
	recorder_destroy(gpu->recorder);
	guest_memory_unref(gpu->memory);
	request_buffer_finish(&gpu->buffer);
	free(gpu);
}

struct resource *find_resource(struct gpu *gpu, uint32_t id)
{
	struct resource *resource = resource_find(&gpu->resources, id);

	return resource != NULL && !resource->leaving ? resource : NULL;
}

void gpu_get_stats(const struct gpu *gpu, struct gpu_stats *stats)
{
	*stats = gpu->stats;
	vgf_device_get_stats(gpu->renderer->ops->get_device(gpu->renderer), &stats->fences);
}
