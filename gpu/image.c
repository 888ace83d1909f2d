/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <png.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"

static int write_png(FILE *file, const uint8_t *rows, uint32_t width, uint32_t height)
{
	png_image image = {
		.version = PNG_IMAGE_VERSION,
		.width = width,
		.height = height,
		.format = PNG_FORMAT_RGB,
	};

	errno = 0;
	if (!png_image_write_to_stdio(&image, file, 0, rows, 0, NULL)) {
		return errno != 0 ? -errno : -EINVAL;
	}
	return 0;
}

/* A device must not become a file. */
static bool may_replace(const char *path)
{
	struct stat file;

	return stat(path, &file) < 0 || S_ISREG(file.st_mode);
}

int image_write(const char *path, const uint8_t *rows, uint32_t width, uint32_t height)
{
	char *part;
	FILE *file;
	int ret;

	if (!may_replace(path)) {
		return -EEXIST;
	}
	if (asprintf(&part, "%s.part", path) < 0) {
		return -ENOMEM;
	}
	file = fopen(part, "wbe");
	ret = file != NULL ? write_png(file, rows, width, height) : -errno;
	if (file != NULL && fclose(file) != 0 && ret == 0) {
		ret = -errno;
	}
	if (ret == 0 && rename(part, path) < 0) {
		ret = -errno;
	}
	if (ret < 0 && file != NULL) {
		unlink(part);
	}
	free(part);
	return ret;
}
