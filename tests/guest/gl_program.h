/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GL_PROGRAM_H
#define GL_PROGRAM_H

#include <epoxy/gl.h>

/* A program of GL's in use, with a vertex array that has nothing in it: the vertex shader goes by
 * gl_VertexID. What fails ends the process. */
GLuint gl_program_use(const char *vertex_source, const char *fragment_source);

#endif
