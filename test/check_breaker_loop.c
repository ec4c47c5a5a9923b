/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Breakers and their loop: announcements, the automatic end of waits, loops that close or
 * go, freeing from callbacks, and how much may wait to be announced.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "breaker_scene.h"

enum { CHANGES = 5000 };

struct scene {
	struct world world;
	struct evwork_breaker *breaker;
	struct { int from, to; } changes[CHANGES];
	int count, exceeded[2], order;
	int exceeded_at[2];              /* how many changes came before */
	bool elsewhere;                  /* a callback came on another thread */
	pthread_t thread;
	int64_t at_ns;                   /* when the last change was told */
	void (*on)(struct scene *scene); /* in on_transition, may be NULL */
	int rc;
};

static void on_transition(struct evwork_breaker *breaker, enum evwork_breaker_state from,
	enum evwork_breaker_state to, void *arg)
{
	struct scene *scene = arg;

	scene->elsewhere |= !pthread_equal(pthread_self(), scene->thread) ||
		breaker != scene->breaker;
	if (scene->count < CHANGES) {
		scene->changes[scene->count].from = (int)from;
		scene->changes[scene->count].to = (int)to;
	}
	scene->count++;
	if (scene->world.loop)
		scene->at_ns = evwork_loop_now(scene->world.loop);
	if (scene->on)
		scene->on(scene);
}

static void on_exceeded(struct evwork_breaker *breaker, enum evwork_breaker_rate rate, void *arg)
{
	struct scene *scene = arg;

	scene->elsewhere |= !pthread_equal(pthread_self(), scene->thread) ||
		breaker != scene->breaker;
	scene->exceeded[rate]++;
	scene->exceeded_at[rate] = scene->count;
}

/* With the options of the test, and a rule that opens at the first failure and closes at
 * the first success. */
static void open_scene(struct scene *scene, struct evwork_breaker_options options)
{
	memset(scene, 0, sizeof(*scene));
	world_open_manual(&scene->world, 1, START_NS);
	scene->thread = pthread_self();
	options.rule = options.trial_rule = EVWORK_BREAKER_CONSECUTIVE;
	options.in_a_row = options.trials = 1;
	options.on_transition = on_transition;
	options.on_exceeded = on_exceeded;
	options.arg = scene;
	options.loop = scene->world.loop;
	ck_assert_int_eq(evwork_breaker_new(&options, &scene->breaker), 0);
}

static void close_scene(struct scene *scene)
{
	ck_assert(!scene->elsewhere);
	ck_assert_int_eq(evwork_breaker_free(scene->breaker), 0);
	world_close(&scene->world);
}

/* The breaker alone does not keep the base running. */
static void passes(struct scene *scene, int n)
{
	while (n-- > 0)
		one_pass(scene->world.base);
}

/* Each change begins where the one before has ended; returns where that is. */
static int expect_chain(struct scene *scene, int from)
{
	int i;

	for (i = 0; i < scene->count; i++) {
		ck_assert_int_eq(scene->changes[i].from, from);
		from = scene->changes[i].to;
		ck_assert_int_ne(scene->changes[i].from, from);
	}
	return from;
}

/* S-BRK-19, S-GEN-3: none inside the call, then all, in order. */
START_TEST(told_in_order)
{
	struct scene scene;
	int i;

	open_scene(&scene, (struct evwork_breaker_options) { .open_ms = 1 });
	for (i = 0; i < 10; i++) {
		breaker_call(scene.breaker, EVWORK_FAILURE, 0);
		ck_assert_int_eq(evwork_clock_jump(scene.world.clock, MS), 0);
		breaker_call(scene.breaker, EVWORK_SUCCESS, 0);
	}
	ck_assert_int_eq(scene.count, 0);
	/* It is brought by a turn each, which keep the base running. */
	world_run(&scene.world);
	ck_assert_int_eq(scene.count, 30);
	ck_assert_int_eq(expect_chain(&scene, EVWORK_BREAKER_CLOSED), EVWORK_BREAKER_CLOSED);
	ck_assert_int_eq(scene.changes[0].to, EVWORK_BREAKER_OPEN);
	ck_assert_int_eq(scene.changes[1].to, EVWORK_BREAKER_HALF_OPEN);
	close_scene(&scene);
}
END_TEST

