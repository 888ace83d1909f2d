/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fence_table.h"

#define MIN_BUCKETS 256

/* Fences of one ID share a bucket, so their number bounds what a look-up costs. As many timelines
 * as a context has rings is more than a guest that counts IDs per timeline has in use at once. */
#define MAX_SAME_ID VGF_MAX_RINGS

/* ---- The table ---------------------------------------------------------------------------- */

/*
 * Eight consecutive IDs are neighbours, because a guest that counts its fences names recent ones:
 * one cache line of buckets serves several look-ups. The blocks of eight are scattered.
 */
static struct fence **bucket_of(const struct fence_table *table, uint64_t id)
{
	uint64_t block = hash(&table->key, id >> 3);

	return &table->buckets[((block << 3) | (id & 7)) & table->mask];
}

int fence_table_init(struct fence_table *table)
{
	*table = (struct fence_table){ .mask = MIN_BUCKETS - 1 };
	hash_key_init(&table->key);
	table->buckets = calloc(MIN_BUCKETS, sizeof(struct fence *));
	if (!table->buckets) {
		return -ENOMEM;
	}
	TAILQ_INIT(&table->ready);
	TAILQ_INIT(&table->unwatched);
	TAILQ_INIT(&table->busy);
	STAILQ_INIT(&table->retired);
	STAILQ_INIT(&table->garbage);
	table->tracer.pending = &table->count;
	table->tracer.fds = &table->fds;
	return 0;
}

void fence_table_finish(struct fence_table *table)
{
	assert(table->kept == 0 && STAILQ_EMPTY(&table->garbage) && SLIST_EMPTY(&table->detached));
	free(table->buckets);
}

/* Without memory to grow the table only gets slower, so that is no error. */
static void grow(struct fence_table *table)
{
	size_t old_count = table->mask + 1;
	struct fence **old = table->buckets;
	struct fence **buckets = calloc(2 * old_count, sizeof(struct fence *));

	if (!buckets) {
		return;
	}
	table->buckets = buckets;
	table->mask = 2 * old_count - 1;
	for (size_t i = 0; i < old_count; i++) {
		struct fence *next;
		for (struct fence *fence = old[i]; fence; fence = next) {
			struct fence **bucket = bucket_of(table, fence->id);
			next = fence->hash_next;
			fence->hash_next = *bucket;
			*bucket = fence;
		}
	}
	free(old);
}

/* ---- Making and adding -------------------------------------------------------------------- */

void timeline_init(struct timeline *timeline, uint32_t ctx_id, int32_t ring)
{
	*timeline = (struct timeline){ .ctx_id = ctx_id, .ring = ring };
	STAILQ_INIT(&timeline->fences);
}

void timeline_forget_ids(struct timeline *timeline)
{
	timeline->next_id = 0;
	timeline->unordered_end = 0;
}

struct fence *fence_create(const struct vgf_fence_name *name, uint32_t flags, void *cookie)
{
	struct fence *fence = malloc(sizeof(*fence));

	if (!fence) {
		return NULL;
	}
	*fence = (struct fence){
		.id = name->fence_id,
		.ctx_id = name->ctx_id,
		.flags = flags & CALLERS_FLAGS,
		.cookie = cookie,
		.references = 1,
		.fd = -1,
	};
	waiters_init(&fence->waiters);
	return fence;
}

struct imported {
	struct fence fence; /* first: freeing it frees both */
	struct timeline timeline;
};

struct fence *fence_import(uint32_t ctx_id, int fence_fd)
{
	struct imported *imported = malloc(sizeof(*imported));

	if (!imported) {
		return NULL;
	}
	timeline_init(&imported->timeline, ctx_id, RING_IMPORTED);
	imported->fence = (struct fence){
		.id = VGF_NO_FENCE_ID,
		.timeline = &imported->timeline,
		.ctx_id = ctx_id,
		.flags = FENCE_IMPORTED,
		.references = 1,
		.fd = fence_fd,
	};
	waiters_init(&imported->fence.waiters);
	return &imported->fence;
}

int fence_table_check(
	const struct fence_table *table, const struct timeline *timeline, uint64_t fence_id)
{
	unsigned int same_id = 0;

	/* The last ID is left out so that there is always one above. */
	if (fence_id < timeline->next_id || fence_id == UINT64_MAX) {
		return -EINVAL;
	}
	for (struct fence *fence = *bucket_of(table, fence_id); fence; fence = fence->hash_next) {
		same_id += fence->id == fence_id;
	}
	return same_id < MAX_SAME_ID ? 0 : -ENOSPC;
}

