/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Breakers by themselves: permits, windows, what opens and closes them, waits, moves by
 * hand, metrics, and what is refused. All on a manual clock.
 */

#include "breaker_scene.h"

#include <math.h>

struct bench {
	struct evwork_clock *clock;
	struct evwork_breaker *breaker;
};

static void open_bench(struct bench *bench, struct evwork_breaker_options options)
{
	ck_assert_int_eq(evwork_clock_new(START_NS, &bench->clock), 0);
	options.clock = bench->clock;
	ck_assert_int_eq(evwork_breaker_new(&options, &bench->breaker), 0);
}

static void close_bench(struct bench *bench)
{
	ck_assert_int_eq(evwork_clock_free(bench->clock), -EBUSY);
	ck_assert_int_eq(evwork_breaker_free(bench->breaker), 0);
	ck_assert_int_eq(evwork_clock_free(bench->clock), 0);
}

static void pass(struct bench *bench, int64_t ns)
{
	ck_assert_int_eq(evwork_clock_jump(bench->clock, ns), 0);
}

/* S-BRK-1, -10: the defaults. 50 failures of 100 open it, for 60 s, then for 10 trials. */
START_TEST(defaults)
{
	struct evwork_breaker_permit permits[11] = { { 0 } };
	struct bench bench;
	int i;

	open_bench(&bench, (struct evwork_breaker_options) { 0 });
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 50);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 49);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	ck_assert_double_eq(breaker_metrics(bench.breaker).failure_percent, -1);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	ck_assert_int_eq(breaker_metrics(bench.breaker).open_until_ns, START_NS + 60000 * MS);
	pass(&bench, 60000 * MS - 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	pass(&bench, 1);
	for (i = 0; i < 10; i++)
		ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permits[i]), 0);
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permits[10]), -EBUSY);
	for (i = 0; i < 10; i++)
		ck_assert_int_eq(evwork_breaker_report(&permits[i], EVWORK_SUCCESS, 0), 0);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	close_bench(&bench);
}
END_TEST

/* S-BRK-10: 100 % above 60 s, S-BRK-8: strictly above. */
START_TEST(default_of_slow)
{
	struct bench bench;
	int i;

	open_bench(&bench, (struct evwork_breaker_options) { 0 });
	breaker_call(bench.breaker, EVWORK_SUCCESS, 60000 * MS);
	for (i = 0; i < 100; i++) {
		expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
		breaker_call(bench.breaker, EVWORK_SUCCESS, 60000 * MS + 1);
	}
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).slow, 100);
	close_bench(&bench);
}
END_TEST

/* S-BRK-8: a slow failure counts in both rates. */
START_TEST(slow_failures_count_twice)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) {
		.window = 8, .min_calls = 4, .slow_ms = 10, .failure_percent = 90, .slow_percent = 90 });
	breaker_call(bench.breaker, EVWORK_FAILURE, 10 * MS + 1);
	breaker_call(bench.breaker, EVWORK_FAILURE, 10 * MS);
	breaker_call(bench.breaker, EVWORK_SUCCESS, 11 * MS);
	breaker_call(bench.breaker, EVWORK_SUCCESS, 0);
	ck_assert_double_eq(breaker_metrics(bench.breaker).failure_percent, 50);
	ck_assert_double_eq(breaker_metrics(bench.breaker).slow_percent, 50);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).failure, 2);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).success, 2);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).slow, 2);
	close_bench(&bench);
}
END_TEST

/* S-BRK-2: what is refused with what, and how it is counted. */
START_TEST(refusals)
{
	struct evwork_breaker_permit permit = { 0 };
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .trials = 1, .open_ms = 10 });
	ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_OPEN), 0);
	ck_assert_int_eq(breaker_try(bench.breaker), -EHOSTDOWN);
	ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_FORCED_OPEN), 0);
	ck_assert_int_eq(breaker_try(bench.breaker), -EHOSTDOWN);
	ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_HALF_OPEN), 0);
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permit), 0);
	ck_assert_int_eq(breaker_try(bench.breaker), -EBUSY);
	ck_assert_int_eq(breaker_metrics(bench.breaker).trials_out, 1);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).not_permitted, 3);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).failure, 0);
	/* A permit that is held is not lost. */
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permit), -EBUSY);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).not_permitted, 3);
	ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_SUCCESS, 0), 0);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	close_bench(&bench);
}
END_TEST

