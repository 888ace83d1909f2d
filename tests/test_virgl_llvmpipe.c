/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Mesa's OpenGL in software frees fences that its threads still hold: mutex_destroy.h says how.
 * Here these threads are slow with letting go, so that it happens again and again; who frees one
 * waits for them.
 */

#include "mutex_destroy.h"
#include "virgl_vmm.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define RED PIXEL(255, 0, 0, 255)
#define GREEN PIXEL(0, 255, 0, 255)
#define SLOW_US 2000
#define ROUNDS 200
#define PAUSES 8

enum {
	CONTEXT = 1,
	TARGET = 10,
	OTHER = 11,
};

static bool is_llvmpipes(void)
{
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	return strncmp(name, "llvmpipe", strlen("llvmpipe")) == 0;
}

/* It does so once the fence is done, while it holds the mutex. */
__attribute__((visibility("default"))) int pthread_cond_broadcast(pthread_cond_t *condition)
{
	int (*broadcast)(pthread_cond_t * condition);
	int ret;

	*(void **)&broadcast = dlsym(RTLD_NEXT, "pthread_cond_broadcast");
	ret = broadcast(condition);
	if (is_llvmpipes()) {
		usleep(SLOW_US);
	}
	return ret;
}

/* Without a fence of virglrenderer's: its thread would hold llvmpipe's for as long. */
static void fill_both(struct virgl_vmm *vmm)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_fill(&stream, OTHER, GREEN);
	gl_stream_fill(&stream, TARGET, RED);
	assert_int_equal(
		vgf_virgl_submit_cmd(vmm->virgl, stream.words, CONTEXT, (int)stream.count), 0);
}

TEST(a_fence_that_is_held_is_not_freed)
{
	struct virgl_vmm *vmm = virgl_vmm_create(FLAGS_ASYNC, VGF_VIRGL_WAIT_HOST);
	unsigned int waits;

	create_gl_context(vmm, CONTEXT);
	create_texture(vmm, TARGET, CONTEXT, 0);
	create_texture(vmm, OTHER, CONTEXT, 0);
	for (int i = 0; i < ROUNDS; i++) {
		fill_both(vmm);
		usleep(i % PAUSES * SLOW_US / PAUSES);
	}
	assert_int_equal(read_pixel(vmm, CONTEXT, TARGET), RED);
	virgl_vmm_destroy(vmm);
	waits = mutex_destroy_waits();
	print_message("ran: %u fences of OpenGL were waited for\n", waits);
	if (waits == 0) {
		print_message("skipped: OpenGL is not llvmpipe, or has no threads, or is mended\n");
		skip();
	}
}

int main(int argc, char *argv[])
{
	print_renderer();
	return run_registered_tests(argv);
}