/* S-BRK-16: to the same state is no event; a reset of another one is. */
START_TEST(same_state_is_not_told)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { 0 });
	breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED);
	ck_assert_int_eq(evwork_breaker_reset(scene.breaker), 0);
	world_run(&scene.world);
	ck_assert_int_eq(scene.count, 0);
	breaker_set(scene.breaker, EVWORK_BREAKER_DISABLED);
	ck_assert_int_eq(evwork_breaker_reset(scene.breaker), 0);
	world_run(&scene.world);
	ck_assert_int_eq(scene.count, 2);
	expect_chain(&scene, EVWORK_BREAKER_CLOSED);
	close_scene(&scene);
}
END_TEST

static void report_elsewhere(void *arg)
{
	struct scene *scene = arg;

	breaker_call(scene->breaker, EVWORK_FAILURE, 0);
	/* S-BRK-19: no user code runs there. */
	scene->rc = scene->count;
}

/* S-BRK-19: reported on another thread, told on the loop. */
START_TEST(told_on_the_loop)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { 0 });
	support_elsewhere(report_elsewhere, &scene);
	ck_assert_int_eq(scene.rc, 0);
	world_run_until(&scene.world, &scene.count, 1);
	ck_assert_int_eq(scene.changes[0].to, EVWORK_BREAKER_OPEN);
	close_scene(&scene);
}
END_TEST

/* S-BRK-17: each threshold once for each time in METRICS_ONLY. */
START_TEST(exceeded_once)
{
	struct evwork_breaker_options options = { .window = 4, .slow_ms = 1,
		.initial = EVWORK_BREAKER_METRICS_ONLY, .on_exceeded = on_exceeded };
	struct evwork_breaker_permit permit = { 0 };
	struct scene scene = { 0 };
	int i, round;

	world_open_manual(&scene.world, 1, START_NS);
	scene.thread = pthread_self();
	options.loop = scene.world.loop;
	options.arg = &scene;
	ck_assert_int_eq(evwork_breaker_new(&options, &scene.breaker), 0);
	for (round = 1; round <= 2; round++) {
		for (i = 0; i < 20; i++) {
			ck_assert_int_eq(evwork_breaker_acquire(scene.breaker, &permit), 0);
			ck_assert_int_eq(evwork_breaker_report(&permit, EVWORK_FAILURE,
				i < 10 ? 0 : 2 * MS), 0);
			world_run(&scene.world);
			ck_assert_int_eq(scene.exceeded[EVWORK_BREAKER_FAILURES], round - (i < 3));
			ck_assert_int_eq(scene.exceeded[EVWORK_BREAKER_SLOW], round - (i < 13));
		}
		breaker_set(scene.breaker, EVWORK_BREAKER_METRICS_ONLY);
	}
	expect_breaker(scene.breaker, EVWORK_BREAKER_METRICS_ONLY);
	close_scene(&scene);
}
END_TEST

/* S-BRK-17: a row, too; and in order with the changes. */
START_TEST(exceeded_in_order)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { 0 });
	breaker_set(scene.breaker, EVWORK_BREAKER_METRICS_ONLY);
	breaker_call(scene.breaker, EVWORK_FAILURE, 0);
	breaker_call(scene.breaker, EVWORK_FAILURE, 0);
	breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED);
	world_run(&scene.world);
	ck_assert_int_eq(scene.exceeded[EVWORK_BREAKER_FAILURES], 1);
	ck_assert_int_eq(scene.exceeded_at[EVWORK_BREAKER_FAILURES], 1);
	ck_assert_int_eq(scene.count, 2);
	close_scene(&scene);
}
END_TEST

