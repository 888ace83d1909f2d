/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Frames by Mesa's virpipe, that is by a vtest server, or by whatever else Mesa is told to take
 * (GALLIUM_DRIVER). Each frame draws some triangles whose place follows from its number, so the
 * pixels of the last one are the same whoever draws them rightly. Every frame is waited for, and of
 * each tenth a pixel is read.
 *
 * usage: vtest_frames FRAMES. Prints one line: renderer, frames a second, a hash of the pixels.
 */

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <epoxy/egl.h>
#include <epoxy/gl.h>

#include "gl_program.h"

enum { SIZE = 256, TRIANGLES = 16, READ_EVERY = 10 };

static const char *vertex_source =
	"#version 140\n"
	"uniform float turn;\n"
	"out vec3 color;\n"
	"void main() {\n"
	"	float angle = turn + float(gl_VertexID) * 2.1 + float(gl_InstanceID) * 0.4;\n"
	"	color = vec3(gl_VertexID == 0, gl_VertexID == 1, gl_InstanceID) / vec3(1, 1, 16);\n"
	"	gl_Position = vec4(cos(angle), sin(angle), 0.0, 1.0 + 0.1 * "
	"float(gl_InstanceID));\n"
	"}\n";

static const char *fragment_source = "#version 140\n"
				     "in vec3 color;\n"
				     "out vec4 result;\n"
				     "void main() { result = vec4(color, 1.0); }\n";

static void start(void)
{
	static const EGLint attributes[] = { EGL_CONTEXT_MAJOR_VERSION, 3,
		EGL_CONTEXT_MINOR_VERSION, 1, EGL_NONE };
	EGLDisplay display = eglGetPlatformDisplayEXT(
		EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
	EGLContext context;

	if (!eglInitialize(display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_API)) {
		errx(1, "no EGL display");
	}
	context = eglCreateContext(display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, attributes);
	if (!context || !eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context)) {
		errx(1, "no GL context");
	}
}

static void make_target(void)
{
	GLuint framebuffer, renderbuffer;

	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glGenRenderbuffers(1, &renderbuffer);
	glBindRenderbuffer(GL_RENDERBUFFER, renderbuffer);
	glRenderbufferStorage(GL_RENDERBUFFER, GL_RGBA8, SIZE, SIZE);
	glFramebufferRenderbuffer(
		GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER, renderbuffer);
	glViewport(0, 0, SIZE, SIZE);
	if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE) {
		errx(1, "no framebuffer");
	}
}

static void draw(GLint turn, int frame)
{
	uint8_t pixel[4];

	glClearColor(0.0f, 0.0f, 0.25f, 1.0f);
	glClear(GL_COLOR_BUFFER_BIT);
	glUniform1f(turn, (float)frame * 0.01f);
	glDrawArraysInstanced(GL_TRIANGLES, 0, 3, TRIANGLES);
	glFinish();
	if (frame % READ_EVERY == 0) {
		glReadPixels(SIZE / 2, SIZE / 2, 1, 1, GL_RGBA, GL_UNSIGNED_BYTE, pixel);
	}
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* FNV-1a */
static uint64_t hash_pixels(void)
{
	static uint8_t pixels[SIZE * SIZE * 4];
	uint64_t hash = 0xcbf29ce484222325;

	glReadPixels(0, 0, SIZE, SIZE, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
	for (size_t i = 0; i < sizeof(pixels); i++) {
		hash = (hash ^ pixels[i]) * 0x100000001b3;
	}
	return hash;
}

int main(int argc, char **argv)
{
	int frames = argc == 2 ? atoi(argv[1]) : 0;
	double begin, seconds;
	GLint turn;

	if (frames <= 0) {
		errx(2, "usage: vtest_frames FRAMES");
	}
	start();
	make_target();
	turn = glGetUniformLocation(gl_program_use(vertex_source, fragment_source), "turn");
	draw(turn, 0); /* what is compiled at first use */
	begin = now();
	for (int frame = 1; frame <= frames; frame++) {
		draw(turn, frame);
	}
	seconds = now() - begin;
	printf("%.1f frames/s, pixels %016llx, %s\n", frames / seconds,
		(unsigned long long)hash_pixels(), (const char *)glGetString(GL_RENDERER));
	return glGetError() == GL_NO_ERROR ? 0 : 1;
}
