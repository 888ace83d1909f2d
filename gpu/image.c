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

struct picture {
	uint32_t width, height;
	image_read_fn read;
	void *arg;
	uint8_t *rows; /* IMAGE_MAX_ROWS of them */
};

static void error(png_structp png, png_const_charp message)
{
	(void)message;
	png_longjmp(png, 1);
}

static void warning(png_structp png, png_const_charp message)
{
	(void)png;
	(void)message;
}

/* May be left by error. */
static int write_rows(png_structp png, const struct picture *picture)
{
	for (uint32_t y = 0, count; y < picture->height; y += count) {
		int ret;

		count = picture->height - y;
		count = count < IMAGE_MAX_ROWS ? count : IMAGE_MAX_ROWS;
		ret = picture->read(picture->arg, y, count, picture->rows);
		if (ret < 0) {
			return ret;
		}
		for (uint32_t i = 0; i < count; i++) {
			png_write_row(png, picture->rows + (size_t)i * picture->width * 3);
		}
	}
	png_write_end(png, NULL);
	return 0;
}

static int write_all(png_structp png, png_infop info, FILE *file, const struct picture *picture)
{
	errno = 0;
	if (setjmp(png_jmpbuf(png)) != 0) {
		return errno != 0 ? -errno : -EINVAL;
	}
	png_init_io(png, file);
	png_set_IHDR(png, info, picture->width, picture->height, 8, PNG_COLOR_TYPE_RGB,
		PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	/* The device waits for this. */
	png_set_compression_level(png, 1);
	png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);
	png_write_info(png, info);
	return write_rows(png, picture);
}

static int write_png(FILE *file, const struct picture *picture)
{
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, error, warning);
	png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
	int ret = info != NULL ? write_all(png, info, file, picture) : -ENOMEM;

	png_destroy_write_struct(&png, &info);
	return ret;
}

/* A device must not become a file. */
static bool may_replace(const char *path)
{
	struct stat file;

	return stat(path, &file) < 0 || S_ISREG(file.st_mode);
}

int image_write(const char *path, uint32_t width, uint32_t height, image_read_fn read, void *arg)
{
	struct picture picture = { .width = width, .height = height, .read = read, .arg = arg };
	char *part;
	FILE *file;
	int ret;

	if (!may_replace(path)) {
		return -EEXIST;
	}
	if (asprintf(&part, "%s.part", path) < 0) {
		return -ENOMEM;
	}
	picture.rows = malloc((size_t)IMAGE_MAX_ROWS * width * 3);
	if (picture.rows == NULL) {
		free(part);
		return -ENOMEM;
	}
	file = fopen(part, "wbe");
	ret = file != NULL ? write_png(file, &picture) : -errno;
	if (file != NULL && fclose(file) != 0 && ret == 0) {
		ret = -errno;
	}
	if (ret == 0 && rename(part, path) < 0) {
		ret = -errno;
	}
	if (ret < 0 && file != NULL) {
		unlink(part);
	}
	free(picture.rows);
	free(part);
	return ret;
}
