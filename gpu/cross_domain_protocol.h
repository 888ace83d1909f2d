/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CROSS_DOMAIN_PROTOCOL_H
#define CROSS_DOMAIN_PROTOCOL_H

/*
 * What a guest and the host say to each other in a cross-domain context: docs/cross-domain.md. All
 * of it is little-endian. There is no specification; the layout is that of rutabaga_gfx
 * (cross_domain_protocol.rs), which sommelier, wayland-proxy-virtwl and muvm share. What is marked
 * as an extension is of this device alone, has numbers far from theirs, and is of no use to a guest
 * that has not seen it in the capability set.
 */

#include <stdint.h>

#define CAPSET_CROSS_DOMAIN 5

enum cross_domain_command {
	CROSS_DOMAIN_INIT = 1,
	CROSS_DOMAIN_GET_IMAGE_REQUIREMENTS = 2,
	CROSS_DOMAIN_POLL = 3,
	CROSS_DOMAIN_SEND = 4,
	CROSS_DOMAIN_RECEIVE = 5, /* from the host, as the next one */
	CROSS_DOMAIN_READ = 6,
	CROSS_DOMAIN_WRITE = 7,
	CROSS_DOMAIN_WAIT_FENCE = 0x80, /* an extension */
};

enum cross_domain_channel_type {
	CROSS_DOMAIN_NO_CHANNEL = 0,
	CROSS_DOMAIN_WAYLAND = 1,
};

enum cross_domain_id_type {
	CROSS_DOMAIN_ID_BLOB = 1,       /* a resource, or the blob ID of one to be made */
	CROSS_DOMAIN_ID_SYNC = 2,       /* the submission's in-fences, or a sync file that came */
	CROSS_DOMAIN_ID_READ_PIPE = 3,  /* the guest reads */
	CROSS_DOMAIN_ID_WRITE_PIPE = 4, /* the guest writes */
	CROSS_DOMAIN_ID_FENCED_BLOB = 0x80, /* an extension: a resource, for its fences alone */
};

/* Extensions that there are. */
enum cross_domain_fences {
	/* SEND takes CROSS_DOMAIN_ID_SYNC: one sync file for all in-fences of the submission. The
	 * identifier is 0. */
	CROSS_DOMAIN_SENDS_FENCES = 1u << 0,
	/* SEND takes CROSS_DOMAIN_ID_FENCED_BLOB: the in-fences are put on the dma-buf of this
	 * resource, which is not sent. */
	CROSS_DOMAIN_ATTACHES_FENCES = 1u << 1,
	/* RECEIVE may have CROSS_DOMAIN_ID_SYNC, and there is WAIT_FENCE. */
	CROSS_DOMAIN_RECEIVES_FENCES = 1u << 2,
};

/* Rings of the context, on which the fences of such commands are. */
#define CROSS_DOMAIN_QUERY_RING 0
#define CROSS_DOMAIN_CHANNEL_RING 1

/* As many descriptors as libwayland sends with one message. */
#define CROSS_DOMAIN_MAX_IDENTIFIERS 28

/* Identifiers of pipes that the guest reads begin here. It chooses them. */
#define CROSS_DOMAIN_FIRST_READ_PIPE 0x80000000u

/* What the host puts into the channel ring is no longer, header included. */
#define CROSS_DOMAIN_MAX_RECEIVE 4096u

/* The capability set. */
struct cross_domain_capset {
	uint32_t version;            /* 1: the commands above */
	uint32_t supported_channels; /* a bit for each type */
	uint32_t supports_dmabuf;    /* whether images of the host's are dma-bufs */
	uint32_t supports_external_gpu_memory;
	uint32_t unused[12]; /* 0 */
	/* Of enum cross_domain_fences, an extension. The sets of others end before it: a guest's
	 * kernel then leaves what the guest had there, which has to be 0. */
	uint32_t fences;
};

/* What each command begins with. */
struct cross_domain_header {
	uint8_t command;
	uint8_t ring_idx; /* means nothing */
	uint16_t size;    /* of all of the command */
	uint32_t padding;
};

/* The rings are resources. */
struct cross_domain_init {
	struct cross_domain_header header;
	uint32_t query_ring;
	uint32_t channel_ring;
	uint32_t channel_type;
};

struct cross_domain_get_image_requirements {
	struct cross_domain_header header;
	uint32_t width, height;
	uint32_t drm_format;
	uint32_t flags; /* of GBM; means nothing, as all images are linear */
};

/* The answer, at the start of the query ring. */
struct cross_domain_image_requirements {
	uint32_t strides[4];
	uint32_t offsets[4];
	uint64_t modifier;
	uint64_t size;
	uint32_t blob_id;
	uint32_t map_info;
	int32_t memory_index, physical_device_index; /* of Vulkan; -1 */
};

/* SEND, and RECEIVE at the start of the channel ring. The bytes follow. */
struct cross_domain_send_receive {
	struct cross_domain_header header;
	uint32_t num_identifiers;
	uint32_t data_size;
	uint32_t identifiers[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t identifier_types[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t identifier_sizes[CROSS_DOMAIN_MAX_IDENTIFIERS];
};

/* WRITE, and READ at the start of the channel ring. The bytes follow. */
struct cross_domain_read_write {
	struct cross_domain_header header;
	uint32_t identifier;
	uint32_t hang_up;
	uint32_t data_size;
	uint32_t padding;
};

/*
 * An extension. The fence of the submission, whose last command this is, signals with the fence
 * that is named: CROSS_DOMAIN_ID_SYNC, a sync file that came, which is closed then, or
 * CROSS_DOMAIN_ID_BLOB, what is on a resource's dma-buf now. Without a fence, a sync file is only
 * closed.
 */
struct cross_domain_wait_fence {
	struct cross_domain_header header;
	uint32_t identifier_type;
	uint32_t identifier;
};

#endif
