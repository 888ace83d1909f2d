/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RENDERER_H
#define RENDERER_H

/*
 * What draws for the device: the software GPU (renderer_soft.c), or virglrenderer by way of the
 * plugin (renderer_virgl.c). With either there may be contexts that draw nothing (cross_domain.c).
 * The device (gpu.c) checks all that only needs the request and its own
 * tables: it never calls a renderer with a resource ID that does not exist.
 *
 * One thread. Errors are negative errno values. A function with a `done` calls it exactly once if
 * it returns 0 (before that) or 1 (later), and not at all if it returns an error, as those of
 * vgfence/virgl.h do.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_gpu.h>
#include <vgfence/vgfence.h>

struct aside;
struct renderer;
struct renderer_clock;

typedef void (*renderer_done)(void *arg, int status);

/* Guest memory behind a resource; the device keeps it until `done` of detach_backing or unref, or
 * until reset or destroy has returned. */
struct renderer_backing {
	struct iovec *iov;
	uint64_t *starts; /* of each in the whole: the sum of the lengths before it */
	uint32_t num_iov;
	uint64_t size;        /* of all */
	bool has_whole_pages; /* each piece but the last is so many times 4096 bytes */
};

/* Of struct virtio_gpu_resource_create_3d, in the host's byte order. */
struct renderer_resource_3d {
	uint32_t target, format, bind, width, height, depth, array_size, last_level, nr_samples,
		flags;
};

struct renderer_transfer {         /* of struct virtio_gpu_transfer_host_3d */
	struct virtio_gpu_box box; /* in the host's byte order */
	uint64_t offset;
	uint32_t level, stride, layer_stride;
};

/* Memory of a blob, in a file. */
struct renderer_map {
	int fd; /* the caller's */
	uint64_t offset;
	uint32_t info; /* how the guest has to map it: VIRTIO_GPU_MAP_CACHE_... */
};

/* Memory of a resource, as a dma-buf. */
struct renderer_dma_buf {
	int fd; /* the caller's */
	uint32_t offset;
	/* How the picture lies in it; not of a blob, which the guest describes. */
	uint32_t drm_format, stride; /* DRM_FORMAT_... */
	uint64_t modifier;
};

struct renderer_ops {
	/* The fences' device: for refusing, statistics, attaching. */
	struct vgf_device *(*get_device)(struct renderer *renderer);

	/* Capability sets, by index; -EINVAL if there is none. In the host's byte order. */
	int (*capset_info)(struct renderer *renderer, uint32_t index,
		struct virtio_gpu_resp_capset_info *info);
	/* Fills in `size` bytes, the capset_max_size of that set. -EINVAL if there is none. */
	int (*capset)(struct renderer *renderer, uint32_t id, uint32_t version, void *data,
		uint32_t size);

	/* serial: the device's number for the context; no other has it, nor ever had. */
	int (*context_create)(struct renderer *renderer, uint32_t ctx_id, uint64_t serial,
		uint32_t context_init, const char *name);
	int (*context_destroy)(struct renderer *renderer, uint32_t ctx_id);

	int (*create_2d)(struct renderer *renderer, uint32_t resource_id, uint32_t format,
		uint32_t width, uint32_t height);
	int (*create_3d)(struct renderer *renderer, uint32_t resource_id,
		const struct renderer_resource_3d *resource);
	/* backing: NULL for a blob of guest memory that gets it later, or of none. */
	int (*create_blob)(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
		uint32_t blob_mem, uint32_t blob_flags, uint64_t blob_id, uint64_t size,
		const struct renderer_backing *backing);
	/* A file with the memory of a blob that is mappable, and not the guest's own. */
	int (*map_blob)(struct renderer *renderer, uint32_t resource_id, struct renderer_map *map);
	int (*unref)(
		struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg);

	int (*attach_backing)(struct renderer *renderer, uint32_t resource_id,
		const struct renderer_backing *backing);
	int (*detach_backing)(
		struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg);

	int (*context_attach)(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id);
	int (*context_detach)(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id);

	/* ctx_id 0: a 2D transfer. */
	int (*transfer_to_host)(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
		const struct renderer_transfer *transfer, renderer_done done, void *arg);
	int (*transfer_from_host)(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
		const struct renderer_transfer *transfer, renderer_done done, void *arg);

	int (*submit)(struct renderer *renderer, const struct vgf_submission *submission,
		bool *will_retire);

	/* The fence of any other command, behind the work of its context. Returns 0 if it will
	 * retire. */
	int (*create_fence)(
		struct renderer *renderer, const struct vgf_fence_name *name, uint32_t flags);

