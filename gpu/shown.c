/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "clock.h"
#include "gpu_private.h"

#define DEFAULT_CEILING_MS 500

uint64_t shown_ceiling_ns(const struct gpu *gpu)
{
	uint32_t ceiling_ms = gpu->options.display_ceiling_ms;

	return (ceiling_ms > 0 ? ceiling_ms : DEFAULT_CEILING_MS) * NS_PER_MS;
}

void shown_init(struct gpu *gpu)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		TAILQ_INIT(&gpu->frames[i].waits);
		TAILQ_INIT(&gpu->frames[i].drawn);
	}
}

/* ---- Frames ---------------------------------------------------------------------------------- */

uint64_t shown_give(struct gpu *gpu, uint32_t scanout, const struct virtio_gpu_rect *rect)
{
	uint64_t frame;
	bool will_tell;

	if (gpu->callbacks.scanout_flushed == NULL) {
		return 0;
	}
	frame = ++gpu->frames[scanout].last;
	gpu->num_callbacks++;
	will_tell = gpu->callbacks.scanout_flushed(gpu->cookie, scanout, rect, frame);
	gpu->num_callbacks--;
	return will_tell ? frame : 0;
}

uint64_t shown_offer(struct gpu *gpu, uint32_t scanout, const struct virtio_gpu_rect *rect,
	const struct gpu_buffer *buffer)
{
	uint64_t frame = ++gpu->frames[scanout].last;
	bool is_taken;

	gpu->num_callbacks++;
	is_taken = gpu->callbacks.scanout_offered(gpu->cookie, scanout, rect, frame, buffer);
	gpu->num_callbacks--;
	if (!is_taken) {
		gpu->frames[scanout].last--; /* it comes again */
		return 0;
	}
	return frame;
}

static struct frame_wait *wait_of(struct pending_request *flush, uint32_t scanout)
{
	return &flush->gpu->pending.frame_waits[flush->request.token][scanout];
}

static void remove_wait(struct gpu *gpu, uint32_t scanout, struct frame_wait *wait)
{
	TAILQ_REMOVE(&gpu->frames[scanout].waits, wait, link);
	if (wait->end_ns > 0) {
		TAILQ_REMOVE(&gpu->frames[scanout].drawn, wait, drawn_link);
	}
	wait->flush->awaits_shown &= ~(1u << scanout);
}

void shown_await(struct pending_request *flush, uint32_t scanout, uint64_t frame)
{
	struct frames *frames = &flush->gpu->frames[scanout];
	struct frame_wait *wait = wait_of(flush, scanout);

	if (!flush->fenced || frame <= frames->shown || flush->gpu->is_draining) {
		return;
	}
	if (flush->awaits_shown & 1u << scanout) { /* it is given again */
		remove_wait(flush->gpu, scanout, wait);
	}
	*wait = (struct frame_wait){ .flush = flush, .frame = frame };
	TAILQ_INSERT_TAIL(&frames->waits, wait, link);
	flush->awaits_shown |= 1u << scanout;
}

void shown_is_drawn(struct pending_request *flush)
{
	struct gpu *gpu = flush->gpu;
	uint64_t end_ns = flush->awaits_shown != 0 ? now_ns() + shown_ceiling_ns(gpu) : 0;

	for (uint32_t i = 0; flush->awaits_shown >> i != 0; i++) {
		struct frame_wait *wait = wait_of(flush, i);

		if (flush->awaits_shown & 1u << i && wait->end_ns == 0) {
			wait->end_ns = end_ns;
			TAILQ_INSERT_TAIL(&gpu->frames[i].drawn, wait, drawn_link);
		}
	}
}

void shown_drop(struct pending_request *flush)
{
	for (uint32_t i = 0; flush->awaits_shown != 0; i++) {
		if (flush->awaits_shown & 1u << i) {
			remove_wait(flush->gpu, i, wait_of(flush, i));
		}
	}
}

