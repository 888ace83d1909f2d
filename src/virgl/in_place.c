/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * libvgfence-virglrenderer: virglrenderer's own functions, by way of the plugin. Those that are not
 * here go straight to the real library (stubs.py), as do all before virgl_renderer_init and after
 * virgl_renderer_cleanup. It has one state for a process, as virglrenderer has.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include <vgfence/inspect.h>
#include <vgfence/context_driver.h>
#include <vgfence/virgl.h>

#include "client_ids.h"
#include "in_place.h"
#include "log_limit.h"
#include "real.h"

/* What is called of the real library's, besides the plugin's calls. */
extern __typeof__(virgl_renderer_cleanup) real_virgl_renderer_cleanup;
extern __typeof__(virgl_renderer_context_create) real_virgl_renderer_context_create;
extern __typeof__(virgl_renderer_context_create_with_flags)
	real_virgl_renderer_context_create_with_flags;
extern __typeof__(virgl_renderer_context_create_fence) real_virgl_renderer_context_create_fence;
extern __typeof__(virgl_renderer_context_destroy) real_virgl_renderer_context_destroy;
extern __typeof__(virgl_renderer_context_get_poll_fd) real_virgl_renderer_context_get_poll_fd;
extern __typeof__(virgl_renderer_context_poll) real_virgl_renderer_context_poll;
extern __typeof__(virgl_renderer_create_fence) real_virgl_renderer_create_fence;
extern __typeof__(virgl_renderer_ctx_attach_resource) real_virgl_renderer_ctx_attach_resource;
extern __typeof__(virgl_renderer_ctx_detach_resource) real_virgl_renderer_ctx_detach_resource;
extern __typeof__(virgl_renderer_force_ctx_0) real_virgl_renderer_force_ctx_0;
extern __typeof__(virgl_renderer_get_poll_fd) real_virgl_renderer_get_poll_fd;
extern __typeof__(virgl_renderer_init) real_virgl_renderer_init;
extern __typeof__(virgl_renderer_poll) real_virgl_renderer_poll;
extern __typeof__(virgl_renderer_reset) real_virgl_renderer_reset;
extern __typeof__(virgl_renderer_resource_create_blob) real_virgl_renderer_resource_create_blob;
extern __typeof__(virgl_renderer_resource_detach_iov) real_virgl_renderer_resource_detach_iov;
extern __typeof__(virgl_renderer_resource_unref) real_virgl_renderer_resource_unref;
extern __typeof__(virgl_renderer_submit_cmd) real_virgl_renderer_submit_cmd;
extern __typeof__(virgl_renderer_transfer_read_iov) real_virgl_renderer_transfer_read_iov;
extern __typeof__(virgl_renderer_transfer_write_iov) real_virgl_renderer_transfer_write_iov;

/* Not in every version's header. */
extern int real_virgl_renderer_submit_cmd2(
	void *buffer, int ctx_id, int ndw, uint64_t *in_fence_ids, uint32_t num_in_fences);
/* NOLINTNEXTLINE(readability-redundant-declaration): it is, with a header that has it. */
VIRGL_EXPORT int virgl_renderer_submit_cmd2(
	void *buffer, int ctx_id, int ndw, uint64_t *in_fence_ids, uint32_t num_in_fences);

extern int real_virgl_renderer_attach_fence(int ctx_id, int fence_fd);
/* NOLINTNEXTLINE(readability-redundant-declaration): it is, with a header that has it. */
VIRGL_EXPORT int virgl_renderer_attach_fence(int ctx_id, int fence_fd);

/* The ID has 32 bits in the header of 0.10.4, and 64 in later ones. */
extern int real_export_fence(uint64_t client_fence_id, int *fd) __asm__(
	"real_virgl_renderer_export_fence");
VIRGL_EXPORT int export_fence(uint64_t client_fence_id, int *fd) __asm__(
	"virgl_renderer_export_fence");
