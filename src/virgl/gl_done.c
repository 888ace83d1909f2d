/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "gl_done.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>

/* Sync objects are in OpenGL 3.2 and in OpenGL ES 3.0. */
bool gl_done_can_ask(void)
{
	if (eglGetCurrentContext() == EGL_NO_CONTEXT) {
		return false;
	}
	return epoxy_gl_version() >= (epoxy_is_desktop_gl() ? 32 : 30);
}

bool gl_done_ask(void)
{
	GLsync sync = glFenceSync(GL_SYNC_GPU_COMMANDS_COMPLETE, 0);
	GLenum status;

	if (!sync) {
		return false;
	}
	status = glClientWaitSync(sync, GL_SYNC_FLUSH_COMMANDS_BIT, 0);
	glDeleteSync(sync);
	return status == GL_ALREADY_SIGNALED;
}
