/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence gpu: a GPU for a guest, behind a vhost-user socket. */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "display_wayland.h"
#include "gpu_end.h"
#include "gpu_log.h"
#include "renderer_clock.h"
#include "sandbox.h"
#include "server.h"
#include "udmabuf.h"
#include "vhost_user.h"

static const char usage[] = "usage: vgfence gpu --socket-path=PATH [OPTION...] (--help for more)\n";

static const char help[] =
	"\n"
	"A GPU for a virtual machine, in a process of its own: a virtio-gpu device behind a\n"
	"vhost-user socket. It serves one virtual machine at a time, and the next one when that\n"
	"has left. With QEMU, if the guest's memory is shared (docs/gpu.md has all of it):\n"
	"\n"
	"    -chardev socket,id=gpu,path=PATH -device vhost-user-gpu-pci,chardev=gpu\n"
	"\n"
	"  --socket-path=PATH, --socket=PATH\n"
	"                    where to listen\n"
	"  --fd=N            instead: descriptor N is the connection to a front end; it ends with\n"
	"                    that\n"
	"  --print-capabilities\n"
	"                    say what management software asks for, and exit\n"
	"  --renderer=soft   a GPU in software, for tests: the guest's 2D graphics work, and jobs\n"
	"                    take as long as they say, but draw nothing (default)\n"
	"  --renderer=virgl, --virgl\n"
	"                    OpenGL of this host, by virglrenderer\n"
	"  --render-node=PATH\n"
	"                    with virgl: the GPU to draw with, such as /dev/dri/renderD128\n"
	"  --vulkan          with virgl: Vulkan as well, by Venus, in processes of "
	"virglrenderer's\n"
	"                    render server (virgl_render_server)\n"
	"  --realtime        with soft: jobs end at the microsecond, by a thread that has a "
	"processor\n"
	"                    for itself, with realtime priority if that is allowed\n"
	"  --sync-files      with soft: fences are sync files, of the kernel's vgem, which end "
	"after\n"
	"                    10 s; so programs of the host can wait for what the guest draws\n"
	"  --fence-passing-bit=N|off\n"
	"                    offer fence passing as feature bit N, which the guest's driver must\n"
	"                    expect: take 23. Off by default, as the feature has no number of its\n"
	"                    own: bit 5, which the first drivers used, now means BLOB_ALIGNMENT\n"
	"  --hostmem=SIZE    a window into memory of the host, which Vulkan needs: a power of "
	"two,\n"
	"                    such as 256M, or off; the front end must offer shared memory (SHMEM,\n"
	"                    as QEMU 11.1's vhost-user-test-device does). By default 256M with\n"
	"                    virgl, and off with soft\n"
	"  --scanouts=N      number of monitors, 0 to 16 (default 1); 0 for rendering alone\n"
	"  --size=WxH        size that the monitors prefer (default 1280x800)\n"
	"  --display=wayland[=SOCKET]\n"
	"                    show each monitor in a window of the Wayland compositor at SOCKET,\n"
	"                    a name or a path (default: as WAYLAND_DISPLAY says)\n"
	"  --display=vnc[=ADDRESS]\n"
	"                    show the first monitor to VNC clients, without a password: at\n"
	"                    unix:PATH, or localhost:N, which is port 5900 + N of this machine\n"
	"                    alone (default localhost:0)\n"
	"  --display=none    neither, which is the default\n"
	"  --wayland-socket=PATH\n"
	"                    let guests' programs reach the Wayland compositor there, by\n"
	"                    cross-domain contexts: sommelier, wayland-proxy-virtwl, muvm\n"
	"  --control=PATH    listen there for 'vgfence top' and 'vgfence control', of the same\n"
	"                    user: what the device does, what hangs (docs/observing.md)\n"
	"  --input=PATH      listen there for a second device, a virtio-input keyboard and\n"
	"                    pointer, of the windows or VNC clients that --display has\n"
	"  --front-end-dma-bufs\n"
	"                    give the front end's display dma-bufs instead of copies; for one\n"
	"                    that draws with a GPU, as none says that it cannot show them\n"
	"  --display-ceiling=MS\n"
	"                    how long the guest waits for a display that does not say that it\n"
	"                    shows a frame, or that it has released a buffer (default 500)\n"
	"  --record=FILE     write all requests and responses to a trace, for 'vgfence replay';\n"
	"                    up to 1 GiB\n"
	"  --trace=FILE      write what happens to fences: when each is\n"
	"                    accepted, held back, run, signalled and retired; up to 1 GiB\n"
	"  --screenshot=FILE\n"
	"                    write what the first monitor shows to a PNG file, on SIGUSR1 and at\n"
	"                    the end\n"
	"  --drain-ms=N      how many milliseconds stopping a queue waits for OpenGL, and then\n"
	"                    for work in flight (default 5000); what is left is cancelled\n"
	"  --sandbox, --sandbox=on|off\n"
	"                    once it has started, open no file, connect to nobody and start no\n"
	"                    process, whatever a guest makes of it; not with --vulkan,\n"
	"                    --wayland-socket or --screenshot (docs/sandbox.md)\n"
	"  --stats           print what there was to do, after each virtual machine and\n"
	"                    at the end\n"
	"\n"
	"SIGINT and SIGTERM end it, within a second.\n";

