/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Children that are made in the functions of retries, hedges and breakers, and return from
 * them, whether they have freed there all that they inherited or not: nothing is called in
 * the child any more, it waits for no lock that another thread had, and the parent goes on
 * (S-SHUT-12). The child cannot assert: its exit status says what was wrong.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "stress.h"


#include "guard/breaker.h"
#include "guard/retry.h"

#define START_NS INT64_C(1000000000)
#define MS INT64_C(1000000)

/* Where the fork is. Up to DROP of retries, all but RETRYABLE, ON_RETRY and DROP of hedges. */
enum place { BEGIN, JUDGE, ON_RETRY, DONE, DROP, DRAINED, PLACES };

struct scene {
	struct world world;
	struct evwork_retry_policy *policy;
	struct evwork_budget *budget;
	struct evwork_retry retry;
	struct evwork_hedge hedge;
	struct evwork_breaker *breaker;
	struct evwork_attempt *abandoned;
	sys_mutex *mutex;              /* that another thread has when it is forked; or NULL */
	struct gate gate;
	enum place place;
	bool frees;                    /* the child frees all in the function */
	bool forked, is_child;
	pid_t child;
	int calls;                     /* in the child, after that */
	int calls_of[PLACES];
};

/* Another thread that has the lock while this one forks. */
static void *hold(void *arg)
{
	struct scene *scene = arg;

	sys_lock(scene->mutex);
	gate_pass(&scene->gate);
	sys_unlock(scene->mutex);
	return NULL;
}

static pid_t fork_while_held(struct scene *scene)
{
	pthread_t thread;
	pid_t child;

	if (!scene->mutex)
		return fork();
	gate_init(&scene->gate);
	must(pthread_create(&thread, NULL, hold, scene));
	gate_await(&scene->gate, 1);
	child = fork();
	if (child == 0)
		return child;
	gate_open(&scene->gate);
	pthread_join(thread, NULL);
	gate_fini(&scene->gate);
	return child;
}

static int free_in_child(struct scene *scene)
{
	if (evwork_retry_policy_free(scene->policy) != 0)
		return 1;
	if (evwork_budget_free(scene->budget) != 0)
		return 2;
	if (evwork_breaker_free(scene->breaker) != 0)
		return 3;
	if (evwork_loop_free(scene->world.loop) != 0)
		return 4;
	return evwork_pool_free(scene->world.pool) == 0 ? 0 : 5;
}

static void called(struct scene *scene, enum place place)
{
	scene->calls_of[place]++;
	scene->calls += scene->is_child;
	if (scene->forked || place != scene->place)
		return;
	scene->forked = true;
	scene->child = fork_while_held(scene);
	scene->is_child = scene->child == 0;
	if (scene->is_child && scene->frees) {
		int wrong = free_in_child(scene);

		if (wrong)
			_exit(wrong);
	}
}

static void begin(struct evwork_attempt *attempt, void *arg)
{
	struct scene *scene = arg;

	/* The first is abandoned where there is a drop to be called. */
	if (scene->place == DROP && evwork_attempt_number(attempt) == 1)
		scene->abandoned = attempt;
	else
		must(evwork_attempt_end(attempt, evwork_attempt_number(attempt) == 1 ? -EAGAIN : 0));
	called(scene, BEGIN);
}

static void on_drop(struct evwork_attempt *attempt, int status, void *arg)
{
	(void)attempt;
	(void)status;
	called(arg, DROP);
}

static int retryable(int status, int attempt, void *arg)
{
	(void)attempt;
	called(arg, JUDGE);
	return status == -EAGAIN || status == -ETIMEDOUT;
}

static int fatal(int status, void *arg)
{
	called(arg, JUDGE);
	return status != -EAGAIN;
}

static void on_retry(struct evwork_retry *retry, int attempt, int status, int64_t delay_ns,
	void *arg)
{
	(void)retry;
	(void)attempt;
	(void)status;
	(void)delay_ns;
	called(arg, ON_RETRY);
}

static void retry_done(struct evwork_retry *retry, int status)
{
	struct scene *scene = EVWORK_CONTAINER(retry, struct scene, retry);

	(void)status;
	called(scene, DONE);
}

static void hedge_done(struct evwork_hedge *hedge, int status)
{
	struct scene *scene = EVWORK_CONTAINER(hedge, struct scene, hedge);

	(void)status;
	called(scene, DONE);
}

static void hedge_drained(struct evwork_hedge *hedge, int status)
{
	struct scene *scene = EVWORK_CONTAINER(hedge, struct scene, hedge);

	(void)status;
	called(scene, DRAINED);
}

