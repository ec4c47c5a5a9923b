/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Retries: attempts on workers and on the loop, backoffs, why they stop, guards of lanes,
 * cancelling, closing, and failing system calls. On a manual clock.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#define START_NS INT64_C(1000000000)
#define MS INT64_C(1000000)

enum { LOG = 16 };

struct scene {
	struct world world;
	struct evwork_retry_policy *policy;
	struct evwork_retry retry;
	/* The operation: what the attempts return, the last one for ever. */
	int results[LOG];
	struct evwork_attempt *attempts[LOG];   /* of start */
	int drops, dropped;                /* of op.drop, and the last status */
	struct evwork_attempt *attempt;    /* of start, the one that is out */
	int pushes;                        /* the attempt that names a delay */
	int64_t push_back;                 /* -1: none; -2: do not retry */
	bool permanent;
	struct gate *gate;                 /* the first attempt waits in it, may be NULL */
	atomic_int begun, running;
	bool overlap, wrong_thread;
	pthread_t thread;
	int64_t begun_ns[LOG];
	int seen;                          /* the error of the attempt's ctx at the end of run */
	/* Callbacks. */
	bool passes;                       /* time passes by itself */
	int told, told_attempt, told_status;
	int64_t told_delay;
	int dones, status;
	void (*on_begin)(struct scene *scene);   /* in start, may be NULL */
	int rc;
};

static int64_t now_of(struct scene *scene)
{
	return evwork_clock_now(scene->world.clock);
}

static void begin(struct scene *scene, struct evwork_attempt *attempt)
{
	int n = atomic_fetch_add(&scene->begun, 1);

	scene->overlap |= atomic_fetch_add(&scene->running, 1) != 0;
	if (n < LOG)
		scene->begun_ns[n] = now_of(scene);
	scene->wrong_thread |= evwork_attempt_number(attempt) != n + 1 ||
		!evwork_attempt_ctx(attempt);
	if (n + 1 == scene->pushes && scene->push_back != -1)
		evwork_attempt_push_back(attempt, scene->push_back);
	if (scene->permanent)
		evwork_attempt_permanent(attempt);
}

static int result_of(struct scene *scene)
{
	int n = atomic_load(&scene->begun) - 1;

	return scene->results[n < LOG ? n : LOG - 1];
}

static int run(struct evwork_attempt *attempt, void *arg)
{
	struct scene *scene = arg;

	scene->wrong_thread |= pthread_equal(pthread_self(), scene->thread) ||
		!evwork_attempt_job(attempt);
	begin(scene, attempt);
	if (scene->gate && atomic_load(&scene->begun) == 1)
		gate_pass(scene->gate);
	scene->seen = evwork_ctx_err(evwork_attempt_ctx(attempt));
	atomic_fetch_sub(&scene->running, 1);
	return result_of(scene);
}

static void start(struct evwork_attempt *attempt, void *arg)
{
	struct scene *scene = arg;

	scene->wrong_thread |= !pthread_equal(pthread_self(), scene->thread) ||
		evwork_attempt_job(attempt);
	begin(scene, attempt);
	scene->attempt = attempt;
	scene->attempts[evwork_attempt_number(attempt) % LOG] = attempt;
	if (scene->on_begin)
		scene->on_begin(scene);
}

static void on_drop(struct evwork_attempt *attempt, int status, void *arg)
{
	struct scene *scene = arg;

	(void)attempt;
	scene->drops++;
	scene->dropped = status;
}

/* Ends the attempt that is out. */
static void end(struct scene *scene)
{
	struct evwork_attempt *attempt = scene->attempt;
	int status = result_of(scene);

	scene->attempt = NULL;
	atomic_fetch_sub(&scene->running, 1);
	scene->rc = evwork_attempt_end(attempt, status);
}

static void on_retry(struct evwork_retry *retry, int attempt, int status, int64_t delay_ns,
	void *arg)
{
	struct scene *scene = arg;

	scene->wrong_thread |= retry != &scene->retry ||
		!pthread_equal(pthread_self(), scene->thread);
	scene->told++;
	scene->told_attempt = attempt;
	scene->told_status = status;
	scene->told_delay = delay_ns;
	/* The clock gets there once the loop has set its timer. */
	if (scene->passes)
		evwork_clock_advance(scene->world.clock, delay_ns);
}

