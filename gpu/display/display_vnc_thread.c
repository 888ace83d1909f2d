/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "display_vnc_thread.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/close_range.h>

#include <rfb/rfb.h>
#include <rfb/rfbregion.h>

#include "sandbox.h"

/* Before the guest shows anything. */
#define FIRST_WIDTH 640
#define FIRST_HEIGHT 480

/* Of what a client may ask for. */
#define MIN_SIZE 16
#define MAX_SIZE ((int)SCANOUT_MAX_SIZE)

/* The guest may do it, later. libvncserver has no name for it; for a success it leaks memory. */
#define REQUEST_FORWARDED 4

/* Of a client's clipboard, in bytes. */
#define MAX_TEXT (1 << 20)

/* How long libvncserver waits for the rest of a message, and for a client that reads nothing. */
#define CLIENT_WAIT_MS 5000

/* Of an update, if libvncserver keeps all of a rectangle until it is encoded. */
#define SLICE_PIXELS (1 << 20)

/* The parts that a region of a client's may have, before it becomes one rectangle. */
#define MAX_RECTS 256

struct vnc {
	struct vnc_shared *shared;
	int channel_fd;
	rfbScreenInfoPtr screen;
	rfbClientPtr clients[VNC_MAX_CLIENTS];
	bool blank;
	bool ended;
};

/* Waits if the other side does not keep up; then the clients wait too. */
static void tell(struct vnc *vnc, uint32_t type, uint32_t a, uint32_t b, uint32_t c)
{
	const struct vnc_packet packet = { type, a, b, c };
	ssize_t size;

	do {
		size = send(vnc->channel_fd, &packet, sizeof(packet), MSG_NOSIGNAL);
	} while (size < 0 && errno == EINTR);
	vnc->ended = vnc->ended || size < 0;
}

/* ---- What clients do ------------------------------------------------------------------------ */

static void key_event(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
	tell(client->screen->screenData, VNC_KEY, (uint32_t)keysym, down != 0, 0);
}

static uint32_t scale(int at, int size)
{
	if (size < 2 || at <= 0) {
		return 0;
	}
	return at >= size ? 32767 : (uint32_t)((int64_t)at * 32767 / (size - 1));
}

static void pointer_event(int buttons, int x, int y, rfbClientPtr client)
{
	tell(client->screen->screenData, VNC_POINTER, (uint32_t)buttons,
		scale(x, client->screen->width), scale(y, client->screen->height));
}

static int resize_event(int width, int height, int num_screens, struct rfbExtDesktopScreen *screens,
	rfbClientPtr client)
{
	(void)screens;
	if (num_screens != 1 || width < MIN_SIZE || height < MIN_SIZE || width > MAX_SIZE ||
		height > MAX_SIZE) {
		return rfbExtDesktopSize_InvalidScreenLayout;
	}
	tell(client->screen->screenData, VNC_RESIZE, (uint32_t)width, (uint32_t)height, 0);
	return REQUEST_FORWARDED;
}

/* A page in a browser of this machine may open a WebSocket to a local port. libvncserver does not
 * free what it keeps for one. */
static enum rfbNewClientAction new_client(rfbClientPtr client)
{
#ifdef LIBVNCSERVER_WITH_WEBSOCKETS
	if (client->wsctx != NULL) {
		free(client->wsctx);
		client->wsctx = NULL;
		return RFB_CLIENT_REFUSE;
	}
#else
	(void)client;
#endif
	return RFB_CLIENT_ACCEPT;
}

/* Nobody wants it. To libvncserver it may be of an extension of its: compressed, with a length
 * below 0. Returns false if it is too long, or does not come. */
static bool skip_text(rfbClientPtr client)
{
	char bytes[4096];
	uint32_t left;

	if (rfbReadExact(client, bytes, sz_rfbClientCutTextMsg) <= 0) {
		return false;
	}
	memcpy(&left, bytes + 4, sizeof(left));
	left = be32toh(left);
	left = left > INT32_MAX ? -left : left;
	if (left > MAX_TEXT) {
		return false;
	}
	while (left > 0) {
		uint32_t size = left < sizeof(bytes) ? left : sizeof(bytes);

		if (rfbReadExact(client, bytes, (int)size) <= 0) {
			return false;
		}
		left -= size;
	}
	return true;
}

/* The others are of libvncserver's extensions: scaling, files, chats. */
static bool is_wanted(uint8_t type)
{
	return type == rfbSetPixelFormat || type == rfbSetEncodings ||
		type == rfbFramebufferUpdateRequest || type == rfbKeyEvent ||
		type == rfbPointerEvent || type == rfbSetDesktopSize;
}

