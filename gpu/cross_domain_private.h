/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CROSS_DOMAIN_PRIVATE_H
#define CROSS_DOMAIN_PRIVATE_H

/* What the files of cross-domain contexts share. One thread. Errors are negative errno values. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include <vgfence/context_driver.h>

#include "cross_domain_protocol.h"
#include "gpu_private.h"
#include "queue.h"
#include "renderer.h"

struct cross_context;

/* ---- Watches -------------------------------------------------------------------------------- */

/* A descriptor in the epoll set of all contexts, as long as `events` are not 0. */
struct cross_watch {
	int fd;
	uint32_t events;
	void (*ready)(void *arg);
	void *arg;
};

struct cross_domain {
	struct renderer base;
	struct renderer_ops ops;
	struct gpu *gpu;
	struct renderer *inner;
	uint32_t num_inner_capsets;
	struct sockaddr_un address;
	int epoll_fd;
	int pipe_fds[2]; /* what is written to pipes that came goes through this one */
	void *contexts;  /* open ones by ID, of tsearch */
	void *blobs;     /* by resource ID, of tsearch */
	uint32_t num_contexts;
	uint32_t num_attached;           /* of all contexts */
	TAILQ_HEAD(, cross_context) all; /* also those that are destroyed, and still send */
	uint32_t num_fds, max_fds;
	uint64_t memory_size; /* of blobs and items */
	int signalled_fd;     /* a sync file that has signalled; below 0: there can be none here */
};

/* events: of epoll; 0: not any more. */
int cross_watch_set(struct cross_domain *domain, struct cross_watch *watch, uint32_t events);

/* ---- Bytes that are sent -------------------------------------------------------------------- */

