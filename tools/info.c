/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence info: what this host can do, and what a missing thing costs. */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vgfence/sync_file.h>
#include <vgfence/vgfence.h>

#include "commands.h"
#include "info.h"

/* As many requests can be in flight on a guest's control queue: the default size of a virtqueue. */
#define FULL_QUEUE 256

static const struct {
	const char *key, *name;
	const char *with, *without; /* what follows for the user */
} items[NUM_INFO_ITEMS] = {
	[INFO_DRM_NODE] = { "drm_node", "GPU node", "buffers and fences can come from it",
		"only software renderers" },
	[INFO_SYNCOBJ] = { "syncobj", "DRM syncobj", "its driver's fences become sync files",
		"fences cannot be exchanged with Vulkan and native contexts" },
	[INFO_SYNCOBJ_TIMELINE] = { "syncobj_timeline", "  timeline points",
		"a point can stand for a fence", "each fence needs a syncobj of its own" },
	[INFO_SYNCOBJ_EVENTFD] = { "syncobj_eventfd", "  wait by eventfd",
		"a point can be waited for before its work is submitted",
		"a point whose work is not submitted yet cannot wake a loop" },
	[INFO_UDMABUF] = { "udmabuf", "udmabuf", "guest memory can be shared without a copy",
		"guest memory is copied for display; llvmpipe has no EGL native fences" },
	[INFO_VFIO_DMA_BUF] = { "vfio_dma_buf", "VFIO dma-buf",
		"memory of a front end's device can be shared without a copy",
		"memory of a front end's device is copied" },
	[INFO_DMA_HEAP] = { "dma_heap", "system dma-heap", "dma-bufs without a GPU",
		"dma-bufs come from a GPU node or udmabuf only" },
	[INFO_DMABUF_EXPORT] = { "dmabuf_export", "dma-buf to sync file",
		"what a buffer waits for can be an in-fence",
		"a buffer's implicit fences cannot be passed on" },
	[INFO_DMABUF_IMPORT] = { "dmabuf_import", "sync file to dma-buf",
		"out-fences reach consumers of a buffer that know no explicit sync",
		"consumers that know no explicit sync must be waited for on the host" },
	[INFO_SW_SYNC] = { "sw_sync", "sw_sync", "tests can signal sync files as they like",
		"tests use eventfds or vgem instead; nothing else is lost" },
	[INFO_SYNC_FILE] = { "sync_file", "sync files", "GPU drivers can wait for in-fences",
		"fences are eventfds or calls: a dependency costs a wake-up on the host" },
	[INFO_SYNC_FILE_INFO] = { "sync_file_info", "  status and names",
		"fences that failed and fences that stall are told by name",
		"a failed fence looks like a good one" },
	[INFO_SET_DEADLINE] = { "set_deadline", "  deadlines",
		"the GPU's clock can be told by when a frame is needed",
		"the GPU's clock may speed up late; nothing else is lost" },
	[INFO_DESCRIPTORS] = { "descriptors", "descriptors", "enough for a full queue of fences",
		"work waits for descriptors to be closed: raise the limit" },
	[INFO_EGL_FENCE] = { "egl_native_fence", "EGL native fences", "the GL server can wait",
		"OpenGL contexts wait for each other by sync objects, for all else on the host" },
	[INFO_VIRGLRENDERER] = { "virglrenderer", "virglrenderer", "it can run contexts",
		"only drivers of the VMM's own" },
	[INFO_VIRGL_NATIVE] = { "virgl_native", "  native contexts",
		"they wait in the GPU's driver", "they wait on the host" },
	[INFO_VIRGL_VENUS] = { "virgl_venus", "  Venus", "guests can have Vulkan",
		"guests have no Vulkan of this host's" },
	[INFO_VIRGL_IN_PLACE] = { "virgl_in_place", "  in its place",
		"LD_PRELOAD of it puts vgfence into a VMM nobody rebuilt",
		"a VMM has to be built with vgfence" },
};

static const char *const answers[] = {
	[INFO_NO] = "no",
	[INFO_YES] = "yes",
	[INFO_UNKNOWN] = "unknown",
};

void info_set(
	struct info *info, enum info_item item, enum info_answer answer, const char *format, ...)
{
	struct info_line *line = &info->lines[item];
	va_list args;

	va_start(args, format);
	line->answer = answer;
	vsnprintf(line->detail, sizeof(line->detail), format, args);
	va_end(args);
}

void info_set_errno(struct info *info, enum info_item item, int error, const char *what)
{
	bool absent = error == -ENOENT || error == -ENXIO || error == -ENODEV || error == -ENOTTY ||
		error == -EINVAL || error == -EOPNOTSUPP || error == -ENOSYS;

	info_set(info, item, absent ? INFO_NO : INFO_UNKNOWN, "%s: %s", what, strerror(-error));
}

void info_keep_sync_file_take(struct info *info, int fd, const char *from)
{
	if (info->sync_fd >= 0) {
		close(fd);
		return;
	}
	info->sync_fd = fd;
	info->sync_fd_from = from;
}

