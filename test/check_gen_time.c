/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * General rules about time: what it is, that nothing is early, and that lateness does not
 * add up. The manual clock is in check_gen_clock.c, more about timers in check_timer.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>
#include <time.h>

#define MS SYS_NS_PER_MS

static int64_t monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void ignore(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

/* Passes of the base, more than any test here has steps; each is ended by an event of
 * the test's own, so that a loop that never comes to rest is no hang. */
static void settle(struct world *world)
{
	struct event *mark = event_new(world->base, -1, 0, ignore, NULL);
	int n;

	ck_assert_ptr_nonnull(mark);
	for (n = 0; n < 50; n++) {
		event_active(mark, EV_TIMEOUT, 0);
		ck_assert_int_ge(event_base_loop(world->base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
	}
	event_free(mark);
}

static void manual_open(struct world *world, int64_t start_ns)
{
	world_open_manual(world, 1, start_ns);
	/* So that the base runs although nothing may be pending. */
	ck_assert_int_eq(evwork_loop_hold(world->loop), 0);
}

static void manual_close(struct world *world)
{
	ck_assert_int_eq(evwork_loop_release(world->loop), 0);
	world_close(world);
}

/* Points in time. */

/* Without a clock of its own a loop reads CLOCK_MONOTONIC in nanoseconds, and deadlines
 * are counted from there: S-GEN-9. */
START_TEST(time_is_monotonic_nanoseconds)
{
	struct evwork_ctx *ctx;
	struct world world;
	int64_t before, now, after, deadline;

	world_open(&world, 1);
	before = monotonic();
	now = evwork_loop_now(world.loop);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 3600000, 0, &ctx), 0);
	after = monotonic();
	deadline = evwork_ctx_deadline(ctx);
	ck_assert_int_ge(now, before);
	ck_assert_int_le(now, after);
	ck_assert_int_ge(deadline, before + 3600000 * MS);
	ck_assert_int_le(deadline, after + 3600000 * MS);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* A timeout or a point in time beyond the end of time is never, and never does not
 * come, not even after a jump to the end: S-GEN-9. */
START_TEST(never_does_not_come)
{
	struct support_timer timers[3];
	struct evwork_ctx *ctx;
	struct world world;
	int i;

	manual_open(&world, 1000);
	for (i = 0; i < 3; i++)
		support_timer_init(&timers[i], world.loop);
	ck_assert_int_eq(evwork_timer_start_at(world.loop, &timers[0].timer, EVWORK_NEVER), 0);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timers[1].timer, INT64_MAX), 0);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timers[2].timer, INT64_MAX / MS), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, INT64_MAX, 0, &ctx), 0);
	ck_assert(evwork_ctx_deadline(ctx) == EVWORK_NEVER);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * MS), 0);
	settle(&world);
	ck_assert_int_eq(evwork_clock_jump(world.clock, INT64_MAX), 0);
	settle(&world);
	ck_assert_int_eq(timers[0].calls, 0);
	ck_assert_int_eq(timers[1].calls, 0);
	ck_assert_int_eq(evwork_ctx_err(ctx), 0);
	ck_assert_int_eq(evwork_timer_stop(&timers[0].timer), 0);
	ck_assert_int_eq(evwork_timer_stop(&timers[1].timer), 0);
	evwork_timer_stop(&timers[2].timer);
	evwork_ctx_unref(ctx);
	manual_close(&world);
}
END_TEST

/* Sums with a late clock saturate instead of turning over: what is set late in time is
 * not due early, S-GEN-9. */
START_TEST(late_times_saturate)
{
	struct support_timer timer;
	struct evwork_lane_options options = { .timeout_ms = INT64_MAX };
	struct evwork_lane *lane;
	struct evwork_ctx *ctx;
	struct probe probe;
	struct world world;

	manual_open(&world, INT64_MAX - 10 * MS);
	support_timer_init(&timer, world.loop);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	probe.job.lane = lane;
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 1000), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 1000, 0, &ctx), 0);
	probe.job.ctx = ctx;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 5 * MS), 0);
	world_run_until(&world, &probe.dones, 1);
	ck_assert_int_eq(probe.status, 0);
	ck_assert_int_eq(evwork_ctx_err(ctx), 0);
	ck_assert_int_eq(timer.calls, 0);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	evwork_ctx_unref(ctx);
	settle(&world);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	manual_close(&world);
}
END_TEST