/* S-BRK-3: exactly once; what is dropped is ignored. */
START_TEST(reports)
{
	struct evwork_breaker_permit permit = { 0 };
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .initial = EVWORK_BREAKER_HALF_OPEN,
		.trials = 1 });
	ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_SUCCESS, 0), -ESRCH);
	ck_assert_int_eq(evwork_breaker_report_status(&permit, 0, 0), -ESRCH);
	ck_assert_int_eq(evwork_breaker_report(NULL, EVWORK_SUCCESS, 0), -EINVAL);
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permit), 0);
	ck_assert_int_eq(evwork_breaker_report(&permit, (enum evwork_outcome)3, 0), -EINVAL);
	ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_SUCCESS, -1), -EINVAL);
	ck_assert_int_eq(evwork_breaker_report_status(&permit, 0, -1), -EINVAL);
	evwork_breaker_drop(&permit);
	evwork_breaker_drop(&permit);
	evwork_breaker_drop(NULL);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).ignored, 1);
	ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_SUCCESS, 0), -EALREADY);
	ck_assert_int_eq(evwork_breaker_report_status(&permit, 0, 0), -EALREADY);
	/* The lost permit has not wedged it. */
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permit), 0);
	ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_SUCCESS, 0), 0);
	ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_FAILURE, 0), -EALREADY);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	close_bench(&bench);
}
END_TEST

/* S-BRK-4: of another generation, whether the state is the same again or not. */
START_TEST(stale_permits)
{
	struct evwork_breaker_permit closed[2] = { { 0 } }, trial = { 0 };
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .rule = EVWORK_BREAKER_CONSECUTIVE,
		.in_a_row = 1, .open_ms = 10, .trials = 2,
		.trial_rule = EVWORK_BREAKER_CONSECUTIVE });
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &closed[0]), 0);
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &closed[1]), 0);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	pass(&bench, 10 * MS);
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &trial), 0);
	/* Calls from before the opening decide no trial. */
	ck_assert_int_eq(evwork_breaker_report(&closed[0], EVWORK_FAILURE, 0), 0);
	expect_breaker(bench.breaker, EVWORK_BREAKER_HALF_OPEN);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	pass(&bench, 10 * MS);
	expect_breaker(bench.breaker, EVWORK_BREAKER_HALF_OPEN);
	/* Nor do trials of another half open. */
	ck_assert_int_eq(evwork_breaker_report(&trial, EVWORK_FAILURE, 0), 0);
	ck_assert_int_eq(breaker_metrics(bench.breaker).trials_out, 0);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 2);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	ck_assert_int_eq(evwork_breaker_report(&closed[1], EVWORK_FAILURE, 0), 0);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).stale, 3);
	close_bench(&bench);
}
END_TEST

/* S-BRK-5: an outcome counts when it is reported, not when the call began. */
START_TEST(outcomes_count_when_reported)
{
	struct evwork_breaker_permit permits[4] = { { 0 } };
	struct bench bench;
	int i;

	open_bench(&bench, (struct evwork_breaker_options) { .window = 2, .slot_ms = 10,
		.min_calls = 4 });
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permits[i]), 0);
	/* Longer than the window. */
	pass(&bench, 1000 * MS);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(evwork_breaker_report(&permits[i], EVWORK_FAILURE, 0), 0);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	close_bench(&bench);
}
END_TEST

/* S-BRK-6: the last N, S-BRK-7: judged with fewer than min_calls if N is less. */
START_TEST(window_of_outcomes)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .window = 4, .failure_percent = 75 });
	breaker_calls(bench.breaker, EVWORK_FAILURE, 2);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 1);
	ck_assert_double_eq(breaker_metrics(bench.breaker).failure_percent, -1);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 1);
	ck_assert_double_eq(breaker_metrics(bench.breaker).failure_percent, 50);
	/* The oldest two, failures, leave. */
	breaker_calls(bench.breaker, EVWORK_FAILURE, 2);
	ck_assert_double_eq(breaker_metrics(bench.breaker).failure_percent, 50);
	breaker_calls(bench.breaker, EVWORK_IGNORE, 10);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).ignored, 10);
	close_bench(&bench);
}
END_TEST

