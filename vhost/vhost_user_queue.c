/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* One queue of a back end: its descriptors, and when it runs. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "error_name.h"
#include "fd_kind.h"
#include "vhost_user_private.h"

/* Of one queue's requests, before others have their turn: a guest can ask for copies that take
 * long, and all that was completed is told at the end of the round. */
#define ROUND_NS 5000000

/* The same of the second thread, for which the loop may have to wait. */
#define TURN_NS 500000

/* ---- Descriptors -------------------------------------------------------------------------- */

void close_fd(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
	}
	*fd = -1;
}

/* Closing is not enough as long as the front end has it too. */
static void unwatch_kick(struct vhost_user_queue *queue, int fd)
{
	epoll_ctl(queue->server->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	if (queue->server->kick_set >= 0) {
		epoll_ctl(queue->server->kick_set, EPOLL_CTL_DEL, fd, NULL);
	}
}

/* Never read, so it cannot be a pipe or a socket, which would run full; nor does it matter whether
 * reading it would block. */
static int watch_kick(struct vhost_user_queue *queue, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = queue };
	int ret = fd_check_eventfd(fd);

	if (ret < 0) {
		return ret;
	}
	if (epoll_ctl(queue->server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		return -errno;
	}
	if (queue->server->kick_set >= 0 &&
		epoll_ctl(queue->server->kick_set, EPOLL_CTL_ADD, fd, &event) < 0) {
		int error = errno;

		unwatch_kick(queue, fd);
		return -error;
	}
	return 0;
}

int vhost_user_queue_set_kick_take(struct vhost_user_queue *queue, int fd)
{
	int ret;

	if (queue->kick_fd >= 0) {
		unwatch_kick(queue, queue->kick_fd);
		close_fd(&queue->kick_fd);
	}
	if (fd < 0) {
		return 0;
	}
	ret = watch_kick(queue, fd);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	queue->kick_fd = fd;
	/* A kick of the one that was there before, which nobody looked at, is not given again. */
	if (queue->ring) {
		vhost_user_queue_process(queue);
	}
	return 0;
}

/* User-Mode Linux has a socket. */
static int check_notifier(int fd, bool is_socket)
{
	int ret = is_socket ? fd_check_unix_socket(fd, 0) : fd_check_eventfd(fd);
	int flags;

	if (ret < 0 || is_socket) {
		return ret;
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		return -errno;
	}
	return 0;
}

static int notifier_set_take(struct notifier *notifier, int fd)
{
	bool is_socket = fd >= 0 && fd_file_type(fd) == S_IFSOCK;
	int ret = fd >= 0 ? check_notifier(fd, is_socket) : 0;

	if (ret < 0) {
		close(fd);
		return ret;
	}
	close_fd(&notifier->fd);
	notifier->fd = fd;
	notifier->is_socket = is_socket;
	return 0;
}

/* One that is full has not been read, and tells enough. O_NONBLOCK is the front end's, too: without
 * it a write to that would wait. It can still fill it between the two calls. */
static void notify_eventfd(int fd)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	const uint64_t one = 1;

	if (poll(&room, 1, 0) == 1 && (room.revents & POLLOUT)) {
		(void)!write(fd, &one, sizeof(one));
	}
}

/* Never waited for. A failure is the other end's affair: it has been notified already, or is
 * gone. */
