/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "gl_stream.h"

#include <assert.h>
#include <string.h>

/* Numbers of the virgl protocol. */
enum {
	NOP = 0,
	CREATE_OBJECT = 1,
	DESTROY_OBJECT = 3,
	SET_FRAMEBUFFER_STATE = 5,
	CLEAR = 7,
	BLIT = 16,
	RESOURCE_COPY_REGION = 17,
	BEGIN_QUERY = 19,
	END_QUERY = 20,
	GET_QUERY_RESULT = 21,
	SET_SUB_CTX = 28,
	CREATE_SUB_CTX = 29,
	NONSENSE = 0xff,

	OBJECT_NONE = 0,
	OBJECT_SURFACE = 8,
	OBJECT_QUERY = 9,

	CLEAR_COLOR0 = 1 << 2,
	BLIT_COLOR = 0xf,
	BLIT_LINEAR = 1 << 8,
};

static void put(struct gl_stream *stream, uint32_t word)
{
	assert(stream->count < GL_STREAM_MAX);
	stream->words[stream->count++] = word;
}

static void put_head(struct gl_stream *stream, uint32_t command, uint32_t object, uint32_t length)
{
	put(stream, command | object << 8 | length << 16);
}

void gl_stream_begin(struct gl_stream *stream)
{
	stream->count = 0;
}

void gl_stream_nop(struct gl_stream *stream)
{
	put_head(stream, NOP, OBJECT_NONE, 0);
}

void gl_stream_create_sub_ctx(struct gl_stream *stream, uint32_t id)
{
	put_head(stream, CREATE_SUB_CTX, OBJECT_NONE, 1);
	put(stream, id);
}

void gl_stream_set_sub_ctx(struct gl_stream *stream, uint32_t id)
{
	put_head(stream, SET_SUB_CTX, OBJECT_NONE, 1);
	put(stream, id);
}

void gl_stream_create_surface(struct gl_stream *stream, uint32_t handle, uint32_t res_handle)
{
	put_head(stream, CREATE_OBJECT, OBJECT_SURFACE, 5);
	put(stream, handle);
	put(stream, res_handle);
	put(stream, GL_STREAM_FORMAT);
	put(stream, 0); /* level */
	put(stream, 0); /* layers: first and last */
}

void gl_stream_destroy_surface(struct gl_stream *stream, uint32_t handle)
{
	put_head(stream, DESTROY_OBJECT, OBJECT_SURFACE, 1);
	put(stream, handle);
}

void gl_stream_set_framebuffer(struct gl_stream *stream, uint32_t surface_handle)
{
	put_head(stream, SET_FRAMEBUFFER_STATE, OBJECT_NONE, 3);
	put(stream, 1); /* colour buffers */
	put(stream, 0); /* no depth buffer */
	put(stream, surface_handle);
}

static uint32_t channel(uint32_t pixel, unsigned int shift)
{
	float value = (float)(pixel >> shift & 0xff) / 255.0f;
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

void gl_stream_clear(struct gl_stream *stream, uint32_t pixel)
{
	put_head(stream, CLEAR, OBJECT_NONE, 8);
	put(stream, CLEAR_COLOR0);
	for (unsigned int shift = 0; shift < 32; shift += 8) {
		put(stream, channel(pixel, shift));
	}
	put(stream, 0); /* depth, 64 bits */
	put(stream, 0);
	put(stream, 0); /* stencil */
}

void gl_stream_copy(
	struct gl_stream *stream, uint32_t to, uint32_t from, uint32_t width, uint32_t height)
{
	put_head(stream, RESOURCE_COPY_REGION, OBJECT_NONE, 13);
	put(stream, to);
	put(stream, 0); /* level */
	put(stream, 0); /* x, y, z */
	put(stream, 0);
	put(stream, 0);
	put(stream, from);
	put(stream, 0); /* level */
	put(stream, 0); /* x, y, z */
	put(stream, 0);
	put(stream, 0);
	put(stream, width);
	put(stream, height);
	put(stream, 1); /* depth */
}

static void put_place(
	struct gl_stream *stream, uint32_t resource, const struct gl_stream_rect *rect)
{
	put(stream, resource);
	put(stream, 0); /* level */
	put(stream, GL_STREAM_FORMAT);
	put(stream, rect->x);
	put(stream, rect->y);
	put(stream, 0);
	put(stream, rect->width);
	put(stream, rect->height);
	put(stream, 1); /* depth */
}

void gl_stream_draw(struct gl_stream *stream, uint32_t to, const struct gl_stream_rect *rect,
	uint32_t from, uint32_t from_width, uint32_t from_height)
{
	const struct gl_stream_rect all = { 0, 0, from_width, from_height };

	put_head(stream, BLIT, OBJECT_NONE, 21);
	put(stream, BLIT_COLOR | BLIT_LINEAR);
	put(stream, 0); /* no scissor */
	put(stream, 0);
	put_place(stream, to, rect);
	put_place(stream, from, &all);
}

void gl_stream_begin_query(struct gl_stream *stream, uint32_t handle, uint32_t buffer)
{
	put_head(stream, CREATE_OBJECT, OBJECT_QUERY, 4);
	put(stream, handle);
	put(stream, 0); /* occlusion counter */
	put(stream, 0); /* offset */
	put(stream, buffer);
	put_head(stream, BEGIN_QUERY, OBJECT_NONE, 1);
	put(stream, handle);
}

void gl_stream_end_query(struct gl_stream *stream, uint32_t handle)
{
	put_head(stream, END_QUERY, OBJECT_NONE, 1);
	put(stream, handle);
	put_head(stream, GET_QUERY_RESULT, OBJECT_NONE, 2);
	put(stream, handle);
	put(stream, 0); /* do not wait */
}

void gl_stream_nonsense(struct gl_stream *stream)
{
	put_head(stream, NONSENSE, OBJECT_NONE, 1);
	put(stream, 0);
}

void gl_stream_fill(struct gl_stream *stream, uint32_t res_handle, uint32_t pixel)
{
	const uint32_t surface = 1;

	gl_stream_create_surface(stream, surface, res_handle);
	gl_stream_set_framebuffer(stream, surface);
	gl_stream_clear(stream, pixel);
	gl_stream_destroy_surface(stream, surface);
}
