/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "virgl.h"

/* Descriptors of fences come with the IDs of their sharing; handing IDs on is possible without them
 * in 1.1, but then nobody else can wait for the fences of a native context. */
bool has_native_wait(void)
{
	return HAS_FUNCTION(virgl_renderer_get_fence_fd) &&
		(HAS_FUNCTION(virgl_renderer_attach_fence) ||
			HAS_FUNCTION(virgl_renderer_submit_cmd2));
}

/* virglrenderer has no version to ask for. 1.1.2 mended it for those that are called back; the
 * first that can be told from it by its symbols has get_fence_fd. Without OpenGL there is none. */
bool restarts_thread(const struct vgf_virgl *virgl)
{
	return (virgl->flags & (VIRGL_RENDERER_ASYNC_FENCE_CB | VIRGL_RENDERER_NO_VIRGL)) &&
		HAS_FUNCTION(virgl_renderer_get_fence_fd);
}

VGF_EXPORT uint32_t vgf_virgl_get_features(const struct vgf_virgl *virgl)
{
	uint32_t features = 0;

	features |= HAS_FUNCTION(virgl_renderer_submit_cmd2) ? VGF_VIRGL_SUBMIT_CMD2 : 0;
	features |= HAS_FUNCTION(virgl_renderer_attach_fence) ? VGF_VIRGL_ATTACH_FENCE : 0;
	features |= HAS_FUNCTION(virgl_renderer_get_fence_fd) ? VGF_VIRGL_GET_FENCE_FD : 0;
	features |= has_native_wait() ? VGF_VIRGL_NATIVE_WAIT : 0;
	features |= egl_display_available() ? VGF_VIRGL_OWN_DISPLAY : 0;
	features |= virgl && virgl->egl ? VGF_VIRGL_EGL_FENCES : 0;
	features |= virgl && virgl->has_syncs ? VGF_VIRGL_GL_SYNCS : 0;
	return features;
}
