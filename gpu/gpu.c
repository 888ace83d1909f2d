/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <vgfence/inspect.h>

#include "clock.h"
#include "cross_domain.h"
#include "event_file.h"
#include "gpu_private.h"
#include "guest_memory.h"
#include "record.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))

/* ---- Recordings, and traces of fences ------------------------------------------------------- */

int gpu_record_start(struct gpu *gpu, const char *path)
{
	return recorder_create(gpu, path, &gpu->recorder);
}

int gpu_trace_start(struct gpu *gpu, const char *path)
{
	int ret;

	if (gpu->events != NULL) {
		return -EALREADY;
	}
	ret = event_file_open(path, &gpu->events);
	if (ret == 0) {
		gpu->told_of_events = false;
		vgf_device_trace(
			gpu->renderer->ops->get_device(gpu->renderer), event_file_add, gpu->events);
	}
	return ret;
}

static void tell_trace_error(struct gpu *gpu)
{
	int error = gpu->events != NULL ? event_file_error(gpu->events) : 0;

	if (error < 0 && !gpu->told_of_events) {
		log_error(gpu, "the trace ends here: %s", strerror(-error));
		gpu->told_of_events = true;
	}
}

/* When nothing is told of any more. */
static int close_trace(struct gpu *gpu)
{
	uint64_t lost;
	int ret = event_file_close(gpu->events, &lost);

	gpu->events = NULL;
	if (ret < 0 && !gpu->told_of_events) {
		log_error(gpu, "the end of the trace is lost: %s", strerror(-ret));
	}
	if (lost > 0) {
		log_error(gpu, "the trace lacks %" PRIu64 " events: %s", lost,
			ret == 0 || ret == -ETIMEDOUT ? "the file was not fast enough" :
							strerror(-ret));
	}
	return ret;
}

int gpu_trace_stop(struct gpu *gpu)
{
	if (gpu->events == NULL) {
		return -ENOENT;
	}
	vgf_device_trace(gpu->renderer->ops->get_device(gpu->renderer), NULL, NULL);
	return close_trace(gpu);
}

/* ---- Loop ----------------------------------------------------------------------------------- */

int gpu_get_fd(struct gpu *gpu)
{
	return gpu->renderer->ops->get_fd(gpu->renderer);
}

void gpu_dispatch(struct gpu *gpu)
{
	gpu->renderer->ops->dispatch(gpu->renderer);
	flushes_go_on(gpu);
	shown_settle(gpu);
}

static bool has_more(const struct gpu *gpu)
{
	return !TAILQ_EMPTY(&gpu->pending.going_on);
}

int gpu_timeout(struct gpu *gpu, int timeout_ms)
{
	const struct renderer_ops *ops = gpu->renderer->ops;

	log_tell_dropped(gpu, false);
	tell_trace_error(gpu);
	if (has_more(gpu)) {
		flushes_go_on(gpu);
		gpu->must_wake = true;
	}
	if (ops->free_more != NULL && ops->free_more(gpu->renderer)) {
		gpu->must_wake = true;
	}
	shown_settle(gpu);
	timeout_ms = pins_timeout(gpu, shown_timeout(gpu, log_timeout(gpu, timeout_ms)));
	if (gpu->must_wake) {
		gpu->must_wake = false;
		return 0;
	}
	return timeout_ms;
}

static bool has_pending(const struct gpu *gpu)
{
	return gpu->pending.count > 0;
}

static uint32_t num_held(const struct gpu *gpu)
{
	struct vgf_stats stats = { .size = sizeof(stats) };

	vgf_device_get_stats(gpu->renderer->ops->get_device(gpu->renderer), &stats);
	return stats.held;
}

static bool has_work(const struct gpu *gpu)
{
	const struct renderer_ops *ops = gpu->renderer->ops;

	return has_pending(gpu) || num_held(gpu) > 0 ||
		(ops->is_writing != NULL && ops->is_writing(gpu->renderer));
}

