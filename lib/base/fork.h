/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BASE_FORK_H
#define BASE_FORK_H

#include "base/sys.h"

/*
 * What a child inherits when the process forks (S-SHUT-12). Pools and loops are entered
 * in a list; in each child all of them are told, before fork returns, that they were
 * inherited: their threads are not there, their descriptors are shared with the
 * parent, and any of their locks may be held by a thread that is not there either.
 * Nobody may take such a lock. What is too numerous for the list, contexts, and what has
 * no say in it, clocks, remember in which process they were made.
 */
struct fork_entry {
	/* In the child, on the thread that forked, the only one. */
	void (*forked)(struct fork_entry *entry);
	struct fork_entry *next, *prev;
};

/* -ENOMEM, only ever for the first of all. */
int fork_join(struct fork_entry *entry);
void fork_leave(struct fork_entry *entry);

/* For who remembers fork_here() and may be there before all pools and loops: forks are
 * noticed from now on. -ENOMEM, only ever for the first of all. */
int fork_notice(void);

/* Up by one in each child. Relaxed: it changes while there is one thread. */
extern atomic_uint fork_depth;

static inline unsigned fork_here(void)
{
	return atomic_load_explicit(&fork_depth, memory_order_relaxed);
}

#endif
