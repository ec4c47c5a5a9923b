/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The manual clock. It shows `now` and is on its way to `target`. Each step goes
 * to the nearest due time of any user, or to the target if that is nearer, and
 * waits there while a user that stops it has something due.
 */

#include "base/clock.h"

#include "base/fork.h"
#include "base/list.h"

struct evwork_clock {
	unsigned made_in;         /* fork_here() when it was made */
	sys_mutex mutex;          /* covers all but reads of now; a leaf */
	_Atomic int64_t now;
	int64_t target;
	LIST_OF(struct clock_user) users;
};

bool clock_inherited(const struct evwork_clock *clock)
{
	return clock && clock->made_in != fork_here();
}

int evwork_clock_new(int64_t start_ns, struct evwork_clock **ret_clock)
{
	struct evwork_clock *clock;
	int rc;

	if (!ret_clock || start_ns < 0 || start_ns == EVWORK_NEVER)
		return -EINVAL;
	rc = fork_notice();
	if (rc)
		return rc;
	clock = sys_zalloc(sizeof(*clock));
	if (!clock)
		return -ENOMEM;
	rc = sys_mutex_init(&clock->mutex);
	if (rc) {
		sys_free(clock);
		return rc;
	}
	clock->made_in = fork_here();
	atomic_init(&clock->now, start_ns);
	clock->target = start_ns;
	*ret_clock = clock;
	return 0;
}

int evwork_clock_free(struct evwork_clock *clock)
{
	bool used;

	if (!clock)
		return 0;
	if (clock_inherited(clock)) {
		sys_free(clock);
		return 0;
	}
	sys_lock(&clock->mutex);
	used = clock->users.head != NULL;
	sys_unlock(&clock->mutex);
	if (used)
		return -EBUSY;
	sys_mutex_fini(&clock->mutex);
	sys_free(clock);
	return 0;
}

int64_t evwork_clock_now(struct evwork_clock *clock)
{
	if (!clock)
		return sys_now();
	/* Acquire, with the release in move_locked: who sees a time sees what was
	 * written before the clock was moved there. */
	return atomic_load_explicit(&clock->now, memory_order_acquire);
}

static void move_locked(struct evwork_clock *clock, int64_t to)
{
	struct clock_user *user;

	atomic_store_explicit(&clock->now, to, memory_order_release);
	for (user = clock->users.head; user; user = user->next)
		if (user->due_ns <= to)
			user->poke(user);
}

static void step_locked(struct evwork_clock *clock)
{
	int64_t now = atomic_load_explicit(&clock->now, memory_order_relaxed);

	while (now < clock->target) {
		int64_t next = clock->target;
		struct clock_user *user;

		for (user = clock->users.head; user; user = user->next) {
			if (user->due_ns > now) {
				if (user->due_ns < next)
					next = user->due_ns;
			} else if (user->stops) {
				return;
			}
		}
		move_locked(clock, next);
		now = next;
	}
}

/* Never is never reached. */
static void set_target_locked(struct evwork_clock *clock, int64_t duration_ns)
{
	int64_t target = sys_time_add(clock->target, duration_ns);

	clock->target = target == EVWORK_NEVER ? target - 1 : target;
}

int evwork_clock_advance(struct evwork_clock *clock, int64_t duration_ns)
{
	if (!clock || duration_ns < 0)
		return -EINVAL;
	if (clock_inherited(clock))
		return -ESHUTDOWN;
	sys_lock(&clock->mutex);
	set_target_locked(clock, duration_ns);
	step_locked(clock);
	sys_unlock(&clock->mutex);
	return 0;
}

int evwork_clock_jump(struct evwork_clock *clock, int64_t duration_ns)
{
	if (!clock || duration_ns < 0)
		return -EINVAL;
	if (clock_inherited(clock))
		return -ESHUTDOWN;
	sys_lock(&clock->mutex);
	set_target_locked(clock, duration_ns);
	move_locked(clock, clock->target);
	sys_unlock(&clock->mutex);
	return 0;
}

void clock_join(struct evwork_clock *clock, struct clock_user *user)
{
	if (!clock)
		return;
	user->due_ns = EVWORK_NEVER;
	sys_lock(&clock->mutex);
	LIST_APPEND(&clock->users, user, next, prev);
	sys_unlock(&clock->mutex);
}

void clock_leave(struct evwork_clock *clock, struct clock_user *user)
{
	if (!clock)
		return;
	sys_lock(&clock->mutex);
	LIST_REMOVE(&clock->users, user, next, prev);
	/* It may have been what kept the clock at its stop. */
	step_locked(clock);
	sys_unlock(&clock->mutex);
}

void clock_due(struct evwork_clock *clock, struct clock_user *user, int64_t due_ns)
{
	if (!clock)
		return;
	sys_lock(&clock->mutex);
	user->due_ns = due_ns;
	if (due_ns <= atomic_load_explicit(&clock->now, memory_order_relaxed))
		user->poke(user);
	step_locked(clock);
	sys_unlock(&clock->mutex);
}

void clock_wait(struct evwork_clock *clock, struct clock_user *user)
{
	if (!clock)
		return;
	sys_lock(&clock->mutex);
	user->due_ns = atomic_load_explicit(&clock->now, memory_order_relaxed);
	sys_unlock(&clock->mutex);
}
