/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The list of what is told of a fork. Its lock is taken around each fork, so the child
 * finds the list complete and the lock its own. It is held for a few instructions
 * when a pool or loop is made or freed, and no other lock is taken under it.
 */

#include "base/fork.h"

#include "base/list.h"

atomic_uint fork_depth;

static sys_mutex mutex = SYS_MUTEX_STATIC;      /* covers the rest */
static LIST_OF(struct fork_entry) entries;
static atomic_bool registered;                   /* for good */

static void before_fork(void)
{
	sys_lock(&mutex);
}

static void in_parent(void)
{
	sys_unlock(&mutex);
}

static void in_child(void)
{
	struct fork_entry *entry;

	atomic_fetch_add_explicit(&fork_depth, 1, memory_order_relaxed);
	for (entry = entries.head; entry; entry = entry->next)
		entry->forked(entry);
	sys_unlock(&mutex);
}

static int register_locked(void)
{
	int rc;

	/* Relaxed: written under the lock; and who sees it without that needs no more. */
	if (atomic_load_explicit(&registered, memory_order_relaxed))
		return 0;
	rc = sys_atfork(before_fork, in_parent, in_child);
	atomic_store_explicit(&registered, rc == 0, memory_order_relaxed);
	return rc;
}

int fork_notice(void)
{
	int rc;

	/* As in register_locked. */
	if (atomic_load_explicit(&registered, memory_order_relaxed))
		return 0;
	sys_lock(&mutex);
	rc = register_locked();
	sys_unlock(&mutex);
	return rc;
}

int fork_join(struct fork_entry *entry)
{
	int rc;

	sys_lock(&mutex);
	rc = register_locked();
	if (rc == 0)
		LIST_APPEND(&entries, entry, next, prev);
	sys_unlock(&mutex);
	return rc;
}

void fork_leave(struct fork_entry *entry)
{
	sys_lock(&mutex);
	LIST_REMOVE(&entries, entry, next, prev);
	sys_unlock(&mutex);
}
