/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Where the plugin is built without EGL. */

#include "gl_sync.h"

#include <stddef.h>

bool gl_sync_available(void)
{
	return false;
}

bool gl_is_software(void)
{
	return false;
}

const void *gl_sync_context(void)
{
	return NULL;
}

void *gl_sync_create(void)
{
	return NULL;
}

void gl_sync_destroy(void *sync)
{
	(void)sync;
}

bool gl_sync_is_done(void *sync, uint64_t timeout_ns)
{
	(void)sync;
	(void)timeout_ns;
	return false;
}

void gl_sync_wait(void *sync)
{
	(void)sync;
}