/* S-BRK-7: a success can trip it, too. */
START_TEST(success_trips)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .window = 10, .min_calls = 4 });
	breaker_calls(bench.breaker, EVWORK_FAILURE, 3);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	close_bench(&bench);
}
END_TEST

/* S-BRK-6: this slot and the one before; slots without a report expire as well. */
START_TEST(window_of_time)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .window = 2, .slot_ms = 10,
		.min_calls = 4, .failure_percent = 100 });
	breaker_calls(bench.breaker, EVWORK_FAILURE, 2);
	pass(&bench, 20 * MS - 1);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).calls, 2);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	pass(&bench, 1);
	/* The first slot is gone, though nothing was reported in the third. */
	ck_assert_uint_eq(breaker_metrics(bench.breaker).calls, 1);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	pass(&bench, 100000 * MS);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).calls, 0);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 3);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	close_bench(&bench);
}
END_TEST

/* S-BRK-6: one slot tumbles. */
START_TEST(window_that_tumbles)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .window = 1, .slot_ms = 10,
		.min_calls = 2 });
	pass(&bench, 10 * MS - 1);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	pass(&bench, 1);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	pass(&bench, 10 * MS - 1);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	close_bench(&bench);
}
END_TEST

/* S-BRK-9: in a row; a success ends it, an ignored one does not. */
START_TEST(consecutive)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .rule = EVWORK_BREAKER_CONSECUTIVE,
		.in_a_row = 3 });
	breaker_calls(bench.breaker, EVWORK_FAILURE, 2);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 1);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 2);
	breaker_calls(bench.breaker, EVWORK_IGNORE, 5);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	close_bench(&bench);
}
END_TEST

/* S-BRK-11: at the very moment, by an acquire as by a look; S-GEN-11: not before. */
START_TEST(open_ends_on_time)
{
	struct bench bench;
	int by_look;

	for (by_look = 0; by_look < 2; by_look++) {
		open_bench(&bench, (struct evwork_breaker_options) {
			.initial = EVWORK_BREAKER_OPEN, .open_ms = 1 });
		pass(&bench, MS - 1);
		ck_assert_int_eq(breaker_try(bench.breaker), -EHOSTDOWN);
		pass(&bench, 1);
		if (by_look)
			expect_breaker(bench.breaker, EVWORK_BREAKER_HALF_OPEN);
		else
			ck_assert_int_eq(breaker_try(bench.breaker), 0);
		ck_assert_uint_eq(breaker_metrics(bench.breaker).transitions, 1);
		ck_assert_int_eq(breaker_metrics(bench.breaker).open_until_ns, 0);
		close_bench(&bench);
	}
}
END_TEST

/* S-BRK-12: ignored trials make room. */
START_TEST(trials)
{
	struct evwork_breaker_permit permits[2] = { { 0 } };
	struct bench bench;
	int i;

	open_bench(&bench, (struct evwork_breaker_options) {
		.initial = EVWORK_BREAKER_HALF_OPEN, .trials = 2 });
	for (i = 0; i < 10; i++) {
		ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permits[0]), 0);
		ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permits[1]), 0);
		ck_assert_int_eq(breaker_try(bench.breaker), -EBUSY);
		ck_assert_int_eq(evwork_breaker_report(&permits[0], EVWORK_IGNORE, 0), 0);
		evwork_breaker_drop(&permits[1]);
	}
	/* One that has ended does not. */
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permits[0]), 0);
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permits[1]), 0);
	ck_assert_int_eq(evwork_breaker_report(&permits[0], EVWORK_SUCCESS, 0), 0);
	ck_assert_int_eq(breaker_try(bench.breaker), -EBUSY);
	ck_assert_int_eq(breaker_metrics(bench.breaker).trials_out, 1);
	ck_assert_int_eq(evwork_breaker_report(&permits[1], EVWORK_SUCCESS, 0), 0);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	close_bench(&bench);
}
END_TEST

