// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors
//
// A job that takes as long as its number of steps says. What two jobs make of a word depends on
// which of them was first. See vulkan_steps.h.
#version 450

layout(local_size_x = 64) in;

layout(std430, binding = 0) buffer Words {
	uint words[];
};

layout(push_constant) uniform Job {
	uint number;
	uint steps;
} job;

void main()
{
	uint index = gl_GlobalInvocationID.x;
	uint word = words[index];
	uint increment = 1013904223u + job.number * 2654435769u + index;

	for (uint i = 0; i < job.steps; i++) {
		word = word * 1664525u + increment;
	}
	words[index] = word;
}
