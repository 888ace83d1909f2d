// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors
//
// A triangle about the middle, from the number of the vertex alone.
#version 450

layout(push_constant) uniform Triangle {
	vec4 color;
	float turn;
	float size;
	float shade;
} triangle;

layout(location = 0) out vec2 place;

void main()
{
	float angle = triangle.turn + float(gl_VertexIndex) * 2.0943951;

	place = vec2(cos(angle), sin(angle));
	gl_Position = vec4(place * triangle.size, 0.0, 1.0);
}
