/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Commands of contexts: capability sets, contexts and what they have, submissions. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vgfence/submit_3d.h>

#include "gpu_private.h"
#include "guest_limits.h"

/* ---- Capability sets ------------------------------------------------------------------------ */

/* The renderer has read them when it started. */
bool capsets_are_free(struct gpu *gpu, const struct request *request)
{
	(void)gpu;
	(void)request;
	return true;
}

uint32_t get_capset_info(struct gpu *gpu, struct request *request)
{
	const size_t header_size = sizeof(struct virtio_gpu_ctrl_hdr);
	struct virtio_gpu_resp_capset_info info = { 0 }, response = { 0 };
	struct {
		uint32_t capset_index, padding;
	} body;
	int ret;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	ret = gpu->renderer->ops->capset_info(gpu->renderer, le32toh(body.capset_index), &info);
	if (ret < 0) {
		return response_of_error(ret);
	}
	response.capset_id = htole32(info.capset_id);
	response.capset_max_version = htole32(info.capset_max_version);
	response.capset_max_size = htole32(info.capset_max_size);
	respond(request, (const char *)&response + header_size, sizeof(response) - header_size);
	return VIRTIO_GPU_RESP_OK_CAPSET_INFO;
}

/* The size of a capability set, or -EINVAL. */
static int64_t capset_size(struct gpu *gpu, uint32_t id, uint32_t version)
{
	struct virtio_gpu_resp_capset_info info;

	for (uint32_t i = 0; i < gpu->num_capsets; i++) {
		if (gpu->renderer->ops->capset_info(gpu->renderer, i, &info) == 0 &&
			info.capset_id == id && version <= info.capset_max_version) {
			return info.capset_max_size;
		}
	}
	return -EINVAL;
}

uint32_t get_capset(struct gpu *gpu, struct request *request)
{
	struct {
		uint32_t capset_id, capset_version;
	} body;
	int64_t size;
	void *data;
	int ret = -ENOMEM;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	body.capset_id = le32toh(body.capset_id);
	body.capset_version = le32toh(body.capset_version);
	size = capset_size(gpu, body.capset_id, body.capset_version);
	if (size < 0) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	data = calloc(1, (size_t)size + 1);
	if (data != NULL) {
		ret = gpu->renderer->ops->capset(
			gpu->renderer, body.capset_id, body.capset_version, data, (uint32_t)size);
	}
	if (ret == 0) {
		respond(request, data, (size_t)size);
	}
	free(data);
	return ret < 0 ? response_of_error(ret) : VIRTIO_GPU_RESP_OK_CAPSET;
}

/* ---- Contexts ------------------------------------------------------------------------------- */

static bool has_context(struct gpu *gpu, const struct request *request)
{
	return context_exists(&gpu->contexts, request->header.ctx_id);
}

/* It ends up in messages, so a guest must not make lines of its own there, nor move a cursor. */
static void copy_name(char *name, const char *debug_name, size_t size)
{
	for (size_t i = 0; i < size && debug_name[i] != '\0'; i++) {
		name[i] = debug_name[i];
		if (name[i] < ' ' || name[i] > '~') {
			name[i] = '?';
		}
	}
}

/* Of another context, which had this ID before. */
static void forget_timelines(struct gpu *gpu, uint32_t ctx_id)
{
	struct guest_fence fence = { .ctx_id = ctx_id, .has_ring = true };

	for (fence.ring = 0; fence.ring < VGF_MAX_RINGS; fence.ring++) {
		timelines_forget(&gpu->timelines, pending_timeline_key(&fence));
	}
}