/* As many as the limits of a guest's fences and blobs come to. */
#define MAX_DESCRIPTORS 262144

#define DEFAULT_HOSTMEM (UINT64_C(256) << 20)

struct options {
	struct gpu_server_options server;
	renderer_create_fn create_renderer;
	const char *screenshot;
	bool hostmem_named;
	bool stats;
	struct renderer_clock clock; /* with stats */
	bool sandbox;
};

enum option_id {
	OPTION_SOCKET,
	OPTION_FD,
	OPTION_RENDERER,
	OPTION_VIRGL,
	OPTION_RENDER_NODE,
	OPTION_VULKAN,
	OPTION_REALTIME,
	OPTION_SYNC_FILES,
	OPTION_DRAIN,
	OPTION_BIT,
	OPTION_HOSTMEM,
	OPTION_SCANOUTS,
	OPTION_SIZE,
	OPTION_DISPLAY,
	OPTION_CEILING,
	OPTION_FRONT_END_DMA_BUFS,
	OPTION_WAYLAND_SOCKET,
	OPTION_CONTROL,
	OPTION_INPUT,
	OPTION_RECORD,
	OPTION_TRACE,
	OPTION_SCREENSHOT,
	OPTION_STATS,
	OPTION_SANDBOX,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, OPTION_SOCKET },
	{ "socket-path", required_argument, NULL, OPTION_SOCKET },
	{ "fd", required_argument, NULL, OPTION_FD },
	{ "virgl", no_argument, NULL, OPTION_VIRGL },
	{ "render-node", required_argument, NULL, OPTION_RENDER_NODE },
	{ "vulkan", no_argument, NULL, OPTION_VULKAN },
	{ "realtime", no_argument, NULL, OPTION_REALTIME },
	{ "sync-files", no_argument, NULL, OPTION_SYNC_FILES },
	{ "drain-ms", required_argument, NULL, OPTION_DRAIN },
	{ "renderer", required_argument, NULL, OPTION_RENDERER },
	{ "fence-passing-bit", required_argument, NULL, OPTION_BIT },
	{ "hostmem", required_argument, NULL, OPTION_HOSTMEM },
	{ "scanouts", required_argument, NULL, OPTION_SCANOUTS },
	{ "size", required_argument, NULL, OPTION_SIZE },
	{ "display", required_argument, NULL, OPTION_DISPLAY },
	{ "display-ceiling", required_argument, NULL, OPTION_CEILING },
	{ "front-end-dma-bufs", no_argument, NULL, OPTION_FRONT_END_DMA_BUFS },
	{ "wayland-socket", required_argument, NULL, OPTION_WAYLAND_SOCKET },
	{ "control", required_argument, NULL, OPTION_CONTROL },
	{ "input", required_argument, NULL, OPTION_INPUT },
	{ "record", required_argument, NULL, OPTION_RECORD },
	{ "trace", required_argument, NULL, OPTION_TRACE },
	{ "screenshot", required_argument, NULL, OPTION_SCREENSHOT },
	{ "stats", no_argument, NULL, OPTION_STATS },
	{ "sandbox", optional_argument, NULL, OPTION_SANDBOX },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