/* S-BRK-11: AUTO ends the wait on time, S-GEN-11: not before; and S-BRK-14. */
START_TEST(automatic)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { .open_ms = 20, .half_open_ms = 5,
		.automatic = 1 });
	support_elsewhere(report_elsewhere, &scene);
	world_run_until(&scene.world, &scene.count, 1);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 20 * MS - 1), 0);
	passes(&scene, 5);
	ck_assert_int_eq(scene.count, 1);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 1), 0);
	world_run_until(&scene.world, &scene.count, 2);
	ck_assert_int_eq(scene.changes[1].to, EVWORK_BREAKER_HALF_OPEN);
	ck_assert_int_eq(scene.at_ns, START_NS + 20 * MS);
	/* Nobody tried: it opens again, and so on. */
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 5 * MS), 0);
	world_run_until(&scene.world, &scene.count, 3);
	ck_assert_int_eq(scene.changes[2].to, EVWORK_BREAKER_OPEN);
	ck_assert_int_eq(scene.at_ns, START_NS + 25 * MS);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 500 * MS), 0);
	world_run_until(&scene.world, &scene.count, 43);
	passes(&scene, 5);
	ck_assert_int_eq(scene.count, 43);
	ck_assert_int_eq(scene.at_ns, START_NS + 525 * MS);
	close_scene(&scene);
}
END_TEST

/* S-BRK-11: the alarm of an opening that was ended by hand does no harm, and a later
 * opening has its own. */
START_TEST(automatic_alarms_move)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { .open_ms = 20, .automatic = 1 });
	breaker_call(scene.breaker, EVWORK_FAILURE, 0);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 10 * MS), 0);
	passes(&scene, 5);
	breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED);
	breaker_call(scene.breaker, EVWORK_FAILURE, 0);
	world_run_until(&scene.world, &scene.count, 3);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 20 * MS - 1), 0);
	passes(&scene, 5);
	ck_assert_int_eq(scene.count, 3);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 1), 0);
	world_run_until(&scene.world, &scene.count, 4);
	ck_assert_int_eq(scene.at_ns, START_NS + 30 * MS);
	close_scene(&scene);
}
END_TEST

/* S-BRK-19: with a loop that does not come to it no change is lost; the breaker stays open
 * until there is room to tell of what comes. */
START_TEST(no_change_is_lost)
{
	struct evwork_breaker_metrics metrics;
	struct evwork_breaker_permit permit = { 0 };
	struct scene scene;
	int made = 0, kept = 0;

	open_scene(&scene, (struct evwork_breaker_options) { .open_ms = 1 });
	while (kept < 10) {
		breaker_call(scene.breaker, made % 3 == 1 ? EVWORK_SUCCESS : EVWORK_FAILURE, 0);
		ck_assert_int_eq(evwork_clock_jump(scene.world.clock, MS), 0);
		while (kept < 10 && evwork_breaker_acquire(scene.breaker, &permit) != 0)
			kept++;
		evwork_breaker_drop(&permit);
		made++;
	}
	/* By hand neither, and nothing was changed by that. */
	ck_assert_int_eq(evwork_breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED), -EAGAIN);
	ck_assert_int_eq(evwork_breaker_reset(scene.breaker), -EAGAIN);
	expect_breaker(scene.breaker, EVWORK_BREAKER_OPEN);
	ck_assert_int_eq(evwork_breaker_metrics(scene.breaker, &metrics), 0);
	ck_assert_uint_gt(metrics.transitions, EVWORK_BREAKER_NOTICES_MAX - 3);
	ck_assert_uint_le(metrics.transitions, EVWORK_BREAKER_NOTICES_MAX);
	world_run(&scene.world);
	ck_assert_uint_eq((uint64_t)scene.count, metrics.transitions);
	ck_assert_int_eq(expect_chain(&scene, EVWORK_BREAKER_CLOSED), EVWORK_BREAKER_OPEN);
	expect_breaker(scene.breaker, EVWORK_BREAKER_HALF_OPEN);
	world_run(&scene.world);
	close_scene(&scene);
}
END_TEST

