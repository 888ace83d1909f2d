/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "command_table.h"

#define VIRGL (UINT64_C(1) << VIRTIO_GPU_F_VIRGL)
#define EDID (UINT64_C(1) << VIRTIO_GPU_F_EDID)
#define UUID (UINT64_C(1) << VIRTIO_GPU_F_RESOURCE_UUID)
#define BLOB (UINT64_C(1) << VIRTIO_GPU_F_RESOURCE_BLOB)

#define ASIDE(command, needs, function, may_run_aside)                                             \
	VIRTIO_GPU_CMD_##command, GPU_QUEUE_CONTROL, needs, function, #command, may_run_aside
#define CONTROL(command, needs, function) ASIDE(command, needs, function, NULL)
#define CURSOR(command, needs, function)                                                           \
	VIRTIO_GPU_CMD_##command, GPU_QUEUE_CURSOR, needs, function, #command, cursor_is_free

/* The most frequent first. */
static const struct command commands[] = {
	{ CONTROL(SUBMIT_3D, VIRGL, submit_3d) },
	{ CONTROL(RESOURCE_FLUSH, 0, resource_flush) },
	{ CONTROL(TRANSFER_TO_HOST_2D, 0, transfer_to_host_2d) },
	{ CONTROL(TRANSFER_TO_HOST_3D, VIRGL, transfer_to_host_3d) },
	{ CONTROL(TRANSFER_FROM_HOST_3D, VIRGL, transfer_from_host_3d) },
	{ CONTROL(SET_SCANOUT, 0, set_scanout) },
	{ CONTROL(SET_SCANOUT_BLOB, BLOB, set_scanout_blob) },
	{ CONTROL(RESOURCE_CREATE_2D, 0, resource_create_2d) },
	{ CONTROL(RESOURCE_CREATE_3D, VIRGL, resource_create_3d) },
	{ CONTROL(RESOURCE_CREATE_BLOB, BLOB, resource_create_blob) },
	{ CONTROL(RESOURCE_UNREF, 0, resource_unref) },
	{ CONTROL(RESOURCE_ATTACH_BACKING, 0, resource_attach_backing) },
	{ CONTROL(RESOURCE_DETACH_BACKING, 0, resource_detach_backing) },
	{ CONTROL(RESOURCE_ASSIGN_UUID, UUID, resource_assign_uuid) },
	{ CONTROL(RESOURCE_MAP_BLOB, BLOB, resource_map_blob) },
	{ CONTROL(RESOURCE_UNMAP_BLOB, BLOB, resource_unmap_blob) },
	{ CONTROL(CTX_CREATE, VIRGL, context_create) },
	{ CONTROL(CTX_DESTROY, VIRGL, context_destroy) },
	{ CONTROL(CTX_ATTACH_RESOURCE, VIRGL, context_attach_resource) },
	{ CONTROL(CTX_DETACH_RESOURCE, VIRGL, context_detach_resource) },
	{ ASIDE(GET_DISPLAY_INFO, 0, get_display_info, display_is_free) },
	{ ASIDE(GET_EDID, EDID, get_edid, display_is_free) },
	{ ASIDE(GET_CAPSET_INFO, VIRGL, get_capset_info, capsets_are_free) },
	{ ASIDE(GET_CAPSET, VIRGL, get_capset, capsets_are_free) },
	{ CURSOR(MOVE_CURSOR, 0, move_cursor) },
	{ CURSOR(UPDATE_CURSOR, 0, update_cursor) },
};

const struct command *command_find(uint32_t type, enum gpu_queue queue)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (commands[i].type == type && commands[i].queue == queue) {
			return &commands[i];
		}
	}
	return NULL;
}