static void on_done(struct evwork_retry *retry, int status)
{
	struct scene *scene = EVWORK_CONTAINER(retry, struct scene, retry);

	scene->wrong_thread |= !pthread_equal(pthread_self(), scene->thread);
	scene->dones++;
	scene->status = status;
}

/* The op runs on a worker unless the test changes it; all its results are given. */
static void open_scene(struct scene *scene, struct evwork_retry_options options, int result)
{
	int i;

	memset(scene, 0, sizeof(*scene));
	world_open_manual(&scene->world, 1, START_NS);
	scene->thread = pthread_self();
	scene->push_back = -1;
	scene->pushes = 1;
	for (i = 0; i < LOG; i++)
		scene->results[i] = result;
	options.on_retry = on_retry;
	options.arg = scene;
	if (options.jitter == EVWORK_JITTER_FULL)
		options.jitter = EVWORK_JITTER_NONE;
	ck_assert_int_eq(evwork_retry_policy_new(&options, &scene->policy), 0);
	evwork_retry_init(&scene->retry, scene->policy, on_done);
	scene->retry.op = (struct evwork_op) { .run = run, .arg = scene };
}

static void on_the_loop(struct scene *scene)
{
	scene->retry.op.run = NULL;
	scene->retry.op.start = start;
}

static void close_scene(struct scene *scene)
{
	ck_assert(!scene->overlap);
	ck_assert(!scene->wrong_thread);
	ck_assert_int_eq(evwork_retry_policy_free(scene->policy), 0);
	world_close(&scene->world);
}

static int start_retry(struct scene *scene)
{
	return evwork_retry_start(scene->world.loop, &scene->retry);
}

/* Starts it, and lets all time pass that it waits for. */
static void run_retry(struct scene *scene)
{
	int before = scene->dones;

	ck_assert_int_eq(start_retry(scene), 0);
	ck_assert_int_eq(scene->dones, before);
	scene->passes = true;
	world_run_until(&scene->world, &scene->dones, before + 1);
}

static void expect_end(struct scene *scene, int status, enum evwork_retry_reason reason,
	int attempts)
{
	ck_assert_int_eq(scene->dones, 1);
	ck_assert_int_eq(scene->status, status);
	ck_assert_int_eq(scene->retry.reason, reason);
	ck_assert_int_eq(scene->retry.attempts, attempts);
	ck_assert_int_eq(atomic_load(&scene->begun), attempts);
}

/* S-RTY-1, S-RTY-3, S-RTY-15: on schedule, told before each delay. */
START_TEST(succeeds_at_the_third)
{
	struct evwork_retry_stats stats;
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { .max_attempts = 5, .base_ms = 10 }, 0);
	scene.results[0] = -EAGAIN;
	scene.results[1] = -ECONNRESET;
	run_retry(&scene);
	expect_end(&scene, 0, EVWORK_RETRY_OK, 3);
	ck_assert_int_eq(scene.retry.last_error, -ECONNRESET);
	/* S-GEN-11: never early, S-GEN-12: and not late where nothing is. */
	ck_assert_int_eq(scene.begun_ns[1], scene.begun_ns[0] + 10 * MS);
	ck_assert_int_eq(scene.begun_ns[2], scene.begun_ns[1] + 20 * MS);
	ck_assert_int_eq(scene.told, 2);
	ck_assert_int_eq(scene.told_attempt, 2);
	ck_assert_int_eq(scene.told_status, -ECONNRESET);
	ck_assert_int_eq(scene.told_delay, 20 * MS);
	/* S-OBS-6. */
	ck_assert_int_eq(evwork_retry_policy_stats(scene.policy, &stats), 0);
	ck_assert_uint_eq(stats.attempts, 3);
	ck_assert_uint_eq(stats.retries, 2);
	ck_assert_uint_eq(stats.stops[EVWORK_RETRY_OK], 1);
	close_scene(&scene);
}
END_TEST

