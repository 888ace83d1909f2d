/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DRM_GPU_H
#define DRM_GPU_H

/* Finds the GPU made of software (drm/README.md) by its face, "panfrost" or "msm". */

/* Returns a descriptor, or -ENOENT. */
int open_drm_gpu(const char *face);

/* Skips the test if there is none here. */
int need_drm_gpu(const char *face);

#endif