/* ---- Options -------------------------------------------------------------------------------- */

static void bad_usage(const char *message)
{
	fprintf(stderr, "vgfence gpu: %s\n%s", message, usage);
	exit(2);
}

/* Returns -1 if it is no number up to max, or `end` does not follow it. */
static long parse_number(const char **text, long max, char end)
{
	char *after;
	long number;

	errno = 0;
	number = strtol(*text, &after, 10);
	if (errno != 0 || after == *text || *after != end || number < 0 || number > max) {
		return -1;
	}
	*text = after + (end != '\0');
	return number;
}

static renderer_create_fn parse_renderer(const char *name)
{
	if (strcmp(name, "soft") == 0) {
		return renderer_soft_create;
	}
	if (strcmp(name, "virgl") != 0) {
		bad_usage("--renderer must be soft or virgl");
	}
#if HAVE_VIRGL
	return renderer_virgl_create;
#else
	fprintf(stderr, "vgfence gpu: built without virglrenderer (libvirglrenderer-dev)\n");
	exit(2);
#endif
}

static int parse_bit(const char *text)
{
	long bit = parse_number(&text, 63, '\0');

	if (strcmp(text, "off") == 0) {
		return -1;
	}
	if (bit == 5) {
		bad_usage("--fence-passing-bit must not be 5: to guests since Linux 7.2 that is\n"
			  "BLOB_ALIGNMENT, and this device offers it. Take 23");
	}
	if (bit == 6 || bit == 7) {
		bad_usage("--fence-passing-bit must not be 6 or 7: these are proposed for other\n"
			  "features of virtio-gpu. Take 23");
	}
	if (!gpu_bit_is_free(bit)) {
		bad_usage("--fence-passing-bit must be off, 8 to 23, or 50 to 63: other bits have\n"
			  "a meaning already. Take 23");
	}
	return (int)bit;
}

static void parse_size(struct gpu_options *gpu, const char *text)
{
	long width = parse_number(&text, GPU_MAX_SIZE, 'x');
	long height = width >= GPU_MIN_WIDTH ? parse_number(&text, GPU_MAX_SIZE, '\0') : -1;

	if (height < GPU_MIN_HEIGHT) {
		bad_usage("--size must be like 1280x800, from 400x300 to 8192x8192");
	}
	gpu->width = (uint32_t)width;
	gpu->height = (uint32_t)height;
}

static uint32_t parse_scanouts(const char *text)
{
	long number = parse_number(&text, 16, '\0');

	if (number < 0) {
		bad_usage("--scanouts must be a number from 0 to 16");
	}
	return (uint32_t)number;
}

/* As QEMU's hostmem. */
static uint64_t parse_hostmem(const char *text)
{
	static const struct {
		char suffix;
		unsigned int shift;
	} units[] = { { '\0', 0 }, { 'K', 10 }, { 'M', 20 }, { 'G', 30 } };
	uint64_t size = 0;

	if (strcmp(text, "off") == 0) {
		return 0;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && size == 0; i++) {
		const char *number = text;
		size_t length = strlen(text);
		long count;

		if (length == 0 || (units[i].suffix && text[length - 1] != units[i].suffix)) {
			continue;
		}
		count = parse_number(&number, LONG_MAX >> units[i].shift, units[i].suffix);
		size = count > 0 ? (uint64_t)count << units[i].shift : 0;
	}
	if (size < GPU_MIN_HOSTMEM || (size & (size - 1)) != 0) {
		bad_usage("--hostmem must be off, or a power of two from 4096 on, like 256M");
	}
	return size;
}

static bool is_vnc_address(const char *address)
{
	const char *number;

	if (strncmp(address, "unix:", 5) == 0) {
		return address[5] != '\0';
	}
	if (strncmp(address, "localhost:", 10) != 0) {
		return false;
	}
	number = address + 10;
	return parse_number(&number, 65535 - 5900, '\0') >= 0;
}

#define DISPLAYS                                                                                   \
	"--display must be none, wayland, wayland=SOCKET, vnc, vnc=unix:PATH or vnc=localhost:N"