/* S-RTY-1: 1 is no retry; the last one is not waited after (S-RTY-15). */
START_TEST(runs_out_of_attempts)
{
	int max;

	for (max = 1; max <= 3; max++) {
		struct scene scene;

		open_scene(&scene, (struct evwork_retry_options) { .max_attempts = max }, -ETIMEDOUT);
		run_retry(&scene);
		expect_end(&scene, -ETIMEDOUT, EVWORK_RETRY_ATTEMPTS, max);
		ck_assert_int_eq(scene.told, max - 1);
		close_scene(&scene);
	}
}
END_TEST

static int always(int status, int attempt, void *arg)
{
	struct scene *scene = arg;

	(void)status;
	scene->wrong_thread |= !pthread_equal(pthread_self(), scene->thread) ||
		attempt != atomic_load(&scene->begun);
	return 1;
}

/* S-RTY-7: by default, by the user's word, never. */
START_TEST(retryable)
{
	static const int yes[] = { EAGAIN, ETIMEDOUT, ECONNREFUSED, ECONNRESET, EPIPE, EHOSTUNREACH,
		ENETUNREACH };
	static const int no[] = { EIO, ENOENT, -3 };
	static const int never[] = { ECANCELED, EINVAL, ERANGE, ESHUTDOWN, EHOSTDOWN, EOWNERDEAD };
	struct scene scene;
	size_t i;
	int own;

	for (own = 0; own < 2; own++) {
		struct evwork_retry_options options = { .max_attempts = 2,
			.retryable = own ? always : NULL };

		for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
			open_scene(&scene, options, -yes[i]);
			run_retry(&scene);
			expect_end(&scene, -yes[i], EVWORK_RETRY_ATTEMPTS, 2);
			close_scene(&scene);
		}
		for (i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
			open_scene(&scene, options, -no[i]);
			run_retry(&scene);
			expect_end(&scene, -no[i], own ? EVWORK_RETRY_ATTEMPTS :
				EVWORK_RETRY_PERMANENT, 1 + own);
			close_scene(&scene);
		}
		for (i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
			open_scene(&scene, options, -never[i]);
			run_retry(&scene);
			expect_end(&scene, -never[i], EVWORK_RETRY_PERMANENT, 1);
			close_scene(&scene);
		}
	}
}
END_TEST

/* S-RTY-7: the operation's word is final. */
START_TEST(marked_permanent)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { 0 }, -EAGAIN);
	scene.permanent = true;
	run_retry(&scene);
	expect_end(&scene, -EAGAIN, EVWORK_RETRY_PERMANENT, 1);
	close_scene(&scene);
}
END_TEST

static int panics(struct evwork_attempt *attempt, void *arg)
{
	begin(arg, attempt);
	evwork_panic(evwork_attempt_job(attempt), "as asked");
}

/* S-CRASH-4, S-CRASH-11: a crash is never retried. */
START_TEST(crash)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { .retryable = always }, 0);
	scene.retry.op.run = panics;
	run_retry(&scene);
	expect_end(&scene, -EOWNERDEAD, EVWORK_RETRY_PERMANENT, 1);
	close_scene(&scene);
}
END_TEST

static void end_elsewhere(void *arg)
{
	end(arg);
}

/* Attempts on the loop, ended on the loop, in start itself, and elsewhere. */
START_TEST(on_a_loop)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { .no_delay = 1 }, -EAGAIN);
	on_the_loop(&scene);
	ck_assert_int_eq(start_retry(&scene), 0);
	ck_assert_int_eq(atomic_load(&scene.begun), 0);
	ck_assert_int_eq(start_retry(&scene), -EBUSY);
	world_turns(&scene.world, 3);
	ck_assert_int_eq(atomic_load(&scene.begun), 1);
	ck_assert_int_eq(evwork_loop_free(scene.world.loop), -EBUSY);
	ck_assert_int_eq(evwork_retry_policy_free(scene.policy), -EBUSY);
	end(&scene);
	/* S-GEN-3. */
	ck_assert_int_eq(scene.told, 0);
	world_turns(&scene.world, 5);
	ck_assert_int_eq(atomic_load(&scene.begun), 2);
	scene.on_begin = end;
	support_elsewhere(end_elsewhere, &scene);
	world_run(&scene.world);
	expect_end(&scene, -EAGAIN, EVWORK_RETRY_ATTEMPTS, 3);
	close_scene(&scene);
}
END_TEST

