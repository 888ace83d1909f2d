/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

/*
 * A guest of the virtio-gpu device that has pictures of one size, each a blob of whole pages in its
 * memory, and shows them. No transport is between the two, so a request costs what the device does.
 *
 * Errors are negative errno values.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_gpu.h>

#include "gpu.h"

/* In flight at once, at most. */
#define BENCH_GUEST_REQUESTS 128
/* The largest request. */
#define BENCH_GUEST_BYTES 128

/* Of a flush's fence: the one that Linux has for all of them, or a ring of context 1. */
#define BENCH_GUEST_GLOBAL (-1)

struct bench_guest {
	struct gpu *gpu;
	uint32_t width, height, num_pictures;
	uint8_t *memory;
	size_t picture_size; /* in memory, where one follows the other */
	struct guest_memory *table;
	uint64_t last_fence_id;
	uint32_t next_token;
	/* Answers that came twice, or with another fence than their request's. */
	uint64_t num_wrong;
	struct {
		bool is_sent, is_done;
		bool is_kept; /* the token is not given anew, even when it is done */
		uint8_t bytes[BENCH_GUEST_BYTES];
		struct virtio_gpu_ctrl_hdr response;
		struct iovec readable, writable;
	} requests[BENCH_GUEST_REQUESTS];
};

/* Makes a device with the software GPU, context 1, and pictures that are resources from 1 on, which
 * the context has. callbacks: their cookie is the guest; `complete` is bench_guest_note_complete.
 * Returns 0, or what the device failed with; bench_guest_stop is due all the same. */
int bench_guest_start(struct bench_guest *guest, const struct gpu_callbacks *callbacks,
	const struct gpu_options *options);
void bench_guest_stop(struct bench_guest *guest);

uint32_t *bench_guest_pixels(const struct bench_guest *guest, uint32_t resource_id);

/* Sets what a scanout shows, from its next flush on. */
int bench_guest_show(struct bench_guest *guest, uint32_t scanout, uint32_t resource_id);

/* Both return a token. A job of context 1 that takes so long, with a fence on ring 0; a flush of a
 * whole picture, with a fence. */
uint32_t bench_guest_submit(struct bench_guest *guest, uint32_t busy_us);
uint32_t bench_guest_flush(struct bench_guest *guest, uint32_t resource_id, int timeline);

/* Whoever asks for several results later keeps their tokens until then. */
void bench_guest_keep(struct bench_guest *guest, uint32_t token, bool keep);

/* What has become of a request: 0; -EINPROGRESS; -EIO, an error was the answer. */
int bench_guest_result(const struct bench_guest *guest, uint32_t token);

/* For callbacks of the device and of displays. cookie: the guest, or what begins with it. */
void bench_guest_note_complete(
	void *cookie, enum gpu_queue queue, uint32_t token, uint32_t written);
void bench_guest_ignore_cursor(void *cookie, uint32_t scanout, const struct gpu_cursor *cursor);
int bench_guest_read(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels);
int bench_guest_get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out);
void bench_guest_release(void *cookie, uint64_t key);
void bench_guest_shown(void *cookie, uint32_t scanout, uint64_t frame);

#endif
