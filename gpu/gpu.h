/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_H
#define GPU_H

/*
 * A virtio-gpu device: takes the requests of its two queues, answers them, and completes those with
 * a fence when vgfence retires it. It knows nothing of virtqueues and of vhost-user: a request is a
 * row of buffers in guest memory.
 *
 * One thread. Errors are negative errno values; what a guest does wrong is answered to the guest.
 * Layouts and command names: <linux/virtio_gpu.h>, virtio specification 1.3, 5.7.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <vgfence/inspect.h>
#include <vgfence/vgfence.h>

#include "renderer.h"

struct gpu;
struct guest_memory;

enum gpu_queue {
	GPU_QUEUE_CONTROL,
	GPU_QUEUE_CURSOR,
	GPU_NUM_QUEUES,
};

/* Requests of a queue that are not completed. */
#define GPU_MAX_REQUESTS 1024

/*
 * One request: a descriptor chain. The buffers stay until it is completed; the arrays too. Of the
 * guest's bytes none is read twice.
 */
struct gpu_request {
	enum gpu_queue queue;
	/* The caller's, below GPU_MAX_REQUESTS; of its queue no other request has it. */
	uint32_t token;
	const struct iovec *readable;
	size_t num_readable;
	const struct iovec *writable;
	size_t num_writable;
};

/* A piece of a file in the guest's window into memory of the host; multiples of 4096. */
struct gpu_mapping {
	uint64_t offset; /* in the window */
	uint64_t size;
	int fd; /* borrowed */
	uint64_t fd_offset;
};

struct gpu_buffer;

/* What follows the pointer on a scanout. */
struct gpu_cursor {
	bool visible;
	uint32_t x, y;          /* of its hot spot, on the scanout */
	uint32_t hot_x, hot_y;  /* in the picture */
	const uint32_t *pixels; /* 64 by 64, 0xaarrggbb; NULL: as it was */
};

struct gpu_callbacks {
	/* A request is completed: `written` bytes of its writable buffers hold the response.
	 * Exactly once for each request, from inside a function that has a struct gpu that is not
	 * const; it may call none of them. The caller notifies the guest after the last of a
	 * round. */
	void (*complete)(void *cookie, enum gpu_queue queue, uint32_t token, uint32_t written);
	/* Around what a thread of the renderer's does in which a fence signals; it may complete
	 * requests. take_turn returns whether that thread has the device for itself, up to
	 * end_turn, and does not wait for that: otherwise, or if there is more to do than to
	 * complete requests, gpu_dispatch does it. Both or neither. */
	bool (*take_turn)(void *cookie);
	void (*end_turn)(void *cookie);
	/* A display needs these three; they are set together, or all NULL. They say that a scanout
	 * has another size and content (0 by 0: it shows nothing), that a part of it has changed,
	 * and that its cursor has.
	 *
	 * frame: counts up for each scanout, from 1 on, and never starts again. scanout_flushed
	 * returns whether gpu_tell_shown will be called for this frame of the scanout, or for a
	 * later one; false: the display has copied what it needs, or shows nothing. */
	void (*scanout_changed)(void *cookie, uint32_t scanout, uint32_t width, uint32_t height);
	bool (*scanout_flushed)(
		void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint64_t frame);
	/* A frame whose drawing is not done, but all that it waits for is in one sync file:
	 * buffer->acquire_fd. Returns whether the display takes it, to read it once that has
	 * signalled: then it owns the descriptors of the buffer, which is pinned, and will call
	 * gpu_tell_shown. false: the frame comes by scanout_flushed when it is drawn, as it does
	 * to a display that copies. NULL: no display takes any. */
	bool (*scanout_offered)(void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect,
		uint64_t frame, const struct gpu_buffer *buffer);
	void (*cursor_changed)(void *cookie, uint32_t scanout, const struct gpu_cursor *cursor);
	/* The memory behind a buffer of gpu_get_scanout_buffer is wanted back: gpu_tell_released as
	 * soon as nobody reads it. Of one that was released already, too: what a display keeps of
	 * it keeps its pages. The key does not come again. NULL: the display asks for no
	 * buffers. */
	void (*buffer_leaving)(void *cookie, uint64_t key);
	/* A guest asks for the monitors, and a front end may know: whether gpu_tell_monitors or
	 * gpu_tell_edid will be called, once for each time. One question at a time. NULL: nobody
	 * does. */
	bool (*ask_monitors)(void *cookie);
	bool (*ask_edid)(void *cookie, uint32_t scanout);
	/* The window into memory of the host, gpu_options.hostmem_size: put a piece of a file
	 * there, for reading and writing; or take away all of what was put there. One at a time: 0
	 * if gpu_tell_mapped will be called, later, or an error. Both NULL: there is no window. */
	int (*map)(void *cookie, const struct gpu_mapping *mapping);
	int (*unmap)(void *cookie, uint64_t offset, uint64_t size);
	/* Other devices may have the resource with this UUID, by gpu_get_shared; or no more. Both
	 * NULL: there are no other devices. */
	void (*share)(void *cookie, const uint8_t uuid[16]);
	void (*unshare)(void *cookie, const uint8_t uuid[16]);
	/* The configuration space changed. Once until the guest clears the event, or asks what
	 * there is. */
	void (*config_changed)(void *cookie);
	void (*log)(void *cookie, enum vgf_log_level level, const char *message);
};

