/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef MONITORS_H
#define MONITORS_H

/*
 * What a guest is told of its monitors: what the front end's display says, or the options. A
 * guest's questions wait for the display's answers, one after the other.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

#include "queue.h"

struct gpu;
struct pending_request;

struct monitors {
	struct virtio_gpu_display_one modes[VIRTIO_GPU_MAX_SCANOUTS]; /* in the host's byte order */
	uint32_t num_scanouts;                                        /* which the guest may use */
	bool told;     /* the guest has been told modes */
	bool notified; /* of others, and has neither cleared that event nor asked since */
	bool changed;  /* once more, while the event was set */
	/* A bit for each whose EDID the guest has been told: of the modes as they are; of earlier
	 * ones, which it has not been notified of since it was told. */
	uint32_t told_edids, old_edids;
	TAILQ_HEAD(, pending_request) questions;
	struct pending_request *edid_asked; /* the one whose EDID the display is asked for */
};

/* As the options say. */
void monitors_init(struct gpu *gpu);

/* The guest clears these events. What has changed meanwhile, and it has not asked for, is one more:
 * so there is one notification at a time, however often a display has other monitors. */
void monitors_clear_events(struct gpu *gpu, uint32_t events);

/* There is another one now, which knows nothing yet. */
void monitors_forget_guest(struct gpu *gpu);

/* All questions are answered with what is known. For a display that cannot answer now. */
void monitors_give_up(struct gpu *gpu);

/* This one's is dropped, without an answer. */
void monitors_drop(struct gpu *gpu, struct pending_request *pending);

#endif
