/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Where the plugin is built without EGL. */

#include <errno.h>
#include <stddef.h>

#include "egl_sync.h"

struct egl_sync *egl_sync_create(bool software)
{
	(void)software;
	return NULL;
}

void egl_sync_destroy(struct egl_sync *egl)
{
	(void)egl;
}

int egl_sync_wait(struct egl_sync *egl, int fence_fd)
{
	(void)egl;
	(void)fence_fd;
	return -EOPNOTSUPP;
}

int egl_sync_export(struct egl_sync *egl)
{
	(void)egl;
	return -EOPNOTSUPP;
}
