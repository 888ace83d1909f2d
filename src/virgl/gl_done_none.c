/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Where the plugin is built without EGL. */

#include "gl_done.h"

bool gl_done_can_ask(void)
{
	return false;
}

bool gl_done_ask(void)
{
	return false;
}
