/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What base/ has in place of libc, and its listener. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error_name.h"
#include "queue.h"
#include "unix_listener.h"

struct node {
	STAILQ_ENTRY(node) in_queue;
	TAILQ_ENTRY(node) in_tailq;
	LIST_ENTRY(node) in_list;
	SLIST_ENTRY(node) in_stack;
};

STAILQ_HEAD(queue, node);
TAILQ_HEAD(tailq, node);
LIST_HEAD(list, node);
SLIST_HEAD(stack, node);

static struct node nodes[6];

/* The numbers of the elements in their order, as decimal digits. */
#define ORDER(X, list, field)                                                                      \
	({                                                                                         \
		const struct node *node;                                                           \
		int digits = 0;                                                                    \
		X##_FOREACH(node, list, field)                                                     \
		{                                                                                  \
			digits = 10 * digits + (int)(node - nodes);                                \
		}                                                                                  \
		digits;                                                                            \
	})

static void fill_queue(struct queue *queue, int first, int last)
{
	STAILQ_INIT(queue);
	for (int i = first; i <= last; i++) {
		STAILQ_INSERT_TAIL(queue, &nodes[i], in_queue);
	}
}

static void fill_tailq(struct tailq *tailq)
{
	TAILQ_INIT(tailq);
	for (int i = 1; i <= 3; i++) {
		TAILQ_INSERT_TAIL(tailq, &nodes[i], in_tailq);
	}
}

static void fill_list(struct list *list)
{
	LIST_INIT(list);
	for (int i = 3; i >= 1; i--) {
		LIST_INSERT_HEAD(list, &nodes[i], in_list);
	}
}

TEST(a_stack_gives_back_the_newest)
{
	struct stack stack;

	SLIST_INIT(&stack);
	assert_true(SLIST_EMPTY(&stack));
	SLIST_INSERT_HEAD(&stack, &nodes[1], in_stack);
	SLIST_INSERT_HEAD(&stack, &nodes[2], in_stack);
	assert_ptr_equal(SLIST_FIRST(&stack), &nodes[2]);
	SLIST_REMOVE_HEAD(&stack, in_stack);
	assert_ptr_equal(SLIST_FIRST(&stack), &nodes[1]);
	SLIST_REMOVE_HEAD(&stack, in_stack);
	assert_true(SLIST_EMPTY(&stack));
}

TEST(a_queue_that_was_emptied_takes_more)
{
	struct queue queue;

	STAILQ_INIT(&queue);
	STAILQ_INSERT_TAIL(&queue, &nodes[1], in_queue);
	STAILQ_REMOVE_HEAD(&queue, in_queue);
	assert_true(STAILQ_EMPTY(&queue));
	STAILQ_INSERT_TAIL(&queue, &nodes[2], in_queue);
	STAILQ_INSERT_TAIL(&queue, &nodes[3], in_queue);
	assert_int_equal(ORDER(STAILQ, &queue, in_queue), 23);
	assert_ptr_equal(STAILQ_NEXT(&nodes[2], in_queue), &nodes[3]);
}

TEST(a_queue_goes_on_wherever_one_was_removed)
{
	static const int left[] = { 0, 234, 134, 124 };
	struct queue queue;

	for (int i = 1; i <= 3; i++) {
		fill_queue(&queue, 1, 3);
		STAILQ_REMOVE(&queue, &nodes[i], node, in_queue);
		STAILQ_INSERT_TAIL(&queue, &nodes[4], in_queue);
		assert_int_equal(ORDER(STAILQ, &queue, in_queue), left[i]);
	}
}

TEST(queues_are_joined_also_empty_ones)
{
	struct queue queue, other;

	fill_queue(&queue, 1, 0);
	fill_queue(&other, 1, 2);
	STAILQ_CONCAT(&queue, &other);
	assert_true(STAILQ_EMPTY(&other));
	STAILQ_CONCAT(&queue, &other);
	assert_int_equal(ORDER(STAILQ, &queue, in_queue), 12);
	fill_queue(&other, 3, 4);
	STAILQ_CONCAT(&queue, &other);
	STAILQ_INSERT_TAIL(&other, &nodes[5], in_queue);
	assert_int_equal(ORDER(STAILQ, &queue, in_queue), 1234);
	assert_int_equal(ORDER(STAILQ, &other, in_queue), 5);
}

