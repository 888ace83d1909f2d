/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>

#include "vulkan_gl.h"

bool gl_share_is_built(void)
{
	return false;
}

bool gl_share_run(const struct gl_share *share, uint32_t *num_wrong)
{
	errx(1, "it was built without OpenGL");
}
