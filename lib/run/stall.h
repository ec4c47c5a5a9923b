/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_STALL_H
#define RUN_STALL_H

#include "base/clock.h"
#include "base/sys.h"

/*
 * Stall reports (S-CRASH-6): what runs longer than it should is named in the log, and
 * again each time its age has doubled. One thread per process, the watchdog, looks at all
 * that is watched; it exists only while something is. See stall.c.
 */

struct evwork_loop;
struct evwork_pool;
struct stall_watch;

/* Room for the words that say what runs. */
#define STALL_WHAT_MAX 256

/* What the watchdog asks of what is watched. A watch has one subject or several, each of
 * which runs one thing at a time. */
struct stall_kind {
	/* A number that goes up by 1 when the subject begins something and when that ends,
	 * so it is odd meanwhile. The load acquires, see report. */
	uint64_t (*calls)(void *owner, int subject);
	/*
	 * Counts a report and says what runs; false, and nothing else, unless the subject is
	 * still where `calls` was read. It takes the locks it needs, which come after the
	 * watchdog's.
	 */
	bool (*report)(void *owner, int subject, uint64_t calls, bool first,
		char what[STALL_WHAT_MAX]);
};

/*
 * [any] Begins to watch; -EAGAIN: there is no thread to be had; -ENOMEM. owner must stay
 * until stall_watch_free has returned.
 */
int stall_watch_new(const struct stall_kind *kind, void *owner, int subjects,
	int64_t stall_ns, struct evwork_clock *clock, struct stall_watch **ret_watch);
/* [any, no lock held] Nobody looks at the owner any more. The last one waits for the
 * watchdog, and so for the log hook, if that is inside. NULL is fine. */
void stall_watch_free(struct stall_watch *watch);
/* In the child of a fork: frees the memory. */
void stall_watch_forget(struct stall_watch *watch);

/* Whether freeing this watch would wait for the calling thread itself. */
bool stall_watch_is_here(const struct stall_watch *watch);

/* The workers of a pool; see stall_pool.c. */
int stall_pool_start(struct evwork_pool *pool, int64_t stall_ms);

/* The callbacks of a loop; see stall_loop.c. */
struct loop_stall;
int stall_loop_start(struct evwork_loop *loop, int64_t stall_ms);
void stall_loop_stop(struct evwork_loop *loop);
void stall_loop_forget(struct evwork_loop *loop);
bool stall_loop_is_here(const struct evwork_loop *loop);
/* [loop] A callback begins: what it is, a constant, and the lane it is of, or NULL; and
 * has ended. */
void stall_loop_begin(struct loop_stall *stall, const char *what, const char *lane);
void stall_loop_end(struct loop_stall *stall);
/* [loop, inside a call] What follows counts as another call. */
void stall_loop_again(struct loop_stall *stall);

#endif
