/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VHOST_USER_PRIVATE_H
#define VHOST_USER_PRIVATE_H

/* What the files vhost_user*.c share. */

#include <sys/epoll.h>

#include "log_limit.h"
#include "unix_listener.h"
#include "vhost_user.h"
#include "vhost_user_message.h"

#define MAX_EVENTS 16

/* A descriptor to write to. */
struct notifier {
	int fd; /* below 0: there is none */
	bool is_socket;
};

struct vhost_user_queue {
	struct vhost_user *server;
	uint32_t index;
	struct virtqueue_layout layout; /* its size is 0 until it is set */
	bool has_rings;                 /* the layout's addresses are set */
	bool enabled;
	uint16_t base; /* the index at which it starts */
	bool has_run;  /* since the device was reset */
	bool has_more; /* requests that wait for the next round */
	int kick_fd;   /* below 0: there is none */
	struct notifier call, err;
	struct virtqueue *ring; /* NULL: stopped */
	bool told_failure;      /* that the ring is wrong */
	/* Requests that were taken, and left to `handle`: a ring with a place for each of the
	 * queue. NULL without another thread. */
	struct virtqueue_request *deferred;
	uint32_t first_deferred, num_deferred;
};

/* The channel on which the back end asks, and the front end replies. */
struct vhost_user_channel {
	int fd;                          /* below 0: there is none */
	struct vhost_user_message reply; /* as far as it has come in */
	uint32_t awaited;                /* the request that it is of; 0: none is awaited */
	bool config_changed;             /* since the front end came */
	/* What did not fit into the socket, and is sent when there is room. */
	bool holds_config_changed;
	uint32_t held_size; /* of the payload of what is awaited; 0: that is sent */
	struct vhost_user_mmap held_payload;
	int held_fd; /* or below 0 */
};

/* What is in shared memory. */
struct vhost_user_shmem {
	void *by_place, *by_file; /* the same files: trees of tsearch */
	struct shmem_file *asked; /* whose mapping is asked for, or whose end; or NULL */
	bool maps;                /* it is asked for */
	uint32_t num_regions;     /* of memory that the front end takes for the guest's */
};

struct vhost_user {
	struct vhost_user_device_ops ops;
	void *cookie;
	int epoll_fd;
	int kick_set;                          /* of another thread's; -1: there is none */
	bool is_paused;                        /* nothing is offered to `handle_aside` */
	struct epoll_event events[MAX_EVENTS]; /* of this round */
	int num_events;
	struct unix_listener listener;
	bool accept_failed; /* not listened to for a moment */
	struct log_limit log_limit;
	int socket_fd; /* of the front end; below 0: there is none */
	struct vhost_user_channel channel;
	struct vhost_user_shmem shmem;
	uint64_t features, protocol_features;
	struct guest_memory *memory;
	struct vhost_user_message message;
	uint32_t num_queues;
	struct vhost_user_queue queues[];
};

#define BIT(bit) (UINT64_C(1) << (bit))

__attribute__((format(printf, 3, 4))) void vhost_user_log(
	struct vhost_user *server, enum vgf_log_level level, const char *format, ...);

void close_fd(int *fd); /* and sets it to -1 */

/* ---- vhost_user_channel.c ----------------------------------------------------------------- */

void vhost_user_channel_init(struct vhost_user_channel *channel);

/* Takes the descriptor in place of the one before. -EINVAL for what is no stream of a socket; what
 * epoll_ctl failed with. */
int vhost_user_channel_set_take(struct vhost_user *server, int fd);

/* A request that is not answered fails. */
void vhost_user_channel_close(struct vhost_user *server);

/* Reads what has come. An error: the front end has to be disconnected. */
int vhost_user_channel_receive(struct vhost_user *server);

/* Sends what did not fit before. */
void vhost_user_channel_send_held(struct vhost_user *server);

/* What a request needs, of the protocol's features. */
bool vhost_user_channel_has(const struct vhost_user *server, uint64_t features);

/* A request that wants a reply, and may have a descriptor, which is borrowed; or below 0. One that
 * does not fit is sent when there is room. Its payload: up to a struct vhost_user_mmap. Returns 0;
 * -EBUSY if a reply is awaited; what sendmsg failed with, or copying the descriptor. */
int vhost_user_channel_ask(
	struct vhost_user *server, uint32_t request, const void *payload, uint32_t size, int fd);

/* One that wants none. -EAGAIN if it does not fit. */
int vhost_user_channel_tell(
	struct vhost_user *server, uint32_t request, const void *payload, uint32_t size);

/* ---- vhost_user_shmem.c ------------------------------------------------------------------- */

/* Whether the device has shared memory at all. */
bool vhost_user_has_shmem(const struct vhost_user *server);

/* The answer to what was asked last. */
void vhost_user_shmem_answered(struct vhost_user *server, uint32_t request, int status);

/* Whether the file is in shared memory, or is about to be. */
bool vhost_user_shmem_has(const struct vhost_user *server, int fd);

/* The front end has reset the device, and unmapped everything. */
void vhost_user_shmem_reset(struct vhost_user *server);

/* There is no front end any more that has it. */
void vhost_user_shmem_forget(struct vhost_user *server);

/* ---- vhost_user_request.c ----------------------------------------------------------------- */

/* Handles the message that has come in. An error: the front end has to be disconnected. */
int vhost_user_handle_message(struct vhost_user *server);

/* The guest has reset the device, as this queue shows. */
void vhost_user_begin_anew(struct vhost_user_queue *queue);

/* Everything that a front end has set is gone, and so is what its guest made. */
void vhost_user_forget(struct vhost_user *server);

/* ---- vhost_user_queue.c ------------------------------------------------------------------- */

void vhost_user_queue_init(
	struct vhost_user_queue *queue, struct vhost_user *server, uint32_t index);

/* Back to what it was after vhost_user_queue_init. It must be stopped. */
void vhost_user_queue_finish(struct vhost_user_queue *queue);

/* Also while the queue runs: what may have gone to the one before is not lost. -EINVAL for a
 * descriptor that is no eventfd (or socket, except for a kick); what epoll_ctl failed with. fd:
 * below 0 for none. */
int vhost_user_queue_set_kick_take(struct vhost_user_queue *queue, int fd);
int vhost_user_queue_set_call_take(struct vhost_user_queue *queue, int fd);
int vhost_user_queue_set_err_take(struct vhost_user_queue *queue, int fd);

/* Starts the queue if it is complete, enabled and stopped. */
int vhost_user_queue_start(struct vhost_user_queue *queue);

/* Completes what it can, and stops the queue. Nothing of it may be in flight. */
void vhost_user_queue_stop(struct vhost_user_queue *queue);

/* The server's memory has changed. */
void vhost_user_queue_set_memory(struct vhost_user_queue *queue);

/* Hands the requests that are available to the device. */
void vhost_user_queue_process(struct vhost_user_queue *queue);

/* vhost_user_process_deferred, of one queue. */
void vhost_user_queue_process_deferred(struct vhost_user_queue *queue);

/* vhost_user_process_aside, of one queue. */
bool vhost_user_queue_process_aside(struct vhost_user_queue *queue);

/* Shows the guest what was completed, and notifies it if it wants to be. */
void vhost_user_queue_publish(struct vhost_user_queue *queue);

#endif
