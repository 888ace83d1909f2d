/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a VMM can see of a device: statistics, what is pending, all of it as text, events. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <vgfence/inspect.h>
#include <vgfence/sync_file.h>

#include "export.h"
#include "lock.h"
#include "log.h"
#include "struct_copy.h"

/* What a dump shows of a timeline, and of what one submission waits for: a guest chooses how many
 * there are. */
#define DUMP_FENCES 32
#define DUMP_WAITERS 8

/* What the struct had in 0.2, when it got a size. */
#define LEAST_STATS (offsetof(struct vgf_stats, held_size) + sizeof(size_t))

VGF_EXPORT int vgf_device_get_stats(struct vgf_device *device, struct vgf_stats *stats)
{
	struct vgf_stats known;
	size_t size = stats->size;

	if (!is_struct_size(size, LEAST_STATS)) {
		return -EINVAL;
	}
	device_lock(device);
	known = device->stats;
	known.pending = device->fences.count;
	known.peak_pending = device->fences.peak_count;
	known.fds = device->fences.fds;
	known.peak_fds = device->fences.peak_fds;
	device_unlock(device);
	known.size = size;
	memset(stats, 0, size);
	memcpy(stats, &known, size < sizeof(known) ? size : sizeof(known));
	return 0;
}

/* A caller's array that is being filled. */
struct list {
	struct vgf_pending *pending;
	size_t count, found;
	uint64_t now_ns;
};

/* The first in-fence that is not done; NULL: there is none. */
static const struct fence *first_awaited(const struct submission *submission)
{
	for (uint32_t i = 0; i < submission->num_waiters; i++) {
		if (submission->waiters[i].fence) {
			return submission->waiters[i].fence;
		}
	}
	return NULL;
}

static void list_awaited(struct vgf_pending *pending, const struct submission *submission)
{
	const struct fence *awaited = first_awaited(submission);

	if (!awaited) {
		pending->awaits_turn = true;
	} else if (awaited->flags & FENCE_IMPORTED) {
		pending->awaited = (struct vgf_fence_name){ VGF_NO_FENCE_ID, awaited->ctx_id, 0 };
	} else {
		pending->awaited = fence_name(awaited);
	}
}

static void list_fence(struct list *list, const struct fence *fence)
{
	if (list->found++ < list->count) {
		const struct submission *held_work = fence_held_work(fence);
		struct vgf_pending *pending = &list->pending[list->found - 1];

		*pending = (struct vgf_pending){
			.fence = fence_name(fence),
			.age_ns = list->now_ns > fence->created_ns ?
				list->now_ns - fence->created_ns :
				0,
			.status = fence->status,
			.signalled = fence->flags & FENCE_SIGNALLED,
			.held = held_work != NULL,
			.has_fd = fence->fd >= 0,
		};
		if (held_work) {
			list_awaited(pending, held_work);
		}
	}
}

VGF_EXPORT size_t vgf_device_list_pending(
	struct vgf_device *device, struct vgf_pending *pending, size_t count)
{
	struct list list = { pending, count, 0, now_ns() };
	struct timeline *timeline;
	struct fence *fence;

	device_lock(device);
	TAILQ_FOREACH(timeline, &device->fences.busy, busy_link) {
		STAILQ_FOREACH(fence, &timeline->fences, link) {
			if (!(fence->flags & FENCE_IMPORTED)) {
				list_fence(&list, fence);
			}
		}
	}
	device_unlock(device);
	return list.found;
}

static void list_timeline(struct list *list, const struct timeline *timeline, uint32_t ctx_id)
{
	const struct fence *fence;

	STAILQ_FOREACH(fence, &timeline->fences, link) {
		if (fence->ctx_id == ctx_id) {
			list_fence(list, fence);
		}
	}
}

VGF_EXPORT size_t vgf_context_list_pending(
	struct vgf_device *device, uint32_t ctx_id, struct vgf_pending *pending, size_t count)
{
	struct list list = { pending, count, 0, now_ns() };
	const struct context *context;

	device_lock(device);
	context = context_find(&device->contexts, ctx_id);
	for (size_t ring = 0; context && ring < VGF_MAX_RINGS; ring++) {
		if (context->rings[ring]) {
			list_timeline(&list, &context->rings[ring]->timeline, ctx_id);
		}
	}
	list_timeline(&list, &device->contexts.global, ctx_id);
	device_unlock(device);
	return list.found;
}

static void dump_stats(FILE *out, const struct vgf_device *device)
{
	const struct vgf_stats *stats = &device->stats;

	fprintf(out, "vgfence %s\n", vgf_version());
	fprintf(out,
		"submissions: %" PRIu64 " accepted, %" PRIu64 " refused; run ready %" PRIu64
		", driver %" PRIu64 ", gl %" PRIu64 ", host %" PRIu64 "; held now %" PRIu32
		" (%zu bytes)\n",
		stats->submitted, stats->refused, stats->run_ready, stats->run_driver,
		stats->run_gl, stats->run_host, stats->held, stats->held_size);
	fprintf(out,
		"fences: %" PRIu64 " created, %" PRIu64 " retired, %" PRIu64 " failed, %" PRIu64
		" cancelled, %" PRIu64 " stalled; pending now %" PRIu32 "\n",
		stats->created, stats->retired, stats->failed, stats->cancelled, stats->stalled,
		device->fences.count);
	fprintf(out, "contexts: %" PRIu32 "; descriptors: %" PRIu32 " of %" PRIu32 "\n",
		stats->contexts, device->fences.fds, device->options.limits.max_fds);
}

