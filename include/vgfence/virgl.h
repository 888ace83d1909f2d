/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_VIRGL_H
#define VGFENCE_VIRGL_H

/*
 * vgfence between a VMM and virglrenderer: functions that take the place of virglrenderer's own, in
 * the library libvgfence-virgl. Fence passing then works for every kind of context: if
 * virglrenderer cannot wait for an in-fence, the work is held back on the host.
 *
 * For everything else the VMM goes on calling virglrenderer: making, mapping and exporting
 * resources, capability sets, cursors.
 *
 * Each function takes the plugin, then virglrenderer's arguments in its order. Errors are negative
 * errno values, also if virglrenderer returns positive ones. Parameters whose name ends in `fd`,
 * and functions in `_take`, are as in <vgfence/vgfence.h>.
 *
 * Threads: virglrenderer is not thread safe, and GL contexts are current in one thread. Every
 * function here is called in the thread that called vgf_virgl_init; builds with assertions check
 * it. Held work runs, and all callbacks come, in vgf_virgl_poll; so the VMM's callbacks are called
 * in its own thread also with VIRGL_RENDERER_ASYNC_FENCE_CB, unless signal_enter of its struct
 * vgf_callbacks lets virglrenderer's threads in. A callback may call everything but vgf_virgl_reset
 * and vgf_virgl_cleanup, and in virglrenderer's threads nothing of this header; a vgf_virgl_done
 * must not call vgf_virgl_poll either.
 *
 * virglrenderer has one state for a process, so there is one plugin at a time.
 *
 * Venus: with VIRGL_RENDERER_VENUS and _RENDER_SERVER. Each context has a process of its own, which
 * its guest can make end: by a bad command stream, or a fence on a ring for which it has no queue.
 * Then its fences retire with -EIO, what is submitted to it fails with that, and the VMM is told by
 * the device's `log`. Its ID is free when the VMM has destroyed it.
 *
 * Versions: the plugin can be built with virglrenderer 0.10.4 to 1.3 and run with another of them.
 * It finds out when it is loaded what the linked one has; see vgf_virgl_get_features.
 */

#include <vgfence/vgfence.h>

