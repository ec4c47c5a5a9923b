/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Timers: when and in which order they fire, stopping them, what they refuse, and what
 * their callbacks may do. Their end with their loop is in check_timer_close.c, the
 * bound of a turn in check_dlv_turns.c, and want of memory in check_gen_order.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

#define MS SYS_NS_PER_MS

static void ignore(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

/* Passes of the base, each ended by an event of the test's own. */
static void passes(struct event_base *base, int n)
{
	struct event *mark = event_new(base, -1, 0, ignore, NULL);

	ck_assert_ptr_nonnull(mark);
	while (n-- > 0) {
		event_active(mark, EV_TIMEOUT, 0);
		ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
	}
	event_free(mark);
}

static void open_manual(struct world *world)
{
	world_open_manual(world, 1, 0);
	ck_assert_int_eq(evwork_loop_hold(world->loop), 0);
}

static void close_manual(struct world *world)
{
	ck_assert_int_eq(evwork_loop_release(world->loop), 0);
	world_close(world);
}

static void start(struct world *world, struct support_timer *timer, int64_t timeout_ms)
{
	support_timer_init(timer, world->loop);
	ck_assert_int_eq(evwork_timer_start(world->loop, &timer->timer, timeout_ms), 0);
}

/* When. */

static const int64_t at_once[] = { 0, -1, INT64_MIN };

/* A timeout of nothing or less fires once, with 0, in a later turn; nothing else has to
 * wake the base: S-GEN-3, S-GEN-10. */
START_TEST(fires_at_once)
{
	struct support_timer relative, absolute;
	struct world world;

	world_open(&world, 1);
	start(&world, &relative, at_once[_i]);
	support_timer_init(&absolute, world.loop);
	ck_assert_int_eq(evwork_timer_start_at(world.loop, &absolute.timer, at_once[_i]), 0);
	ck_assert_int_eq(relative.calls + absolute.calls, 0);
	world_run(&world);
	ck_assert_int_eq(relative.calls, 1);
	ck_assert_int_eq(relative.status, 0);
	ck_assert_int_eq(absolute.calls, 1);
	ck_assert_int_eq(absolute.status, 0);
	world_close(&world);
}
END_TEST

static void keep_busy(int ms)
{
	int64_t end = sys_now() + ms * MS;

	while (sys_now() < end)
		sys_relax();
}

#define LATES 20

struct lates {
	struct world world;
	struct support_timer timers[LATES];
	int64_t due[LATES];
};

/* Arms timers of 5 to 24 ms after 50 ms of work. */
static void arm_after_work(void *arg)
{
	struct lates *lates = arg;
	int i;

	keep_busy(50);
	for (i = 0; i < LATES; i++) {
		int64_t timeout = 5 + (i * 7) % LATES;

		support_timer_init(&lates->timers[i], lates->world.loop);
		lates->due[i] = sys_now() + timeout * MS;
		if (evwork_timer_start(lates->world.loop, &lates->timers[i].timer, timeout) != 0)
			abort();
	}
}

/* Timers that are armed after 50 ms of work in a callback are not early by the time the
 * turn began, though another event wakes the loop all the time: S-GEN-11. */
START_TEST(never_early)
{
	static const struct timeval ms = { 0, 1000 };
	struct event *ticker;
	struct lates lates;
	int i;

	memset(&lates, 0, sizeof(lates));
	world_open(&lates.world, 1);
	ticker = event_new(lates.world.base, -1, EV_PERSIST, ignore, NULL);
	ck_assert_int_eq(event_add(ticker, &ms), 0);
	ck_assert_int_eq(evwork_post(lates.world.loop, arm_after_work, &lates), 0);
	for (i = 0; i < LATES; i++) {
		world_run_until(&lates.world, &lates.timers[i].calls, 1);
		ck_assert_int_ge(lates.timers[i].at_ns, lates.due[i]);
	}
	event_free(ticker);
	world_close(&lates.world);
}
END_TEST

static void start_short(struct support_timer *timer)
{
	struct support_timer *next = timer->arg;

	if (evwork_timer_start(timer->loop, &next->timer, 1) != 0)
		abort();
}

/* An earlier timer is noticed although the base already waits for a later one, and a later
 * one still fires after an earlier one that was stopped: S-GEN-12. */
START_TEST(earlier_and_later)
{
	struct support_timer far_off, begins, next, stopped;
	struct world world;

	world_open(&world, 1);
	start(&world, &far_off, 3600000);
	start(&world, &begins, 2);
	support_timer_init(&next, world.loop);
	begins.on = start_short;
	begins.arg = &next;
	while (next.calls == 0)
		ck_assert_int_eq(event_base_loop(world.base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
	start(&world, &next, 5);
	start(&world, &stopped, 1);
	ck_assert_int_eq(evwork_timer_stop(&stopped.timer), 0);
	ck_assert_int_eq(evwork_timer_stop(&far_off.timer), 0);
	world_run(&world);
	ck_assert_int_eq(next.calls, 1);
	ck_assert_int_eq(stopped.calls + far_off.calls, 0);
	world_close(&world);
}
END_TEST

/* Points beyond what libevent can count are waited for, not refused and not due: S-GEN-9. */
START_TEST(far_away)
{
	static const int64_t points[] = {
		EVWORK_NEVER, EVWORK_NEVER - 1, INT64_C(1000000000) * 3600 * 24 * 365 * 100
	};
	struct support_timer far_off, soon;
	struct world world;

	world_open(&world, 1);
	support_timer_init(&far_off, world.loop);
	ck_assert_int_eq(evwork_timer_start_at(world.loop, &far_off.timer, points[_i]), 0);
	passes(world.base, 3);
	start(&world, &soon, 1);
	world_run_until(&world, &soon.calls, 1);
	ck_assert_int_eq(far_off.calls, 0);
	ck_assert_int_eq(evwork_timer_stop(&far_off.timer), 0);
	world_run(&world);
	world_close(&world);
}
END_TEST

/* Order. */

#define MANY 60

/* Timers fire in the order in which they are due, and those of one time in that in which
 * they were set; an advance stops at each time, after a jump all are late: S-GEN-13,
 * S-GEN-12. */
START_TEST(order_is_due_then_set)
{
	struct support_timer timers[MANY];
	struct world world;
	int i, k, order = 0;
	bool jumps = _i;

	open_manual(&world);
	/* Ten different times, six timers each, mixed. */
	for (i = 0; i < MANY; i++)
		start(&world, &timers[i], (i * 7) % 10 + 1);
	if (jumps)
		ck_assert_int_eq(evwork_clock_jump(world.clock, 20 * MS), 0);
	else
		ck_assert_int_eq(evwork_clock_advance(world.clock, 20 * MS), 0);
	ck_assert_int_eq(timers[0].calls, 0);
	passes(world.base, 200);
	for (k = 1; k <= 10; k++)
		for (i = 0; i < MANY; i++) {
			if ((i * 7) % 10 + 1 != k)
				continue;
			ck_assert_int_eq(timers[i].calls, 1);
			ck_assert_int_eq(timers[i].order, ++order);
			ck_assert_int_eq(timers[i].at_ns, (jumps ? 20 : k) * MS);
		}
	ck_assert_int_eq(evwork_clock_now(world.clock), 20 * MS);
	close_manual(&world);
}
END_TEST

/* The same order on the system's clock, when all are due at once: S-GEN-12. */
START_TEST(order_on_the_system_clock)
{
	struct support_timer timers[MANY];
	struct world world;
	int64_t base;
	int i, k, order = 0;

	world_open(&world, 1);
	base = evwork_loop_now(world.loop) - 20 * MS;
	for (i = 0; i < MANY; i++) {
		support_timer_init(&timers[i], world.loop);
		ck_assert_int_eq(evwork_timer_start_at(world.loop, &timers[i].timer,
			base + (i * 7) % 10 * MS), 0);
	}
	world_run(&world);
	for (k = 0; k < 10; k++)
		for (i = 0; i < MANY; i++)
			if ((i * 7) % 10 == k)
				ck_assert_int_eq(timers[i].order, ++order);
	world_close(&world);
}
END_TEST

#define CROWD 500

struct crowd {
	struct world world;
	struct support_timer timers[CROWD];
	int64_t due[CROWD];
	int set[CROWD];            /* order of setting; 0: not set */
	int count;
	uint32_t seed;
};

static uint32_t next_random(struct crowd *crowd)
{
	crowd->seed = crowd->seed * 1664525u + 1013904223u;
	return crowd->seed >> 8;
}

/* Starts the timer if it is idle, else stops it. */
static void toggle(struct crowd *crowd, int i)
{
	if (crowd->set[i]) {
		ck_assert_int_eq(evwork_timer_stop(&crowd->timers[i].timer), 0);
		crowd->set[i] = 0;
		return;
	}
	crowd->due[i] = (next_random(crowd) % 50 + 1) * MS;
	ck_assert_int_eq(evwork_timer_start_at(crowd->world.loop, &crowd->timers[i].timer,
		crowd->due[i]), 0);
	crowd->set[i] = ++crowd->count;
}

/* Which of those that are set and not marked as fired is the next; -1 if none. */
static int first_of(const struct crowd *crowd)
{
	int best = -1, i;

	for (i = 0; i < CROWD; i++) {
		if (!crowd->set[i])
			continue;
		if (best < 0 || crowd->due[i] < crowd->due[best] ||
		    (crowd->due[i] == crowd->due[best] && crowd->set[i] < crowd->set[best]))
			best = i;
	}
	return best;
}

/* After many starts and stops in no order, exactly those that are set fire, at their time
 * and in their order: S-GEN-13. */
START_TEST(crowd_fires_in_order)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	int i, order = 0;

	open_manual(&crowd->world);
	crowd->seed = (uint32_t)_i + 1;
	for (i = 0; i < CROWD; i++)
		support_timer_init(&crowd->timers[i], crowd->world.loop);
	for (i = 0; i < 8 * CROWD; i++)
		toggle(crowd, (int)(next_random(crowd) % CROWD));
	ck_assert_int_eq(evwork_clock_advance(crowd->world.clock, 100 * MS), 0);
	passes(crowd->world.base, 300);
	while ((i = first_of(crowd)) >= 0) {
		ck_assert_int_eq(crowd->timers[i].calls, 1);
		ck_assert_int_eq(crowd->timers[i].at_ns, crowd->due[i]);
		ck_assert_int_eq(crowd->timers[i].order, ++order);
		crowd->set[i] = 0;
		crowd->timers[i].calls = 0;
	}
	for (i = 0; i < CROWD; i++)
		ck_assert_int_eq(crowd->timers[i].calls, 0);
	close_manual(&crowd->world);
	free(crowd);
}
END_TEST

/* Stopping and refusing. */

/* A timer that was stopped does not fire; stopping it again, or after it fired, or before it
 * was ever set, is ESRCH; it may be set anew: S-GEN-7. */
START_TEST(stopped_does_not_fire)
{
	struct support_timer timer, other;
	struct world world;

	open_manual(&world);
	support_timer_init(&timer, world.loop);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), -ESRCH);
	start(&world, &other, 10);
	start(&world, &timer, 10);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), 0);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), -ESRCH);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * MS), 0);
	passes(world.base, 5);
	ck_assert_int_eq(timer.calls, 0);
	ck_assert_int_eq(other.calls, 1);
	ck_assert_int_eq(evwork_timer_stop(&other.timer), -ESRCH);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 10), 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * MS), 0);
	/* Due, but its callback has not started. */
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), 0);
	passes(world.base, 5);
	ck_assert_int_eq(timer.calls, 0);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 0), 0);
	passes(world.base, 5);
	ck_assert_int_eq(timer.calls, 1);
	close_manual(&world);
}
END_TEST

