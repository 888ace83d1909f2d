/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PENDING_H
#define PENDING_H

/*
 * Requests that are not completed: a place for each token of each queue, and those with a fence by
 * its name. Nothing is allocated for a request.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>
#include <vgfence/fence.h>

#include "gpu.h"
#include "hash.h"
#include "queue.h"

struct backing;
struct resource;

/* What a flush is of, in the host's byte order. */
struct flush {
	uint32_t resource_id;
	struct virtio_gpu_rect rect;
};

struct pending_request {
	LIST_ENTRY(pending_request) link; /* among the fences of its bucket */
	struct gpu *gpu;
	bool used; /* not completed */
	struct gpu_request request;
	uint32_t seq; /* in the recording; 0: not recorded */

	bool has_header; /* otherwise nothing is answered */
	bool fenced;     /* the response says so */
	struct vgf_fence_name fence;
	uint32_t type;         /* of the response; RESPONSE_LATER while it is not known */
	uint32_t payload_size; /* written behind the place of the response's header */

	/* What it waits for, apart from the end of the function that handles it. */
	bool handling;
	bool awaits_fence;
	bool awaits_renderer;
	bool awaits_drawing; /* a flush: for another request, among whose `flushes` it is */

	bool awaits_display; /* among the monitors' questions, by question_link */
	uint32_t asks_for;   /* a scanout, or all of them: monitors.c */
	TAILQ_ENTRY(pending_request) question_link;

	/* Of one that waits: it signals its fence when it is done, not the renderer. */
	bool signals_fence;

	/* Drawing, and flushes that are behind it: flush.h. */
	uint64_t arrival; /* among these */
	bool draws;
	uint32_t draws_to; /* a resource; 0: all that its context has */
	TAILQ_ENTRY(pending_request) drawing_link;
	LIST_HEAD(, pending_request) flushes; /* which wait for this one */
	LIST_ENTRY(pending_request) flush_link;
	struct flush flush;

	/* To be freed when the renderer is done. */
	struct backing *backing;
	struct resource *resource;
};

/* As many as there can be fences, so that a bucket has one or two. */
#define NUM_FENCE_BUCKETS ((size_t)GPU_NUM_QUEUES * GPU_MAX_REQUESTS)

struct pending {
	struct pending_request requests[GPU_NUM_QUEUES][GPU_MAX_REQUESTS];
	LIST_HEAD(pending_bucket, pending_request) fences[NUM_FENCE_BUCKETS];
	struct hash_key key;
	uint32_t count;
	TAILQ_HEAD(, pending_request) drawing; /* in the order in which they came */
	uint64_t num_arrivals;
};

/* What is initialized is all zeros. */
void pending_init(struct pending *pending);

/* Takes the place of a request. Returns NULL for a queue or token out of range, or not
 * completed. */
struct pending_request *pending_take(struct pending *pending, const struct gpu_request *request);
void pending_release(struct pending *pending, struct pending_request *request);

/* Makes a request known by its fence, or no longer. */
void pending_add_fence(struct pending *pending, struct pending_request *request);
void pending_remove_fence(struct pending_request *request);

/* The request with this fence, or NULL. */
struct pending_request *pending_find_fence(
	struct pending *pending, const struct vgf_fence_name *name);

#endif