static void dump_waiting(FILE *out, const struct submission *submission)
{
	uint32_t count = 0;

	fprintf(out, "      held, waits for");
	for (uint32_t i = 0; i < submission->num_waiters && count < DUMP_WAITERS; i++) {
		const struct fence *fence = submission->waiters[i].fence;
		if (fence) {
			count++;
			char name[NAME_SIZE];
			struct vgf_fence_name full_name = fence_name(fence);
			fprintf(out, " [%s]", name_text(name, &full_name));
		}
	}
	if (submission->pending > count) {
		fprintf(out, " and %" PRIu32 " more", submission->pending - count);
	}
	fprintf(out, "%s\n", submission->pending > 0 ? "" : " its turn");
}

static void dump_fence(FILE *out, const struct fence *fence, uint64_t now_ns)
{
	const struct submission *held_work = fence_held_work(fence);
	struct vgf_sync_file_fence info;
	uint64_t age_ns = now_ns > fence->created_ns ? now_ns - fence->created_ns : 0;

	fprintf(out, "    fence %" PRIu64 ", %" PRIu64 " us%s", fence->id, age_ns / 1000,
		fence->flags & VGF_SHAREABLE ? ", shareable" : "");
	if (fence->flags & FENCE_SIGNALLED) {
		fprintf(out, ", signalled (%d)", fence->status);
	} else if (fence->fd >= 0) {
		fprintf(out, ", descriptor %d", fence->fd);
		if (vgf_sync_file_info(fence->fd, &info, 1) > 0) {
			fprintf(out, " of %s %s", info.driver, info.timeline);
		}
	} else {
		fprintf(out, ", by call");
	}
	fprintf(out, "%s\n", fence->submission && !held_work ? ", its driver is being called" : "");
	if (held_work) {
		dump_waiting(out, held_work);
	}
}

static void dump_timeline(FILE *out, const struct timeline *timeline, uint64_t now_ns)
{
	const struct fence *fence;
	uint32_t count = 0;

	if (timeline->ring == VGF_RING_GLOBAL) {
		fprintf(out, "  global timeline, next fence from %" PRIu64 "\n", timeline->next_id);
	} else if (timeline->ring == RING_IMPORTED) {
		fprintf(out, "  context %" PRIu32 " imported\n", timeline->ctx_id);
	} else {
		fprintf(out,
			"  context %" PRIu32 " ring %" PRId32 ", next fence from %" PRIu64 "\n",
			timeline->ctx_id, timeline->ring, timeline->next_id);
	}
	STAILQ_FOREACH(fence, &timeline->fences, link) {
		if (count++ < DUMP_FENCES) {
			dump_fence(out, fence, now_ns);
		}
	}
	if (count > DUMP_FENCES) {
		fprintf(out, "    and %" PRIu32 " more\n", count - DUMP_FENCES);
	}
}

/* The work of a fence is shown with it. This shows stuck calls, and stuck work without a fence. */
static void dump_queue(FILE *out, const struct queue *queue)
{
	const struct submission *oldest = STAILQ_FIRST(&queue->submissions);
	const struct submission *submission;
	uint32_t count = 0;

	if (!oldest || oldest->fence) {
		return;
	}
	STAILQ_FOREACH(submission, &queue->submissions, link) {
		count++;
	}
	fprintf(out,
		"  context %" PRIu32 ": %" PRIu32 " in a queue, the oldest without a fence%s\n",
		queue->context->id, count, queue->running ? " is being run" : "");
	if (!queue->running) {
		dump_waiting(out, oldest);
	}
}

static void dump_contexts(FILE *out, const struct vgf_device *device)
{
	const struct context *context;

	LIST_FOREACH(context, &device->contexts.all, link) {
		for (size_t ring = 0; ring < VGF_MAX_RINGS; ring++) {
			if (context->rings[ring]) {
				dump_queue(out, &context->rings[ring]->queue);
			}
		}
	}
}

VGF_EXPORT int vgf_device_dump(struct vgf_device *device, char **text)
{
	uint64_t now = now_ns();
	struct timeline *timeline;
	size_t size;
	FILE *out;

	*text = NULL;
	out = open_memstream(text, &size);
	if (!out) {
		return -ENOMEM;
	}
	device_lock(device);
	dump_stats(out, device);
	TAILQ_FOREACH(timeline, &device->fences.busy, busy_link) {
		dump_timeline(out, timeline, now);
	}
	dump_contexts(out, device);
	device_unlock(device);
	if (fclose(out) != 0) {
		free(*text);
		*text = NULL;
		return -ENOMEM;
	}
	return 0;
}

VGF_EXPORT void vgf_device_trace(
	struct vgf_device *device, void (*fn)(void *arg, const struct vgf_event *event), void *arg)
{
	device_lock(device);
	device->fences.tracer.fn = fn;
	device->fences.tracer.arg = arg;
	device_unlock(device);
}
