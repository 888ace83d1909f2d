/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PENDING_H
#define PENDING_H

/*
 * Requests that are not completed: a place for each token of each queue; those with a fence in the
 * order of their timeline, by the guest's ID and by the device's number. Nothing is allocated for a
 * request.
 *
 * A guest may count its fences as it likes: with the same ID for all of them, on timelines of
 * contexts that are not there. So the device gives each fence a number of its own, which grows by
 * one from 1 on; the renderer and vgfence know no other. A Linux guest counts in the same way, so
 * that messages have the numbers that it knows.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>
#include <vgfence/fence.h>

#include "gpu.h"
#include "guest_limits.h"
#include "key_table.h"

struct backing;
struct hostmem_op;
struct pin;
struct resource;
struct gpu_timeline;

/* What a flush is of, in the host's byte order. */
struct flush {
	uint32_t resource_id;
	uint64_t resource_serial; /* another resource may have this ID by then */
	struct virtio_gpu_rect rect;
	uint32_t num_in_fences; /* not looked at since: the first ones in pending.in_fences */
	bool is_given;          /* displays have it */
	uint32_t taken;         /* by displays of these scanouts, a bit each, before it was drawn */
	bool is_late;           /* one of them was given up on */
};

/* What a request gives back to the guest: release.h. */
enum release_kind {
	RELEASE_NOTHING,
	RELEASE_BACKING,
	RELEASE_RESOURCE,
};

/* That a flush waits until a display has shown a frame: shown.h. */
struct frame_wait {
	struct pending_request *flush;
	uint64_t frame;
	uint64_t end_ns; /* when the display is given up on; 0: the frame is not drawn yet */
	TAILQ_ENTRY(frame_wait) link, drawn_link;
};

/* What the guest calls a fence: the response says it again. */
struct guest_fence {
	uint64_t id;
	uint32_t ctx_id;
	bool has_ring; /* otherwise it is on the device's global timeline */
	uint8_t ring;
};

struct pending_request {
	struct key_entry by_timeline, by_id, by_number;
	struct gpu *gpu;
	bool used;      /* not completed */
	bool does_more; /* counts in num_more */
	struct gpu_request request;
	uint32_t seq; /* in the recording; 0: not recorded */

	bool has_header; /* otherwise nothing is answered */
	bool fenced;     /* the response says so, and keeps its place on the timeline */
	struct guest_fence guest_fence;
	struct vgf_fence_name fence;   /* with the device's number */
	struct gpu_timeline *timeline; /* which counts it: timelines.h; or NULL */
	uint64_t accepted_ns;          /* if that is there: when it came */
	bool shareable;                /* requests of any context may have it as an in-fence */
	uint32_t type;                 /* of the response; RESPONSE_LATER while it is not known */
	uint32_t payload_size;         /* written behind the place of the response's header */

	/* What it waits for, apart from the end of the function that handles it. */
	bool handling;
	bool awaits_fence;
	bool awaits_renderer;
	bool awaits_display;   /* among the monitors' questions, by question_link */
	uint32_t awaits_shown; /* a flush: for frames of these scanouts, a bit each: frame_waits */
	/* For this one, which draws, and among whose `followers` it is; or NULL. */
	struct pending_request *awaits_drawing;
	/* A flush: for the fence of this one, among whose `waiting` it is; or NULL. */
	struct pending_request *awaited;
	bool goes_on; /* it waited for one of these two, and is in pending.going_on */
	TAILQ_ENTRY(pending_request) going_on_link;

	struct hostmem_op *awaits_hostmem; /* which the front end is asked for; or NULL */
	TAILQ_ENTRY(pending_request) question_link;
	uint32_t asks_for; /* a scanout, or all of them: monitors.c */

	/* Of one that waits: it signals its fence when it is done, not the renderer. */
	bool signals_fence;

