/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "proxy_session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <wayland-client-protocol.h>

#define MAX_PIPES 64u

/* What may wait for the client's pipes before nothing more is taken from the host. */
#define MAX_QUEUED (1u << 20)

/* wl_display, which everybody knows. */
#define DISPLAY_ID 1u
#define DISPLAY_ERROR 0u
#define DISPLAY_DELETE_ID 1u

/* ---- To the host ---------------------------------------------------------------------------- */

int session_flush(struct session *session, int in_fence_fd)
{
	int ret;

	if (session->size == 0) {
		return 0;
	}
	ret = channel_send(&session->channel, session->data, session->size, session->identifiers,
		session->num_identifiers, in_fence_fd);
	session->size = 0;
	session->num_identifiers = 0;
	return ret;
}

int session_make_room(struct session *session, size_t size)
{
	return size > sizeof(session->data) - session->size ||
			session->num_identifiers + 2 > CROSS_DOMAIN_MAX_IDENTIFIERS ?
		session_flush(session, -1) :
		0;
}

int session_send(struct session *session, const struct wire_message *message,
	const struct channel_identifier *identifier)
{
	int ret = 0;

	if (message->size > sizeof(session->data) - session->size ||
		session->num_identifiers == CROSS_DOMAIN_MAX_IDENTIFIERS) {
		ret = session_flush(session, -1);
	}
	memcpy(session->data + session->size, message->words, message->size);
	session->size += message->size;
	if (identifier != NULL) {
		session->identifiers[session->num_identifiers++] = *identifier;
	}
	return ret;
}

int session_request(struct session *session, uint32_t host_id, uint32_t opcode,
	const uint32_t *words, uint32_t num_words, const struct channel_identifier *identifier)
{
	struct wire_message message;

	wire_message_make(&message, host_id, opcode, words, num_words);
	return session_send(session, &message, identifier);
}

int session_add_own(struct session *session, const struct wl_interface *interface, uint32_t *id)
{
	struct object *object;

	*id = objects_new_host_id(&session->objects);
	return *id == 0 ? -ENOSPC : objects_add(&session->objects, interface, 1, 0, *id, &object);
}

/* ---- To the client -------------------------------------------------------------------------- */

int session_event(struct session *session, uint32_t client_id, uint32_t opcode,
	const uint32_t *words, uint32_t num_words)
{
	struct wire_message message;

	wire_message_make(&message, client_id, opcode, words, num_words);
	return wire_output_add(&session->output, &message);
}

/* The session ends, so what is still to be sent does not matter. */
int session_refuse(struct session *session, const struct object *object, const char *text)
{
	uint32_t words[32] = {
		object->client_id,
		WL_DISPLAY_ERROR_IMPLEMENTATION,
		(uint32_t)strlen(text) + 1,
	};
	uint32_t num_words = 3 + (words[2] + 3) / 4;

	memcpy(words + 3, text, words[2]);
	session_event(session, DISPLAY_ID, DISPLAY_ERROR, words, num_words);
	wire_output_write(&session->output, session->socket_fd);
	return -EPROTO;
}

int session_add_local(struct session *session, const struct wl_interface *interface,
	uint32_t version, uint32_t client_id, struct object **out)
{
	return objects_add(&session->objects, interface, version, client_id, 0, out);
}

int session_remove_local(struct session *session, struct object *object)
{
	uint32_t id = object->client_id;

	objects_remove(&session->objects, object);
	return session_event(session, DISPLAY_ID, DISPLAY_DELETE_ID, &id, 1);
}

/* ---- What comes ----------------------------------------------------------------------------- */

static int handle_requests(struct session *session)
{
	struct wire_message message;
	int ret = wire_stream_read(&session->requests, session->socket_fd);

	if (ret < 0) {
		return ret == -EAGAIN ? 0 : ret;
	}
	while ((ret = wire_stream_take_message(&session->requests, &message)) > 0) {
		ret = session_handle_request(session, &message);
		if (ret < 0) {
			return ret;
		}
	}
	return ret < 0 ? ret : session_flush(session, -1);
}

/* What a descriptor of the host's is for the client. */
static int take_identifier(struct session *session, const struct channel_identifier *identifier)
{
	int fd = -1, ret = 0;

	if (identifier->type == CROSS_DOMAIN_ID_WRITE_PIPE) {
		ret = pipe_create_to_host(session, identifier->id, &fd);
	} else if (identifier->type == CROSS_DOMAIN_ID_BLOB) {
		fd = channel_copy_file(&session->channel, identifier);
		ret = fd < 0 ? fd : 0;
	} else if (identifier->type == CROSS_DOMAIN_ID_SYNC) {
		fd = channel_take_fence(&session->channel, identifier);
		ret = fd < 0 ? fd : 0;
	} else {
		ret = -EOPNOTSUPP;
	}
	return ret < 0 ? ret : wire_stream_add_fd_take(&session->events, fd);
}

