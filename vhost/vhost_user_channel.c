/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What the back end asks of the front end, on the channel that it got from it for that. A reply is
 * never waited for: the front end may itself wait for a reply of ours. */

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "vhost_user_private.h"

/* ---- The channel -------------------------------------------------------------------------- */

void vhost_user_channel_init(struct vhost_user_channel *channel)
{
	*channel = (struct vhost_user_channel){ .fd = -1 };
}

static void answered(struct vhost_user *server, int status)
{
	server->channel.awaited = 0;
	server->ops.shmem_done(server->cookie, status);
}

void vhost_user_channel_close(struct vhost_user *server)
{
	struct vhost_user_channel *channel = &server->channel;

	if (channel->fd >= 0) {
		/* Closing is not enough as long as the front end has it too. */
		epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, channel->fd, NULL);
		close_fd(&channel->fd);
	}
	vhost_user_message_finish(&channel->reply);
	if (channel->awaited != 0) {
		answered(server, -ECONNRESET);
	}
}

static int check_stream(int fd)
{
	int type = 0;
	socklen_t size = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0) {
		return errno == ENOTSOCK ? -EINVAL : -errno;
	}
	return type == SOCK_STREAM ? 0 : -EINVAL;
}

int vhost_user_channel_set_take(struct vhost_user *server, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &server->channel };
	int ret = check_stream(fd);

	if (ret == 0) {
		vhost_user_channel_close(server);
		ret = epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
	}
	if (ret < 0) {
		close_fd(&fd);
		return ret;
	}
	server->channel.fd = fd;
	return 0;
}

/* Returns 0, or an error if it is no reply to what was asked. */
static int handle_reply(struct vhost_user *server)
{
	const struct vhost_user_message *reply = &server->channel.reply;

	if (server->channel.awaited == 0 || reply->header.request != server->channel.awaited ||
		reply->header.size != sizeof(reply->payload.number) || reply->num_fds > 0) {
		return -EPROTO;
	}
	answered(server, reply->payload.number == 0 ? 0 : -EREMOTEIO);
	return 0;
}

int vhost_user_channel_receive(struct vhost_user *server)
{
	struct vhost_user_channel *channel = &server->channel;
	int ret;

	if (channel->fd < 0) {
		return 0; /* closed in this round */
	}
	ret = vhost_user_receive(channel->fd, true, &channel->reply);
	if (ret > 0) {
		ret = handle_reply(server);
		vhost_user_message_finish(&channel->reply);
	}
	if (ret == -ECONNRESET) {
		vhost_user_log(server, VGF_LOG_DEBUG,
			"the front end has closed the channel of SET_BACKEND_REQ_FD");
		vhost_user_channel_close(server);
		return 0;
	}
	return ret < 0 ? ret : 0;
}

/* ---- Requests ----------------------------------------------------------------------------- */

static bool has_features(const struct vhost_user *server, uint64_t needed)
{
	return server->channel.fd >= 0 && (server->protocol_features & needed) == needed;
}

void vhost_user_config_changed(struct vhost_user *server)
{
	const struct vhost_user_header header = {
		.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		.flags = VHOST_USER_VERSION,
	};

	if (has_features(server,
		    BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT(VHOST_USER_PROTOCOL_F_CONFIG)) &&
		vhost_user_send(server->channel.fd, &header, NULL, -1) < 0) {
		vhost_user_log(server, VGF_LOG_WARNING,
			"the front end could not be told that the configuration has changed");
	}
}

bool vhost_user_has_shmem(const struct vhost_user *server)
{
	for (uint32_t i = 0; server->ops.shmem_size && i < VHOST_USER_MAX_SHMEM; i++) {
		if (server->ops.shmem_size(server->cookie, (uint8_t)i) > 0) {
			return true;
		}
	}
	return false;
}

static int ask(
	struct vhost_user *server, uint32_t request, const struct vhost_user_mmap *payload, int fd)
{
	const struct vhost_user_header header = {
		.request = request,
		.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY,
		.size = sizeof(*payload),
	};
	int ret;

	if (!has_features(server,
		    BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
			    BIT(VHOST_USER_PROTOCOL_F_SHMEM))) {
		return -EOPNOTSUPP;
	}
	if (server->channel.awaited != 0) {
		return -EBUSY;
	}
	ret = vhost_user_send(server->channel.fd, &header, payload, fd);
	if (ret == 0) {
		server->channel.awaited = request;
	}
	return ret;
}

int vhost_user_shmem_map(struct vhost_user *server, const struct vhost_user_mapping *mapping)
{
	const struct vhost_user_mmap payload = {
		.region = mapping->region,
		.fd_offset = mapping->fd_offset,
		.offset = mapping->offset,
		.size = mapping->size,
		.flags = mapping->writable ? VHOST_USER_MAP_READ_WRITE : 0,
	};

	return ask(server, VHOST_USER_BACKEND_SHMEM_MAP, &payload, mapping->fd);
}

int vhost_user_shmem_unmap(
	struct vhost_user *server, uint8_t region, uint64_t offset, uint64_t size)
{
	const struct vhost_user_mmap payload = {
		.region = region,
		.offset = offset,
		.size = size,
	};

	return ask(server, VHOST_USER_BACKEND_SHMEM_UNMAP, &payload, -1);
}
