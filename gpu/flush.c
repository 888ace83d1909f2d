/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "flush.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/sync_file.h>

#include "clock.h"
#include "gpu_private.h"

/* Gives it to the displays, once. */
static void show(struct pending_request *pending)
{
	struct flush *flush = &pending->flush;
	const struct resource *resource = find_resource(pending->gpu, flush->resource_id);

	if (flush->is_given) {
		return;
	}
	flush->is_given = true;
	if (resource != NULL && resource->serial == flush->resource_serial) {
		scanouts_flush(pending);
	}
}

static void set_type(struct pending_request *pending, int status)
{
	if (pending->type == RESPONSE_LATER) {
		pending->type = status < 0 ? response_of_error(status) : VIRTIO_GPU_RESP_OK_NODATA;
	}
}

static bool waits(const struct pending_request *pending)
{
	return pending->awaits_renderer || pending->awaits_drawing != NULL ||
		pending->awaited != NULL || pending->goes_on;
}

/* Goes on after its request has been handled: shows it, and answers once it is shown. status: 0, or
 * the error that it ends with. */
static void finish_later(struct pending_request *pending, int status)
{
	if (pending->handling || waits(pending)) {
		return;
	}
	if (status == 0) {
		show(pending);
	}
	shown_is_drawn(pending);
	if (pending->awaits_shown != 0) {
		return;
	}
	set_type(pending, status);
	signal_own_fence(pending, status);
	complete_if_done(pending);
}

/* ---- What is drawn before ------------------------------------------------------------------- */

static bool draws_to(struct gpu *gpu, const struct pending_request *pending, uint32_t resource_id)
{
	if (pending->draws_to != 0) {
		return pending->draws_to == resource_id;
	}
	return gpu->renderer->ops->context_has(gpu->renderer, pending->context_serial, resource_id);
}

/* Waits for the first request after that `arrival` which draws what this one is behind. */
static void await_drawing(struct gpu *gpu, struct pending_request *pending, uint64_t arrival)
{
	struct pending_request *other;

	pending->awaits_drawing = NULL;
	TAILQ_FOREACH(other, &gpu->pending.drawing, drawing_link) {
		if (other->arrival >= pending->arrival) {
			return;
		}
		if (other->arrival > arrival && draws_to(gpu, other, pending->follows)) {
			pending->awaits_drawing = other;
			TAILQ_INSERT_TAIL(&other->followers, pending, follower_link);
			return;
		}
	}
}

void flush_follow(struct pending_request *pending, uint32_t resource_id)
{
	struct gpu *gpu = pending->gpu;

	pending->follows = resource_id;
	pending->arrival = ++gpu->pending.num_arrivals;
	await_drawing(gpu, pending, 0);
}

void flushes_await(struct gpu *gpu, struct pending_request *pending)
{
	pending->draws = true;
	pending->arrival = ++gpu->pending.num_arrivals;
	TAILQ_INIT(&pending->followers);
	TAILQ_INSERT_TAIL(&gpu->pending.drawing, pending, drawing_link);
}

static void go_on_soon(struct pending_request *pending)
{
	if (!pending->goes_on) {
		pending->goes_on = true;
		TAILQ_INSERT_TAIL(&pending->gpu->pending.going_on, pending, going_on_link);
	}
}

void flushes_continue(struct gpu *gpu, struct pending_request *pending)
{
	struct pending_request *follower;

	if (!pending->draws) {
		return;
	}
	TAILQ_REMOVE(&gpu->pending.drawing, pending, drawing_link);
	pending->draws = false;
	while ((follower = TAILQ_FIRST(&pending->followers)) != NULL) {
		TAILQ_REMOVE(&pending->followers, follower, follower_link);
		follower->awaits_drawing = NULL;
		follower->drawn_until = pending->arrival;
		go_on_soon(follower);
	}
}

/* ---- In-fences ------------------------------------------------------------------------------ */

static uint64_t *in_fences_of(const struct pending_request *pending)
{
	return pending->gpu->pending.in_fences[pending->request.token];
}

/* Returns 1, with the number of a pending fence; 0 if it has retired; or an error. A flush is of no
 * context, so what it waits for has to be shareable. */
static int find_in_fence(struct gpu *gpu, uint64_t id, uint64_t *number)
{
	int ret = pending_find_id(&gpu->pending, id, number);

	if (ret == 1 && !pending_find_fence(&gpu->pending, *number)->shareable) {
		return -EPERM;
	}
	return ret;
}