static void parse_vnc(struct gpu_server_options *server, const char *address)
{
	if (!is_vnc_address(address)) {
		bad_usage(DISPLAYS);
	}
#if !HAVE_VNC
	fprintf(stderr, "vgfence gpu: built without libvncserver (libvncserver-dev)\n");
	exit(2);
#endif
	server->vnc = address;
}

static void parse_wayland(struct gpu_server_options *server, const char *name)
{
#if !HAVE_WAYLAND
	fprintf(stderr,
		"vgfence gpu: built without libwayland-client (libwayland-dev, "
		"wayland-protocols)\n");
	exit(2);
#endif
	server->wayland = name;
}

/* Each kind may be named once, so both can be there. */
static void parse_display(struct gpu_server_options *server, const char *text)
{
	if (strcmp(text, "none") == 0) {
		server->vnc = server->wayland = NULL;
	} else if (strcmp(text, "vnc") == 0) {
		parse_vnc(server, "localhost:0");
	} else if (strncmp(text, "vnc=", 4) == 0) {
		parse_vnc(server, text + 4);
	} else if (strcmp(text, "wayland") == 0) {
		parse_wayland(server, "");
	} else if (strncmp(text, "wayland=", 8) == 0 && text[8] != '\0') {
		parse_wayland(server, text + 8);
	} else {
		bad_usage(DISPLAYS);
	}
}

static bool parse_sandbox(const char *text)
{
	if (text != NULL && strcmp(text, "off") == 0) {
		return false;
	}
	if (text != NULL && strcmp(text, "on") != 0) {
		bad_usage("--sandbox must be on or off");
	}
#if !HAVE_SANDBOX
	fprintf(stderr, "vgfence gpu: built without libseccomp (libseccomp-dev)\n");
	exit(2);
#endif
	return true;
}

static int parse_int(const char *text, int max, const char *message)
{
	long number = parse_number(&text, max, '\0');

	if (number < 0) {
		bad_usage(message);
	}
	return (int)number;
}

static uint32_t parse_ceiling(const char *text)
{
	long number = parse_number(&text, GPU_MAX_CEILING_MS, '\0');

	if (number <= 0) {
		bad_usage("--display-ceiling must be a number of milliseconds, 1 to an hour");
	}
	return (uint32_t)number;
}

static void parse_option(struct options *options, int id)
{
	struct gpu_options *gpu = &options->server.gpu;

	switch (id) {
	case OPTION_SOCKET:
		options->server.socket_path = optarg;
		break;
	case OPTION_FD:
		options->server.socket_fd = parse_int(optarg, INT_MAX, "--fd must be a descriptor");
		break;
	case OPTION_RENDERER:
		options->create_renderer = parse_renderer(optarg);
		break;
	case OPTION_VIRGL:
		options->create_renderer = parse_renderer("virgl");
		break;
	case OPTION_RENDER_NODE:
		gpu->renderer.render_node = optarg;
		break;
	case OPTION_VULKAN:
		gpu->renderer.vulkan = true;
		break;
	case OPTION_REALTIME:
		gpu->renderer.realtime = true;
		break;
	case OPTION_SYNC_FILES:
		gpu->renderer.sync_files = true;
		break;
	case OPTION_DRAIN:
		options->server.drain_ms = parse_int(optarg, 3600000,
			"--drain-ms must be a number of milliseconds, up to an hour");
		break;
	case OPTION_BIT:
		gpu->fence_passing_bit = parse_bit(optarg);
		break;
	case OPTION_HOSTMEM:
		gpu->hostmem_size = parse_hostmem(optarg);
		options->hostmem_named = true;
		break;
	case OPTION_SCANOUTS:
		gpu->num_scanouts = parse_scanouts(optarg);
		break;
	case OPTION_SIZE:
		parse_size(gpu, optarg);
		break;
	case OPTION_DISPLAY:
		parse_display(&options->server, optarg);
		break;
	case OPTION_CEILING:
		gpu->display_ceiling_ms = parse_ceiling(optarg);
		break;
	case OPTION_FRONT_END_DMA_BUFS:
		options->server.front_end_dma_bufs = true;
		break;
	case OPTION_WAYLAND_SOCKET:
		gpu->wayland_socket = optarg;
		break;
	case OPTION_CONTROL:
		options->server.control_path = optarg;
		break;
	case OPTION_INPUT:
		options->server.input_path = optarg;
		break;
	case OPTION_RECORD:
		options->server.record = optarg;
		break;
	case OPTION_TRACE:
		options->server.trace = optarg;
		break;
	case OPTION_SCREENSHOT:
		options->screenshot = optarg;
		break;
	case OPTION_STATS:
		options->stats = true;
		renderer_clock_init(&options->clock);
		options->server.gpu.renderer.clock = &options->clock;
		break;
	case OPTION_SANDBOX:
		options->sandbox = parse_sandbox(optarg);
		break;
	case OPTION_HELP:
		printf("%s%s", usage, help);
		exit(EXIT_SUCCESS);
	default:
		fprintf(stderr, "%s", usage);
		exit(2);
	}
}

