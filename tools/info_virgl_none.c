/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Built if the virglrenderer plugin is not. */

#include "info.h"

void info_probe_virgl(struct info *info)
{
	info_set(info, INFO_EGL_FENCE, INFO_UNKNOWN, "not probed: built without virglrenderer");
	info_set(info, INFO_VIRGLRENDERER, INFO_UNKNOWN, "not probed: built without it");
	info_set(info, INFO_VIRGL_NATIVE, INFO_UNKNOWN, "not probed");
	info_set(info, INFO_VIRGL_VENUS, INFO_UNKNOWN, "not probed");
	info_set(info, INFO_VIRGL_IN_PLACE, INFO_NO, "built without virglrenderer");
}
