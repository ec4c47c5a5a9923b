/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Watches and timers in a turn of their loop: calling those whose time has come
 * and, when the loop closes, ending all in the order in which they were set.
 */

#include "run/ctx.h"
#include "run/turn.h"

void loop_fire_watch_locked(struct evwork_loop *loop, struct evwork_watch *watch, int status)
{
	LIST_REMOVE(&loop->watches, watch, _loop_next, _loop_prev);
	LIST_APPEND(&loop->fired, watch, _loop_next, _loop_prev);
	watch->_state = WATCH_FIRED;
	watch->_status = status;
	/* Until it is called; see loop_update_alive. */
	if (loop_is_here(loop))
		loop_keep_alive(loop);
	loop_kick(loop);
}

void loop_fire_watch(struct evwork_loop *loop, struct evwork_watch *watch, int status)
{
	sys_lock(&loop->mutex);
	loop_fire_watch_locked(loop, watch, status);
	sys_unlock(&loop->mutex);
}

/* Calls one watch whose turn has come; false if there is none. */
static bool call_one(struct evwork_loop *loop, struct budget *budget, uint64_t *called)
{
	struct evwork_watch *watch;
	struct evwork_ctx *ctx;
	int status;

	if (!budget_take(loop, budget))
		return false;
	sys_lock(&loop->mutex);
	watch = loop->calling.head;
	if (!watch) {
		sys_unlock(&loop->mutex);
		budget->callbacks++;
		return false;
	}
	LIST_REMOVE(&loop->calling, watch, _loop_next, _loop_prev);
	ctx = watch->_ctx;
	status = watch->_status;
	watch_set_idle(watch);
	sys_unlock(&loop->mutex);
	evwork_ctx_unref(ctx);
	(*called)++;
	loop_begin_call(loop, "a watch or waiter");
	watch->fn(watch, status);
	loop_end_call(loop);
	return true;
}

/*
 * Keeps the context of a timer that was taken out of the heap. If that is being
 * freed, its last unref is about to stop the timer: the loop must stay until then,
 * so it goes on counting the timer.
 */
static bool pin_locked(struct evwork_loop *loop, struct evwork_timer *timer)
{
	if (ctx_timer_pin(timer))
		return true;
	timer->_kind |= TIMER_ORPHAN;
	loop->timer_count++;
	return false;
}

/*
 * Fires one timer that is due by `now` and was set before this turn began; false
 * if there is none. One that was set in this turn waits for a later one (S-GEN-3),
 * or a timer that sets itself to fire at once would never let go.
 */
static bool fire_one(struct evwork_loop *loop, int64_t now, struct budget *budget,
	uint64_t *fired)
{
	struct evwork_timer *timer;
	bool of_user, pinned = false;
	int status;

	if (!budget_take(loop, budget))
		return false;
	sys_lock(&loop->mutex);
	timer = loop->timers.top;
	status = loop->timers_ending ? -ECANCELED : 0;
	if (!timer || (!status && timer->_due_ns > now) || timer->_order >= loop->turn_order) {
		sys_unlock(&loop->mutex);
		budget->callbacks++;
		return false;
	}
	loop_unset_timer_locked(loop, timer);
	/* A context that could not be pinned may be freed as soon as the lock is left. */
	of_user = timer_kind_of(timer) == TIMER_USER;
	if (!of_user)
		pinned = pin_locked(loop, timer);
	sys_unlock(&loop->mutex);
	if (pinned) {
		ctx_timer_expired(timer);
	} else if (of_user) {
		(*fired)++;
		loop_begin_call(loop, "a timer");
		timer->fn(timer, status);
		loop_end_call(loop);
	}
	return true;
}

/* Rings the alarms that are due and were set before this turn began. What they lead to
 * comes as mail, so they need no budget. */
