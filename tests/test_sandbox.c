/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a process cannot do in the sandbox of 'vgfence gpu', and what it can. Each attempt is a
 * process of its own, and is made outside of the sandbox first, where it succeeds. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "sandbox.h"

#define PATH "/etc/passwd"
#define SUCCESS 200 /* of what an attempt returns: there is no such error */

static const struct sandbox_options no_code;
static const struct sandbox_options code = { .makes_code = true };

/* What an attempt needs, made before. */
static int listener, unconnected, terminal, memory, pair[2];
static struct sockaddr_un address;
static socklen_t address_size;
static char path[] = "/tmp/vgfence-sandbox-XXXXXX";

/* SUCCESS or the error. */
static int result(long ret)
{
	return ret < 0 ? errno : SUCCESS;
}

static void make_all(void)
{
	address_size = sizeof(address);
	address.sun_family = AF_UNIX;
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unconnected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* Linux chooses a name that no file has. */
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &address_size), 0);
	terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	memory = memfd_create("sandbox", MFD_CLOEXEC);
	assert_int_equal(ftruncate(memory, 4096), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	strcpy(path + strlen(path) - 6, "XXXXXX");
	close(mkstemp(path));
}

static void end_all(void)
{
	unlink(path);
	close(listener);
	close(unconnected);
	close(terminal);
	close(memory);
	close(pair[0]);
	close(pair[1]);
}

#define TEST_SANDBOX(name) TEST_BETWEEN(name, make_all(), end_all())

/* In a process of its own: its errno, SUCCESS, or 128 and the signal that has ended it. */
static int attempt(int (*what)(void), const struct sandbox_options *options)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (options != NULL && sandbox_enter(options) < 0) {
			_exit(SUCCESS + 1);
		}
		_exit(what());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void assert_denied(int (*what)(void))
{
	assert_int_equal(attempt(what, NULL), SUCCESS);
	assert_int_equal(attempt(what, &no_code), EPERM);
	assert_int_equal(attempt(what, &code), EPERM);
}

static void assert_allowed(int (*what)(void))
{
	assert_int_equal(attempt(what, NULL), SUCCESS);
	assert_int_equal(attempt(what, &no_code), SUCCESS);
	assert_int_equal(attempt(what, &code), SUCCESS);
}

/* ---- Files ---------------------------------------------------------------------------------- */

static int open_to_read(void)
{
	return result(open(PATH, O_RDONLY | O_CLOEXEC));
}

static int open_to_write(void)
{
	return result(open(path, O_WRONLY | O_TRUNC | O_CLOEXEC));
}

static int open_relative(void)
{
	return result(openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int open_a_descriptor_again(void)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", memory);
	return result(open(name, O_RDWR | O_CLOEXEC));
}

static int make_a_directory(void)
{
	char name[sizeof(path) + 8];

	snprintf(name, sizeof(name), "%s.d", path);
	return mkdir(name, 0700) < 0 ? errno : rmdir(name) < 0 ? errno : SUCCESS;
}

static int change_a_mode(void)
{
	return result(chmod(path, 0600));
}

static int remove_a_file(void)
{
	char name[sizeof(path) + 8];

	snprintf(name, sizeof(name), "%s.l", path);
	return link(path, name) < 0 ? errno : result(unlink(name));
}

static int remove_what_is_there(void)
{
	return result(unlink(path));
}

TEST_SANDBOX(no_file_is_opened_made_changed_or_removed)
{
	assert_denied(open_to_read);
	assert_denied(open_to_write);
	assert_denied(open_relative);
	assert_denied(open_a_descriptor_again);
	assert_denied(make_a_directory);
	assert_denied(change_a_mode);
	assert_denied(remove_a_file);
	assert_int_equal(attempt(remove_what_is_there, &code), EPERM);
	assert_int_equal(access(path, F_OK), 0);
}

/* Without the filter, as the second fence. */
static int open_behind_landlock(void)
{
	int ret = sandbox_close_files();

	return ret == 1 ? open_to_read() : -ret;
}

TEST(landlock_closes_files_by_itself)
{
	int ret = attempt(open_behind_landlock, NULL);

	if (ret == 0) {
		print_message("skipped: this kernel has no Landlock (Linux 5.13, LSM landlock)\n");
		skip();
	}
	assert_int_equal(ret, EACCES);
}

/* ---- Sockets -------------------------------------------------------------------------------- */

static int connect_to_a_socket(void)
{
	return result(connect(unconnected, (struct sockaddr *)&address, address_size));
}

static int make_a_socket(void)
{
	return result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int make_an_internet_socket(void)
{
	return result(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int bind_a_socket(void)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };

	return result(bind(unconnected, (struct sockaddr *)&any, sizeof(sa_family_t)));
}

/* A pair of datagrams' can send to others than each other. */
static int make_a_pair(void)
{
	int fds[2];

	return result(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
}

TEST_SANDBOX(nobody_is_connected_to)
{
	assert_denied(connect_to_a_socket);
	assert_denied(make_a_socket);
	assert_denied(make_an_internet_socket);
	assert_denied(bind_a_socket);
	assert_denied(make_a_pair);
}

/* One of TCP that is connected to nobody any more, after it has listened. */
static int closed_listener, target;
static struct sockaddr_in target_address;

static int listen_at_any_port(struct sockaddr_in *any)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(*any);

	*any = (struct sockaddr_in){ .sin_family = AF_INET };
	any->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)any, size), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)any, &size), 0);
	return fd;
}