/* A pending timer refuses to be set, and keeps its time: S-GEN-7. */
START_TEST(pending_is_busy)
{
	struct support_timer timer;
	struct world world;

	open_manual(&world);
	start(&world, &timer, 20);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 0), -EBUSY);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 1000), -EBUSY);
	ck_assert_int_eq(evwork_timer_start_at(world.loop, &timer.timer, 1), -EBUSY);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 100 * MS), 0);
	passes(world.base, 5);
	ck_assert_int_eq(timer.calls, 1);
	ck_assert_int_eq(timer.at_ns, 20 * MS);
	close_manual(&world);
}
END_TEST

struct elsewhere {
	struct world world;
	struct support_timer pending, idle;
	int rc[4];
};

static void use_elsewhere(void *arg)
{
	struct elsewhere *elsewhere = arg;
	struct evwork_loop *loop = elsewhere->world.loop;

	elsewhere->rc[0] = evwork_timer_start(loop, &elsewhere->idle.timer, 0);
	elsewhere->rc[1] = evwork_timer_start_at(loop, &elsewhere->idle.timer, 0);
	elsewhere->rc[2] = evwork_timer_stop(&elsewhere->pending.timer);
	elsewhere->rc[3] = evwork_timer_start(loop, &elsewhere->pending.timer, 0);
}

