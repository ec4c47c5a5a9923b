/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_LOOP_H
#define RUN_LOOP_H

#include <event2/event_struct.h>

#include "base/broken.h"
#include "base/clock.h"
#include "base/fork.h"
#include "base/list.h"
#include "run/mailbox.h"
#include "run/stage.h"
#include "run/stall.h"
#include "run/timer.h"
#include "evwork/ctx.h"
#include "evwork/loop.h"

/* What a closing loop tells at once, under its lock: threads that wait for something
 * on its behalf. It is kept meanwhile, as if a job were on its way. */
struct loop_hook {
	void (*closing)(struct loop_hook *hook);
	struct loop_hook *next, *prev;
};

struct evwork_loop {
	/* Fixed at creation. */
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_lane *lane;     /* the pool's default lane */
	struct mailbox *box;
	struct evwork_clock *clock;
	pthread_t thread;
	int batch;
	int64_t budget_ns, spin_ns;
	/* This is the child of a fork and the loop the parent's: neither its lock nor its
	 * descriptors may be used. Such a loop also counts as closing. */
	bool inherited;
	struct fork_entry fork_entry;
	struct evwork_mail *orphans;  /* posts that were never opened */

	/* The loop's thread only. */
	struct event notify_event, hold_event, tick_event, keeper_event, progress_event;
	struct evwork_mail *inbox;    /* taken from the mailbox, not yet delivered */
	bool token;                   /* notify_event is readable */
	bool keeper_on;               /* keeper_event is pending */
	bool running;                 /* inside a turn */
	bool over;                    /* the turn must end: the loop is dead, orphaned or inherited */
	bool orphaned;                /* freed by force; written under the lock, too */
	bool dead;                    /* freed inside a turn, which destroys it */
	bool firing;                  /* inside a pass over due timers */
	bool waiters_first;           /* they come before the mail of the next turn */
	unsigned holds;
	struct loop_stall *stall;     /* NULL: nobody asked for reports */
	bool timers_due;              /* a turn must look at the timers */
	bool close_asked;             /* closing was seen at the start of the turn */
	bool close_begun;
	struct budget *budget;        /* of the turn that runs */
	uint64_t turn_order;          /* timers from here on were set in this turn */
	int64_t spin_until;
	struct stage stage;
	int64_t tick_at;              /* what tick_event is set to */
	bool tick_pending;            /* tick_event is in libevent's heap */
	bool closed_here;             /* close was called here: it keeps the loop alive */
	/* What keeps the loop alive and is on its way: written by the loop's thread
	 * with plain loads and stores, atomic so that statistics may read them. */
	_Atomic uint64_t own;
	_Atomic uint64_t delivered, turns, wakeups;

	/* Any thread. */
	_Atomic uint64_t foreign;     /* accepted from other threads, undelivered */
	atomic_bool kicked;           /* kick is in the mailbox */
	atomic_bool closing;
	struct letter kick;
	struct clock_user clock_user;

	sys_mutex mutex;              /* covers all below; after a tree's, before a pool's */
	LIST_OF(struct loop_hook) hooks;
	struct timer_heap timers;
	struct timer_heap alarms;     /* of closing pools, see loop_set_alarm */
	uint64_t timer_count;         /* in the heap */
	uint64_t timers_alive;        /* of these, how many keep the loop alive; and waits */
	uint64_t timer_order;         /* of setting, watches included */
	LIST_OF(struct evwork_watch) watches;    /* pending */
	LIST_OF(struct evwork_watch) fired;      /* to be called in a later turn */
	LIST_OF(struct evwork_watch) calling;    /* to be called now */
	bool timers_ending;           /* closing: all fire now, in order of setting */
	bool closed_called;
	evwork_loop_closed_fn closed_fn;
	void *closed_arg;

	/* For reports of stalls; the watchdog counts them. */
	char name[EVWORK_NAME_MAX];
	_Atomic uint64_t stalls, stall_reports;
};

static inline bool loop_is_here(const struct evwork_loop *loop)
{
	return pthread_equal(loop->thread, pthread_self());
}

/* Whether the calling thread has a loop: blocking calls refuse there. */
bool loop_any_here(void);

/*
 * [any] Something is on its way to the loop and must be delivered. Returns 0, or
 * -ESHUTDOWN, or -ENOMEM; *ret_own tells whether it counts as the loop's own, and
 * must be given to loop_leave when it is delivered or was not sent after all.
 */
int loop_enter(struct evwork_loop *loop, bool *ret_own);
/* The same for calls that must not fail for memory. */
int loop_enter_always(struct evwork_loop *loop, bool *ret_own);
/* [loop, in a callback] For what follows from something that was delivered: also if the
 * loop is closing. It counts as the loop's own. */
