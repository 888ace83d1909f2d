/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "proxy_objects.h"

#include <errno.h>
#include <stdlib.h>

/* The ID of a client's first object, which is not made: wl_display. */
#define FIRST_ID 1u

static bool is_server(uint32_t id)
{
	return id >= OBJECTS_SERVER;
}

/* NULL for an ID that there is not. */
static struct object **place(const struct ids *ids, uint32_t id)
{
	uint32_t at = is_server(id) ? id - OBJECTS_SERVER : id;

	if (id == 0 || at >= OBJECTS_MAX) {
		return NULL;
	}
	return &ids->objects[at + (is_server(id) ? OBJECTS_MAX : 0)];
}

static struct object *find(const struct ids *ids, uint32_t id)
{
	struct object **found = place(ids, id);

	return found != NULL ? *found : NULL;
}

struct object *objects_of_client(const struct objects *objects, uint32_t id)
{
	return find(&objects->client, id);
}

struct object *objects_of_host(const struct objects *objects, uint32_t id)
{
	return find(&objects->host, id);
}

static int init_ids(struct ids *ids)
{
	*ids = (struct ids){ .next = { FIRST_ID, 0 } };
	ids->objects = calloc(2 * (size_t)OBJECTS_MAX, sizeof(*ids->objects));
	for (int i = 0; i < 2; i++) {
		ids->freed[i] = calloc(OBJECTS_MAX, sizeof(*ids->freed[i]));
		if (ids->freed[i] == NULL) {
			return -ENOMEM;
		}
	}
	return ids->objects == NULL ? -ENOMEM : 0;
}

static void finish_ids(struct ids *ids)
{
	free(ids->objects);
	free(ids->freed[0]);
	free(ids->freed[1]);
}

int objects_init(struct objects *objects)
{
	int client = init_ids(&objects->client), host = init_ids(&objects->host);

	return client < 0 ? client : host;
}

/* A side's IDs are without gaps. */
static uint32_t new_id(struct ids *ids, bool server)
{
	uint32_t id;

	if (ids->num_freed[server] > 0) {
		id = ids->freed[server][--ids->num_freed[server]];
	} else if (ids->next[server] < OBJECTS_MAX) {
		id = ids->next[server]++;
	} else {
		return 0;
	}
	return server ? id + OBJECTS_SERVER : id;
}

uint32_t objects_new_host_id(struct objects *objects)
{
	return new_id(&objects->host, false);
}

uint32_t objects_new_client_id(struct objects *objects)
{
	return new_id(&objects->client, true);
}

static bool is_free(const struct ids *ids, uint32_t id)
{
	struct object **found = place(ids, id);

	return id == 0 || (found != NULL && *found == NULL);
}

int objects_add(struct objects *objects, const struct wl_interface *interface, uint32_t version,
	uint32_t client_id, uint32_t host_id, struct object **out)
{
	struct object *object;

	if (!is_free(&objects->client, client_id) || !is_free(&objects->host, host_id)) {
		return -EINVAL;
	}
	object = calloc(1, sizeof(*object));
	if (object == NULL) {
		return -ENOMEM;
	}
	object->interface = interface;
	object->version = version;
	object->client_id = client_id;
	object->host_id = host_id;
	if (client_id != 0) {
		*place(&objects->client, client_id) = object;
	}
	if (host_id != 0) {
		*place(&objects->host, host_id) = object;
	}
	*out = object;
	return 0;
}

/* An ID that the proxy has chosen may be chosen again. */
static void clear(struct ids *ids, uint32_t id, bool ours_are_servers)
{
	if (id == 0) {
		return;
	}
	*place(ids, id) = NULL;
	if (is_server(id) == ours_are_servers) {
		ids->freed[ours_are_servers][ids->num_freed[ours_are_servers]++] =
			ours_are_servers ? id - OBJECTS_SERVER : id;
	}
}

void objects_remove(struct objects *objects, struct object *object)
{
	clear(&objects->client, object->client_id, true);
	clear(&objects->host, object->host_id, false);
	if (object->end != NULL) {
		object->end(object->state);
	}
	free(object);
}

void objects_finish(struct objects *objects)
{
	for (uint32_t i = 0; objects->client.objects != NULL && i < 2 * OBJECTS_MAX; i++) {
		if (objects->client.objects[i] != NULL) {
			objects_remove(objects, objects->client.objects[i]);
		}
	}
	for (uint32_t i = 0; objects->host.objects != NULL && i < 2 * OBJECTS_MAX; i++) {
		if (objects->host.objects[i] != NULL) {
			objects_remove(objects, objects->host.objects[i]);
		}
	}
	finish_ids(&objects->client);
	finish_ids(&objects->host);
}