/* Their count is checked before anything is done so often. */
static int check_count(struct gpu *gpu, const struct request *request, uint32_t count)
{
	uint32_t resource_id = request->pending->flush.resource_id;

	if (count > request->body.left / sizeof(uint64_t)) {
		log_guest(gpu, "a flush of resource %u: in-fences past the end", resource_id);
		return -EBADMSG;
	}
	if (count > MAX_IN_FENCES) {
		log_guest(gpu, "a flush of resource %u: %u in-fences", resource_id, count);
		return -E2BIG;
	}
	return 0;
}

/* Takes note of those that are pending. */
static int read_in_fences(struct gpu *gpu, struct request *request, uint32_t count)
{
	struct pending_request *pending = request->pending;
	struct flush *flush = &pending->flush;
	int ret = check_count(gpu, request, count);

	for (uint32_t i = 0; i < count && ret >= 0; i++) {
		uint64_t id = 0;

		reader_read(&request->body, &id, sizeof(id));
		id = le64toh(id);
		ret = find_in_fence(gpu, id, &in_fences_of(pending)[flush->num_in_fences]);
		flush->num_in_fences += ret == 1;
		if (ret < 0) {
			log_guest(gpu, "a flush of resource %u: in-fence %" PRIu64 ": %s",
				flush->resource_id, id, strerror(-ret));
		}
	}
	return ret < 0 ? ret : 0;
}

/* Waits for the last one that is pending. Those before it have their turn when it has retired. */
static void await_in_fence(struct gpu *gpu, struct pending_request *pending)
{
	const uint64_t *numbers = in_fences_of(pending);

	pending->awaited = NULL;
	while (pending->awaited == NULL && pending->flush.num_in_fences > 0) {
		pending->flush.num_in_fences--;
		pending->awaited = pending_find_fence(
			&gpu->pending, numbers[pending->flush.num_in_fences]);
	}
	if (pending->awaited != NULL) {
		TAILQ_INSERT_TAIL(&pending->awaited->waiting, pending, waiting_link);
	}
}

void flushes_come_forward(struct gpu *gpu, struct pending_request *pending)
{
	struct pending_request *flush;

	while ((flush = TAILQ_FIRST(&pending->waiting)) != NULL) {
		TAILQ_REMOVE(&pending->waiting, flush, waiting_link);
		await_in_fence(gpu, flush);
		if (flush->awaited == NULL) {
			go_on_soon(flush);
		}
	}
}

/* ---- Going on ------------------------------------------------------------------------------- */

/* How long those that go on have the loop, and one more: a copy of a large picture takes long. */
#define GO_ON_NS (5 * NS_PER_MS)

static void take_from_going_on(struct pending_request *pending)
{
	pending->goes_on = false;
	TAILQ_REMOVE(&pending->gpu->pending.going_on, pending, going_on_link);
}

static void go_on(struct pending_request *pending)
{
	uint64_t drawn_until = pending->drawn_until;

	take_from_going_on(pending);
	if (drawn_until > 0) {
		pending->drawn_until = 0;
		await_drawing(pending->gpu, pending, drawn_until);
	}
	if (pending->releases == RELEASE_NOTHING) {
		finish_later(pending, 0);
	} else if (pending->awaits_drawing == NULL) {
		release_start(pending);
	}
}

