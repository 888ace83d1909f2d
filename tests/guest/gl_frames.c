/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Frames with whatever GL there is: two clients draw, each with a context and an opening of the
 * device of its own, and hand over their buffers with native fences. A compositor waits for these
 * in GL and draws both; its own fence goes back, and the clients wait for it before they draw to
 * the buffer again. Nobody waits on the CPU. Some of the pixels are looked at.
 *
 * usage: gl_frames [FRAMES [DRAWS]]. Prints one JSON object.
 */

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <drm_fourcc.h>
#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <gbm.h>

#include "context.h"
#include "gl_program.h"

enum { SIZE = 512, NUM_CLIENTS = 2, CHECK_EVERY = 10 };

struct side {
	struct gbm_device *gbm;
	EGLDisplay display;
	EGLContext context;
	GLint offset, color; /* of its program */
};

struct client {
	struct side side;
	struct gbm_bo *bo;
	GLuint framebuffer;
	GLuint texture; /* the compositor's, of the client's buffer */
};

static void fail(const char *what)
{
	fprintf(stderr, "gl_frames: %s\n", what);
	exit(1);
}

static void check(int right, const char *what)
{
	if (!right) {
		fail(what);
	}
}

static void make_current(const struct side *side)
{
	check(eglMakeCurrent(side->display, EGL_NO_SURFACE, EGL_NO_SURFACE, side->context),
		"eglMakeCurrent");
}

/* ---- Devices and contexts ------------------------------------------------------------------- */

static const char *vertex_source =
	"#version 140\n"
	"uniform vec2 offset;\n"
	"out vec2 place;\n"
	"void main() {\n"
	"	place = vec2(gl_VertexID & 1, gl_VertexID >> 1);\n"
	"	gl_Position = vec4(place * offset.y + offset.x, 0.0, 1.0);\n"
	"}\n";

/* A client's: work for the GPU that ends in one color. */
static const char *client_source = "#version 140\n"
				   "in vec2 place;\n"
				   "uniform vec4 color;\n"
				   "out vec4 result;\n"
				   "void main() {\n"
				   "	float sum = 0.0;\n"
				   "	for (int i = 0; i < 16; i++)\n"
				   "		sum += fract(place.x * float(i) + sum);\n"
				   "	result = sum > 1000.0 ? vec4(0.0) : color;\n"
				   "}\n";

static const char *compositor_source = "#version 140\n"
				       "in vec2 place;\n"
				       "uniform sampler2D window;\n"
				       "uniform vec4 color;\n"
				       "out vec4 result;\n"
				       "void main() {\n"
				       "	result = texture(window, place) + 0.0 * color;\n"
				       "}\n";

static void side_init(struct side *side, const char *fragment_source)
{
	static const EGLint attributes[] = { EGL_CONTEXT_MAJOR_VERSION, 3,
		EGL_CONTEXT_MINOR_VERSION, 1, EGL_CONTEXT_OPENGL_PROFILE_MASK,
		EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT, EGL_NONE };
	GLuint program;

	side->gbm = gbm_create_device(open_render_node(0));
	check(side->gbm != NULL, "no GBM device");
	side->display = eglGetPlatformDisplayEXT(EGL_PLATFORM_GBM_KHR, side->gbm, NULL);
	check(eglInitialize(side->display, NULL, NULL), "no EGL display");
	check(eglBindAPI(EGL_OPENGL_API), "no OpenGL");
	check(epoxy_has_egl_extension(side->display, "EGL_ANDROID_native_fence_sync"),
		"EGL has no native fences");
	side->context = eglCreateContext(
		side->display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, attributes);
	check(side->context != EGL_NO_CONTEXT, "no GL context");
	make_current(side);
	program = gl_program_use(vertex_source, fragment_source);
	side->offset = glGetUniformLocation(program, "offset");
	side->color = glGetUniformLocation(program, "color");
}

/* ---- Buffers -------------------------------------------------------------------------------- */

