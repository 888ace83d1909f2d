/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What is done to resources keeps its place behind held work that may use them. */

#include "virgl.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* ---- Which context has which resource ----------------------------------------------------- */

static int compare_handles(const void *a, const void *b)
{
	return ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b);
}

/* The tree keeps pointers; a handle needs no memory of its own behind one. */
static void *handle_key(uint32_t res_handle)
{
	return (void *)(uintptr_t)res_handle; /* NOLINT(performance-no-int-to-ptr) */
}

bool context_has_resource(const struct virgl_context *context, uint32_t res_handle)
{
	return res_handle != 0 &&
		tfind(handle_key(res_handle), &context->resources, compare_handles);
}

static int add_resource(struct virgl_context *context, uint32_t res_handle)
{
	if (res_handle == 0) {
		return 0; /* there is no such resource */
	}
	return tsearch(handle_key(res_handle), &context->resources, compare_handles) ? 0 : -ENOMEM;
}

static void remove_resource(struct virgl_context *context, uint32_t res_handle)
{
	tdelete(handle_key(res_handle), &context->resources, compare_handles);
}

/* ---- Waiting for contexts ----------------------------------------------------------------- */

/* A context has come to it. */
static void op_step(struct resource_op *op, int *result)
{
	struct vgf_virgl *virgl = op->virgl;
	int status = virgl->ended ? -ECANCELED : 0;

	if (--op->waits > 0) {
		return;
	}
	if (op->unref && status == 0) {
		struct virgl_context *context;
		LIST_FOREACH(context, &virgl->contexts, link) {
			remove_resource(context, op->res_handle);
		}
		virgl_renderer_resource_unref(op->res_handle);
	}
	if (result) {
		*result = 0;
	}
	if (op->done) {
		virgl->inside++;
		op->done(op->arg, status);
		virgl->inside--;
	}
	free(op);
}

static void op_context_came(void *arg, int status)
{
	(void)status; /* also if only the context's work was cancelled */
	op_step(arg, NULL);
}

/* A context that is being destroyed takes no more commands: its end is waited for. */
static int wait_for_end(struct virgl_context *context, struct resource_op *op)
{
	struct op_wait *wait = calloc(1, sizeof(*wait));

	if (!wait) {
		return -ENOMEM;
	}
	wait->op = op;
	STAILQ_INSERT_TAIL(&context->waits, wait, link);
	return 0;
}

void context_release_resources(struct virgl_context *context)
{
	struct op_wait *wait;

	while ((wait = STAILQ_FIRST(&context->waits))) {
		STAILQ_REMOVE_HEAD(&context->waits, link);
		op_step(wait->op, NULL);
		free(wait);
	}
	while (context->resources) {
		tdelete(*(void **)context->resources, &context->resources, compare_handles);
	}
}

static int op_wait_for(struct resource_op *op, struct virgl_context *context)
{
	int ret;

	op->waits++;
	if (context->closed) {
		ret = wait_for_end(context, op);
	} else {
		ret = defer_in_context(context, sizeof(*op), op_context_came, op);
	}
	if (ret < 0) {
		op->waits--;
	}
	return ret;
}

/* Owns op. Returns as vgf_virgl_resource_unref. */
static int op_start(struct resource_op *op)
{
	struct vgf_virgl *virgl = op->virgl;
	struct virgl_context *context, *next;
	int result = 1;
	int ret = 0;

	op->waits = 1;
	for (context = LIST_FIRST(&virgl->contexts); context && ret >= 0; context = next) {
		next = LIST_NEXT(context, link);
		if (context_has_resource(context, op->res_handle)) {
			ret = op_wait_for(op, context);
		}
	}
	if (ret < 0) {
		/* Those that it waits for already must find it, and then do nothing. */
		op->unref = false;
		op->done = NULL;
		op_step(op, NULL);
		return ret;
	}
	op_step(op, &result);
	return result;
}

static struct resource_op *op_create(
	struct vgf_virgl *virgl, uint32_t res_handle, vgf_virgl_done done, void *arg)
{
	struct resource_op *op = calloc(1, sizeof(*op));

