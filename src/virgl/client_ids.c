/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "client_ids.h"

#include <errno.h>
#include <pthread.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>

#include "queue.h"

/* A fence whose number is not its ID. */
struct renumbered {
	uint64_t number, id;
	STAILQ_ENTRY(renumbered) link;
};

struct client_timeline {
	uint32_t ctx_id;
	int32_t ring;
	/* Numbers: of the newest fence, of the one before, and of the newest that retired. */
	uint64_t last, before, retired;
	uint64_t untold; /* up to this one their contexts have ended */
	bool ended; /* its context has, or is not known to be there: it goes with its last fence */
	bool ended_before;                                   /* the newest fence */
	STAILQ_HEAD(renumbered_list, renumbered) renumbered; /* oldest first */
	LIST_ENTRY(client_timeline) link;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *by_name; /* a tree (search.h) */
static LIST_HEAD(, client_timeline) all;

/* The highest number of the rings' timelines that have gone, from which new ones count. While
 * anything is left of a context, be it a fence on the global timeline, the device has its rings,
 * and they go on with a new context of its ID. */
static uint64_t highest_gone;

static int compare(const void *a, const void *b)
{
	const struct client_timeline *x = a;
	const struct client_timeline *y = b;

	if (x->ctx_id != y->ctx_id) {
		return x->ctx_id < y->ctx_id ? -1 : 1;
	}
	return (x->ring > y->ring) - (x->ring < y->ring);
}

/* The global one is of no context. */
static struct client_timeline key_of(const struct vgf_fence_name *fence)
{
	bool global = fence->ring == VGF_RING_GLOBAL;

	return (struct client_timeline){ .ctx_id = global ? 0 : fence->ctx_id,
		.ring = fence->ring };
}

static struct client_timeline *find(const struct vgf_fence_name *fence)
{
	const struct client_timeline key = key_of(fence);
	void *node = tfind(&key, &by_name, compare);

	return node ? *(struct client_timeline **)node : NULL;
}

static struct client_timeline *find_or_create(const struct vgf_fence_name *fence)
{
	struct client_timeline *timeline = find(fence);

