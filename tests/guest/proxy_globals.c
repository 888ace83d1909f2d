/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The registry: what the host's compositor offers, as far as the proxy knows how it is spoken to.
 * Dma-bufs are the proxy's own offer: what they are on the host is not what they are in the guest.
 */

#include <errno.h>
#include <string.h>

#include <wayland-client-protocol.h>

#include "proxy_session.h"

#include <linux-dmabuf-unstable-v1-client-protocol.h>
#include <linux-explicit-synchronization-unstable-v1-client-protocol.h>
#include <viewporter-client-protocol.h>
#include <xdg-decoration-unstable-v1-client-protocol.h>
#include <xdg-shell-client-protocol.h>

/* Not presentation-time: its times are of the host's clock. */
static const struct wl_interface *const known[] = {
	&wl_compositor_interface,
	&wl_data_device_manager_interface,
	&wl_output_interface,
	&wl_seat_interface,
	&wl_shm_interface,
	&wl_subcompositor_interface,
	&wp_viewporter_interface,
	&xdg_wm_base_interface,
	&zxdg_decoration_manager_v1_interface,
};

/* The proxy's own, by a name that no host gets to. */
#define DMABUF_NAME 0xffff0000u
#define DMABUF_VERSION 3u

#define REGISTRY_GLOBAL 0u

static const struct wl_interface *find_known(const char *name)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(known[i]->name, name) == 0) {
			return known[i];
		}
	}
	return NULL;
}

/* Words of a string. */
static uint32_t put_string(uint32_t *words, const char *text)
{
	uint32_t size = (uint32_t)strlen(text) + 1;

	words[0] = size;
	words[size / 4 + 1] = 0; /* what is behind it in the last word */
	memcpy(words + 1, text, size);
	return 1 + (size + 3) / 4;
}

/* ---- The proxy's own ------------------------------------------------------------------------ */

int globals_begin(struct session *session)
{
	int ret = session_add_own(session, &wl_registry_interface, &session->registry_id);

	if (ret == 0) {
		ret = session_request(
			session, 1, WL_DISPLAY_GET_REGISTRY, &session->registry_id, 1, NULL);
	}
	return ret < 0 ? ret : session_flush(session, -1);
}

static int bind_own(struct session *session, const struct wl_interface *interface, uint32_t name,
	uint32_t version, uint32_t *id)
{
	uint32_t words[16] = { name }, count = 1;
	int ret = session_add_own(session, interface, id);

	count += put_string(words + count, interface->name);
	words[count++] = version;
	words[count++] = *id;
	return ret < 0 ? ret :
			 session_request(session, session->registry_id, WL_REGISTRY_BIND, words,
				 count, NULL);
}

/* A dma-buf of the guest's memory is one on the host, and a fence of the guest's may be one. */
static int take_own(struct session *session, uint32_t name, const char *interface, uint32_t version)
{
	if (strcmp(interface, wl_shm_interface.name) == 0 && session->shm_id == 0) {
		return bind_own(session, &wl_shm_interface, name, 1, &session->shm_id);
	}
	if (strcmp(interface, zwp_linux_dmabuf_v1_interface.name) == 0 && version >= 3 &&
		session->dmabuf_id == 0) {
		return bind_own(session, &zwp_linux_dmabuf_v1_interface, name, DMABUF_VERSION,
			&session->dmabuf_id);
	}
	if (strcmp(interface, zwp_linux_explicit_synchronization_v1_interface.name) == 0 &&
		session->explicit_id == 0) {
		return bind_own(session, &zwp_linux_explicit_synchronization_v1_interface, name, 1,
			&session->explicit_id);
	}
	return 0;
}

/* ---- The client's --------------------------------------------------------------------------- */

/* Those of the host come when the host has answered. */
int globals_get_registry(
	struct session *session, struct object *object, struct wire_message *message)
{
	uint32_t registry = message->words[2], words[16] = { DMABUF_NAME }, count = 1;
	int ret = session_forward(session, object, message);

	if (ret < 0) {
		return ret;
	}
	count += put_string(words + count, zwp_linux_dmabuf_v1_interface.name);
	words[count++] = DMABUF_VERSION;
	return session_event(session, registry, REGISTRY_GLOBAL, words, count);
}

static int bind_dmabuf(struct session *session, const struct object *registry, uint32_t version,
	uint32_t client_id)
{
	struct object *object;

	if (version == 0 || version > DMABUF_VERSION ||
		session_add_local(
			session, &zwp_linux_dmabuf_v1_interface, version, client_id, &object) < 0) {
		return session_refuse(session, registry, "a bind that is not possible");
	}
	return buffer_announce_formats(session, object);
}

/* Name, interface, version, ID: what the ID is, only the text says. */
int globals_bind(struct session *session, struct object *object, struct wire_message *message)
{
	uint32_t *end = message->words + message->size / sizeof(uint32_t);
	uint32_t *version = end - 2, *id = end - 1, host_id;
	const char *name = (const char *)(message->words + 4);
	const struct wl_interface *interface = message->words[3] > 0 ? find_known(name) : NULL;
	struct object *bound;

	if (message->words[2] == DMABUF_NAME) {
		return bind_dmabuf(session, object, *version, *id);
	}
	host_id = interface != NULL ? objects_new_host_id(&session->objects) : 0;
	if (host_id == 0 || *version > (uint32_t)interface->version || *id >= OBJECTS_SERVER ||
		objects_add(&session->objects, interface, *version, *id, host_id, &bound) < 0) {
		return session_refuse(session, object, "a bind that is not possible");
	}
	*id = host_id;
	wire_message_set_object(message, object->host_id);
	return session_send(session, message, NULL);
}

int globals_announced(struct session *session, const struct object *registry,
	struct wire_message *message, bool *drop)
{
	const struct wl_interface *interface;
	struct wire_argument name, text, version;
	struct wire_walk walk;

	if (message->opcode != REGISTRY_GLOBAL) {
		return 0; /* one that is removed, whether or not the client knew it */
	}
	wire_walk_begin(&walk, &wl_registry_interface.events[REGISTRY_GLOBAL], message);
	if (!wire_walk_next(&walk, &name) || !wire_walk_next(&walk, &text) ||
		!wire_walk_next(&walk, &version) || text.string == NULL) {
		return -EPROTO;
	}
	if (registry->client_id == 0) {
		return take_own(session, *name.word, text.string, *version.word);
	}
	interface = find_known(text.string);
	*drop = interface == NULL;
	if (interface != NULL && *version.word > (uint32_t)interface->version) {
		*version.word = (uint32_t)interface->version;
	}
	return 0;
}
