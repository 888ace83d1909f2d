/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "release.h"

#include "gpu_private.h"

static int tell_renderer(struct pending_request *pending, struct resource *resource)
{
	struct renderer *renderer = pending->gpu->renderer;

	pending->awaits_renderer = true;
	if (pending->releases == RELEASE_RESOURCE) {
		return renderer->ops->unref(renderer, resource->id, request_done, pending);
	}
	pending->backing = resource->backing;
	resource->backing = NULL;
	resource->is_detaching = false;
	return renderer->ops->detach_backing(renderer, resource->id, request_done, pending);
}

/* The renderer could not: all is as before, but that no scanout shows it. */
static void undo(struct pending_request *pending, struct resource *resource)
{
	pending->awaits_renderer = false;
	if (pending->releases == RELEASE_RESOURCE) {
		pending->resource = NULL;
		resource->leaving = false;
	} else {
		resource->backing = pending->backing;
		pending->backing = NULL;
	}
	pin_return(pending, resource);
}

/* Returns 0, or an error after which the resource is as before. */
static int start(struct pending_request *pending)
{
	struct resource *resource = resource_find(&pending->gpu->resources, pending->follows);
	int ret;

	/* If both are cancelled, an unref may go before a detach. */
	if (resource == NULL || resource->serial != pending->released_serial) {
		request_done(pending, 0);
		return 0;
	}
	ret = tell_renderer(pending, resource);
	if (ret < 0) {
		undo(pending, resource);
	}
	return ret < 0 ? ret : 0;
}

void release_go_on(struct pending_request *pending)
{
	if (!pending->handling && !pending->awaits_renderer && pending->awaits_drawing == NULL &&
		!pending->goes_on && pending->pin == NULL) {
		signal_own_fence(pending, 0);
		complete_if_done(pending);
	}
}

void release_start(struct pending_request *pending)
{
	int ret = start(pending);

	if (ret < 0) {
		pending->type = response_of_error(ret);
		release_go_on(pending);
	}
}

void release_give_up(struct pending_request *pending)
{
	bool handling = pending->handling;

	pending->handling = true; /* the caller completes it */
	if (pending->releases != RELEASE_NOTHING &&
		(pending->awaits_drawing != NULL || pending->goes_on)) {
		flush_give_up(pending);
		release_start(pending);
	}
	pin_drop(pending);
	pending->handling = handling;
}

/* What is shown of a resource is its backing, or memory of the host's. */
static bool takes_shown(const struct resource *resource, enum release_kind kind)
{
	return kind == RELEASE_RESOURCE || resource_is_guest_blob(resource);
}

uint32_t release_memory(struct request *request, struct resource *resource, enum release_kind kind)
{
	struct pending_request *pending = request->pending;
	int ret = 0;

	pending->type = RESPONSE_LATER;
	pending->releases = kind;
	pending->released_serial = resource->serial;
	if (kind == RELEASE_RESOURCE) {
		pending->resource = resource;
		resource->leaving = true;
	} else {
		resource->is_detaching = true;
	}
	if (takes_shown(resource, kind)) {
		pin_leave(pending, resource);
		exported_forget(pending->gpu, resource);
	}
	flush_follow(pending, resource->id);
	pending->signals_fence = pending->awaits_drawing != NULL || pending->pin != NULL;
	if (pending->awaits_drawing == NULL) {
		ret = start(pending);
	}
	return ret < 0 ? response_of_error(ret) : pending->type;
}
