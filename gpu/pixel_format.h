/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PIXEL_FORMAT_H
#define PIXEL_FORMAT_H

/* The formats of pixels that the device knows (VIRTIO_GPU_FORMAT_...), four bytes each. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where red, green and blue are in the four bytes of a pixel. Returns whether the device knows the
 * format. */
bool format_layout(uint32_t format, uint8_t places[3]);

/* DRM's name of a format that the device knows (DRM_FORMAT_...), or 0. */
uint32_t format_to_drm(uint32_t format);

/* Converts pixels in their place to 0xaarrggbb, with 0xff for the alpha of formats that have none.
 * -EOPNOTSUPP for a format that the device does not know. */
int pixels_to_argb(uint32_t *pixels, size_t count, uint32_t format);

#endif
