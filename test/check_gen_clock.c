/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The manual clock under loops, contexts, lanes and timers. By itself it is in
 * check_base_clock.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#define MS SYS_NS_PER_MS

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

static void keep_busy(int ms)
{
	int64_t end = sys_now() + ms * MS;

	while (sys_now() < end)
		sys_relax();
}

/* On a manual clock the system's time moves nothing: no timer, no deadline and no timeout
 * of a lane passes, S-GEN-13. */
START_TEST(real_time_moves_nothing)
{
	struct evwork_lane_options options = { .timeout_ms = 1 };
	struct support_timer timer;
	struct evwork_lane *lane;
	struct evwork_ctx *ctx;
	struct gate_job blocker;
	struct gate gate;
	struct probe probe;
	struct world world;

	manual_open(&world, 0);
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	probe_init(&probe, 0);
	support_timer_init(&timer, world.loop);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 1), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 1, 0, &ctx), 0);
	probe.job.lane = lane;
	probe.job.ctx = ctx;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	keep_busy(10);
	settle(&world);
	ck_assert_int_eq(timer.calls, 0);
	ck_assert_int_eq(evwork_ctx_err(ctx), 0);
	ck_assert_int_eq(evwork_loop_now(world.loop), 0);
	gate_open(&gate);
	world_run_until(&world, &probe.dones, 1);
	ck_assert_int_eq(probe.status, 0);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	evwork_ctx_unref(ctx);
	settle(&world);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	manual_close(&world);
	gate_fini(&gate);
}
END_TEST

/* Two loops on one clock, the second with the third timer. */
struct two_loops {
	struct world world;
	struct evwork_loop *second;
	struct support_timer timers[4];
};

static void two_open(struct two_loops *two)
{
	static const int64_t due[3] = { 10 * MS, 30 * MS, 20 * MS };
	struct evwork_loop_options options = { 0 };
	int i;

	manual_open(&two->world, 0);
	options.clock = two->world.clock;
	ck_assert_int_eq(evwork_loop_new(two->world.base, NULL, &options, &two->second), 0);
	for (i = 0; i < 4; i++)
		support_timer_init(&two->timers[i], i == 2 ? two->second : two->world.loop);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_timer_start_at(two->timers[i].loop, &two->timers[i].timer,
			due[i]), 0);
}

static void two_close(struct two_loops *two)
{
	ck_assert_int_eq(evwork_loop_free(two->second), 0);
	manual_close(&two->world);
}

/* advance runs nothing itself, stops at each due time of each loop that uses the clock, in
 * order, and ends where it was to: S-GEN-13, S-GEN-3. */
START_TEST(advance_stops_at_each_due_time)
{
	static const int64_t at[3] = { 10 * MS, 30 * MS, 20 * MS };
	static const int order[3] = { 1, 3, 2 };
	struct two_loops two;
	int i;

	two_open(&two);
	ck_assert_int_eq(evwork_clock_advance(two.world.clock, 100 * MS), 0);
	ck_assert_int_eq(evwork_clock_now(two.world.clock), 10 * MS);
	ck_assert_int_eq(two.timers[0].calls, 0);
	settle(&two.world);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(two.timers[i].calls, 1);
		ck_assert_int_eq(two.timers[i].at_ns, at[i]);
		ck_assert_int_eq(two.timers[i].order, order[i]);
	}
	ck_assert_int_eq(evwork_clock_now(two.world.clock), 100 * MS);
	two_close(&two);
}
END_TEST

/* jump moves in one step: everything due on the way is late by what was jumped over, and
 * still comes in the order in which it was due, S-GEN-13. */
START_TEST(jump_makes_all_late)
{
	struct two_loops two;
	int i;

	two_open(&two);
	ck_assert_int_eq(evwork_clock_jump(two.world.clock, 100 * MS), 0);
	ck_assert_int_eq(evwork_clock_now(two.world.clock), 100 * MS);
	settle(&two.world);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(two.timers[i].calls, 1);
		ck_assert_int_eq(two.timers[i].at_ns, 100 * MS);
	}
	ck_assert_int_lt(two.timers[0].order, two.timers[1].order);
	two_close(&two);
}
END_TEST

