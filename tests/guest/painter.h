/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PAINTER_H
#define PAINTER_H

/*
 * A context of virgl on a timeline of its own, whose command streams are written here and not by
 * Mesa, which has one timeline for all: what is measured is the device and the kernel, with real
 * work of OpenGL on the host. What fails ends the program.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gl_stream.h"

enum {
	PAINTER_SIZE = 64,         /* of a picture, each way */
	PAINTER_ROW_PIXELS = 1024, /* that the work of a row draws */
	PAINTER_MAX_ROWS = 40 * PAINTER_ROW_PIXELS,
};

struct painter_image {
	uint32_t handle, resource; /* as the kernel and as the host call it */
	uint32_t size;             /* each way */
};

struct painter {
	int fd;
	bool passing;
	struct painter_image picture;
	struct painter_image source, scratch; /* what work is made of */
	struct gl_stream stream;              /* of the next submission */
};

void painter_open(struct painter *painter, bool passing);

/* Another one's picture, to be drawn from. */
struct painter_image painter_import(struct painter *painter, const struct painter *other);

/* What the next submission does. Without anything it does nothing. */
void painter_clear(struct painter *painter, uint8_t value);
void painter_work(struct painter *painter, uint32_t num_rows);
void painter_draw(struct painter *painter, const struct painter_image *image, uint32_t quarter);

/* Takes the in-fence, or -1. Returns the out-fence, a sync file. */
int painter_submit(struct painter *painter, int in_fence_fd);

/* What is in the middle of a quarter of the picture. */
uint8_t painter_look(struct painter *painter, uint32_t quarter);

#endif