extern int real_virgl_renderer_get_fence_fd(uint64_t fence_id);
/* NOLINTNEXTLINE(readability-redundant-declaration): it is, with a header that has it. */
VIRGL_EXPORT int virgl_renderer_get_fence_fd(uint64_t fence_id);

static struct {
	struct vgf_virgl *virgl; /* NULL: the VMM has not started virglrenderer */
	/* virglrenderer calls functions of its own, a failed start virgl_renderer_cleanup: if this
	 * library is preloaded these are here. */
	bool inside;
	void *cookie;
	int flags;
	const struct virgl_renderer_callbacks *callbacks;
	int last_ctx_id; /* of the last submission */
	struct log_limit log_limit;
	int reset_error; /* why virglrenderer did not start anew: it has ended */
} state;

/* A function of the plugin's that starts or ends virglrenderer. */
#define INSIDE(call)                                                                               \
	__extension__({                                                                            \
		state.inside = true;                                                               \
		int inside_ret = (call);                                                           \
		state.inside = false;                                                              \
		inside_ret;                                                                        \
	})

static bool goes_straight(void)
{
	return !state.virgl || state.inside;
}

/* ---- Messages ----------------------------------------------------------------------------- */

/* What a guest may cause as often as it likes. */
__attribute__((format(printf, 1, 2))) static void log_refusal(const char *format, ...)
{
	char text[128];
	va_list arguments;
	uint32_t dropped = log_limit_take_dropped(&state.log_limit, false);

	if (dropped > 0) {
		in_place_log(VGF_LOG_WARNING, "%" PRIu32 " more messages like these", dropped);
	}
	if (log_limit_pass(&state.log_limit)) {
		va_start(arguments, format);
		vsnprintf(text, sizeof(text), format, arguments);
		va_end(arguments);
		in_place_log(VGF_LOG_WARNING, "%s", text);
	}
}

/* ---- Callbacks ---------------------------------------------------------------------------- */

static void retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	const struct virgl_renderer_callbacks *callbacks = state.callbacks;
	uint64_t id;

	if (!client_id_retire(fence, &id)) {
		return;
	}
	if (fence->ring == VGF_RING_GLOBAL) {
		callbacks->write_fence(cookie, (uint32_t)id);
	} else if (callbacks->version >= 3 && callbacks->write_context_fence) {
		callbacks->write_context_fence(cookie, fence->ctx_id, (uint32_t)fence->ring, id);
	}
}

static void log_message(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	in_place_log(level, "%s", message);
}

/* ---- Start and end ------------------------------------------------------------------------ */

static int start(void *cookie, int flags, struct virgl_renderer_callbacks *cb)
{
	static const struct vgf_callbacks callbacks = {
		.size = sizeof(callbacks),
		.retire = retire,
		.log = log_message,
	};
	/* virglrenderer sets no bounds to one call of virgl_renderer_poll, nor to a command
	 * stream. In-fences that it does not know have signalled. */
	static const struct vgf_options device = {
		.size = sizeof(device),
		.limits.max_command_size = UINT32_MAX,
		.budget_items = UINT32_MAX,
		.budget_ns = UINT64_MAX,
		.ignore_bad_in_fences = true,
	};
	static const struct vgf_virgl_options options = {
		.size = sizeof(options),
		.device = &device,
		.callbacks = &callbacks,
	};

	return vgf_virgl_init(cookie, flags, cb, &options, &state.virgl);
}

static int cleanup(void)
{
	vgf_virgl_cleanup(state.virgl);
	return 0;
}

static void end(void)
{
	INSIDE(cleanup());
	state.virgl = NULL;
	state.reset_error = 0;
	client_ids_clear();
}

