/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The life of a loop: making, holding, posting, closing, freeing. What happens in
 * a turn of the base stands in turn.c.
 *
 * Liveness. libevent's dispatch returns when no event is pending. The loop's own
 * three events are always pending, so they carry libevent's mark for internal
 * events, which do not count; keeper_event is an ordinary timer, far away, that
 * is pending exactly while something of the loop's own is. That costs no
 * system call, and other threads' work is still noticed whenever the base runs
 * (S-DLV-7, S-DLV-8).
 *
 * The events that must be set in calls that may not fail (tick_event) stay in
 * libevent's heap all the time, so that setting them again needs no memory.
 */

#include "run/loop.h"

#include <event2/event.h>
#include <string.h>

#include "base/broken.h"
#include "run/ctx.h"
#include "run/pool.h"

/* A year: long enough to be never, short enough for every libevent. */
const struct timeval loop_far_away = { 365 * 24 * 3600, 0 };

static SYS_THREAD_LOCAL int loops_here;

bool loop_any_here(void)
{
	return loops_here > 0;
}

static void poke(struct clock_user *user)
{
	struct evwork_loop *loop = EVWORK_CONTAINER(user, struct evwork_loop, clock_user);

	loop_kick(loop);
}

void loop_kick(struct evwork_loop *loop)
{
	/* Acquire and release: who finds the flag set leaves what it wrote to the
	 * turn that clears it. */
	if (!atomic_exchange_explicit(&loop->kicked, true, memory_order_acq_rel))
		mailbox_post(loop->box, &loop->kick.mail);
}

/* Nothing hangs on a kick. */
static void lose_kick(struct letter *letter)
{
	(void)letter;
}

static bool options_valid(const struct evwork_loop_options *options)
{
	return options->batch >= 0 && options->budget_us >= 0 && options->spin_us >= 0 &&
	       options->event_priority >= 0 && options->stall_ms >= 0 &&
	       options->notify >= EVWORK_NOTIFY_DEFAULT && options->notify <= EVWORK_NOTIFY_PIPE;
}

static int set_event(struct evwork_loop *loop, struct event *event, evutil_socket_t fd,
	short what, event_callback_fn fn, const struct timeval *timeout, int priority)
{
	if (event_assign(event, loop->base, fd, what, fn, loop) != 0)
		return -EINVAL;
	if (priority > 0 && event_priority_set(event, priority - 1) != 0)
		return -EINVAL;
	event->ev_evcallback.evcb_flags |= EVLIST_INTERNAL;
	return event_add(event, timeout) == 0 ? 0 : -ENOMEM;
}

static void on_keeper(evutil_socket_t fd, short what, void *arg)
{
	struct evwork_loop *loop = arg;

	(void)fd;
	(void)what;
	/* A year has passed. If the memory is gone the next submit sets it again. */
	loop->keeper_on = event_add(&loop->keeper_event, &loop_far_away) == 0;
}