	if (timeline) {
		return timeline;
	}
	timeline = calloc(1, sizeof(*timeline));
	if (!timeline) {
		return NULL;
	}
	*timeline = key_of(fence);
	timeline->ended = true;
	if (fence->ring != VGF_RING_GLOBAL) {
		timeline->last = highest_gone;
		timeline->retired = highest_gone;
	}
	STAILQ_INIT(&timeline->renumbered);
	if (!tsearch(timeline, &by_name, compare)) {
		free(timeline);
		return NULL;
	}
	LIST_INSERT_HEAD(&all, timeline, link);
	return timeline;
}

static void timeline_free(struct client_timeline *timeline)
{
	struct renumbered *renumbered;

	tdelete(timeline, &by_name, compare);
	LIST_REMOVE(timeline, link);
	while ((renumbered = STAILQ_FIRST(&timeline->renumbered))) {
		STAILQ_REMOVE_HEAD(&timeline->renumbered, link);
		free(renumbered);
	}
	free(timeline);
}

static void free_if_done(struct client_timeline *timeline)
{
	if (!timeline->ended || timeline->retired != timeline->last) {
		return;
	}
	if (timeline->ring != VGF_RING_GLOBAL && timeline->last > highest_gone) {
		highest_gone = timeline->last;
	}
	timeline_free(timeline);
}

/* The IDs of the global timeline have 32 bits, and go on from 0 behind the highest. */
static uint64_t widen(const struct client_timeline *timeline, uint64_t id)
{
	if (timeline->ring != VGF_RING_GLOBAL) {
		return id;
	}
	return timeline->last +
		(uint64_t)(int64_t)(int32_t)((uint32_t)id - (uint32_t)timeline->last);
}

static int enter(const struct vgf_fence_name *client, uint64_t *number)
{
	struct client_timeline *timeline = find_or_create(client);
	struct renumbered *renumbered;
	uint64_t id;

	if (!timeline) {
		return -ENOMEM;
	}
	id = widen(timeline, client->fence_id);
	/* IDs above INT64_MAX are not used as numbers, so that these do not run out. */
	if (id <= timeline->last || id > INT64_MAX) {
		renumbered = malloc(sizeof(*renumbered));
		if (!renumbered) {
			free_if_done(timeline);
			return -ENOMEM;
		}
		id = timeline->last + 1;
		renumbered->number = id;
		renumbered->id = client->fence_id;
		STAILQ_INSERT_TAIL(&timeline->renumbered, renumbered, link);
	}
	timeline->before = timeline->last;
	timeline->last = id;
	timeline->ended_before = timeline->ended;
	timeline->ended = false;
	*number = id;
	return 0;
}

int client_id_enter(const struct vgf_fence_name *client, uint64_t *number)
{
	int ret;

	pthread_mutex_lock(&mutex);
	ret = enter(client, number);
	pthread_mutex_unlock(&mutex);
	return ret;
}

void client_id_drop(const struct vgf_fence_name *client, uint64_t number)
{
	struct client_timeline *timeline;
	struct renumbered *renumbered;

	pthread_mutex_lock(&mutex);
	timeline = find(client);
	if (timeline) {
		STAILQ_FOREACH(renumbered, &timeline->renumbered, link) {
			if (renumbered->number == number) {
				break;
			}
		}
		if (renumbered) {
			STAILQ_REMOVE(&timeline->renumbered, renumbered, renumbered, link);
			free(renumbered);
		}
		timeline->last = timeline->before;
		if (timeline->untold > timeline->last) {
			timeline->untold = timeline->last;
		}
		/* A guest may name all contexts and rings that there are not. */
		timeline->ended = timeline->ended_before;
		free_if_done(timeline);
	}
	pthread_mutex_unlock(&mutex);
}

/* Forgets all up to a number. Returns the VMM's ID for that. */
static uint64_t take_renumbered(struct client_timeline *timeline, uint64_t number)
{
	struct renumbered *renumbered;
	uint64_t id = number;

	while ((renumbered = STAILQ_FIRST(&timeline->renumbered)) && renumbered->number <= number) {
		STAILQ_REMOVE_HEAD(&timeline->renumbered, link);
		id = renumbered->number == number ? renumbered->id : id;
		free(renumbered);
	}
	return id;
}

/* Some before it were merged into it, if that was asked for. */
static uint64_t retire(struct client_timeline *timeline, uint64_t number)
{
	uint64_t id = take_renumbered(timeline, number);

	timeline->retired = number;
	free_if_done(timeline);
	return id;
}

bool client_id_retire(const struct vgf_fence_name *fence, uint64_t *id)
{
	struct client_timeline *timeline;
	bool is_told = true;

	*id = fence->fence_id;
	pthread_mutex_lock(&mutex);
	timeline = find(fence);
	if (timeline) {
		is_told = fence->fence_id > timeline->untold;
		*id = retire(timeline, fence->fence_id);
	}
	pthread_mutex_unlock(&mutex);
	return is_told;
}

uint64_t client_id_number(uint64_t id)
{
	const struct client_timeline *timeline;
	const struct renumbered *renumbered;
	uint64_t number = id;

	pthread_mutex_lock(&mutex);
	LIST_FOREACH(timeline, &all, link) {
		STAILQ_FOREACH(renumbered, &timeline->renumbered, link) {
			if (renumbered->id == id) {
				/* Of the global timeline's virglrenderer has 32 bits. */
				number = timeline->ring == VGF_RING_GLOBAL ?
					(uint32_t)renumbered->number :
					renumbered->number;
			}
		}
	}
	pthread_mutex_unlock(&mutex);
	return number;
}

void client_ids_end_context(uint32_t ctx_id)
{
	struct client_timeline *timeline, *next;

	pthread_mutex_lock(&mutex);
	for (timeline = LIST_FIRST(&all); timeline; timeline = next) {
		next = LIST_NEXT(timeline, link);
		if (timeline->ctx_id != ctx_id || timeline->ring == VGF_RING_GLOBAL) {
			continue;
		}
		timeline->ended = true;
		timeline->untold = timeline->last;
		take_renumbered(timeline, timeline->last);
		free_if_done(timeline);
	}
	pthread_mutex_unlock(&mutex);
}

void client_ids_clear(void)
{
	pthread_mutex_lock(&mutex);
	while (!LIST_EMPTY(&all)) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the list. */
		timeline_free(LIST_FIRST(&all));
	}
	highest_gone = 0;
	pthread_mutex_unlock(&mutex);
}
