/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* A request from the guest's bytes to its completion. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "command_table.h"
#include "gpu_private.h"
#include "record.h"

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
	default:
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
}

void respond_to(struct pending_request *pending, const void *payload, size_t size)
{
	const struct gpu_request *from = &pending->request;
	const size_t at = sizeof(struct virtio_gpu_ctrl_hdr);

	pending->payload_size = (uint32_t)size;
	if (iov_has_room(from->writable, from->num_writable, at + size)) {
		iov_write(from->writable, from->num_writable, at, payload, size);
	}
}

void respond(struct request *request, const void *payload, size_t size)
{
	respond_to(request->pending, payload, size);
}

/* Whatever became of the request: a guest waits for ever for a fence that does not come back. */
static void write_header(const struct pending_request *pending)
{
	const struct guest_fence *fence = &pending->guest_fence;
	struct virtio_gpu_ctrl_hdr header = { .type = htole32(pending->type) };

	if (pending->fenced) {
		header.flags = htole32(VIRTIO_GPU_FLAG_FENCE |
			(fence->has_ring ? VIRTIO_GPU_FLAG_INFO_RING_IDX : 0));
		header.fence_id = htole64(fence->id);
		header.ctx_id = htole32(fence->ctx_id);
		header.ring_idx = fence->ring;
	}
	iov_write(pending->request.writable, pending->request.num_writable, 0, &header,
		sizeof(header));
}