static inline void loop_enter_following(struct evwork_loop *loop);
void loop_leave(struct evwork_loop *loop, bool own);

/* [loop] Has libevent call the loop's turns. */
void turn_on_notify(evutil_socket_t fd, short what, void *arg);
void turn_on_hold(evutil_socket_t fd, short what, void *arg);
void turn_on_tick(evutil_socket_t fd, short what, void *arg);
void turn_on_kick(struct letter *letter);

/* [loop] Adds and removes what keeps event_base_dispatch from returning. */
int loop_keep_alive(struct evwork_loop *loop);
void loop_update_alive(struct evwork_loop *loop);

/* [loop] The same for somebody who waits without a timer, from one to the other: -ENOMEM. */
int loop_wait_begin(struct evwork_loop *loop);
void loop_wait_end(struct evwork_loop *loop);

/* For libevent's timers: a year is never. */
extern const struct timeval loop_far_away;

/* [loop] Sets libevent's timer for the earliest of ours. */
void loop_arm_tick(struct evwork_loop *loop);
/* [loop] Libevent's timer has fired. */
void loop_reset_tick(struct evwork_loop *loop);

/*
 * Alarms: timers of the library itself that hold while the loop closes, too. Who sets one
 * keeps the loop by other means until it has rung or was stopped; an alarm neither counts
 * as pending nor keeps the base running.
 *
 * loop_set_alarm [any] sets it, or moves it if that is earlier; loop_stop_alarm [any].
 */
void loop_set_alarm(struct evwork_loop *loop, struct evwork_timer *alarm, int64_t due_ns);
void loop_stop_alarm(struct evwork_loop *loop, struct evwork_timer *alarm);

/* [any, under the loop's lock] Takes a timer out. */
void loop_unset_timer_locked(struct evwork_loop *loop, struct evwork_timer *timer);

void loop_destroy(struct evwork_loop *loop);
/* [loop] Takes the events out of the base, if that was not freed. */
void loop_remove_events(struct evwork_loop *loop);
bool loop_base_is_gone(const struct evwork_loop *loop);

/* In the child of a fork: told so; and takes the events out of the base; and frees. The
 * last two give -EAGAIN if the base cannot get what it needs. See inherit.c. */
void loop_forked(struct fork_entry *entry);
int loop_leave_base(struct evwork_loop *loop);
int loop_free_inherited(struct evwork_loop *loop);

/* [any] Something that an orphan was kept for is through; see force.c. */
void loop_orphan_leave(struct evwork_loop *loop);
/* [loop] Leaves clock, list of forks and base. */
void loop_detach(struct evwork_loop *loop);

/* The mail of evwork_post. */
bool post_is(const struct evwork_mail *mail);
void post_free(struct evwork_mail *mail);

/* A counter that one thread writes and any may read: no locked instruction. */
static inline void count_up(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter,
		atomic_load_explicit(counter, memory_order_relaxed) + n,
		memory_order_relaxed);
}

/* [loop] Something of the loop's own is through. */
static inline void loop_count_own_out(struct evwork_loop *loop)
{
	uint64_t own = atomic_load_explicit(&loop->own, memory_order_relaxed);

	if (base_holds(own > 0, "a loop has delivered more than it has accepted"))
		atomic_store_explicit(&loop->own, own - 1, memory_order_relaxed);
}

static inline void loop_enter_following(struct evwork_loop *loop)
{
	/* The turn has not ended, so the loop is not closed and its keeper still on. In a
	 * callback that has freed it by force it counts as force.c says. */
	if (loop->orphaned)
		atomic_fetch_add_explicit(&loop->foreign, 1, memory_order_relaxed);
	else
		count_up(&loop->own, 1);
}

/* [loop] Around each callback of the user: what it is, a constant. The callback may free
 * the loop. */
static inline void loop_begin_call(struct evwork_loop *loop, const char *what)
{
	if (__builtin_expect(loop->stall != NULL, 0))
		stall_loop_begin(loop->stall, what, NULL);
}

static inline void loop_end_call(struct evwork_loop *loop)
{
	if (__builtin_expect(loop->stall != NULL, 0))
		stall_loop_end(loop->stall);
}

int loop_add_hook(struct evwork_loop *loop, struct loop_hook *hook, bool *ret_own);
void loop_remove_hook(struct evwork_loop *loop, struct loop_hook *hook, bool own);

/* [any] Makes the loop look at its timers, watches and closing in its next turn. */
void loop_kick(struct evwork_loop *loop);

/* [any, under the lock of the tree of the watch's context] The watch, which is
 * pending, is to be called with status. The second is for who has the loop's lock, too. */
void loop_fire_watch(struct evwork_loop *loop, struct evwork_watch *watch, int status);
void loop_fire_watch_locked(struct evwork_loop *loop, struct evwork_watch *watch, int status);

#endif
