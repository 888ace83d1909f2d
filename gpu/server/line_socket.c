/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "line_socket.h"
#include "unix_listener.h"

#define BACKLOG LINE_SOCKET_MAX_CLIENTS

/* The listener, and each client. */
#define MAX_EVENTS (LINE_SOCKET_MAX_CLIENTS + 1)

struct client {
	int fd;             /* below 0: there is none */
	uint32_t events;    /* that are waited for */
	uint64_t last_used; /* by the count of uses */
	bool ended;         /* nothing more is read from it */
	char *answer;       /* what is to be sent, with its newline; or NULL */
	size_t answer_size, sent;
	size_t size; /* of what is in `request` */
	char request[LINE_SOCKET_MAX_REQUEST + 1];
};

struct line_socket {
	line_socket_answer answer;
	void *cookie;
	struct unix_listener listener;
	int epoll_fd;
	uint64_t uses;
	struct client clients[LINE_SOCKET_MAX_CLIENTS];
};

/* ---- A client ------------------------------------------------------------------------------- */

static void disconnect(struct client *client)
{
	close(client->fd);
	free(client->answer);
	client->answer = NULL;
	client->fd = -1;
}

/* The line that came first, which ends with a 0 then. NULL: there is no whole one. *size: with its
 * newline. */
static char *first_line(struct client *client, size_t *size)
{
	char *end = memchr(client->request, '\n', client->size);

	if (end == NULL) {
		return NULL;
	}
	*size = (size_t)(end - client->request) + 1;
	*end = '\0';
	return client->request;
}

static bool has_line(const struct client *client)
{
	return memchr(client->request, '\n', client->size) != NULL;
}

/* Returns whether there is one. */
static bool take_answer(struct client *client, char *answer)
{
	size_t size = answer != NULL ? strlen(answer) : LINE_SOCKET_MAX_ANSWER;

	if (size >= LINE_SOCKET_MAX_ANSWER) {
		free(answer);
		return false;
	}
	answer[size] = '\n'; /* nothing needs the 0 any more */
	client->answer = answer;
	client->answer_size = size + 1;
	client->sent = 0;
	return true;
}

/* It cannot be found where a next one begins. */
static bool refuse_long_line(struct client *client)
{
	client->size = 0;
	client->ended = true;
	return take_answer(client, strdup("{\"error\":\"the request is too long\"}"));
}

static char *answer_request(struct line_socket *socket, const char *line, size_t length)
{
	if (strlen(line) != length) {
		return strdup("{\"error\":\"there is a zero byte in the request\"}");
	}
	return socket->answer(socket->cookie, line);
}

/* Returns whether the client stays. */
static bool answer_line(struct line_socket *socket, struct client *client)
{
	size_t size;
	char *line = first_line(client, &size);
	bool answered;

	if (line == NULL) {
		return client->size < sizeof(client->request) || refuse_long_line(client);
	}
	client->last_used = ++socket->uses;
	answered = take_answer(client, answer_request(socket, line, size - 1));
	client->size -= size;
	memmove(client->request, client->request + size, client->size);
	return answered;
}

static bool is_try_again(int error)
{
	return error == EAGAIN || error == EINTR;
}

/* Once: what comes faster has its turn in the next round. Returns whether the client stays. */
static bool receive(struct client *client)
{
	size_t room = sizeof(client->request) - client->size;
	ssize_t count = recv(client->fd, client->request + client->size, room, 0);

	if (count < 0) {
		return is_try_again(errno);
	}
	client->size += (size_t)count;
	client->ended = count == 0;
	return true;
}

static bool send_answer(struct client *client)
{
	ssize_t count = send(client->fd, client->answer + client->sent,
		client->answer_size - client->sent, MSG_NOSIGNAL);

	if (count < 0) {
		return is_try_again(errno);
	}
	client->sent += (size_t)count;
	if (client->sent == client->answer_size) {
		free(client->answer);
		client->answer = NULL;
	}
	return true;
}

/* Only who has read its answer is read from. A line that is here already waits until there is room
 * for its answer. Returns whether the client stays. */
static bool await(struct line_socket *socket, struct client *client)
{
	bool sends = client->answer != NULL || has_line(client);
	struct epoll_event event = { .events = sends ? EPOLLOUT : EPOLLIN, .data.ptr = client };

	if (client->ended && !sends) {
		return false;
	}
	if (event.events != client->events) {
		client->events = event.events;
		return epoll_ctl(socket->epoll_fd, EPOLL_CTL_MOD, client->fd, &event) == 0;
	}
	return true;
}