static int connect_by_sending(void)
{
	struct iovec iov = { "x", 1 };
	const struct msghdr message = { .msg_name = &target_address,
		.msg_namelen = sizeof(target_address),
		.msg_iov = &iov,
		.msg_iovlen = 1 };

	shutdown(closed_listener, SHUT_RDWR);
	return result(sendmsg(closed_listener, &message, MSG_FASTOPEN | MSG_NOSIGNAL));
}

static int attempt_to_send(const struct sandbox_options *options)
{
	struct sockaddr_in ours;
	int ret;

	target = listen_at_any_port(&target_address);
	closed_listener = listen_at_any_port(&ours);
	ret = attempt(connect_by_sending, options);
	close(closed_listener);
	close(target);
	return ret;
}

TEST(a_socket_that_has_listened_is_connected_to_nobody)
{
	int ret = attempt_to_send(NULL);

	if (ret == EOPNOTSUPP) {
		print_message("skipped: TCP Fast Open is off (net.ipv4.tcp_fastopen)\n");
		skip();
	}
	assert_int_equal(ret, SUCCESS);
	assert_int_equal(attempt_to_send(&no_code), EPERM);
	assert_int_equal(attempt_to_send(&code), EPERM);
}

/* ---- Processes ------------------------------------------------------------------------------ */

static int become_a_program(void)
{
	char *const arguments[] = { "/bin/sh", "-c", "exit 200", NULL };

	execv(arguments[0], arguments);
	return errno;
}

static int start_a_process(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		_exit(0);
	}
	return pid < 0 ? errno : result(waitpid(pid, NULL, 0));
}

static int spawn_a_program(void)
{
	char *const arguments[] = { "/bin/true", NULL };
	pid_t pid;
	int error = posix_spawn(&pid, arguments[0], NULL, NULL, arguments, NULL);

	return error != 0 ? error : result(waitpid(pid, NULL, 0));
}

static int signal_another(void)
{
	return result(kill(getppid(), 0));
}

static int read_another(void)
{
	struct rlimit limit;

	return result(prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit));
}

static int raise_a_limit(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	return result(setrlimit(RLIMIT_NOFILE, &limit));
}

static int type_into_a_terminal(void)
{
	/* Of whom it is the controlling terminal; elsewhere the same error has another cause. */
	return ioctl(terminal, TIOCSTI, "x") < 0 && errno != EPERM && errno != EIO ? SUCCESS :
										     EPERM;
}

static int set_up_io_uring(void)
{
	char parameters[120] = { 0 };
	long ret = syscall(SYS_io_uring_setup, 1, parameters);

	/* Some machines have it turned off: then it is outside as it is inside. */
	return ret < 0 && errno != EPERM && errno != ENOSYS ? errno : ret < 0 ? EPERM : SUCCESS;
}

TEST_SANDBOX(no_program_runs_and_no_process_is_touched)
{
	assert_denied(become_a_program);
	assert_denied(start_a_process);
	assert_denied(spawn_a_program); /* with all signals blocked */
	assert_denied(signal_another);
	assert_denied(read_another);
	assert_denied(raise_a_limit);
	assert_int_equal(attempt(type_into_a_terminal, &code), EPERM);
	assert_int_equal(attempt(set_up_io_uring, &code), EPERM);
}

/* ---- Code ----------------------------------------------------------------------------------- */

static int make_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED) {
		return SUCCESS + 2;
	}
	return result(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

static int map_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED ? errno : SUCCESS;
}

TEST_SANDBOX(code_is_made_only_if_the_gpu_is_of_that)
{
	int (*const ways[])(void) = { make_code, map_code };

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		assert_int_equal(attempt(ways[i], NULL), SUCCESS);
		assert_int_equal(attempt(ways[i], &no_code), EPERM);
		assert_int_equal(attempt(ways[i], &code), SUCCESS);
	}
}

/* ---- Threads -------------------------------------------------------------------------------- */

static int begin_fd, thread_result;