VIRGL_EXPORT int virgl_renderer_init(void *cookie, int flags, struct virgl_renderer_callbacks *cb)
{
	int ret;

	if (state.reset_error < 0) {
		end();
	}
	if (state.virgl) {
		bool same = cookie == state.cookie && flags == state.flags && cb == state.callbacks;
		return same ? 0 : -EBUSY;
	}
	/* No VMM: the render server of 0.10.4, which inherits LD_PRELOAD, has none. */
	if (!cb || !cb->write_fence) {
		return real_virgl_renderer_init(cookie, flags, cb);
	}
	state.cookie = cookie;
	state.flags = flags;
	state.callbacks = cb;
	state.last_ctx_id = 0;
	log_limit_init(&state.log_limit);
	ret = INSIDE(start(cookie, flags, cb));
	if (ret < 0) {
		in_place_log(VGF_LOG_ERROR, "%s does not start (%d)", vgf_real_library(), ret);
	} else {
		in_place_log(VGF_LOG_DEBUG, "started");
	}
	return ret;
}

static struct vgf_stats get_stats(void)
{
	struct vgf_stats stats = { .size = sizeof(stats) };

	vgf_device_get_stats(vgf_virgl_get_device(state.virgl), &stats);
	return stats;
}

VIRGL_EXPORT void virgl_renderer_cleanup(void *cookie)
{
	struct vgf_stats stats;

	if (goes_straight()) {
		real_virgl_renderer_cleanup(cookie);
		return;
	}
	stats = get_stats();
	in_place_log(VGF_LOG_DEBUG,
		"ends: %" PRIu64 " submissions, %" PRIu64 " with in-fences waited, %" PRIu64
		" fences, %" PRIu64 " failed, %" PRIu64 " stalled",
		stats.submitted, stats.run_driver + stats.run_gl + stats.run_host, stats.created,
		stats.failed, stats.stalled);
	end();
}

/* It cannot tell the VMM that it failed. One that starts it again afterwards, as QEMU does, gets
 * the error if that fails, too. */
VIRGL_EXPORT void virgl_renderer_reset(void)
{
	if (goes_straight()) {
		real_virgl_renderer_reset();
		return;
	}
	if (state.reset_error < 0) {
		return;
	}
	state.reset_error = INSIDE(vgf_virgl_reset(state.virgl));
	if (state.reset_error < 0) {
		in_place_log(VGF_LOG_ERROR, "it cannot be reset (%d)", state.reset_error);
	}
	client_ids_clear();
	state.last_ctx_id = 0;
}

/* ---- The loop ----------------------------------------------------------------------------- */

static bool has_held(void)
{
	return get_stats().held > 0;
}

/* Held work runs in it. A VMM may have made GL contexts of its own current, and virglrenderer does
 * not notice. */
static void poll_now(void)
{
	if (!(state.flags & VIRGL_RENDERER_NO_VIRGL) && has_held()) {
		real_virgl_renderer_force_ctx_0();
	}
	vgf_virgl_poll(state.virgl);
}

VIRGL_EXPORT void virgl_renderer_poll(void)
{
	if (goes_straight()) {
		real_virgl_renderer_poll();
		return;
	}
	poll_now();
}

VIRGL_EXPORT void virgl_renderer_context_poll(uint32_t ctx_id)
{
	if (goes_straight()) {
		real_virgl_renderer_context_poll(ctx_id);
		return;
	}
	poll_now();
}

static bool is_async(void)
{
	return state.flags & VIRGL_RENDERER_ASYNC_FENCE_CB;
}

/* Fences come back in threads of virglrenderer's, and what waits for them needs no more of it. */
static bool needs_no_asking(void)
{
	const int flags = VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_THREAD_SYNC |
		VIRGL_RENDERER_ASYNC_FENCE_CB;

	return (state.flags & flags) == flags;
}

/* Without one, the VMM polls by a timer or without a pause, as virglrenderer has to be asked. */
VIRGL_EXPORT int virgl_renderer_get_poll_fd(void)
{
	int fd = real_virgl_renderer_get_poll_fd();

	if (goes_straight() || (fd < 0 && !needs_no_asking())) {
		return fd;
	}
	return vgf_virgl_get_poll_fd(state.virgl);
}

/* A VMM with asynchronous callbacks need not poll: held work that is ready runs now. */
static void begin_call(void)
{
	if (is_async() && has_held()) {
		poll_now();
	}
}