/* What an EDID can tell, with no pixel clock below 10 MHz; and what a scanout can be. */
#define GPU_MIN_WIDTH 400
#define GPU_MIN_HEIGHT 300
#define GPU_MAX_SIZE 8192

#define GPU_MAX_CEILING_MS 3600000

/* Of the window into memory of the host. */
#define GPU_MIN_HOSTMEM 4096

struct gpu_options {
	uint32_t num_scanouts; /* 0 to 16 (VIRTIO_GPU_MAX_SCANOUTS) */
	/* Of each scanout's preferred mode, GPU_MIN_WIDTH to GPU_MAX_SIZE, and GPU_MIN_HEIGHT to
	 * that; not looked at without scanouts. */
	uint32_t width, height;
	uint64_t hostmem_size; /* a power of two of at least GPU_MIN_HOSTMEM, or 0: none */
	int fence_passing_bit; /* of the feature: gpu_bit_is_free; below 0: off */
	/* How long the guest waits for a display, to show a frame once it is drawn or to release a
	 * buffer, in milliseconds: up to an hour, GPU_MAX_CEILING_MS; 0: 500. */
	uint32_t display_ceiling_ms;
	/* The socket of the Wayland compositor that guests reach in cross-domain contexts; NULL:
	 * there are none of these. */
	const char *wayland_socket;
	struct renderer_options renderer;
};

/*
 * Whether fence passing may be feature bit `bit`, from 0 on: 8 to 23, which are the device's own
 * and given to nothing, or 50 to 63. Of the others, 0 to 5 have a meaning, 5 is BLOB_ALIGNMENT;
 * 6 and 7 are proposed for other features; 24 to 49 are of the rings, and of vhost-user.
 */
bool gpu_bit_is_free(long bit);

/* Makes a device. create_renderer: renderer_soft_create, or another. Returns 0; -EINVAL for options
 * out of range; -ENOMEM; what create_renderer failed with, after a message to the log. */
int gpu_create(const struct gpu_callbacks *callbacks, void *cookie,
	const struct gpu_options *options, renderer_create_fn create_renderer, struct gpu **out);
void gpu_destroy(struct gpu *gpu); /* completes nothing any more; NULL is fine */

/* Feature bits of the device (not those of virtio or vhost-user), offered and acknowledged. */
uint64_t gpu_get_features(const struct gpu *gpu);
void gpu_set_features(struct gpu *gpu, uint64_t features);

/* The configuration space: struct virtio_gpu_config of <linux/virtio_gpu.h>, and what Linux 7.2 has
 * behind it. Little-endian. */
struct gpu_config {
	uint32_t events_read, events_clear, num_scanouts, num_capsets, blob_alignment;
};

/* -EINVAL for bytes outside the configuration space, or not writable. */
int gpu_read_config(struct gpu *gpu, uint32_t offset, void *data, uint32_t size);
int gpu_write_config(struct gpu *gpu, uint32_t offset, const void *data, uint32_t size);

/* Guest memory from now on, for backings that are attached later; those that are keep theirs. The
 * device takes a reference of its own. NULL: none. */
