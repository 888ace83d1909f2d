/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FRONT_END_H
#define FRONT_END_H

/*
 * A vhost-user front end for tests, with the guest's side of the virtqueues. By itself it behaves
 * well. It lets a test send any bytes with any descriptors, and write anything into the rings.
 *
 * If it cannot get what it needs for itself it ends the program, so tests need not look.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

#include "vhost_user_message.h"

#define FRONT_END_QUEUES 2

/* Two regions that follow each other in the guest, and one far away. The front end's addresses
 * differ from the guest's in all of them. */
#define FRONT_END_REGIONS 3
#define FRONT_END_REGION_SIZE 0x100000
#define FRONT_END_NEAR 0x10000
#define FRONT_END_NEXT (FRONT_END_NEAR + FRONT_END_REGION_SIZE)
#define FRONT_END_FAR 0x4000000000
#define FRONT_END_USER_OFFSET 0x100000000000 /* from a guest's to a front end's address */

struct front_end_region {
	struct guest_region where;
	int fd; /* a memfd; below 0: there is none */
	uint8_t *map;
};

struct front_end_queue {
	uint32_t size;
	uint64_t desc_addr, avail_addr, used_addr; /* the guest's */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail; /* what the guest will make available, and has not shown yet */
	uint16_t next_used;  /* what it has not looked at yet */
	int kick_fd, call_fd, err_fd; /* eventfds */
};

struct front_end {
	int socket_fd;  /* below 0: not connected */
	int channel_fd; /* on which the back end asks; below 0: there is none */
	/* Lets the device run if it is in this thread; NULL: it runs by itself. */
	void (*run)(void *arg);
	void *arg;
	uint64_t features; /* accepted */
	struct front_end_region regions[FRONT_END_REGIONS];
	uint64_t next_free; /* in the first region */
	struct front_end_queue queues[FRONT_END_QUEUES];
};

/* Makes the memory, and connects to a path. If that is NULL there is no back end, only the
 * memory. */
void front_end_init(
	struct front_end *front_end, const char *path, void (*run)(void *arg), void *arg);
void front_end_finish(struct front_end *front_end);

/* Closes the connection, as if the front end died; and makes another one. */
void front_end_disconnect(struct front_end *front_end);
void front_end_connect(struct front_end *front_end, const char *path);

/* ---- Messages ----------------------------------------------------------------------------- */

/* Any bytes, any descriptors. Returns how many bytes were sent, or an error. */
int front_end_send_bytes(struct front_end *front_end, const void *bytes, size_t size,
	const int *fds, size_t num_fds);

/* A message. flags: more than the version. */
void front_end_send(struct front_end *front_end, uint32_t request, uint32_t flags,
	const void *payload, uint32_t size, const int *fds, size_t num_fds);

/* Waits for a message. Returns the size of its payload; -ECONNRESET if the back end has
 * disconnected; -ETIME after some seconds. */
int front_end_receive(
	struct front_end *front_end, uint32_t *request, void *payload, size_t max_size);

/* Whether the back end has disconnected, or does so before it waits again. */
bool front_end_is_disconnected(struct front_end *front_end);

/* A message that wants an acknowledgement. Returns that, 0 or what the back end says, or an error
 * of front_end_receive. */
int64_t front_end_call(struct front_end *front_end, uint32_t request, const void *payload,
	uint32_t size, const int *fds, size_t num_fds);
int64_t front_end_call_number(struct front_end *front_end, uint32_t request, uint64_t number);
int64_t front_end_call_state(
	struct front_end *front_end, uint32_t request, uint32_t index, uint32_t num);

/* A message that has a number for its answer. */
uint64_t front_end_get_number(struct front_end *front_end, uint32_t request);

/* ---- The back end's channel --------------------------------------------------------------- */

/* Makes it and hands it over. Returns 0 if all goes well. */
int64_t front_end_open_channel(struct front_end *front_end);
void front_end_close_channel(struct front_end *front_end);

/* The next request on it, if there is one, with its payload. *fd: what came with it, or -1. */
bool front_end_asked(struct front_end *front_end, struct vhost_user_header *header,
	struct vhost_user_mmap *payload, int *fd);
void front_end_reply(struct front_end *front_end, uint32_t request, uint64_t number);

/* ---- Doing it right ----------------------------------------------------------------------- */

/* Accepts what is offered and in `features`, and all of the protocol's. */
void front_end_negotiate(struct front_end *front_end, uint64_t features);

int64_t front_end_set_memory(struct front_end *front_end); /* SET_MEM_TABLE: all regions */

/* Lays out the rings, at the next free place, and makes the descriptors. */
void front_end_make_queue(struct front_end *front_end, uint32_t index, uint32_t size);
void front_end_free_queue(struct front_end *front_end, uint32_t index);

/* Sets up a queue in the back end. Returns 0 if all goes well. */
int64_t front_end_start_queue(struct front_end *front_end, uint32_t index, uint16_t base);
int64_t front_end_set_addr(struct front_end *front_end, uint32_t index);
int64_t front_end_set_vring_fd(
	struct front_end *front_end, uint32_t request, uint32_t index, int fd);

/* Stops it (GET_VRING_BASE). Returns its base. */
uint16_t front_end_stop_queue(struct front_end *front_end, uint32_t index);

/* All of this, with all features and queues of 16. */
void front_end_start(struct front_end *front_end);

/* ---- The guest ---------------------------------------------------------------------------- */

/* Zeroed memory in the first region. */
uint64_t front_end_alloc(struct front_end *front_end, size_t size);

/* The pointer for a guest's address, which must be in memory. */
void *front_end_at(struct front_end *front_end, uint64_t addr);

/* The descriptor's numbers, as they are. */
void front_end_desc(struct front_end_queue *queue, uint32_t at, uint64_t addr, uint32_t size,
	uint16_t flags, uint16_t next);

/* Puts a chain's first descriptor in the available ring; shows what was put there; kicks. */
void front_end_offer(struct front_end_queue *queue, uint16_t head);
void front_end_show(struct front_end_queue *queue);
void front_end_kick(struct front_end_queue *queue);

/* One request of one readable and one writable buffer, in descriptors `head` and the one after it.
 * Shown, not kicked. Returns the writable buffer. */
void *front_end_request(struct front_end *front_end, uint32_t index, uint16_t head,
	const void *data, uint32_t size, uint32_t writable);

/* The next completion, if there is one. */
bool front_end_used(struct front_end_queue *queue, uint32_t *head, uint32_t *written);

/* How often the guest was notified since it was asked last. */
unsigned int front_end_notifications(struct front_end_queue *queue);

#endif
