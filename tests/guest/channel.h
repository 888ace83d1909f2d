/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CHANNEL_H
#define CHANNEL_H

/*
 * A cross-domain context of the guest's virtio-gpu, with a channel to the host's compositor:
 * docs/cross-domain.md. Errors are negative errno values. The host tells the guest of none: it logs
 * them, and the channel ends.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cross_domain_protocol.h"
#include "virtgpu_uapi.h"

/* Bytes of one SEND or WRITE. */
#define CHANNEL_MAX_DATA 16384u

struct channel_ring {
	uint32_t handle, resource;
	void *address;
};

struct channel {
	int fd; /* of the render node: readable when something has come */
	bool has_host_memory;
	uint32_t fences; /* enum cross_domain_fences: what the device can do with them */
	struct channel_ring query, ring;
	/* The host keeps a bounded number of messages: of every so many one has a fence here. */
	int marks[2]; /* older first; or -1 */
	uint32_t num_unmarked;
};

/* Fences are passed to the host if kernel and device can: else the kernel waits. */
int channel_open(struct channel *channel);
void channel_close(struct channel *channel);

/* What stands for a descriptor in a message. */
struct channel_identifier {
	uint32_t id, type, size;
};

/* The in-fence, a sync file or -1, stays the caller's. */
int channel_send(struct channel *channel, const void *data, size_t size,
	const struct channel_identifier *identifiers, uint32_t num_identifiers, int in_fence_fd);

/* Of CROSS_DOMAIN_ID_SYNC, that has come: a sync file of the guest's, which signals with it. These
 * signal in the order in which they are asked for. */
int channel_take_fence(struct channel *channel, const struct channel_identifier *identifier);

/* To a pipe that the host has sent. */
int channel_write(
	struct channel *channel, uint32_t id, const void *data, size_t size, bool hang_up);

/* A fence that has to signal before more is sent, or -1. It stays the channel's. */
int channel_busy_fd(struct channel *channel);

struct channel_received {
	bool is_end;  /* of the channel */
	bool is_read; /* from the pipe `id`, and not a message */
	uint32_t id;
	bool hang_up;
	const uint8_t *data; /* until the next poll */
	size_t size;
	struct channel_identifier identifiers[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t num_identifiers;
};

/* Asks for what comes next: once, and again when that has been received. */
int channel_poll(struct channel *channel);

/* When the descriptor is readable. */
int channel_receive(struct channel *channel, struct channel_received *received);

/* Memory of the guest or of the host, mapped, which can be sent as `resource` until the handle is
 * closed. */
struct channel_memory {
	uint32_t handle, resource;
	void *address; /* or NULL: of others */
	size_t size;
	bool is_host_memory;
};

int channel_create_memory(struct channel *channel, size_t size, struct channel_memory *memory);
int channel_import(struct channel *channel, int dma_buf_fd, struct channel_memory *memory);
void channel_close_handle(struct channel *channel, struct channel_memory *memory);
void channel_unmap(struct channel_memory *memory);

/* A file that has come, as one of the guest's own. A descriptor. Without a window into memory of
 * the host it is an empty one. */
int channel_copy_file(struct channel *channel, const struct channel_identifier *identifier);

#endif
