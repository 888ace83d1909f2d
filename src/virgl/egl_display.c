/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "egl_display.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <epoxy/egl.h>
#include <gbm.h>

/* Documentation/admin-guide/devices.txt in Linux. */
#define DRM_MAJOR 226

/* Minors of render nodes: 128 to 191, include/drm in Linux's drm_file.c. */
#define FIRST_RENDER_NODE 128
#define NUM_RENDER_NODES 64

struct egl_display {
	EGLDisplay display;
	EGLenum api;
	int drm_fd;             /* -1: surfaceless */
	struct gbm_device *gbm; /* NULL: surfaceless */
};

bool egl_display_available(void)
{
	return true;
}

void *egl_display_get(const struct egl_display *egl)
{
	return egl->display;
}

static bool can_be_used(const struct egl_display *egl)
{
	return epoxy_has_egl_extension(egl->display, "EGL_KHR_surfaceless_context") &&
		epoxy_has_egl_extension(egl->display, "EGL_KHR_no_config_context") &&
		epoxy_has_egl_extension(egl->display, "EGL_KHR_create_context") &&
		eglBindAPI(egl->api) == EGL_TRUE;
}

/* native: what the platform calls a display. */
static int start(struct egl_display *egl, EGLenum platform, void *native)
{
	egl->display = EGL_NO_DISPLAY;
	if (epoxy_has_egl_extension(EGL_NO_DISPLAY, "EGL_EXT_platform_base")) {
		egl->display = eglGetPlatformDisplayEXT(platform, native, NULL);
	}
	if (egl->display == EGL_NO_DISPLAY || eglInitialize(egl->display, NULL, NULL) != EGL_TRUE) {
		return -ENODEV;
	}
	if (!can_be_used(egl)) {
		eglTerminate(egl->display);
		return -ENODEV;
	}
	return 0;
}

static void close_node(struct egl_display *egl)
{
	if (egl->gbm) {
		gbm_device_destroy(egl->gbm);
		egl->gbm = NULL;
	}
	if (egl->drm_fd >= 0) {
		close(egl->drm_fd);
		egl->drm_fd = -1;
	}
}

/* Mesa takes any descriptor, and then draws in software. */
static bool is_drm_node(int fd)
{
	struct stat info;

	return fstat(fd, &info) == 0 && S_ISCHR(info.st_mode) && major(info.st_rdev) == DRM_MAJOR;
}

/* Owns drm_fd. */
static int start_on_node(struct egl_display *egl, int drm_fd)
{
	int ret = -ENODEV;

	egl->drm_fd = drm_fd;
	egl->gbm = is_drm_node(drm_fd) ? gbm_create_device(drm_fd) : NULL;
	if (egl->gbm) {
		ret = start(egl, EGL_PLATFORM_GBM_KHR, egl->gbm);
	}
	if (ret < 0) {
		close_node(egl);
	}
	return ret;
}

static int start_on_any_node(struct egl_display *egl)
{
	char path[32];

	for (int i = 0; i < NUM_RENDER_NODES; i++) {
		int fd;
		snprintf(path, sizeof(path), "/dev/dri/renderD%d", FIRST_RENDER_NODE + i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && start_on_node(egl, fd) == 0) {
			return 0;
		}
	}
	return -ENODEV;
}

static int start_any(struct egl_display *egl, enum egl_display_kind kind)
{
	if (kind == EGL_DISPLAY_ANY && start_on_any_node(egl) == 0) {
		return 0;
	}
	return start(egl, EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY);
}

int egl_display_create(int drm_fd, enum egl_display_kind kind, bool gles, struct egl_display **out)
{
	struct egl_display *egl = calloc(1, sizeof(*egl));
	int ret;

	*out = NULL;
	if (!egl) {
		if (drm_fd >= 0) {
			close(drm_fd);
		}
		return -ENOMEM;
	}
	egl->api = gles ? EGL_OPENGL_ES_API : EGL_OPENGL_API;
	egl->drm_fd = -1;
	/* No other in place of the one that the VMM has chosen. */
	ret = drm_fd >= 0 ? start_on_node(egl, drm_fd) : start_any(egl, kind);
	if (ret < 0) {
		free(egl);
		return ret;
	}
	*out = egl;
	return 0;
}

void egl_display_destroy(struct egl_display *egl)
{
	if (!egl) {
		return;
	}
	eglMakeCurrent(egl->display, EGL_NO_SURFACE, EGL_NO_SURFACE, EGL_NO_CONTEXT);
	eglTerminate(egl->display);
	close_node(egl);
	free(egl);
}

void *egl_display_create_context(
	const struct egl_display *egl, int major, int minor, bool shared, bool compatibility)
{
	EGLint attributes[] = {
		EGL_CONTEXT_MAJOR_VERSION_KHR,
		major,
		EGL_CONTEXT_MINOR_VERSION_KHR,
		minor,
		compatibility ? EGL_CONTEXT_OPENGL_PROFILE_MASK_KHR : EGL_NONE,
		EGL_CONTEXT_OPENGL_COMPATIBILITY_PROFILE_BIT_KHR,
		EGL_NONE,
	};

	eglBindAPI(egl->api); /* a thread's own */
	return eglCreateContext(egl->display, EGL_NO_CONFIG_KHR,
		shared ? eglGetCurrentContext() : EGL_NO_CONTEXT, attributes);
}

void egl_display_destroy_context(const struct egl_display *egl, void *context)
{
	eglDestroyContext(egl->display, context);
}

int egl_display_make_current(const struct egl_display *egl, void *context)
{
	eglBindAPI(egl->api);
	return eglMakeCurrent(egl->display, EGL_NO_SURFACE, EGL_NO_SURFACE, context) == EGL_TRUE ?
		0 :
		-EIO;
}
