/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VIRTQUEUE_H
#define VIRTQUEUE_H

/*
 * The device side of a split virtqueue (virtio specification 1.3, 2.7), with indirect descriptors
 * (VIRTIO_RING_F_INDIRECT_DESC) and event index (VIRTIO_RING_F_EVENT_IDX).
 *
 * The guest can write anything there at any time. Each descriptor is copied once and then checked;
 * a guest that breaks the rules gets no further request taken from this queue, and nothing else
 * happens. Requests that were taken before can still be completed.
 *
 * One thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct guest_memory;
struct virtqueue;

/* As in QEMU. */
#define VIRTQUEUE_MAX_SIZE 1024

/*
 * Buffers of one request. An indirect table of Linux's may be longer than the queue: SUBMIT_3D with
 * 4 MiB of commands, a page a buffer, is the longest that a virtio-gpu driver makes.
 */
#define VIRTQUEUE_MAX_BUFFERS 2048

struct virtqueue_layout {
	uint32_t size;              /* a power of two */
	uint64_t desc, avail, used; /* addresses of the front end's */
	uint64_t features;          /* that the driver has accepted */
};

/* What the driver asks for. The arrays are the queue's and stay until it is pushed. */
struct virtqueue_request {
	uint32_t token; /* below the queue's size; of the requests in flight no other has it */
	const struct iovec *readable;
	size_t num_readable;
	const struct iovec *writable;
	size_t num_writable;
};

/*
 * Makes a queue that goes on at `base` in the available ring. layout: copied; memory: a reference
 * is kept.
 *
 * Returns 0; -EINVAL for a size that is none, or rings that are misaligned; -EFAULT for rings that
 * are not in memory; -ENOMEM.
 */
int virtqueue_create(const struct virtqueue_layout *layout, uint16_t base,
	struct guest_memory *memory, struct virtqueue **out);

/* No request may be in flight. NULL is fine. */
void virtqueue_destroy(struct virtqueue *queue);

/* Other memory from now on; requests in flight keep theirs. Returns 0, or what virtqueue_create
 * does: then nothing has changed. */
int virtqueue_set_memory(struct virtqueue *queue, struct guest_memory *memory);

/*
 * Takes the next request. Returns 1; 0 if there is none; -EPROTO if the driver broke a rule, now or
 * before; -ENOMEM. After an error no more come, and virtqueue_error says what it was (NULL:
 * nothing).
 */
int virtqueue_pop(struct virtqueue *queue, struct virtqueue_request *request);
const char *virtqueue_error(const struct virtqueue *queue);

/* As if the driver had broken a rule. */
void virtqueue_fail(struct virtqueue *queue, const char *error);

/* Completes a request, `written` bytes of whose writable buffers were written. The driver sees it
 * after virtqueue_publish. */
void virtqueue_push(struct virtqueue *queue, uint32_t token, uint32_t written);

/* Shows the driver what was pushed. Returns whether it wants to be notified of that. */
bool virtqueue_publish(struct virtqueue *queue);

/*
 * Whether the driver is to kick when it has made a request available. If this was switched on, the
 * answer is whether there are requests that it may have made before it knew. Pop these first. At
 * the beginning it is on.
 */
void virtqueue_disable_kicks(struct virtqueue *queue);
bool virtqueue_enable_kicks(struct virtqueue *queue);

/*
 * For a queue that stops, and goes on later if the driver was only paused: leaves a mark in the
 * used ring, where only the device writes; it says that kicks are not needed. A driver that has
 * reset the device has made its rings anew, with zeros in them (virtio specification 1.3,
 * 4.1.5.1.3), so it is not there any more. To be asked before the first virtqueue_enable_kicks.
 */
void virtqueue_leave_mark(struct virtqueue *queue);
bool virtqueue_has_mark(const struct virtqueue *queue);

/* The place of the next request in the available ring, and how many have been taken and not
 * pushed. */
uint16_t virtqueue_base(const struct virtqueue *queue);
uint32_t virtqueue_in_flight(const struct virtqueue *queue);

#endif
