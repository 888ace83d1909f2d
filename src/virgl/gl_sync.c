/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "gl_sync.h"

#include <string.h>

#include <epoxy/egl.h>
#include <epoxy/gl.h>

/* Sync objects are in OpenGL 3.2 and in OpenGL ES 3.0. */
bool gl_sync_available(void)
{
	if (eglGetCurrentContext() == EGL_NO_CONTEXT) {
		return false;
	}
	return epoxy_gl_version() >= (epoxy_is_desktop_gl() ? 32 : 30);
}

bool gl_is_software(void)
{
	static const char *const names[] = { "llvmpipe", "softpipe", "SWR" };
	const char *renderer = (const char *)glGetString(GL_RENDERER);

	for (size_t i = 0; renderer && i < sizeof(names) / sizeof(names[0]); i++) {
		if (strncmp(renderer, names[i], strlen(names[i])) == 0) {
			return true;
		}
	}
	return false;
}

const void *gl_sync_context(void)
{
	return eglGetCurrentContext();
}

void *gl_sync_create(void)
{
	GLsync sync = glFenceSync(GL_SYNC_GPU_COMMANDS_COMPLETE, 0);

	glFlush();
	return sync;
}

void gl_sync_destroy(void *sync)
{
	glDeleteSync(sync);
}

bool gl_sync_is_done(void *sync, uint64_t timeout_ns)
{
	GLenum status = glClientWaitSync(sync, 0, timeout_ns);

	return status == GL_ALREADY_SIGNALED || status == GL_CONDITION_SATISFIED;
}

void gl_sync_wait(void *sync)
{
	glWaitSync(sync, 0, GL_TIMEOUT_IGNORED);
}