static void process_client(rfbClientPtr client)
{
	uint8_t type = 0;
	bool has_type = client->state == RFB_NORMAL &&
		recv(client->sock, &type, 1, MSG_PEEK | MSG_DONTWAIT) == 1;

	if (has_type && type == rfbClientCutText) {
		if (!skip_text(client)) {
			rfbCloseClient(client);
		}
		return;
	}
	if (has_type && !is_wanted(type)) {
		rfbCloseClient(client);
		return;
	}
	rfbProcessClientMessage(client);
	/* It is encoded as a whole, in the square of the time. Raw pixels are for every client. */
	if (client->preferredEncoding == rfbEncodingRRE) {
		client->preferredEncoding = rfbEncodingRaw;
	}
}

/* ---- Clients -------------------------------------------------------------------------------- */

static void add_client(struct vnc *vnc, uint32_t index, int fd)
{
	if (fd >= FD_SETSIZE) {
		close(fd);
	} else {
		vnc->clients[index] = rfbNewClient(vnc->screen, fd);
	}
	if (vnc->clients[index] == NULL) {
		tell(vnc, VNC_GONE, index, 0, 0);
	}
}

static void remove_closed(struct vnc *vnc)
{
	for (uint32_t i = 0; i < VNC_MAX_CLIENTS; i++) {
		rfbClientPtr client = vnc->clients[i];

		if (client != NULL && client->sock == RFB_INVALID_SOCKET) {
			rfbClientConnectionGone(client);
			vnc->clients[i] = NULL;
			tell(vnc, VNC_GONE, i, 0, 0);
		}
	}
}

/* A guest that flushes single pixels, and a client that asks for them, would make it as large as
 * they like. */
static void simplify(sraRegionPtr *region)
{
	sraRegionPtr box;

	if (sraRgnCountRects(*region) > MAX_RECTS) {
		box = sraRgnBBox(*region);
		sraRgnDestroy(*region);
		*region = box;
	}
}

static int slice_height(const rfbClientRec *client)
{
	if (client->preferredEncoding != rfbEncodingZRLE &&
		client->preferredEncoding != rfbEncodingZYWRLE) {
		return 0; /* all at once: libvncserver cuts it into small pieces */
	}
	return SLICE_PIXELS / client->screen->width;
}

/* What it has asked for and is there: another size first, then pixels. There may be none in a
 * slice. */
static void update_client(rfbClientPtr client)
{
	rfbScreenInfoPtr screen = client->screen;
	int attempts = 2;

	screen->progressiveSliceHeight = slice_height(client);
	if (screen->progressiveSliceHeight > 0) {
		attempts += screen->height / screen->progressiveSliceHeight + 1;
	}
	for (int i = 0; i < attempts && client->sock != RFB_INVALID_SOCKET; i++) {
		rfbUpdateClient(client);
	}
}

static void update_clients(struct vnc *vnc)
{
	for (uint32_t i = 0; i < VNC_MAX_CLIENTS; i++) {
		rfbClientPtr client = vnc->clients[i];

		if (client != NULL) {
			update_client(client);
			simplify(&client->modifiedRegion);
			simplify(&client->requestedRegion);
		}
	}
}

/* ---- What the guest shows ------------------------------------------------------------------- */

/* libvncserver forgets the format with each size. */
static void set_format(rfbScreenInfoPtr screen)
{
	screen->serverFormat.redShift = 16;
	screen->serverFormat.greenShift = 8;
	screen->serverFormat.blueShift = 0;
	for (rfbClientPtr client = screen->clientHead; client != NULL; client = client->next) {
		screen->setTranslateFunction(client);
	}
}

static bool resize(struct vnc *vnc, uint32_t width, uint32_t height)
{
	char *old = vnc->screen->frameBuffer;
	uint32_t *pixels;

	if ((uint32_t)vnc->screen->width == width && (uint32_t)vnc->screen->height == height) {
		return true;
	}
	pixels = calloc((size_t)width * height, sizeof(uint32_t));
	if (pixels == NULL) {
		return false;
	}
	rfbNewFramebuffer(
		vnc->screen, (char *)pixels, (int)width, (int)height, 8, 3, sizeof(uint32_t));
	set_format(vnc->screen);
	free(old);
	return true;
}

static void copy_rows(
	rfbScreenInfoPtr screen, const struct frame *frame, const struct virtio_gpu_rect *rect)
{
	for (uint32_t y = rect->y; y < rect->y + rect->height; y++) {
		size_t at = (size_t)y * frame->width + rect->x;

		memcpy(screen->frameBuffer + at * sizeof(uint32_t), frame->pixels + at,
			rect->width * sizeof(uint32_t));
	}
}