static void log_message(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	if (level != VGF_LOG_DEBUG) {
		gpu_log_line("%s", message);
	}
}

/* What goes on opening, connecting or starting something. */
static void check_sandbox(const struct options *options)
{
	const struct gpu_options *gpu = &options->server.gpu;

	if (!options->sandbox) {
		return;
	}
	if (gpu->renderer.vulkan) {
		bad_usage("--vulkan starts processes for its guests: not with --sandbox");
	}
	if (gpu->wayland_socket != NULL) {
		bad_usage("--wayland-socket connects for its guests: not with --sandbox");
	}
	if (options->screenshot != NULL) {
		bad_usage("--screenshot makes files when it is asked to: not with --sandbox");
	}
}

/* What goes together. */
static void check_options(const struct options *options)
{
	const struct gpu_server_options *server = &options->server;
	bool soft = options->create_renderer == renderer_soft_create;

	if (server->socket_path == NULL && server->socket_fd < 0) {
		bad_usage("--socket-path is missing");
	}
	if (server->socket_path != NULL && server->socket_fd >= 0) {
		bad_usage("--fd is instead of --socket-path");
	}
	if (server->input_path != NULL && server->vnc == NULL && server->wayland == NULL) {
		bad_usage("--input needs --display: it is what is typed and pointed there");
	}
	if (server->gpu.renderer.render_node != NULL && soft) {
		bad_usage("--render-node needs --renderer=virgl: the software GPU has no device");
	}
	if (server->gpu.renderer.vulkan && soft) {
		bad_usage("--vulkan needs --renderer=virgl: the software GPU draws nothing");
	}
	if (server->gpu.renderer.sync_files && !soft) {
		bad_usage("--sync-files is of --renderer=soft");
	}
	if (server->gpu.renderer.realtime && !soft) {
		bad_usage("--realtime is of --renderer=soft");
	}
	check_sandbox(options);
}

static void parse_options(struct options *options, int argc, char **argv)
{
	int id;

	*options = (struct options){
		.create_renderer = renderer_soft_create,
		.server = {
			.log = log_message,
			.socket_fd = -1,
			.drain_ms = 5000,
			.gpu = {
				.num_scanouts = 1,
				.width = 1280,
				.height = 800,
				.fence_passing_bit = -1,
			},
		},
	};
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		parse_option(options, id);
	}
	if (optind != argc) {
		bad_usage("there is something that is no option");
	}
	if (!options->hostmem_named && options->create_renderer != renderer_soft_create) {
		options->server.gpu.hostmem_size = DEFAULT_HOSTMEM;
	}
	check_options(options);
}

/* QEMU, docs/interop/vhost-user.json: of what management software may use, this is there. */
static const char capabilities[] = "{\n"
				   "  \"type\": \"gpu\",\n"
				   "  \"features\": [\n"
#if HAVE_VIRGL
				   "    \"render-node\",\n"
				   "    \"virgl\"\n"
#endif
				   "  ]\n"
				   "}\n";

/* Whatever else there is, it does not matter then. */
static bool wants_capabilities(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--print-capabilities") == 0) {
			return true;
		}
	}
	return false;
}

/* ---- Statistics ----------------------------------------------------------------------------- */