	if (op) {
		op->virgl = virgl;
		op->res_handle = res_handle;
		op->done = done;
		op->arg = arg;
	}
	return op;
}

VGF_EXPORT int vgf_virgl_resource_unref(
	struct vgf_virgl *virgl, uint32_t res_handle, vgf_virgl_done done, void *arg)
{
	struct resource_op *op;

	assert_thread(virgl);
	op = op_create(virgl, res_handle, done, arg);
	if (!op) {
		return -ENOMEM;
	}
	op->unref = true;
	return op_start(op);
}

VGF_EXPORT int vgf_virgl_resource_defer(
	struct vgf_virgl *virgl, uint32_t res_handle, vgf_virgl_done done, void *arg)
{
	struct resource_op *op;

	assert_thread(virgl);
	op = op_create(virgl, res_handle, done, arg);
	return op ? op_start(op) : -ENOMEM;
}

/* ---- Attaching ---------------------------------------------------------------------------- */

struct attachment {
	struct virgl_context *context;
	int res_handle;
};

static void attach_now(void *arg, int status)
{
	struct attachment *attachment = arg;
	struct virgl_context *context = attachment->context;

	(void)status;
	if (!context->virgl->ended && context->error == 0) {
		virgl_renderer_ctx_attach_resource((int)context->ctx_id, attachment->res_handle);
		/* Again: a detach that came before was done since. */
		add_resource(context, (uint32_t)attachment->res_handle);
	}
	free(attachment);
}

static void detach_now(void *arg, int status)
{
	struct attachment *attachment = arg;
	struct virgl_context *context = attachment->context;

	(void)status;
	if (!context->virgl->ended && context->error == 0) {
		virgl_renderer_ctx_detach_resource((int)context->ctx_id, attachment->res_handle);
		remove_resource(context, (uint32_t)attachment->res_handle);
	}
	free(attachment);
}

static int defer_attachment(
	struct virgl_context *context, int res_handle, void (*fn)(void *arg, int status))
{
	struct attachment *attachment = calloc(1, sizeof(*attachment));
	int ret;

	if (!attachment) {
		return -ENOMEM;
	}
	attachment->context = context;
	attachment->res_handle = res_handle;
	ret = defer_in_context(context, sizeof(*attachment), fn, attachment);
	if (ret < 0) {
		free(attachment);
	}
	return ret;
}

VGF_EXPORT int vgf_virgl_ctx_attach_resource(struct vgf_virgl *virgl, int ctx_id, int res_handle)
{
	struct virgl_context *context;
	int ret;

	assert_thread(virgl);
	context = find_context(virgl, (uint32_t)ctx_id);
	if (!context) {
		return 0;
	}
	/* From now on what is done to the resource waits for the context. */
	ret = add_resource(context, (uint32_t)res_handle);
	return ret < 0 ? ret : defer_attachment(context, res_handle, attach_now);
}

VGF_EXPORT int vgf_virgl_ctx_detach_resource(struct vgf_virgl *virgl, int ctx_id, int res_handle)
{
	struct virgl_context *context;

	assert_thread(virgl);
	context = find_context(virgl, (uint32_t)ctx_id);
	return context ? defer_attachment(context, res_handle, detach_now) : 0;
}

/* ---- Transfers ---------------------------------------------------------------------------- */

/* x, y, z, w, h, d: virglrenderer's header leaves it open. */
struct virgl_box {
	uint32_t corner[3];
	uint32_t size[3];
};

struct transfer {
	struct vgf_virgl *virgl;
	bool read;
	uint32_t handle, ctx_id, level, stride, layer_stride;
	uint64_t offset;
	struct virgl_box box;
	vgf_virgl_done done;
	void *arg;
	int *result; /* the caller's, while it waits for it */
	unsigned int iovec_cnt;
	struct iovec *iov; /* behind this struct; NULL if the resource's backing is meant */
};

