/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VENUS_STREAM_H
#define VENUS_STREAM_H

/*
 * Vulkan for tests, as command streams of Venus: what a guest's driver would write. Each call of
 * Vulkan is a command number, flags (0: no answer), and its arguments in order: a pointer is a
 * 64-bit 0 or 1 and what it points to, an array its 64-bit length and elements, a handle a 64-bit
 * ID of the guest's choice. Wire format 1.
 */

#include <stddef.h>
#include <stdint.h>

#define VENUS_STREAM_WORDS 512

struct venus_stream {
	uint32_t ring; /* of the queue that it is about */
	uint32_t words[VENUS_STREAM_WORDS];
	size_t count;
};

/* For one of the context's queues: each has a device of its own. */
void venus_stream_begin(struct venus_stream *stream, uint32_t ring);

/* Once in a context, first. */
void venus_stream_instance(struct venus_stream *stream);

/* A device with one queue, whose fences are those of the ring; a buffer of `size` bytes in memory
 * that can be mapped; a timeline semaphore that is 0. Once for each ring. */
void venus_stream_device(struct venus_stream *stream, uint64_t size);

/* The ID of the blob of that memory. */
uint64_t venus_stream_blob_id(uint32_t ring);

/* Submits to the queue: fills the buffer's first `size` bytes with a word, when the semaphore has a
 * value. Once. */
void venus_stream_fill(
	struct venus_stream *stream, uint64_t size, uint32_t word, uint64_t wait_value);

/* Sets the semaphore, at once. */
void venus_stream_signal(struct venus_stream *stream, uint64_t value);

#endif
