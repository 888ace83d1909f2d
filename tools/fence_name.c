/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vgfence/vgfence.h>

#include "fence_name.h"

static bool parse_number(const char **text, uint64_t max, char end, uint64_t *number)
{
	char *after;

	errno = 0;
	*number = strtoull(*text, &after, 10);
	if (errno != 0 || **text < '0' || **text > '9' || *after != end || *number > max) {
		return false;
	}
	*text = after + (end != '\0');
	return true;
}

bool fence_name_parse(const char *text, struct vgf_fence_name *name)
{
	uint64_t ctx_id, ring = 0;

	if (!parse_number(&text, UINT32_MAX, ':', &ctx_id)) {
		return false;
	}
	name->ctx_id = (uint32_t)ctx_id;
	if (strncmp(text, "global:", 7) == 0 || strncmp(text, "-1:", 3) == 0) {
		name->ring = VGF_RING_GLOBAL;
		text = strchr(text, ':') + 1;
	} else if (parse_number(&text, VGF_MAX_RINGS - 1, ':', &ring)) {
		name->ring = (int32_t)ring;
	} else {
		return false;
	}
	return parse_number(&text, UINT64_MAX, '\0', &name->fence_id);
}

const char *fence_name_text(char text[FENCE_NAME_SIZE], const struct vgf_fence_name *name)
{
	char ring[16] = "global";

	if (name->ring != VGF_RING_GLOBAL) {
		snprintf(ring, sizeof(ring), "%" PRId32, name->ring);
	}
	snprintf(text, FENCE_NAME_SIZE, "%" PRIu32 ":%s:%" PRIu64, name->ctx_id, ring,
		name->fence_id);
	return text;
}
