/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BASE_LIST_H
#define BASE_LIST_H

/*
 * Doubly linked lists whose links are named fields of the members, for members
 * that are public structs and so cannot hold a private link type. A list is
 * {head, tail}; both NULL when empty. A member is in the list or its links are
 * meaningless; the owner of the list knows which.
 */

#define LIST_OF(type) struct { type *head, *tail; }

#define LIST_APPEND(list, member, next, prev) do { \
	(member)->next = NULL; \
	(member)->prev = (list)->tail; \
	if ((list)->tail) \
		(list)->tail->next = (member); \
	else \
		(list)->head = (member); \
	(list)->tail = (member); \
} while (0)

#define LIST_PREPEND(list, member, next, prev) do { \
	(member)->prev = NULL; \
	(member)->next = (list)->head; \
	if ((list)->head) \
		(list)->head->prev = (member); \
	else \
		(list)->tail = (member); \
	(list)->head = (member); \
} while (0)

/* Before `at`, a member; NULL: at the end. */
#define LIST_INSERT(list, at, member, next, prev) do { \
	if (!(at)) { \
		LIST_APPEND(list, member, next, prev); \
	} else if (!(at)->prev) { \
		LIST_PREPEND(list, member, next, prev); \
	} else { \
		(member)->next = (at); \
		(member)->prev = (at)->prev; \
		(at)->prev->next = (member); \
		(at)->prev = (member); \
	} \
} while (0)

#define LIST_REMOVE(list, member, next, prev) do { \
	if ((member)->prev) \
		(member)->prev->next = (member)->next; \
	else \
		(list)->head = (member)->next; \
	if ((member)->next) \
		(member)->next->prev = (member)->prev; \
	else \
		(list)->tail = (member)->prev; \
	(member)->next = (member)->prev = NULL; \
} while (0)

#endif
