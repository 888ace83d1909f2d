/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What is done to resources keeps its place behind held work that may use them. */

#include "virgl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

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
		remove_resource_everywhere(virgl, op->res_handle);
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
	struct vgf_virgl *virgl = op->virgl;
	struct op_wait *wait;

	if (virgl->num_op_waits >= MAX_OP_WAITS) {
		return -ENOSPC;
	}
	wait = calloc(1, sizeof(*wait));
	if (!wait) {
		return -ENOMEM;
	}
	virgl->num_op_waits++;
	wait->op = op;
	STAILQ_INSERT_TAIL(&context->waits, wait, link);
	return 0;
}

void context_release_resources(struct virgl_context *context)
{
	struct op_wait *wait;

	while ((wait = STAILQ_FIRST(&context->waits))) {
		STAILQ_REMOVE_HEAD(&context->waits, link);
		context->virgl->num_op_waits--;
		op_step(wait->op, NULL);
		free(wait);
	}
	context_remove_resources(context);
}

static int op_wait_for(struct resource_op *op, struct virgl_context *context)
{
	int ret;

	op->waits++;
	if (context->closed) {
		ret = wait_for_end(context, op);
	} else {
		ret = defer_in_context(context, op->size, op_context_came, op);
	}
	if (ret < 0) {
		op->waits--;
	}
	return ret;
}

/* Owns op. Returns as vgf_virgl_resource_unref. */
static int op_start(struct resource_op *op)
{
	struct attachment *attachment, *next;
	int result = 1;
	int ret = 0;

	op->waits = 1;
	for (attachment = resource_attachments(op->virgl, op->res_handle); attachment && ret >= 0;
		attachment = next) {
		next = LIST_NEXT(attachment, of_resource);
		ret = op_wait_for(op, attachment->context);
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

/* size: what the caller keeps for it. */
static struct resource_op *op_create(
	struct vgf_virgl *virgl, uint32_t res_handle, size_t size, vgf_virgl_done done, void *arg)
{
	struct resource_op *op = calloc(1, sizeof(*op));

	if (op) {
		op->virgl = virgl;
		op->res_handle = res_handle;
		op->size = sizeof(*op) + size;
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
	if (virgl->ended) {
		return -ECANCELED;
	}
	op = op_create(virgl, res_handle, 0, done, arg);
	if (!op) {
		return -ENOMEM;
	}
	op->unref = true;
	return op_start(op);
}

/* For what takes `size` bytes until then. */
static int resource_defer(
	struct vgf_virgl *virgl, uint32_t res_handle, size_t size, vgf_virgl_done done, void *arg)
{
	struct resource_op *op = op_create(virgl, res_handle, size, done, arg);

	return op ? op_start(op) : -ENOMEM;
}

VGF_EXPORT int vgf_virgl_resource_defer(
	struct vgf_virgl *virgl, uint32_t res_handle, vgf_virgl_done done, void *arg)
{
	assert_thread(virgl);
	return virgl->ended ? -ECANCELED : resource_defer(virgl, res_handle, 0, done, arg);
}

/* ---- Attaching ---------------------------------------------------------------------------- */

struct attach_call {
	struct virgl_context *context;
	int res_handle;
};

static void attach_now(void *arg, int status)
{
	struct attach_call *call = arg;
	struct virgl_context *context = call->context;

	(void)status;
	if (!context->virgl->ended && context->error == 0) {
		/* Again: a detach that came before was done since. What is not known here is not
		 * waited for, so the context does not get it. */
		if (context_add_resource(context, (uint32_t)call->res_handle) == 0) {
			virgl_renderer_ctx_attach_resource((int)context->ctx_id, call->res_handle);
		}
	}
	free(call);
}

static void detach_now(void *arg, int status)
{
	struct attach_call *call = arg;
	struct virgl_context *context = call->context;

	(void)status;
	if (!context->virgl->ended && context->error == 0) {
		virgl_renderer_ctx_detach_resource((int)context->ctx_id, call->res_handle);
		context_remove_resource(context, (uint32_t)call->res_handle);
	}
	free(call);
}

static int defer_attachment(
	struct virgl_context *context, int res_handle, void (*fn)(void *arg, int status))
{
	struct attach_call *call = calloc(1, sizeof(*call));
	int ret;

	if (!call) {
		return -ENOMEM;
	}
	call->context = context;
	call->res_handle = res_handle;
	ret = defer_in_context(context, sizeof(*call), fn, call);
	if (ret < 0) {
		free(call);
	}
	return ret;
}

VGF_EXPORT int vgf_virgl_ctx_attach_resource(struct vgf_virgl *virgl, int ctx_id, int res_handle)
{
	struct virgl_context *context;
	bool had;
	int ret;

	assert_thread(virgl);
	context = find_context(virgl, (uint32_t)ctx_id);
	if (!context) {
		return 0;
	}
	had = context_has_resource(context, (uint32_t)res_handle);
	/* From now on what is done to the resource waits for the context. */
	ret = context_add_resource(context, (uint32_t)res_handle);
	if (ret < 0) {
		return ret;
	}
	ret = defer_attachment(context, res_handle, attach_now);
	if (ret < 0 && !had) {
		context_remove_resource(context, (uint32_t)res_handle);
	}
	return ret;
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
	int ret;

	if (t->virgl->ended) {
		return -ECANCELED;
	}
	enter_gl(t->virgl);
	if (t->read) {
		ret = virgl_renderer_transfer_read_iov(t->handle, t->ctx_id, t->level, t->stride,
			t->layer_stride, &t->box, t->offset, t->iov, (int)t->iovec_cnt);
	} else {
		ret = virgl_renderer_transfer_write_iov(t->handle, t->ctx_id, (int)t->level,
			t->stride, t->layer_stride, &t->box, t->offset, t->iov, t->iovec_cnt);
	}
	leave_gl(t->virgl);
	return to_errno(ret);
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
		ret = resource_defer(virgl, t->handle, size, transfer_now, t);
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
