/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Draws one frame with whatever GL there is, and writes it to a file: in the guest with Mesa's
 * driver for virtio-gpu, on the host with the renderer that the device uses. The two must not
 * differ.
 *
 * usage: gl_frame FILE [DRAWS] (a portable pixmap). Prints the renderer's name.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <epoxy/egl.h>
#include <epoxy/gl.h>

#include "gl_program.h"

enum { SIZE = 256, CHECKS = 16, NUM_DRAWS = 8 };

static void fail(const char *what)
{
	fprintf(stderr, "gl_frame: %s\n", what);
	exit(1);
}

/* ---- A context without a window ----------------------------------------------------------- */

static void make_context(void)
{
	static const EGLint attributes[] = { EGL_CONTEXT_MAJOR_VERSION, 3,
		EGL_CONTEXT_MINOR_VERSION, 1, EGL_CONTEXT_OPENGL_PROFILE_MASK,
		EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT, EGL_NONE };
	EGLDisplay display = eglGetPlatformDisplayEXT(
		EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
	EGLContext context;

	if (!eglInitialize(display, NULL, NULL)) {
		fail("no EGL display");
	}
	if (!eglBindAPI(EGL_OPENGL_API)) {
		fail("no OpenGL");
	}
	context = eglCreateContext(display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, attributes);
	if (context == EGL_NO_CONTEXT ||
		!eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context)) {
		fail("no GL context");
	}
}

/* ---- Shaders ------------------------------------------------------------------------------ */

/* A triangle that fills most of the frame, from the number of the vertex alone. */
static const char *vertex_source = "#version 140\n"
				   "out vec2 place;\n"
				   "uniform float turn;\n"
				   "void main() {\n"
				   "	float angle = turn + float(gl_VertexID) * 2.0943951;\n"
				   "	place = vec2(cos(angle), sin(angle));\n"
				   "	gl_Position = vec4(place * 0.9, 0.0, 1.0);\n"
				   "}\n";

static const char *fragment_source = "#version 140\n"
				     "in vec2 place;\n"
				     "out vec4 color;\n"
				     "uniform sampler2D checks;\n"
				     "void main() {\n"
				     "	color = vec4(place * 0.5 + 0.5, 0.25, 0.5) +\n"
				     "		0.25 * texture(checks, place * 0.5 + 0.5);\n"
				     "}\n";

/* ---- The frame ---------------------------------------------------------------------------- */

static void make_target(void)
{
	GLuint texture, framebuffer;

	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, SIZE, SIZE, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE) {
		fail("the framebuffer is not complete");
	}
}

static void make_checks(void)
{
	static uint8_t pixels[CHECKS][CHECKS][4];
	GLuint texture;

	for (unsigned int y = 0; y < CHECKS; y++) {
		for (unsigned int x = 0; x < CHECKS; x++) {
			pixels[y][x][(x + y) % 3] = 255;
			pixels[y][x][3] = 255;
		}
	}
	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexImage2D(
		GL_TEXTURE_2D, 0, GL_RGBA8, CHECKS, CHECKS, 0, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
}

/* Many draws, each over the ones before, so that order shows. */
static void draw(int num_draws)
{
	GLuint program = gl_program_use(vertex_source, fragment_source);

	glViewport(0, 0, SIZE, SIZE);
	glClearColor(0.125f, 0.25f, 0.5f, 1.0f);
	glClear(GL_COLOR_BUFFER_BIT);
	glEnable(GL_BLEND);
	glBlendFunc(GL_SRC_ALPHA, GL_ONE_MINUS_SRC_ALPHA);
	for (int i = 0; i < num_draws; i++) {
		glUniform1f(glGetUniformLocation(program, "turn"), (float)i * 0.3f);
		glDrawArrays(GL_TRIANGLES, 0, 3);
		glFlush();
	}
}

static void write_frame(const char *path)
{
	static uint8_t pixels[SIZE * SIZE * 3];
	FILE *file;

	glPixelStorei(GL_PACK_ALIGNMENT, 1);
	glReadPixels(0, 0, SIZE, SIZE, GL_RGB, GL_UNSIGNED_BYTE, pixels);
	if (glGetError() != GL_NO_ERROR) {
		fail("GL has an error");
	}
	file = fopen(path, "wbe");
	if (!file || fprintf(file, "P6\n%d %d\n255\n", SIZE, SIZE) < 0 ||
		fwrite(pixels, sizeof(pixels), 1, file) != 1 || fclose(file) != 0) {
		fail("the frame cannot be written");
	}
}

int main(int argc, char **argv)
{
	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: gl_frame FILE [DRAWS]\n");
		return 2;
	}
	make_context();
	printf("%s\n", (const char *)glGetString(GL_RENDERER));
	make_target();
	make_checks();
	draw(argc == 3 ? atoi(argv[2]) : NUM_DRAWS);
	write_frame(argv[1]);
	return 0;
}
