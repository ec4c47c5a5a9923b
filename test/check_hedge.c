/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Hedges: when copies begin, what decides, budgets, contexts, closing, and failing system
 * calls. The copies are on the loop, so that each test says when they end; on a manual clock.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#define START_NS INT64_C(1000000000)
#define MS INT64_C(1000000)

enum { COPIES = 4 };

struct scene {
	struct world world;
	struct evwork_hedge hedge;
	struct evwork_attempt *copies[COPIES + 1];   /* by their numbers */
	int64_t begun_ns[COPIES + 1];
	int begun;
	atomic_int runs, stopped;                    /* of run */
	int dones, status, drains, drain_status;
	bool wrong;
	bool forces;                                 /* the loop is freed by force in done */
};

static void begin(struct evwork_attempt *attempt, void *arg)
{
	struct scene *scene = arg;
	int number = evwork_attempt_number(attempt);

	scene->wrong |= number < 1 || number > COPIES || scene->copies[number];
	scene->copies[number] = attempt;
	scene->begun_ns[number] = evwork_clock_now(scene->world.clock);
	scene->begun++;
}

static int run(struct evwork_attempt *attempt, void *arg)
{
	struct scene *scene = arg;

	atomic_fetch_add(&scene->runs, 1);
	if (evwork_attempt_number(attempt) == 2)
		return 0;
	/* The first ends when it is told to. */
	while (!evwork_ctx_err(evwork_attempt_ctx(attempt)))
		sys_yield();
	atomic_fetch_add(&scene->stopped, 1);
	return -ECANCELED;
}

static void on_done(struct evwork_hedge *hedge, int status)
{
	struct scene *scene = EVWORK_CONTAINER(hedge, struct scene, hedge);

	scene->wrong |= scene->drains > 0;
	scene->dones++;
	scene->status = status;
	if (scene->forces) {
		scene->wrong |= evwork_loop_free_force(scene->world.loop) < 0;
		scene->world.loop = NULL;
	}
}

static void on_drained(struct evwork_hedge *hedge, int status)
{
	struct scene *scene = EVWORK_CONTAINER(hedge, struct scene, hedge);

	scene->wrong |= scene->dones != 1;
	scene->drains++;
	scene->drain_status = status;
}

static void open_scene(struct scene *scene, int copies)
{
	memset(scene, 0, sizeof(*scene));
	world_open_manual(&scene->world, 2, START_NS);
	scene->hedge.op = (struct evwork_op) { .start = begin, .arg = scene };
	scene->hedge.copies = copies;
	scene->hedge.delay_ms = 10;
	scene->hedge.idempotent = 1;
	scene->hedge.done = on_done;
	scene->hedge.drained = on_drained;
	scene->status = 1;
}

static void close_scene(struct scene *scene)
{
	ck_assert(!scene->wrong);
	world_close(&scene->world);
}

static int start(struct scene *scene)
{
	return evwork_hedge_start(scene->world.loop, &scene->hedge);
}

static void turns(struct scene *scene)
{
	world_turns(&scene->world, 5);
}

static void pass(struct scene *scene, int64_t ns)
{
	ck_assert_int_eq(evwork_clock_advance(scene->world.clock, ns), 0);
	turns(scene);
}

static void end(struct scene *scene, int number, int status)
{
	ck_assert_int_eq(evwork_attempt_end(scene->copies[number], status), 0);
	turns(scene);
}

static int err_of(struct scene *scene, int number)
{
	return evwork_ctx_err(evwork_attempt_ctx(scene->copies[number]));
}

static void expect(struct scene *scene, int begun, int dones, int drains)
{
	ck_assert_int_eq(scene->begun, begun);
	ck_assert_int_eq(scene->dones, dones);
	ck_assert_int_eq(scene->drains, drains);
}

/* S-RTY-16, S-RTY-17, S-GEN-11: copies on schedule, the first success wins, the rest is told
 * to stop and waited for. */