static const int64_t past[] = { 0, -1, -5000, INT64_MIN };

/* A remaining time of nothing or less is not an error but over: the timer fires with 0
 * in a later turn, the context is born dead, S-GEN-10. */
START_TEST(negative_remaining_time_is_over)
{
	struct support_timer timers[2];
	struct evwork_ctx *timed, *dated;
	struct world world;

	manual_open(&world, 77 * MS);
	support_timer_init(&timers[0], world.loop);
	support_timer_init(&timers[1], world.loop);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timers[0].timer, past[_i]), 0);
	ck_assert_int_eq(evwork_timer_start_at(world.loop, &timers[1].timer, past[_i]), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, past[_i], -EPIPE, &timed), 0);
	ck_assert_int_eq(evwork_ctx_with_deadline(NULL, world.loop, past[_i], 0, &dated), 0);
	ck_assert_int_eq(evwork_ctx_err(timed), -ETIMEDOUT);
	ck_assert_int_eq(evwork_ctx_cause(timed), -EPIPE);
	ck_assert_int_eq(evwork_ctx_err(dated), -ETIMEDOUT);
	ck_assert_int_eq(timers[0].calls + timers[1].calls, 0);
	settle(&world);
	ck_assert_int_eq(timers[0].calls, 1);
	ck_assert_int_eq(timers[0].status, 0);
	ck_assert_int_eq(timers[1].calls, 1);
	ck_assert_int_eq(timers[1].status, 0);
	evwork_ctx_unref(timed);
	evwork_ctx_unref(dated);
	manual_close(&world);
}
END_TEST

/* Never early. */

static void keep_busy(int ms)
{
	int64_t end = sys_now() + ms * MS;

	while (sys_now() < end)
		sys_relax();
}

/* Something that is armed late in a long turn. */
struct late {
	struct world world;
	struct support_timer timer;
	struct support_watch watch;
	struct evwork_ctx *ctx;
	int64_t due_ns, watch_ns;
	int err_at_watch;
};

static void watch_seen(struct support_watch *watch)
{
	struct late *late = watch->arg;

	late->watch_ns = sys_now();
	late->err_at_watch = evwork_ctx_err(late->ctx);
}

static void arm_late(void *arg)
{
	struct late *late = arg;

	keep_busy(50);
	late->due_ns = sys_now() + 20 * MS;
	if (evwork_timer_start(late->world.loop, &late->timer.timer, 20) != 0 ||
	    evwork_ctx_with_timeout(NULL, late->world.loop, 20, 0, &late->ctx) != 0 ||
	    evwork_ctx_after(late->ctx, late->world.loop, &late->watch.watch) != 0)
		abort();
}

/* A timer and a deadline of 20 ms that are set after 50 ms of callback work do not come
 * early although other events wake the loop: S-GEN-11. */
START_TEST(nothing_is_early_after_a_long_turn)
{
	struct timeval interval = { 0, 1000 };
	struct event *ticker;
	struct late late;

	memset(&late, 0, sizeof(late));
	world_open(&late.world, 1);
	support_timer_init(&late.timer, late.world.loop);
	support_watch_init(&late.watch);
	late.watch.on = watch_seen;
	late.watch.arg = &late;
	ticker = event_new(late.world.base, -1, EV_PERSIST, ignore, NULL);
	ck_assert_int_eq(event_add(ticker, &interval), 0);
	ck_assert_int_eq(evwork_post(late.world.loop, arm_late, &late), 0);
	world_run_until(&late.world, &late.timer.calls, 1);
	world_run_until(&late.world, &late.watch.calls, 1);
	ck_assert_int_ge(late.timer.at_ns, late.due_ns);
	ck_assert_int_ge(late.watch_ns, late.due_ns);
	ck_assert_int_ge(late.watch_ns, evwork_ctx_deadline(late.ctx));
	ck_assert_int_eq(late.err_at_watch, -ETIMEDOUT);
	ck_assert_int_eq(late.watch.status, -ETIMEDOUT);
	event_free(ticker);
	evwork_ctx_unref(late.ctx);
	world_run(&late.world);
	world_close(&late.world);
}
END_TEST

