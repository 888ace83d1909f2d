/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "display_vnc.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "display_vnc_thread.h"
#include "gpu.h"
#include "unix_listener.h"

/* What clients do, before others have their turn. */
#define MAX_PACKETS 64

#define FIRST_PORT 5900
#define BACKLOG 4

struct display_vnc {
	const struct display_vnc_ops *ops;
	void *cookie;
	int epoll_fd; /* of the listening socket and the channel */
	struct unix_listener listener;
	int channel_fd;                  /* to the thread */
	int client_fds[VNC_MAX_CLIENTS]; /* to end them; below 0: there is none */
	uint32_t num_clients;
	int thread_fd; /* the thread's end of it */
	bool has_thread;
	pthread_t thread;
	struct vnc_shared shared;
};

/* ---- To the thread -------------------------------------------------------------------------- */

/* With the lock held. If the channel is full the thread has something to wake up for. */
static void wake(struct display_vnc *vnc)
{
	const struct vnc_packet packet = { .type = VNC_WAKE };

	if (!vnc->shared.woken) {
		vnc->shared.woken = true;
		send(vnc->channel_fd, &packet, sizeof(packet), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

static int send_client(struct display_vnc *vnc, uint32_t index, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct vnc_packet packet = { .type = VNC_CLIENT, .a = index };
	struct iovec part = { &packet, sizeof(packet) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(vnc->channel_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void display_vnc_set_scanout(struct display_vnc *vnc, uint32_t width, uint32_t height)
{
	pthread_mutex_lock(&vnc->shared.lock);
	frame_reset(&vnc->shared.frame, width, height);
	wake(vnc);
	pthread_mutex_unlock(&vnc->shared.lock);
}

int display_vnc_update(struct display_vnc *vnc, const struct virtio_gpu_rect *rect)
{
	const struct frame_source source = { vnc->ops->read, vnc->cookie, 0 };
	int ret;

	if (vnc->num_clients == 0) {
		vnc->shared.frame.stale = true; /* whoever comes is shown all of it */
		return 0;
	}
	pthread_mutex_lock(&vnc->shared.lock);
	ret = frame_flush(&vnc->shared.frame, rect, &source);
	wake(vnc);
	pthread_mutex_unlock(&vnc->shared.lock);
	return ret;
}

void display_vnc_set_cursor(struct display_vnc *vnc, const struct gpu_cursor *cursor)
{
	struct vnc_shared *shared = &vnc->shared;

	pthread_mutex_lock(&shared->lock);
	shared->cursor_x = cursor->x;
	shared->cursor_y = cursor->y;
	shared->cursor_moved = true;
	if (cursor->visible != shared->cursor_visible) {
		shared->cursor_visible = cursor->visible;
		shared->cursor_changed = true;
	}
	if (cursor->pixels != NULL) {
		shared->hot_x = cursor->hot_x;
		shared->hot_y = cursor->hot_y;
		memcpy(shared->cursor, cursor->pixels, sizeof(shared->cursor));
		shared->cursor_changed = true;
	}
	wake(vnc);
	pthread_mutex_unlock(&shared->lock);
}

/* ---- Clients -------------------------------------------------------------------------------- */

static int find_free(const struct display_vnc *vnc)
{
	for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
		if (vnc->client_fds[i] < 0) {
			return i;
		}
	}
	return -1;
}

/* The first one sees all that is shown now. */
static void show(struct display_vnc *vnc)
{
	const struct virtio_gpu_rect all = { 0, 0, UINT32_MAX, UINT32_MAX };

	if (vnc->num_clients == 1 && vnc->shared.frame.stale) {
		display_vnc_update(vnc, &all);
	}
}

/* What is shown is there before it is. */
static void accept_client(struct display_vnc *vnc, int fd)
{
	int index = find_free(vnc);

	if (index < 0) {
		close(fd);
		return;
	}
	vnc->num_clients++;
	show(vnc);
	if (send_client(vnc, (uint32_t)index, fd) < 0) {
		vnc->num_clients--;
		close(fd);
		return;
	}
	vnc->client_fds[index] = fd;
}

/* Edge-triggered: who cannot be accepted for want of descriptors comes along with the next one. */
static void accept_clients(struct display_vnc *vnc)
{
	int fd;

	for (int i = 0; i < BACKLOG + 1; i++) {
		fd = accept4(vnc->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			return;
		}
		accept_client(vnc, fd);
	}
}

static void remove_client(struct display_vnc *vnc, uint32_t index)
{
	if (index < VNC_MAX_CLIENTS && vnc->client_fds[index] >= 0) {
		close(vnc->client_fds[index]);
		vnc->client_fds[index] = -1;
		vnc->num_clients--;
		vnc->ops->left(vnc->cookie);
	}
}

static void handle_packet(struct display_vnc *vnc, const struct vnc_packet *packet)
{
	switch (packet->type) {
	case VNC_GONE:
		remove_client(vnc, packet->a);
		break;
	case VNC_KEY:
		vnc->ops->key(vnc->cookie, packet->a, packet->b != 0);
		break;
	case VNC_POINTER:
		vnc->ops->pointer(vnc->cookie, packet->a, packet->b, packet->c);
		break;
	case VNC_RESIZE:
		vnc->ops->resize(vnc->cookie, packet->a, packet->b);
		break;
	default:
		break;
	}
}

int display_vnc_get_fd(const struct display_vnc *vnc)
{
	return vnc->epoll_fd;
}

int display_vnc_dispatch(struct display_vnc *vnc)
{
	struct epoll_event event;
	struct vnc_packet packet;
	ssize_t size;

	/* Resets the edge of the listening socket. */
	for (int i = 0; i < 2 && epoll_wait(vnc->epoll_fd, &event, 1, 0) > 0; i++) {
		if (event.data.fd == vnc->listener.fd) {
			accept_clients(vnc);
		}
	}
	for (int i = 0; i < MAX_PACKETS; i++) {
		size = recv(vnc->channel_fd, &packet, sizeof(packet), MSG_DONTWAIT);
		if (size == 0) {
			return -EPIPE;
		}
		if (size != sizeof(packet)) {
			break;
		}
		handle_packet(vnc, &packet);
	}
	return 0;
}

/* ---- Creating ------------------------------------------------------------------------------- */

static int listen_at_port(struct display_vnc *vnc, const char *number)
{
	const int one = 1;
	struct sockaddr_in address = { .sin_family = AF_INET };
	char *end;
	long display = strtol(number, &end, 10);

	if (number[0] < '0' || number[0] > '9' || *end != '\0' || display > 65535 - FIRST_PORT) {
		return -EINVAL;
	}
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16_t)(FIRST_PORT + display));
	vnc->listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (vnc->listener.fd < 0 ||
		setsockopt(vnc->listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		bind(vnc->listener.fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(vnc->listener.fd, BACKLOG) < 0) {
		return -errno;
	}
	return 0;
}

static int listen_at(struct display_vnc *vnc, const char *address)
{
	if (strncmp(address, "unix:", 5) == 0) {
		return unix_listener_open(&vnc->listener, address + 5, UNIX_LISTENER_MODE, BACKLOG);
	}
	if (strncmp(address, "localhost:", 10) == 0) {
		return listen_at_port(vnc, address + 10);
	}
	return -EINVAL;
}

static int watch(struct display_vnc *vnc, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(vnc->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* The process's signals are for others. */
static int create_thread(struct display_vnc *vnc, struct vnc_thread_start *start)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* of the sandbox: one that is blocked ends the process */
	pthread_sigmask(SIG_BLOCK, &all, &before);
	error = pthread_create(&vnc->thread, NULL, vnc_thread_run, start);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	vnc->has_thread = error == 0;
	return -error;
}

static int start_thread(struct display_vnc *vnc)
{
	struct vnc_thread_start *start = malloc(sizeof(*start));
	int sockets[2], ret;

	if (start == NULL) {
		return -ENOMEM;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) {
		free(start);
		return -errno;
	}
	vnc->channel_fd = sockets[0];
	vnc->thread_fd = sockets[1];
	*start = (struct vnc_thread_start){ &vnc->shared, sockets[1] };
	ret = create_thread(vnc, start);
	if (ret < 0) {
		free(start);
	}
	return ret;
}

static int start(struct display_vnc *vnc, const char *address)
{
	int ret;

	vnc->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (vnc->epoll_fd < 0) {
		return -errno;
	}
	ret = listen_at(vnc, address);
	if (ret == 0) {
		ret = start_thread(vnc);
	}
	if (ret == 0) {
		ret = watch(vnc, vnc->listener.fd, EPOLLIN | EPOLLET);
	}
	return ret < 0 ? ret : watch(vnc, vnc->channel_fd, EPOLLIN);
}

int display_vnc_create(const char *address, const struct display_vnc_ops *ops, void *cookie,
	struct display_vnc **out)
{
	struct display_vnc *vnc = calloc(1, sizeof(*vnc));
	int ret;

	*out = NULL;
	if (vnc == NULL) {
		return -ENOMEM;
	}
	vnc->ops = ops;
	vnc->cookie = cookie;
	vnc->epoll_fd = vnc->channel_fd = vnc->thread_fd = vnc->listener.fd = -1;
	for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
		vnc->client_fds[i] = -1;
	}
	pthread_mutex_init(&vnc->shared.lock, NULL);
	ret = start(vnc, address);
	if (ret < 0) {
		display_vnc_destroy(vnc);
		return ret;
	}
	*out = vnc;
	return 0;
}

void display_vnc_abandon(const struct display_vnc *vnc)
{
	if (vnc != NULL) {
		unix_listener_remove(&vnc->listener);
	}
}

static void close_fd(int fd)
{
	if (fd >= 0) {
		close(fd);
	}
}

/* Wherever the thread is, waiting for a client or for us, that ends. */
static void end_thread(struct display_vnc *vnc)
{
	if (!vnc->has_thread) {
		return;
	}
	shutdown(vnc->channel_fd, SHUT_RDWR);
	for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
		if (vnc->client_fds[i] >= 0) {
			shutdown(vnc->client_fds[i], SHUT_RDWR);
		}
	}
	pthread_join(vnc->thread, NULL);
}

void display_vnc_destroy(struct display_vnc *vnc)
{
	if (vnc == NULL) {
		return;
	}
	end_thread(vnc);
	for (int i = 0; i < VNC_MAX_CLIENTS; i++) {
		close_fd(vnc->client_fds[i]);
	}
	unix_listener_close(&vnc->listener);
	close_fd(vnc->channel_fd);
	close_fd(vnc->thread_fd);
	close_fd(vnc->epoll_fd);
	frame_reset(&vnc->shared.frame, 0, 0);
	pthread_mutex_destroy(&vnc->shared.lock);
	free(vnc);
}
