/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What the watchdog sees of a loop: the calls of its callbacks, and what each is. That is
 * written before a call is counted, under a lock, and copied under it: as long as the
 * number of calls is the same after that, it is the words of this call.
 */

#include <stdio.h>
#include <string.h>

#include "run/loop.h"
#include "run/stall.h"

struct loop_stall {
	struct stall_watch *watch;
	/* Up by 1 when a callback begins and when it ends; written by the loop's thread. */
	_Atomic uint64_t calls;
	sys_mutex mutex;                /* covers the rest; a leaf */
	const char *what;
	char lane[EVWORK_NAME_MAX];
};

static uint64_t calls_of(void *owner, int subject)
{
	struct evwork_loop *loop = owner;

	(void)subject;
	/* Acquire: pairs with the release of stall_loop_begin. */
	return atomic_load_explicit(&loop->stall->calls, memory_order_acquire);
}

static bool report(void *owner, int subject, uint64_t calls, bool first,
	char text[STALL_WHAT_MAX])
{
	struct evwork_loop *loop = owner;
	struct loop_stall *stall = loop->stall;
	char lane[EVWORK_NAME_MAX];
	const char *what;

	sys_lock(&stall->mutex);
	what = stall->what;
	memcpy(lane, stall->lane, sizeof(lane));
	sys_unlock(&stall->mutex);
	if (calls_of(loop, subject) != calls)
		return false;
	snprintf(text, STALL_WHAT_MAX, "loop %s: %s%s%s", loop->name, what,
		lane[0] ? " of lane " : "", lane);
	count_up(&loop->stalls, first);
	count_up(&loop->stall_reports, 1);
	return true;
}

static const struct stall_kind kind = { calls_of, report };

int stall_loop_start(struct evwork_loop *loop, int64_t stall_ms)
{
	struct loop_stall *stall;
	int rc;

	if (stall_ms == 0)
		return 0;
	stall = sys_zalloc(sizeof(*stall));
	if (!stall)
		return -ENOMEM;
	rc = sys_mutex_init(&stall->mutex);
	if (rc)
		goto free_stall;
	loop->stall = stall;
	rc = stall_watch_new(&kind, loop, 1, sys_time_mul(stall_ms, SYS_NS_PER_MS), loop->clock,
		&stall->watch);
	if (rc)
		goto fini_mutex;
	return 0;

fini_mutex:
	loop->stall = NULL;
	sys_mutex_fini(&stall->mutex);
free_stall:
	sys_free(stall);
	return rc;
}

void stall_loop_stop(struct evwork_loop *loop)
{
	struct loop_stall *stall = loop->stall;

	if (!stall)
		return;
	stall_watch_free(stall->watch);
	/* A callback that frees the loop finds it gone when it ends. */
	loop->stall = NULL;
	sys_mutex_fini(&stall->mutex);
	sys_free(stall);
}

void stall_loop_forget(struct evwork_loop *loop)
{
	if (!loop->stall)
		return;
	stall_watch_forget(loop->stall->watch);
	sys_free(loop->stall);
	loop->stall = NULL;
}

bool stall_loop_is_here(const struct evwork_loop *loop)
{
	return loop->stall && stall_watch_is_here(loop->stall->watch);
}

static void count_call(struct loop_stall *stall)
{
	/* Release: pairs with the acquire of the watchdog, for what the call is. */
	atomic_store_explicit(&stall->calls,
		atomic_load_explicit(&stall->calls, memory_order_relaxed) + 1,
		memory_order_release);
}

void stall_loop_begin(struct loop_stall *stall, const char *what, const char *lane)
{
	sys_lock(&stall->mutex);
	stall->what = what;
	if (lane)
		memcpy(stall->lane, lane, sizeof(stall->lane));
	else
		stall->lane[0] = '\0';
	sys_unlock(&stall->mutex);
	count_call(stall);
}

void stall_loop_end(struct loop_stall *stall)
{
	count_call(stall);
}

void stall_loop_again(struct loop_stall *stall)
{
	count_call(stall);
	count_call(stall);
}