static int take_received(struct session *session, const struct channel_received *received)
{
	struct wire_message message;
	int ret = wire_stream_add(&session->events, received->data, received->size);

	for (uint32_t i = 0; i < received->num_identifiers && ret == 0; i++) {
		ret = take_identifier(session, &received->identifiers[i]);
	}
	while (ret == 0 && (ret = wire_stream_take_message(&session->events, &message)) > 0) {
		ret = session_handle_event(session, &message);
	}
	return ret;
}

static int handle_received(struct session *session)
{
	struct channel_received received;
	int ret = channel_receive(&session->channel, &received);

	session->is_polling = false;
	if (ret < 0) {
		return ret;
	}
	if (received.is_end) {
		return -EPIPE;
	}
	ret = received.is_read ? pipe_received(session, &received) :
				 take_received(session, &received);
	return ret < 0 ? ret : session_flush(session, -1);
}

/* ---- The loop ------------------------------------------------------------------------------- */

enum { CLIENT, HOST, BUSY, FENCE, PIPES };

/* The host is asked for more when the client has taken what there was. */
static int ask_host(struct session *session)
{
	if (session->is_polling || session->output.size > 0 || session->num_queued > MAX_QUEUED) {
		return 0;
	}
	session->is_polling = true;
	return channel_poll(&session->channel);
}

/* While the host is busy nothing is taken from the client. */
static uint32_t list_fds(struct session *session, struct pollfd *pollfds)
{
	int busy_fd = channel_busy_fd(&session->channel);

	pollfds[CLIENT] = (struct pollfd){ .fd = session->socket_fd };
	pollfds[CLIENT].events = (short)((busy_fd < 0 ? POLLIN : 0) |
		(session->output.size > 0 ? POLLOUT : 0));
	pollfds[HOST] = (struct pollfd){ .fd = session->channel.fd, .events = POLLIN };
	pollfds[BUSY] = (struct pollfd){ .fd = busy_fd, .events = POLLIN };
	pollfds[FENCE] = (struct pollfd){ .fd = fences_next_fd(session), .events = POLLIN };
	return PIPES + pipes_list(session, pollfds + PIPES, busy_fd < 0 ? MAX_PIPES : 0);
}

static int step(struct session *session)
{
	struct pollfd pollfds[PIPES + MAX_PIPES];
	uint32_t count = list_fds(session, pollfds);
	int ret = 0;

	if (poll(pollfds, count, -1) < 0) {
		return errno == EINTR ? 0 : -errno;
	}
	if (pollfds[HOST].revents != 0) {
		ret = handle_received(session);
	}
	if (ret == 0 && pollfds[CLIENT].revents != 0) {
		ret = handle_requests(session);
	}
	if (ret == 0 && pollfds[FENCE].revents != 0) {
		ret = fences_handle_next(session);
	}
	if (ret == 0) {
		ret = pipes_handle(session, pollfds + PIPES, count - PIPES);
	}
	if (ret == 0) {
		ret = wire_output_write(&session->output, session->socket_fd);
	}
	return ret < 0 ? ret : ask_host(session);
}

/* Both sides call it the same. */
static int add_display(struct session *session)
{
	struct object *object;
	uint32_t id = objects_new_host_id(&session->objects);

	return objects_add(&session->objects, &wl_display_interface, 1, id, id, &object);
}

static void print_stats(const struct session *session)
{
	fprintf(stderr, "copied %llu of %llu bytes that were committed in memory\n",
		(unsigned long long)session->copied, (unsigned long long)session->shown);
}

int session_run(int socket_fd, const struct proxy_options *options)
{
	struct session *session = calloc(1, sizeof(*session));
	int ret = -ENOMEM;

	if (session == NULL) {
		goto out_close;
	}
	session->socket_fd = socket_fd;
	session->fences = options->fences;
	session->next_pipe_id = CROSS_DOMAIN_FIRST_READ_PIPE;
	session->is_polling = true;
	STAILQ_INIT(&session->releases);
	ret = channel_open(&session->channel);
	if (ret < 0) {
		goto out_free;
	}
	ret = objects_init(&session->objects);
	if (ret == 0) {
		ret = add_display(session);
	}
	if (ret == 0) {
		ret = globals_begin(session);
	}
	while (ret == 0) {
		ret = step(session);
	}
	wire_output_write(&session->output, socket_fd); /* why it ends */
	if (options->stats) {
		print_stats(session);
	}
	pipes_end(session);
	fences_end(session);
	objects_finish(&session->objects);
	wire_stream_clear(&session->requests);
	wire_stream_clear(&session->events);
	wire_output_clear(&session->output);
	channel_close(&session->channel);
out_free:
	free(session);
out_close:
	close(socket_fd);
	return ret;
}
