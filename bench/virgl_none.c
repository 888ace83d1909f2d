/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Built if the plugin is not. */

#include <stdio.h>

#include "bench.h"

int bench_virgl(unsigned int rounds, struct json_object *array)
{
	(void)rounds;
	(void)array;
	fprintf(stderr, "vgfence bench: virgl: skipped, as it was built without virglrenderer\n");
	return 0;
}
