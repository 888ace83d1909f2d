/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Without libwayland-client there are no windows. */

#include <errno.h>
#include <stddef.h>

#include "display_wayland.h"

int display_wayland_create(const char *name, const struct display_wayland_ops *ops, void *cookie,
	struct display_wayland **out)
{
	(void)name;
	(void)ops;
	(void)cookie;
	*out = NULL;
	return -EOPNOTSUPP;
}

void display_wayland_destroy(struct display_wayland *display)
{
	(void)display;
}

void display_wayland_set_scanout(
	struct display_wayland *display, uint32_t scanout, uint32_t width, uint32_t height)
{
	(void)display;
	(void)scanout;
	(void)width;
	(void)height;
}

bool display_wayland_update(struct display_wayland *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame)
{
	(void)display;
	(void)scanout;
	(void)rect;
	(void)frame;
	return false;
}

bool display_wayland_offer_take(struct display_wayland *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame, const struct gpu_buffer *buffer)
{
	(void)display;
	(void)scanout;
	(void)rect;
	(void)frame;
	(void)buffer;
	return false;
}

void display_wayland_buffer_leaving(struct display_wayland *display, uint64_t key)
{
	(void)display;
	(void)key;
}

void display_wayland_set_cursor(
	struct display_wayland *display, uint32_t scanout, const struct gpu_cursor *cursor)
{
	(void)display;
	(void)scanout;
	(void)cursor;
}

int display_wayland_get_fd(const struct display_wayland *display)
{
	(void)display;
	return -1;
}

int display_wayland_dispatch(struct display_wayland *display)
{
	(void)display;
	return -EPIPE;
}

void display_wayland_flush(struct display_wayland *display)
{
	(void)display;
}

void display_wayland_get_stats(
	const struct display_wayland *display, struct display_wayland_stats *stats)
{
	(void)display;
	*stats = (struct display_wayland_stats){ 0 };
}