static void append(struct fence_table *table, struct fence *fence, uint64_t now_ns)
{
	struct timeline *timeline = fence->timeline;

	table->kept++;
	fence->created_ns = now_ns;
	if (STAILQ_EMPTY(&timeline->fences)) {
		timeline->since_ns = now_ns;
		timeline->checked_ns = now_ns;
		TAILQ_INSERT_TAIL(&table->busy, timeline, busy_link);
	}
	STAILQ_INSERT_TAIL(&timeline->fences, fence, link);
}

void fence_table_add_imported(
	struct fence_table *table, struct fence_owner *owner, struct fence *fence, uint64_t now_ns)
{
	int fence_fd = fence->fd;

	fence->owner = owner;
	owner->pending++;
	append(table, fence, now_ns);
	fence->fd = -1;
	fence_publish(table, fence, fence_fd);
}

/* Whether it is done in the order of its ring: work is, and so is a descriptor that a VMM puts
 * there; not what a VMM signals by call, and not what stands for somebody's message. */
static bool has_order(const struct fence *fence)
{
	return fence->timeline->ring != VGF_RING_GLOBAL && (fence->flags & FENCE_WORK) &&
		!(fence->flags & VGF_PATIENT);
}

static void note_order(struct timeline *timeline, struct fence *fence)
{
	const struct fence *oldest = STAILQ_FIRST(&timeline->fences);
	const struct fence *last = STAILQ_LAST(&timeline->fences, fence, link);
	bool ends_order = last && !has_order(last) &&
		(timeline->ring == VGF_RING_GLOBAL || !(last->flags & FENCE_SIGNALLED));

	if (last && (ends_order || last->owner != fence->owner)) {
		timeline->unordered_end = last->id + 1;
	}
	if (oldest && (oldest->id < timeline->unordered_end || !has_order(fence))) {
		fence->flags |= FENCE_BEHIND;
	}
}

void fence_table_add(
	struct fence_table *table, struct timeline *timeline, struct fence *fence, uint64_t now_ns)
{
	struct fence **bucket;

	if (table->count > table->mask) {
		grow(table);
	}
	bucket = bucket_of(table, fence->id);
	fence->hash_next = *bucket;
	*bucket = fence;
	if (++table->count > table->peak_count) {
		table->peak_count = table->count;
	}
	if (fence->id >= table->next_id) {
		table->next_id = fence->id + 1;
	}
	if (fence->owner) {
		fence->owner->pending++;
	}

	fence->timeline = timeline;
	timeline->next_id = fence->id + 1;
	note_order(timeline, fence);
	append(table, fence, now_ns);
}

/* ---- Finding ------------------------------------------------------------------------------ */

int fence_table_look_up(const struct fence_table *table, uint64_t fence_id, struct fence **found)
{
	*found = NULL;
	if (fence_id >= table->next_id) {
		return -ENOENT;
	}
	for (struct fence *fence = *bucket_of(table, fence_id); fence; fence = fence->hash_next) {
		if (fence->id != fence_id) {
			continue;
		}
		if (*found) {
			return -ENOTUNIQ;
		}
		*found = fence;
	}
	return 0;
}

struct fence *fence_table_find(const struct fence_table *table, const struct vgf_fence_name *name)
{
	struct fence *fence = *bucket_of(table, name->fence_id);

	while (fence &&
		(fence->id != name->fence_id || fence->timeline->ring != name->ring ||
			(name->ring >= 0 && fence->ctx_id != name->ctx_id))) {
		fence = fence->hash_next;
	}
	return fence;
}

static void table_remove(struct fence_table *table, struct fence *fence)
{
	struct fence **place = bucket_of(table, fence->id);

	while (*place != fence) {
		place = &(*place)->hash_next;
	}
	*place = fence->hash_next;
	table->count--;
}

/* ---- States ------------------------------------------------------------------------------- */

static struct timeline_list *state_list(struct fence_table *table, enum timeline_state state)
{
	switch (state) {
	case TIMELINE_READY:
		return &table->ready;
	case TIMELINE_UNWATCHED:
		return &table->unwatched;
	case TIMELINE_IDLE:
		break;
	}
	return NULL;
}

