/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* virglrenderer, and EGL as virglrenderer has it: tried in a process of its own, as GL's libraries
 * leave threads and memory behind, and some end the process. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "info.h"

/* A driver that hangs is not waited for longer. */
#define LIMIT_S 20

/* What the other process finds out. */
struct finding {
	int error;
	uint32_t features; /* of a plugin that waits wherever it can */
	bool used;         /* EGL native fences, without being told to */
	int venus_error;
};

static void ignore_fence(void *cookie, uint32_t fence)
{
	(void)cookie;
	(void)fence;
}

#define CAPSET_VENUS 4

/* The first word of the capability set is the version of the protocol. Mesa knows 1, and
 * virglrenderer 0.10 has 0. */
static bool speaks_venus(void)
{
	uint32_t capset[256] = { 0 }, version, size;

	virgl_renderer_get_cap_set(CAPSET_VENUS, &version, &size);
	if (size <= sizeof(capset)) {
		virgl_renderer_fill_caps(CAPSET_VENUS, version, capset);
	}
	return capset[0] != 0;
}

static int get_features(enum vgf_virgl_wait wait, int flags, uint32_t *features)
{
	struct virgl_renderer_callbacks callbacks = { .version = 1, .write_fence = ignore_fence };
	const struct vgf_virgl_options options = { .size = sizeof(options), .wait = wait };
	struct vgf_virgl *virgl;
	int ret = vgf_virgl_init(&callbacks,
		VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS |
			VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB | flags,
		&callbacks, &options, &virgl);

	if (ret == 0) {
		*features = vgf_virgl_get_features(virgl);
		if ((flags & VIRGL_RENDERER_VENUS) && !speaks_venus()) {
			ret = -EOPNOTSUPP;
		}
		vgf_virgl_cleanup(virgl);
	}
	return ret;
}

/* The other process. */
static void find_out(int fd)
{
	struct finding finding = { 0 };
	uint32_t features = 0;
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	dup2(null_fd, STDOUT_FILENO);
	dup2(null_fd, STDERR_FILENO);
	alarm(LIMIT_S);
	finding.error = get_features(VGF_VIRGL_WAIT_GL, 0, &finding.features);
	if (finding.error == 0) {
		finding.error = get_features(VGF_VIRGL_WAIT_AUTO, 0, &features);
	}
	finding.used = features & VGF_VIRGL_EGL_FENCES;
	finding.venus_error = get_features(VGF_VIRGL_WAIT_HOST,
		VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER, &features);
	_exit(write(fd, &finding, sizeof(finding)) == sizeof(finding) ? 0 : 1);
}

static bool ask(struct finding *finding)
{
	int fds[2];
	bool answered;
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return false;
	}
	fflush(stdout);
	child = fork();
	if (child == 0) {
		find_out(fds[1]);
	}
	close(fds[1]);
	answered = child > 0 && read(fds[0], finding, sizeof(*finding)) == sizeof(*finding);
	close(fds[0]);
	if (child > 0) {
		waitpid(child, NULL, 0);
	}
	return answered;
}

static void set_egl(struct info *info, const struct finding *finding)
{
	if (!(finding->features & VGF_VIRGL_OWN_DISPLAY)) {
		info_set(info, INFO_EGL_FENCE, INFO_UNKNOWN, "not probed: built without EGL");
	} else if (!(finding->features & VGF_VIRGL_EGL_FENCES)) {
		info_set(info, INFO_EGL_FENCE, INFO_NO,
			"no EGL_ANDROID_native_fence_sync on virglrenderer's display");
	} else {
		info_set(info, INFO_EGL_FENCE, INFO_YES, "%s",
			finding->used ? "tried on virglrenderer's display" :
					"a software renderer's, so not used unless told to");
	}
}

static const char *yes_or_no(uint32_t features, uint32_t feature)
{
	return features & feature ? "yes" : "no";
}

static void set_native(struct info *info)
{
	uint32_t features = vgf_virgl_get_features(NULL);

	info_set(info, INFO_VIRGL_NATIVE, features & VGF_VIRGL_NATIVE_WAIT ? INFO_YES : INFO_NO,
		"submit_cmd2 %s, attach_fence %s, get_fence_fd %s",
		yes_or_no(features, VGF_VIRGL_SUBMIT_CMD2),
		yes_or_no(features, VGF_VIRGL_ATTACH_FENCE),
		yes_or_no(features, VGF_VIRGL_GET_FENCE_FD));
}

