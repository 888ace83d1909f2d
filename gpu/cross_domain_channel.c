/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The connection of a cross-domain context to the compositor. Each way has its bound: what comes is
 * read if the guest polls for it, and a socket that takes nothing has a queue.
 */

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cross_domain_private.h"

/* In place of a pipe's identifier. */
#define THE_SOCKET 0u

#define MAX_DATA (CROSS_DOMAIN_MAX_RECEIVE - sizeof(struct cross_domain_send_receive))
#define MAX_PIPE_DATA (CROSS_DOMAIN_MAX_RECEIVE - sizeof(struct cross_domain_read_write))

static void receive(void *arg);
static void send_more(void *arg);

void cross_channel_init(struct cross_context *context)
{
	struct cross_channel *channel = &context->channel;

	channel->socket_fd = channel->epoll_fd = -1;
	channel->incoming = (struct cross_watch){ .fd = -1, .ready = receive, .arg = context };
	channel->outgoing = (struct cross_watch){ .fd = -1, .ready = send_more, .arg = context };
	TAILQ_INIT(&channel->queue);
}

/* ---- The guest's polls ---------------------------------------------------------------------- */

/* Something comes only while somebody polls for it. */
static int watch_incoming(struct cross_context *context)
{
	struct cross_channel *channel = &context->channel;

	return cross_watch_set(
		context->domain, &channel->incoming, channel->num_polls > 0 ? EPOLLIN : 0);
}

/* Whoever sent one that was cancelled looks for no message. */
static void forget_cancelled(struct cross_context *context)
{
	struct cross_channel *channel = &context->channel;
	struct renderer *inner = context->domain->inner;
	uint32_t count = 0;
	int fd;

	for (uint32_t i = 0; i < channel->num_polls; i++) {
		/* 0: it has signalled. One that is pending has no descriptor. */
		if (vgf_fence_export(inner->ops->get_device(inner), VGF_HOST,
			    channel->polls[i].fence_id, &fd) != 0) {
			channel->polls[count++] = channel->polls[i];
		}
	}
	channel->num_polls = count;
	watch_incoming(context);
}

/* The fence of the oldest one that was not cancelled. */
static void answer_poll(struct cross_context *context)
{
	struct cross_channel *channel = &context->channel;
	struct renderer *inner = context->domain->inner;
	int ret = -ENOENT;

	while (ret < 0 && channel->num_polls > 0) {
		const struct vgf_fence_name fence = channel->polls[0];

		channel->num_polls--;
		memmove(channel->polls, channel->polls + 1,
			channel->num_polls * sizeof(channel->polls[0]));
		ret = vgf_fence_signal(inner->ops->get_device(inner), &fence, 0);
	}
	watch_incoming(context);
}

void cross_channel_drop_polls(struct cross_context *context)
{
	while (context->channel.num_polls > 0) {
		answer_poll(context);
	}
}

int cross_channel_poll(struct cross_context *context, const struct vgf_fence_name *fence)
{
	struct cross_channel *channel = &context->channel;
	struct renderer *inner = context->domain->inner;
	int ret;

	if (!context->is_open) { /* there is nobody to be told anything */
		return vgf_fence_signal(inner->ops->get_device(inner), fence, 0);
	}
	if (channel->socket_fd < 0) {
		return channel->has_ended ? -EPIPE : -ENOTCONN;
	}
	forget_cancelled(context);
	if (channel->num_polls == MAX_CROSS_DOMAIN_POLLS) {
		return -ENOSPC;
	}
	channel->polls[channel->num_polls++] = *fence;
	ret = watch_incoming(context);
	channel->num_polls -= ret < 0;
	if (ret == 0 && context->domain->gpu->is_draining) {
		cross_channel_give_up(context);
	}
	return ret;
}

/* ---- The end -------------------------------------------------------------------------------- */

/* Descriptors of pipes are closed with it: who writes to them has nobody to write for. */
static void close_all(struct cross_context *context)
{
	struct cross_channel *channel = &context->channel;

	cross_watch_set(context->domain, &channel->incoming, 0);
	cross_watch_set(context->domain, &channel->outgoing, 0);
	cross_queue_clear(&channel->queue);
	cross_close(context, &channel->socket_fd);
	cross_close(context, &channel->epoll_fd);
}

static bool is_pipe(const struct cross_item *item)
{
	return item->type == CROSS_ITEM_READ_PIPE || item->type == CROSS_ITEM_WRITE_PIPE;
}

static void close_pipes(struct cross_context *context)
{
	struct cross_item *item, *next;

	for (item = LIST_FIRST(&context->items); item != NULL; item = next) {
		next = LIST_NEXT(item, link);
		if (is_pipe(item)) {
			cross_item_destroy(item);
		}
	}
}

/* A message of nothing, as a read of nothing is the end of a socket. */
static void tell_end(struct cross_context *context)
{
	const struct cross_domain_send_receive nothing = {
		.header = { .command = CROSS_DOMAIN_RECEIVE, .size = htole16(sizeof(nothing)) },
	};

	cross_ring_write(context, &context->channel_ring, &nothing, sizeof(nothing), NULL, 0);
	cross_channel_drop_polls(context);
}

