/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>

/* Puts `count` rows of red, green and blue bytes, from row `y` on, to `rows`. Returns 0, or an
 * error that ends the writing. */
typedef int (*image_read_fn)(void *arg, uint32_t y, uint32_t count, uint8_t *rows);

/* So many rows are read at a time; the last ones may be fewer. */
#define IMAGE_MAX_ROWS 16u

/* Writes a PNG file, which appears, or replaces the one that is there, when it is complete. Returns
 * 0, -ENOMEM, -EINVAL for a size that PNG does not have, -EEXIST if something other than a regular
 * file is there; what reading or writing failed with. */
int image_write(const char *path, uint32_t width, uint32_t height, image_read_fn read, void *arg);

#endif