/* The same, and AUTO ends the wait once there is room: nothing else has to look. */
START_TEST(automatic_after_a_jam)
{
	struct scene scene;
	int i;

	open_scene(&scene, (struct evwork_breaker_options) { .open_ms = 1, .automatic = 1 });
	for (i = 0; i < EVWORK_BREAKER_NOTICES_MAX - 3; i++)
		breaker_set(scene.breaker, i % 2 ? EVWORK_BREAKER_CLOSED : EVWORK_BREAKER_DISABLED);
	breaker_set(scene.breaker, EVWORK_BREAKER_OPEN);
	/* Two places are left. */
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, MS), 0);
	expect_breaker(scene.breaker, EVWORK_BREAKER_OPEN);
	world_run(&scene.world);
	ck_assert_int_eq(scene.count, EVWORK_BREAKER_NOTICES_MAX - 1);
	ck_assert_int_eq(expect_chain(&scene, EVWORK_BREAKER_CLOSED), EVWORK_BREAKER_HALF_OPEN);
	close_scene(&scene);
}
END_TEST

static void free_breaker(struct scene *scene)
{
	scene->rc = evwork_breaker_free(scene->breaker);
}

/* S-GEN-5: freed in its own callback, with more to be told. */
START_TEST(freed_in_its_callback)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { .automatic = 1 });
	scene.on = free_breaker;
	scene.rc = 1;
	breaker_call(scene.breaker, EVWORK_FAILURE, 0);
	breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED);
	world_run(&scene.world);
	ck_assert_int_eq(scene.count, 1);
	ck_assert_int_eq(scene.rc, 0);
	world_close(&scene.world);
}
END_TEST

static void free_elsewhere(void *arg)
{
	free_breaker(arg);
}

/* With a loop it is freed there, and the loop is kept. */
START_TEST(freed_on_its_loop)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { .automatic = 1,
		.initial = EVWORK_BREAKER_OPEN });
	support_elsewhere(free_elsewhere, &scene);
	ck_assert_int_eq(scene.rc, -EPERM);
	ck_assert_int_eq(evwork_loop_free(scene.world.loop), -EBUSY);
	/* It does not keep the base running, though its alarm is set. */
	world_run(&scene.world);
	close_scene(&scene);
}
END_TEST

static void on_closed(struct evwork_loop *loop, void *arg)
{
	struct scene *scene = arg;

	(void)loop;
	scene->order = scene->count;
}

/* S-SHUT-7, S-SHUT-8: the loop closes. What was changed before is told before it, and the
 * breaker goes on. */
START_TEST(loop_closes)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { .automatic = 1, .open_ms = 1 });
	breaker_set(scene.breaker, EVWORK_BREAKER_OPEN);
	breaker_set(scene.breaker, EVWORK_BREAKER_DISABLED);
	breaker_set(scene.breaker, EVWORK_BREAKER_OPEN);
	ck_assert_int_eq(evwork_loop_close(scene.world.loop, on_closed, &scene), 0);
	world_run(&scene.world);
	ck_assert_int_eq(scene.count, 3);
	ck_assert_int_eq(scene.order, 3);
	breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED);
	breaker_set(scene.breaker, EVWORK_BREAKER_OPEN);
	world_run(&scene.world);
	ck_assert_int_eq(scene.count, 3);
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, MS), 0);
	expect_breaker(scene.breaker, EVWORK_BREAKER_HALF_OPEN);
	/* Now it may be freed on any thread. */
	support_elsewhere(free_elsewhere, &scene);
	ck_assert_int_eq(scene.rc, 0);
	world_close(&scene.world);
}
END_TEST

static void force(struct scene *scene)
{
	scene->rc = evwork_loop_free_force(scene->world.loop);
	scene->world.loop = NULL;
}