/* On another thread timers are neither set nor stopped: EPERM, and the pending one fires at
 * its time, S-GEN-4. */
START_TEST(elsewhere_is_refused)
{
	struct elsewhere elsewhere;
	int i;

	open_manual(&elsewhere.world);
	start(&elsewhere.world, &elsewhere.pending, 10);
	support_timer_init(&elsewhere.idle, elsewhere.world.loop);
	support_elsewhere(use_elsewhere, &elsewhere);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(elsewhere.rc[i], -EPERM);
	ck_assert_int_eq(evwork_clock_advance(elsewhere.world.clock, 10 * MS), 0);
	passes(elsewhere.world.base, 5);
	ck_assert_int_eq(elsewhere.pending.calls, 1);
	ck_assert_int_eq(elsewhere.idle.calls, 0);
	ck_assert_int_eq(evwork_timer_stop(&elsewhere.idle.timer), -ESRCH);
	close_manual(&elsewhere.world);
}
END_TEST

/* A missing loop, timer or function is EINVAL and sets nothing: S-GEN-8. */
START_TEST(malformed_is_refused)
{
	struct support_timer timer;
	struct evwork_timer functionless;
	struct world world;

	open_manual(&world);
	support_timer_init(&timer, world.loop);
	evwork_timer_init(&functionless, NULL);
	ck_assert_int_eq(evwork_timer_start(NULL, &timer.timer, 0), -EINVAL);
	ck_assert_int_eq(evwork_timer_start(world.loop, NULL, 0), -EINVAL);
	ck_assert_int_eq(evwork_timer_start(world.loop, &functionless, 0), -EINVAL);
	ck_assert_int_eq(evwork_timer_start_at(NULL, &timer.timer, 0), -EINVAL);
	ck_assert_int_eq(evwork_timer_start_at(world.loop, NULL, 0), -EINVAL);
	ck_assert_int_eq(evwork_timer_start_at(world.loop, &functionless, 0), -EINVAL);
	ck_assert_int_eq(evwork_timer_stop(NULL), -EINVAL);
	passes(world.base, 3);
	ck_assert_int_eq(timer.calls, 0);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), -ESRCH);
	close_manual(&world);
}
END_TEST