void cross_channel_end(struct cross_context *context, const char *reason)
{
	if (context->channel.socket_fd < 0) {
		return;
	}
	context->channel.has_ended = true;
	if (context->channel.num_polls > 0) {
		tell_end(context);
	}
	close_pipes(context);
	close_all(context);
	log_guest(context->domain->gpu, "cross-domain context %u: its channel has ended: %s",
		context->id, reason);
}

void cross_channel_give_up(struct cross_context *context)
{
	forget_cancelled(context);
	if (context->channel.num_polls > 0) {
		cross_channel_end(context, "the queue is stopped");
	}
}

void cross_channel_finish(struct cross_context *context)
{
	close_all(context);
}

/* ---- To the compositor ---------------------------------------------------------------------- */

/* Descriptors go with the first byte. */
static ssize_t send_some(int socket_fd, struct cross_bytes *bytes)
{
	struct iovec iov = { bytes->data + bytes->at, bytes->size - bytes->at };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(CROSS_DOMAIN_MAX_IDENTIFIERS * sizeof(int))];
	} control;
	ssize_t count;

	if (bytes->num_fds > 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(bytes->num_fds * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(bytes->num_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.header), bytes->fds, bytes->num_fds * sizeof(int));
	}
	count = sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	return count < 0 ? -errno : count;
}

static void sent(struct cross_bytes *bytes, size_t count)
{
	for (uint32_t i = 0; i < bytes->num_fds; i++) {
		cross_close(bytes->context, &bytes->fds[i]);
	}
	bytes->num_fds = 0;
	bytes->at += count;
}

/* Returns 0, or what the socket ended with. */
static int send_queue(struct cross_channel *channel)
{
	struct cross_bytes *bytes;

	while ((bytes = TAILQ_FIRST(&channel->queue)) != NULL) {
		ssize_t count = send_some(channel->socket_fd, bytes);

		if (count == -EAGAIN || count == -EINTR) {
			return 0;
		}
		if (count < 0) {
			return (int)count;
		}
		sent(bytes, (size_t)count);
		if (bytes->at == bytes->size) {
			TAILQ_REMOVE(&channel->queue, bytes, link);
			cross_bytes_destroy(bytes);
		}
	}
	return 0;
}

static void send_more(void *arg)
{
	struct cross_context *context = arg;
	struct cross_channel *channel = &context->channel;
	int ret = send_queue(channel);

	if (ret == 0) {
		ret = cross_watch_set(context->domain, &channel->outgoing,
			TAILQ_EMPTY(&channel->queue) ? 0 : EPOLLOUT);
	}
	if (ret < 0) {
		cross_channel_end(context,
			ret == -EPIPE || ret == -ECONNRESET ? "the compositor has gone" :
							      strerror(-ret));
	}
	cross_context_settle(context);
}

int cross_channel_send_take(struct cross_context *context, struct cross_bytes *bytes)
{
	struct cross_channel *channel = &context->channel;

	if (channel->socket_fd < 0) {
		cross_bytes_destroy(bytes);
		return channel->has_ended ? -EPIPE : -ENOTCONN;
	}
	if (bytes->size == 0) {
		cross_bytes_destroy(bytes);
		return 0;
	}
	TAILQ_INSERT_TAIL(&channel->queue, bytes, link);
	if (channel->outgoing.events == 0) { /* otherwise it takes nothing now */
		send_more(context);
	}
	return channel->socket_fd < 0 ? -EPIPE : 0;
}

/* ---- From the compositor -------------------------------------------------------------------- */

struct received {
	uint8_t data[MAX_DATA];
	size_t size;
	int fds[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t num_fds;
};

static void take_fds(struct msghdr *message, struct received *received)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
		header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
			size_t size = header->cmsg_len - CMSG_LEN(0);

			memcpy(received->fds, CMSG_DATA(header), size);
			received->num_fds = (uint32_t)(size / sizeof(int));
		}
	}
}

static void close_fds(struct received *received, uint32_t from)
{
	for (uint32_t i = from; i < received->num_fds; i++) {
		close(received->fds[i]);
	}
	received->num_fds = from;
}

/* Returns 1; 0 if there is nothing to read; or an error, -EPIPE at the end. */
static int read_socket(int socket_fd, struct received *received)
{
	struct iovec iov = { received->data, sizeof(received->data) };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(CROSS_DOMAIN_MAX_IDENTIFIERS * sizeof(int))];
	} control;
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t count = recvmsg(socket_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	received->num_fds = 0;
	if (count < 0) {
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	}
	take_fds(&message, received);
	if (count == 0 || (message.msg_flags & MSG_CTRUNC)) {
		close_fds(received, 0);
		return count == 0 ? -EPIPE : -EMFILE;
	}
	received->size = (size_t)count;
	return 1;
}