/* An attempt is ended once. */
START_TEST(ended_once)
{
	struct evwork_attempt *attempt;
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { 0 }, 0);
	on_the_loop(&scene);
	ck_assert_int_eq(start_retry(&scene), 0);
	world_turns(&scene.world, 2);
	attempt = scene.attempt;
	end(&scene);
	ck_assert_int_eq(scene.rc, 0);
	ck_assert_int_eq(evwork_attempt_end(attempt, -EAGAIN), -EALREADY);
	ck_assert_int_eq(evwork_attempt_end(NULL, 0), -EINVAL);
	ck_assert_int_eq(evwork_attempt_permanent(NULL), -EINVAL);
	ck_assert_int_eq(evwork_attempt_push_back(NULL, 0), -EINVAL);
	ck_assert_ptr_null(evwork_attempt_ctx(NULL));
	ck_assert_ptr_null(evwork_attempt_job(NULL));
	ck_assert_int_eq(evwork_attempt_number(NULL), 0);
	world_run(&scene.world);
	expect_end(&scene, 0, EVWORK_RETRY_OK, 1);
	close_scene(&scene);
}
END_TEST

/* S-RTY-2: a time limit kills the attempt's ctx and waits for the attempt. */
START_TEST(attempts_time_out)
{
	struct gate gate;
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { .attempt_timeout_ms = 10,
		.max_attempts = 2, .no_delay = 1 }, 0);
	gate_init(&gate);
	scene.gate = &gate;
	scene.results[0] = -ETIMEDOUT;
	ck_assert_int_eq(start_retry(&scene), 0);
	world_turns(&scene.world, 3);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 1000 * MS), 0);
	world_turns(&scene.world, 10);
	ck_assert_int_eq(atomic_load(&scene.begun), 1);
	gate_open(&gate);
	world_run_until(&scene.world, &scene.dones, 1);
	expect_end(&scene, 0, EVWORK_RETRY_OK, 2);
	/* The second attempt has its own time. */
	ck_assert_int_eq(scene.seen, 0);
	gate_fini(&gate);
	close_scene(&scene);
}
END_TEST

static void open_overlap(struct scene *scene, int attempts)
{
	open_scene(scene, (struct evwork_retry_options) { .attempt_timeout_ms = 10, .overlap = 1,
		.idempotent = 1, .max_attempts = attempts, .base_ms = 5 }, 0);
	on_the_loop(scene);
	scene->retry.op.drop = on_drop;
	ck_assert_int_eq(start_retry(scene), 0);
	world_turns(&scene->world, 3);
}

static void pass(struct scene *scene, int64_t ms)
{
	ck_assert_int_eq(evwork_clock_advance(scene->world.clock, ms * MS), 0);
	world_turns(&scene->world, 5);
}

static void end_number(struct scene *scene, int number, int status)
{
	ck_assert_int_eq(evwork_attempt_end(scene->attempts[number], status), 0);
	world_turns(&scene->world, 5);
}

/* S-RTY-2, OVERLAP: the next attempt begins though one that is out of time still runs, whose
 * late result is dropped, before done or after it. */
START_TEST(overlap)
{
	int late;

	for (late = 0; late < 2; late++) {
		struct scene scene;

		open_overlap(&scene, 3);
		pass(&scene, 9);
		ck_assert_int_eq(scene.told, 0);
		pass(&scene, 1);
		ck_assert_int_eq(scene.told_status, -ETIMEDOUT);
		ck_assert_int_eq(evwork_ctx_err(evwork_attempt_ctx(scene.attempts[1])), -ETIMEDOUT);
		pass(&scene, 5);
		ck_assert_int_eq(atomic_load(&scene.begun), 2);
		if (!late)
			end_number(&scene, 1, 0);
		ck_assert_int_eq(scene.dones, 0);
		ck_assert_int_eq(scene.drops, !late);
		end_number(&scene, 2, 0);
		expect_end(&scene, 0, EVWORK_RETRY_OK, 2);
		if (late) {
			/* The retry may be used again, but the loop is kept. */
			ck_assert_int_eq(evwork_retry_cancel(&scene.retry), -ESRCH);
			ck_assert_int_eq(evwork_loop_free(scene.world.loop), -EBUSY);
			end_number(&scene, 1, -EIO);
		}
		ck_assert_int_eq(scene.drops, 1);
		ck_assert_int_eq(scene.dropped, late ? -EIO : 0);
		ck_assert(scene.overlap);
		scene.overlap = false;
		close_scene(&scene);
	}
}
END_TEST

