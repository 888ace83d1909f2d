/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Only in what is built with the address sanitizer: no library is unloaded. What Mesa's driver
 * keeps until the process ends (on some processors the masks of their caches) would be lost with
 * it, and nameless, so that tests/virgl.supp could not leave it out.
 */

#include <dlfcn.h>

int dlclose(void *handle)
{
	(void)handle;
	return 0;
}
