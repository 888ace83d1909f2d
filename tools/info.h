/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef INFO_H
#define INFO_H

/*
 * What vgfence info finds out. Everything is found out by calling it; what could not be called, for
 * want of a device, of permission or of a part that was not built, is not known.
 */

enum info_answer {
	INFO_NO,
	INFO_YES,
	INFO_UNKNOWN,
};

/* The lines, in the order they are printed. */
enum info_item {
	INFO_DRM_NODE,
	INFO_SYNCOBJ,
	INFO_SYNCOBJ_TIMELINE,
	INFO_SYNCOBJ_EVENTFD,
	INFO_UDMABUF,
	INFO_VFIO_DMA_BUF,
	INFO_DMA_HEAP,
	INFO_DMABUF_EXPORT,
	INFO_DMABUF_IMPORT,
	INFO_SW_SYNC,
	INFO_SYNC_FILE,
	INFO_SYNC_FILE_INFO,
	INFO_SET_DEADLINE,
	INFO_DESCRIPTORS,
	INFO_EGL_FENCE,
	INFO_VIRGLRENDERER,
	INFO_VIRGL_NATIVE,
	INFO_VIRGL_VENUS,
	INFO_VIRGL_IN_PLACE,
	NUM_INFO_ITEMS,
};

struct info_line {
	enum info_answer answer;
	char detail[160]; /* what was found, or what stood in the way */
};

struct info {
	struct info_line lines[NUM_INFO_ITEMS];
	int sync_fd;              /* a sync file from whatever had one; negative: none */
	const char *sync_fd_from; /* its origin */
};

void info_set(struct info *info, enum info_item item, enum info_answer answer, const char *format,
	...) __attribute__((format(printf, 4, 5)));

/* The answer that a failed call stands for: no if there is no such thing, unknown if we may not
 * look. The detail begins with `what`. */
void info_set_errno(struct info *info, enum info_item item, int error, const char *what);

/* Keeps a sync file for further questions. Owns fd, and closes it if one is kept already. */
void info_keep_sync_file_take(struct info *info, int fd, const char *from);

/* Probes of a GPU's node: INFO_DRM_NODE to INFO_SYNCOBJ_EVENTFD. */
void info_probe_drm(struct info *info);

/* Probes of buffers without a GPU: INFO_UDMABUF to INFO_DMABUF_IMPORT. */
void info_probe_dmabuf(struct info *info);

/* Probes of virglrenderer, and of EGL as it has it: INFO_EGL_FENCE to INFO_VIRGL_IN_PLACE. */
void info_probe_virgl(struct info *info);

#endif