struct poller {
	struct evwork_ctx *ctx;
	int64_t died_ns;
	int err;
};

static void poll_ctx(void *arg)
{
	struct poller *poller = arg;

	do {
		poller->err = evwork_ctx_err(poller->ctx);
		poller->died_ns = sys_now();
	} while (!poller->err);
}

/* A thread that polls a context sees the deadline pass while the loop stands still, and
 * not before it has: S-GEN-11. */
START_TEST(deadline_passes_lazily_and_not_early)
{
	struct poller poller;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 30, 0, &poller.ctx), 0);
	support_elsewhere(poll_ctx, &poller);
	ck_assert_int_eq(poller.err, -ETIMEDOUT);
	ck_assert_int_ge(poller.died_ns, evwork_ctx_deadline(poller.ctx));
	evwork_ctx_unref(poller.ctx);
	world_run(&world);
	world_close(&world);
}
END_TEST

/* On a manual clock a timer, a context and its watch are silent one nanosecond before
 * their time and there at it: S-GEN-11. */
START_TEST(exact_to_the_nanosecond)
{
	struct support_timer timer;
	struct support_watch watch;
	struct evwork_ctx *ctx;
	struct world world;

	manual_open(&world, 3);
	support_timer_init(&timer, world.loop);
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 20), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 20, 0, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &watch.watch), 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 20 * MS - 1), 0);
	settle(&world);
	ck_assert_int_eq(evwork_loop_now(world.loop), 3 + 20 * MS - 1);
	ck_assert_int_eq(evwork_ctx_err(ctx), 0);
	ck_assert_int_eq(timer.calls, 0);
	ck_assert_int_eq(watch.calls, 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 1), 0);
	ck_assert_int_eq(evwork_ctx_err(ctx), -ETIMEDOUT);
	settle(&world);
	ck_assert_int_eq(timer.calls, 1);
	ck_assert_int_eq(timer.at_ns, 3 + 20 * MS);
	ck_assert_int_eq(watch.calls, 1);
	evwork_ctx_unref(ctx);
	manual_close(&world);
}
END_TEST

struct timed_work {
	struct world world;
	int before, at;
};

static void poll_lane_timeout(struct probe *probe)
{
	struct timed_work *work = probe->arg;

	evwork_clock_jump(work->world.clock, 10 * MS - 1);
	work->before = evwork_job_err(&probe->job);
	evwork_clock_jump(work->world.clock, 1);
	work->at = evwork_job_err(&probe->job);
}

/* The timeout of a lane passes at its time and not before, on the clock of the pool:
 * S-GEN-11, S-GEN-13. */
START_TEST(lane_timeout_is_exact)
{
	struct evwork_lane_options options = { .timeout_ms = 10 };
	struct evwork_lane *lane;
	struct timed_work work;
	struct probe probe;

	manual_open(&work.world, 0);
	ck_assert_int_eq(evwork_lane_new(work.world.pool, &options, &lane), 0);
	probe_init(&probe, 0);
	probe.job.lane = lane;
	probe.on_run = poll_lane_timeout;
	probe.arg = &work;
	ck_assert_int_eq(evwork_submit(work.world.loop, &probe.job), 0);
	world_run_until(&work.world, &probe.dones, 1);
	ck_assert_int_eq(work.before, 0);
	ck_assert_int_eq(work.at, -ETIMEDOUT);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	manual_close(&work.world);
}
END_TEST

static int delay_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)guard;
	(void)job;
	permit->not_before_ns = 50 * MS;
	return 0;
}

static void delay_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	(void)end;
}

/* A job that a guard delays does not start one nanosecond before its time, and starts at
 * it: S-GEN-11. */
START_TEST(delayed_job_is_not_early)
{
	struct evwork_guard guard = { delay_acquire, delay_release };
	struct evwork_guard *guards[] = { &guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct probe delayed, other;
	struct evwork_lane *lane;
	struct world world;

	manual_open(&world, 0);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	probe_init(&delayed, 0);
	delayed.job.lane = lane;
	probe_init(&other, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &delayed.job), 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 50 * MS - 1), 0);
	/* The only worker takes this one, so it has looked and left the other alone. */
	ck_assert_int_eq(evwork_submit(world.loop, &other.job), 0);
	world_run_until(&world, &other.dones, 1);
	ck_assert_int_eq(atomic_load(&delayed.runs), 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 1), 0);
	world_run_until(&world, &delayed.dones, 1);
	ck_assert_int_eq(delayed.status, 0);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	manual_close(&world);
}
END_TEST

