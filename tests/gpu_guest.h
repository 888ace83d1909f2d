/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_GUEST_H
#define GPU_GUEST_H

/* A guest of the virtio-gpu device, for tests: memory, requests cut into pieces, responses. */

#include "support.h"

#include <linux/virtio_gpu.h>

#include "gpu.h"

/* The guest's memory begins at this address. */
#define GUEST_ADDR 0x100000u
#define GUEST_SIZE (8u << 20)

#define FENCE_PASSING_BIT 23

struct guest_response {
	bool sent, done;
	uint32_t order; /* which completion it was among all, from 1 */
	uint32_t written;
	size_t size;    /* the room that there was */
	uint8_t *bytes; /* what is in it, once done */
	struct iovec *readable, *writable;
	size_t num_readable, num_writable;
};

/* The window into memory of the host, which a front end would have. It checks what it is asked
 * for. */
struct guest_window {
	uint64_t size;
	uint8_t *memory; /* accessible where something is mapped */
	bool *mapped;    /* by page */
	bool held;       /* what is asked is answered by guest_answer alone */
	bool empty;      /* nothing is really mapped */
	int status;      /* what is answered; an error: without doing it */
	unsigned int num_maps, num_unmaps, num_mapped_pages;
	bool asked, unmaps; /* what is not answered yet */
	bool is_gone;       /* what is to be unmapped was so in a reset */
	struct gpu_mapping question;
};

#define MAX_TEST_FENCES 16
#define NO_PIXEL UINT32_MAX

struct guest {
	struct gpu *gpu;
	int memory_fd;
	uint8_t *memory; /* GUEST_SIZE bytes */
	struct guest_memory *table;
	struct guest_response responses[GPU_NUM_QUEUES][GPU_MAX_REQUESTS];
	size_t piece; /* requests and responses are cut into pieces of this size; 0: not at all */
	uint32_t num_completed;
	uint32_t next_token;
	struct vgf_fence_name held[GPU_MAX_REQUESTS]; /* of guest_hold, by token */
	int held_fd; /* above 0: what guest_hold makes is this descriptor's, an eventfd */
	uint32_t test_fences[MAX_TEST_FENCES]; /* tokens, by ID */
	uint32_t fail_nth;                     /* this allocation of each request fails; 0: none */
	bool failed;                           /* whether it did */
	bool stopped;
	unsigned int num_warnings, num_errors; /* log messages */
	char warning[256];                     /* the last one */
	const char *watched; /* NULL, or what a warning begins with: the last of them is here */
	char watched_warning[256];

	/* What a display would be told: flushes, and of the last one how many requests had been
	 * completed then, and the first pixel. */
	uint32_t num_flushes, flushed_at;
	uint32_t flushed_pixel; /* NO_PIXEL: it could not be read */

	/* A display that shows memory in place: whether it will tell of frames, and how many each
	 * scanout has had; what it does from inside the callbacks, if anything. */
	bool tells;
	uint64_t num_frames[VIRTIO_GPU_MAX_SCANOUTS];
	void (*on_flush)(uint32_t scanout, uint64_t frame);
	void (*on_leaving)(uint64_t key);
	/* Frames that it is offered before they are drawn; NULL: it takes none. */
	bool (*on_offer)(uint32_t scanout, uint64_t frame, const struct gpu_buffer *buffer);
	uint64_t leaving; /* the last key of buffer_leaving */
	unsigned int num_leaving;

	/* What a thread of the renderer's is told when a fence of its signals; NULL: that it has no
	 * turn. */
	bool (*on_take_turn)(void);
	void (*on_end_turn)(void);

	struct guest_window window;
};

/* What a guest accepts: all, but for BLOB_ALIGNMENT, as before Linux 7.2. */
uint64_t guest_features(const struct guest *guest);

/* Unless options are given: 2 scanouts of 640 by 480, fence passing, 1 MiB of host memory, and no
 * recording. The software GPU draws. */
void guest_start(struct guest *guest, const struct gpu_options *options);
void guest_start_with(
	struct guest *guest, const struct gpu_options *options, renderer_create_fn create_renderer);
void guest_stop(struct guest *guest);

/* Sends a request, and does not wait. Returns its token. */
uint32_t guest_send(struct guest *guest, enum gpu_queue queue, const void *request, size_t size,
	size_t response_size);

/* Waits until a request is completed. */
const struct guest_response *guest_wait(struct guest *guest, enum gpu_queue queue, uint32_t token);

