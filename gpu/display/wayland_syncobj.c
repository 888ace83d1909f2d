/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* When a dma-buf may be read and when it is read no more, as points of the kernel's sync objects:
 * wp_linux_drm_syncobj_v1. */

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <xf86drm.h>

#include <vgfence/syncobj.h>

#include "wayland_private.h"

/* Made by wayland-scanner. */
#include <linux-drm-syncobj-v1-client-protocol.h>

/* Of /dev/dri/renderD... */
#define FIRST_RENDER_NODE 128
#define MAX_RENDER_NODES 64

/* ---- The device ------------------------------------------------------------------------------ */

/* Sync objects are the kernel's, not a GPU's: a compositor has them on another device, too. So any
 * will do. */
static int open_device(void)
{
	const int needed = VGF_SYNCOBJ_TIMELINE | VGF_SYNCOBJ_EVENTFD;

	for (int i = 0; i < MAX_RENDER_NODES; i++) {
		int fd = drmOpenRender(FIRST_RENDER_NODE + i);
		int features = fd < 0 ? 0 : vgf_syncobj_probe(fd);

		if (features > 0 && (features & needed) == needed) {
			return fd;
		}
		if (fd >= 0) {
			close(fd);
		}
	}
	return -1;
}

void wayland_syncobj_note(struct display_wayland *display, uint32_t name, const char *interface)
{
	int fd;

	if (strcmp(interface, wp_linux_drm_syncobj_manager_v1_interface.name) != 0 ||
		display->syncobj != NULL) {
		return;
	}
	fd = open_device();
	if (fd >= 0) {
		display->drm_fd = fd;
		display->syncobj = wl_registry_bind(
			display->registry, name, &wp_linux_drm_syncobj_manager_v1_interface, 1);
	}
}

void wayland_syncobj_end(struct display_wayland *display)
{
	if (display->syncobj != NULL) {
		wp_linux_drm_syncobj_manager_v1_destroy(display->syncobj);
		close(display->drm_fd);
		display->syncobj = NULL;
	}
}

/* ---- A buffer's points ----------------------------------------------------------------------- */

static int create_timeline(struct wayland_buffer *buffer)
{
	struct display_wayland *display = buffer->window->display;
	int fd, ret = vgf_syncobj_create(display->drm_fd, &buffer->syncobj);

	if (ret < 0) {
		return ret;
	}
	if (drmSyncobjHandleToFD(display->drm_fd, buffer->syncobj, &fd) < 0) {
		ret = -errno;
		vgf_syncobj_destroy(display->drm_fd, buffer->syncobj);
		return ret;
	}
	buffer->timeline = wp_linux_drm_syncobj_manager_v1_import_timeline(display->syncobj, fd);
	close(fd);
	return 0;
}

/* The wait comes last: what follows it cannot fail. */
static int await_release(struct wayland_buffer *buffer, uint64_t point)
{
	struct display_wayland *display = buffer->window->display;
	int ret, event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (event_fd < 0) {
		return -errno;
	}
	ret = vgf_syncobj_notify(
		display->drm_fd, buffer->syncobj, point, VGF_SYNCOBJ_SIGNALLED, event_fd);
	if (ret < 0) {
		close(event_fd);
		return ret;
	}
	return wayland_wait_take(display, event_fd, wayland_buffer_released, buffer);
}

static void set_points(struct wayland_buffer *buffer, uint64_t acquire, uint64_t release)
{
	struct wayland_window *window = buffer->window;

	if (window->points == NULL) {
		window->points = wp_linux_drm_syncobj_manager_v1_get_surface(
			window->display->syncobj, window->surface);
	}
	wp_linux_drm_syncobj_surface_v1_set_acquire_point(
		window->points, buffer->timeline, (uint32_t)(acquire >> 32), (uint32_t)acquire);
	wp_linux_drm_syncobj_surface_v1_set_release_point(
		window->points, buffer->timeline, (uint32_t)(release >> 32), (uint32_t)release);
}

/* One timeline for each buffer, as they are released in any order. Each use has two points. */
int wayland_points_set(struct wayland_buffer *buffer, int acquire_fd)
{
	struct display_wayland *display = buffer->window->display;
	uint64_t acquire = buffer->point + 1, release = buffer->point + 2;
	int ret = 0;

	if (display->syncobj == NULL) {
		return -EOPNOTSUPP;
	}
	if (buffer->timeline == NULL) {
		ret = create_timeline(buffer);
	}
	if (ret == 0) {
		buffer->point = release;
		ret = vgf_syncobj_import_sync_file(
			display->drm_fd, buffer->syncobj, acquire, acquire_fd);
	}
	if (ret == 0) {
		ret = await_release(buffer, release);
	}
	if (ret == 0) {
		set_points(buffer, acquire, release);
		buffer->has_points = true;
	}
	return ret;
}

void wayland_points_clear(struct wayland_window *window)
{
	if (window->points != NULL) {
		wp_linux_drm_syncobj_surface_v1_destroy(window->points);
		window->points = NULL;
	}
}

void wayland_points_end(struct wayland_buffer *buffer)
{
	if (buffer->timeline != NULL) {
		wp_linux_drm_syncobj_timeline_v1_destroy(buffer->timeline);
		vgf_syncobj_destroy(buffer->window->display->drm_fd, buffer->syncobj);
	}
}
