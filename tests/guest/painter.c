/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xf86drm.h>

#include "context.h"
#include "painter.h"

/* Of Gallium. */
enum {
	TEXTURE_2D = 2,
	BIND_RENDER_TARGET = 1 << 1,
	BIND_SAMPLER_VIEW = 1 << 3,
};

enum {
	SURFACE = 1, /* what we call it: of the picture */
	SOURCE_SIZE = 64,
};

/* ---- Command streams ---------------------------------------------------------------------- */

static void draw(struct painter *painter, const struct painter_image *to,
	const struct gl_stream_rect *rect, const struct painter_image *from)
{
	gl_stream_draw(
		&painter->stream, to->resource, rect, from->resource, from->size, from->size);
}

static struct gl_stream_rect quarter_of(const struct painter_image *image, uint32_t quarter)
{
	uint32_t half = image->size / 2;

	return (struct gl_stream_rect){ quarter % 2 * half, quarter / 2 * half, half, half };
}

void painter_clear(struct painter *painter, uint8_t value)
{
	gl_stream_set_framebuffer(&painter->stream, SURFACE);
	gl_stream_clear(&painter->stream, PIXEL(value, value, value, value));
}

/* The source's size is another one: what would only be copied costs the host's loop, not its GL. */
void painter_work(struct painter *painter, uint32_t num_rows)
{
	struct gl_stream_rect rect = { .width = PAINTER_ROW_PIXELS };

	while (num_rows > 0) {
		rect.height = num_rows < PAINTER_ROW_PIXELS ? num_rows : PAINTER_ROW_PIXELS;
		draw(painter, &painter->scratch, &rect, &painter->source);
		num_rows -= rect.height;
	}
}

void painter_draw(struct painter *painter, const struct painter_image *image, uint32_t quarter)
{
	struct gl_stream_rect rect = quarter_of(&painter->picture, quarter);

	draw(painter, &painter->picture, &rect, image);
}

int painter_submit(struct painter *painter, int in_fence_fd)
{
	struct uapi_execbuffer exec = {
		.flags = UAPI_EXEC_RING_IDX | UAPI_EXEC_FENCE_FD_OUT,
		.command = (uintptr_t)painter->stream.words,
		.fence_fd = in_fence_fd,
	};

	if (painter->stream.count == 0) {
		gl_stream_nop(&painter->stream);
	}
	exec.size = (uint32_t)(painter->stream.count * sizeof(painter->stream.words[0]));
	exec.flags |= painter->passing ? UAPI_EXEC_SHARED_FENCE : 0;
	exec.flags |= in_fence_fd >= 0 ? UAPI_EXEC_FENCE_FD_IN : 0;
	if (drmIoctl(painter->fd, UAPI_IOCTL_EXECBUFFER, &exec) < 0) {
		err(1, "submitting to virgl");
	}
	if (in_fence_fd >= 0) {
		close(in_fence_fd);
	}
	gl_stream_begin(&painter->stream);
	return exec.fence_fd;
}

/* ---- Images ------------------------------------------------------------------------------- */

static struct painter_image make_image(int fd, uint32_t size)
{
	struct uapi_resource_3d resource = {
		.target = TEXTURE_2D,
		.format = GL_STREAM_FORMAT,
		.bind = BIND_RENDER_TARGET | BIND_SAMPLER_VIEW,
		.width = size,
		.height = size,
		.depth = 1,
		.array_size = 1,
		.size = size * size * 4,
		.stride = size * 4,
	};

	if (drmIoctl(fd, UAPI_IOCTL_RESOURCE_3D, &resource) < 0) {
		err(1, "making an image of %u by %u", size, size);
	}
	return (struct painter_image){ resource.bo_handle, resource.res_handle, size };
}

struct painter_image painter_import(struct painter *painter, const struct painter *other)
{
	struct painter_image image = other->picture;
	int dma_buf;

	if (drmPrimeHandleToFD(other->fd, image.handle, DRM_CLOEXEC, &dma_buf) < 0 ||
		drmPrimeFDToHandle(painter->fd, dma_buf, &image.handle) < 0) {
		err(1, "sharing an image");
	}
	close(dma_buf);
	return image;
}

/* The guest's memory behind the picture, with what the host has. */
static void *read_picture(struct painter *painter, uint32_t size)
{
	const struct painter_image *image = &painter->picture;
	struct uapi_transfer transfer = {
		.bo_handle = image->handle, .width = image->size, .height = image->size, .depth = 1
	};
	struct uapi_wait wait = { .handle = image->handle };
	struct uapi_map map = { .handle = image->handle };
	void *pixels;

	if (drmIoctl(painter->fd, UAPI_IOCTL_FROM_HOST, &transfer) < 0 ||
		drmIoctl(painter->fd, UAPI_IOCTL_WAIT, &wait) < 0 ||
		drmIoctl(painter->fd, UAPI_IOCTL_MAP, &map) < 0) {
		err(1, "reading an image");
	}
	pixels = mmap(NULL, size, PROT_READ, MAP_SHARED, painter->fd, (off_t)map.offset);
	if (pixels == MAP_FAILED) {
		err(1, "mapping an image");
	}
	return pixels;
}

uint8_t painter_look(struct painter *painter, uint32_t quarter)
{
	const struct painter_image *image = &painter->picture;
	struct gl_stream_rect rect = quarter_of(image, quarter);
	uint32_t size = image->size * image->size * 4;
	uint32_t at = (rect.y + rect.height / 2) * image->size + rect.x + rect.width / 2;
	uint8_t *pixels = read_picture(painter, size);
	uint8_t value = pixels[(size_t)at * 4];

	munmap(pixels, size);
	return value;
}

/* ---- The context -------------------------------------------------------------------------- */

void painter_open(struct painter *painter, bool passing)
{
	int ret;

	memset(painter, 0, sizeof(*painter));
	painter->fd = open_render_node(0);
	painter->passing = passing;
	ret = context_init(painter->fd, CAPSET_VIRGL2, 1, passing);
	if (ret < 0) {
		errx(1, "making a context of virgl: %s", strerror(-ret));
	}
	painter->picture = make_image(painter->fd, PAINTER_SIZE);
	painter->source = make_image(painter->fd, SOURCE_SIZE);
	painter->scratch = make_image(painter->fd, PAINTER_ROW_PIXELS);
	gl_stream_create_surface(&painter->stream, SURFACE, painter->picture.resource);
	painter_clear(painter, 0);
	close(painter_submit(painter, -1));
}
