/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef KEYMAP_H
#define KEYMAP_H

#include <stdint.h>

/* The key of a US layout that has a keysym of X, with Shift or without: a KEY_ code of Linux; 0 if
 * there is none. */
uint16_t keymap_find(uint32_t keysym);

#endif
