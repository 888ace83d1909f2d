/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "real.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SONAME "libvirglrenderer.so.1"

static void *library;
static char library_path[4096];

/* ---- Messages ----------------------------------------------------------------------------- */

static int log_level(void)
{
	static const char *const names[] = { "none", "error", "warning", "debug" };
	static const int levels[] = { -1, VGF_LOG_ERROR, VGF_LOG_WARNING, VGF_LOG_DEBUG };
	const char *wanted = getenv("VGFENCE_LOG");

	for (size_t i = 0; wanted && i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(wanted, names[i]) == 0) {
			return levels[i];
		}
	}
	return VGF_LOG_WARNING;
}

void in_place_log(enum vgf_log_level level, const char *format, ...)
{
	char text[512];
	va_list args;

	if ((int)level > log_level()) {
		return;
	}
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "vgfence: %s\n", text);
}

/* ---- The library -------------------------------------------------------------------------- */

static int missing_function(void)
{
	return -ENOSYS;
}

/* One that has our own function is this library, by another name. */
static void *open_other(const char *name)
{
	void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);

	if (!handle) {
		in_place_log(VGF_LOG_DEBUG, "%s", dlerror());
	} else if (dlsym(handle, "vgf_real_library")) {
		dlclose(handle);
		handle = NULL;
	}
	return handle;
}

static void *open_library(void)
{
	const char *given = getenv("VGFENCE_VIRGLRENDERER");
	void *handle;

	if (given) {
		return open_other(given);
	}
	handle = open_other(SONAME);
	return handle ? handle : open_other(VIRGLRENDERER_DIR "/" SONAME);
}

static void find_path(void)
{
	void *function = dlsym(library, "virgl_renderer_init");
	Dl_info info;

	if (function && dladdr(function, &info) != 0) {
		snprintf(library_path, sizeof(library_path), "%s", info.dli_fname);
	}
}

static void load(void)
{
	unsigned int i = 0;

	library = open_library();
	if (library) {
		find_path();
		in_place_log(VGF_LOG_DEBUG, "in place of %s", library_path);
	} else {
		in_place_log(VGF_LOG_ERROR,
			"there is no " SONAME
			" whose place could be taken: VGFENCE_VIRGLRENDERER can name one");
	}
	for (const char *name = real_names; *name; name += strlen(name) + 1) {
		void *function = library ? dlsym(library, name) : NULL;
		__atomic_store_n(&real_functions[i++],
			function ? function : (void *)missing_function, __ATOMIC_RELEASE);
	}
}

static void load_once(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
}

void *real_find(unsigned int index)
{
	load_once();
	return __atomic_load_n(&real_functions[index], __ATOMIC_ACQUIRE);
}

bool real_has(const char *name)
{
	load_once();
	return library && dlsym(library, name);
}

__attribute__((visibility("default"))) const char *vgf_real_library(void)
{
	load_once();
	return library ? library_path : NULL;
}