/* Something was delivered; that libevent calls this is all it is for. */
static void on_progress(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static int add_events(struct evwork_loop *loop, int priority)
{
	int rc = set_event(loop, &loop->notify_event, mailbox_fd(loop->box),
			EV_READ | EV_PERSIST, turn_on_notify, NULL, priority);

	if (rc)
		return rc;
	rc = set_event(loop, &loop->tick_event, -1, 0, turn_on_tick, &loop_far_away, priority);
	if (rc)
		goto remove_notify;
	loop->tick_pending = true;
	if (mailbox_hold_fd(loop->box) >= 0) {
		rc = set_event(loop, &loop->hold_event, mailbox_hold_fd(loop->box),
			EV_READ | EV_PERSIST, turn_on_hold, NULL, priority);
		if (rc)
			goto remove_tick;
	}
	event_assign(&loop->keeper_event, loop->base, -1, 0, on_keeper, loop);
	event_assign(&loop->progress_event, loop->base, -1, 0, on_progress, loop);
	if (priority > 0)
		event_priority_set(&loop->progress_event, priority - 1);
	return 0;

remove_tick:
	event_del(&loop->tick_event);
remove_notify:
	event_del(&loop->notify_event);
	return rc;
}

int evwork_loop_new(struct event_base *base, struct evwork_pool *pool,
	const struct evwork_loop_options *options, struct evwork_loop **ret_loop)
{
	static const struct evwork_loop_options defaults;
	struct evwork_loop *loop;
	int rc;

	if (!options)
		options = &defaults;
	if (!base || !ret_loop || !options_valid(options))
		return -EINVAL;
	if (clock_inherited(options->clock) || (pool && pool->inherited))
		return -ESHUTDOWN;
	loop = sys_zalloc(sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->base = base;
	loop->pool = pool;
	loop->lane = evwork_pool_lane(pool);
	loop->clock = options->clock;
	loop->thread = pthread_self();
	strncpy(loop->name, options->name ? options->name : "loop", sizeof(loop->name) - 1);
	loop->batch = options->batch ? options->batch : EVWORK_BATCH_DEFAULT;
	loop->budget_ns = sys_time_mul(options->budget_us ? options->budget_us :
		EVWORK_BUDGET_US_DEFAULT, SYS_NS_PER_US);
	loop->spin_ns = sys_time_mul(options->spin_us, SYS_NS_PER_US);
	loop->tick_at = EVWORK_NEVER;
	loop->clock_user.poke = poke;
	loop->clock_user.stops = true;
	letter_init(&loop->kick, NULL, turn_on_kick, lose_kick);
	rc = sys_mutex_init(&loop->mutex);
	if (rc)
		goto free_loop;
	rc = mailbox_new(options->notify, &loop->box);
	if (rc)
		goto fini_mutex;
	rc = add_events(loop, options->event_priority);
	if (rc)
		goto close_box;
	loop->fork_entry.forked = loop_forked;
	rc = fork_join(&loop->fork_entry);
	if (rc)
		goto remove_events;
	rc = stall_loop_start(loop, options->stall_ms);
	if (rc)
		goto leave_forks;
	clock_join(loop->clock, &loop->clock_user);
	loops_here++;
	*ret_loop = loop;
	return 0;

leave_forks:
	fork_leave(&loop->fork_entry);
remove_events:
	loop_remove_events(loop);
close_box:
	mailbox_close(loop->box);
fini_mutex:
	sys_mutex_fini(&loop->mutex);
free_loop:
	sys_free(loop);
	return rc;
}

void loop_destroy(struct evwork_loop *loop)
{
	if (!loop->inherited)
		sys_mutex_fini(&loop->mutex);
	sys_free(loop);
}

/* Whether anything accepted has still to be called back. The own thread. */
static bool busy(struct evwork_loop *loop)
{
	bool any;

	if (atomic_load_explicit(&loop->own, memory_order_relaxed) ||
	    atomic_load(&loop->foreign) || loop->holds)
		return true;
	sys_lock(&loop->mutex);
	any = loop->timer_count || loop->watches.head || loop->fired.head ||
	      loop->calling.head ||
	      (atomic_load_explicit(&loop->closing, memory_order_relaxed) && !loop->closed_called);
	sys_unlock(&loop->mutex);
	return any;
}

void loop_remove_events(struct evwork_loop *loop)
{
	event_del(&loop->notify_event);
	event_del(&loop->tick_event);
	event_del(&loop->keeper_event);
	event_del(&loop->progress_event);
	if (mailbox_hold_fd(loop->box) >= 0)
		event_del(&loop->hold_event);
	loop->tick_pending = false;
}

bool loop_base_is_gone(const struct evwork_loop *loop)
{
	/* Freeing a base takes every timer out of it, ours included. */
	return loop->tick_pending && !(loop->tick_event.ev_evcallback.evcb_flags &
		(EVLIST_TIMEOUT | EVLIST_ACTIVE | EVLIST_ACTIVE_LATER));
}

void loop_detach(struct evwork_loop *loop)
{
	stall_loop_stop(loop);
	clock_leave(loop->clock, &loop->clock_user);
	fork_leave(&loop->fork_entry);
	if (loop_base_is_gone(loop))
		base_broken("evwork_loop_free: the event base was freed before its loop");
	else
		loop_remove_events(loop);
	loops_here--;
}

int evwork_loop_free(struct evwork_loop *loop)
{
	if (!loop)
		return 0;
	if (loop->inherited) {
		bool here = loop_is_here(loop);
		int rc = loop_free_inherited(loop);

		loops_here -= rc == 0 && here;
		return rc;
	}
	if (!loop_is_here(loop))
		return -EPERM;
	if (stall_loop_is_here(loop))
		return -EDEADLK;
	if (loop->dead || loop->orphaned || busy(loop))
		return -EBUSY;
	stage_flush_counts(loop);
	loop_detach(loop);
	mailbox_close(loop->box);
	if (loop->running)
		loop->dead = loop->over = true;    /* the turn that runs now frees the memory */
	else
		loop_destroy(loop);
	return 0;
}

int loop_keep_alive(struct evwork_loop *loop)
{
	if (loop->keeper_on)
		return 0;
	if (event_add(&loop->keeper_event, &loop_far_away) != 0)
		return -ENOMEM;
	loop->keeper_on = true;
	return 0;
}

void loop_update_alive(struct evwork_loop *loop)
{
	bool alive = loop->holds || atomic_load_explicit(&loop->own, memory_order_relaxed) ||
		(loop->closed_here && !loop->closed_called);

	if (!loop->keeper_on)
		return;
	if (!alive) {
		sys_lock(&loop->mutex);
		alive = loop->timers_alive || loop->fired.head || loop->calling.head;
		sys_unlock(&loop->mutex);
	}
	if (!alive) {
		event_del(&loop->keeper_event);
		loop->keeper_on = false;
	}
}

int loop_wait_begin(struct evwork_loop *loop)
{
	int rc = loop_keep_alive(loop);

	if (rc)
		return rc;
	sys_lock(&loop->mutex);
	loop->timers_alive++;
	sys_unlock(&loop->mutex);
	return 0;
}

void loop_wait_end(struct evwork_loop *loop)
{
	sys_lock(&loop->mutex);
	loop->timers_alive--;
	sys_unlock(&loop->mutex);
	/* A turn does this at its end. */
	if (!loop->running && !loop->orphaned)
		loop_update_alive(loop);
}

static void foreign_backs_off(struct evwork_loop *loop)
{
	bool orphaned;

	if (loop->inherited) {
		atomic_fetch_sub(&loop->foreign, 1);
		return;
	}
	/* Under the lock, as the loop may be freed as soon as the count is 0. */
	sys_lock(&loop->mutex);
	orphaned = loop->orphaned;
	if (!orphaned) {
		atomic_fetch_sub(&loop->foreign, 1);
		loop_kick(loop);
	}
	sys_unlock(&loop->mutex);
	if (orphaned)
		loop_orphan_leave(loop);
}

static int enter(struct evwork_loop *loop, bool *ret_own)
{
	bool own = loop_is_here(loop);

	if (own) {
		if (atomic_load_explicit(&loop->closing, memory_order_acquire))
			return -ESHUTDOWN;
		count_up(&loop->own, 1);
	} else {
		/* Sequentially consistent, as the store and load in closing: either
		 * the loop sees this count or this thread sees it closing. */
		atomic_fetch_add(&loop->foreign, 1);
		if (atomic_load(&loop->closing)) {
			foreign_backs_off(loop);
			return -ESHUTDOWN;
		}
	}
	*ret_own = own;
	return 0;
}

int loop_enter(struct evwork_loop *loop, bool *ret_own)
{
	if (loop_is_here(loop) && !loop->keeper_on &&
	    !atomic_load_explicit(&loop->closing, memory_order_acquire) &&
	    loop_keep_alive(loop) != 0)
		return -ENOMEM;
	return enter(loop, ret_own);
}

int loop_enter_always(struct evwork_loop *loop, bool *ret_own)
{
	/* Without memory for the keeper, what comes is delivered when the base runs
	 * for another reason. */
	if (loop_is_here(loop))
		loop_keep_alive(loop);
	return enter(loop, ret_own);
}

void loop_leave(struct evwork_loop *loop, bool own)
{
	if (!own && !loop_is_here(loop)) {
		foreign_backs_off(loop);
	} else if (loop->orphaned) {
		/* In the done of an abandoned job. */
		loop_orphan_leave(loop);
	} else if (own) {
		loop_count_own_out(loop);
		/* After a refusal; a turn does this at its end. */
		if (!loop->running)
			loop_update_alive(loop);
	} else {
		atomic_fetch_sub(&loop->foreign, 1);
	}
}

int evwork_loop_hold(struct evwork_loop *loop)
{
	int rc;

	if (!loop)
		return -EINVAL;
	if (loop->inherited)
		return -ESHUTDOWN;
	if (!loop_is_here(loop))
		return -EPERM;
	rc = loop_keep_alive(loop);
	if (rc == 0)
		loop->holds++;
	return rc;
}

int evwork_loop_release(struct evwork_loop *loop)
{
	if (!loop)
		return -EINVAL;
	if (loop->inherited)
		return -ESHUTDOWN;
	if (!loop_is_here(loop))
		return -EPERM;
	if (loop->holds == 0)
		return -EINVAL;
	loop->holds--;
	loop_update_alive(loop);
	return 0;
}

int evwork_loop_close(struct evwork_loop *loop, evwork_loop_closed_fn fn, void *arg)
{
	struct loop_hook *hook;
	bool before, here;

	if (!loop)
		return -EINVAL;
	if (loop->inherited)
		return -ESHUTDOWN;
	here = loop_is_here(loop);
	sys_lock(&loop->mutex);
	before = atomic_load(&loop->closing);
	if (!before) {
		loop->closed_fn = fn;
		loop->closed_arg = arg;
		atomic_store(&loop->closing, true);
		for (hook = loop->hooks.head; hook; hook = hook->next)
			hook->closing(hook);
		loop_kick(loop);
	}
	sys_unlock(&loop->mutex);
	if (before)
		return -EALREADY;
	/* Without memory for the keeper the close still goes its way; it then needs
	 * something else that keeps the base running. */
	if (here) {
		loop->closed_here = true;
		loop_keep_alive(loop);
	}
	return 0;
}

int loop_add_hook(struct evwork_loop *loop, struct loop_hook *hook, bool *ret_own)
{
	int rc = loop_enter(loop, ret_own);

	if (rc)
		return rc;
	sys_lock(&loop->mutex);
	LIST_APPEND(&loop->hooks, hook, next, prev);
	sys_unlock(&loop->mutex);
	return 0;
}

void loop_remove_hook(struct evwork_loop *loop, struct loop_hook *hook, bool own)
{
	sys_lock(&loop->mutex);
	LIST_REMOVE(&loop->hooks, hook, next, prev);
	sys_unlock(&loop->mutex);
	loop_leave(loop, own);
}

struct event_base *evwork_loop_base(struct evwork_loop *loop)
{
	return loop ? loop->base : NULL;
}

struct evwork_pool *evwork_loop_pool(struct evwork_loop *loop)
{
	return loop ? loop->pool : NULL;
}

int64_t evwork_loop_now(struct evwork_loop *loop)
{
	return clock_now(loop ? loop->clock : NULL);
}

int evwork_loop_stats(struct evwork_loop *loop, struct evwork_loop_stats *ret_stats)
{
	if (!loop || !ret_stats)
		return -EINVAL;
	ret_stats->delivered = atomic_load_explicit(&loop->delivered, memory_order_relaxed);
	ret_stats->turns = atomic_load_explicit(&loop->turns, memory_order_relaxed);
	ret_stats->wakeups = atomic_load_explicit(&loop->wakeups, memory_order_relaxed);
	ret_stats->stalls = atomic_load_explicit(&loop->stalls, memory_order_relaxed);
	ret_stats->stall_reports = atomic_load_explicit(&loop->stall_reports,
		memory_order_relaxed);
	ret_stats->outstanding = atomic_load_explicit(&loop->own, memory_order_relaxed) +
		atomic_load_explicit(&loop->foreign, memory_order_relaxed);
	return 0;
}