START_TEST(first_success_wins)
{
	struct scene scene;

	open_scene(&scene, 3);
	ck_assert_int_eq(start(&scene), 0);
	ck_assert_int_eq(scene.begun, 0);
	ck_assert_int_eq(start(&scene), -EBUSY);
	turns(&scene);
	expect(&scene, 1, 0, 0);
	pass(&scene, 10 * MS - 1);
	expect(&scene, 1, 0, 0);
	pass(&scene, 1);
	expect(&scene, 2, 0, 0);
	pass(&scene, 10 * MS);
	expect(&scene, 3, 0, 0);
	pass(&scene, 100 * MS);
	end(&scene, 2, 0);
	expect(&scene, 3, 1, 0);
	ck_assert_int_eq(scene.status, 0);
	ck_assert_int_eq(scene.hedge.winner, 2);
	ck_assert_int_eq(scene.hedge.launched, 3);
	ck_assert_int_eq(err_of(&scene, 1), -ECANCELED);
	ck_assert_int_eq(err_of(&scene, 3), -ECANCELED);
	ck_assert_int_eq(start(&scene), -EBUSY);
	/* A late success changes nothing. */
	end(&scene, 3, 0);
	expect(&scene, 3, 1, 0);
	end(&scene, 1, -EIO);
	expect(&scene, 3, 1, 1);
	ck_assert_int_eq(scene.drain_status, 0);
	ck_assert_int_eq(scene.hedge.winner, 2);
	close_scene(&scene);
}
END_TEST

/* S-RTY-16: one copy is a plain call. */
START_TEST(one_copy)
{
	struct scene scene;

	open_scene(&scene, 1);
	scene.hedge.idempotent = 0;
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	pass(&scene, 1000 * MS);
	expect(&scene, 1, 0, 0);
	end(&scene, 1, -EAGAIN);
	expect(&scene, 1, 1, 1);
	ck_assert_int_eq(scene.status, -EAGAIN);
	close_scene(&scene);
}
END_TEST

/* S-RTY-16: a delay of 0, and what is refused. */
START_TEST(arguments)
{
	struct evwork_ctx *ctx;
	struct scene scene;

	open_scene(&scene, 2);
	ck_assert_int_eq(evwork_hedge_start(NULL, &scene.hedge), -EINVAL);
	ck_assert_int_eq(evwork_hedge_start(scene.world.loop, NULL), -EINVAL);
	scene.hedge.idempotent = 0;
	ck_assert_int_eq(start(&scene), -EINVAL);
	scene.hedge.idempotent = 1;
	scene.hedge.copies = 0;
	ck_assert_int_eq(start(&scene), -EINVAL);
	scene.hedge.copies = EVWORK_HEDGE_COPIES_MAX + 1;
	ck_assert_int_eq(start(&scene), -EINVAL);
	scene.hedge.copies = 2;
	scene.hedge.delay_ms = -1;
	ck_assert_int_eq(start(&scene), -EINVAL);
	scene.hedge.delay_ms = 0;
	scene.hedge.done = NULL;
	ck_assert_int_eq(start(&scene), -EINVAL);
	scene.hedge.done = on_done;
	scene.hedge.op.run = run;
	ck_assert_int_eq(start(&scene), -EINVAL);
	scene.hedge.op.run = NULL;
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	evwork_ctx_cancel(ctx, 0);
	scene.hedge.ctx = ctx;
	ck_assert_int_eq(start(&scene), -ECANCELED);
	scene.hedge.ctx = NULL;
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	expect(&scene, 2, 0, 0);
	end(&scene, 1, 0);
	end(&scene, 2, 0);
	expect(&scene, 2, 1, 1);
	ck_assert_int_eq(scene.hedge.winner, 1);
	evwork_ctx_unref(ctx);
	close_scene(&scene);
}
END_TEST

/* S-RTY-18: a failure begins the next copy at once, and the one after that comes its delay
 * later; when all have failed it is the first failure. */
START_TEST(failures_go_on)
{
	struct scene scene;

	open_scene(&scene, 3);
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	pass(&scene, 4 * MS);
	end(&scene, 1, -EPIPE);
	expect(&scene, 2, 0, 0);
	ck_assert_int_eq(scene.begun_ns[2], START_NS + 4 * MS);
	pass(&scene, 10 * MS - 1);
	expect(&scene, 2, 0, 0);
	pass(&scene, 1);
	expect(&scene, 3, 0, 0);
	end(&scene, 3, -EAGAIN);
	expect(&scene, 3, 0, 0);
	end(&scene, 2, -ETIMEDOUT);
	expect(&scene, 3, 1, 1);
	ck_assert_int_eq(scene.status, -EPIPE);
	ck_assert_int_eq(scene.hedge.winner, 0);
	close_scene(&scene);
}
END_TEST