/* What has signalled in this thread, inside of virglrenderer. */
static void end_call(void)
{
	if (is_async()) {
		vgf_device_retire(vgf_virgl_get_device(state.virgl));
	}
}

/* ---- Waiting for held work ---------------------------------------------------------------- */

struct call {
	bool done;
	int status;
};

static void call_done(void *arg, int status)
{
	struct call *call = arg;

	call->done = true;
	call->status = status;
}

/*
 * Waits for a command that virglrenderer's interface has done when its function returns. ret: what
 * the plugin's function returned. Without a descriptor of virglrenderer's it is asked every
 * millisecond.
 */
static int wait_for(struct call *call, int ret)
{
	struct pollfd pollfd = { .fd = vgf_virgl_get_poll_fd(state.virgl), .events = POLLIN };

	if (ret < 0) {
		return ret;
	}
	if (!call->done) {
		plugin_call_waits(state.virgl, true);
	}
	while (!call->done) {
		poll(&pollfd, 1, 1);
		poll_now();
	}
	plugin_call_waits(state.virgl, false);
	return call->status;
}

/* Nothing that is held back uses the resource any more. */
static void wait_for_resource(uint32_t res_handle)
{
	struct call call = { 0 };

	if (has_held()) {
		wait_for(
			&call, vgf_virgl_resource_defer(state.virgl, res_handle, call_done, &call));
	}
}

/* What was submitted to the context has run. */
static void wait_for_context(uint32_t ctx_id)
{
	struct call call = { 0 };
	const struct vgf_deferred_call deferred = {
		.ctx_id = ctx_id,
		.ring = VGF_EVERY_RING,
		.kept_size = sizeof(call),
		.fn = call_done,
		.arg = &call,
	};

	if (has_held()) {
		wait_for(&call, vgf_context_defer(vgf_virgl_get_device(state.virgl), &deferred));
	}
}

/* ---- Contexts ----------------------------------------------------------------------------- */

/* 1: it is done later, in its place. */
static int as_done(int ret)
{
	return ret > 0 ? 0 : ret;
}

VIRGL_EXPORT int virgl_renderer_context_create_with_flags(
	uint32_t ctx_id, uint32_t ctx_flags, uint32_t nlen, const char *name)
{
	if (goes_straight()) {
		return real_virgl_renderer_context_create_with_flags(ctx_id, ctx_flags, nlen, name);
	}
	begin_call();
	return as_done(
		vgf_virgl_context_create_with_flags(state.virgl, ctx_id, ctx_flags, nlen, name));
}

VIRGL_EXPORT int virgl_renderer_context_create(uint32_t handle, uint32_t nlen, const char *name)
{
	if (goes_straight()) {
		return real_virgl_renderer_context_create(handle, nlen, name);
	}
	begin_call();
	return as_done(vgf_virgl_context_create(state.virgl, handle, nlen, name));
}

/*
 * virglrenderer ends it at once, and calls back for none of its fences any more: the VMM may have
 * freed what they name, and makes another one of this ID. So nothing waits for what may never come:
 * work that is held back is dropped.
 */
VIRGL_EXPORT void virgl_renderer_context_destroy(uint32_t handle)
{
	int ret;

	if (goes_straight()) {
		real_virgl_renderer_context_destroy(handle);
		return;
	}
	begin_call();
	client_ids_end_context(handle);
	if (has_held()) {
		vgf_context_cancel(
			vgf_virgl_get_device(state.virgl), handle, VGF_CANCEL_OPEN, -ECANCELED);
	}
	ret = vgf_virgl_context_destroy(state.virgl, handle);
	if (ret < 0 && ret != -ENOENT) {
		log_refusal("context %" PRIu32 " cannot be destroyed (%d)", handle, ret);
	}
	end_call();
}

VIRGL_EXPORT int virgl_renderer_resource_create_blob(
	const struct virgl_renderer_resource_create_blob_args *args)
{
	if (!goes_straight() && args->ctx_id != 0) {
		begin_call();
		/* What makes the memory that it names may be held back. */
		wait_for_context(args->ctx_id);
	}
	return real_virgl_renderer_resource_create_blob(args);
}