/* The header of what came back for a completed request. */
struct virtio_gpu_ctrl_hdr guest_header(const struct guest_response *response);

/* Sends a request on the control queue with room for a header, and waits. Returns the response's
 * type, or 0 for none. */
uint32_t guest_call(struct guest *guest, const void *request, size_t size);

/* The same with room for more, which must all have been written; what is behind the header goes to
 * `payload`. */
uint32_t guest_ask(
	struct guest *guest, const void *request, size_t size, void *payload, size_t payload_size);

/* Sends a request whose fence only guest_signal signals, on a ring or VGF_RING_GLOBAL; other
 * contexts may name it. Returns its token. */
uint32_t guest_hold(struct guest *guest, uint32_t ctx_id, int32_t ring, uint64_t fence_id);
void guest_signal(struct guest *guest, uint32_t token);

/* The front end unmaps everything and resets the device. */
void guest_reset(struct guest *guest);

/* The front end does what it was asked for, and says so. */
void guest_answer(struct guest *guest);

/* ---- Requests ------------------------------------------------------------------------------- */

struct virtio_gpu_ctrl_hdr header(uint32_t type, uint32_t ctx_id);

uint32_t create_context(struct guest *guest, uint32_t ctx_id);
uint32_t destroy_context(struct guest *guest, uint32_t ctx_id);
uint32_t create_2d(struct guest *guest, uint32_t resource_id, uint32_t width, uint32_t height);
uint32_t unref(struct guest *guest, uint32_t resource_id);
uint32_t attach_context(struct guest *guest, uint32_t ctx_id, uint32_t resource_id);
uint32_t detach_context(struct guest *guest, uint32_t ctx_id, uint32_t resource_id);

/* From an offset in the guest's memory on; or without memory. */
uint32_t create_empty_blob(struct guest *guest, uint32_t resource_id, uint32_t size);
uint32_t create_blob(struct guest *guest, uint32_t resource_id, uint32_t offset, uint32_t size);
uint32_t attach_backing(struct guest *guest, uint32_t resource_id, uint32_t offset, uint32_t size);
uint32_t detach_backing(struct guest *guest, uint32_t resource_id);

/* Shows a blob: a picture of side by side pixels, B8G8R8X8, without gaps. */
uint32_t show_blob(struct guest *guest, uint32_t scanout, uint32_t resource_id, uint32_t side);

/* Of the host's memory, which can be mapped. */
uint32_t create_host_blob(struct guest *guest, uint32_t resource_id, uint32_t size);

uint32_t map_blob(struct guest *guest, uint32_t resource_id, uint64_t offset);
uint32_t unmap_blob(struct guest *guest, uint32_t resource_id);

/* Return their tokens. */
uint32_t send_map(struct guest *guest, uint32_t resource_id, uint64_t offset, uint64_t fence_id);
uint32_t send_unmap(struct guest *guest, uint32_t resource_id);

/* Flushes all of it, with a fence on the global timeline unless fence_id is 0. Returns its
 * token. */
uint32_t send_flush(struct guest *guest, uint32_t resource_id, uint32_t width, uint32_t height,
	uint64_t fence_id);

/* A flush with in-fences. */
struct flush_request {
	uint32_t resource_id, width, height;
	uint64_t fence_id; /* 0: not fenced */
	bool shareable;
	bool has_ring; /* otherwise the fence is on the global timeline */
	uint32_t ctx_id;
	uint8_t ring;
	uint32_t num_in_fences;
	uint64_t in_fences[4];
};

/* Returns its token. */
uint32_t send_flush_behind(struct guest *guest, const struct flush_request *flush);

/* A fence that only a test signals, on the global timeline; any context may wait for it. */
void create_test_fence(struct guest *guest, uint64_t fence_id);
void signal_test_fence(struct guest *guest, uint64_t fence_id);

/* A submission that keeps its ring busy and then stores `value`, or nothing if resource_id is 0;
 * and then does what further words of its command stream say. */
struct job {
	uint32_t ctx_id;
	uint8_t ring;
	uint64_t fence_id; /* 0: not fenced */
	uint32_t busy_us;
	uint32_t resource_id, offset, value;
	uint32_t num_in_fences;
	uint64_t in_fences[4];
	const uint32_t *words;
	uint32_t num_words; /* MAX_JOB_WORDS at most */
};

#define MAX_JOB_WORDS 512

/* Returns its token. */
uint32_t submit(struct guest *guest, const struct job *job);
uint32_t read_memory(const struct guest *guest, uint32_t offset);

#endif