struct cross_bytes {
	TAILQ_ENTRY(cross_bytes) link;
	struct cross_context *context;
	size_t size, at; /* what was sent before `at` is gone */
	int fds[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t num_fds;    /* 0 once they are sent */
	uint32_t sync_files; /* a bit for each of these that is a sync file of the in-fences */
	int fenced_fds[CROSS_DOMAIN_MAX_IDENTIFIERS]; /* dma-bufs that get the in-fences */
	uint32_t num_fenced;
	uint8_t data[];
};

TAILQ_HEAD(cross_queue, cross_bytes);

/* Counted with what waits of the context. NULL at MAX_CROSS_DOMAIN_WAITING, with -ENOSPC, or
 * -ENOMEM. */
struct cross_bytes *cross_bytes_create(
	struct cross_context *context, const void *data, size_t size, int *error);
void cross_bytes_destroy(struct cross_bytes *bytes); /* with its descriptors; NULL is fine */
void cross_queue_clear(struct cross_queue *queue);

/* ---- Messages ------------------------------------------------------------------------------- */

struct cross_command {
	enum cross_domain_command type;
	union {
		struct cross_domain_init init;
		struct cross_domain_get_image_requirements image;
		struct cross_domain_read_write write;
	} body;                    /* in the host's byte order */
	struct cross_bytes *bytes; /* of SEND and WRITE */
};

/* A submission, from when it came until it is run. */
struct cross_message {
	TAILQ_ENTRY(cross_message) link;
	struct vgf_fence_name fence;
	bool fenced, has_poll;
	bool takes_fences;   /* its in-fences go with what it sends */
	uint32_t num_fenced; /* dma-bufs that get them */
	int wait_fd;         /* of WAIT_FENCE: a sync file that its fence becomes; below 0: none */
	uint32_t num_commands;
	struct cross_command commands[MAX_CROSS_DOMAIN_COMMANDS];
};

/*
 * Reads a submission of the guest's. What its identifiers name is looked up now: the guest may give
 * it back as soon as it has sent the message. Says in the log what is wrong.
 */
int cross_message_create(struct cross_context *context, const struct vgf_submission *submission,
	struct cross_message **out);
void cross_message_destroy(struct cross_context *context, struct cross_message *message);

/* ---- Items ---------------------------------------------------------------------------------- */

enum cross_item_type {
	CROSS_ITEM_MEMORY,     /* a file that came, until the guest makes a blob of it */
	CROSS_ITEM_READ_PIPE,  /* our end of a pipe that the guest reads */
	CROSS_ITEM_WRITE_PIPE, /* the end of a pipe that came, and the guest writes to */
	CROSS_ITEM_SYNC,       /* a sync file that came, until the guest waits for it */
};

struct cross_item {
	LIST_ENTRY(cross_item) link;
	struct cross_context *context;
	uint32_t id;
	enum cross_item_type type;
	int fd;                   /* of a pipe: below 0 if nobody reads it any more */
	uint64_t size;            /* of memory */
	bool is_ours;             /* a copy, which counts as memory */
	struct cross_watch watch; /* of a pipe that takes nothing now */
	struct cross_queue queue; /* what waits for that */
	bool is_over;             /* the guest has hung up: ends with its queue */
};

struct cross_item *cross_item_find(struct cross_context *context, uint32_t id);
void cross_item_destroy(struct cross_item *item);

/* Its descriptor, still counted; the item is gone. */
int cross_item_take_fd(struct cross_item *item);

/* A pipe that the guest reads, and calls `id`. *write_fd: its other end, counted, for whoever
 * writes. */
int cross_item_create_pipe(struct cross_context *context, uint32_t id, int *write_fd);

/* A descriptor that came, not counted yet, which it owns in any case. NULL with *error, and a
 * reason. */
struct cross_item *cross_item_create_take(
	struct cross_context *context, int fd, int *error, const char **reason);

/* Writes what a guest sends to a pipe, or lets it wait; owns the bytes, NULL for none. */
int cross_item_write_take(
	struct cross_context *context, uint32_t id, struct cross_bytes *bytes, bool hang_up);

/* ---- Fences --------------------------------------------------------------------------------- */

/* A sync file that has signalled, or an error if this machine can make none. */
int cross_fence_make_signalled(void);

/* Of enum cross_domain_fences. */
uint32_t cross_fences_supported(const struct cross_domain *domain);

/* Gives a job's in-fences to what the message sends. Returns 0; or what has the host wait for them
 * instead, and the job come again: -EOPNOTSUPP, -EMFILE, -ENFILE, -ENOMEM. */
int cross_fences_give(const struct cross_message *message, const struct vgf_job *job);

/* ---- Memory --------------------------------------------------------------------------------- */

/* An image, linear. The answer is in the host's byte order. -EINVAL for an unknown format, an empty
 * image, or one that is too large. */
int cross_image_requirements(const struct cross_domain_get_image_requirements *image,
	struct cross_domain_image_requirements *answer);

/* Memory of the host, or a copy of a file there, counted; a descriptor. size: whole pages. */
int cross_memory_create(struct cross_domain *domain, uint64_t size);
int cross_memory_copy(struct cross_domain *domain, int fd, uint64_t file_size, uint64_t *size);

/* Memory of the host that the guest has as a resource. */
struct cross_blob {
	uint32_t id; /* the first member, as of struct resource */
	int fd;
	uint64_t size;
	bool is_ours;
};

struct cross_blob *cross_blob_find(const struct cross_domain *domain, uint32_t resource_id);
int cross_blob_create(
	struct cross_context *context, uint32_t resource_id, uint64_t blob_id, uint64_t size);
void cross_blob_destroy(struct cross_domain *domain, struct cross_blob *blob);

/* ---- Contexts ------------------------------------------------------------------------------- */

/* A resource that a context has, or a ring; another may have the ID by then. */
struct cross_attached {
	uint32_t id; /* the first member */
	uint64_t serial;
};

struct cross_channel {
	int socket_fd; /* below 0: none */
	int epoll_fd;  /* the socket, and pipes that the guest reads */
	bool has_ended;
	struct cross_watch incoming, outgoing;
	struct cross_queue queue;                            /* to the socket */
	struct vgf_fence_name polls[MAX_CROSS_DOMAIN_POLLS]; /* POLLs that nothing has come for */
	uint32_t num_polls;
};

struct cross_context {
	uint32_t id; /* the first member */
	struct cross_domain *domain;
	TAILQ_ENTRY(cross_context) link;
	bool is_open;
	bool has_ended; /* the library has none any more; it stays while bytes wait */
	bool is_initialized;
	void *attached; /* struct cross_attached by ID, of tsearch */
	uint32_t num_attached;
	struct cross_attached query_ring, channel_ring;
	struct cross_channel channel;
	LIST_HEAD(, cross_item) items;
	uint32_t num_items, last_item_id;
	TAILQ_HEAD(, cross_message) messages; /* in the order in which they came */
	uint32_t num_messages;
	size_t waiting; /* memory of cross_bytes */
	uint32_t num_fds;
};

struct cross_context *cross_context_find(const struct cross_domain *domain, uint32_t ctx_id);
int cross_context_create(struct cross_domain *domain, uint32_t ctx_id);
int cross_context_destroy(struct cross_context *context);

/* Frees one that has ended if all that it sent has been taken, or lost. */
void cross_context_settle(struct cross_context *context);

/* Frees those that have ended; what waits of them is lost. */
void cross_contexts_drop(struct cross_domain *domain);

int cross_context_attach(struct cross_context *context, uint32_t resource_id);
void cross_context_detach(struct cross_context *context, uint32_t resource_id);
int cross_context_submit(
	struct cross_context *context, const struct vgf_submission *submission, bool *will_retire);

/* A resource that the context has, or NULL. */
struct resource *cross_context_resource(struct cross_context *context, uint32_t resource_id);

/* Counts descriptors; -EMFILE if there would be too many. */
int cross_take_fds(struct cross_context *context, uint32_t count);
void cross_give_fds(struct cross_context *context, uint32_t count);

/* Closes one that is counted. */
void cross_close(struct cross_context *context, int *fd);

/* What a guest did wrong, with the names by which it knows that. Returns the error. */
int cross_refuse(const struct cross_context *context, const struct vgf_fence_name *fence,
	bool fenced, int error, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Writes to a ring, the header last; -ENOENT if its memory is gone. */
int cross_ring_write(struct cross_context *context, const struct cross_attached *ring,
	const void *header, size_t header_size, const void *data, size_t data_size);

/* ---- The channel ---------------------------------------------------------------------------- */

void cross_channel_init(struct cross_context *context);

/* Connects. */
int cross_channel_open(struct cross_context *context);

/* Sends, or lets it wait; owns the bytes. */
int cross_channel_send_take(struct cross_context *context, struct cross_bytes *bytes);

/* The fence is signalled when there is something in the ring. */
int cross_channel_poll(struct cross_context *context, const struct vgf_fence_name *fence);

/* A pipe that the guest reads. */
int cross_channel_watch_pipe(struct cross_context *context, const struct cross_item *item);

/* Nothing is sent or received any more, and the guest is told so. */
void cross_channel_end(struct cross_context *context, const char *reason);

/* The queue is about to stop: the same, if there are POLLs that it would have to wait for. */
void cross_channel_give_up(struct cross_context *context);

/* POLLs wait no longer, and nobody is told anything: the context goes. */
void cross_channel_drop_polls(struct cross_context *context);
void cross_channel_finish(struct cross_context *context);

#endif