static int transfer(struct transfer *t)
{
	if (t->virgl->ended) {
		return -ECANCELED;
	}
	if (t->read) {
		return to_errno(virgl_renderer_transfer_read_iov(t->handle, t->ctx_id, t->level,
			t->stride, t->layer_stride, &t->box, t->offset, t->iov, (int)t->iovec_cnt));
	}
	return to_errno(virgl_renderer_transfer_write_iov(t->handle, t->ctx_id, (int)t->level,
		t->stride, t->layer_stride, &t->box, t->offset, t->iov, t->iovec_cnt));
}

static void transfer_now(void *arg, int status)
{
	struct transfer *t = arg;
	struct vgf_virgl *virgl = t->virgl;

	(void)status;
	virgl->inside++;
	status = transfer(t);
	/* An error that the caller gets at once is not told twice. */
	if (t->result) {
		*t->result = status;
	}
	if (t->done && !(t->result && status < 0)) {
		t->done(t->arg, status);
	}
	virgl->inside--;
	free(t);
}

/* Owns t. */
static int start_transfer(struct transfer *t)
{
	struct vgf_virgl *virgl = t->virgl;
	size_t size = sizeof(*t) + t->iovec_cnt * sizeof(*t->iov);
	int result = 1;
	int ret;

	t->result = &result;
	if (t->ctx_id == 0) {
		ret = vgf_virgl_resource_defer(virgl, t->handle, transfer_now, t);
	} else if (find_context(virgl, t->ctx_id)) {
		ret = defer_in_context(find_context(virgl, t->ctx_id), size, transfer_now, t);
	} else {
		ret = -EINVAL; /* as virglrenderer answers */
	}
	if (ret < 0) {
		free(t);
		return ret;
	}
	if (ret == 1) {
		t->result = NULL;
	}
	return result;
}

static struct transfer *transfer_create(struct vgf_virgl *virgl, const struct virgl_box *box,
	const struct iovec *iov, size_t iovec_cnt)
{
	struct transfer *t;

	assert_thread(virgl);
	iovec_cnt = iov ? iovec_cnt : 0;
	t = calloc(1, sizeof(*t) + iovec_cnt * sizeof(*iov));
	if (!t) {
		return NULL;
	}
	t->virgl = virgl;
	t->box = *box;
	t->iovec_cnt = (unsigned int)iovec_cnt;
	if (iovec_cnt > 0) {
		t->iov = (struct iovec *)(t + 1);
		memcpy(t->iov, iov, iovec_cnt * sizeof(*iov));
	}
	return t;
}

VGF_EXPORT int vgf_virgl_transfer_read_iov(struct vgf_virgl *virgl, uint32_t handle,
	uint32_t ctx_id, uint32_t level, uint32_t stride, uint32_t layer_stride,
	struct virgl_box *box, uint64_t offset, struct iovec *iov, int iovec_cnt,
	vgf_virgl_done done, void *arg)
{
	struct transfer *t;

	if (iovec_cnt < 0) {
		return -EINVAL;
	}
	t = transfer_create(virgl, box, iov, (size_t)iovec_cnt);
	if (!t) {
		return -ENOMEM;
	}
	t->read = true;
	t->handle = handle;
	t->ctx_id = ctx_id;
	t->level = level;
	t->stride = stride;
	t->layer_stride = layer_stride;
	t->offset = offset;
	t->done = done;
	t->arg = arg;
	return start_transfer(t);
}

VGF_EXPORT int vgf_virgl_transfer_write_iov(struct vgf_virgl *virgl, uint32_t handle,
	uint32_t ctx_id, int level, uint32_t stride, uint32_t layer_stride, struct virgl_box *box,
	uint64_t offset, struct iovec *iovec, unsigned int iovec_cnt, vgf_virgl_done done,
	void *arg)
{
	struct transfer *t = transfer_create(virgl, box, iovec, iovec_cnt);

	if (!t) {
		return -ENOMEM;
	}
	t->handle = handle;
	t->ctx_id = ctx_id;
	t->level = (uint32_t)level;
	t->stride = stride;
	t->layer_stride = layer_stride;
	t->offset = offset;
	t->done = done;
	t->arg = arg;
	return start_transfer(t);
}