/* Returns how many bytes the guest gets. */
static uint32_t write_response(struct pending_request *pending)
{
	const struct gpu_request *request = &pending->request;
	uint32_t size = (uint32_t)sizeof(struct virtio_gpu_ctrl_hdr);

	if (!pending->has_header) {
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

	if (!pending->has_header || is_error(pending->type)) {
		gpu->stats.errors++;
	}
	if (pending->seq != 0) {
		recorder_completion(gpu->recorder, &pending->request, pending->seq, written);
	}
	if (pending->fenced) {
		timelines_answered(&gpu->timelines, pending->timeline, pending->accepted_ns,
			is_error(pending->type));
	}
	flushes_continue(gpu, pending);
	pending_release(&gpu->pending, pending);
	gpu->callbacks.complete(
		gpu->cookie, pending->request.queue, pending->request.token, written);
}

static bool is_done(const struct pending_request *pending)
{
	return !pending->handling && !pending->awaits_fence && !pending->awaits_renderer &&
		pending->awaits_drawing == NULL && pending->awaited == NULL && !pending->goes_on &&
		pending->awaits_shown == 0 && pending->pin == NULL && !pending->awaits_display &&
		pending->awaits_hostmem == NULL;
}

/*
 * A guest takes the response with a fence for the end of all before it on its timeline. So that one
 * stays behind them, whatever they wait for, and takes along what waited for it alone.
 */
void complete_if_done(struct pending_request *pending)
{
	while (pending != NULL && is_done(pending) && pending_is_next(pending)) {
		struct pending_request *after = pending_after(pending);

		complete(pending);
		pending = after;
	}
}

/* ---- Work of the renderer ------------------------------------------------------------------- */

void renderer_begin(struct request *request)
{
	request->pending->type = RESPONSE_LATER;
	request->pending->awaits_renderer = true;
}

void signal_own_fence(struct pending_request *pending, int status)
{
	struct renderer *renderer = pending->gpu->renderer;

	if (pending->signals_fence && pending->awaits_fence) {
		vgf_fence_signal(renderer->ops->get_device(renderer), &pending->fence,
			status < 0 ? status : 0);
	}
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
	if (pending->pin == NULL) { /* otherwise a display has to release it first */
		signal_own_fence(pending, status);
		complete_if_done(pending);
	}
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

void fence_retired(void *cookie, const struct vgf_retired *retired)
{
	int status = retired->status;
	struct gpu *gpu = cookie;
	struct pending_request *pending = pending_find_fence(
		&gpu->pending, retired->fence.fence_id);

	if (pending == NULL) {
		return; /* of a guest that has reset the device */
	}
	pending_remove_fence(&gpu->pending, pending);
	if (status < 0 && !is_error(pending->type)) {
		pending->type = response_of_error(status);
	}
	/* Those signal their fences themselves, so this one was cancelled. */
	release_give_up(pending);
	flush_give_up(pending);
	monitors_drop(gpu, pending);
	hostmem_drop(gpu, pending);
	flushes_come_forward(gpu, pending);
	complete_if_done(pending);
}

/*
 * Makes the fence of a request, if it has a context for it; with an error, so that work which waits
 * for it runs. Otherwise nothing but the response is behind the others of the timeline.
 */
static void settle_fence(struct gpu *gpu, const struct request *request, uint32_t type)
{
	struct pending_request *pending = request->pending;
	struct renderer *renderer = gpu->renderer;
	int ret;

	pending_add_fence(&gpu->pending, pending);
	/* What waits for this fence waits for what is held back, not only for its context. */
	pending->signals_fence = pending->signals_fence || pending->awaits_renderer;
	if (is_error(type)) {
		ret = vgf_fence_refuse(renderer->ops->get_device(renderer), &pending->fence,
			request->fence_flags, NULL, -EINVAL);
	} else if (pending->signals_fence) {
		ret = vgf_fence_create_take(renderer->ops->get_device(renderer), &pending->fence,
			request->fence_flags, NULL, VGF_FENCE_BY_CALL);
	} else {
		ret = renderer->ops->create_fence(renderer, &pending->fence, request->fence_flags);
	}
	if (ret < 0) {
		pending_remove_fence(&gpu->pending, pending);
	}
	if (ret < 0 && ret != -ENOENT && !is_error(type)) {
		pending->type = response_of_error(ret);
	}
}

/* ---- Requests ------------------------------------------------------------------------------- */

/* Returns whether the header is good. A fence is known even if it is not. */
static bool decode_header(struct gpu *gpu, struct request *request)
{
	struct virtio_gpu_ctrl_hdr *header = &request->header;
	struct pending_request *pending = request->pending;
	bool has_ring;

	header->type = le32toh(header->type);
	header->flags = le32toh(header->flags);
	header->fence_id = le64toh(header->fence_id);
	header->ctx_id = le32toh(header->ctx_id);
	has_ring = header->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX;
	pending->fence.ctx_id = header->ctx_id;
	pending->fence.ring = has_ring ? header->ring_idx : VGF_RING_GLOBAL;
	if (header->flags & VIRTIO_GPU_FLAG_FENCE) {
		pending->guest_fence = (struct guest_fence){
			.id = header->fence_id,
			.ctx_id = header->ctx_id,
			.has_ring = has_ring,
			.ring = has_ring ? header->ring_idx : 0,
		};
		pending_line_up(&gpu->pending, pending);
		pending->timeline = timelines_accept(&gpu->timelines,
			pending_timeline_key(&pending->guest_fence), header->ctx_id,
			pending->fence.ring, &pending->accepted_ns);
		request->fence_flags = VGF_FENCED;
	}
	/* As vgf_submit_3d_decode: without the feature it means nothing. */
	if (gpu->fence_passing && (header->flags & VIRTIO_GPU_FLAG_FENCE_SHAREABLE)) {
		request->fence_flags |= VGF_SHAREABLE;
		pending->shareable = true;
	}
	return !has_ring || header->ring_idx < VGF_MAX_RINGS;
}

/* Whatever the answer is, a guest uses the memory and the ID anew. And none of them takes long. */
static bool gives_back(uint32_t type)
{
	return type == VIRTIO_GPU_CMD_RESOURCE_UNREF || type == VIRTIO_GPU_CMD_CTX_DESTROY ||
		type == VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING ||
		type == VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB ||
		type == VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE;
}

static bool is_too_late(const struct gpu *gpu, uint32_t type)
{
	return gpu->refuse_ns != 0 && now_ns() >= gpu->refuse_ns && !gives_back(type);
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
	if (is_too_late(gpu, command->type)) {
		log_guest(gpu, "%s is refused: the queue stops, and what came before took too long",
			command->name);
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
	return command->run(gpu, request);
}

/* Whether something of it is still to be drawn. */
static bool may_draw(const struct request *request)
{
	const struct pending_request *pending = request->pending;

	return request->header.type == VIRTIO_GPU_CMD_SUBMIT_3D ?
		pending->awaits_fence :
		pending->draws_to != 0 && pending->awaits_renderer;
}

/* Whether nothing is shown or given back when it is done: nothing of the renderer's is called. */
static bool only_completes(uint32_t type)
{
	return type == VIRTIO_GPU_CMD_SUBMIT_3D || type == VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D ||
		type == VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D ||
		type == VIRTIO_GPU_CMD_RESOURCE_CREATE_3D;
}

static void handle(struct gpu *gpu, struct request *request)
{
	struct pending_request *pending = request->pending;
	uint32_t type = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;

	pending->has_header = true;
	if (!decode_header(gpu, request)) {
		request->fence_settled = true;
	} else if (request->bytes == NULL) {
		type = VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	} else {
		type = run_command(gpu, request);
	}
	if (!is_error(pending->type)) { /* The fence may have retired meanwhile, with an error. */
		pending->type = type;
	}
	if (pending->fenced && !request->fence_settled) {
		settle_fence(gpu, request, type);
	}
	if (pending->fenced) {
		pending_saw_id(&gpu->pending, pending->guest_fence.id);
	}
	if (may_draw(request)) {
		flushes_await(gpu, pending);
	}
	if (only_completes(request->header.type)) {
		pending_only_completes(&gpu->pending, pending);
	}
}

/* Returns whether there is a whole header in what was copied; size: or an error. */
static bool read_header(
	struct request *request, const struct request_buffer *buffer, ptrdiff_t size)
{
	if (size < (ptrdiff_t)sizeof(request->header)) {
		return false;
	}
	request->bytes = buffer->bytes;
	request->size = (size_t)size;
	request->body = (struct reader){ request->bytes, request->size };
	return reader_read(&request->body, &request->header, sizeof(request->header));
}

static void begin(struct gpu *gpu, struct pending_request *pending)
{
	gpu->stats.requests[pending->request.queue]++;
	pending->gpu = gpu;
	pending->handling = true;
}

static void record_and_handle(struct gpu *gpu, struct request *request)
{
	struct pending_request *pending = request->pending;

	if (gpu->recorder != NULL) {
		pending->seq = recorder_request(
			gpu->recorder, pending->request.queue, request->bytes, request->size);
	}
	handle(gpu, request);
}

/* There is no memory for its copy. Its header needs none, and says which fence has to come back. */
static void refuse(struct gpu *gpu, struct request *request)
{
	const struct gpu_request *from = &request->pending->request;
	const size_t size = sizeof(request->header);

	log_error(gpu, "no memory for a request");
	if (iov_has_room(from->readable, from->num_readable, size)) {
		iov_read(from->readable, from->num_readable, 0, &request->header, size);
		handle(gpu, request);
	}
}

static void end(struct pending_request *pending)
{
	pending->handling = false;
	complete_if_done(pending);
}

void gpu_handle(struct gpu *gpu, const struct gpu_request *request)
{
	struct request handled = { .pending = pending_take(&gpu->pending, request) };
	ptrdiff_t size;

	if (handled.pending == NULL) {
		log_error(gpu, "a request with a token that is out of range, or in use");
		return;
	}
	begin(gpu, handled.pending);
	size = request_copy(&gpu->buffer, request->readable, request->num_readable);
	if (read_header(&handled, &gpu->buffer, size)) {
		record_and_handle(gpu, &handled);
	} else if (size >= 0) {
		log_guest(gpu, "a request without a whole header");
	} else {
		refuse(gpu, &handled);
	}
	end(handled.pending);
	shown_settle(gpu);
}

bool gpu_uses_display(const struct gpu *gpu)
{
	return gpu->num_callbacks > 0 || gpu->num_reads > 0;
}

/* With a fence it would have to come back behind others of its timeline. */
static bool may_run_aside(struct gpu *gpu, const struct request *request, enum gpu_queue queue)
{
	const struct command *command = command_find(le32toh(request->header.type), queue);

	return command != NULL && command->may_run_aside != NULL &&
		(le32toh(request->header.flags) & VIRTIO_GPU_FLAG_FENCE) == 0 &&
		command->may_run_aside(gpu, request);
}

/* More than the longest request that can be handled aside, UPDATE_CURSOR. */
#define ASIDE_MAX_SIZE 256

/* What is looked at is copied before, so it does not change any more. */
bool gpu_handle_aside(struct gpu *gpu, const struct gpu_request *request)
{
	struct request handled = { 0 };
	ptrdiff_t size;

	if (gpu->is_draining ||
		iov_has_room(request->readable, request->num_readable, ASIDE_MAX_SIZE)) {
		return false;
	}
	size = request_copy(&gpu->aside_buffer, request->readable, request->num_readable);
	if (!read_header(&handled, &gpu->aside_buffer, size) ||
		!may_run_aside(gpu, &handled, request->queue)) {
		return false;
	}
	handled.pending = pending_take(&gpu->pending, request);
	if (handled.pending == NULL) {
		return false;
	}
	begin(gpu, handled.pending);
	record_and_handle(gpu, &handled);
	end(handled.pending);
	return true;
}

struct resource *find_resource(struct gpu *gpu, uint32_t id)
{
	struct resource *resource = resource_find(&gpu->resources, id);

	return resource != NULL && !resource->leaving ? resource : NULL;
}
