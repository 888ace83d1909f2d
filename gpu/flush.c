/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "flush.h"

#include <vgfence/fence.h>

#include "gpu_private.h"

/* Shows it, and answers. status: 0, or the error that it ends with. */
static void finish(struct pending_request *pending, int status)
{
	struct gpu *gpu = pending->gpu;

	if (status == 0) {
		scanouts_flush(gpu, pending->flush.resource_id, &pending->flush.rect);
	}
	if (pending->type == RESPONSE_LATER) {
		pending->type = status < 0 ? response_of_error(status) : VIRTIO_GPU_RESP_OK_NODATA;
	}
}

/* After its request has been handled. */
static void finish_later(struct pending_request *pending, int status)
{
	if (pending->handling || pending->awaits_renderer || pending->awaits_drawing) {
		return;
	}
	finish(pending, status);
	signal_own_fence(pending, status);
	complete_if_done(pending);
}

/* ---- What is drawn before ------------------------------------------------------------------- */

static bool draws_to(struct gpu *gpu, const struct pending_request *pending, uint32_t resource_id)
{
	if (pending->draws_to != 0) {
		return pending->draws_to == resource_id;
	}
	return gpu->renderer->ops->context_has(gpu->renderer, pending->fence.ctx_id, resource_id);
}

/* Waits for the first request from `from` on that the flush is behind. */
static void await_drawing(
	struct gpu *gpu, struct pending_request *pending, struct pending_request *from)
{
	struct pending_request *other = from;

	while (other != NULL && other->arrival < pending->arrival &&
		!draws_to(gpu, other, pending->flush.resource_id)) {
		other = TAILQ_NEXT(other, drawing_link);
	}
	pending->awaits_drawing = other != NULL && other->arrival < pending->arrival;
	if (pending->awaits_drawing) {
		LIST_INSERT_HEAD(&other->flushes, pending, flush_link);
	}
}

void flushes_await(struct gpu *gpu, struct pending_request *pending)
{
	pending->draws = true;
	pending->arrival = ++gpu->pending.num_arrivals;
	LIST_INIT(&pending->flushes);
	TAILQ_INSERT_TAIL(&gpu->pending.drawing, pending, drawing_link);
}

void flushes_continue(struct gpu *gpu, struct pending_request *pending)
{
	struct pending_request *next, *flush;

	if (!pending->draws) {
		return;
	}
	next = TAILQ_NEXT(pending, drawing_link);
	TAILQ_REMOVE(&gpu->pending.drawing, pending, drawing_link);
	pending->draws = false;
	while ((flush = LIST_FIRST(&pending->flushes)) != NULL) {
		LIST_REMOVE(flush, flush_link);
		await_drawing(gpu, flush, next);
		finish_later(flush, 0);
	}
}

void flush_give_up(struct pending_request *pending)
{
	if (pending->awaits_drawing) {
		LIST_REMOVE(pending, flush_link);
		pending->awaits_drawing = false;
	}
}

/* ---- What the renderer holds back ----------------------------------------------------------- */

static void renderer_is_ready(void *arg, int status)
{
	struct pending_request *pending = arg;

	pending->awaits_renderer = false;
	finish_later(pending, status);
}

static int await_renderer(struct gpu *gpu, struct pending_request *pending)
{
	int ret;

	if (gpu->renderer->ops->await_resource == NULL) {
		return 0;
	}
	pending->awaits_renderer = true;
	ret = gpu->renderer->ops->await_resource(
		gpu->renderer, pending->flush.resource_id, renderer_is_ready, pending);
	if (ret < 0) {
		pending->awaits_renderer = false;
	}
	return ret;
}

uint32_t flush_resource(struct gpu *gpu, struct request *request, const struct resource *resource,
	const struct virtio_gpu_rect *rect)
{
	struct pending_request *pending = request->pending;
	int ret;

	pending->flush = (struct flush){ resource->id, *rect };
	pending->type = RESPONSE_LATER;
	pending->arrival = ++gpu->pending.num_arrivals;
	ret = await_renderer(gpu, pending);
	if (ret < 0) {
		return response_of_error(ret);
	}
	await_drawing(gpu, pending, TAILQ_FIRST(&gpu->pending.drawing));
	if (pending->awaits_renderer || pending->awaits_drawing) {
		pending->signals_fence = true;
		return RESPONSE_LATER;
	}
	finish(pending, 0);
	return pending->type;
}
