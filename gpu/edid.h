/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EDID_H
#define EDID_H

#include <stdint.h>

#define EDID_BLOCK_SIZE 128
#define EDID_MAX_SIZE 1024 /* of virtio-gpu */

/*
 * Fills in the EDID of a monitor that prefers a size, 16 to 8192 in each direction: a base block of
 * version 1.4 (VESA E-EDID, release A, revision 2), and DisplayID 1.3 blocks with what that has no
 * room for: the size at up to 240 Hz, and usual ones up to 7680 by 4320. Monitors differ by serial.
 * Returns how many bytes it has.
 */
uint32_t edid_make(uint8_t edid[EDID_MAX_SIZE], uint32_t width, uint32_t height, uint32_t serial);

#endif
