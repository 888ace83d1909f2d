/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PROXY_WIRE_H
#define PROXY_WIRE_H

/*
 * Wayland's wire: messages of words, the first the object, the second size and opcode, and
 * descriptors beside them. What an argument is, libwayland's tables say (<wayland-util.h>). Errors
 * are negative errno values.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <wayland-util.h>

#define WIRE_MAX_MESSAGE 4096u
#define WIRE_MAX_FDS 28u /* that libwayland sends at a time */

/* Bytes and descriptors that have come, until they are whole messages. */
struct wire_stream {
	uint8_t data[2 * WIRE_MAX_MESSAGE];
	size_t size;
	int fds[4 * WIRE_MAX_FDS];
	uint32_t num_fds;
};

/* Reads what is there: -EAGAIN for nothing, -EPIPE at the end. */
int wire_stream_read(struct wire_stream *stream, int socket_fd);
int wire_stream_add(struct wire_stream *stream, const void *data, size_t size);
int wire_stream_add_fd_take(struct wire_stream *stream, int fd);
int wire_stream_take_fd(struct wire_stream *stream); /* or -1: it has none */
void wire_stream_clear(struct wire_stream *stream);

struct wire_message {
	uint32_t object, opcode;
	uint32_t size; /* in bytes, of all of it */
	uint32_t words[WIRE_MAX_MESSAGE / sizeof(uint32_t)];
};

/* Takes the next one: 1, or 0 if it is not whole yet. */
int wire_stream_take_message(struct wire_stream *stream, struct wire_message *message);

/* For a message of our own: its words, behind the first two. */
void wire_message_make(struct wire_message *message, uint32_t object, uint32_t opcode,
	const uint32_t *words, uint32_t num_words);
void wire_message_set_object(struct wire_message *message, uint32_t object);

/* Goes through the arguments of a message. */
struct wire_walk {
	struct wire_message *message;
	const char *signature;
	const struct wl_interface **types;
	uint32_t at; /* in words */
	bool is_wrong;
};

struct wire_argument {
	char type; /* as in the signature */
	const struct wl_interface *interface;
	uint32_t *word;     /* the number; of strings and arrays the size, NULL for a descriptor */
	const char *string; /* or NULL */
};

void wire_walk_begin(
	struct wire_walk *walk, const struct wl_message *signature, struct wire_message *message);

/* False at the end, or if the message is shorter than it says. */
bool wire_walk_next(struct wire_walk *walk, struct wire_argument *argument);

/* Bytes and descriptors that wait until a socket takes them. */
struct wire_output {
	uint8_t data[16 * WIRE_MAX_MESSAGE];
	size_t size;
	int fds[4 * WIRE_MAX_FDS];
	uint32_t num_fds;
};

int wire_output_add(struct wire_output *output, const struct wire_message *message);
int wire_output_add_fd_take(struct wire_output *output, int fd);
int wire_output_write(struct wire_output *output, int socket_fd); /* what it takes */
void wire_output_clear(struct wire_output *output);

#endif
