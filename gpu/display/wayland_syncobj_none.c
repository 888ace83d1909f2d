/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Without wp_linux_drm_syncobj_v1, which wayland-protocols has from 1.34 on, or without libdrm. */

#include <errno.h>

#include "wayland_private.h"

void wayland_syncobj_note(struct display_wayland *display, uint32_t name, const char *interface)
{
	(void)display;
	(void)name;
	(void)interface;
}

void wayland_syncobj_end(struct display_wayland *display)
{
	(void)display;
}

int wayland_points_set(struct wayland_buffer *buffer, int acquire_fd)
{
	(void)buffer;
	(void)acquire_fd;
	return -EOPNOTSUPP;
}

void wayland_points_clear(struct wayland_window *window)
{
	(void)window;
}

void wayland_points_end(struct wayland_buffer *buffer)
{
	(void)buffer;
}