/* All are abandoned, and then the loop is closed, or freed by force. */
START_TEST(overlap_ends)
{
	int forced;

	for (forced = 0; forced < 2; forced++) {
		struct scene scene;

		open_overlap(&scene, 2);
		pass(&scene, 10);
		pass(&scene, 5);
		ck_assert_int_eq(atomic_load(&scene.begun), 2);
		if (forced) {
			/* One is abandoned, one is out. */
			ck_assert_int_gt(evwork_loop_free_force(scene.world.loop), 0);
			scene.world.loop = NULL;
			ck_assert_int_eq(evwork_attempt_end(scene.attempts[1], 0), 0);
			ck_assert_int_eq(evwork_attempt_end(scene.attempts[2], 0), 0);
			ck_assert_int_eq(scene.dones, 0);
			ck_assert_int_eq(scene.drops, 1);
		} else {
			pass(&scene, 10);
			expect_end(&scene, -ETIMEDOUT, EVWORK_RETRY_ATTEMPTS, 2);
			ck_assert_int_eq(evwork_loop_close(scene.world.loop, NULL, NULL), 0);
			world_turns(&scene.world, 5);
			end_number(&scene, 2, 0);
			end_number(&scene, 1, 0);
			ck_assert_int_eq(scene.drops, 2);
			world_run(&scene.world);
		}
		scene.overlap = false;
		close_scene(&scene);
	}
}
END_TEST

/* S-RTY-8: no delay that ends when the ctx does, or later. */
START_TEST(deadline)
{
	int late;

	for (late = 0; late < 2; late++) {
		struct scene scene;

		open_scene(&scene, (struct evwork_retry_options) { .base_ms = 10, .max_attempts = 2 },
			-EAGAIN);
		ck_assert_int_eq(evwork_ctx_with_timeout(NULL, scene.world.loop, 11 - late, 0,
			&scene.retry.ctx), 0);
		run_retry(&scene);
		if (late)
			expect_end(&scene, -EAGAIN, EVWORK_RETRY_DEADLINE, 1);
		else
			expect_end(&scene, -EAGAIN, EVWORK_RETRY_ATTEMPTS, 2);
		ck_assert_int_eq(scene.told, 1 - late);
		evwork_ctx_unref(scene.retry.ctx);
		close_scene(&scene);
	}
}
END_TEST

/* S-RTY-9: the ctx dies, or it is cancelled, during a backoff. */
START_TEST(cancelled_in_backoff)
{
	int by_ctx;

	for (by_ctx = 0; by_ctx < 2; by_ctx++) {
		struct evwork_ctx *ctx;
		struct scene scene;

		open_scene(&scene, (struct evwork_retry_options) { .base_ms = 1000 }, -EAGAIN);
		ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
		scene.retry.ctx = ctx;
		ck_assert_int_eq(evwork_retry_cancel(&scene.retry), -ESRCH);
		ck_assert_int_eq(start_retry(&scene), 0);
		world_run_until(&scene.world, &scene.told, 1);
		ck_assert_int_eq(by_ctx ? evwork_ctx_cancel(ctx, 0) :
			evwork_retry_cancel(&scene.retry), 0);
		ck_assert_int_eq(evwork_retry_cancel(&scene.retry), -EALREADY);
		ck_assert_int_eq(scene.dones, 0);
		world_run(&scene.world);
		expect_end(&scene, -ECANCELED, EVWORK_RETRY_CTX, 1);
		ck_assert_int_eq(scene.retry.last_error, -EAGAIN);
		ck_assert_int_eq(evwork_retry_cancel(&scene.retry), -ESRCH);
		evwork_ctx_unref(ctx);
		close_scene(&scene);
	}
	ck_assert_int_eq(evwork_retry_cancel(NULL), -EINVAL);
}
END_TEST