/* Distances of several advances add up, and a jump counts in what is left: S-GEN-13. */
START_TEST(distances_add_up)
{
	struct two_loops two;

	two_open(&two);
	ck_assert_int_eq(evwork_clock_advance(two.world.clock, 15 * MS), 0);
	ck_assert_int_eq(evwork_clock_advance(two.world.clock, 10 * MS), 0);
	ck_assert_int_eq(evwork_clock_now(two.world.clock), 10 * MS);
	if (_i)
		ck_assert_int_eq(evwork_clock_jump(two.world.clock, MS), 0);
	settle(&two.world);
	ck_assert_int_eq(two.timers[0].at_ns, (_i ? 26 : 10) * MS);
	ck_assert_int_eq(two.timers[2].at_ns, (_i ? 26 : 20) * MS);
	ck_assert_int_eq(two.timers[1].calls, 0);
	ck_assert_int_eq(evwork_clock_now(two.world.clock), (_i ? 26 : 25) * MS);
	ck_assert_int_eq(evwork_timer_stop(&two.timers[1].timer), 0);
	two_close(&two);
}
END_TEST

static void set_next(struct support_timer *timer)
{
	struct two_loops *two = timer->arg;

	if (evwork_timer_start(two->world.loop, &two->timers[3].timer, 5) != 0)
		abort();
}

/* What a callback sets during an advance is stopped at in its turn, before later times:
 * S-GEN-13. */
START_TEST(advance_stops_at_what_callbacks_set)
{
	struct two_loops two;

	two_open(&two);
	two.timers[0].on = set_next;
	two.timers[0].arg = &two;
	ck_assert_int_eq(evwork_clock_advance(two.world.clock, 100 * MS), 0);
	settle(&two.world);
	ck_assert_int_eq(two.timers[3].at_ns, 15 * MS);
	ck_assert_int_eq(two.timers[2].at_ns, 20 * MS);
	ck_assert_int_eq(two.timers[3].order, 2);
	two_close(&two);
}
END_TEST

/* A timer that is stopped, and a loop that is freed, let the clock go on: S-GEN-13. */
START_TEST(stopping_lets_the_clock_go_on)
{
	struct two_loops two;
	struct evwork_clock *clock;

	two_open(&two);
	clock = two.world.clock;
	ck_assert_int_eq(evwork_timer_stop(&two.timers[1].timer), 0);
	ck_assert_int_eq(evwork_clock_advance(clock, 50 * MS), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 10 * MS);
	ck_assert_int_eq(evwork_timer_stop(&two.timers[0].timer), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 20 * MS);
	ck_assert_int_eq(evwork_timer_stop(&two.timers[2].timer), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 50 * MS);
	ck_assert_int_eq(evwork_clock_free(clock), -EBUSY);
	two_close(&two);
}
END_TEST

static int64_t seen_ns;

static void note_watch_time(struct support_watch *watch)
{
	seen_ns = evwork_clock_now(watch->arg);
}

/* The death of a context is a due time of its loop like any other: its watch is called
 * while the clock stands there, S-GEN-13. */
START_TEST(watch_of_a_deadline_is_not_late)
{
	struct support_watch watch;
	struct evwork_ctx *ctx;
	struct world world;

	seen_ns = -1;
	manual_open(&world, 0);
	support_watch_init(&watch);
	watch.on = note_watch_time;
	watch.arg = world.clock;
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &watch.watch), 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 100 * MS), 0);
	ck_assert_int_eq(evwork_clock_now(world.clock), 10 * MS);
	settle(&world);
	ck_assert_int_eq(watch.calls, 1);
	ck_assert_int_eq(seen_ns, 10 * MS);
	ck_assert_int_eq(evwork_clock_now(world.clock), 100 * MS);
	evwork_ctx_unref(ctx);
	manual_close(&world);
}
END_TEST

static void note_done_time(struct probe *probe)
{
	seen_ns = evwork_clock_now(probe->arg);
}

