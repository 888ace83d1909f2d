/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * virglrenderer calls the plugin in the VMM's place: about fences to have them retire in order,
 * about everything else to pass it on, as it has one cookie for both.
 */

#include "struct_copy.h"
#include "virgl.h"

#include <errno.h>
#include <stddef.h>

/* ---- From virglrenderer ------------------------------------------------------------------- */

static void write_fence(void *cookie, uint32_t fence)
{
	global_fence_signalled(cookie, fence);
}

static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id)
{
	context_fence_signalled(cookie, ctx_id, ring_idx, fence_id);
}

static virgl_renderer_gl_context create_gl_context(
	void *cookie, int scanout_idx, struct virgl_renderer_gl_ctx_param *param)
{
	struct vgf_virgl *virgl = cookie;

	return virgl->vmm.create_gl_context(virgl->cookie, scanout_idx, param);
}

static void destroy_gl_context(void *cookie, virgl_renderer_gl_context context)
{
	struct vgf_virgl *virgl = cookie;

	virgl->vmm.destroy_gl_context(virgl->cookie, context);
}

static int make_current(void *cookie, int scanout_idx, virgl_renderer_gl_context context)
{
	struct vgf_virgl *virgl = cookie;

	return virgl->vmm.make_current(virgl->cookie, scanout_idx, context);
}

static int get_drm_fd(void *cookie)
{
	struct vgf_virgl *virgl = cookie;

	return virgl->vmm.get_drm_fd(virgl->cookie);
}

static int get_server_fd(void *cookie, uint32_t version)
{
	struct vgf_virgl *virgl = cookie;

	return virgl->vmm.get_server_fd(virgl->cookie, version);
}

static void *get_egl_display(void *cookie)
{
	struct vgf_virgl *virgl = cookie;

	return virgl->vmm.get_egl_display(virgl->cookie);
}

/* ---- From the device ---------------------------------------------------------------------- */

static void retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	struct vgf_virgl *virgl = cookie;

	native_fence_retired(virgl, fence);
	sync_retired(virgl, fence);
	if (IN_PLACE && virgl->ended) {
		return; /* as virglrenderer, which forgets them */
	}
	if (virgl->more.retire) {
		virgl->more.retire(virgl->cookie, retired);
	} else if (fence->ring == VGF_RING_GLOBAL) {
		virgl->vmm.write_fence(virgl->cookie, (uint32_t)fence->fence_id);
	} else if (virgl->vmm.write_context_fence) {
		virgl->vmm.write_context_fence(
			virgl->cookie, fence->ctx_id, (uint32_t)fence->ring, fence->fence_id);
	}
}

static void retire_end(void *cookie)
{
	struct vgf_virgl *virgl = cookie;

	virgl->more.retire_end(virgl->cookie);
}

static void stalled(void *cookie, const struct vgf_stall *stall)
{
	struct vgf_virgl *virgl = cookie;

	virgl->more.stalled(virgl->cookie, stall);
}

static void log_message(void *cookie, enum vgf_log_level level, const char *message)
{
	struct vgf_virgl *virgl = cookie;

	virgl->more.log(virgl->cookie, level, message);
}

static bool signal_enter(void *cookie)
{
	struct vgf_virgl *virgl = cookie;

	/* In the plugin's own thread something may be under way; and a mark that is owed is sent
	 * when the VMM polls. */
	return !pthread_equal(virgl->thread, pthread_self()) && !virgl->owes_mark &&
		virgl->more.signal_enter(virgl->cookie);
}

static void signal_leave(void *cookie)
{
	struct vgf_virgl *virgl = cookie;

	virgl->more.signal_leave(virgl->cookie);
}

/* ---- Which of them there are -------------------------------------------------------------- */

/* The VMM's struct may be no longer than its version says. */
static void copy_version(
	struct virgl_renderer_callbacks *to, const struct virgl_renderer_callbacks *from)
{
	to->version = from->version;
	to->write_fence = from->write_fence;
	to->create_gl_context = from->create_gl_context;
	to->destroy_gl_context = from->destroy_gl_context;
	to->make_current = from->make_current;
	if (from->version >= 2) {
		to->get_drm_fd = from->get_drm_fd;
	}
	if (from->version >= 3) {
		to->write_context_fence = from->write_context_fence;
		to->get_server_fd = from->get_server_fd;
	}
	if (from->version >= 4) {
		to->get_egl_display = from->get_egl_display;
	}
}

