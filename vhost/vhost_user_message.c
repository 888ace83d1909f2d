/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "vhost_user_message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_SIZE sizeof(struct vhost_user_header)

/* These are also the sizes on the wire, which has no padding. */
_Static_assert(sizeof(struct vhost_user_header) == 12, "header");
_Static_assert(sizeof(struct guest_region) == 32, "region");
_Static_assert(sizeof(struct vhost_user_vring_addr) == 40, "vring addresses");
_Static_assert(sizeof(struct vhost_user_mem_table) == 8 + 8 * 32, "memory table");
_Static_assert(sizeof(struct vhost_user_config) == 12 + 256, "configuration");
_Static_assert(sizeof(struct vhost_user_shmem_config) == 8 + 256 * 8, "shared memory");
_Static_assert(sizeof(struct vhost_user_mmap) == 40, "mapping");

/* ---- Receiving ---------------------------------------------------------------------------- */

/* Those that do not fit are closed, and the message is not accepted. */
static int keep_fds(struct vhost_user_message *message, const struct cmsghdr *cmsg)
{
	size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	const unsigned char *data = CMSG_DATA(cmsg);
	int ret = 0;

	for (size_t i = 0; i < count; i++) {
		int fd;

		memcpy(&fd, data + i * sizeof(fd), sizeof(fd));
		if (message->num_fds < VHOST_USER_MAX_FDS) {
			message->fds[message->num_fds++] = fd;
		} else {
			close(fd);
			ret = -EPROTO;
		}
	}
	return ret;
}

static int receive_fds(struct vhost_user_message *message, struct msghdr *msg)
{
	/* Cut short if there were more, or no room in our descriptor table. */
	int ret = msg->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
			keep_fds(message, cmsg) < 0) {
			ret = -EPROTO;
		}
	}
	return ret;
}

/* Returns 1 if all `size` bytes have come, else 0. */
static int receive(int socket_fd, struct vhost_user_message *message, char *to, size_t size)
{
	union {
		char bytes[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { to, size };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t length;
	int ret;

	do {
		length = recvmsg(socket_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (length < 0 && errno == EINTR);
	if (length < 0) {
		return errno == EAGAIN ? 0 : -errno;
	}
	ret = receive_fds(message, &msg);
	if (ret < 0) {
		return ret;
	}
	if (length == 0) {
		return -ECONNRESET;
	}
	message->received += (size_t)length;
	return (size_t)length == size;
}

static int check_header(const struct vhost_user_header *header, bool replies)
{
	if ((header->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
		!(header->flags & VHOST_USER_FLAG_REPLY) == replies ||
		header->size > sizeof(union vhost_user_payload)) {
		return -EPROTO;
	}
	return 0;
}

int vhost_user_receive(int socket_fd, bool replies, struct vhost_user_message *message)
{
	size_t size;
	int ret;

	if (message->received < HEADER_SIZE) {
		ret = receive(socket_fd, message, (char *)&message->header + message->received,
			HEADER_SIZE - message->received);
		if (ret > 0) {
			ret = check_header(&message->header, replies);
		} else if (ret == 0) {
			return 0;
		}
		if (ret < 0) {
			return ret;
		}
	}
	size = HEADER_SIZE + message->header.size - message->received;
	if (size == 0) {
		return 1;
	}
	return receive(socket_fd, message,
		(char *)&message->payload + message->received - HEADER_SIZE, size);
}

void vhost_user_message_finish(struct vhost_user_message *message)
{
	for (size_t i = 0; i < message->num_fds; i++) {
		if (message->fds[i] >= 0) {
			close(message->fds[i]);
		}
	}
	memset(message, 0, sizeof(*message)); /* nothing of one message is seen in another */
}

/* ---- Sending ------------------------------------------------------------------------------ */

/* room: for the control message, until the message is sent. */
static void add_fd(struct msghdr *msg, int fd, void *room, size_t size)
{
	struct cmsghdr *cmsg;

	memset(room, 0, size);
	msg->msg_control = room;
	msg->msg_controllen = size;
	cmsg = CMSG_FIRSTHDR(msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
}

int vhost_user_send(
	int socket_fd, const struct vhost_user_header *header, const void *payload, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov[] = { { (void *)header, HEADER_SIZE }, { (void *)payload, header->size } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = header->size > 0 ? 2 : 1 };
	ssize_t length;

	if (fd >= 0) {
		add_fd(&msg, fd, control.bytes, sizeof(control.bytes));
	}
	do {
		length = sendmsg(socket_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (length < 0 && errno == EINTR);
	if (length < 0) {
		return -errno;
	}
	return (size_t)length == HEADER_SIZE + header->size ? 0 : -EAGAIN;
}

/* ---- Names -------------------------------------------------------------------------------- */

const char *vhost_user_request_name(uint32_t request)
{
	static const char *const names[] = {
		[VHOST_USER_GET_FEATURES] = "GET_FEATURES",
		[VHOST_USER_SET_FEATURES] = "SET_FEATURES",
		[VHOST_USER_SET_OWNER] = "SET_OWNER",
		[VHOST_USER_RESET_OWNER] = "RESET_OWNER",
		[VHOST_USER_SET_MEM_TABLE] = "SET_MEM_TABLE",
		[VHOST_USER_SET_VRING_NUM] = "SET_VRING_NUM",
		[VHOST_USER_SET_VRING_ADDR] = "SET_VRING_ADDR",
		[VHOST_USER_SET_VRING_BASE] = "SET_VRING_BASE",
		[VHOST_USER_GET_VRING_BASE] = "GET_VRING_BASE",
		[VHOST_USER_SET_VRING_KICK] = "SET_VRING_KICK",
		[VHOST_USER_SET_VRING_CALL] = "SET_VRING_CALL",
		[VHOST_USER_SET_VRING_ERR] = "SET_VRING_ERR",
		[VHOST_USER_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
		[VHOST_USER_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
		[VHOST_USER_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
		[VHOST_USER_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
		[VHOST_USER_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
		[VHOST_USER_GET_CONFIG] = "GET_CONFIG",
		[VHOST_USER_SET_CONFIG] = "SET_CONFIG",
		[VHOST_USER_GPU_SET_SOCKET] = "GPU_SET_SOCKET",
		[VHOST_USER_RESET_DEVICE] = "RESET_DEVICE",
		[VHOST_USER_GET_MAX_MEM_SLOTS] = "GET_MAX_MEM_SLOTS",
		[VHOST_USER_ADD_MEM_REG] = "ADD_MEM_REG",
		[VHOST_USER_REM_MEM_REG] = "REM_MEM_REG",
		[VHOST_USER_GET_SHARED_OBJECT] = "GET_SHARED_OBJECT",
		[VHOST_USER_GET_SHMEM_CONFIG] = "GET_SHMEM_CONFIG",
	};
	const char *name = request < sizeof(names) / sizeof(names[0]) ? names[request] : NULL;

	return name ? name : "unknown request";
}
