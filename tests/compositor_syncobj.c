/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "compositor_syncobj.h"

#include <unistd.h>

#include "support.h"

#include <linux-drm-syncobj-v1-server-protocol.h>

static void destroy(struct wl_client *client, struct wl_resource *resource)
{
	(void)client;
	wl_resource_destroy(resource);
}

static void set_acquire_point(struct wl_client *client, struct wl_resource *resource,
	struct wl_resource *timeline, uint32_t high, uint32_t low)
{
	struct compositor_syncobj *syncobj = wl_resource_get_user_data(resource);

	(void)client;
	(void)timeline;
	syncobj->acquire = (uint64_t)high << 32 | low;
}

static void set_release_point(struct wl_client *client, struct wl_resource *resource,
	struct wl_resource *timeline, uint32_t high, uint32_t low)
{
	struct compositor_syncobj *syncobj = wl_resource_get_user_data(resource);

	(void)client;
	(void)timeline;
	syncobj->release = (uint64_t)high << 32 | low;
	syncobj->violations += syncobj->release <= syncobj->acquire;
}

static const struct wp_linux_drm_syncobj_surface_v1_interface surface_functions = {
	.destroy = destroy,
	.set_acquire_point = set_acquire_point,
	.set_release_point = set_release_point,
};

static const struct wp_linux_drm_syncobj_timeline_v1_interface timeline_functions = {
	.destroy = destroy,
};

static void forget_surface(struct wl_resource *resource)
{
	((struct compositor_syncobj *)wl_resource_get_user_data(resource))->num_surfaces--;
}

static void forget_timeline(struct wl_resource *resource)
{
	((struct compositor_syncobj *)wl_resource_get_user_data(resource))->num_timelines--;
}

static void get_surface(struct wl_client *client, struct wl_resource *resource, uint32_t id,
	struct wl_resource *surface)
{
	struct compositor_syncobj *syncobj = wl_resource_get_user_data(resource);
	struct wl_resource *points = wl_resource_create(
		client, &wp_linux_drm_syncobj_surface_v1_interface, 1, id);

	(void)surface;
	assert_non_null(points);
	wl_resource_set_implementation(points, &surface_functions, syncobj, forget_surface);
	syncobj->violations += syncobj->num_surfaces > 0; /* the tests have one window */
	syncobj->num_surfaces++;
}

static void import_timeline(
	struct wl_client *client, struct wl_resource *resource, uint32_t id, int32_t fd)
{
	struct compositor_syncobj *syncobj = wl_resource_get_user_data(resource);
	struct wl_resource *timeline = wl_resource_create(
		client, &wp_linux_drm_syncobj_timeline_v1_interface, 1, id);

	assert_non_null(timeline);
	wl_resource_set_implementation(timeline, &timeline_functions, syncobj, forget_timeline);
	syncobj->num_timelines++;
	close(fd);
}

static const struct wp_linux_drm_syncobj_manager_v1_interface manager_functions = {
	.destroy = destroy,
	.get_surface = get_surface,
	.import_timeline = import_timeline,
};

static void bind(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	struct compositor_syncobj *syncobj = data;
	struct wl_resource *manager = wl_resource_create(
		client, &wp_linux_drm_syncobj_manager_v1_interface, (int)version, id);

	assert_non_null(manager);
	wl_resource_set_implementation(manager, &manager_functions, syncobj, NULL);
	syncobj->num_binds++;
}

void compositor_syncobj_begin(struct compositor_syncobj *syncobj, struct compositor *compositor)
{
	*syncobj = (struct compositor_syncobj){ 0 };
	assert_non_null(wl_global_create(
		compositor->display, &wp_linux_drm_syncobj_manager_v1_interface, 1, syncobj, bind));
}