/* Returns whether it stays. */
static bool serve(struct line_socket *socket, struct client *client, uint32_t events)
{
	bool stays = !(events & (EPOLLHUP | EPOLLERR)) || (events & EPOLLIN);

	if (stays && client->answer != NULL) {
		stays = send_answer(client);
	}
	if (stays && (events & EPOLLIN)) {
		stays = receive(client);
	}
	if (stays && client->answer == NULL) {
		stays = answer_line(socket, client);
	}
	if (stays && client->answer != NULL) {
		stays = send_answer(client);
	}
	return stays && await(socket, client);
}

/* ---- Clients -------------------------------------------------------------------------------- */

/* Who could do anything to this process anyway. */
static bool is_same_user(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

/* A free place, or that of the one who has asked nothing for the longest time. */
static struct client *make_place(struct line_socket *socket)
{
	struct client *place = &socket->clients[0];

	for (int i = 0; i < LINE_SOCKET_MAX_CLIENTS; i++) {
		struct client *client = &socket->clients[i];

		if (client->fd < 0) {
			return client;
		}
		if (client->last_used < place->last_used) {
			place = client;
		}
	}
	disconnect(place);
	return place;
}

static void add_client(struct line_socket *socket, int fd)
{
	struct client *client = make_place(socket);
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };

	*client = (struct client){
		.fd = fd,
		.events = event.events,
		.last_used = ++socket->uses,
	};
	if (epoll_ctl(socket->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		disconnect(client);
	}
}

/* All that have come: the listener reports each once. Without a descriptor for them they wait until
 * another one comes. */
static void accept_clients(struct line_socket *socket)
{
	for (int i = 0; i <= BACKLOG; i++) {
		int fd = accept4(socket->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			return;
		}
		if (is_same_user(fd)) {
			add_client(socket, fd);
		} else {
			close(fd);
		}
	}
}

void line_socket_dispatch(struct line_socket *socket)
{
	struct epoll_event events[MAX_EVENTS];
	int count = epoll_wait(socket->epoll_fd, events, MAX_EVENTS, 0);
	bool comes = false;

	for (int i = 0; i < count; i++) {
		struct client *client = events[i].data.ptr;

		if (client == NULL) {
			comes = true;
		} else if (!serve(socket, client, events[i].events)) {
			disconnect(client);
		}
	}
	if (comes) { /* at the end: it may take the place of one with an event */
		accept_clients(socket);
	}
}

/* ---- The socket ----------------------------------------------------------------------------- */

static int listen_at(struct line_socket *socket, const char *path)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int ret;

	socket->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (socket->epoll_fd < 0) {
		return -errno;
	}
	ret = unix_listener_open(&socket->listener, path, 0600, BACKLOG);
	if (ret < 0) {
		return ret;
	}
	ret = epoll_ctl(socket->epoll_fd, EPOLL_CTL_ADD, socket->listener.fd, &event);
	return ret < 0 ? -errno : 0;
}

int line_socket_create(
	const char *path, line_socket_answer answer, void *cookie, struct line_socket **out)
{
	struct line_socket *socket = calloc(1, sizeof(*socket));
	int ret;

	if (socket == NULL) {
		return -ENOMEM;
	}
	socket->answer = answer;
	socket->cookie = cookie;
	socket->listener.fd = -1;
	for (int i = 0; i < LINE_SOCKET_MAX_CLIENTS; i++) {
		socket->clients[i].fd = -1;
	}
	ret = listen_at(socket, path);
	if (ret < 0) {
		line_socket_destroy(socket);
		return ret;
	}
	*out = socket;
	return 0;
}

void line_socket_destroy(struct line_socket *socket)
{
	if (socket == NULL) {
		return;
	}
	for (int i = 0; i < LINE_SOCKET_MAX_CLIENTS; i++) {
		if (socket->clients[i].fd >= 0) {
			disconnect(&socket->clients[i]);
		}
	}
	unix_listener_close(&socket->listener);
	if (socket->epoll_fd >= 0) {
		close(socket->epoll_fd);
	}
	free(socket);
}

void line_socket_abandon(const struct line_socket *socket)
{
	if (socket != NULL) {
		unix_listener_remove(&socket->listener);
	}
}

int line_socket_get_fd(const struct line_socket *socket)
{
	return socket->epoll_fd;
}