struct sample {
	struct gpu_stats gpu;
	struct display_wayland_stats windows;
	struct renderer_clock clock;
	uint64_t t_ns, cpu_ns, num_sleeps;
};

struct program {
	const struct options *options;
	struct gpu_server *server;
	struct vhost_user_watch signals, ending, denied;
	bool end;
	struct sample start, connected; /* with --stats: when it began, and the last guest left */
};

static uint64_t to_ns(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_usec * NS_PER_US;
}

/* The CPU time is of this thread, which is all but the GPU itself. */
static void take_sample(const struct program *program, struct sample *sample)
{
	struct rusage used;

	gpu_get_stats(gpu_server_get_gpu(program->server), &sample->gpu);
	gpu_server_get_wayland_stats(program->server, &sample->windows);
	sample->clock = program->options->clock;
	getrusage(RUSAGE_THREAD, &used);
	sample->cpu_ns = to_ns(&used.ru_utime) + to_ns(&used.ru_stime);
	sample->num_sleeps = (uint64_t)used.ru_nvcsw;
	sample->t_ns = now_ns();
}

/* What is done to contexts and resources is the device's in this: only OpenGL, and submissions to
 * the software GPU, are the renderer's. */
static void write_cpu_time(FILE *file, const struct sample *from, const struct sample *to)
{
	double submissions = (double)(to->gpu.submissions - from->gpu.submissions);
	double ns = (double)(to->cpu_ns - from->cpu_ns);
	double renderer_ns = (double)renderer_clock_ns(&from->clock, &to->clock);

	if (submissions > 0) {
		fprintf(file,
			"  CPU time     %.1f us a submission, in its main thread: %.1f and the "
			"renderer's %.1f; %.2f sleeps\n",
			ns / NS_PER_US / submissions, (ns - renderer_ns) / NS_PER_US / submissions,
			renderer_ns / NS_PER_US / submissions,
			(double)(to->num_sleeps - from->num_sleeps) / submissions);
	}
}

static void write_stats(
	FILE *file, const char *title, const struct sample *from, const struct sample *to)
{
#define SINCE(field) (to->field - from->field)
	uint64_t submissions = SINCE(gpu.submissions);

	fprintf(file, "%s, %.1f s\n", title, (double)SINCE(t_ns) / NS_PER_S);
	fprintf(file,
		"  requests     %" PRIu64 " on the control queue, %" PRIu64
		" on the cursor queue; %" PRIu64 " with an error\n",
		SINCE(gpu.requests[GPU_QUEUE_CONTROL]), SINCE(gpu.requests[GPU_QUEUE_CURSOR]),
		SINCE(gpu.errors));
	fprintf(file,
		"  submissions  %" PRIu64 ": %" PRIu64 " were ready, %" PRIu64
		" waited in the GPU, %" PRIu64 " were held back, %" PRIu64 " refused\n",
		submissions, SINCE(gpu.fences.run_ready),
		SINCE(gpu.fences.run_driver) + SINCE(gpu.fences.run_gl), SINCE(gpu.fences.run_host),
		SINCE(gpu.fences.refused));
	fprintf(file,
		"  in-fences    %" PRIu64 ", of which %" PRIu64
		" had signalled, or were repeated\n",
		SINCE(gpu.fences.in_fences), SINCE(gpu.fences.in_fences_done));
	fprintf(file,
		"  flushes      %" PRIu64 ": %" PRIu64 " in-fences, %" PRIu64 " waited for them\n",
		SINCE(gpu.flushes), SINCE(gpu.flush_in_fences), SINCE(gpu.flushes_held));
	fprintf(file,
		"  displays     %" PRIu64 " flushes were taken before they were drawn; %" PRIu64
		" waited until they were shown, %" PRIu64 " were given up on; %" PRIu64
		" buffers were released, %" PRIu64 " given up on\n",
		SINCE(gpu.flushes_offered), SINCE(gpu.flushes_shown), SINCE(gpu.flushes_given_up),
		SINCE(gpu.buffers_released), SINCE(gpu.buffers_given_up));
	fprintf(file,
		"  windows      %" PRIu64 " frames in place, %" PRIu64 " copied: %" PRIu64 " KiB\n",
		SINCE(windows.frames_in_place), SINCE(windows.frames_copied),
		SINCE(windows.copied_bytes) / 1024);
	fprintf(file,
		"  fences       %" PRIu64 " retired: %" PRIu64 " with an error, %" PRIu64
		" cancelled\n",
		SINCE(gpu.fences.retired), SINCE(gpu.fences.failed), SINCE(gpu.fences.cancelled));
	fprintf(file,
		"  host memory  %" PRIu64 " blobs were mapped; %" PRIu64
		" KiB are, at most %" PRIu64 " KiB were\n",
		SINCE(gpu.maps), to->gpu.mapped_bytes / 1024, to->gpu.max_mapped_bytes / 1024);
	write_cpu_time(file, from, to);
#undef SINCE
}

