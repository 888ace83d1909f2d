// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors
//
// The triangle's color, and a share of the place's own.
#version 450

layout(push_constant) uniform Triangle {
	vec4 color;
	float turn;
	float size;
	float shade;
} triangle;

layout(location = 0) in vec2 place;
layout(location = 0) out vec4 color;

void main()
{
	color = triangle.color + triangle.shade * vec4(place * 0.5 + 0.5, 0.25, 0.0);
}