void timeline_update(struct fence_table *table, struct timeline *timeline)
{
	struct fence *oldest = STAILQ_FIRST(&timeline->fences);
	enum timeline_state state = TIMELINE_IDLE;

	if (oldest && (oldest->flags & FENCE_SIGNALLED)) {
		state = TIMELINE_READY;
	} else if (oldest && oldest->fd >= 0 && !(oldest->flags & FENCE_WATCHED)) {
		state = TIMELINE_UNWATCHED;
	}
	if (state == timeline->state) {
		return;
	}
	if (timeline->state != TIMELINE_IDLE) {
		TAILQ_REMOVE(state_list(table, timeline->state), timeline, state_link);
	}
	timeline->state = state;
	if (state != TIMELINE_IDLE) {
		TAILQ_INSERT_TAIL(state_list(table, state), timeline, state_link);
	}
}

bool fence_is_oldest(const struct fence *fence)
{
	return fence == STAILQ_FIRST(&fence->timeline->fences);
}

bool fence_has_file(const struct fence *fence)
{
	return fence->fd >= 0 && !(fence->flags & FENCE_SIGNALLED);
}

bool fence_is_handed(const struct fence *fence)
{
	return (fence->flags & (FENCE_HANDED | FENCE_SIGNALLED)) == FENCE_HANDED && fence->fd < 0;
}

bool fence_stands_alone(const struct fence *fence)
{
	return !(fence->flags & FENCE_BEHIND);
}

/* ---- Signalling and retiring -------------------------------------------------------------- */

/* Of what tells whether a driver can wait for the fence. Returns how many wait for it. */
static uint32_t change(struct fence_table *table, struct fence *fence, uint32_t flags, int fd)
{
	uint32_t told = waiters_tell(&fence->waiters, table->notify, WAITER_CHANGES);

	fence->flags = flags;
	fence->fd = fd;
	waiters_tell(&fence->waiters, table->notify, WAITER_CHANGED);
	table->told += told;
	return told;
}

static void tell_signal(const struct fence_table *table, const struct fence *fence)
{
	const struct vgf_fence_name name = fence_name(fence);

	if (!(fence->flags & FENCE_IMPORTED)) {
		trace_signal(&table->tracer, &name, fence->status);
	}
}

void fence_signal(struct fence_table *table, struct fence *fence, int status)
{
	assert(!(fence->flags & FENCE_SIGNALLED) && status <= 0);
	if (fence_has_file(fence) || fence_is_handed(fence)) {
		table->told += waiters_tell(&fence->waiters, table->notify, WAITER_SIGNALS);
	}
	fence->flags |= FENCE_SIGNALLED;
	fence->status = status;
	tell_signal(table, fence);
	if (fence_is_oldest(fence)) {
		timeline_update(table, fence->timeline);
	}
}

static void count_fd(struct fence_table *table, const struct fence *fence)
{
	if (++table->fds > table->peak_fds) {
		table->peak_fds = table->fds;
	}
	if (fence->owner) {
		fence->owner->fds++;
	}
}

static void uncount_fd(struct fence_table *table, const struct fence *fence)
{
	table->fds--;
	if (fence->owner) {
		fence->owner->fds--;
		table->relieve(fence->owner);
	}
}

void fence_hand(struct fence_table *table, struct fence *fence)
{
	assert(fence->fd < 0 && !(fence->flags & FENCE_SIGNALLED));
	change(table, fence, fence->flags | FENCE_HANDED, fence->fd);
}

void fence_publish(struct fence_table *table, struct fence *fence, int fence_fd)
{
	assert(fence->fd < 0 && !(fence->flags & FENCE_SIGNALLED));
	change(table, fence, fence->flags & ~(uint32_t)FENCE_HANDED, fence_fd);
	count_fd(table, fence);
	if (fence_is_oldest(fence)) {
		timeline_update(table, fence->timeline);
	}
}

void fence_attach(struct fence_table *table, struct fence *fence, struct attachment *attachment)
{
	count_fd(table, fence);
	SLIST_INSERT_HEAD(&fence->attachments, attachment, link);
}

struct attachment *fence_detach(struct fence_table *table, struct fence *fence)
{
	struct attachment *attachment = SLIST_FIRST(&fence->attachments);

	if (attachment) {
		uncount_fd(table, fence);
		SLIST_REMOVE_HEAD(&fence->attachments, link);
		SLIST_INSERT_HEAD(&table->detached, attachment, link);
	}
	return attachment;
}

