/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Without libvncserver there is no VNC. */

#include <errno.h>
#include <stddef.h>

#include "display_vnc.h"

int display_vnc_create(const char *address, const struct display_vnc_ops *ops, void *cookie,
	struct display_vnc **out)
{
	(void)address;
	(void)ops;
	(void)cookie;
	*out = NULL;
	return -EOPNOTSUPP;
}

void display_vnc_destroy(struct display_vnc *vnc)
{
	(void)vnc;
}

void display_vnc_abandon(const struct display_vnc *vnc)
{
	(void)vnc;
}

void display_vnc_set_scanout(struct display_vnc *vnc, uint32_t width, uint32_t height)
{
	(void)vnc;
	(void)width;
	(void)height;
}

int display_vnc_update(struct display_vnc *vnc, const struct virtio_gpu_rect *rect)
{
	(void)vnc;
	(void)rect;
	return -EOPNOTSUPP;
}

void display_vnc_set_cursor(struct display_vnc *vnc, const struct gpu_cursor *cursor)
{
	(void)vnc;
	(void)cursor;
}

int display_vnc_get_fd(const struct display_vnc *vnc)
{
	(void)vnc;
	return -1;
}

int display_vnc_dispatch(struct display_vnc *vnc)
{
	(void)vnc;
	return -EPIPE;
}
