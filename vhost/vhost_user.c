/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The back end as a whole: the socket, the front end's connection, the loop. */

#include "vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error_name.h"
#include "vhost_user_private.h"

#define MAX_QUEUES 256

/* Of one front end's messages, before others have their turn. */
#define MAX_MESSAGES 32

/* Before it is tried again to accept a front end, for which there was no descriptor or memory. */
#define ACCEPT_AGAIN_MS 100

static void tell_dropped(struct vhost_user *server, bool last_chance)
{
	uint32_t dropped = log_limit_take_dropped(&server->log_limit, last_chance);
	char message[64];

	if (dropped > 0) {
		snprintf(message, sizeof(message), "%u more messages about the front end", dropped);
		server->ops.log(server->cookie, VGF_LOG_WARNING, message);
	}
}

void vhost_user_log(struct vhost_user *server, enum vgf_log_level level, const char *format, ...)
{
	char message[256];
	va_list args;

	if (level != VGF_LOG_DEBUG) {
		tell_dropped(server, false);
		if (!log_limit_pass(&server->log_limit)) {
			return;
		}
	}
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	server->ops.log(server->cookie, level, message);
}

static int control(struct vhost_user *server, int operation, int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	return epoll_ctl(server->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

/* ---- The front end ------------------------------------------------------------------------ */

/* Whoever comes next waits in the listening socket until the one before has left. */
static void listen_again(struct vhost_user *server, bool again)
{
	if (server->listener.fd < 0) {
		return; /* there was one front end, and no other comes */
	}
	control(server, EPOLL_CTL_MOD, server->listener.fd, again ? EPOLLIN : 0, &server->listener);
}

static int open_front_end(struct vhost_user *server)
{
	int fd = accept4(server->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int ret;

	if (fd < 0) {
		return -errno;
	}
	ret = control(server, EPOLL_CTL_ADD, fd, EPOLLIN, &server->socket_fd);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	server->socket_fd = fd;
	return 0;
}

/* Whoever wants to connect, and cannot, waits in the listening socket: that would be reported again
 * at once. */
static void accept_front_end(struct vhost_user *server)
{
	int ret;

	if (server->socket_fd >= 0) {
		return;
	}
	ret = open_front_end(server);
	if (ret == -EAGAIN || ret == -ECONNABORTED || ret == -EINTR) {
		return;
	}
	listen_again(server, false);
	server->accept_failed = ret < 0;
	if (ret < 0) {
		vhost_user_log(
			server, VGF_LOG_ERROR, "no front end can connect: %s", error_name(ret));
		return;
	}
	vhost_user_log(server, VGF_LOG_DEBUG, "a front end has connected");
}

static void accept_again(struct vhost_user *server)
{
	if (server->accept_failed) {
		server->accept_failed = false;
		listen_again(server, true);
	}
}

static void disconnect(struct vhost_user *server, const char *reason)
{
	vhost_user_log(server, VGF_LOG_DEBUG, "the front end is disconnected: %s", reason);
	vhost_user_forget(server);
	close_fd(&server->socket_fd); /* it has no copy, so it leaves the epoll set */
	listen_again(server, true);
}

static void handle_messages(struct vhost_user *server)
{
	int ret = 1;

	for (int i = 0; i < MAX_MESSAGES && ret > 0; i++) {
		ret = vhost_user_receive(server->socket_fd, false, &server->message);
		if (ret > 0) {
			int handled = vhost_user_handle_message(server);

			vhost_user_message_finish(&server->message);
			ret = handled < 0 ? handled : 1;
		} else if (ret == -EPROTO) {
			vhost_user_log(server, VGF_LOG_WARNING,
				"not a message of vhost-user, or one with too many descriptors");
		}
	}
	if (ret < 0) {
		disconnect(server, ret == -ECONNRESET ? "it has left" : error_name(ret));
	}
}

static void handle_replies(struct vhost_user *server)
{
	int ret = vhost_user_channel_receive(server);

	if (ret < 0) {
		vhost_user_log(server, VGF_LOG_WARNING, "on the channel of SET_BACKEND_REQ_FD: %s",
			error_name(ret));
		disconnect(server, "a reply that is none");
	}
	vhost_user_channel_send_held(server);
}

/* ---- The loop ----------------------------------------------------------------------------- */

static void handle_event(struct vhost_user *server, void *what)
{
	struct vhost_user_queue *queue = what;
	const struct vhost_user_watch *watch = what;

	if (!what) {
		return; /* one that is not watched any more */
	}
	if (what == &server->listener) {
		accept_front_end(server);
	} else if (what == &server->socket_fd) {
		if (server->socket_fd >= 0) {
			handle_messages(server);
		}
	} else if (what == &server->channel) {
		handle_replies(server);
	} else if (queue >= server->queues && queue < server->queues + server->num_queues) {
		vhost_user_queue_process(queue);
	} else {
		watch->readable(watch->arg);
	}
}

static bool has_more(const struct vhost_user *server)
{
	for (uint32_t i = 0; i < server->num_queues; i++) {
		if (server->queues[i].has_more) {
			return true;
		}
	}
	return false;
}

static void publish_all(struct vhost_user *server)
{
	for (uint32_t i = 0; i < server->num_queues; i++) {
		vhost_user_queue_publish(&server->queues[i]);
	}
}

static void check_memory(struct vhost_user *server)
{
	if (guest_memory_is_lost(server->memory)) {
		vhost_user_log(server, VGF_LOG_WARNING,
			"the front end has shortened the file of the guest's memory");
		disconnect(server, "memory is lost");
	}
}

/* What a round has left to do: the guest sees all that was completed in it at once. */
static void end_round(struct vhost_user *server)
{
	publish_all(server);
	check_memory(server);
	tell_dropped(server, false);
}

int vhost_user_get_fd(const struct vhost_user *server)
{
	return server->epoll_fd;
}

/* There are a few things that must not wait for ever. */
int vhost_user_timeout(struct vhost_user *server, int timeout_ms)
{
	if (has_more(server)) {
		return 0;
	}
	if (server->accept_failed && (timeout_ms < 0 || timeout_ms > ACCEPT_AGAIN_MS)) {
		return ACCEPT_AGAIN_MS;
	}
	return log_limit_timeout(&server->log_limit, timeout_ms);
}

/* How many there are, or an error. */
static int wait_for_events(struct vhost_user *server, int timeout_ms)
{
	bool sleeps = timeout_ms != 0 && server->ops.sleeps;
	int count;

	if (sleeps) {
		server->ops.sleeps(server->cookie);
	}
	count = epoll_wait(server->epoll_fd, server->events, MAX_EVENTS, timeout_ms);
	count = count < 0 ? -errno : count;
	if (sleeps) {
		server->ops.wakes(server->cookie);
	}
	return count;
}

int vhost_user_dispatch(struct vhost_user *server, int timeout_ms)
{
	int count = wait_for_events(server, vhost_user_timeout(server, timeout_ms));

	if (count < 0) {
		return count == -EINTR ? 0 : count;
	}
	if (count == 0) {
		accept_again(server);
	}
	server->num_events = count;
	check_memory(server);
	for (uint32_t i = 0; i < server->num_queues; i++) {
		if (server->queues[i].has_more) {
			vhost_user_queue_process(&server->queues[i]);
		}
	}
	for (int i = 0; i < count; i++) {
		handle_event(server, server->events[i].data.ptr);
	}
	server->num_events = 0;
	end_round(server);
	return 0;
}

int vhost_user_watch(struct vhost_user *server, struct vhost_user_watch *watch)
{
	return control(
		server, EPOLL_CTL_ADD, watch->fd, watch->events ? watch->events : EPOLLIN, watch);
}

void vhost_user_unwatch(struct vhost_user *server, struct vhost_user_watch *watch)
{
	epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	for (int i = 0; i < server->num_events; i++) {
		if (server->events[i].data.ptr == watch) {
			server->events[i].data.ptr = NULL;
		}
	}
}

/* ---- For the device ----------------------------------------------------------------------- */

bool vhost_user_process_aside(struct vhost_user *server)
{
	bool more = false;

	for (uint32_t i = 0; i < server->num_queues && !server->is_paused; i++) {
		more = vhost_user_queue_process_aside(&server->queues[i]) || more;
	}
	return more;
}

void vhost_user_publish(struct vhost_user *server)
{
	publish_all(server);
	if (guest_memory_is_lost(server->memory)) {
		shutdown(server->socket_fd, SHUT_RDWR); /* so the loop wakes up, and disconnects */
	}
}

void vhost_user_process_deferred(struct vhost_user *server)
{
	for (uint32_t i = 0; i < server->num_queues; i++) {
		vhost_user_queue_process_deferred(&server->queues[i]);
	}
}

void vhost_user_set_kick_set(struct vhost_user *server, int kick_set)
{
	server->kick_set = kick_set;
}

void vhost_user_complete(
	struct vhost_user *server, uint32_t queue, uint32_t token, uint32_t written)
{
	virtqueue_push(server->queues[queue].ring, token, written);
}

bool vhost_user_is_connected(const struct vhost_user *server)
{
	return server->socket_fd >= 0;
}

/* ---- Creating ----------------------------------------------------------------------------- */

static struct vhost_user *allocate(
	uint32_t num_queues, const struct vhost_user_device_ops *ops, void *cookie)
{
	struct vhost_user *server = calloc(
		1, sizeof(*server) + num_queues * sizeof(server->queues[0]));

	if (!server) {
		return NULL;
	}
	server->ops = *ops;
	server->cookie = cookie;
	server->epoll_fd = server->kick_set = server->listener.fd = server->socket_fd = -1;
	vhost_user_channel_init(&server->channel);
	log_limit_init(&server->log_limit);
	server->num_queues = num_queues;
	for (uint32_t i = 0; i < num_queues; i++) {
		vhost_user_queue_init(&server->queues[i], server, i);
	}
	return server;
}

/* Of what was made so far. */
static void release(struct vhost_user *server)
{
	unix_listener_close(&server->listener);
	close_fd(&server->epoll_fd);
	free(server);
}

static int listen_at(struct vhost_user *server, const char *path)
{
	int ret = unix_listener_open(&server->listener, path, UNIX_LISTENER_MODE, 1);

	if (ret < 0) {
		return ret;
	}
	return control(server, EPOLL_CTL_ADD, server->listener.fd, EPOLLIN, &server->listener);
}

static int check_connected(int fd)
{
	struct sockaddr_un address = { 0 };
	socklen_t size = sizeof(address), type_size = sizeof(int);
	int type = 0;

	if (fd < 0) {
		return -EBADF;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 ||
		getpeername(fd, (struct sockaddr *)&address, &size) < 0) {
		return -errno;
	}
	return address.sun_family == AF_UNIX && type == SOCK_STREAM ? 0 : -EINVAL;
}

/* It may block, which all who have it share. Nothing here waits on it. */
static int connect_to(struct vhost_user *server, int socket_fd)
{
	int ret = check_connected(socket_fd);
	int fd;

	if (ret < 0) {
		return ret;
	}
	fd = fcntl(socket_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	server->socket_fd = fd;
	return control(server, EPOLL_CTL_ADD, fd, EPOLLIN, &server->socket_fd);
}

/* socket_path: where to listen, or NULL: then socket_fd is the front end's connection. */
static int create(const char *socket_path, int socket_fd, uint32_t num_queues,
	const struct vhost_user_device_ops *ops, void *cookie, struct vhost_user **out)
{
	struct vhost_user *server;
	int ret = 0;

	if (num_queues == 0 || num_queues > MAX_QUEUES) {
		return -EINVAL;
	}
	server = allocate(num_queues, ops, cookie);
	if (!server) {
		return -ENOMEM;
	}
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (server->epoll_fd < 0) {
		ret = -errno;
	} else {
		ret = socket_path ? listen_at(server, socket_path) : connect_to(server, socket_fd);
	}
	if (ret < 0) {
		close_fd(&server->socket_fd);
		release(server);
		return ret;
	}
	*out = server;
	return 0;
}

int vhost_user_create(const char *socket_path, uint32_t num_queues,
	const struct vhost_user_device_ops *ops, void *cookie, struct vhost_user **out)
{
	return create(socket_path, -1, num_queues, ops, cookie, out);
}

int vhost_user_create_connected(int socket_fd, uint32_t num_queues,
	const struct vhost_user_device_ops *ops, void *cookie, struct vhost_user **out)
{
	return create(NULL, socket_fd, num_queues, ops, cookie, out);
}

void vhost_user_abandon(const struct vhost_user *server)
{
	unix_listener_remove(&server->listener);
}

void vhost_user_destroy(struct vhost_user *server)
{
	if (!server) {
		return;
	}
	if (server->socket_fd >= 0) {
		disconnect(server, "the end");
	}
	tell_dropped(server, true);
	release(server);
}
