/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CONTEXT_H
#define CONTEXT_H

/*
 * A context of the guest's virtio-gpu, with a buffer that its jobs write to. A job keeps its ring
 * busy for a time, and then, before its fence signals, writes a value to a slot of the buffer, or
 * does what its words say. So whoever finds the fence signalled must find the value too.
 *
 * What fails ends the program.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtgpu_uapi.h"

#define CONTEXT_NUM_SLOTS 32768u
#define CONTEXT_MAX_WORDS 32u

struct context {
	int fd; /* of the render node: each opening of it is a context */
	bool passing;
	uint32_t resource, handle; /* the buffer, as the host and as the kernel call it */
	volatile uint32_t *slots;
};

struct context_job {
	uint32_t ring;
	uint32_t busy_us;
	uint32_t slot, value;
	const uint32_t *words; /* of the command stream, in place of the value; or NULL */
	uint32_t num_words;    /* CONTEXT_MAX_WORDS at most */
	int in_fence_fd;       /* or -1 */
	uint32_t handle;       /* of a buffer that is given the job's fence, or 0 */
	bool private_fence; /* even with fence passing, only this context may name the out-fence */
	const struct uapi_syncobj *in_syncobj, *out_syncobj; /* one each, or NULL */
};

/* Whether the descriptor is of its driver. */
bool is_virtio_gpu(int fd);

/* Opens the render node of a virtio-gpu device, counted from 0, without making a context. Negative
 * where there is no such device; but there is a first one. */
int open_render_node(uint32_t device);

/* Whether the kernel and the device have fence passing. */
bool has_fence_passing(void);

/* Whether the kernel passes fences of all contexts, as its parameter says, or of those that ask. */
bool passes_all(void);

/* Whether the guest has a window into memory of the host. */
bool has_host_memory(void);

/* Buffers of contexts are blobs of the host's memory, mapped in that window: set by main. */
extern bool use_host_memory;

/* A blob, of the guest's memory or of the host's, and what it is called. NULL, with errno set, if
 * it cannot be made or mapped. Closing the handle ends the blob; unmapping is the caller's. */
struct blob {
	uint32_t resource, handle; /* as the host and as the kernel call it */
	size_t size;
};
void *blob_make(int fd, bool host_memory, size_t size, struct blob *blob);
void blob_close(int fd, const struct blob *blob);

/* One of the host's memory that the guest does not map, for which it needs no window. Returns 0 or
 * a negative errno value. */
int blob_make_unmapped(int fd, size_t size, struct blob *blob);

/* What a context's command streams are for. */
enum {
	CAPSET_VIRGL2 = 2,
	CAPSET_DRM = 6, /* here: the software GPU's */
};

/* Returns 0 or a negative errno value, as the kernel says. */
int context_init(int fd, uint32_t capset, uint32_t num_rings, bool passing);

/* Of the first device, or of another. */
void context_open(struct context *context, uint32_t num_rings, bool passing);
void context_open_on(struct context *context, uint32_t device, uint32_t num_rings, bool passing);
void context_close(struct context *context); /* its buffer stays mapped */
void context_unmap(struct context *context);

/* Submits a job. out_fence_fd: where its sync file goes, or NULL for none. */
void context_submit(struct context *context, const struct context_job *job, int *out_fence_fd);

/* The same, but returns what the kernel says: 0 or a negative errno value. */
int context_try_submit(struct context *context, const struct context_job *job, uint32_t extra_flags,
	int *out_fence_fd);

/* A new sync file for both. */
int merge_fences(int a_fd, int b_fd);

/* Whether it has signalled, after at most timeout_ms. */
bool wait_fence(int fd, int timeout_ms);

/* Of one that has signalled: 1 if it was successful, else a negative errno value. */
int fence_status(int fd);

#endif
