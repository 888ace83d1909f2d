/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PROXY_OBJECTS_H
#define PROXY_OBJECTS_H

/*
 * The objects of a connection. The client's IDs are not the host's: there are objects that only the
 * client has, which the proxy is for, and objects of the proxy's own on the host. Each side's IDs
 * that a client makes count from 1, those that a compositor makes from OBJECTS_SERVER.
 */

#include <stdbool.h>
#include <stdint.h>

#include <wayland-util.h>

#define OBJECTS_SERVER 0xff000000u
#define OBJECTS_MAX 65536u /* of each kind */

struct object {
	const struct wl_interface *interface;
	uint32_t version;
	uint32_t client_id, host_id; /* 0: not there */
	void *state;                 /* the proxy's, or NULL */
	void (*end)(void *state);
};

struct ids {
	struct object **objects; /* by ID, made by a client and by a compositor */
	uint32_t next[2];
	uint32_t *freed[2], num_freed[2];
};

struct objects {
	struct ids client, host;
};

int objects_init(struct objects *objects);
void objects_finish(struct objects *objects);

struct object *objects_of_client(const struct objects *objects, uint32_t id);
struct object *objects_of_host(const struct objects *objects, uint32_t id);

/* Of the side's IDs that the proxy chooses: 0 if there are too many. */
uint32_t objects_new_host_id(struct objects *objects);
uint32_t objects_new_client_id(struct objects *objects);

/* -EINVAL for an ID that is in use or out of range. */
int objects_add(struct objects *objects, const struct wl_interface *interface, uint32_t version,
	uint32_t client_id, uint32_t host_id, struct object **out);
void objects_remove(struct objects *objects, struct object *object);

#endif