/* S-BRK-13, rule RATE: after min(min_calls, P), by either threshold. */
START_TEST(trial_by_rate)
{
	static const struct { int min_calls, failures, slow; enum evwork_breaker_state then; } rows[] = {
		{ 4, 1, 0, EVWORK_BREAKER_CLOSED }, { 4, 2, 0, EVWORK_BREAKER_OPEN },
		{ 100, 4, 0, EVWORK_BREAKER_CLOSED }, { 100, 5, 0, EVWORK_BREAKER_OPEN },
		{ 4, 0, 2, EVWORK_BREAKER_CLOSED }, { 4, 0, 3, EVWORK_BREAKER_OPEN },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int k, needed = rows[i].min_calls < 10 ? rows[i].min_calls : 10;
		struct bench bench;

		open_bench(&bench, (struct evwork_breaker_options) {
			.initial = EVWORK_BREAKER_HALF_OPEN, .min_calls = rows[i].min_calls,
			.slow_ms = 1, .slow_percent = 75 });
		for (k = 0; k < needed; k++) {
			expect_breaker(bench.breaker, EVWORK_BREAKER_HALF_OPEN);
			breaker_call(bench.breaker, k < rows[i].failures ? EVWORK_FAILURE : EVWORK_SUCCESS,
				k < rows[i].slow ? 2 * MS : 0);
		}
		expect_breaker(bench.breaker, rows[i].then);
		close_bench(&bench);
	}
}
END_TEST

/* S-BRK-13, rule CONSECUTIVE. */
START_TEST(trial_in_a_row)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .open_ms = 1, .trials = 3,
		.initial = EVWORK_BREAKER_HALF_OPEN, .trial_rule = EVWORK_BREAKER_CONSECUTIVE });
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 2);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	pass(&bench, MS);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 2);
	expect_breaker(bench.breaker, EVWORK_BREAKER_HALF_OPEN);
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	close_bench(&bench);
}
END_TEST

/* S-BRK-14: undecided for too long; 0 is for ever. */
START_TEST(undecided)
{
	int closes;

	for (closes = 0; closes < 2; closes++) {
		struct evwork_breaker_permit permit = { 0 };
		struct bench bench;

		open_bench(&bench, (struct evwork_breaker_options) { .half_open_ms = 5,
			.initial = EVWORK_BREAKER_HALF_OPEN, .trials = 1,
			.trial_rule = EVWORK_BREAKER_CONSECUTIVE, .undecided_closes = closes });
		ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permit), 0);
		pass(&bench, 5 * MS - 1);
		expect_breaker(bench.breaker, EVWORK_BREAKER_HALF_OPEN);
		pass(&bench, 1);
		/* Too late, though nobody has looked (S-BRK-4). */
		ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_SUCCESS, 0), 0);
		ck_assert_uint_eq(breaker_metrics(bench.breaker).stale, 1);
		expect_breaker(bench.breaker, closes ? EVWORK_BREAKER_CLOSED : EVWORK_BREAKER_OPEN);
		close_bench(&bench);

		open_bench(&bench, (struct evwork_breaker_options) {
			.initial = EVWORK_BREAKER_HALF_OPEN });
		pass(&bench, EVWORK_NEVER);
		expect_breaker(bench.breaker, EVWORK_BREAKER_HALF_OPEN);
		close_bench(&bench);
	}
}
END_TEST

static int64_t wait_of(struct bench *bench)
{
	return breaker_metrics(bench->breaker).open_until_ns - evwork_clock_now(bench->clock);
}

/* S-BRK-15: longer each time up to a cap, and from the start once it was closed. */
START_TEST(waits_grow)
{
	static const int64_t waits[] = { 10, 25, 62, 100, 100 };
	struct bench bench;
	int i, round;

	open_bench(&bench, (struct evwork_breaker_options) { .open_ms = 10, .open_factor = 2.5,
		.open_max_ms = 100, .rule = EVWORK_BREAKER_CONSECUTIVE, .in_a_row = 1,
		.trials = 1, .trial_rule = EVWORK_BREAKER_CONSECUTIVE });
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 5; i++) {
			breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
			ck_assert_int_eq(wait_of(&bench) / MS, waits[i]);
			pass(&bench, wait_of(&bench));
		}
		breaker_calls(bench.breaker, EVWORK_SUCCESS, 1);
		expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	}
	close_bench(&bench);

	/* It saturates. */
	open_bench(&bench, (struct evwork_breaker_options) { .open_ms = 1, .open_factor = 1e300,
		.initial = EVWORK_BREAKER_OPEN });
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_HALF_OPEN), 0);
		ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_OPEN), 0);
		ck_assert_int_eq(breaker_metrics(bench.breaker).open_until_ns, EVWORK_NEVER);
	}
	close_bench(&bench);
}
END_TEST