/* The flush goes on if it has waited for this frame alone. */
static void end_wait(struct gpu *gpu, uint32_t scanout, struct frame_wait *wait)
{
	struct pending_request *flush = wait->flush;

	remove_wait(gpu, scanout, wait);
	if (flush->awaits_shown == 0) {
		gpu->stats.flushes_given_up += flush->flush.is_late;
		gpu->stats.flushes_shown += !flush->flush.is_late;
		flush_is_shown(flush);
		gpu->must_wake = gpu->must_wake || !flush->used;
	}
}

/* ---- What a display tells -------------------------------------------------------------------- */

static void end_shown(struct gpu *gpu, uint32_t scanout)
{
	struct frames *frames = &gpu->frames[scanout];
	struct frame_wait *wait;

	while ((wait = TAILQ_FIRST(&frames->waits)) != NULL && wait->frame <= frames->shown) {
		end_wait(gpu, scanout, wait);
	}
}

void shown_settle(struct gpu *gpu)
{
	if (!gpu->has_told || gpu->num_callbacks > 0) {
		return;
	}
	gpu->has_told = false;
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		end_shown(gpu, i);
	}
	pins_settle(gpu);
}

void gpu_tell_shown(struct gpu *gpu, uint32_t scanout, uint64_t frame)
{
	struct frames *frames;

	if (scanout >= VIRTIO_GPU_MAX_SCANOUTS) {
		return;
	}
	frames = &gpu->frames[scanout];
	if (frame > frames->last) {
		frame = frames->last;
	}
	if (frame <= frames->shown) {
		return;
	}
	frames->shown = frame;
	frames->is_late = false;
	if (gpu->num_callbacks > 0) {
		gpu->has_told = true; /* the device is in the middle of something */
	} else {
		end_shown(gpu, scanout);
	}
}

bool shown_is_taken(const struct pending_request *flush, uint32_t scanout)
{
	return (flush->flush.taken & 1u << scanout) &&
		flush->arrival > flush->gpu->frames[scanout].renewed;
}

void shown_renew(struct gpu *gpu, uint32_t scanout)
{
	gpu->frames[scanout].renewed = gpu->pending.num_arrivals;
}

void shown_end(struct gpu *gpu, uint32_t scanout)
{
	shown_renew(gpu, scanout);
	gpu_tell_shown(gpu, scanout, UINT64_MAX);
}

void shown_end_all(struct gpu *gpu)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		shown_end(gpu, i);
	}
}

void gpu_forget_display(struct gpu *gpu)
{
	shown_end_all(gpu);
	pins_release_all(gpu);
}

/* ---- What a display does not tell ------------------------------------------------------------ */

static void give_up(struct gpu *gpu, uint32_t scanout, struct frame_wait *wait)
{
	struct frames *frames = &gpu->frames[scanout];

	if (!frames->is_late) {
		log_error(gpu, "the display does not say that it shows monitor %u: not waited for",
			scanout);
	}
	frames->is_late = true;
	wait->flush->flush.is_late = true;
	end_wait(gpu, scanout, wait);
}

/* Rounded up, so that the wait ends when something is late and not just before. */
int shown_until(uint64_t end_ns, uint64_t now, int timeout_ms)
{
	uint64_t left_ms = (end_ns - now + NS_PER_MS - 1) / NS_PER_MS;

	return timeout_ms >= 0 && (uint64_t)timeout_ms <= left_ms ? timeout_ms : (int)left_ms;
}

int shown_timeout(struct gpu *gpu, int timeout_ms)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		struct frame_wait *wait = TAILQ_FIRST(&gpu->frames[i].drawn);
		uint64_t now = wait != NULL ? now_ns() : 0;

		while (wait != NULL && wait->end_ns <= now) {
			give_up(gpu, i, wait);
			wait = TAILQ_FIRST(&gpu->frames[i].drawn);
		}
		if (wait != NULL) {
			timeout_ms = shown_until(wait->end_ns, now, timeout_ms);
		}
	}
	return timeout_ms;
}
