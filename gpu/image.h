/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>

/* Writes rows of red, green and blue bytes to a PNG file, which appears, or replaces the one that
 * is there, when it is complete. Returns 0, -ENOMEM, -EINVAL for a size that PNG does not have,
 * -EEXIST if something other than a regular file is there; what writing failed with. */
int image_write(const char *path, const uint8_t *rows, uint32_t width, uint32_t height);

#endif