/* From callbacks. */

static void restart(struct support_timer *timer)
{
	if (timer->calls < 5 && evwork_timer_start(timer->loop, &timer->timer, 10) != 0)
		abort();
}

/* A timer may set itself again in its callback: S-GEN-7, S-GEN-13. */
START_TEST(restarts_itself)
{
	struct support_timer timer;
	struct world world;

	open_manual(&world);
	start(&world, &timer, 10);
	timer.on = restart;
	ck_assert_int_eq(evwork_clock_advance(world.clock, 35 * MS), 0);
	passes(world.base, 20);
	ck_assert_int_eq(timer.calls, 3);
	ck_assert_int_eq(timer.at_ns, 30 * MS);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 100 * MS), 0);
	passes(world.base, 20);
	ck_assert_int_eq(timer.calls, 5);
	ck_assert_int_eq(timer.at_ns, 50 * MS);
	close_manual(&world);
}
END_TEST

struct pair {
	struct support_timer a, b, c;
	int rc, own_rc;
};

static void stop_next(struct support_timer *timer)
{
	struct pair *pair = timer->arg;

	pair->own_rc = evwork_timer_stop(&timer->timer);
	pair->rc = evwork_timer_stop(&pair->b.timer);
}

/* A callback may stop another timer that is due in the same turn, which then does not fire;
 * its own is idle by then: S-GEN-7, S-GEN-5. */
START_TEST(stops_another_that_is_due)
{
	struct pair pair;
	struct world world;

	open_manual(&world);
	start(&world, &pair.a, 10);
	start(&world, &pair.b, _i ? 11 : 10);
	start(&world, &pair.c, 12);
	pair.a.on = stop_next;
	pair.a.arg = &pair;
	ck_assert_int_eq(evwork_clock_jump(world.clock, 20 * MS), 0);
	passes(world.base, 5);
	ck_assert_int_eq(pair.a.calls, 1);
	ck_assert_int_eq(pair.own_rc, -ESRCH);
	ck_assert_int_eq(pair.rc, 0);
	ck_assert_int_eq(pair.b.calls, 0);
	ck_assert_int_eq(pair.c.calls, 1);
	close_manual(&world);
}
END_TEST

static int freed_timers;

static void free_itself(struct support_timer *timer)
{
	memset(timer, 0xa5, sizeof(*timer));
	free(timer);
	freed_timers++;
}

