/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Where the plugin is built without EGL or gbm. */

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "egl_display.h"

int egl_display_create(int drm_fd, enum egl_display_kind kind, bool gles, struct egl_display **out)
{
	(void)kind;
	(void)gles;
	*out = NULL;
	if (drm_fd >= 0) {
		close(drm_fd);
	}
	return -EOPNOTSUPP;
}

void egl_display_destroy(struct egl_display *egl)
{
	(void)egl;
}

bool egl_display_available(void)
{
	return false;
}

void *egl_display_get(const struct egl_display *egl)
{
	(void)egl;
	return NULL;
}

void *egl_display_create_context(
	const struct egl_display *egl, int major, int minor, bool shared, bool compatibility)
{
	(void)egl;
	(void)major;
	(void)minor;
	(void)shared;
	(void)compatibility;
	return NULL;
}

void egl_display_destroy_context(const struct egl_display *egl, void *context)
{
	(void)egl;
	(void)context;
}

int egl_display_make_current(const struct egl_display *egl, void *context)
{
	(void)egl;
	(void)context;
	return -EIO;
}