/* One that is made later is not there before. */
VIRGL_EXPORT int virgl_renderer_context_get_poll_fd(uint32_t ctx_id)
{
	if (!goes_straight()) {
		begin_call();
		wait_for_context(ctx_id);
	}
	return real_virgl_renderer_context_get_poll_fd(ctx_id);
}

VIRGL_EXPORT int virgl_renderer_attach_fence(int ctx_id, int fence_fd)
{
	if (!goes_straight()) {
		begin_call();
		/* It is for the next submission, not for one that is held back. */
		wait_for_context((uint32_t)ctx_id);
	}
	return real_virgl_renderer_attach_fence(ctx_id, fence_fd);
}

/* ---- Submissions -------------------------------------------------------------------------- */

VIRGL_EXPORT int virgl_renderer_submit_cmd2(
	void *buffer, int ctx_id, int ndw, uint64_t *in_fence_ids, uint32_t num_in_fences)
{
	int ret;

	if (goes_straight()) {
		return real_virgl_renderer_submit_cmd2(
			buffer, ctx_id, ndw, in_fence_ids, num_in_fences);
	}
	begin_call();
	state.last_ctx_id = ctx_id;
	ret = vgf_virgl_submit_cmd2(state.virgl, buffer, ctx_id, ndw, in_fence_ids, num_in_fences);
	end_call();
	return as_done(ret);
}

VIRGL_EXPORT int virgl_renderer_submit_cmd(void *buffer, int ctx_id, int ndw)
{
	if (goes_straight()) {
		return real_virgl_renderer_submit_cmd(buffer, ctx_id, ndw);
	}
	return virgl_renderer_submit_cmd2(buffer, ctx_id, ndw, NULL, 0);
}

/* ---- Fences ------------------------------------------------------------------------------- */

VIRGL_EXPORT int virgl_renderer_context_create_fence(
	uint32_t ctx_id, uint32_t flags, uint32_t ring_idx, uint64_t fence_id)
{
	const struct vgf_fence_name client = {
		.fence_id = fence_id,
		.ctx_id = ctx_id,
		.ring = (int32_t)ring_idx,
	};
	uint64_t number;
	int ret;

	if (goes_straight()) {
		return real_virgl_renderer_context_create_fence(ctx_id, flags, ring_idx, fence_id);
	}
	if (ring_idx >= VGF_MAX_RINGS) {
		return -EINVAL;
	}
	begin_call();
	ret = client_id_enter(&client, &number);
	if (ret < 0) {
		return ret;
	}
	ret = vgf_virgl_context_create_fence(
		state.virgl, ctx_id, flags | VGF_VIRGL_FENCE_SHAREABLE, ring_idx, number);
	if (ret < 0) {
		client_id_drop(&client, number);
	}
	end_call();
	return ret;
}

/*
 * Which context it is for VMMs do not say: virglrenderer has never looked at ctx_id, and QEMU gives
 * the type of its command. All commands but submissions are done by now, so it is that of the last
 * submission, behind which it has to be.
 */
VIRGL_EXPORT int virgl_renderer_create_fence(int client_fence_id, uint32_t ctx_id)
{
	const struct vgf_fence_name client = {
		.fence_id = (uint32_t)client_fence_id,
		.ring = VGF_RING_GLOBAL,
	};
	uint64_t number;
	int ret;

	if (goes_straight()) {
		return real_virgl_renderer_create_fence(client_fence_id, ctx_id);
	}
	if (state.reset_error < 0) {
		return state.reset_error;
	}
	begin_call();
	ret = client_id_enter(&client, &number);
	if (ret < 0) {
		return ret;
	}
	ret = vgf_virgl_create_fence(
		state.virgl, number, (uint32_t)state.last_ctx_id, VGF_VIRGL_FENCE_SHAREABLE);
	if (ret < 0) {
		client_id_drop(&client, number);
	}
	end_call();
	return ret;
}

