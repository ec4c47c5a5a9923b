/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The end of timers, and of watches with them, when their loop closes.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

#define MS SYS_NS_PER_MS

/* What is pending on a loop that closes. */
#define EACH 6

struct end {
	struct world world;
	struct support_timer timers[EACH], extra;
	struct support_watch watches[EACH];
	struct support_post post;
	struct evwork_ctx *ctx;
	int closed, closed_order;
	int rc[4];
};

static void note_closed(struct evwork_loop *loop, void *arg)
{
	struct end *end = arg;

	ck_assert_ptr_eq(loop, end->world.loop);
	end->closed++;
	end->closed_order = atomic_fetch_add(&probe_done_counter, 1) + 1;
}

/* Timers and watches set in turn; the timers are due in the opposite order, and every other
 * watch waits for a context that lives, the rest for the background. */
static void end_open(struct end *end, bool manual)
{
	int i;

	memset(end, 0, sizeof(*end));
	if (manual)
		world_open_manual(&end->world, 1, 0);
	else
		world_open(&end->world, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &end->ctx), 0);
	support_timer_init(&end->extra, end->world.loop);
	support_post_init(&end->post);
	for (i = 0; i < EACH; i++) {
		support_timer_init(&end->timers[i], end->world.loop);
		end->timers[i].arg = end;
		support_watch_init(&end->watches[i]);
		end->watches[i].arg = end;
		ck_assert_int_eq(evwork_timer_start(end->world.loop, &end->timers[i].timer,
			3600000 - i * 1000), 0);
		ck_assert_int_eq(evwork_ctx_after(i % 2 ? end->ctx : NULL, end->world.loop,
			&end->watches[i].watch), 0);
	}
}

static void end_close(struct end *end)
{
	ck_assert_int_eq(end->closed, 1);
	evwork_ctx_unref(end->ctx);
	world_close(&end->world);
}

static void expect_ended(const struct end *end, int first_order)
{
	int i;

	for (i = 0; i < EACH; i++) {
		ck_assert_int_eq(end->watches[i].calls, 1);
		ck_assert_int_eq(end->watches[i].status, -ECANCELED);
		ck_assert(pthread_equal(end->watches[i].thread, pthread_self()));
		ck_assert_int_eq(end->watches[i].order, first_order + 2 * i + 1);
		ck_assert_int_eq(end->timers[i].calls, 1);
		ck_assert_int_eq(end->timers[i].status, -ECANCELED);
		ck_assert_int_eq(end->timers[i].order, first_order + 2 * i);
	}
	ck_assert_int_eq(end->closed_order, first_order + 2 * EACH);
}

static void close_it(void *arg)
{
	struct end *end = arg;

	end->rc[0] = evwork_loop_close(end->world.loop, note_closed, end);
}

/* Closing a loop, here or elsewhere, ends its timers and watches with ECANCELED in the order
 * in which they were set, whenever they were due, none inside the call, and calls the closed
 * callback last: S-SHUT-7, S-GEN-3. */
START_TEST(close_ends_timers_and_watches)
{
	struct end end;

	end_open(&end, _i / 2);
	if (_i % 2)
		support_elsewhere(close_it, &end);
	else
		close_it(&end);
	ck_assert_int_eq(end.rc[0], 0);
	ck_assert_int_eq(atomic_load(&probe_done_counter), 0);
	world_run_until(&end.world, &end.closed, 1);
	expect_ended(&end, 1);
	end_close(&end);
}
END_TEST

/* What was posted before the close comes first, and a timer that was set anew counts from
 * then: S-SHUT-7, S-SHUT-8. */
START_TEST(order_is_that_of_the_last_setting)
{
	struct end end;
	int i;

	end_open(&end, false);
	ck_assert_int_eq(evwork_timer_stop(&end.timers[0].timer), 0);
	ck_assert_int_eq(evwork_timer_start(end.world.loop, &end.timers[0].timer, 5000), 0);
	ck_assert_int_eq(evwork_post(end.world.loop, support_post_fn, &end.post), 0);
	close_it(&end);
	world_run(&end.world);
	ck_assert_int_eq(end.post.order, 1);
	for (i = 0; i < EACH; i++)
		ck_assert_int_eq(end.watches[i].order, 2 + 2 * i);
	for (i = 1; i < EACH; i++)
		ck_assert_int_eq(end.timers[i].order, 1 + 2 * i);
	ck_assert_int_eq(end.timers[0].order, 1 + 2 * EACH);
	ck_assert_int_eq(end.timers[0].status, -ECANCELED);
	end_close(&end);
}
END_TEST

