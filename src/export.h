/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EXPORT_H
#define EXPORT_H

/* The library is built with hidden visibility: only what is marked can be linked to. */
#define VGF_EXPORT __attribute__((visibility("default")))

#endif