/* How long to wait in poll: nothing tells of the end of work without a fence. */
static uint64_t wait_end_ns(const struct gpu *gpu, uint64_t end_ns)
{
	uint64_t now = now_ns();

	if (has_more(gpu)) {
		return now;
	}
	return has_pending(gpu) || end_ns < now + NS_PER_MS ? end_ns : now + NS_PER_MS;
}

static void dispatch_while(
	struct gpu *gpu, bool (*is_busy)(const struct gpu *gpu), int timeout_ms, int end_fd)
{
	uint64_t end_ns = now_ns() + (uint64_t)timeout_ms * NS_PER_MS;

	while (is_busy(gpu)) {
		struct pollfd poll_fds[] = { { .fd = gpu_get_fd(gpu), .events = POLLIN },
			{ .fd = end_fd, .events = POLLIN } };
		struct timespec left = time_until(wait_end_ns(gpu, end_ns));
		bool is_over = now_ns() >= end_ns;

		ppoll(poll_fds, 2, &left, NULL);
		gpu_dispatch(gpu);
		if (is_over || poll_fds[1].revents != 0) {
			return;
		}
	}
}

static void for_each_pending(
	struct gpu *gpu, void (*fn)(struct gpu *gpu, struct pending_request *pending))
{
	for (size_t queue = 0; queue < GPU_NUM_QUEUES && gpu->pending.count > 0; queue++) {
		for (size_t token = 0; token < GPU_MAX_REQUESTS; token++) {
			struct pending_request *pending = &gpu->pending.requests[queue][token];

			if (pending->used) {
				fn(gpu, pending);
			}
		}
	}
}

/* It retires with an error. */
static void cancel(struct gpu *gpu, struct pending_request *pending)
{
	struct vgf_device *device = gpu->renderer->ops->get_device(gpu->renderer);

	if (pending->awaits_renderer) {
		vgf_context_cancel(device, pending->fence.ctx_id,
			VGF_CANCEL_OPEN | VGF_CANCEL_DESTROYED, -ECANCELED);
	}
	if (pending->awaits_fence) {
		vgf_fence_cancel(device, &pending->fence, -ECANCELED);
	}
}

/* Drops what has no fence and still waits, for one of the host's. */
static void drop_held(struct gpu *gpu)
{
	struct vgf_device *device = gpu->renderer->ops->get_device(gpu->renderer);
	const uint32_t flags = VGF_CANCEL_OPEN | VGF_CANCEL_DESTROYED | VGF_CANCEL_EVERY_CONTEXT;
	uint32_t held = num_held(gpu), before = UINT32_MAX;

	if (held == 0) {
		return;
	}
	vgf_context_cancel(device, 0, flags, -ECANCELED);
	/* A round has a budget. */
	for (; held > 0 && held < before; held = num_held(gpu)) {
		before = held;
		gpu_dispatch(gpu);
	}
}

/* Far more than cancelled work takes to retire. */
#define CANCEL_MS 1000

