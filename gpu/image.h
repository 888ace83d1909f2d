/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdint.h>

/* Writes rows of red, green and blue bytes to a PNG file, which appears, or takes the place of the
 * one that is there, when it is whole. Returns 0, -ENOMEM, -EINVAL for a size that PNG does not
 * have, -EEXIST where something is there that is no regular file, or what writing said. */
int image_write(const char *path, const uint8_t *rows, uint32_t width, uint32_t height);

#endif