/* The buffer as a texture of this side. */
static GLuint import_buffer(const struct side *side, struct gbm_bo *bo)
{
	int dma_buf = gbm_bo_get_fd(bo);
	const EGLint attributes[] = { EGL_WIDTH, SIZE, EGL_HEIGHT, SIZE, EGL_LINUX_DRM_FOURCC_EXT,
		DRM_FORMAT_ARGB8888, EGL_DMA_BUF_PLANE0_FD_EXT, dma_buf,
		EGL_DMA_BUF_PLANE0_OFFSET_EXT, 0, EGL_DMA_BUF_PLANE0_PITCH_EXT,
		(EGLint)gbm_bo_get_stride(bo), EGL_NONE };
	EGLImageKHR image;
	GLuint texture;

	check(dma_buf >= 0, "a buffer cannot be exported");
	image = eglCreateImageKHR(
		side->display, EGL_NO_CONTEXT, EGL_LINUX_DMA_BUF_EXT, NULL, attributes);
	check(image != EGL_NO_IMAGE_KHR, "a buffer cannot be imported");
	close(dma_buf);
	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
	glEGLImageTargetTexture2DOES(GL_TEXTURE_2D, image);
	check(glGetError() == GL_NO_ERROR, "a buffer is no texture");
	return texture;
}

static GLuint make_framebuffer(GLuint texture)
{
	GLuint framebuffer;

	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	check(glCheckFramebufferStatus(GL_FRAMEBUFFER) == GL_FRAMEBUFFER_COMPLETE,
		"the framebuffer is not complete");
	return framebuffer;
}

static void client_init(struct client *client, const struct side *compositor)
{
	side_init(&client->side, client_source);
	client->bo = gbm_bo_create(client->side.gbm, SIZE, SIZE, GBM_FORMAT_ARGB8888,
		GBM_BO_USE_RENDERING | GBM_BO_USE_LINEAR);
	if (client->bo == NULL) {
		client->bo = gbm_bo_create(
			client->side.gbm, SIZE, SIZE, GBM_FORMAT_ARGB8888, GBM_BO_USE_RENDERING);
	}
	check(client->bo != NULL, "no buffer");
	client->framebuffer = make_framebuffer(import_buffer(&client->side, client->bo));
	make_current(compositor);
	client->texture = import_buffer(compositor, client->bo);
}

/* ---- Fences --------------------------------------------------------------------------------- */

/* All that this side has drawn so far. */
static int make_fence(const struct side *side)
{
	EGLSyncKHR sync = eglCreateSyncKHR(side->display, EGL_SYNC_NATIVE_FENCE_ANDROID, NULL);
	int fd;

	check(sync != EGL_NO_SYNC_KHR, "no fence");
	glFlush();
	fd = eglDupNativeFenceFDANDROID(side->display, sync);
	check(fd != EGL_NO_NATIVE_FENCE_FD_ANDROID, "a fence has no descriptor");
	eglDestroySyncKHR(side->display, sync);
	return fd;
}

/* What this side draws from here on waits for it. Takes the descriptor. */
static void wait_for(const struct side *side, int fence_fd)
{
	const EGLint attributes[] = { EGL_SYNC_NATIVE_FENCE_FD_ANDROID, fence_fd, EGL_NONE };
	EGLSyncKHR sync = eglCreateSyncKHR(
		side->display, EGL_SYNC_NATIVE_FENCE_ANDROID, attributes);

	check(sync != EGL_NO_SYNC_KHR, "a fence cannot be imported");
	check(eglWaitSyncKHR(side->display, sync, 0), "eglWaitSyncKHR");
	eglDestroySyncKHR(side->display, sync);
}

/* ---- Frames --------------------------------------------------------------------------------- */

static uint8_t color_of(uint32_t client, uint32_t frame)
{
	return (uint8_t)(frame * 37 + client * 101 + 1);
}