static void set_venus(struct info *info, const struct finding *finding)
{
	if (finding->venus_error == -ENOENT) {
		info_set(info, INFO_VIRGL_VENUS, INFO_NO,
			"virgl_render_server (package virgl-server) does not start, or has no "
			"Venus");
	} else if (finding->venus_error < 0) {
		info_set_errno(
			info, INFO_VIRGL_VENUS, finding->venus_error, "virglrenderer with Venus");
	} else {
		info_set(info, INFO_VIRGL_VENUS, INFO_YES, "the render server makes contexts");
	}
}

/* It has no version to ask for, but a file name. */
static const char *library_name(char path[PATH_MAX])
{
	const char *slash;
	Dl_info library;

	if (dladdr((void *)virgl_renderer_init, &library) == 0 ||
		!realpath(library.dli_fname, path)) {
		return "a library of unknown name";
	}
	slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

#define IN_PLACE_LIBRARY "libvgfence-virglrenderer.so"

/* Where the plugin is. */
static const char *in_place_path(char path[PATH_MAX])
{
	Dl_info library;
	char *slash;

	if (dladdr((void *)vgf_virgl_init, &library) == 0 || !realpath(library.dli_fname, path)) {
		return IN_PLACE_LIBRARY;
	}
	slash = strrchr(path, '/');
	if (!slash || (size_t)(slash - path) + sizeof(IN_PLACE_LIBRARY) >= PATH_MAX) {
		return IN_PLACE_LIBRARY;
	}
	strcpy(slash + 1, IN_PLACE_LIBRARY);
	return path;
}

/* Opened, it looks for the library in whose place it would be. */
static void set_in_place(struct info *info)
{
	char path[PATH_MAX], real_path[PATH_MAX];
	const char *name = in_place_path(path);
	const char *(*real_library)(void) = NULL;
	const char *real = NULL;
	void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);

	if (handle) {
		real_library = (const char *(*)(void))dlsym(handle, "vgf_real_library");
		real = real_library ? real_library() : NULL;
	}
	if (!handle) {
		info_set(info, INFO_VIRGL_IN_PLACE, INFO_NO, "%s",
			access(name, F_OK) < 0 ? IN_PLACE_LIBRARY
				" is not there: it is built for x86-64" :
						 dlerror());
	} else if (!real) {
		info_set(info, INFO_VIRGL_IN_PLACE, INFO_NO,
			IN_PLACE_LIBRARY " finds no libvirglrenderer.so.1");
	} else {
		info_set(info, INFO_VIRGL_IN_PLACE, INFO_YES, IN_PLACE_LIBRARY " finds %s",
			realpath(real, real_path) ? real_path : real);
	}
}

void info_probe_virgl(struct info *info)
{
	struct finding finding;
	char path[PATH_MAX];
	const char *name = library_name(path);

	set_native(info);
	set_in_place(info);
	if (!ask(&finding)) {
		info_set(info, INFO_VIRGLRENDERER, INFO_NO,
			"built with " VIRGLRENDERER_VERSION ", runs with %s, which crashes", name);
		info_set(info, INFO_EGL_FENCE, INFO_UNKNOWN, "virglrenderer does not start");
		info_set(info, INFO_VIRGL_VENUS, INFO_UNKNOWN, "virglrenderer does not start");
	} else if (finding.error < 0) {
		info_set(info, INFO_VIRGLRENDERER, INFO_NO,
			"built with " VIRGLRENDERER_VERSION ", %s does not start: %s", name,
			strerror(-finding.error));
		info_set(info, INFO_EGL_FENCE, INFO_UNKNOWN, "virglrenderer does not start");
		info_set(info, INFO_VIRGL_VENUS, INFO_UNKNOWN, "virglrenderer does not start");
	} else {
		info_set(info, INFO_VIRGLRENDERER, INFO_YES,
			"built with " VIRGLRENDERER_VERSION ", runs with %s", name);
		set_egl(info, &finding);
		set_venus(info, &finding);
	}
}