static void stop_and_free_next(struct support_timer *timer)
{
	struct support_timer *next = timer->arg;

	if (evwork_timer_stop(&next->timer) == 0)
		free_itself(next);
	free_itself(timer);
}

/* A callback may free its timer, and another one that it has stopped: S-GEN-5. */
START_TEST(memory_is_freed_in_callbacks)
{
	struct support_timer *timers[4];
	struct world world;
	int i;

	freed_timers = 0;
	open_manual(&world);
	for (i = 0; i < 4; i++) {
		timers[i] = malloc(sizeof(*timers[i]));
		start(&world, timers[i], 10);
		timers[i]->on = free_itself;
	}
	timers[1]->on = stop_and_free_next;
	timers[1]->arg = timers[2];
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * MS), 0);
	passes(world.base, 5);
	ck_assert_int_eq(freed_timers, 4);
	close_manual(&world);
}
END_TEST

static void set_next_past(struct support_timer *timer)
{
	struct pair *pair = timer->arg;

	pair->rc = evwork_timer_start_at(timer->loop, &pair->c.timer, 0);
}

/* What a callback sets to a time that is long past comes after those that were due with it,
 * and keeps none of them back: S-GEN-13. */
START_TEST(set_to_the_past_in_a_callback)
{
	struct pair pair;
	struct world world;

	open_manual(&world);
	start(&world, &pair.a, 10);
	start(&world, &pair.b, 11);
	support_timer_init(&pair.c, world.loop);
	pair.a.on = set_next_past;
	pair.a.arg = &pair;
	ck_assert_int_eq(evwork_clock_jump(world.clock, 20 * MS), 0);
	passes(world.base, 5);
	ck_assert_int_eq(pair.rc, 0);
	ck_assert_int_eq(pair.a.calls, 1);
	ck_assert_int_eq(pair.b.calls, 1);
	ck_assert_int_eq(pair.c.calls, 1);
	close_manual(&world);
}
END_TEST

/* A timer that is idle may be used with another loop: S-GEN-7. */
START_TEST(moves_to_another_loop)
{
	struct support_timer timer;
	struct evwork_loop *second;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_loop_new(world.base, NULL, NULL, &second), 0);
	start(&world, &timer, 0);
	world_run(&world);
	ck_assert_int_eq(timer.calls, 1);
	ck_assert_int_eq(evwork_timer_start(second, &timer.timer, 0), 0);
	ck_assert_int_eq(evwork_loop_free(second), -EBUSY);
	world_run(&world);
	ck_assert_int_eq(timer.calls, 2);
	ck_assert_int_eq(evwork_timer_start(second, &timer.timer, 1000), 0);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), 0);
	ck_assert_int_eq(evwork_loop_free(second), 0);
	world_close(&world);
}
END_TEST

static void add_when(Suite *suite)
{
	TCase *tcase = support_case(suite, "when");

	tcase_add_loop_test(tcase, fires_at_once, 0, 3);
	tcase_add_test(tcase, never_early);
	tcase_add_test(tcase, earlier_and_later);
	tcase_add_loop_test(tcase, far_away, 0, 3);
	tcase_add_loop_test(tcase, order_is_due_then_set, 0, 2);
	tcase_add_test(tcase, order_on_the_system_clock);
	tcase_add_loop_test(tcase, crowd_fires_in_order, 0, 5);
}

static void add_refusals(Suite *suite)
{
	TCase *tcase = support_case(suite, "refusals");

	tcase_add_test(tcase, stopped_does_not_fire);
	tcase_add_test(tcase, pending_is_busy);
	tcase_add_test(tcase, elsewhere_is_refused);
	tcase_add_test(tcase, malformed_is_refused);
}

static void add_callbacks(Suite *suite)
{
	TCase *tcase = support_case(suite, "callbacks");

	tcase_add_test(tcase, restarts_itself);
	tcase_add_loop_test(tcase, stops_another_that_is_due, 0, 2);
	tcase_add_test(tcase, memory_is_freed_in_callbacks);
	tcase_add_test(tcase, set_to_the_past_in_a_callback);
	tcase_add_test(tcase, moves_to_another_loop);
}

static Suite *suite(void)
{
	Suite *timer = suite_create("timer");

	add_when(timer);
	add_refusals(timer);
	add_callbacks(timer);
	return timer;
}

int main(void)
{
	return support_run(suite());
}