void gpu_begin_drain(struct gpu *gpu, int timeout_ms)
{
	gpu->refuse_ns = now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

void gpu_drain(struct gpu *gpu, int timeout_ms, int end_fd)
{
	/* The front end waits for this, so it answers nothing meanwhile. Nor does a display, which
	 * has its turn in the same loop. */
	gpu->is_draining = true;
	monitors_give_up(gpu);
	hostmem_give_up(gpu);
	shown_end_all(gpu);
	pins_give_up(gpu);
	if (gpu->renderer->ops->give_up != NULL) {
		gpu->renderer->ops->give_up(gpu->renderer);
	}
	dispatch_while(gpu, has_work, timeout_ms, end_fd);
	if (gpu->pending.count > 0) {
		log_error(gpu, "cancelled, as they are not done in time: %u requests",
			gpu->pending.count);
		for_each_pending(gpu, cancel);
		dispatch_while(gpu, has_pending, CANCEL_MS, end_fd);
	}
	drop_held(gpu);
	if (gpu->renderer->ops->stop_writing != NULL) {
		gpu->renderer->ops->stop_writing(gpu->renderer);
	}
	if (gpu->pending.count > 0) {
		log_error(gpu, "requests that do not end: the device is reset");
		gpu_reset(gpu);
	}
	gpu->is_draining = false;
	gpu->refuse_ns = 0;
}

/* What waits for it goes on later, so not before it is ended itself. */
static void end(struct gpu *gpu, struct pending_request *pending)
{
	if (pending->awaits_fence) {
		pending_remove_fence(&gpu->pending, pending);
	}
	flush_give_up(pending);
	pin_drop(pending);
	monitors_drop(gpu, pending);
	hostmem_drop(gpu, pending);
	pending->type = VIRTIO_GPU_RESP_ERR_UNSPEC;
	request_done(pending, -ECANCELED);
}

/* Before the renderer completes what it has, which must not be shown any more. */
static void show_nothing(struct gpu *gpu)
{
	scanouts_reset(gpu);
	cursors_reset(gpu);
}

/* After that. The renderer may be gone. */
static void forget_guest(struct gpu *gpu, bool renderer_ended)
{
	/* The renderer has completed what it had, if it keeps its word. It has nothing left. */
	for_each_pending(gpu, end);
	hostmem_reset(gpu);
	sharing_reset(gpu);
	if (renderer_ended) {
		pending_reset(&gpu->pending);
	}
	timelines_reset(&gpu->timelines);
	pins_reset(gpu);
	exports_reset(gpu);
	resource_destroy_all(&gpu->resources);
	context_remove_all(&gpu->contexts);
}

void gpu_reset(struct gpu *gpu)
{
	int ret;

	show_nothing(gpu);
	ret = gpu->renderer->ops->reset(gpu->renderer);
	if (ret < 0) {
		log_error(gpu, "resetting the renderer failed: %s", strerror(-ret));
	}
	forget_guest(gpu, ret == 0);
	gpu->has_flush_rings = false;
	flush_rings_open(gpu);
	monitors_forget_guest(gpu);
	gpu->stats.resets++;
}

void gpu_show(struct gpu *gpu)
{
	for (uint32_t i = 0; i < gpu->monitors.num_scanouts; i++) {
		scanout_show(gpu, i);
		cursor_show(gpu, i);
	}
	shown_settle(gpu);
}

/* ---- Features, configuration, memory -------------------------------------------------------- */

static uint64_t fence_passing_feature(const struct gpu *gpu)
{
	return gpu->options.fence_passing_bit >= 0 ? FEATURE(gpu->options.fence_passing_bit) : 0;
}

uint64_t gpu_get_features(const struct gpu *gpu)
{
	return FEATURE(VIRTIO_GPU_F_VIRGL) | FEATURE(VIRTIO_GPU_F_EDID) |
		FEATURE(VIRTIO_GPU_F_RESOURCE_UUID) | FEATURE(VIRTIO_GPU_F_RESOURCE_BLOB) |
		FEATURE(VIRTIO_GPU_F_CONTEXT_INIT) | FEATURE(VIRTIO_GPU_F_BLOB_ALIGNMENT) |
		fence_passing_feature(gpu);
}

/* Who starts a guest sees the speed of a guest without fence passing, and nothing else that is
 * wrong. A front end says the same again whenever it starts the queues. */
static void tell_refused(struct gpu *gpu, uint64_t features)
{
	if (fence_passing_feature(gpu) & ~features && features != 0 && features != gpu->features) {
		log_guest(gpu,
			"the guest's driver does not pass fences on feature bit %d: it waits for "
			"them itself, and all else works. To agree, load its virtio-gpu with "
			"fence_passing_bit=%d; the VMM must pass the bit on",
			gpu->options.fence_passing_bit, gpu->options.fence_passing_bit);
	}
}

void gpu_set_features(struct gpu *gpu, uint64_t features)
{
	features &= gpu_get_features(gpu);
	tell_refused(gpu, features);
	gpu->features = features;
	gpu->fence_passing = gpu->features & fence_passing_feature(gpu);
	flush_rings_open(gpu);
}

int gpu_read_config(struct gpu *gpu, uint32_t offset, void *data, uint32_t size)
{
	const struct gpu_config config = {
		.events_read = htole32(gpu->events_read),
		.num_scanouts = htole32(gpu->options.num_scanouts),
		.num_capsets = htole32(gpu->num_capsets),
		.blob_alignment = htole32(BLOB_ALIGNMENT),
	};

	if (offset > sizeof(config) || size > sizeof(config) - offset) {
		return -EINVAL;
	}
	memcpy(data, (const char *)&config + offset, size);
	return 0;
}

int gpu_write_config(struct gpu *gpu, uint32_t offset, const void *data, uint32_t size)
{
	uint32_t events_clear;

	if (offset != offsetof(struct gpu_config, events_clear) || size != sizeof(events_clear)) {
		return -EINVAL;
	}
	memcpy(&events_clear, data, sizeof(events_clear));
	monitors_clear_events(gpu, le32toh(events_clear));
	return 0;
}

void gpu_set_memory(struct gpu *gpu, struct guest_memory *memory)
{
	struct guest_memory *before = gpu->memory;

	gpu->memory = memory != NULL ? guest_memory_ref(memory) : NULL;
	guest_memory_unref(before);
}

/* ---- The device ----------------------------------------------------------------------------- */

bool gpu_bit_is_free(long bit)
{
	return (bit >= 8 && bit < 24) || (bit >= 50 && bit < 64);
}

static bool options_ok(const struct gpu_options *options)
{
	int bit = options->fence_passing_bit;

	if (options->num_scanouts > VIRTIO_GPU_MAX_SCANOUTS ||
		(options->hostmem_size & (options->hostmem_size - 1)) != 0 ||
		(options->hostmem_size > 0 && options->hostmem_size < GPU_MIN_HOSTMEM) ||
		options->display_ceiling_ms > GPU_MAX_CEILING_MS) {
		return false;
	}
	if (options->num_scanouts > 0 &&
		(options->width < GPU_MIN_WIDTH || options->width > GPU_MAX_SIZE ||
			options->height < GPU_MIN_HEIGHT || options->height > GPU_MAX_SIZE)) {
		return false;
	}
	return bit < 0 || gpu_bit_is_free(bit);
}

/* Each of them may be a descriptor of the renderer's, and half of all are for fences. */
static uint32_t max_host_blobs(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 4 > MAX_HOST_BLOBS) {
		return MAX_HOST_BLOBS;
	}
	return (uint32_t)(limit.rlim_cur / 4);
}

