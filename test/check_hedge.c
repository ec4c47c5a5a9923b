/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Hedges: when copies begin, what decides, budgets, contexts, cancelling, closing, and failing
 * system calls. The copies are on the loop, so that each test says when they end; on a manual
 * clock.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "rival.h"


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
	bool cancels;                                /* in start, done and drained */
	int cancel_rc[3];
};

static void begin(struct evwork_attempt *attempt, void *arg)
{
	struct scene *scene = arg;
	int number = evwork_attempt_number(attempt);

	scene->wrong |= number < 1 || number > COPIES || scene->copies[number];
	scene->copies[number] = attempt;
	scene->begun_ns[number] = evwork_clock_now(scene->world.clock);
	scene->begun++;
	if (scene->cancels && number == 1)
		scene->cancel_rc[0] = evwork_hedge_cancel(&scene->hedge);
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
	if (scene->cancels)
		scene->cancel_rc[1] = evwork_hedge_cancel(hedge);
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
	if (scene->cancels)
		scene->cancel_rc[2] = evwork_hedge_cancel(hedge);
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

static void expect_calls(struct scene *scene, int begun, int dones, int drains)
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
	expect_calls(&scene, 1, 0, 0);
	pass(&scene, 10 * MS - 1);
	expect_calls(&scene, 1, 0, 0);
	pass(&scene, 1);
	expect_calls(&scene, 2, 0, 0);
	pass(&scene, 10 * MS);
	expect_calls(&scene, 3, 0, 0);
	pass(&scene, 100 * MS);
	end(&scene, 2, 0);
	expect_calls(&scene, 3, 1, 0);
	ck_assert_int_eq(scene.status, 0);
	ck_assert_int_eq(scene.hedge.winner, 2);
	ck_assert_int_eq(scene.hedge.launched, 3);
	ck_assert_int_eq(err_of(&scene, 1), -ECANCELED);
	ck_assert_int_eq(err_of(&scene, 3), -ECANCELED);
	ck_assert_int_eq(start(&scene), -EBUSY);
	/* A late success changes nothing. */
	end(&scene, 3, 0);
	expect_calls(&scene, 3, 1, 0);
	end(&scene, 1, -EIO);
	expect_calls(&scene, 3, 1, 1);
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
	expect_calls(&scene, 1, 0, 0);
	end(&scene, 1, -EAGAIN);
	expect_calls(&scene, 1, 1, 1);
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
	expect_calls(&scene, 2, 0, 0);
	end(&scene, 1, 0);
	end(&scene, 2, 0);
	expect_calls(&scene, 2, 1, 1);
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
	expect_calls(&scene, 2, 0, 0);
	ck_assert_int_eq(scene.begun_ns[2], START_NS + 4 * MS);
	pass(&scene, 10 * MS - 1);
	expect_calls(&scene, 2, 0, 0);
	pass(&scene, 1);
	expect_calls(&scene, 3, 0, 0);
	end(&scene, 3, -EAGAIN);
	expect_calls(&scene, 3, 0, 0);
	end(&scene, 2, -ETIMEDOUT);
	expect_calls(&scene, 3, 1, 1);
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
		expect_calls(&scene, 2, 1, 0);
		ck_assert_int_eq(scene.status, status);
		ck_assert_int_eq(err_of(&scene, 1), -ECANCELED);
		pass(&scene, 100 * MS);
		end(&scene, 1, 0);
		expect_calls(&scene, 2, 1, 1);
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
	expect_calls(&scene, 2, 0, 0);
	pass(&scene, 10 * MS);
	ck_assert_int_eq(scene.hedge.refused, 1);
	pass(&scene, 10 * MS);
	pass(&scene, 10 * MS);
	expect_calls(&scene, 2, 0, 0);
	ck_assert_int_eq(scene.hedge.refused, 2);
	ck_assert_int_eq(scene.hedge.launched, 2);
	end(&scene, 2, -EAGAIN);
	expect_calls(&scene, 2, 0, 0);
	end(&scene, 1, 0);
	expect_calls(&scene, 2, 1, 1);
	ck_assert_int_eq(scene.status, 0);

	/* With none that runs the call ends. */
	ck_assert_int_eq(evwork_budget_free(budget), 0);
	ck_assert_int_eq(evwork_budget_new(0, 0, 60000, NULL, &budget), 0);
	memset(scene.copies, 0, sizeof(scene.copies));
	scene.hedge.budget = budget;
	scene.begun = scene.dones = scene.drains = 0;
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	end(&scene, 1, -EPIPE);
	expect_calls(&scene, 1, 1, 1);
	ck_assert_int_eq(scene.status, -EPIPE);
	ck_assert_int_eq(scene.hedge.refused, 3);
	close_scene(&scene);
	ck_assert_int_eq(evwork_budget_free(budget), 0);
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
		expect_calls(&scene, 2, 0, 0);
		/* Not even a fatal error is one of the dependency now. */
		end(&scene, 1, -ECANCELED);
		expect_calls(&scene, 2, 0, 0);
		end(&scene, 2, succeeds ? 0 : -EIO);
		expect_calls(&scene, 2, 1, 1);
		ck_assert_int_eq(scene.status, succeeds ? 0 : -ECANCELED);
		evwork_ctx_unref(ctx);
		close_scene(&scene);
	}
}
END_TEST

