/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SHOWN_H
#define SHOWN_H

/*
 * Frames of scanouts, which a display shows and then says so (gpu_tell_shown). A flush with a fence
 * waits for that: for its own frame on each scanout that it is shown on, whatever other frames and
 * scanouts wait for. So its response says that what was shown before it is read no more. One
 * without a fence waits for nothing, as its guest asks for nothing.
 *
 * A display that does not say so is given up on, for that frame, gpu_options' display_ceiling_ms
 * after it is drawn. One that has taken a frame before that cannot show it any sooner. What waits
 * for a scanout stands in the order of its frames; the display is given up on in the order in which
 * they are drawn.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

#include "queue.h"

struct frame_wait;
struct gpu;
struct gpu_buffer;
struct pending_request;

struct frames {
	uint64_t last;    /* that a display was told of; they are numbered from 1 on */
	uint64_t shown;   /* this one, and each before it */
	bool is_late;     /* the display was given up on, and has said nothing since */
	uint64_t renewed; /* of flushes up to this arrival it has nothing that it took */
	TAILQ_HEAD(, frame_wait) waits, drawn; /* all; and those of them that may be late */
};

void shown_init(struct gpu *gpu);

/* Gives the display a rectangle of the scanout as its next frame. Returns its number, or 0 if the
 * display will not tell when it is shown. */
uint64_t shown_give(struct gpu *gpu, uint32_t scanout, const struct virtio_gpu_rect *rect);

/* Offers the same before it is drawn. If the display takes it, it owns what is in the buffer. */
uint64_t shown_offer(struct gpu *gpu, uint32_t scanout, const struct virtio_gpu_rect *rect,
	const struct gpu_buffer *buffer);

/* A flush is shown as this frame. It waits until the display has shown that, if it has a fence and
 * the display has not shown it already. */
void shown_await(struct pending_request *flush, uint32_t scanout, uint64_t frame);

/* All that a flush shows is drawn, or will not be: from now on its displays may be late. */
void shown_is_drawn(struct pending_request *flush);

/* This one waits for no frame any more. */
void shown_drop(struct pending_request *flush);

/* Whether a display took the flush before it was drawn, and still has it. */
bool shown_is_taken(const struct pending_request *flush, uint32_t scanout);

/* A display begins anew with the scanout: what was taken before is given again when it is drawn. */
void shown_renew(struct gpu *gpu, uint32_t scanout);

/* What the display shows on the scanout is not the guest's any more: nothing waits for it, and it
 * begins anew. */
void shown_end(struct gpu *gpu, uint32_t scanout);

/* The same for every scanout. */
void shown_end_all(struct gpu *gpu);

/* What a display has told from inside a callback takes effect: at the end of the device's calls. */
void shown_settle(struct gpu *gpu);

/* For how long a display is waited for. */
uint64_t shown_ceiling_ns(const struct gpu *gpu);

/* The timeout of a wait, in milliseconds, that ends with that: timeout_ms, or less. */
int shown_until(uint64_t end_ns, uint64_t now, int timeout_ms);

/* Gives up on what is late. How long to wait for the next that may be: timeout_ms, or less. */
int shown_timeout(struct gpu *gpu, int timeout_ms);

#endif
