/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a client says, on its way to the host. */

#include <errno.h>
#include <unistd.h>

#include <wayland-client-protocol.h>

#include "proxy_session.h"

static int translate_object(struct session *session, const struct wire_argument *argument)
{
	const struct object *object = objects_of_client(&session->objects, *argument->word);

	if (*argument->word == 0) {
		return 0;
	}
	if (object == NULL || object->host_id == 0) {
		return -EINVAL;
	}
	*argument->word = object->host_id;
	return 0;
}

static int translate_new_id(
	struct session *session, const struct object *maker, const struct wire_argument *argument)
{
	uint32_t id = objects_new_host_id(&session->objects);
	struct object *object;
	int ret;

	if (id == 0) {
		return -ENOSPC;
	}
	if (argument->interface == NULL || *argument->word >= OBJECTS_SERVER) {
		return -EINVAL;
	}
	ret = objects_add(&session->objects, argument->interface, maker->version, *argument->word,
		id, &object);
	*argument->word = id;
	return ret;
}

/* Descriptors of other requests than those for buffers are written to by whoever gets them. */
static int translate_fd(struct session *session, struct channel_identifier *identifier)
{
	return pipe_create_to_client_take(
		session, wire_stream_take_fd(&session->requests), identifier);
}

int session_forward(
	struct session *session, const struct object *object, struct wire_message *message)
{
	const struct wl_message *signature = &object->interface->methods[message->opcode];
	struct channel_identifier identifier;
	struct wire_argument argument;
	struct wire_walk walk;
	bool has_fd = false;
	int ret = object->host_id == 0 ? -EINVAL : 0;

	wire_walk_begin(&walk, signature, message);
	while (ret == 0 && wire_walk_next(&walk, &argument)) {
		if (argument.type == 'o') {
			ret = translate_object(session, &argument);
		} else if (argument.type == 'n') {
			ret = translate_new_id(session, object, &argument);
		} else if (argument.type == 'h') {
			ret = translate_fd(session, &identifier);
			has_fd = true;
		}
	}
	if (ret < 0) {
		return session_refuse(session, object, "a request that cannot be passed on");
	}
	wire_message_set_object(message, object->host_id);
	return session_send(session, message, has_fd ? &identifier : NULL);
}

/* Whether it is whole, with its descriptors: no request has more than one. */
static bool is_valid(
	struct session *session, const struct object *object, struct wire_message *message)
{
	struct wire_argument argument;
	struct wire_walk walk;
	uint32_t num_fds = 0;

	if (message->opcode >= (uint32_t)object->interface->method_count) {
		return false;
	}
	wire_walk_begin(&walk, &object->interface->methods[message->opcode], message);
	while (wire_walk_next(&walk, &argument)) {
		num_fds += argument.type == 'h';
	}
	return !walk.is_wrong && num_fds <= 1 && num_fds <= session->requests.num_fds;
}

static request_handler find_handler(const struct wl_interface *interface, uint32_t opcode)
{
	if (interface == &wl_display_interface && opcode == WL_DISPLAY_GET_REGISTRY) {
		return globals_get_registry;
	}
	if (interface == &wl_registry_interface && opcode == WL_REGISTRY_BIND) {
		return globals_bind;
	}
	return buffer_find_handler(interface, opcode);
}

int session_handle_request(struct session *session, struct wire_message *message)
{
	struct object *object = objects_of_client(&session->objects, message->object);
	request_handler handle;

	if (object == NULL) {
		return session_refuse(
			session, objects_of_client(&session->objects, 1), "an unknown object");
	}
	if (!is_valid(session, object, message)) {
		return session_refuse(session, object, "a request that is cut short");
	}
	handle = find_handler(object->interface, message->opcode);
	return handle != NULL ? handle(session, object, message) :
				session_forward(session, object, message);
}