static void on_transition(struct evwork_breaker *breaker, enum evwork_breaker_state from,
	enum evwork_breaker_state to, void *arg)
{
	(void)breaker;
	(void)from;
	(void)to;
	called(arg, DONE);
}

static void scene_open(struct scene *scene, enum place place, bool frees)
{
	struct evwork_retry_options options = { .max_attempts = 2, .base_ms = 5,
		.retryable = retryable, .on_retry = on_retry, .arg = scene,
		.attempt_timeout_ms = 5, .overlap = place == DROP, .idempotent = 1 };
	struct evwork_breaker_options breaker = { .on_transition = on_transition, .arg = scene };

	memset(scene, 0, sizeof(*scene));
	scene->place = place;
	scene->frees = frees;
	world_open_manual(&scene->world, 1, START_NS);
	must(evwork_budget_new_concurrent(1, 3, &scene->budget));
	options.budget = scene->budget;
	must(evwork_retry_policy_new(&options, &scene->policy));
	breaker.loop = scene->world.loop;
	must(evwork_breaker_new(&breaker, &scene->breaker));
	scene->mutex = &scene->policy->mutex;
}

/* Turns until place was called, and time with them; the child ends here. */
static void scene_run(struct scene *scene, enum place last)
{
	while (scene->calls_of[last] == 0 && !scene->is_child) {
		world_turns(&scene->world, 3);
		if (scene->is_child)
			break;
		must(evwork_clock_advance(scene->world.clock, MS));
		if (scene->abandoned && scene->calls_of[DONE]) {
			must(evwork_attempt_end(scene->abandoned, -EIO));
			scene->abandoned = NULL;
		}
	}
	if (scene->is_child) {
		int wrong = scene->frees ? 0 : free_in_child(scene);

		_exit(scene->calls ? 6 : wrong);
	}
	support_await_child(scene->child);
}

static void scene_close(struct scene *scene)
{
	world_run(&scene->world);
	must(evwork_breaker_free(scene->breaker));
	must(evwork_retry_policy_free(scene->policy));
	must(evwork_budget_free(scene->budget));
	world_close(&scene->world);
}

START_TEST(in_retries)
{
	struct scene scene;

	scene_open(&scene, _i / 2, _i % 2);
	evwork_retry_init(&scene.retry, scene.policy, retry_done);
	scene.retry.op = (struct evwork_op) { .start = begin, .drop = on_drop, .arg = &scene };
	must(evwork_retry_start(scene.world.loop, &scene.retry));
	scene_run(&scene, scene.place == DROP ? DROP : DONE);
	ck_assert_int_eq(scene.calls_of[BEGIN], 2);
	ck_assert_int_eq(scene.calls_of[DONE], 1);
	ck_assert_int_eq(scene.retry.reason, EVWORK_RETRY_OK);
	scene_close(&scene);
}
END_TEST

START_TEST(in_hedges)
{
	static const enum place places[] = { BEGIN, JUDGE, DONE, DRAINED };
	struct scene scene;

	scene_open(&scene, places[_i / 2], _i % 2);
	scene.mutex = NULL;
	scene.hedge = (struct evwork_hedge) { .op = { .start = begin, .arg = &scene },
		.copies = 2, .delay_ms = 100, .idempotent = 1, .budget = scene.budget,
		.fatal = fatal, .done = hedge_done, .drained = hedge_drained };
	must(evwork_hedge_start(scene.world.loop, &scene.hedge));
	scene_run(&scene, DRAINED);
	ck_assert_int_eq(scene.calls_of[BEGIN], 2);
	ck_assert_int_eq(scene.calls_of[DONE], 1);
	ck_assert_int_eq(scene.hedge.winner, 2);
	scene_close(&scene);
}
END_TEST

START_TEST(in_breakers)
{
	struct scene scene;

	scene_open(&scene, DONE, _i % 2);
	scene.mutex = &scene.breaker->mutex;
	must(evwork_breaker_set(scene.breaker, EVWORK_BREAKER_FORCED_OPEN));
	must(evwork_breaker_set(scene.breaker, EVWORK_BREAKER_CLOSED));
	/* All that is left is told in one turn when the loop closes. */
	if (_i / 2)
		must(evwork_loop_close(scene.world.loop, NULL, NULL));
	scene_run(&scene, DONE);
	world_run(&scene.world);
	ck_assert_int_eq(scene.calls_of[DONE], 2);
	scene_close(&scene);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("retry_fork");
	TCase *tcase = support_case(suite, "children");

	if (!support_forks())
		return support_run(suite);
	tcase_add_loop_test(tcase, in_retries, 0, 2 * (DROP + 1));
	tcase_add_loop_test(tcase, in_hedges, 0, 8);
	tcase_add_loop_test(tcase, in_breakers, 0, 4);
	return support_run(suite);
}
