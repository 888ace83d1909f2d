/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_PRIVATE_H
#define GPU_PRIVATE_H

/* What the files of the device share. */

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

#include "cursor.h"
#include "dma_buf.h"
#include "exported.h"
#include "flush.h"
#include "gpu.h"
#include "hostmem.h"
#include "pin.h"
#include "release.h"
#include "log.h"
#include "monitors.h"
#include "pending.h"
#include "buffers.h"
#include "resource.h"
#include "scanout.h"
#include "sharing.h"
#include "shown.h"
#include "timelines.h"

struct event_file;
struct guest_memory;
struct recorder;

struct gpu {
	struct gpu_callbacks callbacks;
	void *cookie;
	struct gpu_options options;
	struct renderer *renderer;
	struct guest_memory *memory; /* or NULL */
	struct recorder *recorder;   /* or NULL */
	struct event_file *events;   /* or NULL: gpu_trace_start */
	bool told_of_events;         /* that they are not written any more */
	struct log log;
	uint64_t features; /* acknowledged */
	bool fence_passing;
	uint32_t num_capsets;
	uint32_t events_read;

	struct monitors monitors;
	struct hostmem hostmem;
	struct sharing sharing;
	struct request_buffer buffer, aside_buffer;
	struct pending pending;
	struct timelines timelines;
	struct resource_table resources;
	struct exports exports;
	struct context_table contexts;
	struct scanout scanouts[VIRTIO_GPU_MAX_SCANOUTS];
	struct pins pins;
	struct frames frames[VIRTIO_GPU_MAX_SCANOUTS];
	struct cursor cursors[VIRTIO_GPU_MAX_SCANOUTS];
	struct gpu_stats stats;
	bool told_of_copies;            /* that what is shown is copied, and why */
	bool has_flush_rings;           /* flush_rings_open */
	uint64_t num_retired_in_fences; /* which vgfence did not get to see */
	uint64_t refuse_ns;             /* requests after this are; 0: none. gpu_begin_drain. */

	uint32_t num_callbacks; /* of a display's that it is in */
	uint32_t num_reads;     /* of a display, of what is shown, that it is in */
	bool reads_cursor;      /* the renderer reads the picture of one */
	bool has_told;          /* something, in one of them: shown_settle */
	bool is_draining;       /* displays can tell nothing */
	bool must_wake;         /* there is something to do, so the loop must not sleep */
};

/* Of Linux 7.2: the size of a blob is a multiple of what the configuration space says. That is what
 * Linux aligns it to anyway. */
#define VIRTIO_GPU_F_BLOB_ALIGNMENT 5
#define BLOB_ALIGNMENT 4096u

/* Of fence passing, docs/specification.md: other contexts may name the fence as an in-fence. */
#define VIRTIO_GPU_FLAG_FENCE_SHAREABLE (1u << 2)

/* ---- Requests ------------------------------------------------------------------------------- */

/* In place of a response: the renderer's `done` will tell. */
#define RESPONSE_LATER 0u

/* A request while it is handled. The pending one stays until it is completed. */
struct request {
	struct pending_request *pending;
	struct virtio_gpu_ctrl_hdr header; /* in the host's byte order */
	const uint8_t *bytes;              /* all of it, header too */
	size_t size;
	struct reader body; /* behind the header */
	uint32_t fence_flags;
	bool fence_settled; /* the fence was made, or there will be none */
};

/* Handles a command; returns the response's type (VIRTIO_GPU_RESP_...), or RESPONSE_LATER. */
typedef uint32_t command_fn(struct gpu *gpu, struct request *request);

/* Writes what follows the response's header. */
void respond(struct request *request, const void *payload, size_t size);
void respond_to(struct pending_request *pending, const void *payload, size_t size);

/* The response for a negative errno value, if nothing closer to the cause is known. */
uint32_t response_of_error(int error);

/*
 * For what the renderer may do later. begin comes before the renderer's function, which gets
 * request_done and the pending request; end gets what that returned, and returns the response.
 */
void renderer_begin(struct request *request);
void request_done(void *arg, int status);
uint32_t renderer_end(struct request *request, int ret);

/* It is done: signals its fence, if that is for it to do. status: 0, or an error. */
void signal_own_fence(struct pending_request *pending, int status);

/* Completes a request if it waits for nothing any more. */
void complete_if_done(struct pending_request *pending);

/* vgfence's callback: completes what waits for that fence alone. */
void fence_retired(void *cookie, const struct vgf_retired *retired);

/* A resource that the guest may use, or NULL. */
struct resource *find_resource(struct gpu *gpu, uint32_t id);

/*
 * Whether a command that is ahead of others, and handled while the renderer is in the middle of
 * something, needs nothing of the renderer's, nor what the renderer may be called for just now.
 * Without changing anything; the header is in the guest's byte order still.
 */
typedef bool command_aside_fn(struct gpu *gpu, const struct request *request);

/* ---- Commands ------------------------------------------------------------------------------- */

command_fn get_display_info, get_edid; /* monitors.c */
command_aside_fn display_is_free;

command_fn set_scanout, set_scanout_blob, resource_flush; /* control_display.c */

command_fn update_cursor, move_cursor; /* cursor.c */
command_aside_fn cursor_is_free;

command_fn resource_create_2d, resource_create_3d, resource_create_blob; /* control_resource.c */
command_fn resource_unref, resource_attach_backing, resource_detach_backing;
command_fn resource_assign_uuid; /* sharing.c */

command_fn resource_map_blob, resource_unmap_blob; /* hostmem.c */

command_fn transfer_to_host_2d, transfer_to_host_3d, transfer_from_host_3d; /* control_transfer.c */

command_fn get_capset_info, get_capset; /* control_context.c */
command_aside_fn capsets_are_free;
command_fn context_create, context_destroy, context_attach_resource, context_detach_resource;
command_fn submit_3d;

#endif
