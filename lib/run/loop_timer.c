/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The timers of a loop, those of the user and the deadlines of contexts, in one heap
 * under the loop's lock, the alarms in another, and the one timer of libevent that
 * serves them all.
 *
 * libevent's timer is set for the earliest of ours and only ever moved to an earlier
 * time: when it comes too early, since that one was stopped or since libevent
 * counts from the start of its turn, the rest is waited for (S-GEN-11). It stays in
 * libevent's heap all the time, so that setting it needs no memory.
 */

#include "run/loop.h"

#include <event2/event.h>
#include <string.h>

static int64_t due_of(const struct timer_heap *heap)
{
	return heap->top ? heap->top->_due_ns : EVWORK_NEVER;
}

/* When the loop has something to do for its timers. Those that end now are not waited
 * for but called in the next turn. */
static int64_t next_due_locked(struct evwork_loop *loop)
{
	int64_t timer = due_of(&loop->timers), alarm = due_of(&loop->alarms);

	if (loop->timers_ending) {
		loop->timers_due = timer != EVWORK_NEVER;
		return alarm;
	}
	return timer < alarm ? timer : alarm;
}

void loop_arm_tick(struct evwork_loop *loop)
{
	int64_t due, now, wait;
	struct timeval tv;
	bool pending;

	sys_lock(&loop->mutex);
	due = next_due_locked(loop);
	pending = loop->fired.head || loop->calling.head ||
		(loop->timers_ending && loop->timers_due);
	sys_unlock(&loop->mutex);
	if (loop->clock) {
		/* What a due time has set off comes before the next one (S-GEN-13): the
		 * rest of this turn, and what lies ready for the next. */
		if (loop->running || loop->inbox || pending ||
		    !mailbox_empty_but(loop->box, &loop->kick.mail))
			clock_wait(loop->clock, &loop->clock_user);
		else
			clock_due(loop->clock, &loop->clock_user, due);
		return;
	}
	/* A tick that comes too early costs one look at the heap; moving it for
	 * each timer that is stopped would cost more. */
	if (due >= loop->tick_at)
		return;
	now = sys_now();
	wait = due <= now ? 0 : due - now;
	if (wait > loop_far_away.tv_sec * INT64_C(1000000000))
		wait = loop_far_away.tv_sec * INT64_C(1000000000);
	wait = (wait + 999) / 1000;
	tv.tv_sec = (time_t)(wait / 1000000);
	tv.tv_usec = (suseconds_t)(wait % 1000000);
	if (event_add(&loop->tick_event, &tv) == 0) {
		loop->tick_at = due;
		loop->tick_pending = true;
	} else {
		/* Only if other events took its place in libevent's heap and there is
		 * no memory: look again in the next turn rather than be late. */
		loop->timers_due = true;
		loop_kick(loop);
	}
}

void loop_reset_tick(struct evwork_loop *loop)
{
	/* Back into libevent's heap at once, while its place is still there. */
	loop->tick_at = EVWORK_NEVER;
	loop->tick_pending = event_add(&loop->tick_event, &loop_far_away) == 0;
	loop->timers_due = true;
}

static int timer_set(struct evwork_loop *loop, struct evwork_timer *timer, int64_t due_ns)
{
	bool here = loop_is_here(loop);
	bool earliest;

	if (here && loop_keep_alive(loop) != 0)
		return -ENOMEM;
	sys_lock(&loop->mutex);
	if (atomic_load_explicit(&loop->closing, memory_order_relaxed)) {
		sys_unlock(&loop->mutex);
		if (here && !loop->running)
			loop_update_alive(loop);
		return -ESHUTDOWN;
	}
	timer->_loop = loop;
	timer->_due_ns = due_ns;
	timer->_order = loop->timer_order++;
	timer->_kind &= ~(uint32_t)TIMER_KEEPS_ALIVE;
	if (here)
		timer->_kind |= TIMER_KEEPS_ALIVE;
	timer_heap_push(&loop->timers, timer);
	loop->timer_count++;
	loop->timers_alive += here;
	earliest = loop->timers.top == timer;
	/* From elsewhere under the lock: the context may die and the loop be freed
	 * as soon as it is gone. */
	if (earliest && !here)
		loop_kick(loop);
	sys_unlock(&loop->mutex);
	if (earliest && here && !loop->firing)
		loop_arm_tick(loop);
	return 0;
}

