/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VULKAN_COMMANDS_H
#define VULKAN_COMMANDS_H

#include <stdbool.h>
#include <stdint.h>

struct vulkan_options {
	const char *driver;  /* or NULL: any */
	const char *picture; /* a file to write, or NULL */
	uint32_t rounds;     /* 0: the command's own number */
	uint32_t steps;      /* of a long job; 0: the command's own number */
	bool no_wait;        /* the control: what comes out wrong is right */
	bool gl;             /* share: a third process, with OpenGL */
};

/* They report what they find. */
void vulkan_compute(const struct vulkan_options *options);
void vulkan_draw(const struct vulkan_options *options);
void vulkan_timeline(const struct vulkan_options *options);
void vulkan_share(const struct vulkan_options *options);

#endif