void flushes_go_on(struct gpu *gpu)
{
	struct pending_request *pending = TAILQ_FIRST(&gpu->pending.going_on);
	uint64_t end_ns = pending != NULL ? now_ns() + GO_ON_NS : 0;

	while (pending != NULL) {
		go_on(pending);
		pending = now_ns() < end_ns ? TAILQ_FIRST(&gpu->pending.going_on) : NULL;
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

/* ---- Before it is drawn --------------------------------------------------------------------- */

/* More that are pending at once are waited for here. */
#define MAX_FILES 64

struct files {
	int fds[MAX_FILES];
	uint32_t count;
};

/* Returns whether the fence has a sync file, which is added, or has signalled. */
static bool add_file(struct gpu *gpu, struct files *files, uint64_t number)
{
	struct vgf_device *device = gpu->renderer->ops->get_device(gpu->renderer);
	int fd;

	if (files->count == MAX_FILES || vgf_fence_export(device, VGF_HOST, number, &fd) < 0) {
		return false;
	}
	if (fd < 0) {
		return true;
	}
	files->fds[files->count++] = fd;
	return vgf_sync_file_info(fd, NULL, 0) >= 0; /* a compositor takes no other */
}

/* An in-fence stands for all that is before it. On the global timeline that may be work of others,
 * which is not done before it. */
static bool add_in_fence(struct gpu *gpu, const struct pending_request *other, struct files *files)
{
	return other == NULL ||
		(other->fence.ring != VGF_RING_GLOBAL &&
			add_file(gpu, files, other->fence.fence_id));
}

static bool add_in_fences(struct gpu *gpu, const struct pending_request *flush, struct files *files)
{
	bool has_files = add_in_fence(gpu, flush->awaited, files);

	for (uint32_t i = 0; i < flush->flush.num_in_fences && has_files; i++) {
		const struct pending_request *other = pending_find_fence(
			&gpu->pending, in_fences_of(flush)[i]);

		has_files = add_in_fence(gpu, other, files);
	}
	return has_files;
}

static bool add_drawing(struct gpu *gpu, const struct pending_request *flush, struct files *files)
{
	struct pending_request *other = flush->awaits_drawing;
	bool has_files = true;

	for (; other != NULL && other->arrival < flush->arrival && has_files;
		other = TAILQ_NEXT(other, drawing_link)) {
		if (draws_to(gpu, other, flush->follows)) {
			has_files = other->awaits_fence &&
				add_file(gpu, files, other->fence.fence_id);
		}
	}
	return has_files;
}

static void offer(struct gpu *gpu, struct pending_request *flush)
{
	struct files files = { .count = 0 };
	int fd = -1;

	if (gpu->callbacks.scanout_offered == NULL || flush->awaits_renderer) {
		return;
	}
	if (add_in_fences(gpu, flush, &files) && add_drawing(gpu, flush, &files) &&
		files.count > 0) {
		fd = vgf_sync_file_merge(files.fds, files.count);
	}
	for (uint32_t i = 0; i < files.count; i++) {
		close(files.fds[i]);
	}
	if (fd >= 0) {
		scanouts_offer(flush, fd);
		close(fd);
	}
}

/* ---- Timelines ------------------------------------------------------------------------------ */

/* Only fences are there: of flushes, and of what is done when it has been handled. */
static int run_nothing(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	(void)data;
	(void)job;
	*out_fence_fd = VGF_FENCE_DONE;
	return 0;
}

void flush_rings_open(struct gpu *gpu)
{
	static const struct vgf_driver driver = {
		.size = sizeof(driver),
		.independent_rings = true,
		.submit = run_nothing,
	};
	int ret;

	if (!gpu->fence_passing || gpu->has_flush_rings) {
		return;
	}
	ret = vgf_context_create(gpu->renderer->ops->get_device(gpu->renderer), 0, &driver, NULL);
	gpu->has_flush_rings = ret == 0;
	if (ret < 0) {
		log_error(gpu, "no fence can wait for a flush on a ring of no context: %s",
			strerror(-ret));
	}
}

/* ---- The command ---------------------------------------------------------------------------- */

void flush_is_shown(struct pending_request *pending)
{
	finish_later(pending, 0);
}

void flush_give_up(struct pending_request *pending)
{
	shown_drop(pending);
	if (pending->awaits_drawing != NULL) {
		TAILQ_REMOVE(&pending->awaits_drawing->followers, pending, follower_link);
		pending->awaits_drawing = NULL;
	}
	if (pending->awaited != NULL) {
		TAILQ_REMOVE(&pending->awaited->waiting, pending, waiting_link);
		pending->awaited = NULL;
	}
	if (pending->goes_on) {
		take_from_going_on(pending);
	}
}

/* Returns 0 or an error, after which it waits for nothing. */
static int await_all(struct gpu *gpu, struct request *request, uint32_t num_in_fences)
{
	struct pending_request *pending = request->pending;
	int ret = read_in_fences(gpu, request, num_in_fences);

	if (ret == 0) {
		ret = await_renderer(gpu, pending);
	}
	if (ret < 0) {
		return ret;
	}
	await_in_fence(gpu, pending);
	flush_follow(pending, pending->flush.resource_id);
	gpu->stats.flushes++;
	gpu->stats.flush_in_fences += num_in_fences;
	gpu->stats.flushes_held += pending->awaited != NULL;
	return 0;
}

uint32_t flush_resource(struct gpu *gpu, struct request *request, const struct resource *resource,
	const struct virtio_gpu_rect *rect, uint32_t num_in_fences)
{
	struct pending_request *pending = request->pending;
	int ret;

	pending->flush = (struct flush){
		.resource_id = resource->id,
		.resource_serial = resource->serial,
		.rect = *rect,
	};
	pending->type = RESPONSE_LATER;
	ret = await_all(gpu, request, num_in_fences);
	if (ret < 0) {
		return response_of_error(ret);
	}
	if (waits(pending)) {
		offer(gpu, pending);
	} else {
		show(pending);
		shown_is_drawn(pending);
	}
	if (waits(pending) || pending->awaits_shown != 0) {
		pending->signals_fence = true;
		return RESPONSE_LATER;
	}
	return VIRTIO_GPU_RESP_OK_NODATA;
}