static void count_capsets(struct gpu *gpu)
{
	struct virtio_gpu_resp_capset_info info;

	while (gpu->renderer->ops->capset_info(gpu->renderer, gpu->num_capsets, &info) == 0) {
		gpu->num_capsets++;
	}
}

/* ---- The renderer's threads ----------------------------------------------------------------- */

/* A flush, or memory that is given back, may need the renderer, which the loop's thread alone
 * calls. */
static bool must_dispatch(const struct gpu *gpu)
{
	const struct renderer_ops *ops = gpu->renderer->ops;

	return gpu->pending.num_more > 0 ||
		(ops->must_dispatch != NULL && ops->must_dispatch(gpu->renderer));
}

static bool signal_enter(void *cookie)
{
	const struct gpu *gpu = cookie;

	if (!gpu->callbacks.take_turn(gpu->cookie)) {
		return false;
	}
	if (must_dispatch(gpu)) {
		gpu->callbacks.end_turn(gpu->cookie);
		return false;
	}
	return true;
}

static void signal_leave(void *cookie)
{
	const struct gpu *gpu = cookie;

	gpu->callbacks.end_turn(gpu->cookie);
}

/* ---- Start ---------------------------------------------------------------------------------- */

static int start_renderer(
	struct gpu *gpu, const struct gpu_options *options, renderer_create_fn create_renderer)
{
	const struct vgf_callbacks callbacks = {
		.size = sizeof(struct vgf_callbacks),
		.retire = fence_retired,
		.log = log_renderer,
		.signal_enter = gpu->callbacks.take_turn != NULL ? signal_enter : NULL,
		.signal_leave = gpu->callbacks.take_turn != NULL ? signal_leave : NULL,
	};
	int ret = create_renderer(&callbacks, gpu, &options->renderer, &gpu->renderer);

