/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Pipes: what a client writes goes to the host, and what the host reads to a client. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy_session.h"

/* Of one WRITE: what waits for its reader, the host bounds. */
#define MAX_WRITE 4096u

struct pipe {
	LIST_ENTRY(pipe) link;
	uint32_t id; /* as the host has it */
	int fd;      /* does not block */
	bool to_host;
	bool is_over;  /* the host has hung up: ends with what is queued */
	uint8_t *data; /* what the client's pipe does not take now */
	size_t size;
};

static int add(struct session *session, uint32_t id, int fd, bool to_host)
{
	struct pipe *pipe = calloc(1, sizeof(*pipe));
	int flags = fcntl(fd, F_GETFL);

	if (pipe == NULL) {
		return -ENOMEM;
	}
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		free(pipe);
		return -errno;
	}
	pipe->id = id;
	pipe->fd = fd;
	pipe->to_host = to_host;
	LIST_INSERT_HEAD(&session->pipes, pipe, link);
	return 0;
}

static void end(struct session *session, struct pipe *pipe)
{
	session->num_queued -= pipe->size;
	LIST_REMOVE(pipe, link);
	close(pipe->fd);
	free(pipe->data);
	free(pipe);
}

int pipe_create_to_client_take(
	struct session *session, int fd, struct channel_identifier *identifier)
{
	int ret;

	*identifier = (struct channel_identifier){
		.id = session->next_pipe_id++,
		.type = CROSS_DOMAIN_ID_READ_PIPE,
	};
	if (session->next_pipe_id == 0) {
		session->next_pipe_id = CROSS_DOMAIN_FIRST_READ_PIPE;
	}
	ret = add(session, identifier->id, fd, false);
	if (ret < 0) {
		close(fd);
	}
	return ret;
}

int pipe_create_to_host(struct session *session, uint32_t id, int *client_fd)
{
	int fds[2], ret;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return -errno;
	}
	ret = add(session, id, fds[0], true);
	if (ret < 0) {
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	*client_fd = fds[1];
	return 0;
}

/* ---- To the client -------------------------------------------------------------------------- */

/* Writes what is queued. Nobody reads it any more: the rest of it is nobody's. */
static void write_queued(struct session *session, struct pipe *pipe)
{
	ssize_t size = 0;

	if (pipe->size > 0) {
		size = write(pipe->fd, pipe->data, pipe->size);
	}
	if (size < 0 && errno != EAGAIN) {
		size = (ssize_t)pipe->size;
	}
	if (size > 0) {
		pipe->size -= (size_t)size;
		session->num_queued -= (size_t)size;
		memmove(pipe->data, pipe->data + size, pipe->size);
	}
	if (pipe->size == 0 && pipe->is_over) {
		end(session, pipe);
	}
}

int pipe_received(struct session *session, const struct channel_received *received)
{
	struct pipe *pipe;
	uint8_t *data;

	LIST_FOREACH(pipe, &session->pipes, link) {
		if (pipe->id == received->id && !pipe->to_host) {
			break;
		}
	}
	if (pipe == NULL) {
		return 0;
	}
	if (received->size > 0) {
		data = realloc(pipe->data, pipe->size + received->size);
		if (data == NULL) {
			return -ENOMEM;
		}
		memcpy(data + pipe->size, received->data, received->size);
		pipe->data = data;
		pipe->size += received->size;
		session->num_queued += received->size;
	}
	pipe->is_over = received->hang_up;
	write_queued(session, pipe);
	return 0;
}

/* ---- To the host ---------------------------------------------------------------------------- */

static int read_some(struct session *session, struct pipe *pipe)
{
	uint8_t data[MAX_WRITE];
	ssize_t size = read(pipe->fd, data, sizeof(data));
	int ret;

	if (size < 0 && errno == EAGAIN) {
		return 0;
	}
	if (size <= 0) {
		ret = channel_write(&session->channel, pipe->id, data, 0, true);
		end(session, pipe);
		return ret;
	}
	return channel_write(&session->channel, pipe->id, data, (size_t)size, false);
}

/* ---- The loop ------------------------------------------------------------------------------- */

/* A pipe to the host that is full, or one to the client that is empty, is not waited for. */
uint32_t pipes_list(const struct session *session, struct pollfd *pollfds, uint32_t max)
{
	const struct pipe *pipe;
	uint32_t count = 0;

	LIST_FOREACH(pipe, &session->pipes, link) {
		if (count < max && (pipe->to_host || pipe->size > 0)) {
			pollfds[count++] = (struct pollfd){
				.fd = pipe->fd,
				.events = pipe->to_host ? POLLIN : POLLOUT,
			};
		}
	}
	return count;
}

static struct pipe *find_by_fd(const struct session *session, int fd)
{
	struct pipe *pipe;

	LIST_FOREACH(pipe, &session->pipes, link) {
		if (pipe->fd == fd) {
			return pipe;
		}
	}
	return NULL;
}

int pipes_handle(struct session *session, const struct pollfd *pollfds, uint32_t count)
{
	int ret = 0;

	for (uint32_t i = 0; i < count && ret == 0; i++) {
		struct pipe *pipe = find_by_fd(session, pollfds[i].fd);

		if (pollfds[i].revents == 0 || pipe == NULL) {
			continue;
		}
		if (pipe->to_host) {
			ret = read_some(session, pipe);
		} else {
			write_queued(session, pipe);
		}
	}
	return ret;
}

void pipes_end(struct session *session)
{
	struct pipe *pipe;

	while ((pipe = LIST_FIRST(&session->pipes)) != NULL) {
		end(session, pipe);
	}
}