void fence_forget_file(struct fence_table *table, struct fence *fence)
{
	change(table, fence, fence->flags, -1);
	uncount_fd(table, fence);
}

static uint32_t retire(struct fence_table *table, struct fence *fence)
{
	struct fence *next = STAILQ_NEXT(fence, link);
	uint32_t told;

	STAILQ_REMOVE_HEAD(&fence->timeline->fences, link);
	if (!(fence->flags & FENCE_IMPORTED)) {
		const struct vgf_fence_name name = fence_name(fence);
		table_remove(table, fence);
		trace_retire(&table->tracer, &name, fence->status);
	}
	fence->flags |= FENCE_RETIRED;
	if ((fence->flags & VGF_MERGEABLE) && fence->status == 0 && next &&
		(next->flags & FENCE_SIGNALLED)) {
		fence->flags |= FENCE_MERGED;
	}
	told = waiters_let_go(&fence->waiters, table->notify);
	if (next && (next->flags & FENCE_BEHIND)) {
		told += change(table, next, next->flags & ~(uint32_t)FENCE_BEHIND, next->fd);
	}
	STAILQ_INSERT_TAIL(&table->retired, fence, link);
	return 1 + told / WAITERS_PER_COST;
}

static void busy_move(struct fence_table *table, struct timeline *timeline, uint64_t now_ns)
{
	TAILQ_REMOVE(&table->busy, timeline, busy_link);
	if (!STAILQ_EMPTY(&timeline->fences)) {
		timeline->checked_ns = now_ns;
		TAILQ_INSERT_TAIL(&table->busy, timeline, busy_link);
	}
}

uint32_t timeline_advance(
	struct fence_table *table, struct timeline *timeline, uint64_t now_ns, uint32_t max)
{
	struct fence *oldest;
	uint32_t cost = 0;

	assert(timeline->state == TIMELINE_READY);
	while ((oldest = STAILQ_FIRST(&timeline->fences)) && (oldest->flags & FENCE_SIGNALLED) &&
		cost < max) {
		cost += retire(table, oldest);
	}
	if (oldest && oldest->submission) {
		table->come_forward(oldest->submission);
	}
	timeline->since_ns = now_ns;
	busy_move(table, timeline, now_ns);
	TAILQ_REMOVE(&table->ready, timeline, state_link);
	timeline->state = TIMELINE_IDLE;
	timeline_update(table, timeline);
	return cost;
}

void timeline_checked(struct fence_table *table, struct timeline *timeline, uint64_t now_ns)
{
	busy_move(table, timeline, now_ns);
}

/* ---- References and garbage --------------------------------------------------------------- */

struct fence *fence_ref(struct fence *fence)
{
	fence->references++;
	return fence;
}

void fence_unref(struct fence_table *table, struct fence *fence)
{
	assert(fence->references > 0);
	if (--fence->references > 0) {
		return;
	}
	while (fence_detach(table, fence)) {
	}
	if (fence->fd >= 0) {
		uncount_fd(table, fence);
	}
	table->kept--;
	STAILQ_INSERT_TAIL(&table->garbage, fence, link);
	if (fence->owner && --fence->owner->pending == 0) {
		table->release(fence->owner);
	}
}

void fence_discard(struct fence_table *table, struct fence *fence)
{
	STAILQ_INSERT_TAIL(&table->garbage, fence, link);
}

void attachment_free(struct attachment *attachment)
{
	close(attachment->dma_buf_fd);
	free(attachment);
}

void attachment_free_list(struct attachment_list *garbage)
{
	struct attachment *attachment;

	while ((attachment = SLIST_FIRST(garbage))) {
		SLIST_REMOVE_HEAD(garbage, link);
		attachment_free(attachment);
	}
}

void fence_free_list(struct fence_list *garbage)
{
	struct fence *fence;

	while ((fence = STAILQ_FIRST(garbage))) {
		STAILQ_REMOVE_HEAD(garbage, link);
		if (fence->fd >= 0) {
			close(fence->fd);
		}
		free(fence);
	}
}

struct vgf_fence_name fence_name(const struct fence *fence)
{
	return (struct vgf_fence_name){
		.fence_id = fence->id,
		.ctx_id = fence->ctx_id,
		.ring = fence->timeline->ring,
	};
}
