/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Libraries that are loaded stay so: a driver of OpenGL that is ended with one guest and started
 * with the next could not be loaded again. */

#include "sandbox_libraries.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LIBRARIES 512

struct names {
	char *name[MAX_LIBRARIES];
	size_t count;
};

/* Not loaded from here: this is called with the loader's lock. The program itself has no name. */
static int add_name(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct names *names = arg;

	(void)size;
	if (info->dlpi_name == NULL || info->dlpi_name[0] != '/') {
		return 0;
	}
	if (names->count == MAX_LIBRARIES) {
		return -E2BIG;
	}
	names->name[names->count] = strdup(info->dlpi_name);
	return names->name[names->count++] != NULL ? 0 : -ENOMEM;
}

int sandbox_keep_libraries(void)
{
	static struct names names;
	int ret = dl_iterate_phdr(add_name, &names);

	for (size_t i = 0; i < names.count; i++) {
		if (ret == 0 && names.name[i] != NULL) {
			/* Referenced for ever, so nobody needs what this returns. */
			(void)dlopen(names.name[i], RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
		}
		free(names.name[i]);
	}
	names.count = 0;
	return ret;
}