static bool has_marks(void)
{
	return !goes_straight() && plugin_has_marks(state.virgl);
}

/* Before the start there are no IDs. */
int export_fence(uint64_t client_fence_id, int *fd)
{
	return has_marks() ? -EINVAL : real_export_fence(client_id_number(client_fence_id), fd);
}

VIRGL_EXPORT int virgl_renderer_get_fence_fd(uint64_t fence_id)
{
	return has_marks() ? -1 : real_virgl_renderer_get_fence_fd(client_id_number(fence_id));
}

/* ---- Resources ---------------------------------------------------------------------------- */

VIRGL_EXPORT void virgl_renderer_ctx_attach_resource(int ctx_id, int res_handle)
{
	int ret;

	if (goes_straight()) {
		real_virgl_renderer_ctx_attach_resource(ctx_id, res_handle);
		return;
	}
	begin_call();
	ret = vgf_virgl_ctx_attach_resource(state.virgl, ctx_id, res_handle);
	if (ret < 0) {
		log_refusal(
			"context %d: resource %d cannot be attached (%d)", ctx_id, res_handle, ret);
	}
}

VIRGL_EXPORT void virgl_renderer_ctx_detach_resource(int ctx_id, int res_handle)
{
	int ret;

	if (goes_straight()) {
		real_virgl_renderer_ctx_detach_resource(ctx_id, res_handle);
		return;
	}
	begin_call();
	ret = vgf_virgl_ctx_detach_resource(state.virgl, ctx_id, res_handle);
	if (ret < 0) {
		log_refusal(
			"context %d: resource %d cannot be detached (%d)", ctx_id, res_handle, ret);
	}
}

VIRGL_EXPORT void virgl_renderer_resource_unref(uint32_t res_handle)
{
	struct call call = { 0 };
	int ret;

	if (goes_straight()) {
		real_virgl_renderer_resource_unref(res_handle);
		return;
	}
	begin_call();
	ret = wait_for(&call, vgf_virgl_resource_unref(state.virgl, res_handle, call_done, &call));
	if (ret < 0) {
		log_refusal("resource %" PRIu32 " goes at once (%d)", res_handle, ret);
		real_virgl_renderer_resource_unref(res_handle);
	}
}

VIRGL_EXPORT void virgl_renderer_resource_detach_iov(
	int res_handle, struct iovec **iov, int *num_iovs)
{
	if (!goes_straight()) {
		begin_call();
		wait_for_resource((uint32_t)res_handle);
	}
	real_virgl_renderer_resource_detach_iov(res_handle, iov, num_iovs);
}

VIRGL_EXPORT int virgl_renderer_transfer_read_iov(uint32_t handle, uint32_t ctx_id, uint32_t level,
	uint32_t stride, uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
	struct iovec *iov, int iovec_cnt)
{
	struct call call = { 0 };

	if (goes_straight()) {
		return real_virgl_renderer_transfer_read_iov(
			handle, ctx_id, level, stride, layer_stride, box, offset, iov, iovec_cnt);
	}
	begin_call();
	return wait_for(&call,
		vgf_virgl_transfer_read_iov(state.virgl, handle, ctx_id, level, stride,
			layer_stride, box, offset, iov, iovec_cnt, call_done, &call));
}

VIRGL_EXPORT int virgl_renderer_transfer_write_iov(uint32_t handle, uint32_t ctx_id, int level,
	uint32_t stride, uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
	struct iovec *iovec, unsigned int iovec_cnt)
{
	struct call call = { 0 };

	if (goes_straight()) {
		return real_virgl_renderer_transfer_write_iov(
			handle, ctx_id, level, stride, layer_stride, box, offset, iovec, iovec_cnt);
	}
	begin_call();
	return wait_for(&call,
		vgf_virgl_transfer_write_iov(state.virgl, handle, ctx_id, level, stride,
			layer_stride, box, offset, iovec, iovec_cnt, call_done, &call));
}