/* Schedules. */

#define FIRINGS 6

struct schedule {
	struct support_timer timer;
	struct evwork_loop *loop;
	int64_t due_ns, period_ns, at[FIRINGS];
	int fired;
};

static void fire_again(struct support_timer *timer)
{
	struct schedule *schedule = timer->arg;

	schedule->at[schedule->fired++] = timer->at_ns;
	if (schedule->fired == FIRINGS)
		return;
	schedule->due_ns += schedule->period_ns;
	if (evwork_timer_start_at(schedule->loop, &timer->timer, schedule->due_ns) != 0)
		abort();
}

static void schedule_start(struct schedule *schedule, struct evwork_loop *loop, int64_t period_ns)
{
	memset(schedule, 0, sizeof(*schedule));
	support_timer_init(&schedule->timer, loop);
	schedule->timer.on = fire_again;
	schedule->timer.arg = schedule;
	schedule->loop = loop;
	schedule->period_ns = period_ns;
	schedule->due_ns = evwork_loop_now(loop) + period_ns;
	ck_assert_int_eq(evwork_timer_start_at(loop, &schedule->timer.timer, schedule->due_ns), 0);
}

/* A timer that is set from its schedule makes up for a stall at once and is then on time
 * again; lateness does not add up: S-GEN-12. */
START_TEST(lateness_does_not_accumulate)
{
	static const int64_t expected[FIRINGS] = {
		35 * MS, 35 * MS, 35 * MS, 40 * MS, 50 * MS, 60 * MS
	};
	struct schedule schedule;
	struct world world;
	int i;

	manual_open(&world, 0);
	schedule_start(&schedule, world.loop, 10 * MS);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 35 * MS), 0);
	settle(&world);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 100 * MS), 0);
	settle(&world);
	ck_assert_int_eq(schedule.fired, FIRINGS);
	for (i = 0; i < FIRINGS; i++)
		ck_assert_int_eq(schedule.at[i], expected[i]);
	manual_close(&world);
}
END_TEST

/* On the system's clock each firing of such a schedule comes at its time or later: S-GEN-11,
 * S-GEN-12. */
START_TEST(schedule_is_not_early)
{
	struct schedule schedule;
	struct world world;
	int64_t first;
	int i;

	world_open(&world, 1);
	schedule_start(&schedule, world.loop, 1500 * SYS_NS_PER_US);
	first = schedule.due_ns;
	world_run(&world);
	ck_assert_int_eq(schedule.fired, FIRINGS);
	for (i = 0; i < FIRINGS; i++)
		ck_assert_int_ge(schedule.at[i], first + i * schedule.period_ns);
	world_close(&world);
}
END_TEST

static void add_points(Suite *suite)
{
	TCase *tcase = support_case(suite, "points");

	tcase_add_test(tcase, time_is_monotonic_nanoseconds);
	tcase_add_test(tcase, never_does_not_come);
	tcase_add_test(tcase, late_times_saturate);
	tcase_add_loop_test(tcase, negative_remaining_time_is_over, 0, 4);
}

static void add_early(Suite *suite)
{
	TCase *tcase = support_case(suite, "early");

	tcase_add_test(tcase, nothing_is_early_after_a_long_turn);
	tcase_add_test(tcase, deadline_passes_lazily_and_not_early);
	tcase_add_test(tcase, exact_to_the_nanosecond);
	tcase_add_test(tcase, lane_timeout_is_exact);
	tcase_add_test(tcase, delayed_job_is_not_early);
	tcase_add_test(tcase, lateness_does_not_accumulate);
	tcase_add_test(tcase, schedule_is_not_early);
}

static Suite *suite(void)
{
	Suite *time_suite = suite_create("gen_time");

	add_points(time_suite);
	add_early(time_suite);
	return time_suite;
}

int main(void)
{
	return support_run(suite());
}
