/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SLOW_COLOR_H
#define SLOW_COLOR_H

/* vgfence-slow-compositor is slow with a frame whose first pixel has this color. */
#define SLOW_COLOR 0xc02040u

#endif