/* S-RTY-20, S-GEN-3, S-GEN-7: cancelled, the same; nothing is called inside the cancel. What
 * is cancelled twice, decided, or idle says so. */
START_TEST(cancelled_while_out)
{
	int succeeds;

	ck_assert_int_eq(evwork_hedge_cancel(NULL), -EINVAL);
	for (succeeds = 0; succeeds < 2; succeeds++) {
		struct scene scene;

		open_scene(&scene, 3);
		ck_assert_int_eq(evwork_hedge_cancel(&scene.hedge), -ESRCH);
		ck_assert_int_eq(start(&scene), 0);
		turns(&scene);
		pass(&scene, 10 * MS);
		ck_assert_int_eq(evwork_hedge_cancel(&scene.hedge), 0);
		ck_assert_int_eq(err_of(&scene, 1), -ECANCELED);
		ck_assert_int_eq(err_of(&scene, 2), -ECANCELED);
		ck_assert_int_eq(evwork_hedge_cancel(&scene.hedge), -EALREADY);
		pass(&scene, 100 * MS);
		expect_calls(&scene, 2, 0, 0);
		end(&scene, 1, succeeds ? 0 : -ECANCELED);
		expect_calls(&scene, 2, succeeds, 0);
		/* Decided, or cancelled. */
		ck_assert_int_eq(evwork_hedge_cancel(&scene.hedge), -EALREADY);
		end(&scene, 2, -EIO);
		expect_calls(&scene, 2, 1, 1);
		ck_assert_int_eq(scene.status, succeeds ? 0 : -ECANCELED);
		ck_assert_int_eq(evwork_hedge_cancel(&scene.hedge), -ESRCH);
		close_scene(&scene);
	}
}
END_TEST

/* S-RTY-20: cancelled before its first copy, none is begun. */
START_TEST(cancelled_at_once)
{
	struct scene scene;

	open_scene(&scene, 2);
	ck_assert_int_eq(start(&scene), 0);
	ck_assert_int_eq(evwork_hedge_cancel(&scene.hedge), 0);
	expect_calls(&scene, 0, 0, 0);
	world_run(&scene.world);
	expect_calls(&scene, 0, 1, 1);
	ck_assert_int_eq(scene.status, -ECANCELED);
	ck_assert_int_eq(scene.hedge.launched, 0);
	close_scene(&scene);
}
END_TEST

/* S-GEN-5: in the start of a copy, in done, and in drained, where it is the caller's again. */
START_TEST(cancelled_in_callbacks)
{
	struct scene scene;

	open_scene(&scene, 2);
	scene.cancels = true;
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	ck_assert_int_eq(scene.cancel_rc[0], 0);
	pass(&scene, 100 * MS);
	end(&scene, 1, -EPIPE);
	expect_calls(&scene, 1, 1, 1);
	ck_assert_int_eq(scene.status, -ECANCELED);
	ck_assert_int_eq(scene.cancel_rc[1], -EALREADY);
	ck_assert_int_eq(scene.cancel_rc[2], -ESRCH);
	close_scene(&scene);
}
END_TEST

/* S-SHUT-12: a child of a fork is told so, and the parent's hedge goes on. */
START_TEST(cancelled_in_a_child)
{
	struct scene scene;
	pid_t child;

	open_scene(&scene, 1);
	ck_assert_int_eq(start(&scene), 0);
	turns(&scene);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(evwork_hedge_cancel(&scene.hedge) != -ESHUTDOWN);
	support_await_child(child);
	ck_assert_int_eq(err_of(&scene, 1), 0);
	end(&scene, 1, 0);
	expect_calls(&scene, 1, 1, 1);
	close_scene(&scene);
}
END_TEST

/* One hedge, which a thread ends while others cancel it. */
struct duel {
	struct scene scene;
	_Atomic(struct evwork_attempt *) out[2];     /* copies that the ender is to end */
	int results[2];
	atomic_int cancelled, wrong;
	int drains;
};