uint32_t context_create(struct gpu *gpu, struct request *request)
{
	uint32_t ctx_id = request->header.ctx_id, context_init = 0;
	struct {
		uint32_t nlen, context_init;
		char debug_name[64];
	} body;
	char name[CONTEXT_NAME_SIZE] = { 0 };
	int ret;

	if (!reader_read(&request->body, &body, sizeof(body)) ||
		le32toh(body.nlen) > sizeof(body.debug_name)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	if (ctx_id == 0 || has_context(gpu, request)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	}
	copy_name(name, body.debug_name, le32toh(body.nlen));
	/* Without the feature it is padding. */
	if (gpu->features & (UINT64_C(1) << VIRTIO_GPU_F_CONTEXT_INIT)) {
		context_init = le32toh(body.context_init);
	}
	ret = context_add(&gpu->contexts, ctx_id, name);
	if (ret < 0) {
		return response_of_error(ret);
	}
	ret = gpu->renderer->ops->context_create(
		gpu->renderer, ctx_id, gpu->contexts.last_serial, context_init, name);
	if (ret < 0) {
		context_remove(&gpu->contexts, ctx_id);
		return response_of_error(ret);
	}
	forget_timelines(gpu, ctx_id);
	return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t context_destroy(struct gpu *gpu, struct request *request)
{
	uint32_t ctx_id = request->header.ctx_id;
	int ret;

	if (!has_context(gpu, request)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	}
	ret = gpu->renderer->ops->context_destroy(gpu->renderer, ctx_id);
	if (ret < 0) {
		return response_of_error(ret);
	}
	context_remove(&gpu->contexts, ctx_id);
	return VIRTIO_GPU_RESP_OK_NODATA;
}

/* Finds both that a command is about. Returns an error for the guest, or 0. */
static uint32_t read_context_resource(struct gpu *gpu, struct request *request, uint32_t *id)
{
	struct {
		uint32_t resource_id, padding;
	} body;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	if (!has_context(gpu, request)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	}
	*id = le32toh(body.resource_id);
	return find_resource(gpu, *id) != NULL ? 0 : VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
}

uint32_t context_attach_resource(struct gpu *gpu, struct request *request)
{
	uint32_t id, error = read_context_resource(gpu, request, &id);
	int ret;

	if (error != 0) {
		return error;
	}
	ret = gpu->renderer->ops->context_attach(gpu->renderer, request->header.ctx_id, id);
	return ret < 0 ? response_of_error(ret) : VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t context_detach_resource(struct gpu *gpu, struct request *request)
{
	uint32_t id, error = read_context_resource(gpu, request, &id);
	int ret;

	if (error != 0) {
		return error;
	}
	ret = gpu->renderer->ops->context_detach(gpu->renderer, request->header.ctx_id, id);
	return ret < 0 ? response_of_error(ret) : VIRTIO_GPU_RESP_OK_NODATA;
}

/* ---- Submissions ---------------------------------------------------------------------------- */

/*
 * From the guest's IDs to the device's numbers. Those that have retired are left out. Returns 0, or
 * an error if an ID says nothing.
 */
static int number_in_fences(struct gpu *gpu, const struct vgf_submission *submission,
	uint64_t *numbers, uint32_t *count)
{
	*count = 0;
	for (uint32_t i = 0; i < submission->num_in_fences; i++) {
		uint64_t id = submission->in_fences[i];
		int ret = pending_find_id(&gpu->pending, id, &numbers[*count]);

		if (ret < 0) {
			log_guest(gpu, "context %u: in-fence %" PRIu64 ": %s",
				submission->fence.ctx_id, id, strerror(-ret));
			return ret;
		}
		*count += (uint32_t)ret;
	}
	return 0;
}

static uint32_t submit_numbered(
	struct gpu *gpu, struct request *request, const struct vgf_submission *submission)
{
	struct pending_request *pending = request->pending;
	bool will_retire = false;
	int ret;

	request->fence_settled = true;
	if (pending->fenced) {
		pending_add_fence(&gpu->pending, pending);
	}
	ret = gpu->renderer->ops->submit(gpu->renderer, submission, &will_retire);
	if (pending->fenced && !will_retire) {
		pending_remove_fence(&gpu->pending, pending);
	}
	if (ret < 0) {
		log_guest(gpu, "context %u: a submission was refused: %s", submission->fence.ctx_id,
			strerror(-ret));
		return response_of_error(ret);
	}
	if (will_retire) {
		exported_put_fence(gpu, pending);
	}
	return VIRTIO_GPU_RESP_OK_NODATA;
}

/* Behind the fences on the dma-bufs of what the context has. */
static uint32_t submit_behind_buffers(
	struct gpu *gpu, struct request *request, struct vgf_submission *submission)
{
	int fd = exported_get_fence(gpu, request->pending->context_serial);
	uint32_t type;

	if (fd < 0 && fd != -ENOENT) {
		return response_of_error(fd);
	}
	submission->in_fence_fds = &fd;
	submission->num_in_fence_fds = fd >= 0;
	type = submit_numbered(gpu, request, submission);
	if (fd >= 0) {
		close(fd);
	}
	return type;
}

static uint32_t submit_decoded(
	struct gpu *gpu, struct request *request, const struct vgf_submission *decoded)
{
	struct vgf_submission submission = *decoded;
	uint64_t numbers[MAX_IN_FENCES];
	int ret = number_in_fences(gpu, decoded, numbers, &submission.num_in_fences);

	if (ret < 0) {
		return response_of_error(ret);
	}
	submission.fence = request->pending->fence;
	submission.in_fences = numbers;
	gpu->num_retired_in_fences += decoded->num_in_fences - submission.num_in_fences;
	return submit_behind_buffers(gpu, request, &submission);
}

/* Bytes in place of words are made words of, by zeros behind them. */
static int decode_bytes(struct gpu *gpu, const struct request *request,
	struct vgf_submit_3d *decoded, const char **reason)
{
	struct virtio_gpu_cmd_submit submit = { 0 };
	uint8_t zeros[sizeof(uint32_t)] = { 0 };
	size_t size = request->size < sizeof(submit) ? request->size : sizeof(submit);
	const struct iovec iov[] = { { &submit, size },
		{ (void *)(request->bytes + size), request->size - size },
		{ zeros, sizeof(zeros) - 1 } };
	uint32_t words;

	memcpy(&submit, request->bytes, size);
	words = (le32toh(submit.size) + 3) / 4 * 4;
	if (le32toh(submit.size) > request->size) {
		words = le32toh(submit.size); /* not all of it is there, as is found then */
	}
	submit.size = htole32(words);
	return vgf_submit_3d_decode(iov, 3, gpu->fence_passing, &guest_limits, decoded, reason);
}

static int decode(struct gpu *gpu, const struct request *request, struct vgf_submit_3d *decoded,
	const char **reason)
{
	const struct iovec iov = { (void *)request->bytes, request->size };
	const struct renderer_ops *ops = gpu->renderer->ops;

	if (ops->takes_bytes != NULL && ops->takes_bytes(gpu->renderer, request->header.ctx_id)) {
		return decode_bytes(gpu, request, decoded, reason);
	}
	return vgf_submit_3d_decode(&iov, 1, gpu->fence_passing, &guest_limits, decoded, reason);
}

uint32_t submit_3d(struct gpu *gpu, struct request *request)
{
	const struct context_entry *context = context_find(&gpu->contexts, request->header.ctx_id);
	struct vgf_submit_3d decoded;
	const char *reason;
	uint32_t type;
	int ret;

	if (context == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	}
	request->pending->context_serial = context->serial;
	ret = decode(gpu, request, &decoded, &reason);
	if (ret < 0) {
		log_guest(gpu, "context %u: a bad submission: %s", request->header.ctx_id, reason);
		return response_of_error(ret);
	}
	gpu->stats.submissions++;
	type = submit_decoded(gpu, request, &decoded.submission);
	vgf_submit_3d_finish(&decoded);
	return type;
}
