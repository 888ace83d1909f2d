/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <stddef.h>

#include "pending.h"

void pending_init(struct pending *pending)
{
	TAILQ_INIT(&pending->drawing);
	TAILQ_INIT(&pending->going_on);
	key_table_init(&pending->by_timeline);
	key_table_init(&pending->by_id);
	key_table_init(&pending->by_number);
}

void pending_reset(struct pending *pending)
{
	pending->last_number = 0;
	pending->next_id = 0;
}

struct pending_request *pending_take(struct pending *pending, const struct gpu_request *request)
{
	struct pending_request *place;

	if ((unsigned int)request->queue >= GPU_NUM_QUEUES || request->token >= GPU_MAX_REQUESTS) {
		return NULL;
	}
	place = &pending->requests[request->queue][request->token];
	if (place->used) {
		return NULL;
	}
	*place = (struct pending_request){ .used = true, .does_more = true, .request = *request };
	pending->count++;
	pending->num_more++;
	return place;
}

void pending_only_completes(struct pending *pending, struct pending_request *request)
{
	pending->num_more -= request->does_more;
	request->does_more = false;
}

void pending_release(struct pending *pending, struct pending_request *request)
{
	if (request->fenced) {
		key_table_remove(&pending->by_timeline, &request->by_timeline);
	}
	pending_only_completes(pending, request);
	request->used = false;
	pending->count--;
}

/* The guest's rings have 8 bits. */
#define GLOBAL_TIMELINE UINT64_MAX

uint64_t pending_timeline_key(const struct guest_fence *fence)
{
	return fence->has_ring ? (uint64_t)fence->ctx_id << 32 | fence->ring : GLOBAL_TIMELINE;
}

void pending_line_up(struct pending *pending, struct pending_request *request)
{
	request->fenced = true;
	request->fence.fence_id = ++pending->last_number;
	key_table_add(&pending->by_timeline, &request->by_timeline,
		pending_timeline_key(&request->guest_fence));
}

bool pending_is_next(const struct pending_request *request)
{
	return !request->fenced || request->by_timeline.first;
}

static struct pending_request *request_of(const struct key_entry *entry, size_t offset)
{
	return (struct pending_request *)((char *)entry - offset);
}

struct pending_request *pending_after(const struct pending_request *request)
{
	struct key_entry *next = request->fenced ? key_entry_next(&request->by_timeline) : NULL;

	return next != NULL ? request_of(next, offsetof(struct pending_request, by_timeline)) :
			      NULL;
}

struct pending_request *pending_oldest(struct pending *pending, uint64_t timeline_key)
{
	struct key_entry *entry = key_table_find(&pending->by_timeline, timeline_key);

	return entry != NULL ? request_of(entry, offsetof(struct pending_request, by_timeline)) :
			       NULL;
}

void pending_saw_id(struct pending *pending, uint64_t id)
{
	if (id >= pending->next_id && id < UINT64_MAX) {
		pending->next_id = id + 1;
	}
}

void pending_add_fence(struct pending *pending, struct pending_request *request)
{
	key_table_add(&pending->by_id, &request->by_id, request->guest_fence.id);
	key_table_add(&pending->by_number, &request->by_number, request->fence.fence_id);
	request->awaits_fence = true;
}

void pending_remove_fence(struct pending *pending, struct pending_request *request)
{
	key_table_remove(&pending->by_id, &request->by_id);
	key_table_remove(&pending->by_number, &request->by_number);
	request->awaits_fence = false;
}

struct pending_request *pending_find_fence(struct pending *pending, uint64_t number)
{
	struct key_entry *entry = key_table_find(&pending->by_number, number);

	return entry != NULL ? request_of(entry, offsetof(struct pending_request, by_number)) :
			       NULL;
}

int pending_find_id(struct pending *pending, uint64_t id, uint64_t *number)
{
	const struct key_entry *entry = key_table_find(&pending->by_id, id);

	if (entry == NULL) {
		return id < pending->next_id ? 0 : -ENOENT;
	}
	if (key_entry_next(entry) != NULL) {
		return -ENOTUNIQ;
	}
	*number = request_of(entry, offsetof(struct pending_request, by_id))->fence.fence_id;
	return 1;
}