static void mark(rfbScreenInfoPtr screen, const struct virtio_gpu_rect *rect)
{
	rfbMarkRectAsModified(screen, (int)rect->x, (int)rect->y, (int)(rect->x + rect->width),
		(int)(rect->y + rect->height));
}

static void blank(struct vnc *vnc)
{
	rfbScreenInfoPtr screen = vnc->screen;

	if (!vnc->blank) {
		memset(screen->frameBuffer, 0,
			(size_t)screen->width * (size_t)screen->height * sizeof(uint32_t));
		rfbMarkRectAsModified(screen, 0, 0, screen->width, screen->height);
		vnc->blank = true;
	}
}

/* With the lock held, so that no flush is half there. Without memory it stays dirty. */
static struct virtio_gpu_rect take_frame(struct vnc *vnc)
{
	struct frame *frame = &vnc->shared->frame;
	struct virtio_gpu_rect dirty = frame->dirty;

	if (frame->width == 0) {
		blank(vnc);
		return dirty;
	}
	if (dirty.width == 0 || !resize(vnc, frame->width, frame->height)) {
		return (struct virtio_gpu_rect){ 0 };
	}
	copy_rows(vnc->screen, frame, &dirty);
	frame->dirty = (struct virtio_gpu_rect){ 0 };
	vnc->blank = false;
	return dirty;
}

static rfbCursorPtr make_cursor(const struct vnc_shared *shared)
{
	rfbCursorPtr cursor = calloc(1, sizeof(*cursor));
	unsigned char *mask = calloc(VNC_CURSOR_SIZE, VNC_CURSOR_SIZE / 8);
	uint32_t *pixels = calloc(VNC_CURSOR_PIXELS, sizeof(*pixels));

	if (cursor == NULL || mask == NULL || pixels == NULL) {
		free(cursor);
		free(mask);
		free(pixels);
		return NULL;
	}
	memcpy(pixels, shared->cursor, sizeof(shared->cursor));
	for (size_t i = 0; i < VNC_CURSOR_PIXELS; i++) {
		mask[i / 8] |= (unsigned char)((shared->cursor[i] >> 31) << (7 - i % 8));
	}
	cursor->cleanup = cursor->cleanupSource = cursor->cleanupMask = TRUE;
	cursor->cleanupRichSource = TRUE;
	cursor->mask = mask;
	cursor->richSource = (unsigned char *)pixels;
	cursor->width = cursor->height = VNC_CURSOR_SIZE;
	cursor->xhot = (unsigned short)shared->hot_x;
	cursor->yhot = (unsigned short)shared->hot_y;
	return cursor;
}

static int at_most(uint32_t value, int limit)
{
	return value < (uint32_t)limit ? (int)value : limit;
}

/* With the lock held. */
static void take_cursor(struct vnc *vnc)
{
	struct vnc_shared *shared = vnc->shared;
	rfbScreenInfoPtr screen = vnc->screen;

	if (shared->cursor_changed) {
		shared->cursor_changed = false;
		rfbSetCursor(screen, shared->cursor_visible ? make_cursor(shared) : NULL);
	}
	if (shared->cursor_moved) {
		shared->cursor_moved = false;
		screen->cursorX = at_most(shared->cursor_x, screen->width - 1);
		screen->cursorY = at_most(shared->cursor_y, screen->height - 1);
		for (rfbClientPtr client = screen->clientHead; client; client = client->next) {
			client->cursorWasMoved = TRUE;
		}
	}
}

static void take_shared(struct vnc *vnc)
{
	struct virtio_gpu_rect dirty;

	pthread_mutex_lock(&vnc->shared->lock);
	vnc->shared->woken = false;
	dirty = take_frame(vnc);
	take_cursor(vnc);
	pthread_mutex_unlock(&vnc->shared->lock);
	if (dirty.width > 0) {
		mark(vnc->screen, &dirty);
	}
}

/* ---- The thread ----------------------------------------------------------------------------- */

static int fd_of(struct msghdr *message)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(message);
	int fd = -1;

	if (control != NULL && control->cmsg_type == SCM_RIGHTS) {
		memcpy(&fd, CMSG_DATA(control), sizeof(fd));
	}
	return fd;
}

static void receive(struct vnc *vnc)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct vnc_packet packet = { 0 };
	struct iovec part = { &packet, sizeof(packet) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t size = recvmsg(vnc->channel_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (size == sizeof(packet) && packet.type == VNC_CLIENT) {
		int fd = fd_of(&message);

		/* Without a descriptor for it there is no client. */
		if (fd < 0) {
			tell(vnc, VNC_GONE, packet.a, 0, 0);
		} else {
			take_shared(vnc); /* it begins with the size that there is now */
			add_client(vnc, packet.a, fd);
		}
	} else if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
		vnc->ended = true;
	}
}