/* S-RTY-9: during an attempt it is waited for; its success counts. */
START_TEST(cancelled_in_attempt)
{
	int result;

	for (result = -1; result <= 0; result++) {
		struct gate gate;
		struct scene scene;

		open_scene(&scene, (struct evwork_retry_options) { 0 }, result ? -EAGAIN : 0);
		gate_init(&gate);
		scene.gate = &gate;
		ck_assert_int_eq(start_retry(&scene), 0);
		world_turns(&scene.world, 3);
		gate_await(&gate, 1);
		ck_assert_int_eq(evwork_retry_cancel(&scene.retry), 0);
		world_turns(&scene.world, 5);
		ck_assert_int_eq(scene.dones, 0);
		gate_open(&gate);
		world_run_until(&scene.world, &scene.dones, 1);
		ck_assert_int_eq(scene.seen, -ECANCELED);
		if (result)
			expect_end(&scene, -ECANCELED, EVWORK_RETRY_CTX, 1);
		else
			expect_end(&scene, 0, EVWORK_RETRY_OK, 1);
		gate_fini(&gate);
		close_scene(&scene);
	}
}
END_TEST

/* S-RTY-1: cancelled before its first attempt, none is made. */
START_TEST(cancelled_at_once)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { 0 }, 0);
	ck_assert_int_eq(start_retry(&scene), 0);
	ck_assert_int_eq(evwork_retry_cancel(&scene.retry), 0);
	world_run(&scene.world);
	expect_end(&scene, -ECANCELED, EVWORK_RETRY_CTX, 0);
	close_scene(&scene);
}
END_TEST

/* S-RTY-10: exactly so long, beyond the cap, and then from the base. */
START_TEST(pushed_back)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { .max_attempts = 4, .base_ms = 10,
		.cap_ms = 20 }, -EAGAIN);
	scene.push_back = 500;
	scene.pushes = 2;
	run_retry(&scene);
	expect_end(&scene, -EAGAIN, EVWORK_RETRY_ATTEMPTS, 4);
	ck_assert_int_eq(scene.begun_ns[1], scene.begun_ns[0] + 10 * MS);
	ck_assert_int_eq(scene.begun_ns[2], scene.begun_ns[1] + 500 * MS);
	ck_assert_int_eq(scene.begun_ns[3], scene.begun_ns[2] + 10 * MS);
	close_scene(&scene);

	open_scene(&scene, (struct evwork_retry_options) { .max_attempts = 1 }, -EAGAIN);
	scene.push_back = 0;
	run_retry(&scene);
	expect_end(&scene, -EAGAIN, EVWORK_RETRY_ATTEMPTS, 1);
	close_scene(&scene);

	open_scene(&scene, (struct evwork_retry_options) { 0 }, -EAGAIN);
	scene.push_back = -2;
	run_retry(&scene);
	expect_end(&scene, -EAGAIN, EVWORK_RETRY_PERMANENT, 1);
	close_scene(&scene);
}
END_TEST

/* S-RTY-11, S-RTY-12: the first attempt deposits; empty, it is the attempt's own error. */
START_TEST(budget_is_empty)
{
	struct evwork_budget *budget;
	struct scene scene;

	ck_assert_int_eq(evwork_budget_new(1, 0, 60000, NULL, &budget), 0);
	open_scene(&scene, (struct evwork_retry_options) { .budget = budget }, -EPIPE);
	run_retry(&scene);
	expect_end(&scene, -EPIPE, EVWORK_RETRY_BUDGET, 2);
	ck_assert_int_eq(scene.told, 1);
	ck_assert_int_eq(evwork_budget_balance(budget), 0);
	close_scene(&scene);
	ck_assert_int_eq(evwork_budget_free(budget), 0);
}
END_TEST

