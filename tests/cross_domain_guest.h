/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CROSS_DOMAIN_GUEST_H
#define CROSS_DOMAIN_GUEST_H

/* A guest with a cross-domain context, and the socket that stands for a compositor. */

#include <sys/types.h>

#include "gpu_guest.h"

#include "cross_domain_protocol.h"

#define CONTEXT 1u
#define QUERY_RING 1u /* resources, of a page at these offsets in the guest's memory */
#define CHANNEL_RING 2u
#define QUERY_OFFSET 0u
#define CHANNEL_OFFSET 4096u

#define ANY_RING VGF_RING_GLOBAL

struct cross_guest {
	struct guest guest;
	char directory[32], path[48];
	int listen_fd;
	int peer; /* the compositor's end of the context's channel */
	uint64_t last_fence;
};

/* A compositor listens, and a guest runs, with the renderer that the program was built for. */
void cross_start(struct cross_guest *cross);

/* The guest has a context with rings, and a channel. */
void cross_start_channel(struct cross_guest *cross);

/* The same with fences and dma-bufs of the kernel's, for which it has to have vgem and udmabuf.
 * path: of a real compositor; NULL: of the one that listens. */
void cross_start_in_kernel(struct cross_guest *cross, const char *path);
void cross_stop(struct cross_guest *cross);

/* These return the response's type. */
uint32_t cross_create_context(struct guest *guest, uint32_t ctx_id);
uint32_t cross_create_rings(struct guest *guest, uint32_t ctx_id);
uint32_t cross_create_blob(struct guest *guest, uint32_t ctx_id, uint32_t resource_id,
	uint64_t blob_id, uint64_t size);
uint32_t cross_init(struct guest *guest, uint32_t ctx_id, uint32_t query_ring,
	uint32_t channel_ring, uint32_t channel_type);

/* Takes the connection of an INIT. */
int cross_accept(const struct cross_guest *cross);

struct cross_submission {
	uint32_t ctx_id; /* 0: CONTEXT */
	int32_t ring;
	uint64_t fence_id; /* 0: not fenced */
	const void *stream;
	size_t size;
	uint64_t in_fence; /* 0: none */
};

/* Returns its token. */
uint32_t cross_submit(struct guest *guest, const struct cross_submission *submission);

/* Submits without a ring or a fence. Returns the response's type. */
uint32_t cross_call(struct guest *guest, const void *stream, size_t size);

struct cross_identifier {
	uint32_t type, id;
};

/* A SEND in a buffer, and its size. */
size_t cross_make_send(void *stream, const void *data, size_t size,
	const struct cross_identifier *identifiers, uint32_t count);
uint32_t cross_send(struct guest *guest, const void *data, size_t size,
	const struct cross_identifier *identifiers, uint32_t count);
uint32_t cross_write(struct guest *guest, uint32_t id, const void *data, size_t size, bool hang_up);

/* Returns the token of a POLL. */
uint32_t cross_poll(struct cross_guest *cross);
bool cross_is_done(struct guest *guest, uint32_t token);
uint32_t cross_type(struct guest *guest, uint32_t token); /* waits for it */

/* Lets the device do all that it can without anybody else. */
void cross_settle(struct guest *guest);

/* The compositor's end: sends bytes with descriptors, which stay the caller's; receives what is
 * there, up to 28 descriptors. */
void peer_send(int peer, const void *data, size_t size, const int *fds, uint32_t num_fds);
ssize_t peer_receive(int peer, void *data, size_t size, int *fds, uint32_t *num_fds);

/* What is in the channel ring. */
struct cross_domain_send_receive ring_receive(const struct cross_guest *cross);
struct cross_domain_read_write ring_read(const struct cross_guest *cross);

#endif
