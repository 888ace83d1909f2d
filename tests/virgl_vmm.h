/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VIRGL_VMM_H
#define VIRGL_VMM_H

/*
 * A VMM with the real virglrenderer, for tests: it does what the test says and notes what retires.
 */

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/virgl.h>

/* In 0.10.4 what the tests need was not stable yet. */
#ifndef VIRGL_RENDERER_UNSTABLE_APIS
#define VIRGL_RENDERER_UNSTABLE_APIS
#endif
#include <virglrenderer.h>

#include "gl_stream.h"
#include "support.h"

#define VIRGL_VMM_MAX 16384

/* Without a display. */
#define FLAGS_PLAIN (VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS)
#define FLAGS_THREAD (FLAGS_PLAIN | VIRGL_RENDERER_THREAD_SYNC)
#define FLAGS_ASYNC (FLAGS_THREAD | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define FLAGS_VENUS (VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER)

/* Textures are this large. */
#define SIDE 16

struct virgl_retired {
	struct vgf_fence_name name;
	int status;
	unsigned int batch; /* which batch of callbacks it came in */
};

struct virgl_vmm {
	struct vgf_virgl *virgl;
	struct vgf_device *device;
	struct virgl_renderer_callbacks callbacks;
	struct virgl_retired retired[VIRGL_VMM_MAX];
	unsigned int num_retired;
	unsigned int num_batches;
	uint64_t last_id;  /* of new_id */
	char message[256]; /* the last one */
};

/* flags: as virgl_renderer_init; without a display the plugin brings up its own. wait: as in the
 * options. */
struct virgl_vmm *virgl_vmm_create(int flags, enum vgf_virgl_wait wait);

/* The same, but it may fail: returns what vgf_virgl_init does. */
int virgl_vmm_try(int flags, enum vgf_virgl_wait wait, struct virgl_vmm **out);

/* Returns how many fences have retired in the end. */
unsigned int virgl_vmm_destroy(struct virgl_vmm *vmm);

/* Prints which virglrenderer this is, and what it has. */
void print_renderer(void);

/* Whether the GL server can be made to wait; if not, says so. */
bool has_gl_wait(void);

/* Polls the descriptor, and the plugin, until that many fences have retired in all; the test fails
 * after some seconds. */
void virgl_vmm_wait(struct virgl_vmm *vmm, unsigned int count);

/* Polls the plugin for so long, whatever happens. */
void virgl_vmm_run(struct virgl_vmm *vmm, unsigned int milliseconds);

struct vgf_stats virgl_vmm_stats(struct virgl_vmm *vmm);

/* That fence has retired, once and with that status. Returns its place among all: on one timeline
 * that is an order, between timelines it means nothing. */
unsigned int assert_virgl_retired(
	const struct virgl_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int status);

/* A GL context. */
void create_gl_context(struct virgl_vmm *vmm, uint32_t ctx_id);

/* A texture that these contexts have: a list of IDs that ends with 0. */
void create_texture(struct virgl_vmm *vmm, uint32_t res_handle, ...);

/* Waits for a context's held work, and then for the transfer. */
uint32_t read_pixel(struct virgl_vmm *vmm, uint32_t ctx_id, uint32_t res_handle);

/* A shareable fence that the test signals. Returns its ID. */
uint64_t create_test_fence(struct virgl_vmm *vmm);
void signal_test_fence(struct virgl_vmm *vmm, uint64_t fence_id);

/* Submits with a shareable fence on ring 0; in_fence may be 0. Returns as vgf_virgl_submit; the
 * fence's ID is vmm->last_id. */
int submit_stream(
	struct virgl_vmm *vmm, uint32_t ctx_id, const struct gl_stream *stream, uint64_t in_fence);

/* Fills a texture, or copies one; must be accepted. Returns the fence's ID. */
uint64_t submit_fill(struct virgl_vmm *vmm, uint32_t ctx_id, uint32_t res_handle, uint32_t pixel,
	uint64_t in_fence);
uint64_t submit_copy(
	struct virgl_vmm *vmm, uint32_t ctx_id, uint32_t to, uint32_t from, uint64_t in_fence);

/* Work that takes a software renderer long: the textures, which belong to one context; its
 * commands; doing it once, which returns how many milliseconds that took. */
enum { WORK_SOURCE = 100, WORK_TARGET = 101 };
#define WORK_COLOR PIXEL(10, 20, 30, 255)
void create_work(struct virgl_vmm *vmm, uint32_t ctx_id);
void put_work(struct gl_stream *stream);
int virgl_vmm_do_work(struct virgl_vmm *vmm, uint32_t ctx_id);

/* Whether it takes longer than anybody waits who must not wait. If not, says so. */
bool work_is_long(struct virgl_vmm *vmm, uint32_t ctx_id);

/* What a context does without waiting for fences: done when this returns. */
void fill_now(struct virgl_vmm *vmm, uint32_t ctx_id, uint32_t res_handle, uint32_t pixel);

#endif