/* S-RTY-14: each attempt has its own permit; an open breaker ends the retry. */
START_TEST(through_a_breaker)
{
	struct evwork_breaker_options breaker_options = { .rule = EVWORK_BREAKER_CONSECUTIVE,
		.in_a_row = 2 };
	struct evwork_lane_options lane_options = { .guard_count = 1 };
	struct evwork_breaker_metrics metrics;
	struct evwork_breaker *breaker;
	struct evwork_guard *guards[1];
	struct evwork_lane *lane;
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { .max_attempts = 5, .no_delay = 1 },
		-ECONNREFUSED);
	breaker_options.clock = scene.world.clock;
	ck_assert_int_eq(evwork_breaker_new(&breaker_options, &breaker), 0);
	guards[0] = evwork_breaker_guard(breaker);
	lane_options.guards = guards;
	ck_assert_int_eq(evwork_lane_new(scene.world.pool, &lane_options, &lane), 0);
	scene.retry.op.lane = lane;
	ck_assert_int_eq(start_retry(&scene), 0);
	world_run(&scene.world);
	ck_assert_int_eq(scene.status, -EHOSTDOWN);
	ck_assert_int_eq(scene.retry.reason, EVWORK_RETRY_PERMANENT);
	ck_assert_int_eq(scene.retry.attempts, 3);
	ck_assert_int_eq(atomic_load(&scene.begun), 2);
	ck_assert_int_eq(evwork_breaker_metrics(breaker, &metrics), 0);
	ck_assert_uint_eq(metrics.failure, 2);
	ck_assert_uint_eq(metrics.not_permitted, 1);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	ck_assert_int_eq(evwork_breaker_free(breaker), 0);
	close_scene(&scene);
}
END_TEST

/* S-SHUT-7, S-SHUT-2: the loop closes during a backoff, and during an attempt. */
START_TEST(loop_closes)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { .base_ms = 1000 }, -EAGAIN);
	ck_assert_int_eq(start_retry(&scene), 0);
	world_run_until(&scene.world, &scene.told, 1);
	ck_assert_int_eq(evwork_loop_close(scene.world.loop, NULL, NULL), 0);
	world_run(&scene.world);
	expect_end(&scene, -ECANCELED, EVWORK_RETRY_SHUTDOWN, 1);
	ck_assert_int_eq(start_retry(&scene), -ESHUTDOWN);
	close_scene(&scene);

	open_scene(&scene, (struct evwork_retry_options) { 0 }, -EAGAIN);
	on_the_loop(&scene);
	ck_assert_int_eq(start_retry(&scene), 0);
	world_turns(&scene.world, 3);
	ck_assert_int_eq(evwork_loop_close(scene.world.loop, NULL, NULL), 0);
	world_turns(&scene.world, 3);
	ck_assert_int_eq(scene.dones, 0);
	end(&scene);
	world_run(&scene.world);
	expect_end(&scene, -EAGAIN, EVWORK_RETRY_SHUTDOWN, 1);
	close_scene(&scene);
}
END_TEST

/* S-SHUT-2: the pool closes during a backoff: no further attempt. */
START_TEST(pool_closes)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { .base_ms = 10 }, -EAGAIN);
	ck_assert_int_eq(start_retry(&scene), 0);
	world_run_until(&scene.world, &scene.told, 1);
	ck_assert_int_eq(evwork_pool_close(scene.world.pool, EVWORK_DRAIN, NULL, NULL, NULL), 0);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 10 * MS), 0);
	world_run_until(&scene.world, &scene.dones, 1);
	expect_end(&scene, -EAGAIN, EVWORK_RETRY_SHUTDOWN, 1);
	close_scene(&scene);
}
END_TEST

/* S-SHUT-11: the loop is freed by force, in each stage of a retry. There is no done, and
 * the struct is idle once the attempt has ended. */
START_TEST(loop_is_forced)
{
	enum { BEFORE, BACKOFF, JOB, ASYNC, STAGES };
	int stage;

	for (stage = 0; stage < STAGES; stage++) {
		struct gate gate;
		struct scene scene;

		open_scene(&scene, (struct evwork_retry_options) { .base_ms = 1000 }, -EAGAIN);
		gate_init(&gate);
		if (stage == JOB)
			scene.gate = &gate;
		if (stage == ASYNC)
			on_the_loop(&scene);
		ck_assert_int_eq(start_retry(&scene), 0);
		if (stage == BACKOFF)
			world_run_until(&scene.world, &scene.told, 1);
		else if (stage != BEFORE)
			world_turns(&scene.world, 3);
		if (stage == JOB)
			gate_await(&gate, 1);
		ck_assert_int_ge(evwork_loop_free_force(scene.world.loop), stage != BEFORE);
		scene.world.loop = NULL;
		gate_open(&gate);
		if (stage == ASYNC)
			end(&scene);
		/* Waits for the worker. */
		ck_assert_int_eq(evwork_pool_close_wait(scene.world.pool, EVWORK_DRAIN), 0);
		ck_assert_int_eq(scene.dones, 0);
		ck_assert_int_eq(evwork_retry_cancel(&scene.retry), -ESRCH);
		gate_fini(&gate);
		close_scene(&scene);
	}
}
END_TEST

