/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>

#include "queue.h"
#include "vgem.h"
#include "vgem_pool.h"

/* As many as a virtqueue usually has room for: a guest that fills it makes no new ones. */
#define MAX_IDLE 256

struct vgem_slot {
	SLIST_ENTRY(vgem_slot) link; /* among the idle, or those left */
	struct vgem_pool *pool;
	uint32_t buffer;
	uint32_t fence;
	int dma_buf_fd;
	bool pending;
};

SLIST_HEAD(vgem_slots, vgem_slot);

struct vgem_pool {
	int vgem_fd;
	pthread_mutex_t lock; /* protects what follows */
	struct vgem_slots idle;
	struct vgem_slots left; /* pending fences, without their buffers */
	unsigned int num_idle, num_taken;
};

/* ---- Slots ---------------------------------------------------------------------------------- */

static void slot_destroy_buffer(struct vgem_slot *slot)
{
	close(slot->dma_buf_fd);
	vgem_buffer_destroy(slot->pool->vgem_fd, slot->buffer);
}

static void slot_destroy(struct vgem_slot *slot)
{
	slot_destroy_buffer(slot);
	free(slot);
}

static int slot_create(struct vgem_pool *pool, struct vgem_slot **out)
{
	struct vgem_slot *slot = calloc(1, sizeof(*slot));
	int ret;

	if (slot == NULL) {
		return -ENOMEM;
	}
	slot->pool = pool;
	ret = vgem_buffer_create(pool->vgem_fd, &slot->buffer);
	if (ret < 0) {
		free(slot);
		return ret;
	}
	slot->dma_buf_fd = vgem_buffer_export(pool->vgem_fd, slot->buffer);
	if (slot->dma_buf_fd < 0) {
		ret = slot->dma_buf_fd;
		vgem_buffer_destroy(pool->vgem_fd, slot->buffer);
		free(slot);
		return ret;
	}
	*out = slot;
	return 0;
}

/* Puts a fence on an idle buffer, and makes it a sync file. */
static int slot_arm(struct vgem_slot *slot)
{
	int ret = vgem_attach(slot->pool->vgem_fd, slot->buffer, true, &slot->fence);

	if (ret < 0) {
		return ret;
	}
	slot->pending = true;
	ret = vgf_dma_buf_export_sync_file(slot->dma_buf_fd, VGF_ACCESS_READ);
	if (ret < 0) {
		/* Nobody has seen it, and the buffer is idle again. */
		vgem_slot_signal(slot);
	}
	return ret;
}

int vgem_slot_signal(struct vgem_slot *slot)
{
	slot->pending = false;
	return vgem_signal(slot->pool->vgem_fd, slot->fence);
}

/* ---- The pool ------------------------------------------------------------------------------- */

int vgem_pool_create(struct vgem_pool **out)
{
	struct vgem_pool *pool = calloc(1, sizeof(*pool));
	struct vgem_slot *slot;
	int fence_fd, ret;

	if (pool == NULL) {
		return -ENOMEM;
	}
	pool->vgem_fd = vgem_open();
	if (pool->vgem_fd < 0) {
		ret = pool->vgem_fd;
		free(pool);
		return ret;
	}
	pthread_mutex_init(&pool->lock, NULL);
	/* Better to find out here than with a guest's first job. */
	ret = vgem_pool_take(pool, &slot, &fence_fd);
	if (ret < 0) {
		vgem_pool_destroy(pool);
		return ret;
	}
	close(fence_fd);
	vgem_slot_signal(slot);
	vgem_slot_put(slot);
	*out = pool;
	return 0;
}

void vgem_pool_destroy(struct vgem_pool *pool)
{
	struct vgem_slot *slot;

	if (pool == NULL) {
		return;
	}
	assert(pool->num_taken == 0);
	vgem_pool_signal_left(pool);
	while ((slot = SLIST_FIRST(&pool->idle)) != NULL) {
		SLIST_REMOVE_HEAD(&pool->idle, link);
		slot_destroy(slot);
	}
	pthread_mutex_destroy(&pool->lock);
	close(pool->vgem_fd);
	free(pool);
}

static struct vgem_slot *take_idle(struct vgem_pool *pool)
{
	struct vgem_slot *slot;

	pthread_mutex_lock(&pool->lock);
	pool->num_taken++;
	slot = SLIST_FIRST(&pool->idle);
	if (slot != NULL) {
		SLIST_REMOVE_HEAD(&pool->idle, link);
		pool->num_idle--;
	}
	pthread_mutex_unlock(&pool->lock);
	return slot;
}

/* slot: NULL if none could be made. */
static void put(struct vgem_pool *pool, struct vgem_slot *slot)
{
	bool keep;

	pthread_mutex_lock(&pool->lock);
	pool->num_taken--;
	keep = slot != NULL && pool->num_idle < MAX_IDLE;
	if (keep) {
		SLIST_INSERT_HEAD(&pool->idle, slot, link);
		pool->num_idle++;
	}
	pthread_mutex_unlock(&pool->lock);
	if (slot != NULL && !keep) {
		slot_destroy(slot);
	}
}

int vgem_pool_take(struct vgem_pool *pool, struct vgem_slot **out, int *fence_fd)
{
	struct vgem_slot *slot = take_idle(pool);
	int ret = slot == NULL ? slot_create(pool, &slot) : 0;

	if (ret == 0) {
		ret = slot_arm(slot);
	}
	if (ret < 0) {
		put(pool, slot);
		return ret;
	}
	*fence_fd = ret;
	*out = slot;
	return 0;
}

/* A buffer with a pending fence takes no other one. */
static void leave(struct vgem_pool *pool, struct vgem_slot *slot)
{
	slot_destroy_buffer(slot);
	pthread_mutex_lock(&pool->lock);
	pool->num_taken--;
	SLIST_INSERT_HEAD(&pool->left, slot, link);
	pthread_mutex_unlock(&pool->lock);
}

void vgem_slot_put(struct vgem_slot *slot)
{
	if (slot->pending) {
		leave(slot->pool, slot);
	} else {
		put(slot->pool, slot);
	}
}

void vgem_pool_signal_left(struct vgem_pool *pool)
{
	struct vgem_slots left;
	struct vgem_slot *slot;

	pthread_mutex_lock(&pool->lock);
	left = pool->left;
	SLIST_INIT(&pool->left);
	pthread_mutex_unlock(&pool->lock);
	while ((slot = SLIST_FIRST(&left)) != NULL) {
		SLIST_REMOVE_HEAD(&left, link);
		vgem_slot_signal(slot);
		free(slot);
	}
}