static void *open_when_told(void *arg)
{
	uint64_t count;

	(void)!read(begin_fd, &count, sizeof(count));
	thread_result = open_to_read();
	return arg;
}

/* A thread that was there before the sandbox. */
static int open_in_an_older_thread(void)
{
	const uint64_t one = 1;
	pthread_t thread;

	begin_fd = eventfd(0, EFD_CLOEXEC);
	if (begin_fd < 0 || pthread_create(&thread, NULL, open_when_told, NULL) != 0 ||
		sandbox_enter(&code) < 0) {
		return SUCCESS + 2;
	}
	(void)!write(begin_fd, &one, sizeof(one));
	pthread_join(thread, NULL);
	return thread_result;
}

static void *open_now(void *arg)
{
	thread_result = open_to_read();
	return arg;
}

static int open_in_a_newer_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, open_now, NULL) != 0) {
		return SUCCESS + 2;
	}
	pthread_join(thread, NULL);
	return thread_result;
}

TEST_SANDBOX(threads_from_before_and_from_after_are_in_it)
{
	assert_int_equal(attempt(open_in_an_older_thread, NULL), EPERM);
	assert_int_equal(attempt(open_in_a_newer_thread, NULL), SUCCESS);
	assert_int_equal(attempt(open_in_a_newer_thread, &code), EPERM);
}

/* ---- What is told --------------------------------------------------------------------------- */

static char told[1024];

static void keep_line(const char *text)
{
	strncat(told, text, sizeof(told) - strlen(told) - 2);
	strcat(told, "\n");
}

static int tell(void)
{
	if (sandbox_get_fd() < 0) {
		return 0;
	}
	for (int i = 0; i < 3; i++) {
		open_to_read();
		connect(unconnected, (struct sockaddr *)&address, address_size);
		unlink(path);
	}
	sandbox_dispatch(keep_line);
	sandbox_dispatch(keep_line);
	return strcmp(told,
		       "sandbox: system call openat of " PATH " was denied\n"
		       "sandbox: system call connect was denied\n") == 0 ?
		SUCCESS :
		SUCCESS + 2;
}

TEST_SANDBOX(what_was_denied_is_told_once_by_name)
{
	int ret = attempt(tell, &code);

	if (ret == 0) {
		print_message("skipped: registers are known of x86-64 and aarch64 only\n");
	} else {
		assert_int_equal(ret, SUCCESS);
	}
}

static pthread_barrier_t barrier;

/* With descriptors of its own, as the thread for VNC. */
static void *be_denied_apart(void *arg)
{
	unsigned int first = (unsigned int)sandbox_get_fd() + 1;

	if (syscall(SYS_close_range, first, UINT_MAX, CLOSE_RANGE_UNSHARE) < 0) {
		_exit(SUCCESS + 2);
	}
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier); /* in the sandbox */
	open_to_read();
	return arg;
}

static int tell_of_a_thread_apart(void)
{
	struct pollfd fd = { .events = POLLIN };
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	if (sandbox_prepare() < 0 || pthread_create(&thread, NULL, be_denied_apart, NULL) != 0) {
		return SUCCESS + 2;
	}
	pthread_barrier_wait(&barrier);
	if (sandbox_enter(&code) < 0) {
		return SUCCESS + 2;
	}
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	fd.fd = sandbox_get_fd();
	return fd.fd < 0 ? 0 : poll(&fd, 1, 0) == 1 ? SUCCESS : SUCCESS + 3;
}

TEST_SANDBOX(what_a_thread_apart_is_denied_is_told_at_once)
{
	int ret = attempt(tell_of_a_thread_apart, NULL);

	if (ret != 0) { /* as above */
		assert_int_equal(ret, SUCCESS);
	}
}

/* ---- What goes on --------------------------------------------------------------------------- */

static int use_memory(void)
{
	char *block = malloc(1 << 24);
	int fd = memfd_create("more", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (block == NULL || fd < 0 || ftruncate(fd, 8192) < 0) {
		return SUCCESS + 2;
	}
	memset(block, 1, 1 << 24);
	free(block);
	return mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? errno :
											   SUCCESS;
}

/* As a front end that comes later, with a descriptor. */
static int accept_and_talk(void)
{
	struct iovec iov = { "x", 1 };
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct msghdr message = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &memory, sizeof(int));
	return fd < 0 ? errno : result(sendmsg(fd, &message, MSG_NOSIGNAL));
}

TEST_SANDBOX(memory_and_clients_come_as_before)
{
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_allowed(use_memory);
	assert_int_equal(connect(client, (struct sockaddr *)&address, address_size), 0);
	assert_int_equal(attempt(accept_and_talk, &no_code), SUCCESS);
	close(client);
}
