/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include <vgfence/inspect.h>

#include "clock.h"
#include "gpu_private.h"
#include "observe.h"

/* As many as there can be with a request. */
#define MAX_FENCES ((size_t)GPU_NUM_QUEUES * GPU_MAX_REQUESTS)

/* What is needed while an observation is made, of the timelines as they stand in timelines.all. */
struct work {
	struct gpu_timeline *chosen[MAX_TIMELINES];
	uint32_t held[MAX_TIMELINES];
	const struct vgf_pending *oldest[MAX_TIMELINES]; /* the library's fence; or NULL */
	struct vgf_pending fences[MAX_FENCES];
};

/* ---- Which timelines ------------------------------------------------------------------------ */

static bool is_shown(const struct gpu *gpu, const struct gpu_timeline *timeline)
{
	if (timeline->pending > 0) {
		return true;
	}
	return timeline->stats.num_done > 0 &&
		(timeline->ring == VGF_RING_GLOBAL || timeline->ctx_id == 0 ||
			context_exists(&gpu->contexts, timeline->ctx_id));
}

static int compare(const void *left, const void *right)
{
	const struct gpu_timeline *a = *(struct gpu_timeline *const *)left;
	const struct gpu_timeline *b = *(struct gpu_timeline *const *)right;

	if (a->pending != b->pending) {
		return a->pending > b->pending ? -1 : 1;
	}
	return (a->since_ns < b->since_ns) - (a->since_ns > b->since_ns);
}

static uint32_t choose(struct gpu *gpu, struct work *work)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < gpu->timelines.num_used; i++) {
		struct gpu_timeline *timeline = &gpu->timelines.all[i];

		if (is_shown(gpu, timeline)) {
			work->chosen[count++] = timeline;
		}
	}
	qsort(work->chosen, count, sizeof(work->chosen) / MAX_TIMELINES, compare);
	return count;
}

/* ---- Their fences --------------------------------------------------------------------------- */

static void look_at_fence(struct gpu *gpu, struct work *work, const struct vgf_pending *fence)
{
	const struct pending_request *request = pending_find_fence(
		&gpu->pending, fence->fence.fence_id);
	size_t at;

	if (request == NULL || request->timeline == NULL) {
		return;
	}
	at = (size_t)(request->timeline - gpu->timelines.all);
	work->held[at] += fence->held;
	if (pending_is_next(request)) {
		work->oldest[at] = fence;
	}
}

static void look_at_fences(struct gpu *gpu, struct work *work)
{
	struct vgf_device *device = gpu->renderer->ops->get_device(gpu->renderer);
	size_t count = vgf_device_list_pending(device, work->fences, MAX_FENCES);

	for (size_t i = 0; i < count && i < MAX_FENCES; i++) {
		look_at_fence(gpu, work, &work->fences[i]);
	}
}

static const char *state_of_work(const struct vgf_pending *fence)
{
	if (fence->signalled) {
		return "signalled";
	}
	if (!fence->held) {
		return fence->has_fd ? "runs, with a descriptor" : "runs";
	}
	if (fence->awaits_turn) {
		return "held behind other work";
	}
	return fence->awaited.fence_id == VGF_NO_FENCE_ID ? "held for a descriptor" :
							    "held for a fence";
}

/* What a request waits for is more than its fence says if that is signalled for it. */
static const char *state_of(const struct pending_request *request, const struct vgf_pending *fence)
{
	if (request->awaited != NULL || request->awaits_drawing != NULL) {
		return "waits for drawing";
	}
	if (request->awaits_shown != 0 || request->pin != NULL || request->awaits_display) {
		return "waits for a display";
	}
	if (request->awaits_hostmem != NULL) {
		return "waits for the front end";
	}
	if (request->awaits_renderer) {
		return "waits for work before it";
	}
	return fence != NULL ? state_of_work(fence) : "is being answered";
}

static struct vgf_fence_name awaited_of(
	const struct pending_request *request, const struct vgf_pending *fence)
{
	const struct pending_request *other = request->awaited != NULL ? request->awaited :
									 request->awaits_drawing;

	if (other != NULL) {
		return other->fence;
	}
	if (fence != NULL && fence->awaited.fence_id != VGF_NO_FENCE_ID) {
		return fence->awaited;
	}
	return (struct vgf_fence_name){ 0 };
}

static uint64_t since(uint64_t from_ns, uint64_t now_ns)
{
	return now_ns > from_ns ? now_ns - from_ns : 0;
}

static void look_at_oldest(struct gpu *gpu, const struct gpu_timeline *timeline,
	const struct vgf_pending *fence, uint64_t now_ns, struct observed_fence *oldest)
{
	const struct pending_request *request = pending_oldest(&gpu->pending, timeline->by_key.key);

	oldest->name = request->fence;
	oldest->guest_id = request->guest_fence.id;
	oldest->age_ns = since(request->accepted_ns, now_ns);
	oldest->oldest_for_ns = since(timeline->since_ns, now_ns);
	oldest->state = state_of(request, fence);
	oldest->awaited = awaited_of(request, fence);
}

/* ---- An observation ------------------------------------------------------------------------- */

static void fill(struct gpu *gpu, const struct work *work, struct observation *observation)
{
	for (uint32_t i = 0; i < observation->count; i++) {
		const struct gpu_timeline *timeline = work->chosen[i];
		size_t at = (size_t)(timeline - gpu->timelines.all);
		struct observed_timeline *observed = &observation->timelines[i];

		*observed = (struct observed_timeline){
			.ctx_id = timeline->ring == VGF_RING_GLOBAL ? 0 : timeline->ctx_id,
			.ring = timeline->ring,
			.pending = timeline->pending,
			.held = work->held[at],
			.stats = &timeline->stats,
		};
		if (timeline->pending > 0) {
			look_at_oldest(gpu, timeline, work->oldest[at], observation->now_ns,
				&observed->oldest);
		}
	}
}

int observe(struct gpu *gpu, struct observation *observation)
{
	struct work *work = calloc(1, sizeof(*work));
	uint32_t count;

	if (work == NULL) {
		return -ENOMEM;
	}
	count = choose(gpu, work);
	*observation = (struct observation){
		.now_ns = now_ns(),
		.count = count < MAX_OBSERVED ? count : MAX_OBSERVED,
	};
	observation->left_out = count - observation->count;
	observation->timelines = calloc(observation->count + 1, sizeof(observation->timelines[0]));
	if (observation->timelines != NULL) {
		look_at_fences(gpu, work);
		fill(gpu, work, observation);
	}
	free(work);
	return observation->timelines != NULL ? 0 : -ENOMEM;
}

void observation_finish(struct observation *observation)
{
	free(observation->timelines);
	observation->timelines = NULL;
}