void gpu_set_memory(struct gpu *gpu, struct guest_memory *memory);

/* Handles a request. It is completed before this returns, or later. A request whose work is done at
 * once is completed later if its fence retires in gpu_dispatch. */
void gpu_handle(struct gpu *gpu, const struct gpu_request *request);

/*
 * The same from another thread, while this one is in a call of the renderer's that takes long, and
 * has let go of a lock around all of the device (renderer_options.aside): for a request that needs
 * nothing of the renderer, and may overtake those before it. Returns whether the request is
 * handled, as by gpu_handle; if not, nothing has happened, and what was read of it is forgotten.
 */
bool gpu_handle_aside(struct gpu *gpu, const struct gpu_request *request);

/* Whether this thread is in a display's function just now, or in one that a display called. */
bool gpu_uses_display(const struct gpu *gpu);

/* Readable if gpu_dispatch has something to do. Nothing makes it readable while the device is
 * idle. */
int gpu_get_fd(struct gpu *gpu);
void gpu_dispatch(struct gpu *gpu);

/* How long to wait for that, in milliseconds as for poll: timeout_ms, or less if the log is to be
 * told something in a while, or a display is given up on then. To be asked before each wait: it
 * also does what is due. */
int gpu_timeout(struct gpu *gpu, int timeout_ms);

/*
 * Waits until nothing is pending or held back, and with the software GPU until its jobs without a
 * fence are done, for at most timeout_ms milliseconds; then cancels what is left, so that all
 * requests are completed, with an error. Nothing of an open context that was held back runs after
 * that, and the software GPU writes nothing to the guest's memory; virglrenderer may still write
 * results of queries, of work without a fence or whose fence was cancelled. For GET_VRING_BASE.
 *
 * end_fd: the wait ends early once this is readable, which is left as it is; below 0: it does not.
 */
void gpu_drain(struct gpu *gpu, int timeout_ms, int end_fd);

/* Before gpu_drain, if there are requests that must come first: those that come later than in
 * timeout_ms milliseconds are refused, until gpu_drain has returned. One that is being handled then
 * takes as long as the renderer does for it. */
void gpu_begin_drain(struct gpu *gpu, int timeout_ms);

/* The guest reset the device, or went away: contexts, resources and pending requests are gone. Each
 * of these requests is completed first. Features and guest memory stay until they are set anew. */
void gpu_reset(struct gpu *gpu);

/* What `map` or `unmap` asked for is done; or an error. */
void gpu_tell_mapped(struct gpu *gpu, int status);

/* A file with the memory of a resource, for another device; the caller owns the descriptor. -ENOENT
 * if there is no such resource, or it was not shared; -EOPNOTSUPP if its memory does not begin
 * where the file does; what the renderer failed with. */
int gpu_get_shared(struct gpu *gpu, const uint8_t uuid[16]);

struct gpu_stats {
	uint64_t requests[GPU_NUM_QUEUES];
	uint64_t errors; /* requests that were answered with one, or not at all */
	uint64_t submissions;
	uint64_t flushes;         /* that were not refused */
	uint64_t flush_in_fences; /* of all of them */
	uint64_t flushes_held;    /* of which one had not signalled */
	/* With a fence, that waited for a display: until it had shown them, or showed nothing any
	 * more; or it was given up on. */
	uint64_t flushes_shown, flushes_given_up;
	uint64_t flushes_offered; /* that a display took before they were drawn */
	/* Buffers that a display had when the guest took them back: released by it, or given up
	 * on. */
	uint64_t buffers_released, buffers_given_up;
	uint64_t resets;
	uint64_t maps;         /* of blobs */
	uint64_t mapped_bytes; /* now */
	uint64_t max_mapped_bytes;
	struct vgf_stats fences; /* of the fences' device, since it was made */
};

/* How often the device was reset, which is in the statistics too. */
uint64_t gpu_num_resets(const struct gpu *gpu);

/* Since the device was made. */
void gpu_get_stats(const struct gpu *gpu, struct gpu_stats *stats);

/* Records all requests and responses to a file from now on, up to the device's end; it replaces one
 * that is there. If it cannot be written any more, or has 1 GiB, that is said in the log, and the
 * recording has ended. Before the first request, and once. Returns 0, -ENOMEM or what opening the
 * file failed with. */
