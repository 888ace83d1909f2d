/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EDID_H
#define EDID_H

#include <stdint.h>

#define EDID_SIZE 128

/* Fills in the EDID of a monitor with one mode, of a size that gpu.h allows: a base block of
 * version 1.4 (VESA E-EDID, release A, revision 2). Monitors differ by serial. */
void edid_make(uint8_t edid[EDID_SIZE], uint32_t width, uint32_t height, uint32_t serial);

#endif
