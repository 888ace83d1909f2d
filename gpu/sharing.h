/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SHARING_H
#define SHARING_H

/*
 * Resources by the UUIDs that the guest had assigned to them, to name them to its other devices. A
 * VMM's other device asks the front end for a blob with memory of the host by its UUID, and that
 * asks us for the file. Only blobs with the flag USE_CROSS_DEVICE can be had so.
 */

struct gpu;
struct resource;

struct sharing {
	void *resources; /* by UUID, of tsearch: those that other devices may have */
};

/* The resource is about to end: nobody gets it any more. */
void sharing_forget(struct gpu *gpu, struct resource *resource);
void sharing_reset(struct gpu *gpu); /* likewise, of all */

#endif