TEST(a_list_can_lose_any_element)
{
	static const int left[] = { 0, 423, 413, 412 };
	struct list list;

	for (int i = 1; i <= 3; i++) {
		fill_list(&list);
		LIST_REMOVE(&nodes[i], in_list);
		LIST_INSERT_HEAD(&list, &nodes[4], in_list);
		assert_int_equal(ORDER(LIST, &list, in_list), left[i]);
	}
	while (!LIST_EMPTY(&list)) {
		LIST_REMOVE(LIST_FIRST(&list), in_list);
	}
}

TEST(a_tailq_can_lose_any_element_and_knows_its_last)
{
	static const int left[] = { 0, 23, 13, 12 };
	struct tailq tailq;

	for (int i = 1; i <= 3; i++) {
		fill_tailq(&tailq);
		TAILQ_REMOVE(&tailq, &nodes[i], in_tailq);
		assert_int_equal(ORDER(TAILQ, &tailq, in_tailq), left[i]);
		assert_int_equal(TAILQ_LAST(&tailq, tailq) - nodes, left[i] % 10);
		TAILQ_INSERT_TAIL(&tailq, &nodes[4], in_tailq);
		assert_int_equal(ORDER(TAILQ, &tailq, in_tailq), 10 * left[i] + 4);
	}
	while (!TAILQ_EMPTY(&tailq)) {
		TAILQ_REMOVE(&tailq, TAILQ_FIRST(&tailq), in_tailq);
	}
	assert_null(TAILQ_LAST(&tailq, tailq));
}

TEST(an_error_has_its_name)
{
	assert_string_equal(error_name(-EINVAL), "EINVAL");
	assert_string_equal(error_name(-ECANCELED), "ECANCELED");
	assert_string_equal(error_name(-ENOTUNIQ), "ENOTUNIQ");
}

TEST(an_error_without_a_name_is_told_in_libc_s_words)
{
	static const int others[] = { -EXFULL, -4095, INT_MIN, 0, 22 };

	assert_string_equal(error_name(-EXFULL), strerror(EXFULL));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_not_equal(strlen(error_name(others[i])), 0);
	}
}

/* Two that start at one path. */
struct start {
	const char *path;
	pthread_barrier_t *barrier;
	struct unix_listener listener;
	int ret;
};

static void *start_listener(void *data)
{
	struct start *start = data;

	pthread_barrier_wait(start->barrier);
	start->ret = unix_listener_open(&start->listener, start->path, UNIX_LISTENER_MODE, 8);
	return NULL;
}

static void leave_stale_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

/* The winner's is the one at the path, and whoever loses leaves it there. */
static void assert_one_has_started(struct start starts[2])
{
	struct start *winner = &starts[starts[0].ret == 0 ? 0 : 1];
	struct start *loser = &starts[starts[0].ret == 0 ? 1 : 0];
	const struct sockaddr_un *address = &winner->listener.address;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(winner->ret, 0);
	assert_int_equal(loser->ret, -EADDRINUSE);
	unix_listener_close(&loser->listener);
	assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
	close(fd);
	unix_listener_close(&winner->listener);
	assert_int_equal(access(address->sun_path, F_OK), -1);
}

TEST(of_two_listeners_that_start_at_once_at_a_path_one_succeeds)
{
	char folder[] = "/tmp/vgfence-base.XXXXXX", path[64];
	pthread_barrier_t barrier;
	struct start starts[2];

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
	assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
	for (int i = 0; i < 2000; i++) {
		pthread_t thread;

		if (i % 2 == 0) {
			leave_stale_socket(path);
		}
		starts[0] = starts[1] = (struct start){ .path = path, .barrier = &barrier };
		assert_int_equal(pthread_create(&thread, NULL, start_listener, &starts[0]), 0);
		start_listener(&starts[1]);
		pthread_join(thread, NULL);
		assert_one_has_started(starts);
	}
	pthread_barrier_destroy(&barrier);
	rmdir(folder);
}

TEST(a_folder_that_somebody_keeps_locked_holds_no_listener_up)
{
	char folder[] = "/tmp/vgfence-base.XXXXXX", path[64];
	struct unix_listener listener;
	int fd;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(unix_listener_open(&listener, path, UNIX_LISTENER_MODE, 8), 0);
	unix_listener_close(&listener);
	close(fd);
	rmdir(folder);
}