/* The done of a queued job whose context expires comes while the clock stands at that
 * time: S-GEN-13. */
START_TEST(done_of_a_deadline_is_not_late)
{
	struct gate_job blocker;
	struct evwork_ctx *ctx;
	struct probe probe;
	struct world world;
	struct gate gate;

	seen_ns = -1;
	manual_open(&world, 0);
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &ctx), 0);
	probe_init(&probe, 0);
	probe.job.ctx = ctx;
	probe.on_done = note_done_time;
	probe.arg = world.clock;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 100 * MS), 0);
	settle(&world);
	ck_assert_int_eq(probe.status, -ETIMEDOUT);
	gate_open(&gate);
	world_run_until(&world, &probe.dones, 1);
	while (blocker.status)
		settle(&world);
	evwork_ctx_unref(ctx);
	manual_close(&world);
	gate_fini(&gate);
	ck_assert_int_eq(seen_ns, 10 * MS);
}
END_TEST

/* A timer whose callback posts what starts two more. */
struct still {
	struct world world;
	struct support_timer first, later, sooner;
	struct support_post post;
	int rc[3];
	int64_t before_ns, after_ns;
};

static void post_from_timer(struct support_timer *timer)
{
	struct still *still = timer->arg;

	still->rc[0] = evwork_post(still->world.loop, support_post_fn, &still->post);
}

static void start_two(struct support_post *post)
{
	struct still *still = post->arg;

	still->before_ns = evwork_clock_now(still->world.clock);
	still->rc[1] = evwork_timer_start(still->world.loop, &still->later.timer, 10);
	still->after_ns = evwork_clock_now(still->world.clock);
	still->rc[2] = evwork_timer_start(still->world.loop, &still->sooner.timer, 5);
}

/* While a callback runs the clock stands still, even if it starts the only timer: what it
 * starts next is due from the same time, S-GEN-13. */
START_TEST(clock_stands_still_in_a_callback)
{
	struct still still;

	manual_open(&still.world, 0);
	support_timer_init(&still.first, still.world.loop);
	support_timer_init(&still.later, still.world.loop);
	support_timer_init(&still.sooner, still.world.loop);
	support_post_init(&still.post);
	still.first.on = post_from_timer;
	still.first.arg = &still;
	still.post.on = start_two;
	still.post.arg = &still;
	ck_assert_int_eq(evwork_timer_start(still.world.loop, &still.first.timer, 10), 0);
	ck_assert_int_eq(evwork_clock_advance(still.world.clock, 100 * MS), 0);
	settle(&still.world);
	ck_assert_int_eq(still.post.calls, 1);
	ck_assert_int_eq(still.rc[0], 0);
	ck_assert_int_eq(still.rc[1], 0);
	ck_assert_int_eq(still.rc[2], 0);
	ck_assert_int_eq(still.before_ns, 10 * MS);
	ck_assert_int_eq(still.after_ns, 10 * MS);
	ck_assert_int_eq(still.sooner.at_ns, 15 * MS);
	ck_assert_int_eq(still.later.at_ns, 20 * MS);
	ck_assert_int_eq(evwork_clock_now(still.world.clock), 100 * MS);
	manual_close(&still.world);
}
END_TEST

static Suite *suite(void)
{
	Suite *clock_suite = suite_create("gen_clock");
	TCase *tcase = support_case(clock_suite, "manual");

	tcase_add_test(tcase, real_time_moves_nothing);
	tcase_add_test(tcase, advance_stops_at_each_due_time);
	tcase_add_test(tcase, jump_makes_all_late);
	tcase_add_loop_test(tcase, distances_add_up, 0, 2);
	tcase_add_test(tcase, advance_stops_at_what_callbacks_set);
	tcase_add_test(tcase, stopping_lets_the_clock_go_on);
	tcase_add_test(tcase, watch_of_a_deadline_is_not_late);
	tcase_add_test(tcase, done_of_a_deadline_is_not_late);
	tcase_add_test(tcase, clock_stands_still_in_a_callback);
	return clock_suite;
}

int main(void)
{
	return support_run(suite());
}
