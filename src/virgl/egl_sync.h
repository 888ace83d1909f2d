/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EGL_SYNC_H
#define EGL_SYNC_H

/*
 * EGL_ANDROID_native_fence_sync: sync files that the GL server waits for, and sync files for what
 * it does. All of it is for the GL context that is current in the calling thread.
 */

#include <stdbool.h>

struct egl_sync;

/*
 * For the display that is current in this thread. NULL if there is none, if it does not have the
 * extension, or if the plugin was built without EGL. Also NULL, unless `software`, if the current
 * context is a software renderer's: llvmpipe waits in the calling thread.
 */
struct egl_sync *egl_sync_create(bool software);
void egl_sync_destroy(struct egl_sync *egl);

/*
 * Makes what follows in the current context wait for a fence. 0; -EOPNOTSUPP for a descriptor that
 * is no sync file; -EMFILE; -EIO if EGL failed.
 */
int egl_sync_wait(struct egl_sync *egl, int fence_fd);

/* A sync file for what was done in the current context. The caller closes it. -EIO, -EMFILE. */
int egl_sync_export(struct egl_sync *egl);

#endif
