/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VULKAN_GL_H
#define VULKAN_GL_H

#include <stdbool.h>
#include <stdint.h>

/* The third process of vulkan_share.c, which has OpenGL: it looks at the words of each round as at
 * a picture. */
struct gl_share {
	int from, to; /* sockets: whom it waits for, and who waits for it */
	uint32_t num_rounds;
	bool waits; /* else it hands over no fence either */
	/* What the words are when it sees them in a round; called for each, in order. */
	const uint32_t *(*expected)(uint32_t round, void *arg);
	void *arg;
};

bool gl_share_is_built(void);

/* How many rounds were wrong. False if there is no buffer to look at. */
bool gl_share_run(const struct gl_share *share, uint32_t *num_wrong);

#endif