	/* A rectangle of a resource as rows of 4 bytes a pixel, in the format that comes back; for
	 * what a scanout shows. */
	int (*read_pixels)(struct renderer *renderer, uint32_t resource_id,
		const struct virtio_gpu_rect *rect, uint32_t *pixels, uint32_t *format);

	/* Bytes of a blob with memory of the host, for what a scanout shows. NULL if that cannot be
	 * read here. */
	int (*read_blob)(struct renderer *renderer, uint32_t resource_id, uint64_t offset,
		void *data, uint64_t size);

	/* A dma-buf of what read_pixels or read_blob would read, for a display that shows it in
	 * place. -EOPNOTSUPP if there is none for this resource. NULL if there never is. */
	int (*export_dma_buf)(
		struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf);

	/* What a flush of the resource has to wait for. await_resource tells by `done` when all
	 * that the renderer holds back of it has been done; NULL if it holds back nothing.
	 * context_has tells whether a context's work may draw to it, and read_pixels does not wait
	 * for that by itself. serial: of a context, which may be destroyed. */
	int (*await_resource)(
		struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg);
	bool (*context_has)(struct renderer *renderer, uint64_t serial, uint32_t resource_id);

	/* What others have as a dma-buf: exported.h. Whether a context's work may use a resource;
	 * NULL if only the renderer can know, and looks at the fences itself. Whether fences of a
	 * context's work are, or become, sync files; NULL: none. */
	bool (*context_uses)(struct renderer *renderer, uint64_t serial, uint32_t resource_id);
	bool (*has_sync_files)(struct renderer *renderer, uint32_t ctx_id);

	/* Whether a context's command streams may be any number of bytes; NULL: they are words. */
	bool (*takes_bytes)(struct renderer *renderer, uint32_t ctx_id);

	/* Ends what waits for somebody else, who need not come, and would not in a drain. NULL:
	 * nothing does. */
	void (*give_up)(struct renderer *renderer);

	/* Whether work, also without a fence, may still write to the guest's memory; and that none
	 * does any more, once the fences of all others are cancelled. NULL: nobody can know. */
	bool (*is_writing)(struct renderer *renderer);
	void (*stop_writing)(struct renderer *renderer);

	int (*get_fd)(struct renderer *renderer);
	int (*dispatch)(struct renderer *renderer); /* how many fences retired */
	/* Whether dispatch has more to do than to retire fences. Any thread, which has the turn.
	 * NULL: never. */
	bool (*must_dispatch)(struct renderer *renderer);
	/* Frees some of what is not used any more, for a moment. Returns whether there is more of
	 * it. NULL: nothing is left for later. */
	bool (*free_more)(struct renderer *renderer);
	/* Contexts and resources are gone; each fence has retired, and each `done` was called,
	 * before this returns. */
	int (*reset)(struct renderer *renderer);
	void (*destroy)(struct renderer *renderer); /* likewise, whatever is in flight */
};

struct renderer {
	const struct renderer_ops *ops;
};

struct renderer_options {
	/* The DRM node of the GPU to draw with, or NULL: virglrenderer takes none, and draws with
	 * what EGL finds by itself. Not of the software GPU. */
	const char *render_node;
	/* Vulkan too, by Venus: in processes of virglrenderer's render server. Not of the software
	 * GPU. */
	bool vulkan;
	/* The software GPU's fences are the kernel's own, of vgem, which ends one after 10 s, done
	 * or not: for a compositor that waits for them. Only of the software GPU. */
	bool sync_files;
	/* It has a CPU of its own, if there are several, and realtime priority on it: its jobs end
	 * at the microsecond, and nothing else runs there. Only of the software GPU. */
	bool realtime;
	/* Who has its turn while virglrenderer draws, or NULL. Not of the software GPU. */
	struct aside *aside;
	/* Where the renderer's part of the CPU time is counted, or NULL. It has to stay. */
	struct renderer_clock *clock;
};

typedef int (*renderer_create_fn)(const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *options, struct renderer **out);

/* Both call `callbacks` with the cookie, all but write_fence and write_context_fence. options: what
 * they point to has to stay. Return 0 or an error, with nothing to destroy; -EINVAL for a render
 * node of the software GPU; -ENOENT for sync files without vgem, or for Vulkan without a render
 * server; -EOPNOTSUPP with a virglrenderer that is too old for it. */
int renderer_soft_create(const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *options, struct renderer **out);
int renderer_virgl_create(const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *options, struct renderer **out);

#endif
