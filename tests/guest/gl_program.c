/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>

#include "gl_program.h"

static GLuint compile(GLenum type, const char *source)
{
	GLuint shader = glCreateShader(type);
	GLint compiled;

	glShaderSource(shader, 1, &source, NULL);
	glCompileShader(shader);
	glGetShaderiv(shader, GL_COMPILE_STATUS, &compiled);
	if (!compiled) {
		errx(1, "a shader does not compile");
	}
	return shader;
}

GLuint gl_program_use(const char *vertex_source, const char *fragment_source)
{
	GLuint program = glCreateProgram(), vertices;
	GLint linked;

	glAttachShader(program, compile(GL_VERTEX_SHADER, vertex_source));
	glAttachShader(program, compile(GL_FRAGMENT_SHADER, fragment_source));
	glLinkProgram(program);
	glGetProgramiv(program, GL_LINK_STATUS, &linked);
	if (!linked) {
		errx(1, "the program does not link");
	}
	glUseProgram(program);
	glGenVertexArrays(1, &vertices);
	glBindVertexArray(vertices);
	return program;
}