int gpu_record_start(struct gpu *gpu, const char *path);

/*
 * Writes what happens to fences to a file from now on, which it replaces: each is accepted, held,
 * run, signalled, retired (gpu/event_format.h). The device never waits for the file: what that is
 * too slow for is left out and counted. If it cannot be written any more, that is said in the log,
 * and the trace has ended but for gpu_trace_stop.
 *
 * Returns 0; -EALREADY if there is a trace; -EBUSY while one that ended with -ETIMEDOUT is still
 * being written; -ENOMEM; -EAGAIN if there is no thread to be had, or if the file is a pipe that
 * is full; what opening the file failed with.
 */
int gpu_trace_start(struct gpu *gpu, const char *path);

/* Ends it. This takes a quarter of a second at most. Returns 0; -ENOENT if there is none; what
 * writing failed with, or -ETIMEDOUT, in which case the end is missing: after a message to the
 * log. */
int gpu_trace_stop(struct gpu *gpu);

/*
 * What the front end's display says of its monitors, all VIRTIO_GPU_MAX_SCANOUTS, in the host's
 * byte order; also without being asked. If the guest was told something else before, it gets an
 * event. From then on there are as many scanouts as can be. NULL: it says nothing, so what it said
 * last stands, or the options do.
 */
void gpu_tell_monitors(struct gpu *gpu, const struct virtio_gpu_display_one *monitors);
void gpu_tell_edid(struct gpu *gpu, const uint8_t *edid, uint32_t size); /* NULL: ours */

/* There is no front end any more that has said anything. */
void gpu_forget_monitors(struct gpu *gpu);

/* Reports all that is shown now, cursors too, as if it had just changed: to a display that came
 * later. */
void gpu_show(struct gpu *gpu);

/*
 * Frame `frame` of the scanout, and so each before it, is on the screen, or a later one has taken
 * its place; and what was shown before it is read no more. A frame that there was not yet counts as
 * the last one. May be called from inside a callback.
 */
void gpu_tell_shown(struct gpu *gpu, uint32_t scanout, uint64_t frame);

/* What a scanout shows, as a dma-buf: it is read in place, not copied. */
struct gpu_buffer {
	uint64_t key; /* of the memory, as long as it is the same; none is used again */
	int fd;       /* of the dma-buf; the caller's */
	uint32_t width, height, drm_format, stride, offset; /* of the whole picture */
	uint64_t modifier;
	struct virtio_gpu_rect rect; /* the part of the picture that the scanout shows */
	int acquire_fd; /* a sync file to wait for before it is read, or -1: scanout_offered */
};

/*
 * Gives what a scanout shows as a dma-buf. It pins the memory, however often it was given, until
 * gpu_tell_released(key): as long as a display reads it, the guest is not told that it is free. May
 * be called from inside scanout_flushed.
 *
 * Returns 0; -ENOENT if it shows nothing; -EOPNOTSUPP if that cannot be had as a dma-buf: read it
 * by gpu_read_scanout; -ENOMEM; what making the dma-buf failed with.
 */
int gpu_get_scanout_buffer(struct gpu *gpu, uint32_t index, struct gpu_buffer *out);

/* Nobody reads the memory with this key any more, nor will without another gpu_get_scanout_buffer.
 * Of a key that is not pinned this does nothing. May be called from inside a callback. */
void gpu_tell_released(struct gpu *gpu, uint64_t key);

/* There is no display any more that would tell: all frames are shown, all buffers released. */
void gpu_forget_display(struct gpu *gpu);

/* Reads a rectangle of what a scanout shows, as 0xaarrggbb. -ENOENT if it does not show all of
 * it. */
int gpu_read_scanout(
	struct gpu *gpu, uint32_t index, const struct virtio_gpu_rect *rect, uint32_t *pixels);

/* Writes what a scanout shows to a PNG file, which may take seconds. stop: asked now and then, and
 * once it returns true nothing is written; NULL: it is not. Returns 0; -ENOENT if the scanout shows
 * nothing; -ECANCELED; what image_write fails with. */
int gpu_screenshot(struct gpu *gpu, uint32_t index, const char *path, bool (*stop)(void));

#endif
