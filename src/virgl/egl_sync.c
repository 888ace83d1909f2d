/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "egl_sync.h"
#include "gl_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <epoxy/egl.h>
#include <epoxy/gl.h>

#include <vgfence/sync_file.h>

struct egl_sync {
	EGLDisplay display;
};

struct egl_sync *egl_sync_create(bool software)
{
	EGLDisplay display = eglGetCurrentDisplay();
	struct egl_sync *egl;

	if (display == EGL_NO_DISPLAY ||
		!epoxy_has_egl_extension(display, "EGL_ANDROID_native_fence_sync") ||
		!epoxy_has_egl_extension(display, "EGL_KHR_wait_sync") ||
		(!software && gl_is_software())) {
		return NULL;
	}
	egl = calloc(1, sizeof(*egl));
	if (egl) {
		egl->display = display;
	}
	return egl;
}

void egl_sync_destroy(struct egl_sync *egl)
{
	free(egl);
}

int egl_sync_wait(struct egl_sync *egl, int fence_fd)
{
	EGLint attributes[] = { EGL_SYNC_NATIVE_FENCE_FD_ANDROID, -1, EGL_NONE };
	EGLSyncKHR sync;
	EGLint waits;

	/* Drivers take any descriptor, and fail only when they wait. */
	if (vgf_sync_file_info(fence_fd, NULL, 0) < 0) {
		return -EOPNOTSUPP;
	}
	attributes[1] = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);
	if (attributes[1] < 0) {
		return -errno;
	}
	sync = eglCreateSyncKHR(egl->display, EGL_SYNC_NATIVE_FENCE_ANDROID, attributes);
	if (sync == EGL_NO_SYNC_KHR) {
		close(attributes[1]); /* it is EGL's only after success */
		return -EIO;
	}
	waits = eglWaitSyncKHR(egl->display, sync, 0);
	eglDestroySyncKHR(egl->display, sync);
	return waits == EGL_TRUE ? 0 : -EIO;
}

int egl_sync_export(struct egl_sync *egl)
{
	EGLSyncKHR sync = eglCreateSyncKHR(egl->display, EGL_SYNC_NATIVE_FENCE_ANDROID, NULL);
	int fd;

	if (sync == EGL_NO_SYNC_KHR) {
		return -EIO;
	}
	/* The descriptor is there once the commands before it have been flushed. */
	glFlush();
	fd = eglDupNativeFenceFDANDROID(egl->display, sync);
	eglDestroySyncKHR(egl->display, sync);
	return fd == EGL_NO_NATIVE_FENCE_FD_ANDROID ? -EIO : fd;
}