static enum cross_domain_id_type type_of(const struct cross_item *item)
{
	switch (item->type) {
	case CROSS_ITEM_SYNC:
		return CROSS_DOMAIN_ID_SYNC;
	case CROSS_ITEM_READ_PIPE:
		return CROSS_DOMAIN_ID_READ_PIPE;
	case CROSS_ITEM_WRITE_PIPE:
		return CROSS_DOMAIN_ID_WRITE_PIPE;
	case CROSS_ITEM_MEMORY:
		break;
	}
	return CROSS_DOMAIN_ID_BLOB;
}

/* Makes items of the descriptors. All of them are somebody's afterwards, or closed. */
static int add_items(struct cross_context *context, struct received *received,
	struct cross_domain_send_receive *header, const char **reason)
{
	for (uint32_t i = 0; i < received->num_fds; i++) {
		int ret;
		const struct cross_item *item = cross_item_create_take(
			context, received->fds[i], &ret, reason);

		if (item == NULL) {
			close_fds(received, i + 1);
			return ret;
		}
		header->identifiers[i] = htole32(item->id);
		header->identifier_types[i] = htole32(type_of(item));
		header->identifier_sizes[i] = htole32((uint32_t)item->size);
	}
	return 0;
}

/* Without the message that cannot be handed on, none after it would be understood. */
static void receive_message(struct cross_context *context)
{
	struct cross_domain_send_receive header = { .header.command = CROSS_DOMAIN_RECEIVE };
	const char *reason = "the guest has taken its ring away";
	struct received received;
	int ret = read_socket(context->channel.socket_fd, &received);

	if (ret <= 0) {
		if (ret < 0) {
			cross_channel_end(context,
				ret == -EMFILE ? "it sent more descriptors than may be" :
						 "the compositor has gone");
		}
		return;
	}
	ret = add_items(context, &received, &header, &reason);
	header.header.size = htole16((uint16_t)(sizeof(header) + received.size));
	header.num_identifiers = htole32(received.num_fds);
	header.data_size = htole32((uint32_t)received.size);
	if (ret == 0) {
		ret = cross_ring_write(context, &context->channel_ring, &header, sizeof(header),
			received.data, received.size);
	}
	if (ret < 0) {
		cross_channel_end(context, reason);
		return;
	}
	answer_poll(context);
}

static void read_pipe(struct cross_context *context, uint32_t id)
{
	struct cross_domain_read_write header = { .header.command = CROSS_DOMAIN_READ };
	struct cross_item *item = cross_item_find(context, id);
	uint8_t data[MAX_PIPE_DATA];
	ssize_t count = read(item->fd, data, sizeof(data));
	int ret;

	if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	count = count < 0 ? 0 : count;
	header.header.size = htole16((uint16_t)(sizeof(header) + (size_t)count));
	header.identifier = htole32(id);
	header.hang_up = htole32(count == 0);
	header.data_size = htole32((uint32_t)count);
	ret = cross_ring_write(
		context, &context->channel_ring, &header, sizeof(header), data, (size_t)count);
	if (count == 0) {
		cross_item_destroy(item);
	}
	if (ret < 0) {
		cross_channel_end(context, "the guest has taken its ring away");
		return;
	}
	answer_poll(context);
}

/* One message, as there is room for one in the ring. */
static void receive(void *arg)
{
	struct cross_context *context = arg;
	struct epoll_event event;

	forget_cancelled(context);
	if (context->channel.num_polls == 0 ||
		epoll_wait(context->channel.epoll_fd, &event, 1, 0) != 1) {
		return;
	}
	if (event.data.u32 == THE_SOCKET) {
		receive_message(context);
	} else {
		read_pipe(context, event.data.u32);
	}
}

/* ---- The beginning -------------------------------------------------------------------------- */

static int watch_in_channel(const struct cross_channel *channel, int fd, uint32_t id)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = id };

	return epoll_ctl(channel->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int cross_channel_watch_pipe(struct cross_context *context, const struct cross_item *item)
{
	return watch_in_channel(&context->channel, item->fd, item->id);
}

static int connect_socket(struct cross_context *context)
{
	const struct sockaddr_un *address = &context->domain->address;
	struct cross_channel *channel = &context->channel;

	channel->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (channel->epoll_fd < 0) {
		return -errno;
	}
	channel->socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (channel->socket_fd < 0 ||
		connect(channel->socket_fd, (const struct sockaddr *)address, sizeof(*address)) <
			0) {
		return -errno;
	}
	channel->incoming.fd = channel->epoll_fd;
	channel->outgoing.fd = channel->socket_fd;
	return watch_in_channel(channel, channel->socket_fd, THE_SOCKET);
}

int cross_channel_open(struct cross_context *context)
{
	struct cross_channel *channel = &context->channel;
	int ret = cross_take_fds(context, 2);

	if (ret < 0) {
		return ret;
	}
	ret = connect_socket(context);
	if (ret < 0) {
		/* cross_close gives back those that there are. */
		cross_give_fds(context, (channel->socket_fd < 0) + (channel->epoll_fd < 0));
		cross_close(context, &channel->socket_fd);
		cross_close(context, &channel->epoll_fd);
	}
	return ret;
}