/* S-BRK-16: from each state to each, S-BRK-1: which it may begin in. */
START_TEST(by_hand)
{
	int from, to;

	for (from = 0; from <= EVWORK_BREAKER_METRICS_ONLY; from++) {
		for (to = 0; to <= EVWORK_BREAKER_METRICS_ONLY; to++) {
			bool may = !(from == EVWORK_BREAKER_CLOSED && to == EVWORK_BREAKER_HALF_OPEN) &&
				!(from == EVWORK_BREAKER_METRICS_ONLY &&
				  (to == EVWORK_BREAKER_OPEN || to == EVWORK_BREAKER_HALF_OPEN));
			struct bench bench;

			open_bench(&bench, (struct evwork_breaker_options) {
				.initial = (enum evwork_breaker_state)from });
			expect_breaker(bench.breaker, (enum evwork_breaker_state)from);
			ck_assert_int_eq(evwork_breaker_set(bench.breaker,
				(enum evwork_breaker_state)to), may ? 0 : -EINVAL);
			expect_breaker(bench.breaker, (enum evwork_breaker_state)(may ? to : from));
			ck_assert_uint_eq(breaker_metrics(bench.breaker).transitions, may && from != to);
			close_bench(&bench);
		}
	}
}
END_TEST

/* S-BRK-16: to the same state clears; reset makes everything zero. */
START_TEST(begins_anew)
{
	struct evwork_breaker_permit permit = { 0 };
	struct evwork_breaker_metrics metrics;
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .window = 4, .open_factor = 10,
		.open_ms = 1 });
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permit), 0);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 3);
	ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_CLOSED), 0);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).calls, 0);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).transitions, 0);
	ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_FAILURE, 0), 0);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).calls, 0);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 4);
	pass(&bench, MS);
	ck_assert_int_eq(breaker_try(bench.breaker), 0);
	ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_OPEN), 0);
	ck_assert_int_eq(wait_of(&bench), 10 * MS);
	ck_assert_int_eq(evwork_breaker_reset(bench.breaker), 0);
	metrics = breaker_metrics(bench.breaker);
	ck_assert_int_eq(metrics.state, EVWORK_BREAKER_CLOSED);
	ck_assert_uint_eq(metrics.success + metrics.failure + metrics.slow + metrics.ignored +
		metrics.stale + metrics.not_permitted + metrics.transitions + metrics.calls, 0);
	ck_assert_double_eq(metrics.failure_percent, -1);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 4);
	ck_assert_int_eq(wait_of(&bench), MS);
	close_bench(&bench);
}
END_TEST

/* S-BRK-17: the three that are entered by hand. */
START_TEST(special_states)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .window = 4, .open_ms = 1,
		.initial = EVWORK_BREAKER_FORCED_OPEN });
	pass(&bench, EVWORK_NEVER / 2);
	ck_assert_int_eq(breaker_try(bench.breaker), -EHOSTDOWN);
	expect_breaker(bench.breaker, EVWORK_BREAKER_FORCED_OPEN);
	ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_DISABLED), 0);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 10);
	breaker_calls(bench.breaker, EVWORK_IGNORE, 1);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).failure, 0);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).ignored, 0);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).calls, 0);
	expect_breaker(bench.breaker, EVWORK_BREAKER_DISABLED);
	ck_assert_int_eq(evwork_breaker_set(bench.breaker, EVWORK_BREAKER_METRICS_ONLY), 0);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 10);
	expect_breaker(bench.breaker, EVWORK_BREAKER_METRICS_ONLY);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).failure, 10);
	ck_assert_double_eq(breaker_metrics(bench.breaker).failure_percent, 100);
	close_bench(&bench);
}
END_TEST

