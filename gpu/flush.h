/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FLUSH_H
#define FLUSH_H

/*
 * A flush shows what was drawn before it, so it waits for that: for work that is held back or runs,
 * and for transfers that are held back; and for the in-fences that it names, if the guest passes
 * fences. Meanwhile what was shown before stays. It waits for nothing that came later, so nothing
 * waits in a circle. Only what is behind its own fence waits for it: no other flush does, also none
 * of the same resource. Each shows what the resource holds by then.
 *
 * It waits for one of its in-fences at a time, whichever, and then for the next that has not
 * signalled. So each is looked at twice in all: when the flush comes, and when it goes on.
 *
 * A display that shows memory in place may take it at once, with a sync file of all that it waits
 * for, if there is one: drawing that is held back has none, nor has that of some drivers.
 *
 * Then it is given to the displays. If it has a fence, it is answered once they have shown it:
 * shown.h. So flushes of several monitors have timelines of their own: rings of no context, which
 * nobody has to make.
 */

#include <stdint.h>

#include <linux/virtio_gpu.h>

struct gpu;
struct pending_request;
struct request;
struct resource;

/* Flushes a rectangle of the resource when it can. The IDs of num_in_fences in-fences are what is
 * left of the request. Returns the response, or RESPONSE_LATER. */
uint32_t flush_resource(struct gpu *gpu, struct request *request, const struct resource *resource,
	const struct virtio_gpu_rect *rect, uint32_t num_in_fences);

/* A request waits for what was drawn to the resource before it: awaits_drawing, or NULL if that is
 * nothing. What came first goes on first. */
void flush_follow(struct pending_request *pending, uint32_t resource_id);

/* A request that is handled may draw, and is not done yet: flushes that come later wait for it. */
void flushes_await(struct gpu *gpu, struct pending_request *pending);

/* A request is completed: what waited for it will go on, in flushes_go_on. */
void flushes_continue(struct gpu *gpu, struct pending_request *pending);

/* The fence of a request has retired: flushes that waited for it wait for another one, or will go
 * on. Before the request is completed. */
void flushes_come_forward(struct gpu *gpu, struct pending_request *pending);

/* They go on, for 5 ms and one more: flushes are shown, memory is given back. What is left is in
 * pending.going_on. Not in the middle of anything, as OpenGL may read a frame, and while that takes
 * long the guest learns of what is completed, and puts other requests in their place. */
void flushes_go_on(struct gpu *gpu);

/* If the guest passes fences, rings of no context are timelines of flushes. That what is there can
 * be an in-fence vgfence has a context 0, from here to the next reset. */
void flush_rings_open(struct gpu *gpu);

/* All scanouts that a flush is shown on have shown it: shown.h. */
void flush_is_shown(struct pending_request *pending);

/* This one waits no longer. */
void flush_give_up(struct pending_request *pending);

#endif