#ifdef __cplusplus
extern "C" {
#endif

struct iovec;
struct vgf_virgl;
struct virgl_box;
struct virgl_renderer_callbacks;

/* ---- Start and end ------------------------------------------------------------------------ */

/* Where work waits for in-fences that have not signalled. */
enum vgf_virgl_wait {
	/* In the GPU driver for native contexts, in the GL server for GL contexts: for sync files
	 * with EGL's native fences, else for other GL contexts by sync objects. A software renderer
	 * would block the VMM's thread: for sync files it never does, for other GL contexts 0.5 ms
	 * at most. Otherwise on the host. */
	VGF_VIRGL_WAIT_AUTO,
	VGF_VIRGL_WAIT_HOST, /* always on the host */
	VGF_VIRGL_WAIT_GL,   /* as AUTO, but also in a software renderer: for tests */
};

struct vgf_virgl_options {
	size_t size; /* sizeof(struct vgf_virgl_options), as the caller knows it */

	/* Of the device that the plugin makes; NULL for all defaults. own_thread must be false. */
	const struct vgf_options *device;

	/*
	 * More than struct virgl_renderer_callbacks has: errors of fences, 64-bit IDs on the global
	 * timeline, the end of a batch, stalls, log messages. Each of them may be NULL; `retire`
	 * takes the place of the VMM's write_fence and write_context_fence, and two of these names
	 * here are not used. The cookie is the VMM's. Copied; may be NULL.
	 */
	const struct vgf_callbacks *callbacks;

	/*
	 * The rings of Venus and native contexts run independently, so that work held back on one
	 * does not hold up another. Only for a VMM that submits with vgf_virgl_submit: the two-step
	 * functions do not know the ring when they submit.
	 */
	bool independent_rings;

	enum vgf_virgl_wait wait;

	/*
	 * The plugin makes an EGL display of its own if the VMM gives no window system: it uses GL,
	 * but neither VIRGL_RENDERER_USE_EGL nor _USE_GLX, and has no callbacks for contexts. The
	 * display is on the render node that the VMM's get_drm_fd returns, else on the first one
	 * that works, else surfaceless. With VIRGL_RENDERER_USE_SURFACELESS it is surfaceless in
	 * any case. EGL has one surfaceless display in a process, which ends with the plugin.
	 */
	bool own_display;

	/*
	 * Called before and after what virglrenderer may take long for: new contexts, commands,
	 * transfers, new fences. A VMM can let go of a lock of its own meanwhile, so that its other
	 * threads go on. They come in pairs, in the thread of vgf_virgl_init, and not one inside
	 * another. In between no thread may call virglrenderer or a function of this header, and
	 * virglrenderer may call back (its log). The cookie is the VMM's. Both or none; NULL: none.
	 */
	void (*enter_gl)(void *cookie);
	void (*leave_gl)(void *cookie);
};

/*
 * In place of virgl_renderer_init: starts virglrenderer and makes a device.
 *
 * cb: the VMM's callbacks, of version 1 to 4; copied as far as that version goes. virglrenderer
 * gets others in their place, with another cookie. write_fence and write_context_fence are called
 * from vgf_virgl_poll, reset and cleanup, or where signal_enter lets fences retire, once for each
 * fence and in order. A VMM without write_context_fence (version 1 or 2), and without
 * options->callbacks->retire, can make no context fences.
 *
 * options: NULL for all defaults. out: set to the plugin, or NULL.
 *
 * Returns 0; -EBUSY if virglrenderer is in use; -EINVAL for callbacks of another version, or with
 * neither write_fence nor options->callbacks->retire, for own_thread, or for one of enter_gl and
 * leave_gl without the other; -EINVAL, -E2BIG for a size, as vgf_device_create; -ENOENT with
 * VIRGL_RENDERER_VENUS if there is no render server (virgl_render_server, or what
 * RENDER_SERVER_EXEC_PATH in the environment or get_server_fd names); -ENODEV if own_display finds
 * no display, -EOPNOTSUPP if the plugin was built without (VGF_VIRGL_OWN_DISPLAY); what
 * virglrenderer failed with; the errors of vgf_device_create.
 */
int vgf_virgl_init(void *cookie, int flags, struct virgl_renderer_callbacks *cb,
	const struct vgf_virgl_options *options, struct vgf_virgl **out);

/*
 * In place of virgl_renderer_cleanup: ends virglrenderer and destroys the device. Everything
 * pending retires before this returns, with -ECANCELED if it had not signalled. It waits for OpenGL
 * as vgf_virgl_reset does. NULL is fine.
 */
void vgf_virgl_cleanup(struct vgf_virgl *virgl);

/*
 * In place of virgl_renderer_reset: destroys all contexts and resources; everything pending retires
 * before this returns, with -ECANCELED if it had not signalled, and functions that wait for
 * their turn are called with -ECANCELED.
 *
 * With VIRGL_RENDERER_ASYNC_FENCE_CB it waits until OpenGL has come to two fences, or to all of
 * them if a guest waits for a query, and polls virglrenderer meanwhile: its thread does not end
 * while it waits for that. Results of queries are written then: memory that resources have been
 * given stays until this returns.
 *
 * virglrenderer before 1.2, and any with VIRGL_RENDERER_THREAD_SYNC alone, does not start its
 * thread again in a reset, and would then never call back; and none starts the render server again
 * if that has ended. So it is ended and started anew, which calls the VMM's callbacks for GL
 * contexts.
 *
 * Returns 0; -EDEADLK from inside a vgf_virgl_done; what virglrenderer failed with when it was
 * started anew, -ENOENT as vgf_virgl_init: then only vgf_virgl_cleanup can follow.
 */
int vgf_virgl_reset(struct vgf_virgl *virgl);

/*
 * The device, for its statistics, dumps, vgf_fence_refuse and vgf_fence_attach_dma_buf. To
 * dispatch, use vgf_virgl_poll; contexts and submissions go by way of the plugin.
 *
 * vgf_device_drain does not poll virglrenderer. With OpenGL that is needed whatever the flags are:
 * if a guest waits for a query, virglrenderer's thread waits to be polled, and no fence signals
 * until then. Nor does it note that a process of Venus has ended. So do not use it here, but call
 * vgf_virgl_poll, whenever its descriptor is readable, until vgf_device_list_pending returns 0 and
 * `held` of struct vgf_stats is 0.
 */
struct vgf_device *vgf_virgl_get_device(struct vgf_virgl *virgl);

/* What the virglrenderer that is linked has, beyond what the plugin needs. */
enum vgf_virgl_features {
	VGF_VIRGL_SUBMIT_CMD2 = 1u << 0,  /* virgl_renderer_submit_cmd2 */
	VGF_VIRGL_ATTACH_FENCE = 1u << 1, /* virgl_renderer_attach_fence */
	VGF_VIRGL_GET_FENCE_FD = 1u << 2, /* virgl_renderer_get_fence_fd */
	VGF_VIRGL_EGL_FENCES = 1u << 3,   /* the GL server waits, and GL work has sync files: only
					   * known of a plugin, as its options allow it */
	VGF_VIRGL_NATIVE_WAIT = 1u
		<< 4, /* of these: enough for native contexts to wait on the GPU */
	VGF_VIRGL_OWN_DISPLAY = 1u << 5, /* the plugin was built with EGL and gbm: own_display */
	VGF_VIRGL_GL_SYNCS = 1u << 6, /* without VGF_VIRGL_EGL_FENCES: the GL server waits for other
				       * GL contexts, by sync objects; known of a plugin, too */
};

/* virgl: may be NULL, for what can be told without starting it. Any thread. */
uint32_t vgf_virgl_get_features(const struct vgf_virgl *virgl);

/* ---- The loop ----------------------------------------------------------------------------- */

/*
 * In place of virgl_renderer_get_poll_fd: one descriptor for the VMM's loop, level-triggered; call
 * vgf_virgl_poll when it is readable. There is one with any flags. Without
 * VIRGL_RENDERER_THREAD_SYNC virglrenderer has to be asked, so the descriptor is readable every
 * millisecond while a fence is outstanding. It belongs to the plugin.
 */
int vgf_virgl_get_poll_fd(struct vgf_virgl *virgl);

/*
 * In place of virgl_renderer_poll and virgl_renderer_context_poll: takes note of what has
 * signalled, runs held work, retires fences. Does not wait. Held work runs GL commands. If the VMM
 * itself makes GL contexts current in this thread, it has to call virgl_renderer_force_ctx_0
 * before.
 *
 * Returns how many fences were retired; -EDEADLK from inside a vgf_virgl_done; -EBUSY while fences
 * retire in virglrenderer's thread, as signal_enter let them.
 */
int vgf_virgl_poll(struct vgf_virgl *virgl);

/* ---- Contexts ----------------------------------------------------------------------------- */

/*
 * In place of virgl_renderer_context_create_with_flags. An ID may be used again as soon as it was
 * destroyed; if work of the old context is still held back, the new one is made behind it.
 *
 * name: read up to a 0, to nlen or to 63 bytes, whichever comes first; so nlen may be a guest's, as
 * it is. NULL: none.
 *
 * Returns 0 (also, as with virglrenderer, if there is such a context with the same capability
 * set); 1 if it is made later: if that fails, its submissions do, with the same error; -EEXIST
 * for one with another capability set; -EBUSY if an older one of this ID, of OpenGL, has fences
 * that were given up (vgf_context_cancel, vgf_timeline_cancel, vgf_fence_cancel), or that could not
 * be waited for when it was destroyed, and OpenGL has not come to them; -ENOSPC for one of OpenGL
 * if 64 others have such fences; -EINVAL for ID 0, or flags that virglrenderer does not know;
 * -ENOSPC at max_contexts, at 128 contexts of Venus, which have a process each, or if it would be
 * made later and a context's share of vgf_limits.max_held is waiting; -ENOMEM, with Venus also if
 * the render server has ended; -EMFILE with Venus: a context takes four descriptors; -ECANCELED
 * during a reset.
 */
int vgf_virgl_context_create_with_flags(struct vgf_virgl *virgl, uint32_t ctx_id,
	uint32_t ctx_flags, uint32_t nlen, const char *name);

/* In place of virgl_renderer_context_create: the same, with capability set 2 (VIRGL2). */
int vgf_virgl_context_create(
	struct vgf_virgl *virgl, uint32_t handle, uint32_t nlen, const char *name);

/*
 * In place of virgl_renderer_context_destroy. What was submitted before still runs and retires;
 * only then virglrenderer's context ends, since it would forget its fences. If there are 128
 * processes of Venus, a new context ends one that was destroyed: its fences retire with -ECANCELED.
 *
 * Does not wait, but for one thing: if virglrenderer's thread is just signalling the context's last
 * fences, until that is done. If signal_enter lets that thread call back, this is after its
 * signal_leave: so the caller holds nothing that such a callback waits for.
 *
 * The end is work that is held back behind the context's last fences. If there is no room for that
 * (vgf_limits.max_held), or no memory, if two timelines have a fence of that ID, or if it is given
 * up on (vgf_context_cancel with VGF_CANCEL_DESTROYED), the end does not wait. OpenGL's fences
 * retire when their work is done all the same. Those of Venus, and of native contexts that have no
 * sync file, retire with -ECANCELED then, also without VGF_CANCEL_RUNNING.
 *
 * Returns 0; 1 if it ends later; -ENOENT (virglrenderer says nothing then); -ENOMEM: the context
 * is still there.
 */
int vgf_virgl_context_destroy(struct vgf_virgl *virgl, uint32_t handle);

/* ---- Submissions -------------------------------------------------------------------------- */

/*
 * The whole of a SUBMIT_3D: its command stream, in-fences, ring and out-fence, as
 * vgf_submit_3d_decode makes it. Everything about it is as with vgf_submit, which also says what
 * will_retire is for. A submission that virglrenderer refuses retires with its error in its place.
 *
 * A submission without a command stream is a fence behind the work before it.
 *
 * Nothing is done, and will_retire is false, also with -EFAULT for a command stream that is not
 * aligned to 4 bytes, and -EINVAL for a fence on a ring if the VMM has no write_context_fence. A
 * size that is no multiple of 4 is refused as by virglrenderer, with -EFAULT.
 */
int vgf_virgl_submit(
	struct vgf_virgl *virgl, const struct vgf_submission *submission, bool *will_retire);

/*
 * In place of virgl_renderer_submit_cmd and virgl_renderer_submit_cmd2, for a VMM that makes the
 * fence in a second step, with the functions below. ndw: the size in units of 4 bytes.
 *
 * Returns 0 if virglrenderer has it, 1 if it is held back: if virglrenderer then refuses it,
 * the next fence that is made for the context retires with that error; -EINVAL for a negative ndw;
 * -EFAULT; the errors of vgf_submit, for which no fence need be made.
 */
int vgf_virgl_submit_cmd(struct vgf_virgl *virgl, void *buffer, int ctx_id, int ndw);
int vgf_virgl_submit_cmd2(struct vgf_virgl *virgl, void *buffer, int ctx_id, int ndw,
	const uint64_t *in_fence_ids, uint32_t num_in_fences);

/* A flag for vgf_virgl_context_create_fence and vgf_virgl_create_fence, besides
 * VIRGL_RENDERER_FENCE_FLAG_MERGEABLE: other contexts may name the fence as an in-fence
 * (VIRTIO_GPU_FLAG_FENCE_SHAREABLE). */
#define VGF_VIRGL_FENCE_SHAREABLE (1u << 16)

/*
 * In place of virgl_renderer_context_create_fence: a fence behind everything that was submitted to
 * the context before.
 *
 * Returns 0 if the fence will retire, if only with virglrenderer's error as its status;
 * otherwise it will not, so answer the guest now, without a fence: -EINVAL for a ring or an ID that
 * vgf_submit refuses, for unknown flags, or if the VMM has no write_context_fence; -ENOENT;
 * -ENOSPC; -ENOMEM; -ECANCELED during a reset.
 */
int vgf_virgl_context_create_fence(struct vgf_virgl *virgl, uint32_t ctx_id, uint32_t flags,
	uint32_t ring_idx, uint64_t fence_id);

/*
 * In place of virgl_renderer_create_fence: a fence on the global timeline, for any command. It
 * comes behind everything that was submitted before to the context whose command it is; ctx_id is 0
 * for a command of no context. The ID has 64 bits here; virglrenderer's function takes 32. flags:
 * virglrenderer's function has none.
 *
 * Returns as vgf_virgl_context_create_fence, without its -ENOENT.
 */
int vgf_virgl_create_fence(
	struct vgf_virgl *virgl, uint64_t client_fence_id, uint32_t ctx_id, uint32_t flags);

/*
 * In place of virgl_renderer_export_fence: a sync file for a pending fence of any timeline.
 *
 * Sets *fd and returns as vgf_fence_export for VGF_HOST: 0 with -1 for a fence that has signalled.
 * virglrenderer returns -EINVAL for that and for each error.
 */
int vgf_virgl_export_fence(struct vgf_virgl *virgl, uint64_t client_fence_id, int *fd);

/* ---- Resources ---------------------------------------------------------------------------- */

/*
 * Called when a command that had to keep its place behind held work is done. status: 0, or
 * virglrenderer's error as a negative errno value, or -ECANCELED if a reset came first. If the
 * function that it is passed to returns 0 or 1, it is called exactly once, before that returns or
 * later; if that returns an error, it is not called. May be NULL.
 */
typedef void (*vgf_virgl_done)(void *arg, int status);

/*
 * In place of virgl_renderer_ctx_attach_resource and _detach_resource: behind the work that was
 * submitted to the context before. Without such a context or resource they do nothing, as with
 * virglrenderer.
 *
 * Returns 0; 1 if it is done later; -ENOSPC with a context's share of vgf_limits.max_held waiting,
 * or if there are 65536 attachments of the context or 262144 of all contexts; -ENOMEM; -ECANCELED
 * during a reset.
 */
int vgf_virgl_ctx_attach_resource(struct vgf_virgl *virgl, int ctx_id, int res_handle);
int vgf_virgl_ctx_detach_resource(struct vgf_virgl *virgl, int ctx_id, int res_handle);

/*
 * In place of virgl_renderer_transfer_read_iov and _write_iov: behind the work that was submitted
 * to the context before; with ctx_id 0, behind that of every context which the resource is attached
 * to. box and iov are copied; the memory that iov points to, or the resource's backing, must stay
 * until it is done.
 *
 * Returns 0 if it was done; 1 if that follows, and `done` tells; what virglrenderer failed with;
 * -ENOSPC with a context's share of vgf_limits.max_held or max_held_size waiting, or if 16384
 * commands wait for contexts that are destroyed; -ENOMEM; -ECANCELED during a reset.
 */
int vgf_virgl_transfer_read_iov(struct vgf_virgl *virgl, uint32_t handle, uint32_t ctx_id,
	uint32_t level, uint32_t stride, uint32_t layer_stride, struct virgl_box *box,
	uint64_t offset, struct iovec *iov, int iovec_cnt, vgf_virgl_done done, void *arg);
int vgf_virgl_transfer_write_iov(struct vgf_virgl *virgl, uint32_t handle, uint32_t ctx_id,
	int level, uint32_t stride, uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
	struct iovec *iovec, unsigned int iovec_cnt, vgf_virgl_done done, void *arg);

/*
 * In place of virgl_renderer_resource_unref: behind the work that was submitted to any context
 * which the resource is attached to. Contexts that do not have it are not waited for. The ID is
 * free for another resource when it is done: answer the guest then.
 *
 * Returns 0; 1 if it is done later; -ENOSPC as a transfer; -ENOMEM; -ECANCELED during a reset.
 * After another error the resource is still there.
 */
int vgf_virgl_resource_unref(
	struct vgf_virgl *virgl, uint32_t res_handle, vgf_virgl_done done, void *arg);

/*
 * Calls `done` in the place that vgf_virgl_resource_unref would have: for anything else that the
 * VMM does to a resource that held work may use, like taking its backing away
 * (virgl_renderer_resource_detach_iov). Returns as vgf_virgl_resource_unref does.
 */
int vgf_virgl_resource_defer(
	struct vgf_virgl *virgl, uint32_t res_handle, vgf_virgl_done done, void *arg);

#ifdef __cplusplus
}
#endif

#endif