/* After close nothing is set any more, before the closed callback and after it: ESHUTDOWN,
 * and no callback comes, S-SHUT-8. */
START_TEST(closing_loop_sets_nothing)
{
	struct support_watch watch;
	struct end end;
	int round;

	end_open(&end, false);
	support_watch_init(&watch);
	close_it(&end);
	ck_assert_int_eq(evwork_loop_close(end.world.loop, note_closed, &end), -EALREADY);
	for (round = 0; round < 2; round++) {
		ck_assert_int_eq(evwork_timer_start(end.world.loop, &end.extra.timer, 0),
			-ESHUTDOWN);
		ck_assert_int_eq(evwork_timer_start_at(end.world.loop, &end.extra.timer, 0),
			-ESHUTDOWN);
		ck_assert_int_eq(evwork_ctx_after(end.ctx, end.world.loop, &watch.watch),
			-ESHUTDOWN);
		ck_assert_int_eq(evwork_timer_stop(&end.extra.timer), -ESRCH);
		world_run(&end.world);
		ck_assert_int_eq(end.closed, 1);
	}
	ck_assert_int_eq(end.extra.calls, 0);
	ck_assert_int_eq(watch.calls, 0);
	expect_ended(&end, 1);
	end_close(&end);
}
END_TEST

static void meddle(struct support_timer *timer)
{
	struct end *end = timer->arg;

	end->rc[1] = evwork_timer_start(end->world.loop, &timer->timer, 1);
	end->rc[2] = evwork_timer_stop(&end->timers[2].timer);
	end->rc[3] = evwork_ctx_stop(&end->watches[EACH - 1].watch);
}

/* The callback of a timer that is ended can set none, but may stop a timer and a watch that
 * come later, which then are not called: S-SHUT-7, S-GEN-5. */
START_TEST(ended_timer_stops_others)
{
	struct end end;

	end_open(&end, false);
	end.timers[1].on = meddle;
	close_it(&end);
	world_run(&end.world);
	ck_assert_int_eq(end.rc[1], -ESHUTDOWN);
	ck_assert_int_eq(end.rc[2], 0);
	ck_assert_int_eq(end.rc[3], 1);
	ck_assert_int_eq(end.timers[1].calls, 1);
	ck_assert_int_eq(end.timers[2].calls, 0);
	ck_assert_int_eq(end.timers[3].calls, 1);
	ck_assert_int_eq(end.watches[EACH - 2].calls, 1);
	ck_assert_int_eq(end.watches[EACH - 1].calls, 0);
	end_close(&end);
}
END_TEST

static void meddle_in_watch(struct support_watch *watch)
{
	struct end *end = watch->arg;

	end->rc[1] = evwork_ctx_after(NULL, end->world.loop, &watch->watch);
	end->rc[2] = evwork_ctx_stop(&end->watches[2].watch);
	end->rc[3] = evwork_timer_stop(&end->timers[2].timer);
}

/* The callback of a watch that is ended can set none, but may stop other watches and
 * timers, which then are not called: S-SHUT-7, S-GEN-5. */
START_TEST(ended_watch_stops_others)
{
	struct end end;

	end_open(&end, false);
	end.watches[0].on = meddle_in_watch;
	close_it(&end);
	world_run(&end.world);
	ck_assert_int_eq(end.rc[1], -ESHUTDOWN);
	ck_assert_int_eq(end.rc[2], 1);
	ck_assert_int_eq(end.rc[3], 0);
	ck_assert_int_eq(end.watches[0].calls, 1);
	ck_assert_int_eq(end.watches[2].calls, 0);
	ck_assert_int_eq(end.timers[2].calls, 0);
	ck_assert_int_eq(end.watches[3].calls, 1);
	ck_assert_int_eq(end.timers[3].calls, 1);
	end_close(&end);
}
END_TEST

