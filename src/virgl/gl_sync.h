/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GL_SYNC_H
#define GL_SYNC_H

/*
 * OpenGL's sync objects. All functions are about the GL context that is current in the calling
 * thread; sync objects are common to those contexts that share their objects.
 */

#include <stdbool.h>
#include <stdint.h>

/* Whether there are any. False if no context is current, or if the plugin was built without EGL. */
bool gl_sync_available(void);

/* Whether a processor draws, so that who has the GL server wait waits himself. */
bool gl_is_software(void);

/* What tells the context apart from others. */
const void *gl_sync_context(void);

/* One that is done when all is that the context was told so far, which is flushed. NULL: out of
 * memory. */
void *gl_sync_create(void);
void gl_sync_destroy(void *sync);

/* Waits for so long at most; 0 only asks. Returns whether it is done. */
bool gl_sync_is_done(void *sync, uint64_t timeout_ns);

/* What the context is told from here on runs once it is done. */
void gl_sync_wait(void *sync);

#endif
