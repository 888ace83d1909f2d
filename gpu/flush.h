/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FLUSH_H
#define FLUSH_H

/*
 * A flush shows what was drawn before it, so it waits for that: for work that is held back or runs,
 * and for transfers that are held back. Meanwhile what was shown before stays. It waits for nothing
 * that came later, so nothing waits in a circle. Only what is behind its own fence waits for it.
 */

#include <stdint.h>

#include <linux/virtio_gpu.h>

struct gpu;
struct pending_request;
struct request;
struct resource;

/* Flushes a rectangle of the resource when it can. Returns the response, or RESPONSE_LATER. */
uint32_t flush_resource(struct gpu *gpu, struct request *request, const struct resource *resource,
	const struct virtio_gpu_rect *rect);

/* A request that is handled may draw, and is not done yet: flushes that come later wait for it. */
void flushes_await(struct gpu *gpu, struct pending_request *pending);

/* A request is completed: flushes that waited for it go on. */
void flushes_continue(struct gpu *gpu, struct pending_request *pending);

/* This one waits no longer. */
void flush_give_up(struct pending_request *pending);

#endif
