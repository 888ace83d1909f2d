/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What the host's compositor says, on its way to the client. */

#include <errno.h>
#include <unistd.h>

#include <wayland-client-protocol.h>

#include "proxy_session.h"

#define DISPLAY_DELETE_ID 1u
#define KEYBOARD_KEYMAP 0u

static int translate_new_id(
	struct session *session, const struct object *maker, const struct wire_argument *argument)
{
	struct object *object = objects_of_host(&session->objects, *argument->word);
	uint32_t id;
	int ret;

	if (object != NULL) { /* of one that the client has destroyed */
		objects_remove(&session->objects, object);
	}
	id = objects_new_client_id(&session->objects);
	if (id == 0 || argument->interface == NULL) {
		return -EPROTO;
	}
	ret = objects_add(&session->objects, argument->interface, maker->version, id,
		*argument->word, &object);
	*argument->word = id;
	return ret;
}

/* What is the proxy's own, the client does not know. */
static void translate_object(struct session *session, const struct wire_argument *argument)
{
	const struct object *object = objects_of_host(&session->objects, *argument->word);

	*argument->word = object != NULL ? object->client_id : 0;
}

static int translate_fd(struct session *session)
{
	int fd = wire_stream_take_fd(&session->events);

	return fd < 0 ? -EPROTO : wire_output_add_fd_take(&session->output, fd);
}

static int forward(
	struct session *session, const struct object *object, struct wire_message *message)
{
	struct wire_argument argument;
	struct wire_walk walk;
	int ret = 0;

	wire_walk_begin(&walk, &object->interface->events[message->opcode], message);
	while (ret == 0 && wire_walk_next(&walk, &argument)) {
		if (argument.type == 'o') {
			translate_object(session, &argument);
		} else if (argument.type == 'n') {
			ret = translate_new_id(session, object, &argument);
		} else if (argument.type == 'h') {
			ret = translate_fd(session);
		}
	}
	if (ret < 0 || walk.is_wrong) {
		return ret < 0 ? ret : -EPROTO;
	}
	wire_message_set_object(message, object->client_id);
	return wire_output_add(&session->output, message);
}

/* An ID of the host's is free again, and so is the client's. */
static int delete_id(struct session *session, struct wire_message *message)
{
	struct object *object = objects_of_host(&session->objects, message->words[2]);
	uint32_t client_id;

	if (object == NULL) {
		return 0;
	}
	client_id = object->client_id;
	objects_remove(&session->objects, object);
	if (client_id == 0 || client_id >= OBJECTS_SERVER) {
		return 0;
	}
	message->words[2] = client_id;
	return wire_output_add(&session->output, message);
}

/* A guest that cannot read it has none. */
static void take_keymap_away(struct wire_message *message)
{
	if (message->size == 4 * sizeof(uint32_t)) {
		message->words[2] = WL_KEYBOARD_KEYMAP_FORMAT_NO_KEYMAP;
		message->words[3] = 0;
	}
}

int session_handle_event(struct session *session, struct wire_message *message)
{
	struct object *object = objects_of_host(&session->objects, message->object);
	bool drop = false;
	int ret = 0;

	if (object == NULL || message->opcode >= (uint32_t)object->interface->event_count) {
		return -EPROTO;
	}
	if (object->interface == &wl_display_interface && message->opcode == DISPLAY_DELETE_ID) {
		return delete_id(session, message);
	}
	if (object->interface == &wl_registry_interface) {
		ret = globals_announced(session, object, message, &drop);
	}
	if (object->interface == &wl_keyboard_interface && message->opcode == KEYBOARD_KEYMAP &&
		!session->channel.has_host_memory) {
		take_keymap_away(message);
	}
	if (object->interface == &wl_buffer_interface) {
		drop = buffer_has_fences(object->state);
	}
	if (ret < 0 || drop) {
		return ret;
	}
	if (object->client_id == 0) {
		return fences_handle_event(session, object, message);
	}
	return forward(session, object, message);
}