/* What is refused, and that it leaves nothing. */
START_TEST(refusals)
{
	struct evwork_ctx *ctx;
	struct scene scene;

	open_scene(&scene, (struct evwork_retry_options) { 0 }, 0);
	ck_assert_int_eq(evwork_retry_start(NULL, &scene.retry), -EINVAL);
	ck_assert_int_eq(evwork_retry_start(scene.world.loop, NULL), -EINVAL);
	scene.retry.done = NULL;
	ck_assert_int_eq(start_retry(&scene), -EINVAL);
	scene.retry.done = on_done;
	scene.retry.op.start = start;
	ck_assert_int_eq(start_retry(&scene), -EINVAL);
	scene.retry.op.start = NULL;
	scene.retry.op.run = NULL;
	ck_assert_int_eq(start_retry(&scene), -EINVAL);
	scene.retry.op.run = run;
	scene.retry.policy = NULL;
	ck_assert_int_eq(start_retry(&scene), -EINVAL);
	ck_assert_int_eq(evwork_retry_cancel(&scene.retry), -EINVAL);
	scene.retry.policy = scene.policy;
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	evwork_ctx_cancel(ctx, 0);
	scene.retry.ctx = ctx;
	ck_assert_int_eq(start_retry(&scene), -ECANCELED);
	world_run(&scene.world);
	ck_assert_int_eq(scene.dones, 0);
	evwork_ctx_unref(ctx);
	close_scene(&scene);
}
END_TEST

/* S-CRASH-8, S-GEN-2: whatever fails, it is refused or has one end. */
START_TEST(failing_calls)
{
	int onwards, k, calls;

	for (onwards = 0; onwards < 2; onwards++) {
		for (k = 1; ; k++) {
			struct scene scene;
			int rc;

			open_scene(&scene, (struct evwork_retry_options) { .no_delay = 1,
				.attempt_timeout_ms = 1000 }, -EAGAIN);
			scene.results[2] = 0;
			fault_start(SYS_CALLS, k, onwards);
			rc = start_retry(&scene);
			if (rc == 0)
				world_run_until(&scene.world, &scene.dones, 1);
			calls = fault_stop();
			ck_assert_int_eq(scene.dones, rc == 0);
			ck_assert(rc == 0 || rc == -ENOMEM);
			if (rc == 0 && calls >= k)
				ck_assert_int_eq(scene.status, -ENOMEM);
			world_run(&scene.world);
			close_scene(&scene);
			if (calls < k)
				break;
		}
		ck_assert_int_gt(k, 4);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("retry");
	TCase *attempts = support_case(suite, "attempts");
	TCase *stops = support_case(suite, "stops");
	TCase *ends = support_case(suite, "ends");

	tcase_add_test(attempts, succeeds_at_the_third);
	tcase_add_test(attempts, runs_out_of_attempts);
	tcase_add_test(attempts, on_a_loop);
	tcase_add_test(attempts, ended_once);
	tcase_add_test(attempts, attempts_time_out);
	tcase_add_test(attempts, pushed_back);
	tcase_add_test(attempts, overlap);
	tcase_add_test(attempts, overlap_ends);
	tcase_add_test(stops, retryable);
	tcase_add_test(stops, marked_permanent);
	tcase_add_test(stops, crash);
	tcase_add_test(stops, deadline);
	tcase_add_test(stops, cancelled_in_backoff);
	tcase_add_test(stops, cancelled_in_attempt);
	tcase_add_test(stops, cancelled_at_once);
	tcase_add_test(stops, budget_is_empty);
	tcase_add_test(stops, through_a_breaker);
	tcase_add_test(ends, loop_closes);
	tcase_add_test(ends, pool_closes);
	tcase_add_test(ends, loop_is_forced);
	tcase_add_test(ends, refusals);
	tcase_add_test(ends, failing_calls);
	return support_run(suite);
}
