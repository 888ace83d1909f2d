/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <drm_fourcc.h>
#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <gbm.h>

#include "context.h"
#include "fd_message.h"
#include "gl_program.h"
#include "vulkan_gl.h"

/* A picture of all words, with a pixel for each; as many of them below each other as rounds are
 * read at once. */
enum { SIZE = 64, NUM_TILES = 16 };

static const char *vertex_source = "#version 140\n"
				   "void main() {\n"
				   "	gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) "
				   "* 2.0 - 1.0, 0.0, 1.0);\n"
				   "}\n";

static const char *fragment_source =
	"#version 140\n"
	"uniform sampler2D words;\n"
	"out vec4 word;\n"
	"void main() {\n"
	"	ivec2 place = ivec2(gl_FragCoord.xy);\n"
	"	word = texelFetch(words, ivec2(place.x, place.y & 63), 0);\n"
	"}\n";

static void check(bool right, const char *what)
{
	if (!right) {
		errx(1, "OpenGL: %s", what);
	}
}

static EGLDisplay make_context(void)
{
	static const EGLint attributes[] = { EGL_CONTEXT_MAJOR_VERSION, 3,
		EGL_CONTEXT_MINOR_VERSION, 1, EGL_CONTEXT_OPENGL_PROFILE_MASK,
		EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT, EGL_NONE };
	struct gbm_device *gbm = gbm_create_device(open_render_node(0));
	EGLDisplay display;
	EGLContext context;

	check(gbm != NULL, "no GBM device");
	display = eglGetPlatformDisplayEXT(EGL_PLATFORM_GBM_KHR, gbm, NULL);
	check(eglInitialize(display, NULL, NULL), "no EGL display");
	check(eglBindAPI(EGL_OPENGL_API), "no OpenGL");
	check(epoxy_has_egl_extension(display, "EGL_ANDROID_native_fence_sync"),
		"EGL has no native fences");
	context = eglCreateContext(display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, attributes);
	check(context != EGL_NO_CONTEXT, "no GL context");
	check(eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context), "eglMakeCurrent");
	printf("OpenGL: %s\n", (const char *)glGetString(GL_RENDERER));
	fflush(stdout);
	return display;
}

static void make_target(void)
{
	GLuint texture, framebuffer;

	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, SIZE, SIZE * NUM_TILES, 0, GL_RGBA,
		GL_UNSIGNED_BYTE, NULL);
	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	check(glCheckFramebufferStatus(GL_FRAMEBUFFER) == GL_FRAMEBUFFER_COMPLETE,
		"the framebuffer is not complete");
}

/* The buffer as the texture that is drawn from. Takes the descriptor. */
static void import_words(EGLDisplay display, int dma_buf)
{
	const EGLint attributes[] = { EGL_WIDTH, SIZE, EGL_HEIGHT, SIZE, EGL_LINUX_DRM_FOURCC_EXT,
		DRM_FORMAT_ABGR8888, EGL_DMA_BUF_PLANE0_FD_EXT, dma_buf,
		EGL_DMA_BUF_PLANE0_OFFSET_EXT, 0, EGL_DMA_BUF_PLANE0_PITCH_EXT, SIZE * 4,
		EGL_NONE };
	EGLImageKHR image = eglCreateImageKHR(
		display, EGL_NO_CONTEXT, EGL_LINUX_DMA_BUF_EXT, NULL, attributes);
	GLuint texture;

	check(image != EGL_NO_IMAGE_KHR, "the buffer cannot be imported");
	close(dma_buf);
	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
	glEGLImageTargetTexture2DOES(GL_TEXTURE_2D, image);
	check(glGetError() == GL_NO_ERROR, "the buffer is no texture");
}

/* Takes the descriptor; -1 has signalled. */
static void wait_for(EGLDisplay display, int fence_fd)
{
	const EGLint attributes[] = { EGL_SYNC_NATIVE_FENCE_FD_ANDROID, fence_fd, EGL_NONE };
	EGLSyncKHR sync;

	if (fence_fd < 0) {
		return;
	}
	sync = eglCreateSyncKHR(display, EGL_SYNC_NATIVE_FENCE_ANDROID, attributes);
	check(sync != EGL_NO_SYNC_KHR, "a fence cannot be imported");
	check(eglWaitSyncKHR(display, sync, 0), "eglWaitSyncKHR");
	eglDestroySyncKHR(display, sync);
}

static int make_fence(EGLDisplay display)
{
	EGLSyncKHR sync = eglCreateSyncKHR(display, EGL_SYNC_NATIVE_FENCE_ANDROID, NULL);
	int fd;

	check(sync != EGL_NO_SYNC_KHR, "no fence");
	glFlush();
	fd = eglDupNativeFenceFDANDROID(display, sync);
	check(fd != EGL_NO_NATIVE_FENCE_FD_ANDROID, "a fence has no descriptor");
	eglDestroySyncKHR(display, sync);
	return fd;
}

/* The tiles of these rounds. */
static uint32_t look_at_rounds(const struct gl_share *share, uint32_t first, uint32_t end)
{
	static uint32_t words[NUM_TILES][SIZE * SIZE];
	uint32_t num_wrong = 0;

	glReadPixels(0, 0, SIZE, SIZE * NUM_TILES, GL_RGBA, GL_UNSIGNED_BYTE, words);
	for (uint32_t round = first; round < end; round++) {
		num_wrong += memcmp(words[round % NUM_TILES], share->expected(round, share->arg),
				     sizeof(words[0])) != 0;
	}
	return num_wrong;
}

bool gl_share_is_built(void)
{
	return true;
}

bool gl_share_run(const struct gl_share *share, uint32_t *num_wrong)
{
	uint32_t message, end;
	int dma_buf = fd_message_receive(share->from, &message);
	EGLDisplay display;

	fd_message_send(share->to, message, dma_buf < 0 ? -1 : fcntl(dma_buf, F_DUPFD_CLOEXEC, 0));
	if (dma_buf < 0) {
		return false;
	}
	display = make_context();
	gl_program_use(vertex_source, fragment_source);
	make_target();
	import_words(display, dma_buf);
	*num_wrong = 0;
	for (uint32_t round = 0; round < share->num_rounds; round = end) {
		end = round + NUM_TILES < share->num_rounds ? round + NUM_TILES : share->num_rounds;
		for (uint32_t i = round; i < end; i++) {
			wait_for(display, fd_message_receive(share->from, &message));
			glViewport(0, (GLint)(i % NUM_TILES) * SIZE, SIZE, SIZE);
			glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
			fd_message_send(share->to, i, share->waits ? make_fence(display) : -1);
		}
		*num_wrong += look_at_rounds(share, round, end);
	}
	return true;
}