static void notify(const struct notifier *notifier)
{
	const uint64_t one = 1;

	if (notifier->is_socket) {
		(void)!send(notifier->fd, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (notifier->fd >= 0) {
		notify_eventfd(notifier->fd);
	}
}

int vhost_user_queue_set_call_take(struct vhost_user_queue *queue, int fd)
{
	int ret = notifier_set_take(&queue->call, fd);

	/* What came in between went to the one that was there before, and maybe nobody looked. */
	if (ret == 0 && queue->ring) {
		notify(&queue->call);
	}
	return ret;
}

int vhost_user_queue_set_err_take(struct vhost_user_queue *queue, int fd)
{
	int ret = notifier_set_take(&queue->err, fd);

	if (ret == 0 && queue->ring && queue->told_failure) { /* as before */
		notify(&queue->err);
	}
	return ret;
}

/* ---- Running ------------------------------------------------------------------------------ */

void vhost_user_queue_init(
	struct vhost_user_queue *queue, struct vhost_user *server, uint32_t index)
{
	*queue = (struct vhost_user_queue){
		.server = server,
		.index = index,
		.kick_fd = -1,
		.call.fd = -1,
		.err.fd = -1,
	};
}

void vhost_user_queue_finish(struct vhost_user_queue *queue)
{
	vhost_user_queue_set_kick_take(queue, -1);
	close_fd(&queue->call.fd);
	close_fd(&queue->err.fd);
	vhost_user_queue_init(queue, queue->server, queue->index);
}

static bool is_complete(const struct vhost_user_queue *queue)
{
	const struct vhost_user *server = queue->server;
	bool enabled = queue->enabled ||
		!(server->features & (UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES));

	return enabled && queue->kick_fd >= 0 && queue->layout.size > 0 && queue->has_rings &&
		server->memory;
}

static void free_deferred(struct vhost_user_queue *queue)
{
	free(queue->deferred);
	queue->deferred = NULL;
	queue->first_deferred = 0;
}

static bool take_deferred(struct vhost_user_queue *queue, struct virtqueue_request *request)
{
	if (queue->num_deferred == 0) {
		return false;
	}
	*request = queue->deferred[queue->first_deferred];
	queue->first_deferred = (queue->first_deferred + 1) % queue->layout.size;
	queue->num_deferred--;
	return true;
}

int vhost_user_queue_start(struct vhost_user_queue *queue)
{
	struct vhost_user *server = queue->server;
	int ret;

	if (queue->ring || !is_complete(queue)) {
		return 0;
	}
	queue->layout.features = server->features;
	if (server->kick_set >= 0) {
		queue->deferred = calloc(queue->layout.size, sizeof(*queue->deferred));
		if (!queue->deferred) {
			return -ENOMEM;
		}
	}
	ret = virtqueue_create(&queue->layout, queue->base, server->memory, &queue->ring);
	if (ret < 0) {
		free_deferred(queue);
		vhost_user_log(server, VGF_LOG_WARNING, "queue %u cannot start: %s", queue->index,
			ret == -EFAULT ? "rings outside of memory" : error_name(ret));
		return ret;
	}
	queue->told_failure = false;
	/* The base of a guest that has reset its device is 0. After 65536 requests, or a multiple,
	 * that of one which was only paused is too. */
	if (queue->has_run && queue->base == 0 && !virtqueue_has_mark(queue->ring)) {
		vhost_user_begin_anew(queue);
	}
	queue->has_run = true;
	/* The driver may have made requests available before there was a kick. */
	vhost_user_queue_process(queue);
	return 0;
}

void vhost_user_queue_stop(struct vhost_user_queue *queue)
{
	struct virtqueue_request request;

	if (!queue->ring) {
		return;
	}
	/* There are some only if the device was reset in the middle of a round. */
	while (take_deferred(queue, &request)) {
		virtqueue_push(queue->ring, request.token, 0);
	}
	free_deferred(queue);
	vhost_user_queue_publish(queue);
	queue->base = virtqueue_base(queue->ring);
	virtqueue_leave_mark(queue->ring);
	queue->has_more = false;
	virtqueue_destroy(queue->ring);
	queue->ring = NULL;
}

static void tell_failure(struct vhost_user_queue *queue)
{
	queue->has_more = queue->num_deferred > 0;
	if (queue->told_failure) {
		return;
	}
	queue->told_failure = true;
	vhost_user_log(queue->server, VGF_LOG_WARNING, "queue %u stops: %s", queue->index,
		virtqueue_error(queue->ring));
	notify(&queue->err);
}

void vhost_user_queue_set_memory(struct vhost_user_queue *queue)
{
	if (!queue->ring) {
		vhost_user_queue_start(queue);
		return;
	}
	vhost_user_queue_publish(queue);
	if (virtqueue_set_memory(queue->ring, queue->server->memory) < 0 &&
		!virtqueue_error(queue->ring)) {
		virtqueue_fail(queue->ring, "its rings are not in memory any more");
		tell_failure(queue);
	}
}

/* As virtqueue_pop, but first what was left over. */
static int take_next(struct vhost_user_queue *queue, struct virtqueue_request *request)
{
	return take_deferred(queue, request) ? 1 : virtqueue_pop(queue->ring, request);
}

/* At most `budget` requests, and none any more when the time is over. Returns as virtqueue_pop
 * does. */
static int process_some(struct vhost_user_queue *queue, uint32_t *budget, uint64_t end_ns)
{
	struct vhost_user *server = queue->server;
	struct virtqueue_request request;
	int ret = 1;

	while (*budget > 0 && (ret = take_next(queue, &request)) > 0) {
		(*budget)--;
		server->ops.handle(server->cookie, queue->index, &request);
		if (now_ns() >= end_ns) {
			*budget = 0;
		}
	}
	return ret;
}

void vhost_user_queue_process(struct vhost_user_queue *queue)
{
	uint32_t budget = queue->layout.size;
	uint64_t end_ns = now_ns() + ROUND_NS;
	int ret;

	queue->has_more = false;
	if (!queue->ring || (virtqueue_error(queue->ring) && queue->num_deferred == 0)) {
		return;
	}
	virtqueue_disable_kicks(queue->ring);
	do {
		ret = process_some(queue, &budget, end_ns);
	} while (ret == 0 && virtqueue_enable_kicks(queue->ring));
	if (ret < 0) {
		tell_failure(queue);
	}
	/* Else a guest that is fast enough, or asks for enough, would keep all others waiting. */
	queue->has_more = ret > 0;
}

void vhost_user_queue_process_deferred(struct vhost_user_queue *queue)
{
	struct vhost_user *server = queue->server;
	struct virtqueue_request request;

	while (queue->ring && take_deferred(queue, &request)) {
		server->ops.handle(server->cookie, queue->index, &request);
	}
}

static void defer(struct vhost_user_queue *queue, const struct virtqueue_request *request)
{
	uint32_t place = (queue->first_deferred + queue->num_deferred) % queue->layout.size;

	queue->deferred[place] = *request;
	queue->num_deferred++;
	queue->has_more = true;
}

/* As process_some. */
static int offer_some(struct vhost_user_queue *queue, uint32_t *budget, uint64_t end_ns)
{
	struct vhost_user *server = queue->server;
	struct virtqueue_request request;
	int ret = 1;

	while (*budget > 0 && (ret = virtqueue_pop(queue->ring, &request)) > 0) {
		(*budget)--;
		if (!server->ops.handle_aside(
			    server->cookie, queue->index, &request, queue->num_deferred > 0)) {
			defer(queue, &request);
		}
		if (now_ns() >= end_ns) {
			*budget = 0;
		}
	}
	return ret;
}

bool vhost_user_queue_process_aside(struct vhost_user_queue *queue)
{
	uint32_t budget = queue->layout.size;
	uint64_t end_ns = now_ns() + TURN_NS;
	int ret;

	if (!queue->ring || virtqueue_error(queue->ring)) {
		return false;
	}
	do {
		ret = offer_some(queue, &budget, end_ns);
	} while (ret == 0 && virtqueue_enable_kicks(queue->ring));
	if (ret < 0) {
		tell_failure(queue);
	}
	vhost_user_queue_publish(queue);
	return ret > 0;
}

void vhost_user_queue_publish(struct vhost_user_queue *queue)
{
	if (queue->ring && virtqueue_publish(queue->ring)) {
		notify(&queue->call);
	}
}