	if (ret < 0) {
		log_error(gpu, "the renderer does not start: %s", strerror(-ret));
		return ret;
	}
	if (options->wayland_socket != NULL) {
		ret = cross_domain_create(gpu, options->wayland_socket, &gpu->renderer);
	}
	if (ret < 0) {
		log_error(gpu, "%s: %s", options->wayland_socket, strerror(-ret));
		gpu->renderer->ops->destroy(gpu->renderer);
	}
	return ret;
}

int gpu_create(const struct gpu_callbacks *callbacks, void *cookie,
	const struct gpu_options *options, renderer_create_fn create_renderer, struct gpu **out)
{
	struct gpu *gpu;
	int ret;

	if (!options_ok(options)) {
		return -EINVAL;
	}
	gpu = calloc(1, sizeof(*gpu));
	if (gpu == NULL) {
		return -ENOMEM;
	}
	log_init(gpu);
	pending_init(&gpu->pending);
	timelines_init(&gpu->timelines);
	gpu->callbacks = *callbacks;
	gpu->cookie = cookie;
	gpu->options = *options;
	/* The caller's string. */
	gpu->options.wayland_socket = NULL;
	TAILQ_INIT(&gpu->monitors.questions);
	shown_init(gpu);
	pins_init(gpu);
	exports_init(gpu);
	monitors_init(gpu);
	hostmem_init(gpu);
	gpu->resources.max_host_blobs = max_host_blobs();
	ret = start_renderer(gpu, options, create_renderer);
	if (ret < 0) {
		free(gpu);
		return ret;
	}
	count_capsets(gpu);
	*out = gpu;
	return 0;
}

static void complete_nothing(void *cookie, enum gpu_queue queue, uint32_t token, uint32_t written)
{
	(void)cookie;
	(void)queue;
	(void)token;
	(void)written;
}

void gpu_destroy(struct gpu *gpu)
{
	if (gpu == NULL) {
		return;
	}
	gpu->callbacks.complete = complete_nothing;
	gpu->callbacks.share = gpu->callbacks.unshare = NULL;
	hostmem_destroy(gpu);
	show_nothing(gpu);
	gpu->renderer->ops->destroy(gpu->renderer);
	gpu->renderer = NULL;
	forget_guest(gpu, true);
	recorder_destroy(gpu->recorder); /* before what may take its time */
	if (gpu->events != NULL) {
		close_trace(gpu);
	}
	log_tell_dropped(gpu, true);
	guest_memory_unref(gpu->memory);
	request_buffer_finish(&gpu->buffer);
	request_buffer_finish(&gpu->aside_buffer);
	free(gpu);
}

uint64_t gpu_num_resets(const struct gpu *gpu)
{
	return gpu->stats.resets;
}

void gpu_get_stats(const struct gpu *gpu, struct gpu_stats *stats)
{
	*stats = gpu->stats;
	stats->fences.size = sizeof(stats->fences);
	vgf_device_get_stats(gpu->renderer->ops->get_device(gpu->renderer), &stats->fences);
	stats->fences.in_fences += gpu->num_retired_in_fences;
	stats->fences.in_fences_done += gpu->num_retired_in_fences;
}
