/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PROXY_SESSION_H
#define PROXY_SESSION_H

/*
 * One client of the proxy, in a process of its own: what the files of the proxy share. Functions
 * that return an int return 0 or a negative errno value, with which the session ends.
 */

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "proxy_objects.h"
#include "proxy_wire.h"
#include "queue.h"

/* What becomes of the fence of a buffer that is committed. */
enum proxy_fences {
	PROXY_PASS,   /* an in-fence of the message */
	PROXY_WAIT,   /* the proxy waits for it first, as proxies do without fence passing */
	PROXY_IGNORE, /* nothing: the control, which shows what is not drawn yet */
};

struct proxy_options {
	enum proxy_fences fences;
	bool stats; /* says at the end of each session what was copied */
};

struct buffer;
struct pipe;
struct release;

struct session {
	enum proxy_fences fences;
	struct channel channel;
	int socket_fd; /* the client */
	struct wire_stream requests, events;
	struct wire_output output; /* to the client */
	struct objects objects;
	/* The proxy's own, on the host; 0: none. */
	uint32_t registry_id, shm_id, dmabuf_id, explicit_id;

	/* What goes to the host next. */
	uint8_t data[CHANNEL_MAX_DATA];
	size_t size;
	struct channel_identifier identifiers[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t num_identifiers;

	LIST_HEAD(, pipe) pipes;
	uint32_t next_pipe_id;
	size_t num_queued; /* bytes for pipes of the client that do not take them now */
	uint64_t num_surfaces;
	uint64_t copied, shown; /* bytes of wl_shm's buffers: that were copied, of all committed */
	bool is_polling;        /* the host is asked for what comes next */
	STAILQ_HEAD(, release) releases; /* whose fences have not signalled yet */
};

/* Serves the client until it ends, or the host does. Owns the socket. */
int session_run(int socket_fd, const struct proxy_options *options);

/* ---- To the host ---------------------------------------------------------------------------- */

/* With the identifier of a descriptor, or NULL. What is sent waits until it is flushed. */
int session_send(struct session *session, const struct wire_message *message,
	const struct channel_identifier *identifier);

/* A request of the proxy's own. */
int session_request(struct session *session, uint32_t host_id, uint32_t opcode,
	const uint32_t *words, uint32_t num_words, const struct channel_identifier *identifier);

/* So that the next messages, of so many bytes and with one descriptor each or less, go together:
 * two of them at most. */
int session_make_room(struct session *session, size_t size);

/* in_fence_fd, or -1, stays the caller's. */
int session_flush(struct session *session, int in_fence_fd);

/* ---- To the client -------------------------------------------------------------------------- */

int session_event(struct session *session, uint32_t client_id, uint32_t opcode,
	const uint32_t *words, uint32_t num_words);

/* Tells the client what it did wrong. Returns -EPROTO. */
int session_refuse(struct session *session, const struct object *object, const char *text);

/* An object that only the client has. */
int session_add_local(struct session *session, const struct wl_interface *interface,
	uint32_t version, uint32_t client_id, struct object **out);
int session_remove_local(struct session *session, struct object *object);

/* One that only the host has; *id: which. */
int session_add_own(struct session *session, const struct wl_interface *interface, uint32_t *id);

/* ---- The parts ------------------------------------------------------------------------------ */

/* proxy_request.c, proxy_event.c */
int session_handle_request(struct session *session, struct wire_message *message);
int session_handle_event(struct session *session, struct wire_message *message);

/* The message to the host, with its objects as the host calls them. */
int session_forward(
	struct session *session, const struct object *object, struct wire_message *message);

/* proxy_globals.c: the registry */
int globals_begin(struct session *session);
int globals_get_registry(
	struct session *session, struct object *object, struct wire_message *message);
int globals_bind(struct session *session, struct object *object, struct wire_message *message);

/* An event of a registry, the client's (with *drop if that is not to have it) or our own. */
int globals_announced(struct session *session, const struct object *registry,
	struct wire_message *message, bool *drop);

/* proxy_buffer.c: requests that buffers make different. NULL: none. */
typedef int (*request_handler)(
	struct session *session, struct object *object, struct wire_message *message);
request_handler buffer_find_handler(const struct wl_interface *interface, uint32_t opcode);
int buffer_announce_formats(struct session *session, const struct object *dmabuf);

/* Whether the host's wl_buffer.release means nothing, as it is released by proxy_fence.c. */
bool buffer_has_fences(const struct buffer *buffer);

/* The host has done with one commit of it. Gives a use of the buffer back. */
int buffer_released(struct session *session, struct buffer *buffer);
void buffer_end(void *state);

/* proxy_fence.c: explicit synchronisation, if the host's compositor and the device have it. Its
 * messages take so many bytes. */
#define FENCE_REQUESTS_SIZE 32u
bool fences_can_pass(const struct session *session);
int fences_add_surface(struct session *session, uint32_t surface_id, uint32_t *id);
int fences_end_surface(struct session *session, uint32_t id);

/* Of the next commit of that surface: the buffer's release, with a use of it, and whether it is to
 * be shown behind the in-fence of the message. */
int fences_commit(struct session *session, uint32_t id, struct buffer *buffer, bool has_in_fence);
int fences_handle_event(
	struct session *session, const struct object *object, const struct wire_message *message);

/* The next one that comes, or -1; and when it may have come. */
int fences_next_fd(const struct session *session);
int fences_handle_next(struct session *session);
void fences_end(struct session *session);

/* proxy_pipe.c: pipes. The first owns the descriptor of the client's. */
int pipe_create_to_client_take(
	struct session *session, int fd, struct channel_identifier *identifier);
int pipe_create_to_host(struct session *session, uint32_t id, int *client_fd);
int pipe_received(struct session *session, const struct channel_received *received);
struct pollfd;
uint32_t pipes_list(const struct session *session, struct pollfd *pollfds, uint32_t max);
int pipes_handle(struct session *session, const struct pollfd *pollfds, uint32_t count);
void pipes_end(struct session *session);

#endif