/* S-SHUT-11: the loop is freed by force, between callbacks and in one. */
START_TEST(loop_is_forced)
{
	struct scene scene;
	int inside;

	for (inside = 0; inside < 2; inside++) {
		open_scene(&scene, (struct evwork_breaker_options) { .automatic = 1,
			.initial = EVWORK_BREAKER_OPEN });
		breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED);
		breaker_set(scene.breaker, EVWORK_BREAKER_OPEN);
		scene.rc = -1;
		if (inside) {
			scene.on = force;
			world_run_until(&scene.world, &scene.count, 1);
		} else {
			force(&scene);
		}
		ck_assert_int_ge(scene.rc, 0);
		ck_assert_int_eq(scene.count, inside);
		breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED);
		ck_assert_int_eq(evwork_breaker_free(scene.breaker), 0);
		world_close(&scene.world);
	}
}
END_TEST

/* A closing loop takes no breaker. */
START_TEST(loop_is_closing)
{
	struct evwork_breaker_options options = { .automatic = 1 };
	struct evwork_breaker *breaker;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	options.loop = world.loop;
	ck_assert_int_eq(evwork_breaker_new(&options, &breaker), -ESHUTDOWN);
	world_run(&world);
	world_close(&world);
}
END_TEST

/* S-BRK-20: both a loop and a clock would be two times. S-CRASH-8. */
START_TEST(made_with_a_loop)
{
	struct evwork_breaker_options options = { .on_transition = on_transition };
	struct evwork_breaker *breaker;
	struct world world;
	int k, rc;

	ck_assert_int_eq(evwork_breaker_new(&options, &breaker), -EINVAL);
	world_open_manual(&world, 1, START_NS);
	options.loop = world.loop;
	options.clock = world.clock;
	ck_assert_int_eq(evwork_breaker_new(&options, &breaker), -EINVAL);
	options.clock = NULL;
	for (k = 1; ; k++) {
		size_t blocks = sys_blocks();

		fault_start(SYS_CALLS, k, false);
		rc = evwork_breaker_new(&options, &breaker);
		if (fault_stop() < k)
			break;
		ck_assert_int_eq(rc, -ENOMEM);
		ck_assert_uint_eq(sys_blocks(), blocks);
	}
	ck_assert_int_gt(k, 4);
	ck_assert_int_eq(evwork_breaker_free(breaker), 0);
	world_close(&world);
}
END_TEST

/* S-CRASH-8, S-GEN-14: nothing that a breaker does needs memory. */
START_TEST(no_memory_needed)
{
	struct scene scene;
	int i;

	open_scene(&scene, (struct evwork_breaker_options) { .open_ms = 1, .automatic = 1 });
	fault_start(SYS_CALLS, 1, true);
	for (i = 0; i < 10; i++) {
		breaker_call(scene.breaker, EVWORK_FAILURE, 0);
		ck_assert_int_eq(evwork_clock_advance(scene.world.clock, MS), 0);
		world_run_until(&scene.world, &scene.count, 3 * i + 2);
		breaker_call(scene.breaker, EVWORK_SUCCESS, 0);
		world_run_until(&scene.world, &scene.count, 3 * i + 3);
	}
	ck_assert_int_eq(fault_stop(), 0);
	close_scene(&scene);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("breaker_loop");
	TCase *told = support_case(suite, "told");
	TCase *time = support_case(suite, "time");
	TCase *ends = support_case(suite, "ends");

	tcase_add_test(told, told_in_order);
	tcase_add_test(told, same_state_is_not_told);
	tcase_add_test(told, told_on_the_loop);
	tcase_add_test(told, exceeded_once);
	tcase_add_test(told, exceeded_in_order);
	tcase_add_test(told, no_change_is_lost);
	tcase_add_test(time, automatic);
	tcase_add_test(time, automatic_alarms_move);
	tcase_add_test(time, automatic_after_a_jam);
	tcase_add_test(ends, freed_in_its_callback);
	tcase_add_test(ends, freed_on_its_loop);
	tcase_add_test(ends, loop_closes);
	tcase_add_test(ends, loop_is_forced);
	tcase_add_test(ends, loop_is_closing);
	tcase_add_test(ends, made_with_a_loop);
	tcase_add_test(ends, no_memory_needed);
	return support_run(suite);
}