static enum evwork_outcome classify(int status, void *arg)
{
	++*(int *)arg;
	return status == 99 ? (enum evwork_outcome)17 : status == -ENOENT ? EVWORK_SUCCESS :
		status == 0 ? EVWORK_IGNORE : EVWORK_FAILURE;
}

/* S-BRK-18, S-CRASH-4: what statuses mean, by default and by the user's word. */
START_TEST(classifies)
{
	static const struct { int status; enum evwork_outcome outcome; } rows[] = {
		{ 0, EVWORK_SUCCESS }, { -ECANCELED, EVWORK_IGNORE }, { -EHOSTDOWN, EVWORK_IGNORE },
		{ -ETIMEDOUT, EVWORK_FAILURE }, { -EOWNERDEAD, EVWORK_FAILURE },
		{ -EAGAIN, EVWORK_FAILURE }, { 1, EVWORK_FAILURE },
	};
	struct evwork_breaker_permit permit = { 0 };
	struct bench bench;
	int asked = 0;
	size_t i;

	open_bench(&bench, (struct evwork_breaker_options) { 0 });
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct evwork_breaker_metrics metrics;

		ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permit), 0);
		ck_assert_int_eq(evwork_breaker_report_status(&permit, rows[i].status, 1), 0);
		metrics = breaker_metrics(bench.breaker);
		ck_assert_uint_eq(rows[i].outcome == EVWORK_SUCCESS ? metrics.success :
			rows[i].outcome == EVWORK_FAILURE ? metrics.failure : metrics.ignored, 1);
		ck_assert_uint_eq(metrics.success + metrics.failure + metrics.ignored, 1);
		ck_assert_int_eq(evwork_breaker_reset(bench.breaker), 0);
	}
	close_bench(&bench);

	open_bench(&bench, (struct evwork_breaker_options) { .classify = classify, .arg = &asked });
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, &permit), 0);
	ck_assert_int_eq(evwork_breaker_report_status(&permit, 99, 0), -EINVAL);
	ck_assert_int_eq(evwork_breaker_report_status(&permit, -ENOENT, 0), 0);
	ck_assert_uint_eq(breaker_metrics(bench.breaker).success, 1);
	ck_assert_int_eq(asked, 2);
	close_bench(&bench);
}
END_TEST

/* S-BRK-20, S-GEN-10: each of these, by itself, is refused, and its neighbours are not. */
START_TEST(checked_options)
{
	static const struct evwork_breaker_options bad[] = {
		{ .failure_percent = -0.001 }, { .failure_percent = 100.001 },
		{ .slow_percent = -1 }, { .slow_percent = 101 }, { .window = -1 },
		{ .window = EVWORK_BREAKER_WINDOW_MAX + 1 }, { .trials = -1 }, { .min_calls = -1 },
		{ .in_a_row = -1 }, { .open_ms = -1 }, { .open_max_ms = -1 }, { .slow_ms = -1 },
		{ .half_open_ms = -1 }, { .slot_ms = -1 }, { .open_factor = 0.99 },
		{ .open_factor = -1 }, { .initial = (enum evwork_breaker_state)6 },
		{ .rule = (enum evwork_breaker_rule)2 }, { .trial_rule = (enum evwork_breaker_rule)2 },
		{ .automatic = 1 }, { .failure_percent = NAN }, { .slow_percent = NAN },
		{ .open_factor = NAN }, { .open_factor = INFINITY }, { .failure_percent = INFINITY },
	};
	static const struct evwork_breaker_options good[] = {
		{ .failure_percent = 0.001 }, { .failure_percent = 100 }, { .open_factor = 1 },
		{ .window = 1, .trials = 1, .min_calls = 1, .open_ms = 1, .slow_ms = 1 },
		{ .open_ms = INT64_MAX, .slow_ms = INT64_MAX, .slot_ms = INT64_MAX,
		  .half_open_ms = INT64_MAX },
	};
	struct evwork_breaker *breaker = NULL;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(evwork_breaker_new(&bad[i], &breaker) == -EINVAL && !breaker,
			"row %zu", i);
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_int_eq(evwork_breaker_new(&good[i], &breaker), 0);
		ck_assert_int_eq(evwork_breaker_free(breaker), 0);
	}
	ck_assert_int_eq(evwork_breaker_new(NULL, &breaker), -EINVAL);
	ck_assert_int_eq(evwork_breaker_new(&good[0], NULL), -EINVAL);
}
END_TEST

