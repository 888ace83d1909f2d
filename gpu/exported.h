/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EXPORTED_H
#define EXPORTED_H

/*
 * Resources whose memory others have as a dma-buf, and the fences on it: implicit synchronisation.
 * Who uses the buffer on the host may put fences on it, and waits for those that are there. So
 *
 * - a submission of a context that has the resource waits for what is on the buffer then, as for
 *   any in-fence. Fences of earlier work of the guest's are among that;
 * - its own fence is put on the buffer, if fences of such work are sync files. One that gets its
 *   sync file later is there from then on.
 *
 * A submission may read or write: it counts as a writer. One without a fence leaves none.
 *
 * Each submission looks at all of these resources, and at no other. So there are few: those that a
 * display asked for last. What has not been asked for while so many others were is no longer shown
 * anywhere, and is forgotten. It is entered again when it is.
 */

#include <stdint.h>

#include "queue.h"
#include "renderer.h"

struct exported;
struct gpu;
struct pending_request;
struct resource;

/* Four for each scanout: shown, on its way, leaving, drawn. Each takes a descriptor. */
#define MAX_EXPORTED 64u

struct exports {
	TAILQ_HEAD(, exported) list; /* what was asked for last is last */
	uint32_t count;
};

void exports_init(struct gpu *gpu);

/* The memory that was entered: a new descriptor for the caller. Returns 0; -ENOENT; -EMFILE. */
int exported_get(struct gpu *gpu, struct resource *resource, struct renderer_dma_buf *memory);

/* Enters it. memory: copied. Returns 0; -ENOMEM; -EMFILE. */
int exported_enter(
	struct gpu *gpu, struct resource *resource, const struct renderer_dma_buf *memory);

/* Its memory is the resource's no more. */
void exported_forget(struct gpu *gpu, struct resource *resource);
void exports_reset(struct gpu *gpu);

/* What a submission of a context has to wait for, in one sync file that is the caller's. serial: of
 * the context. Returns that; -ENOENT if there is nothing; -EMFILE, -ENFILE, -ENOMEM. */
int exported_get_fence(struct gpu *gpu, uint64_t serial);

/* A submission will retire its fence. */
void exported_put_fence(struct gpu *gpu, const struct pending_request *submission);

#endif
