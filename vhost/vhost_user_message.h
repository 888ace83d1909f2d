/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VHOST_USER_MESSAGE_H
#define VHOST_USER_MESSAGE_H

/*
 * The messages of vhost-user (QEMU, docs/interop/vhost-user.rst), and how they come and go on the
 * socket. All numbers are in the byte order of the machine.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest_memory.h"

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_GPU_SET_SOCKET = 33,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG = 37,
	VHOST_USER_REM_MEM_REG = 38,
	VHOST_USER_GET_SHARED_OBJECT = 41,
	VHOST_USER_GET_SHMEM_CONFIG = 44,
};

/* On the channel of VHOST_USER_SET_BACKEND_REQ_FD: from the back end to the front end. */
enum vhost_user_backend_request {
	VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
	VHOST_USER_BACKEND_SHARED_OBJECT_ADD = 6,
	VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE = 7,
	VHOST_USER_BACKEND_SHMEM_MAP = 9,
	VHOST_USER_BACKEND_SHMEM_UNMAP = 10,
};

/* A bit of the device's features, used by vhost-user itself. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30

enum vhost_user_protocol_feature {
	VHOST_USER_PROTOCOL_F_MQ = 0,
	VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
	VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
	VHOST_USER_PROTOCOL_F_CONFIG = 9,
	VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
	VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VHOST_USER_PROTOCOL_F_SHARED_OBJECT = 18,
	VHOST_USER_PROTOCOL_F_SHMEM = 22,
};

#define VHOST_USER_VERSION_MASK 3u
#define VHOST_USER_VERSION 1u
#define VHOST_USER_FLAG_REPLY (1u << 2)
#define VHOST_USER_FLAG_NEED_REPLY (1u << 3)

/* Of the number in SET_VRING_KICK, _CALL and _ERR. */
#define VHOST_USER_VRING_INDEX_MASK UINT64_C(0xff)
#define VHOST_USER_VRING_NO_FD (UINT64_C(1) << 8)

#define VHOST_USER_MAX_REGIONS 8 /* of SET_MEM_TABLE */
#define VHOST_USER_MAX_CONFIG 256
#define VHOST_USER_MAX_FDS 8

struct vhost_user_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload, in bytes */
};

struct vhost_user_vring_state {
	uint32_t index;
	uint32_t num;
};

struct vhost_user_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc, used, avail, log;
};

struct vhost_user_mem_table {
	uint32_t num_regions;
	uint32_t padding;
	struct guest_region regions[VHOST_USER_MAX_REGIONS];
};

struct vhost_user_mem_region {
	uint64_t padding;
	struct guest_region region;
};

struct vhost_user_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VHOST_USER_MAX_CONFIG];
};

/* Of GET_SHMEM_CONFIG: the size of each shared memory region in bytes, by its ID. */
#define VHOST_USER_MAX_SHMEM 256
struct vhost_user_shmem_config {
	uint32_t num_regions; /* whose size is not 0 */
	uint32_t padding;
	uint64_t sizes[VHOST_USER_MAX_SHMEM];
};

/* Of GET_SHARED_OBJECT, BACKEND_SHARED_OBJECT_ADD and _REMOVE. */
#define VHOST_USER_UUID_SIZE 16
struct vhost_user_shared {
	uint8_t uuid[VHOST_USER_UUID_SIZE];
};

/* Of BACKEND_SHMEM_MAP and _UNMAP. */
#define VHOST_USER_MAP_READ_WRITE 1u
struct vhost_user_mmap {
	uint8_t region;
	uint8_t padding[7];
	uint64_t fd_offset;
	uint64_t offset; /* in the region */
	uint64_t size;
	uint64_t flags;
};

union vhost_user_payload {
	uint64_t number;
	struct vhost_user_vring_state state;
	struct vhost_user_vring_addr addr;
	struct vhost_user_mem_table memory;
	struct vhost_user_mem_region region;
	struct vhost_user_config config;
	struct vhost_user_shared shared;
};

/* A message that is coming in, maybe in pieces. A function that takes one of its descriptors sets
 * it to -1. */
struct vhost_user_message {
	size_t received; /* bytes of header and payload */
	struct vhost_user_header header;
	union vhost_user_payload payload;
	size_t num_fds;
	int fds[VHOST_USER_MAX_FDS];
};

/*
 * Reads on, without waiting, until the message is complete. Returns 1 when it is; 0 if more has to
 * come; -ECONNRESET if nothing comes any more; -EPROTO for what cannot be a message: another
 * version, a payload that is too large, too many descriptors, a reply (or, if replies are expected,
 * anything else); what recvmsg says.
 */
int vhost_user_receive(int socket_fd, bool replies, struct vhost_user_message *message);

/* Closes the descriptors that nobody took and makes the message ready for the next one. */
void vhost_user_message_finish(struct vhost_user_message *message);

/* Sends a message at once, with a descriptor, which is borrowed, unless fd is below 0. -EAGAIN if
 * it does not fit into the socket: a front end that does not read. */
int vhost_user_send(
	int socket_fd, const struct vhost_user_header *header, const void *payload, int fd);

/* Its name, for messages; never NULL. */
const char *vhost_user_request_name(uint32_t request);

#endif