/* Other colors first, over all of it; the last is the frame's. */
static int draw_client(
	struct client *client, uint32_t index, uint32_t frame, uint32_t num_draws, int release_fd)
{
	make_current(&client->side);
	if (release_fd >= 0) {
		wait_for(&client->side, release_fd);
	}
	glBindFramebuffer(GL_FRAMEBUFFER, client->framebuffer);
	glViewport(0, 0, SIZE, SIZE);
	glUniform2f(client->side.offset, -1.0f, 2.0f);
	for (uint32_t i = 0; i < num_draws; i++) {
		bool last = i + 1 == num_draws;
		float value = last ? (float)color_of(index, frame) / 255 : 0;

		glUniform4f(client->side.color, value, value, value, 1);
		glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
	}
	return make_fence(&client->side);
}

static void check_pixels(uint32_t frame)
{
	for (uint32_t i = 0; i < NUM_CLIENTS; i++) {
		uint8_t pixel[4] = { 0 };
		int at = (int)(i == 0 ? SIZE / 4 : SIZE / 4 * 3);

		glReadPixels(at, at, 1, 1, GL_RGBA, GL_UNSIGNED_BYTE, pixel);
		if (pixel[0] != color_of(i, frame)) {
			fprintf(stderr, "gl_frames: frame %u: client %u's pixel is %u and not %u\n",
				frame, i, pixel[0], color_of(i, frame));
			exit(1);
		}
	}
}

/* The first client's window is at the lower left, the other's at the upper right. */
static void compose(const struct side *side, GLuint framebuffer, const struct client *clients,
	const int *fences, int *releases)
{
	make_current(side);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glViewport(0, 0, SIZE, SIZE);
	for (uint32_t i = 0; i < NUM_CLIENTS; i++) {
		wait_for(side, fences[i]);
		glBindTexture(GL_TEXTURE_2D, clients[i].texture);
		glUniform2f(side->offset, i == 0 ? -1.0f : 0.0f, 1.0f);
		glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
	}
	releases[0] = make_fence(side);
	for (uint32_t i = 1; i < NUM_CLIENTS; i++) {
		releases[i] = fcntl(releases[0], F_DUPFD_CLOEXEC, 0);
		check(releases[i] >= 0, "no descriptor is left");
	}
}

/* Of the whole frame. */
static uint64_t checksum_pixels(void)
{
	static uint8_t pixels[SIZE * SIZE * 4];
	uint64_t sum = 0xcbf29ce484222325; /* FNV-1a */

	glReadPixels(0, 0, SIZE, SIZE, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
	for (size_t i = 0; i < sizeof(pixels); i++) {
		sum = (sum ^ pixels[i]) * 0x100000001b3;
	}
	return sum;
}

static GLuint make_screen(void)
{
	GLuint texture;

	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, SIZE, SIZE, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
	return make_framebuffer(texture);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The argument, or a number of our own. */
static uint32_t number(int argc, char **argv, int index, uint32_t otherwise)
{
	return argc > index ? (uint32_t)strtoul(argv[index], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	uint32_t num_frames = number(argc, argv, 1, 60), num_draws = number(argc, argv, 2, 4);
	int fences[NUM_CLIENTS], releases[NUM_CLIENTS] = { -1, -1 };
	struct client clients[NUM_CLIENTS];
	struct side compositor;
	uint32_t num_checked = 0;
	GLuint screen;
	double start, end;

	side_init(&compositor, compositor_source);
	screen = make_screen();
	for (uint32_t i = 0; i < NUM_CLIENTS; i++) {
		client_init(&clients[i], &compositor);
	}
	start = now_s();
	for (uint32_t frame = 0; frame < num_frames; frame++) {
		for (uint32_t i = 0; i < NUM_CLIENTS; i++) {
			fences[i] = draw_client(&clients[i], i, frame, num_draws, releases[i]);
		}
		compose(&compositor, screen, clients, fences, releases);
		if (frame % CHECK_EVERY == 0) {
			check_pixels(frame);
			num_checked++;
		}
	}
	glFinish();
	end = now_s();
	check(num_checked > 0, "no frame was looked at");
	printf("{\"renderer\": \"%s\", \"frames\": %u, \"frames_per_second\": %.1f, "
	       "\"frames_checked\": %u, \"last_frame\": \"%016llx\"}\n",
		(const char *)glGetString(GL_RENDERER), num_frames, num_frames / (end - start),
		num_checked, (unsigned long long)checksum_pixels());
	return 0;
}