void loop_unset_timer_locked(struct evwork_loop *loop, struct evwork_timer *timer)
{
	timer_heap_remove(&loop->timers, timer);
	loop->timer_count--;
	if (timer->_kind & TIMER_KEEPS_ALIVE)
		loop->timers_alive--;
}

int ctx_timer_set(struct evwork_loop *loop, struct evwork_timer *timer, int64_t due_ns)
{
	return timer_set(loop, timer, due_ns);
}

/* [loop] A timer was stopped outside the pass over due timers, or inside it,
 * which ends with the same steps. */
static void after_stop(struct evwork_loop *loop)
{
	if (loop->clock && !loop->firing)
		loop_arm_tick(loop);
	if (!loop->running)
		loop_update_alive(loop);
}

void ctx_timer_stop(struct evwork_loop *loop, struct evwork_timer *timer)
{
	bool here = loop_is_here(loop);

	sys_lock(&loop->mutex);
	if (timer_is_set(timer) || (timer->_kind & TIMER_ORPHAN)) {
		if (timer_is_set(timer))
			loop_unset_timer_locked(loop, timer);
		else
			loop->timer_count--;
		/* For the keeper, and a manual clock that waits for this timer. */
		if (!here)
			loop_kick(loop);
	}
	sys_unlock(&loop->mutex);
	if (here)
		after_stop(loop);
}

void loop_set_alarm(struct evwork_loop *loop, struct evwork_timer *alarm, int64_t due_ns)
{
	bool here = loop_is_here(loop), earliest = false;

	sys_lock(&loop->mutex);
	if (!loop->orphaned && (!timer_is_set(alarm) || due_ns < alarm->_due_ns)) {
		if (timer_is_set(alarm))
			timer_heap_remove(&loop->alarms, alarm);
		alarm->_due_ns = due_ns;
		alarm->_order = loop->timer_order++;
		timer_heap_push(&loop->alarms, alarm);
		earliest = loop->alarms.top == alarm;
	}
	if (earliest && !here)
		loop_kick(loop);
	sys_unlock(&loop->mutex);
	if (earliest && here && !loop->firing)
		loop_arm_tick(loop);
}

void loop_stop_alarm(struct evwork_loop *loop, struct evwork_timer *alarm)
{
	bool here = loop_is_here(loop);

	sys_lock(&loop->mutex);
	if (timer_is_set(alarm)) {
		timer_heap_remove(&loop->alarms, alarm);
		/* A manual clock may wait for it. */
		if (!here && loop->clock)
			loop_kick(loop);
	}
	sys_unlock(&loop->mutex);
	if (here && loop->clock && !loop->firing)
		loop_arm_tick(loop);
}

void evwork_timer_init(struct evwork_timer *timer, evwork_timer_fn fn)
{
	memset(timer, 0, sizeof(*timer));
	timer->fn = fn;
}

int evwork_timer_start_at(struct evwork_loop *loop, struct evwork_timer *timer, int64_t due_ns)
{
	if (!loop || !timer || !timer->fn)
		return -EINVAL;
	if (loop->inherited)
		return -ESHUTDOWN;
	if (!loop_is_here(loop))
		return -EPERM;
	if (timer_is_set(timer))
		return -EBUSY;
	timer->_kind = TIMER_USER;
	return timer_set(loop, timer, due_ns);
}

int evwork_timer_start(struct evwork_loop *loop, struct evwork_timer *timer, int64_t timeout_ms)
{
	if (!loop)
		return -EINVAL;
	return evwork_timer_start_at(loop, timer,
		sys_time_add(clock_now(loop->clock), sys_time_mul(timeout_ms, SYS_NS_PER_MS)));
}

int evwork_timer_stop(struct evwork_timer *timer)
{
	struct evwork_loop *loop;

	if (!timer)
		return -EINVAL;
	if (!timer_is_set(timer))
		return -ESRCH;
	loop = timer->_loop;
	if (loop->inherited)
		return -ESHUTDOWN;
	if (!loop_is_here(loop))
		return -EPERM;
	sys_lock(&loop->mutex);
	loop_unset_timer_locked(loop, timer);
	sys_unlock(&loop->mutex);
	after_stop(loop);
	return 0;
}