static void probe_sw_sync(struct info *info)
{
	/* The kernel's header for it is not installed: it is a debugging aid. */
	struct {
		uint32_t value;
		char name[32];
		int32_t fence;
	} request = { .value = 1, .name = "vgfence", .fence = -1 };
	const unsigned long create_fence = _IOWR('W', 0, request);
	const char *path = "/sys/kernel/debug/sync/sw_sync";

	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		info_set_errno(info, INFO_SW_SYNC, -errno, path);
		return;
	}
	if (ioctl(fd, create_fence, &request) < 0) {
		info_set_errno(info, INFO_SW_SYNC, -errno, path);
	} else {
		info_set(info, INFO_SW_SYNC, INFO_YES, "%s", path);
		info_keep_sync_file_take(info, request.fence, "sw_sync");
	}
	close(fd);
}

/* What can be asked only of a sync file that some other probe brought. */
static void probe_sync_file(struct info *info)
{
	if (info->sync_fd < 0) {
		info_set(info, INFO_SYNC_FILE, INFO_NO, "nothing here that makes one");
		info_set(info, INFO_SYNC_FILE_INFO, INFO_UNKNOWN, "no sync file to ask");
		info_set(info, INFO_SET_DEADLINE, INFO_UNKNOWN, "no sync file to ask");
		return;
	}
	info_set(info, INFO_SYNC_FILE, INFO_YES, "one came from %s", info->sync_fd_from);

	struct vgf_sync_file_fence fence = { .status = 0 };
	int count = vgf_sync_file_info(info->sync_fd, &fence, 1);
	if (count < 0) {
		info_set_errno(info, INFO_SYNC_FILE_INFO, count, "SYNC_IOC_FILE_INFO");
	} else {
		info_set(info, INFO_SYNC_FILE_INFO, INFO_YES, "this one's driver is \"%s\"",
			fence.driver);
	}
	int error = vgf_sync_file_set_deadline(info->sync_fd, 1);
	if (error < 0) {
		info_set_errno(info, INFO_SET_DEADLINE, error, "SYNC_IOC_SET_DEADLINE");
	} else {
		info_set(info, INFO_SET_DEADLINE, INFO_YES, "SYNC_IOC_SET_DEADLINE");
	}
}

static void probe_descriptors(struct info *info)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
		info_set_errno(info, INFO_DESCRIPTORS, -errno, "RLIMIT_NOFILE");
		return;
	}
	rlim_t fences = limit.rlim_cur / 2; /* vgf_limits.max_fds by default */
	info_set(info, INFO_DESCRIPTORS, fences >= FULL_QUEUE ? INFO_YES : INFO_NO,
		"%llu of at most %llu, half of them for fences", (unsigned long long)limit.rlim_cur,
		(unsigned long long)limit.rlim_max);
}

static void probe(struct info *info)
{
	*info = (struct info){ .sync_fd = -1 };
	info_probe_drm(info);
	info_probe_dmabuf(info);
	probe_sw_sync(info);
	probe_sync_file(info);
	probe_descriptors(info);
	info_probe_virgl(info);
	if (info->sync_fd >= 0) {
		close(info->sync_fd);
		info->sync_fd = -1;
	}
}

static const char *consequence(const struct info *info, int item)
{
	return info->lines[item].answer == INFO_YES ? items[item].with : items[item].without;
}

static void print_table(const struct info *info, const struct utsname *host)
{
	printf("vgfence %s on %s %s, %s\n\n", vgf_version(), host->sysname, host->release,
		host->machine);
	for (int i = 0; i < NUM_INFO_ITEMS; i++) {
		const struct info_line *line = &info->lines[i];
		printf("%-21s %-8s %s; %s%s\n", items[i].name, answers[line->answer], line->detail,
			line->answer == INFO_UNKNOWN ? "if missing: " : "", consequence(info, i));
	}
}

static void print_json(const struct info *info, const struct utsname *host)
{
	struct json_object *all = json_object_new_object();
	struct json_object *features = json_object_new_array();

	json_object_object_add(all, "vgfence", json_object_new_string(vgf_version()));
	json_object_object_add(all, "system", json_object_new_string(host->sysname));
	json_object_object_add(all, "release", json_object_new_string(host->release));
	json_object_object_add(all, "machine", json_object_new_string(host->machine));
	for (int i = 0; i < NUM_INFO_ITEMS; i++) {
		const struct info_line *line = &info->lines[i];
		struct json_object *feature = json_object_new_object();
		json_object_object_add(feature, "name", json_object_new_string(items[i].key));
		json_object_object_add(
			feature, "answer", json_object_new_string(answers[line->answer]));
		json_object_object_add(feature, "detail", json_object_new_string(line->detail));
		json_object_object_add(
			feature, "consequence", json_object_new_string(consequence(info, i)));
		json_object_array_add(features, feature);
	}
	json_object_object_add(all, "features", features);
	puts(json_object_to_json_string_ext(all,
		JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
			JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(all);
}

static int usage(FILE *out)
{
	fputs("usage: vgfence info [--json]\n"
	      "\n"
	      "Tries what this host can do, and says what each thing that is missing costs.\n"
	      "\n"
	      "  --json  print an object instead of the table\n",
		out);
	return out == stdout ? EXIT_SUCCESS : 2;
}

int info_main(int argc, char **argv)
{
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			return usage(stdout);
		} else if (strcmp(argv[i], "--json") == 0) {
			json = true;
		} else {
			return usage(stderr);
		}
	}
	struct info info;
	struct utsname host;
	probe(&info);
	if (uname(&host) < 0) {
		perror("vgfence info: uname");
		return EXIT_FAILURE;
	}
	if (json) {
		print_json(&info, &host);
	} else {
		print_table(&info, &host);
	}
	return EXIT_SUCCESS;
}