	/* Drawing, and what is behind it, flushes too: flush.h. */
	uint64_t arrival; /* among these */
	bool draws;
	uint32_t draws_to;       /* a resource; 0: all that its context has */
	uint64_t context_serial; /* of a submission */
	uint32_t follows;        /* a resource: it waits for what draws to that */
	enum release_kind releases;
	TAILQ_ENTRY(pending_request) drawing_link;
	TAILQ_HEAD(, pending_request) followers; /* which wait for this one */
	TAILQ_ENTRY(pending_request) follower_link;
	uint64_t drawn_until; /* it goes on, and what came up to then is done; or 0 */
	TAILQ_HEAD(, pending_request) waiting; /* flushes that wait for this one's fence */
	TAILQ_ENTRY(pending_request) waiting_link;
	struct flush flush;

	/* Memory that is given back to the guest: release.h. */
	uint64_t released_serial; /* of the resource: another may have its ID by then */
	struct pin *pin;          /* that a display has; or NULL */

	/* To be freed when the renderer is done. */
	struct backing *backing;
	struct resource *resource;
};

struct pending {
	struct pending_request requests[GPU_NUM_QUEUES][GPU_MAX_REQUESTS];
	struct key_table by_timeline, by_id, by_number;
	uint32_t count;
	uint32_t num_more; /* that may do more when they are done than be completed */
	uint64_t last_number;
	uint64_t next_id; /* one above the highest ID that the guest has used */
	TAILQ_HEAD(, pending_request) drawing;  /* in the order in which they came */
	TAILQ_HEAD(, pending_request) going_on; /* what waited, in the order in which it goes on */
	uint64_t num_arrivals;
	/* Numbers of the in-fences of each flush, by token: 2 MiB, and touched by flushes that have
	 * any. */
	uint64_t in_fences[GPU_MAX_REQUESTS][MAX_IN_FENCES];
	/* Of each flush, by token and scanout: 640 KiB, and touched by those that wait. */
	struct frame_wait frame_waits[GPU_MAX_REQUESTS][VIRTIO_GPU_MAX_SCANOUTS];
};

/* As many buckets as there can be requests, so that one has one or two. */
_Static_assert(KEY_TABLE_BUCKETS == GPU_NUM_QUEUES * GPU_MAX_REQUESTS, "one for each request");

/* What is initialized is all zeros. */
void pending_init(struct pending *pending);

/* Numbers and IDs start again. */
void pending_reset(struct pending *pending);

/* Takes the place of a request. Returns NULL for a queue or token out of range, or not
 * completed. */
struct pending_request *pending_take(struct pending *pending, const struct gpu_request *request);
void pending_release(struct pending *pending, struct pending_request *request);

/* When it is done it is completed, and that is all: nothing is shown, nor given back. */
void pending_only_completes(struct pending *pending, struct pending_request *request);

/* Of a timeline, for timelines.h. */
uint64_t pending_timeline_key(const struct guest_fence *fence);

/* A request has a fence: it takes its place on the timeline, and a number. */
void pending_line_up(struct pending *pending, struct pending_request *request);

/* Whether no request before it on its timeline is pending; one without a fence is on none. */
bool pending_is_next(const struct pending_request *request);
struct pending_request *pending_after(const struct pending_request *request); /* or NULL */

/* The oldest request of a timeline, or NULL. */
struct pending_request *pending_oldest(struct pending *pending, uint64_t timeline_key);

/* The guest may name the ID from now on. */
void pending_saw_id(struct pending *pending, uint64_t id);

/* Makes a request known by its fence, or no longer. */
void pending_add_fence(struct pending *pending, struct pending_request *request);
void pending_remove_fence(struct pending *pending, struct pending_request *request);

/* The request whose fence has this number, or NULL. */
struct pending_request *pending_find_fence(struct pending *pending, uint64_t number);

/*
 * Finds the fence that a guest means by an ID. Returns 1, with its number; 0 if it has retired;
 * -ENOENT if there was none; -ENOTUNIQ if several have this ID.
 */
int pending_find_id(struct pending *pending, uint64_t id, uint64_t *number);

#endif