static int fatal(int status, void *arg)
{
	(void)arg;
	return status == -EAGAIN;
}

/* S-RTY-18: a fatal one cancels all, by default and by the user's word. */
START_TEST(fatal_ends_it)
{
	int own;

	for (own = 0; own < 2; own++) {
		struct scene scene;
		int status = own ? -EAGAIN : -EHOSTDOWN;

		open_scene(&scene, 3);
		scene.hedge.fatal = own ? fatal : NULL;
		ck_assert_int_eq(start(&scene), 0);
		turns(&scene);
		pass(&scene, 10 * MS);
		end(&scene, 2, status);
		expect(&scene, 2, 1, 0);
		ck_assert_int_eq(scene.status, status);
		ck_assert_int_eq(err_of(&scene, 1), -ECANCELED);
		pass(&scene, 100 * MS);
		end(&scene, 1, 0);
		expect(&scene, 2, 1, 1);
		ck_assert_int_eq(scene.drain_status, status);
		close_scene(&scene);
	}
}
END_TEST

/* S-RTY-19: copies that the budget refuses are counted, and do not end the call. */
START_TEST(budget_refuses)
{
	struct evwork_budget *budget;
	struct scene scene;

	ck_assert_int_eq(evwork_budget_new(1, 0, 60000, NULL, &budget), 0);
	open_scene(&scene, 4);
	scene.hedge.budget = budget;
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	pass(&scene, 10 * MS);
	expect(&scene, 2, 0, 0);
	pass(&scene, 10 * MS);
	ck_assert_int_eq(scene.hedge.refused, 1);
	pass(&scene, 10 * MS);
	pass(&scene, 10 * MS);
	expect(&scene, 2, 0, 0);
	ck_assert_int_eq(scene.hedge.refused, 2);
	ck_assert_int_eq(scene.hedge.launched, 2);
	end(&scene, 2, -EAGAIN);
	expect(&scene, 2, 0, 0);
	end(&scene, 1, 0);
	expect(&scene, 2, 1, 1);
	ck_assert_int_eq(scene.status, 0);

	/* With none that runs the call ends. */
	evwork_budget_free(budget);
	ck_assert_int_eq(evwork_budget_new(0, 0, 60000, NULL, &budget), 0);
	memset(scene.copies, 0, sizeof(scene.copies));
	scene.hedge.budget = budget;
	scene.begun = scene.dones = scene.drains = 0;
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	end(&scene, 1, -EPIPE);
	expect(&scene, 1, 1, 1);
	ck_assert_int_eq(scene.status, -EPIPE);
	ck_assert_int_eq(scene.hedge.refused, 3);
	close_scene(&scene);
	evwork_budget_free(budget);
}
END_TEST

/* S-RTY-20: a dead ctx: no new copies; done when those that run have ended, with its error
 * unless one succeeds. */
START_TEST(ctx_dies)
{
	int succeeds;

	for (succeeds = 0; succeeds < 2; succeeds++) {
		struct evwork_ctx *ctx;
		struct scene scene;

		open_scene(&scene, 3);
		ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
		scene.hedge.ctx = ctx;
		ck_assert_int_eq(start(&scene), 0);
		turns(&scene);
		pass(&scene, 10 * MS);
		evwork_ctx_cancel(ctx, 0);
		pass(&scene, 100 * MS);
		expect(&scene, 2, 0, 0);
		/* Not even a fatal error is one of the dependency now. */
		end(&scene, 1, -ECANCELED);
		expect(&scene, 2, 0, 0);
		end(&scene, 2, succeeds ? 0 : -EIO);
		expect(&scene, 2, 1, 1);
		ck_assert_int_eq(scene.status, succeeds ? 0 : -ECANCELED);
		evwork_ctx_unref(ctx);
		close_scene(&scene);
	}
}
END_TEST