/* Idle, it waits here for as long as it takes. */
static void wait_and_process(struct vnc *vnc)
{
	struct pollfd fds[1 + VNC_MAX_CLIENTS] = { { .fd = vnc->channel_fd, .events = POLLIN } };

	for (uint32_t i = 0; i < VNC_MAX_CLIENTS; i++) {
		fds[1 + i] = (struct pollfd){
			.fd = vnc->clients[i] != NULL ? vnc->clients[i]->sock : -1,
			.events = POLLIN,
		};
	}
	if (poll(fds, 1 + VNC_MAX_CLIENTS, -1) < 0) {
		vnc->ended = errno != EINTR;
		return;
	}
	for (uint32_t i = 0; i < VNC_MAX_CLIENTS && !vnc->ended; i++) {
		if (fds[1 + i].revents != 0) {
			process_client(vnc->clients[i]);
		}
	}
	if (fds[0].revents != 0) {
		receive(vnc);
	}
}

static void close_between(int below, int above)
{
	if (below + 1 < above) {
		syscall(SYS_close_range, below + 1, above - 1, 0);
	}
}

/* Of the process's descriptors it has no more than it uses: the channel and, made before that, what
 * the sandbox writes to. Where the kernel cannot do that (before 5.9) it shares them: then clients
 * are refused while all below FD_SETSIZE are taken. */
static void leave_descriptors(int channel_fd)
{
	int sandbox_fd = sandbox_get_fd();

	if (syscall(SYS_close_range, channel_fd + 1, UINT_MAX, CLOSE_RANGE_UNSHARE) == 0) {
		close_between(STDERR_FILENO, sandbox_fd);
		close_between(sandbox_fd > STDERR_FILENO ? sandbox_fd : STDERR_FILENO, channel_fd);
	}
}

static rfbScreenInfoPtr make_screen(struct vnc *vnc)
{
	rfbScreenInfoPtr screen = rfbGetScreen(
		NULL, NULL, FIRST_WIDTH, FIRST_HEIGHT, 8, 3, sizeof(uint32_t));
	uint32_t *pixels = calloc((size_t)FIRST_WIDTH * FIRST_HEIGHT, sizeof(*pixels));

	if (screen == NULL || pixels == NULL) {
		free(pixels);
		free(screen); /* there is nothing in it yet */
		return NULL;
	}
	set_format(screen);
	screen->frameBuffer = (char *)pixels;
	screen->desktopName = "vgfence";
	screen->screenData = vnc;
	screen->autoPort = FALSE;
	screen->port = screen->ipv6port = 0; /* sockets come over the channel */
	screen->httpDir = NULL;
	screen->ignoreSIGPIPE = TRUE;
	screen->alwaysShared = TRUE;
	screen->deferUpdateTime = screen->deferPtrUpdateTime = 0;
	screen->maxClientWait = CLIENT_WAIT_MS;
	screen->kbdAddEvent = key_event;
	screen->ptrAddEvent = pointer_event;
	screen->setDesktopSizeHook = resize_event;
	screen->newClientHook = new_client;
	rfbInitServer(screen);
	rfbSetCursor(screen, NULL);
	return screen;
}

static void finish(struct vnc *vnc)
{
	char *pixels;

	if (vnc->screen != NULL) {
		pixels = vnc->screen->frameBuffer;
		for (uint32_t i = 0; i < VNC_MAX_CLIENTS; i++) {
			if (vnc->clients[i] != NULL) {
				rfbCloseClient(vnc->clients[i]);
				rfbClientConnectionGone(vnc->clients[i]);
			}
		}
		rfbScreenCleanup(vnc->screen);
		free(pixels);
	}
	shutdown(vnc->channel_fd, SHUT_RDWR); /* the other side sees that it has ended */
}

void *vnc_thread_run(void *arg)
{
	struct vnc_thread_start *start = arg;
	struct vnc vnc = { .shared = start->shared, .channel_fd = start->channel_fd };

	free(start);
	leave_descriptors(vnc.channel_fd);
	rfbLogEnable(FALSE);
	vnc.screen = make_screen(&vnc);
	vnc.ended = vnc.screen == NULL;
	while (!vnc.ended) {
		take_shared(&vnc);
		update_clients(&vnc);
		remove_closed(&vnc);
		if (!vnc.ended) {
			wait_and_process(&vnc);
		}
	}
	finish(&vnc);
	return NULL;
}