static void print_stats(const char *title, const struct sample *from, const struct sample *to)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	if (file == NULL) {
		return;
	}
	write_stats(file, title, from, to);
	fclose(file);
	gpu_log_text(text);
	free(text);
}

/* ---- Running -------------------------------------------------------------------------------- */

static void screenshot(struct program *program, bool asked)
{
	const char *path = program->options->screenshot;
	int ret;

	if (path == NULL) {
		gpu_log_line("no screenshot without --screenshot=FILE");
		return;
	}
	ret = gpu_screenshot(gpu_server_get_gpu(program->server), 0, path, gpu_end_is_near);
	if (ret == -ENOENT && asked) {
		gpu_log_line("no screenshot: the monitor shows nothing");
	} else if (ret == -ECANCELED) {
		gpu_log_line("no screenshot in %s: there is no time for it", path);
	} else if (ret < 0 && ret != -ENOENT) {
		gpu_log_line("no screenshot in %s: %s", path, strerror(-ret));
	}
}

static void handle_signal(void *arg)
{
	struct program *program = arg;
	struct signalfd_siginfo info;

	if (read(program->signals.fd, &info, sizeof(info)) != sizeof(info)) {
		return;
	}
	screenshot(program, true);
}

static void end(void *arg)
{
	struct program *program = arg;

	program->end = true;
}

/* What is left of the process when it does not end by itself. The lock is for who frees it. */
static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static struct gpu_server *running;

static void set_running(struct gpu_server *server)
{
	pthread_mutex_lock(&running_lock);
	running = server;
	pthread_mutex_unlock(&running_lock);
}

static void give_up(void)
{
	pthread_mutex_lock(&running_lock);
	if (running != NULL) {
		gpu_server_abandon(running);
	}
	pthread_mutex_unlock(&running_lock);
	gpu_log_line("it is ended in the middle of something that does not end");
}

