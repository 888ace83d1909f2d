/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Preloaded, for a plugin that does not work: it "fails", "ends" the process or "loses" the fence,
 * whichever VGF_TEST_SUBMIT says. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vgfence/virgl.h>

int vgf_virgl_submit(
	struct vgf_virgl *virgl, const struct vgf_submission *submission, bool *will_retire)
{
	const char *way = getenv("VGF_TEST_SUBMIT");

	if (strcmp(way, "ends") == 0) {
		abort();
	}
	return strcmp(way, "loses") == 0 ? 0 : -EIO;
}