static void duel_begin(struct evwork_attempt *attempt, void *arg)
{
	struct duel *duel = arg;
	int place = evwork_attempt_number(attempt) - 1;

	/* The ender has it, unless it is to be over at once. */
	if (duel->results[place] == -EIO)
		evwork_attempt_end(attempt, -EIO);
	else
		atomic_store(&duel->out[place], attempt);
}

static void duel_drained(struct evwork_hedge *hedge, int status)
{
	struct duel *duel = EVWORK_CONTAINER(hedge, struct duel, scene.hedge);
	int cancelled = atomic_load(&duel->cancelled);

	/* Nothing else than what the copies and the cancels did. */
	if (status != 0 && status != -EAGAIN && status != -EIO &&
	    !(status == -ECANCELED && cancelled))
		atomic_fetch_add(&duel->wrong, 1);
	duel->drains++;
}

static void duel_cancel(void *arg)
{
	struct duel *duel = arg;
	int i;

	for (i = chance(4); i >= 0; i--) {
		int rc;

		/* Before it, as drained may come before it returns. */
		atomic_store(&duel->cancelled, 1);
		rc = evwork_hedge_cancel(&duel->scene.hedge);
		if (rc != 0 && rc != -ESRCH && rc != -EALREADY)
			atomic_fetch_add(&duel->wrong, 1);
		dawdle();
	}
}

static void duel_end(void *arg)
{
	struct duel *duel = arg;
	int place;

	for (place = 0; place < 2; place++) {
		struct evwork_attempt *attempt = atomic_exchange(&duel->out[place], NULL);

		if (attempt && evwork_attempt_end(attempt, duel->results[place]) != 0)
			atomic_fetch_add(&duel->wrong, 1);
		dawdle();
	}
}

/* S-GEN-2, S-GEN-5: cancels against the end, from several threads: each hedge ends once, and
 * a cancel never touches a call that is gone. */
START_TEST(cancels_race_with_the_end)
{
	static const int results[] = { 0, -EAGAIN, -EIO };
	struct rival cancels[2], ends;
	struct duel duel;
	int rounds = scaled(4000), round, i;

	chance_seed(1);
	memset(&duel, 0, sizeof(duel));
	world_open(&duel.scene.world, 1);
	duel.scene.hedge.op = (struct evwork_op) { .start = duel_begin, .arg = &duel };
	duel.scene.hedge.copies = 2;
	duel.scene.hedge.idempotent = 1;
	duel.scene.hedge.done = on_done;
	duel.scene.hedge.drained = duel_drained;
	rival_start(&cancels[0], duel_cancel, &duel, 2);
	rival_start(&cancels[1], duel_cancel, &duel, 3);
	rival_start(&ends, duel_end, &duel, 4);
	for (round = 1; round <= rounds; round++) {
		duel.results[0] = results[chance(3)];
		duel.results[1] = results[chance(3)];
		atomic_store(&duel.cancelled, 0);
		must(start(&duel.scene));
		rival_go(&cancels[0], round);
		rival_go(&cancels[1], round);
		rival_go(&ends, round);
		while (duel.drains < round) {
			event_base_loop(duel.scene.world.base, EVLOOP_NONBLOCK);
			/* What begins when the ender is through with its round. */
			if (rival_finished(&ends, round))
				duel_end(&duel);
		}
		for (i = 0; i < 2; i++)
			rival_await(&cancels[i], round);
		rival_await(&ends, round);
		expect(duel.scene.dones == round && atomic_load(&duel.wrong) == 0,
			"round %d, %d dones, %d wrong", round, duel.scene.dones,
			atomic_load(&duel.wrong));
	}
	rival_end(&cancels[0]);
	rival_end(&cancels[1]);
	rival_end(&ends);
	world_close(&duel.scene.world);
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
	expect_calls(&scene, 1, 1, 1);
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
				expect_calls(&scene, 3, 1, 1);
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

	stress_begin();
	tcase_add_test(copies, first_success_wins);
	tcase_add_test(copies, one_copy);
	tcase_add_test(copies, arguments);
	tcase_add_test(copies, failures_go_on);
	tcase_add_test(copies, fatal_ends_it);
	tcase_add_test(copies, budget_refuses);
	tcase_add_test(copies, on_workers);
	tcase_add_test(ends, ctx_dies);
	tcase_add_test(ends, cancelled_while_out);
	tcase_add_test(ends, cancelled_at_once);
	tcase_add_test(ends, cancelled_in_callbacks);
	tcase_add_test(ends, cancels_race_with_the_end);
	if (support_forks())
		tcase_add_test(ends, cancelled_in_a_child);
	tcase_add_test(ends, loop_closes);
	tcase_add_test(ends, loop_is_forced);
	tcase_add_test(ends, failing_calls);
	return support_run(suite);
}