/* Before there is any other thread, so that none gets them. */
static int open_signals(void)
{
	sigset_t signals;
	int fd;

	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* The device is reset when a guest leaves. */
static void watch_stats(struct program *program)
{
	struct sample now;

	if (!program->options->stats) {
		return;
	}
	if (gpu_num_resets(gpu_server_get_gpu(program->server)) == program->connected.gpu.resets) {
		return;
	}
	take_sample(program, &now);
	if (now.gpu.requests[GPU_QUEUE_CONTROL] !=
		program->connected.gpu.requests[GPU_QUEUE_CONTROL]) {
		print_stats("a guest has left", &program->connected, &now);
	}
	program->connected = now;
}

static int run(struct program *program)
{
	int ret = 0;

	take_sample(program, &program->start);
	program->connected = program->start;
	while (ret == 0 && !program->end && !gpu_server_is_over(program->server)) {
		ret = gpu_server_dispatch(program->server, -1);
		watch_stats(program);
	}
	return ret;
}

static void finish(struct program *program)
{
	struct sample now;

	if (program->options->screenshot != NULL) {
		screenshot(program, false);
	}
	if (program->options->stats) {
		take_sample(program, &now);
		print_stats("in all", &program->start, &now);
	}
}

/* ---- The sandbox ---------------------------------------------------------------------------- */

static void tell_denied(const char *text)
{
	gpu_log_line("%s", text);
}

static void denied(void *arg)
{
	(void)arg;
	sandbox_dispatch(tell_denied);
}

/* Mesa would open a file for each shader that it makes. */
static int prepare_sandbox(void)
{
	setenv("MESA_SHADER_CACHE_DISABLE", "true", 1);
	setenv("MESA_GLSL_CACHE_DISABLE", "true", 1); /* its name in older versions */
	udmabuf_keep();
	return sandbox_prepare();
}

/* Now that all is open. */
static int enter_sandbox(struct program *program)
{
	const struct sandbox_options sandbox = {
		.makes_code = program->options->create_renderer != renderer_soft_create,
	};
	int ret;

	if (!program->options->sandbox) {
		return 0;
	}
	ret = sandbox_enter(&sandbox);
	if (ret < 0) {
		gpu_log_line("the sandbox: %s", strerror(-ret));
		return ret;
	}
	if (ret == 0) {
		gpu_log_line("the sandbox is system calls alone: the kernel has no Landlock");
	}
	program->denied.fd = sandbox_get_fd();
	return 0;
}

static int watch_and_run(struct program *program)
{
	int ret = gpu_server_watch(program->server, &program->signals);

	if (ret == 0) {
		ret = gpu_server_watch(program->server, &program->ending);
	}
	if (ret == 0 && program->denied.fd >= 0) {
		ret = gpu_server_watch(program->server, &program->denied);
	}
	if (ret == 0) {
		ret = run(program);
		finish(program);
	}
	if (ret < 0) {
		gpu_log_line("waiting for events: %s", strerror(-ret));
	}
	return ret;
}

static int serve(struct program *program)
{
	const struct options *options = program->options;
	struct gpu_server_options server = options->server;
	int ret;

	server.has_gl = options->create_renderer != renderer_soft_create;
	ret = gpu_server_create(&server, options->create_renderer, &program->server);

	if (ret < 0) {
		return ret; /* after a message */
	}
	set_running(program->server);
	ret = enter_sandbox(program);
	if (ret == 0) {
		ret = watch_and_run(program);
	}
	gpu_server_abandon(program->server); /* also if the rest does not end */
	set_running(NULL);
	gpu_server_destroy(program->server);
	denied(NULL); /* what came last */
	gpu_end_over();
	return ret;
}

static int open_descriptors(struct program *program, struct options *options)
{
	program->denied.readable = denied;
	program->denied.fd = -1;
	program->signals.readable = handle_signal;
	program->signals.arg = program;
	program->signals.fd = open_signals();
	if (program->signals.fd < 0) {
		return program->signals.fd;
	}
	program->ending.readable = end;
	program->ending.arg = program;
	program->ending.fd = options->server.end_fd = gpu_end_start(give_up);
	return program->ending.fd;
}

/* A guest's fences and blobs are descriptors, and their number is bounded by this limit. It is low
 * by default for who uses select: libvncserver alone, which has a table of descriptors of its
 * own. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < MAX_DESCRIPTORS) {
		limit.rlim_cur = limit.rlim_max < MAX_DESCRIPTORS ? limit.rlim_max :
								    MAX_DESCRIPTORS;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int gpu_main(int argc, char **argv)
{
	struct options options;
	struct program program = { .options = &options };
	int ret;

	if (wants_capabilities(argc, argv)) {
		return fputs(capabilities, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	parse_options(&options, argc, argv);
	ret = options.sandbox ? prepare_sandbox() : 0;
	if (ret < 0) {
		gpu_log_line("the sandbox: %s", strerror(-ret));
		return EXIT_FAILURE;
	}
	raise_descriptor_limit();
	gpu_log_start();
	signal(SIGPIPE, SIG_IGN); /* a log that nobody reads any more is no reason to end */
	signal(SIGXFSZ, SIG_IGN); /* nor is a recording for which there is no more room */
	if (options.server.vnc != NULL && strncmp(options.server.vnc, "localhost:", 10) == 0) {
		gpu_log_line("VNC at %s has no password: every user of this machine can see the "
			     "guest",
			options.server.vnc);
	}
	ret = open_descriptors(&program, &options);
	if (ret < 0) {
		gpu_log_line("descriptors for signals: %s", strerror(-ret));
		return EXIT_FAILURE;
	}
	ret = serve(&program);
	gpu_log_finish();
	return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
