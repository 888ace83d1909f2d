/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef QUEUE_H
#define QUEUE_H

/*
 * Lists whose links are members of what is listed, so that nothing is allocated to list it. The
 * names and what they mean are those of BSD's <sys/queue.h>, as far as we use it: glibc has that
 * header, musl has not.
 *
 *   SLIST   singly linked: insert at the head, take from the head. A stack.
 *   STAILQ  singly linked with an end: insert at the tail, take from the head, ask for the last. A
 *           queue; two can be joined.
 *   LIST    doubly linked: insert at the head, remove from anywhere, without the list at hand.
 *   TAILQ   doubly linked with an end: insert at the tail, remove from anywhere, ask for the last.
 *
 * `list` is a pointer to what X_HEAD() defines, `field` the member that X_ENTRY() defines. An
 * element is in at most one list by the same member. In X_FOREACH the element may not be removed.
 * Arguments are evaluated more than once.
 */

#include <stddef.h>

/* ---- SLIST -------------------------------------------------------------------------------- */

#define SLIST_HEAD(name, type)                                                                     \
	struct name {                                                                              \
		struct type *first;                                                                \
	}
#define SLIST_ENTRY(type)                                                                          \
	struct {                                                                                   \
		struct type *next;                                                                 \
	}
#define SLIST_INIT(list) ((void)((list)->first = NULL))
#define SLIST_EMPTY(list) ((list)->first == NULL)
#define SLIST_FIRST(list) ((list)->first)
#define SLIST_INSERT_HEAD(list, element, field)                                                    \
	do {                                                                                       \
		(element)->field.next = (list)->first;                                             \
		(list)->first = (element);                                                         \
	} while (0)
#define SLIST_REMOVE_HEAD(list, field) ((void)((list)->first = (list)->first->field.next))

/* ---- STAILQ: `end` is where the next element is to be linked -------------------------------- */

#define STAILQ_HEAD(name, type)                                                                    \
	struct name {                                                                              \
		struct type *first;                                                                \
		struct type **end;                                                                 \
	}
#define STAILQ_ENTRY(type) SLIST_ENTRY(type)
#define STAILQ_INIT(list)                                                                          \
	do {                                                                                       \
		(list)->first = NULL;                                                              \
		(list)->end = &(list)->first;                                                      \
	} while (0)
#define STAILQ_EMPTY(list) ((list)->first == NULL)
#define STAILQ_FIRST(list) ((list)->first)
#define STAILQ_LAST(list, type, field)                                                             \
	((list)->first == NULL ? NULL :                                                            \
				 (struct type *)(void *)((char *)(list)->end -                     \
					 offsetof(struct type, field)))
#define STAILQ_NEXT(element, field) ((element)->field.next)
#define STAILQ_FOREACH(element, list, field)                                                       \
	for ((element) = (list)->first; (element); (element) = (element)->field.next)
#define STAILQ_INSERT_TAIL(list, element, field)                                                   \
	do {                                                                                       \
		(element)->field.next = NULL;                                                      \
		*(list)->end = (element);                                                          \
		(list)->end = &(element)->field.next;                                              \
	} while (0)
#define STAILQ_REMOVE_HEAD(list, field)                                                            \
	do {                                                                                       \
		(list)->first = (list)->first->field.next;                                         \
		if ((list)->first == NULL) {                                                       \
			(list)->end = &(list)->first;                                              \
		}                                                                                  \
	} while (0)
/* Walks the list up to the element. */
#define STAILQ_REMOVE(list, element, type, field)                                                  \
	do {                                                                                       \
		struct type **link_to_it = &(list)->first;                                         \
		while (*link_to_it != (element)) {                                                 \
			link_to_it = &(*link_to_it)->field.next;                                   \
		}                                                                                  \
		*link_to_it = (*link_to_it)->field.next;                                           \
		if (*link_to_it == NULL) {                                                         \
			(list)->end = link_to_it;                                                  \
		}                                                                                  \
	} while (0)
/* What is in `other` comes to the end of `list`. */
#define STAILQ_CONCAT(list, other)                                                                 \
	do {                                                                                       \
		if ((other)->first) {                                                              \
			*(list)->end = (other)->first;                                             \
			(list)->end = (other)->end;                                                \
			STAILQ_INIT(other);                                                        \
		}                                                                                  \
	} while (0)

/* ---- LIST: `link` is the pointer that points to the element --------------------------------- */

#define LIST_HEAD(name, type) SLIST_HEAD(name, type)
#define LIST_ENTRY(type)                                                                           \
	struct {                                                                                   \
		struct type *next;                                                                 \
		struct type **link;                                                                \
	}
#define LIST_INIT(list) SLIST_INIT(list)
#define LIST_EMPTY(list) ((list)->first == NULL)
#define LIST_FIRST(list) ((list)->first)
#define LIST_NEXT(element, field) ((element)->field.next)
#define LIST_FOREACH(element, list, field)                                                         \
	for ((element) = (list)->first; (element); (element) = (element)->field.next)
#define LIST_INSERT_HEAD(list, element, field)                                                     \
	do {                                                                                       \
		(element)->field.next = (list)->first;                                             \
		(element)->field.link = &(list)->first;                                            \
		if ((list)->first) {                                                               \
			(list)->first->field.link = &(element)->field.next;                        \
		}                                                                                  \
		(list)->first = (element);                                                         \
	} while (0)
#define LIST_REMOVE(element, field)                                                                \
	do {                                                                                       \
		if ((element)->field.next) {                                                       \
			(element)->field.next->field.link = (element)->field.link;                 \
		}                                                                                  \
		*(element)->field.link = (element)->field.next;                                    \
	} while (0)

/* ---- TAILQ -------------------------------------------------------------------------------- */

#define TAILQ_HEAD(name, type)                                                                     \
	struct name {                                                                              \
		struct type *first;                                                                \
		struct type *last;                                                                 \
	}
#define TAILQ_ENTRY(type)                                                                          \
	struct {                                                                                   \
		struct type *next;                                                                 \
		struct type *previous;                                                             \
	}
#define TAILQ_INIT(list) ((void)((list)->first = (list)->last = NULL))
#define TAILQ_EMPTY(list) ((list)->first == NULL)
#define TAILQ_FIRST(list) ((list)->first)
#define TAILQ_LAST(list, name) ((list)->last)
#define TAILQ_NEXT(element, field) ((element)->field.next)
#define TAILQ_FOREACH(element, list, field)                                                        \
	for ((element) = (list)->first; (element); (element) = (element)->field.next)
#define TAILQ_INSERT_TAIL(list, element, field)                                                    \
	do {                                                                                       \
		(element)->field.next = NULL;                                                      \
		(element)->field.previous = (list)->last;                                          \
		if ((list)->last) {                                                                \
			(list)->last->field.next = (element);                                      \
		} else {                                                                           \
			(list)->first = (element);                                                 \
		}                                                                                  \
		(list)->last = (element);                                                          \
	} while (0)
#define TAILQ_REMOVE(list, element, field)                                                         \
	do {                                                                                       \
		if ((element)->field.next) {                                                       \
			(element)->field.next->field.previous = (element)->field.previous;         \
		} else {                                                                           \
			(list)->last = (element)->field.previous;                                  \
		}                                                                                  \
		if ((element)->field.previous) {                                                   \
			(element)->field.previous->field.next = (element)->field.next;             \
		} else {                                                                           \
			(list)->first = (element)->field.next;                                     \
		}                                                                                  \
	} while (0)

#endif
