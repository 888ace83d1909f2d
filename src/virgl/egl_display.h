/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EGL_DISPLAY_H
#define EGL_DISPLAY_H

/*
 * An EGL display without a window system, for a VMM that has none: on a render node, by way of
 * gbm, or surfaceless, which is a software renderer if there is no GPU.
 *
 * Errors are negative errno values. Contexts may be used in any thread, each in one at a time.
 */

#include <stdbool.h>

struct egl_display;

enum egl_display_kind {
	EGL_DISPLAY_ANY,         /* the first render node that works, else surfaceless */
	EGL_DISPLAY_SURFACELESS, /* without looking for a render node */
};

/*
 * drm_fd: of the render node to use, owned from the call on; -1 to choose by kind. gles: for
 * OpenGL ES. Returns 0; -ENODEV if EGL has no display that can be used; -EOPNOTSUPP if the
 * plugin was built without; -ENOMEM.
 */
int egl_display_create(int drm_fd, enum egl_display_kind kind, bool gles, struct egl_display **out);
void egl_display_destroy(struct egl_display *egl);

/* Whether the plugin was built with it. */
bool egl_display_available(void);

/* The EGLDisplay. */
void *egl_display_get(const struct egl_display *egl);

/* shared: has the objects of the context that is current. Returns an EGLContext, or NULL. */
void *egl_display_create_context(
	const struct egl_display *egl, int major, int minor, bool shared, bool compatibility);
void egl_display_destroy_context(const struct egl_display *egl, void *context);

/* Makes a context current in the calling thread, NULL for none. 0 or -EIO. */
int egl_display_make_current(const struct egl_display *egl, void *context);

#endif
