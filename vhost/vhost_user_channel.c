/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What the back end asks of the front end, on the channel that it got from it for that. A reply is
 * never waited for: the front end may itself wait for a reply of ours. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "fd_kind.h"
#include "vhost_user_private.h"

/* ---- The channel -------------------------------------------------------------------------- */

void vhost_user_channel_init(struct vhost_user_channel *channel)
{
	*channel = (struct vhost_user_channel){ .fd = -1, .held_fd = -1 };
}

static void answered(struct vhost_user *server, int status)
{
	uint32_t request = server->channel.awaited;

	server->channel.awaited = 0;
	vhost_user_shmem_answered(server, request, status);
}

static void drop_held(struct vhost_user_channel *channel)
{
	close_fd(&channel->held_fd);
	channel->held_size = 0;
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
	drop_held(channel);
	channel->holds_config_changed = false;
	if (channel->awaited != 0) {
		answered(server, -ECONNRESET);
	}
}

int vhost_user_channel_set_take(struct vhost_user *server, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &server->channel };
	int ret = fd_check_unix_socket(fd, SOCK_STREAM);

	if (ret == 0) {
		vhost_user_channel_close(server);
		ret = epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
	}
	if (ret < 0) {
		close_fd(&fd);
		return ret;
	}
	server->channel.fd = fd;
	/* What was told on the one before, or without one, may have got nowhere. */
	if (server->channel.config_changed) {
		vhost_user_config_changed(server);
	}
	return 0;
}

/* Returns 0, or an error if it is no reply to what was asked. */
static int handle_reply(struct vhost_user *server)
{
	const struct vhost_user_channel *channel = &server->channel;
	const struct vhost_user_message *reply = &channel->reply;

	if (channel->awaited == 0 || channel->held_size > 0 ||
		reply->header.request != channel->awaited ||
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

bool vhost_user_channel_has(const struct vhost_user *server, uint64_t features)
{
	features |= BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ);
	return server->channel.fd >= 0 && (server->protocol_features & features) == features;
}

static int send_request(struct vhost_user *server, uint32_t request, uint32_t flags,
	const void *payload, uint32_t size, int fd)
{
	const struct vhost_user_header header = {
		.request = request,
		.flags = VHOST_USER_VERSION | flags,
		.size = size,
	};

	return vhost_user_send(server->channel.fd, &header, payload, fd);
}

int vhost_user_channel_tell(
	struct vhost_user *server, uint32_t request, const void *payload, uint32_t size)
{
	return send_request(server, request, 0, payload, size, -1);
}

static void watch_for_room(struct vhost_user *server)
{
	struct vhost_user_channel *channel = &server->channel;
	bool holds = channel->held_size > 0 || channel->holds_config_changed;
	struct epoll_event event = {
		.events = EPOLLIN | (holds ? EPOLLOUT : 0),
		.data.ptr = channel,
	};

	epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, channel->fd, &event);
}

static int hold(struct vhost_user *server, const void *payload, uint32_t size, int fd)
{
	struct vhost_user_channel *channel = &server->channel;

	if (fd >= 0) {
		channel->held_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (channel->held_fd < 0) {
			return -errno;
		}
	}
	memcpy(&channel->held_payload, payload, size);
	channel->held_size = size;
	watch_for_room(server);
	return 0;
}

int vhost_user_channel_ask(
	struct vhost_user *server, uint32_t request, const void *payload, uint32_t size, int fd)
{
	int ret;

	if (server->channel.awaited != 0) {
		return -EBUSY;
	}
	ret = send_request(server, request, VHOST_USER_FLAG_NEED_REPLY, payload, size, fd);
	if (ret == -EAGAIN) {
		ret = hold(server, payload, size, fd);
	}
	if (ret == 0) {
		server->channel.awaited = request;
	}
	return ret;
}

void vhost_user_config_changed(struct vhost_user *server)
{
	int ret;

	server->channel.config_changed = true;
	if (!vhost_user_channel_has(server, BIT(VHOST_USER_PROTOCOL_F_CONFIG))) {
		return;
	}
	ret = vhost_user_channel_tell(server, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, NULL, 0);
	if (ret == -EAGAIN) {
		server->channel.holds_config_changed = true;
		watch_for_room(server);
	} else if (ret < 0) {
		vhost_user_log(server, VGF_LOG_WARNING,
			"the front end could not be told that the configuration has changed");
	}
}

static void send_held_request(struct vhost_user *server)
{
	struct vhost_user_channel *channel = &server->channel;
	int ret = send_request(server, channel->awaited, VHOST_USER_FLAG_NEED_REPLY,
		&channel->held_payload, channel->held_size, channel->held_fd);

	if (ret != -EAGAIN) {
		drop_held(channel);
	}
	if (ret < 0 && ret != -EAGAIN) {
		answered(server, ret);
	}
}

void vhost_user_channel_send_held(struct vhost_user *server)
{
	struct vhost_user_channel *channel = &server->channel;

	if (channel->held_size == 0 && !channel->holds_config_changed) {
		return;
	}
	if (channel->held_size > 0) {
		send_held_request(server);
	}
	if (channel->holds_config_changed) {
		channel->holds_config_changed = false;
		vhost_user_config_changed(server);
	}
	watch_for_room(server);
}

/* ---- Objects for other devices ------------------------------------------------------------ */

static int tell_of_object(struct vhost_user *server, uint32_t request, const uint8_t *uuid)
{
	if (!vhost_user_channel_has(server, BIT(VHOST_USER_PROTOCOL_F_SHARED_OBJECT))) {
		return -EOPNOTSUPP;
	}
	return vhost_user_channel_tell(server, request, uuid, VHOST_USER_UUID_SIZE);
}

int vhost_user_share_object(struct vhost_user *server, const uint8_t *uuid)
{
	return tell_of_object(server, VHOST_USER_BACKEND_SHARED_OBJECT_ADD, uuid);
}

int vhost_user_unshare_object(struct vhost_user *server, const uint8_t *uuid)
{
	return tell_of_object(server, VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, uuid);
}
