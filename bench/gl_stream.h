/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GL_STREAM_H
#define GL_STREAM_H

/*
 * Command streams of GL contexts, as a guest's driver sends them: the few commands of the virgl
 * protocol that it takes to clear a texture, to copy one, to draw one onto another, and to ask how
 * much was drawn.
 */

#include <stddef.h>
#include <stdint.h>

#define GL_STREAM_MAX 1024

struct gl_stream {
	uint32_t words[GL_STREAM_MAX];
	size_t count;
};

/* Red, green, blue and alpha from bit 0 upwards, as the pixels of a texture are in memory. */
#define PIXEL(r, g, b, a)                                                                          \
	((uint32_t)(r) | (uint32_t)(g) << 8 | (uint32_t)(b) << 16 | (uint32_t)(a) << 24)

/* R8G8B8A8_UNORM, of the virgl protocol. */
#define GL_STREAM_FORMAT 67

void gl_stream_begin(struct gl_stream *stream);
void gl_stream_nop(struct gl_stream *stream);

/* A guest's driver makes a subcontext of its own, and every stream of it begins with the second. */
void gl_stream_create_sub_ctx(struct gl_stream *stream, uint32_t id);
void gl_stream_set_sub_ctx(struct gl_stream *stream, uint32_t id);

void gl_stream_create_surface(struct gl_stream *stream, uint32_t handle, uint32_t res_handle);
void gl_stream_destroy_surface(struct gl_stream *stream, uint32_t handle);
void gl_stream_set_framebuffer(struct gl_stream *stream, uint32_t surface_handle);
void gl_stream_clear(struct gl_stream *stream, uint32_t pixel);

/* The lower left width x height pixels. */
void gl_stream_copy(
	struct gl_stream *stream, uint32_t to, uint32_t from, uint32_t width, uint32_t height);

/* All of a texture, scaled with interpolation to that part of another. */
struct gl_stream_rect {
	uint32_t x, y, width, height;
};
void gl_stream_draw(struct gl_stream *stream, uint32_t to, const struct gl_stream_rect *rect,
	uint32_t from, uint32_t from_width, uint32_t from_height);

/* A query for the samples that are drawn in between. Its result goes to the memory of a buffer. */
void gl_stream_begin_query(struct gl_stream *stream, uint32_t handle, uint32_t buffer);
void gl_stream_end_query(struct gl_stream *stream, uint32_t handle);

/* A command that no version of virglrenderer takes. */
void gl_stream_nonsense(struct gl_stream *stream);

/* Everything that is needed to fill a texture; the surface is gone afterwards. */
void gl_stream_fill(struct gl_stream *stream, uint32_t res_handle, uint32_t pixel);

#endif