/* What the VMM does not have, virglrenderer does not get. */
static void interpose(
	struct virgl_renderer_callbacks *own, const struct virgl_renderer_callbacks *vmm)
{
	/* 3 brings write_context_fence; 4 also makes a failed make_current fatal, so only a VMM
	 * that knows of it gets it. */
	own->version = vmm->version < 3 ? 3 : vmm->version;
	own->write_fence = write_fence;
	own->write_context_fence = write_context_fence;
	own->create_gl_context = vmm->create_gl_context ? create_gl_context : NULL;
	own->destroy_gl_context = vmm->destroy_gl_context ? destroy_gl_context : NULL;
	own->make_current = vmm->make_current ? make_current : NULL;
	own->get_drm_fd = vmm->get_drm_fd ? get_drm_fd : NULL;
	own->get_server_fd = vmm->get_server_fd ? get_server_fd : NULL;
	own->get_egl_display = vmm->get_egl_display ? get_egl_display : NULL;
}

/* ---- The plugin's own display ------------------------------------------------------------- */

static virgl_renderer_gl_context create_own_context(
	void *cookie, int scanout_idx, struct virgl_renderer_gl_ctx_param *param)
{
	struct vgf_virgl *virgl = cookie;
	bool compatibility = false;

	(void)scanout_idx;
#ifdef VIRGL_RENDERER_COMPAT_PROFILE
	compatibility = param->version >= 2 && param->compat_ctx;
#endif
	return egl_display_create_context(
		virgl->display, param->major_ver, param->minor_ver, param->shared, compatibility);
}

static void destroy_own_context(void *cookie, virgl_renderer_gl_context context)
{
	struct vgf_virgl *virgl = cookie;

	egl_display_destroy_context(virgl->display, context);
}

/* Also in virglrenderer's thread. */
static int make_own_current(void *cookie, int scanout_idx, virgl_renderer_gl_context context)
{
	struct vgf_virgl *virgl = cookie;

	(void)scanout_idx;
	return egl_display_make_current(virgl->display, context);
}

static void *get_own_display(void *cookie)
{
	struct vgf_virgl *virgl = cookie;

	return egl_display_get(virgl->display);
}

static bool has_display(const struct vgf_virgl *virgl)
{
	const int others = VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_USE_EGL |
		VIRGL_RENDERER_USE_GLX;

	return (virgl->flags & others) || virgl->vmm.create_gl_context ||
		virgl->vmm.get_egl_display;
}

int callbacks_add_display(struct vgf_virgl *virgl)
{
	struct virgl_renderer_callbacks *own = &virgl->own;
	enum egl_display_kind kind = virgl->flags & VIRGL_RENDERER_USE_SURFACELESS ?
		EGL_DISPLAY_SURFACELESS :
		EGL_DISPLAY_ANY;
	int drm_fd = -1;
	int ret;

	if (has_display(virgl)) {
		return 0;
	}
	if (kind == EGL_DISPLAY_ANY && virgl->vmm.get_drm_fd) {
		drm_fd = virgl->vmm.get_drm_fd(virgl->cookie);
	}
	ret = egl_display_create(
		drm_fd, kind, virgl->flags & VIRGL_RENDERER_USE_GLES, &virgl->display);
	if (ret < 0) {
		return ret;
	}
	own->version = 4;
	own->create_gl_context = create_own_context;
	own->destroy_gl_context = destroy_own_context;
	own->make_current = make_own_current;
	own->get_egl_display = get_own_display;
	return 0;
}

/* ---- */

/* What the struct had in 0.2, when it got a size. */
#define LEAST_CALLBACKS (offsetof(struct vgf_callbacks, log) + sizeof(void (*)(void)))

int callbacks_init(struct vgf_virgl *virgl, const struct virgl_renderer_callbacks *cb,
	const struct vgf_callbacks *more, struct vgf_callbacks *device)
{
	int ret = 0;

	if (more) {
		ret = struct_copy(
			&virgl->more, sizeof(virgl->more), LEAST_CALLBACKS, more, more->size);
	}
	if (ret < 0) {
		return ret;
	}
	if (!cb || cb->version < 1 || cb->version > VIRGL_RENDERER_CALLBACKS_VERSION ||
		(!cb->write_fence && !virgl->more.retire)) {
		return -EINVAL;
	}
	copy_version(&virgl->vmm, cb);
	interpose(&virgl->own, &virgl->vmm);
	*device = (struct vgf_callbacks){
		.size = sizeof(struct vgf_callbacks),
		.retire = retire,
		.retire_end = virgl->more.retire_end ? retire_end : NULL,
		.stalled = virgl->more.stalled ? stalled : NULL,
		.log = virgl->more.log ? log_message : NULL,
		.signal_enter = virgl->more.signal_enter ? signal_enter : NULL,
		.signal_leave = virgl->more.signal_leave ? signal_leave : NULL,
	};
	return 0;
}
