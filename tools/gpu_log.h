/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_LOG_H
#define GPU_LOG_H

/*
 * Standard error of a program that must not wait for whoever reads it: what does not fit is
 * dropped, and counted. Any thread.
 *
 * O_NONBLOCK belongs to an open file, which others have too: the shell that started us would find
 * its terminal changed. So a pipe or terminal is opened once more, for this process, and that takes
 * the place of descriptor 2, for libraries too; a socket is sent to without waiting. If a pipe is
 * another user's and cannot be opened again, a message is only written if poll says that it fits. A
 * file is written to like any other.
 */

/* Once, before the first message. */
void gpu_log_start(void);

/* One line, without the newline and the program's name. */
__attribute__((format(printf, 1, 2))) void gpu_log_line(const char *format, ...);

/* Text as it is, of one line or several. */
void gpu_log_text(const char *text);

/* Tells how much was dropped, if it was not told yet and there is room by now. */
void gpu_log_finish(void);

#endif