/* S-BRK-20: a percentage of 0.001 trips at one failure. */
START_TEST(small_percentages)
{
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { .failure_percent = 0.001 });
	breaker_calls(bench.breaker, EVWORK_SUCCESS, 1000);
	expect_breaker(bench.breaker, EVWORK_BREAKER_CLOSED);
	breaker_calls(bench.breaker, EVWORK_FAILURE, 1);
	expect_breaker(bench.breaker, EVWORK_BREAKER_OPEN);
	close_bench(&bench);
}
END_TEST

/* S-GEN-8: NULL. */
START_TEST(null_arguments)
{
	struct evwork_breaker_permit permit = { 0 };
	struct evwork_breaker_metrics metrics;
	struct bench bench;

	open_bench(&bench, (struct evwork_breaker_options) { 0 });
	ck_assert_int_eq(evwork_breaker_free(NULL), 0);
	ck_assert_ptr_null(evwork_breaker_guard(NULL));
	ck_assert_int_eq(evwork_breaker_acquire(NULL, &permit), -EINVAL);
	ck_assert_int_eq(evwork_breaker_acquire(bench.breaker, NULL), -EINVAL);
	ck_assert_int_eq(evwork_breaker_state(NULL), -EINVAL);
	ck_assert_int_eq(evwork_breaker_set(NULL, EVWORK_BREAKER_OPEN), -EINVAL);
	ck_assert_int_eq(evwork_breaker_set(bench.breaker, (enum evwork_breaker_state)6), -EINVAL);
	ck_assert_int_eq(evwork_breaker_reset(NULL), -EINVAL);
	ck_assert_int_eq(evwork_breaker_metrics(NULL, &metrics), -EINVAL);
	ck_assert_int_eq(evwork_breaker_metrics(bench.breaker, NULL), -EINVAL);
	close_bench(&bench);
}
END_TEST

/* S-CRASH-8: whatever fails while one is made, nothing is left. */
START_TEST(failing_to_make)
{
	struct evwork_breaker *breaker;
	int k, rc, slots;

	for (slots = 0; slots < 2; slots++) {
		struct evwork_breaker_options options = { .slot_ms = slots };

		for (k = 1; ; k++) {
			size_t blocks = sys_blocks();

			fault_start(SYS_CALLS, k, false);
			rc = evwork_breaker_new(&options, &breaker);
			if (fault_stop() < k)
				break;
			ck_assert_int_eq(rc, -ENOMEM);
			ck_assert_uint_eq(sys_blocks(), blocks);
		}
		ck_assert_int_gt(k, 3);
		ck_assert_int_eq(rc, 0);
		ck_assert_int_eq(evwork_breaker_free(breaker), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("breaker");
	TCase *permits = support_case(suite, "permits");
	TCase *rules = support_case(suite, "rules");
	TCase *life = support_case(suite, "life");

	tcase_add_test(permits, defaults);
	tcase_add_test(permits, refusals);
	tcase_add_test(permits, reports);
	tcase_add_test(permits, stale_permits);
	tcase_add_test(permits, classifies);
	tcase_add_test(rules, default_of_slow);
	tcase_add_test(rules, slow_failures_count_twice);
	tcase_add_test(rules, outcomes_count_when_reported);
	tcase_add_test(rules, window_of_outcomes);
	tcase_add_test(rules, success_trips);
	tcase_add_test(rules, window_of_time);
	tcase_add_test(rules, window_that_tumbles);
	tcase_add_test(rules, consecutive);
	tcase_add_test(rules, open_ends_on_time);
	tcase_add_test(rules, trials);
	tcase_add_test(rules, trial_by_rate);
	tcase_add_test(rules, trial_in_a_row);
	tcase_add_test(rules, undecided);
	tcase_add_test(rules, waits_grow);
	tcase_add_test(rules, small_percentages);
	tcase_add_test(life, by_hand);
	tcase_add_test(life, begins_anew);
	tcase_add_test(life, special_states);
	tcase_add_test(life, checked_options);
	tcase_add_test(life, null_arguments);
	tcase_add_test(life, failing_to_make);
	return support_run(suite);
}