static int freed_timers;

static void free_itself(struct support_timer *timer)
{
	ck_assert_int_eq(timer->status, -ECANCELED);
	memset(timer, 0xa5, sizeof(*timer));
	free(timer);
	freed_timers++;
}

#define CROWD 400

/* More timers than one turn may call are all ended, in order, and may free themselves:
 * S-SHUT-7, S-DLV-5. */
START_TEST(crowd_is_ended_in_order)
{
	struct support_timer *timers = calloc(CROWD, sizeof(*timers)), *loose;
	struct evwork_loop_stats stats;
	struct end end;
	int i;

	freed_timers = 0;
	end_open(&end, false);
	for (i = 0; i < CROWD; i++) {
		support_timer_init(&timers[i], end.world.loop);
		ck_assert_int_eq(evwork_timer_start(end.world.loop, &timers[i].timer,
			1000000 + (i * 37) % 100), 0);
	}
	loose = malloc(sizeof(*loose));
	support_timer_init(loose, end.world.loop);
	loose->on = free_itself;
	ck_assert_int_eq(evwork_timer_start(end.world.loop, &loose->timer, 1000000), 0);
	close_it(&end);
	world_run(&end.world);
	for (i = 0; i < CROWD; i++) {
		ck_assert_int_eq(timers[i].status, -ECANCELED);
		ck_assert_int_eq(timers[i].order, 2 * EACH + 1 + i);
	}
	ck_assert_int_eq(freed_timers, 1);
	ck_assert_int_eq(end.closed_order, 2 * EACH + CROWD + 2);
	ck_assert_int_eq(evwork_loop_stats(end.world.loop, &stats), 0);
	ck_assert_uint_ge(stats.turns, (CROWD + 2 * EACH) / EVWORK_BATCH_DEFAULT);
	end_close(&end);
	free(timers);
}
END_TEST

/* Timers that are ended hold the manual clock up no longer, and do not fire: S-GEN-13,
 * S-SHUT-7. */
START_TEST(close_lets_the_clock_go_on)
{
	struct end end;
	int64_t distance = INT64_C(4000000) * MS;

	end_open(&end, true);
	close_it(&end);
	world_run(&end.world);
	expect_ended(&end, 1);
	ck_assert_int_eq(evwork_clock_advance(end.world.clock, distance), 0);
	ck_assert_int_eq(evwork_clock_now(end.world.clock), distance);
	end_close(&end);
}
END_TEST

static void close_in_timer(struct support_timer *timer)
{
	close_it(timer->arg);
}

/* A timer may close its loop; the timers after it end with ECANCELED: S-GEN-5, S-SHUT-7. */
START_TEST(timer_closes_its_loop)
{
	struct end end;

	end_open(&end, false);
	end.extra.on = close_in_timer;
	end.extra.arg = &end;
	ck_assert_int_eq(evwork_timer_start(end.world.loop, &end.extra.timer, 0), 0);
	world_run(&end.world);
	ck_assert_int_eq(end.rc[0], 0);
	ck_assert_int_eq(end.extra.status, 0);
	expect_ended(&end, 2);
	end_close(&end);
}
END_TEST

static Suite *suite(void)
{
	Suite *close_suite = suite_create("timer_close");
	TCase *tcase = support_case(close_suite, "close");

	tcase_add_loop_test(tcase, close_ends_timers_and_watches, 0, 4);
	tcase_add_test(tcase, order_is_that_of_the_last_setting);
	tcase_add_test(tcase, closing_loop_sets_nothing);
	tcase_add_test(tcase, ended_timer_stops_others);
	tcase_add_test(tcase, ended_watch_stops_others);
	tcase_add_test(tcase, crowd_is_ended_in_order);
	tcase_add_test(tcase, close_lets_the_clock_go_on);
	tcase_add_test(tcase, timer_closes_its_loop);
	return close_suite;
}

int main(void)
{
	return support_run(suite());
}