static void ring_alarms(struct evwork_loop *loop, int64_t now)
{
	struct evwork_timer *alarm;

	do {
		sys_lock(&loop->mutex);
		alarm = loop->alarms.top;
		if (alarm && (alarm->_due_ns > now || alarm->_order >= loop->turn_order))
			alarm = NULL;
		if (alarm)
			timer_heap_remove(&loop->alarms, alarm);
		sys_unlock(&loop->mutex);
		if (alarm)
			alarm->fn(alarm, 0);
	} while (alarm);
}

static void fire_timers(struct evwork_loop *loop, struct budget *budget, uint64_t *called)
{
	int64_t now = clock_now(loop->clock);

	loop->timers_due = false;
	loop->firing = true;
	while (!loop->over && fire_one(loop, now, budget, called))
		;
	if (!loop->over)
		ring_alarms(loop, now);
	loop->firing = false;
	if (!loop->over && !loop->clock)
		loop_arm_tick(loop);
}

/* Whether the timer that was set first of all comes before the first watch. */
static bool timer_is_next(struct evwork_loop *loop)
{
	bool next;

	sys_lock(&loop->mutex);
	next = loop->timers.top && (!loop->calling.head ||
		loop->timers.top->_order < loop->calling.head->_order);
	sys_unlock(&loop->mutex);
	return next;
}

/* Closing: watches and timers end in the order in which they were set (S-SHUT-7). */
static void end_waiters(struct evwork_loop *loop, struct budget *budget, uint64_t *called)
{
	bool any;

	loop->firing = true;
	do
		any = timer_is_next(loop) ? fire_one(loop, EVWORK_NEVER, budget, called) :
			call_one(loop, budget, called);
	while (any && !loop->over);
	if (!loop->over)
		ring_alarms(loop, clock_now(loop->clock));
	loop->firing = false;
	if (!loop->over)
		loop_arm_tick(loop);
}

void waiters_call(struct evwork_loop *loop, struct budget *budget, uint64_t *called)
{
	if (loop->timers_ending) {
		end_waiters(loop, budget, called);
		return;
	}
	while (!loop->over && call_one(loop, budget, called))
		;
	if (!loop->over && loop->timers_due)
		fire_timers(loop, budget, called);
}

/* Closing, first step: everything that waits for its time is to end now. */

/*
 * Takes the timers of contexts out of the heap, and returns those whose contexts
 * could be pinned, linked through _next. The timers of the user stay, in the order
 * in which they were set.
 */
static struct evwork_timer *split_timers(struct evwork_loop *loop)
{
	struct timer_heap users = { NULL };
	struct evwork_timer *pinned = NULL, *timer;

	sys_lock(&loop->mutex);
	while ((timer = loop->timers.top)) {
		if (timer_kind_of(timer) == TIMER_USER) {
			timer_heap_remove(&loop->timers, timer);
			timer->_due_ns = (int64_t)timer->_order;
			timer_heap_push(&users, timer);
			continue;
		}
		loop_unset_timer_locked(loop, timer);
		if (pin_locked(loop, timer)) {
			timer->_next = pinned;
			pinned = timer;
		}
	}
	loop->timers = users;
	loop->timers_ending = true;
	sys_unlock(&loop->mutex);
	return pinned;
}

void waiters_begin_close(struct evwork_loop *loop)
{
	struct evwork_timer *timer;

	loop->close_begun = true;
	for (;;) {
		struct evwork_watch *watch;
		struct evwork_ctx *ctx = NULL;

		sys_lock(&loop->mutex);
		watch = loop->watches.head;
		if (watch)
			ctx = evwork_ctx_ref(watch->_ctx);
		sys_unlock(&loop->mutex);
		if (!watch)
			break;
		watch_end(loop, watch, ctx);
		evwork_ctx_unref(ctx);
	}
	timer = split_timers(loop);
	while (timer) {
		struct evwork_timer *next = timer->_next;

		timer->_next = NULL;
		ctx_timer_forget(timer);
		timer = next;
	}
	loop->timers_due = true;
}