/* S-SHUT-7: the loop closes: no new copies, the others are told to stop. */
START_TEST(loop_closes)
{
	struct scene scene;

	open_scene(&scene, 3);
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	ck_assert_int_eq(evwork_loop_close(scene.world.loop, NULL, NULL), 0);
	turns(&scene);
	ck_assert_int_eq(err_of(&scene, 1), -ECANCELED);
	ck_assert_int_eq(evwork_loop_free(scene.world.loop), -EBUSY);
	end(&scene, 1, -EIO);
	expect(&scene, 1, 1, 1);
	ck_assert_int_eq(scene.status, -ECANCELED);
	ck_assert_int_eq(start(&scene), -ESHUTDOWN);
	world_run(&scene.world);
	close_scene(&scene);
}
END_TEST

/* S-SHUT-11: freed by force, before the first copy, with copies out, and in done. */
START_TEST(loop_is_forced)
{
	int stage;

	for (stage = 0; stage < 3; stage++) {
		struct scene scene;

		open_scene(&scene, 3);
		ck_assert_int_eq(start(&scene), 0);
		if (stage > 0) {
			turns(&scene);
			pass(&scene, 10 * MS);
		}
		if (stage == 2) {
			scene.forces = true;
			ck_assert_int_eq(evwork_attempt_end(scene.copies[1], 0), 0);
			world_run_until(&scene.world, &scene.dones, 1);
		} else {
			ck_assert_int_gt(evwork_loop_free_force(scene.world.loop), 0);
			scene.world.loop = NULL;
		}
		if (stage == 1)
			ck_assert_int_eq(evwork_attempt_end(scene.copies[1], 0), 0);
		if (stage > 0)
			ck_assert_int_eq(evwork_attempt_end(scene.copies[2], 0), 0);
		ck_assert_int_eq(scene.dones, stage == 2);
		ck_assert_int_eq(scene.drains, 0);
		close_scene(&scene);
	}
}
END_TEST

/* S-RTY-17: on workers: the loser sees that it should stop. */
START_TEST(on_workers)
{
	struct scene scene;

	open_scene(&scene, 2);
	scene.hedge.op.start = NULL;
	scene.hedge.op.run = run;
	scene.hedge.delay_ms = 0;
	ck_assert_int_eq(start(&scene), 0);
	world_run_until(&scene.world, &scene.drains, 1);
	ck_assert_int_eq(scene.status, 0);
	ck_assert_int_eq(scene.hedge.winner, 2);
	ck_assert_int_eq(atomic_load(&scene.runs), 2);
	ck_assert_int_eq(atomic_load(&scene.stopped), 1);
	close_scene(&scene);
}
END_TEST

/* S-CRASH-8, S-GEN-2: whatever fails, it is refused or has one end. */
START_TEST(failing_calls)
{
	int k, calls, onwards;

	for (onwards = 0; onwards < 2; onwards++) {
		for (k = 1; ; k++) {
			struct scene scene;
			int rc, i;

			open_scene(&scene, 3);
			fault_start(SYS_CALLS, k, onwards);
			rc = start(&scene);
			for (i = 0; rc == 0 && i < 3; i++)
				pass(&scene, 10 * MS);
			calls = fault_stop();
			ck_assert(rc == 0 || rc == -ENOMEM);
			if (rc == 0) {
				for (i = 1; i <= 3; i++)
					end(&scene, i, -EIO);
				expect(&scene, 3, 1, 1);
			}
			world_run(&scene.world);
			close_scene(&scene);
			if (calls < k)
				break;
		}
		ck_assert_int_gt(k, 2);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hedge");
	TCase *copies = support_case(suite, "copies");
	TCase *ends = support_case(suite, "ends");

	tcase_add_test(copies, first_success_wins);
	tcase_add_test(copies, one_copy);
	tcase_add_test(copies, arguments);
	tcase_add_test(copies, failures_go_on);
	tcase_add_test(copies, fatal_ends_it);
	tcase_add_test(copies, budget_refuses);
	tcase_add_test(copies, on_workers);
	tcase_add_test(ends, ctx_dies);
	tcase_add_test(ends, loop_closes);
	tcase_add_test(ends, loop_is_forced);
	tcase_add_test(ends, failing_calls);
	return support_run(suite);
}
