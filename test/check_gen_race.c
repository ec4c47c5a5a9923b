/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * General rules under races: one terminal callback for what was accepted and none for
 * what was refused; one end for each value that is handed over.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

#define RACE_JOBS 60
#define RACE_SUBMITTERS 2

struct race {
	struct world world;
	struct probe probes[RACE_SUBMITTERS][RACE_JOBS];
	int rc[RACE_SUBMITTERS][RACE_JOBS];
	int dones;
	atomic_int submitters, next;
	bool closes;
};

static struct race *race;

static void race_done(struct probe *probe)
{
	(void)probe;
	race->dones++;
	/* In the middle of it, while others submit and cancel. */
	if (race->closes && race->dones == RACE_JOBS / 2)
		evwork_pool_close(race->world.pool, EVWORK_CANCEL_QUEUED, NULL, NULL, NULL);
}

static void *race_submit(void *arg)
{
	int row = atomic_fetch_add(&race->next, 1), i;

	(void)arg;
	for (i = 0; i < RACE_JOBS; i++)
		race->rc[row][i] = evwork_submit(race->world.loop, &race->probes[row][i].job);
	atomic_fetch_sub(&race->submitters, 1);
	return NULL;
}

static void *race_cancel(void *arg)
{
	int i, row;

	(void)arg;
	do {
		for (i = 0; i < RACE_JOBS; i++)
			for (row = 0; row < RACE_SUBMITTERS; row++)
				evwork_cancel(&race->probes[row][i].job);
	} while (atomic_load(&race->submitters) > 0);
	return NULL;
}

static void race_prepare(bool closes)
{
	int i, row;

	memset(race, 0, sizeof(*race));
	race->closes = closes;
	atomic_store(&race->submitters, RACE_SUBMITTERS);
	world_open(&race->world, 2);
	for (row = 0; row < RACE_SUBMITTERS; row++)
		for (i = 0; i < RACE_JOBS; i++) {
			probe_init(&race->probes[row][i], 0);
			race->probes[row][i].on_done = race_done;
		}
}

static void count_call(void *arg)
{
	(*(int *)arg)++;
}

struct race_end {
	pthread_t threads[RACE_SUBMITTERS + 1];
	int ended;
};

static void *race_join(void *arg)
{
	struct race_end *end = arg;
	int i;

	for (i = 0; i <= RACE_SUBMITTERS; i++)
		pthread_join(end->threads[i], NULL);
	if (evwork_post(race->world.loop, count_call, &end->ended) != 0)
		abort();
	return NULL;
}

static void race_run(void)
{
	struct race_end end = { .ended = 0 };
	pthread_t joiner;
	int i;

	for (i = 0; i < RACE_SUBMITTERS; i++)
		ck_assert_int_eq(pthread_create(&end.threads[i], NULL, race_submit, NULL), 0);
	ck_assert_int_eq(pthread_create(&end.threads[i], NULL, race_cancel, NULL), 0);
	ck_assert_int_eq(pthread_create(&joiner, NULL, race_join, &end), 0);
	world_run_until(&race->world, &end.ended, 1);
	pthread_join(joiner, NULL);
}

static int race_accepted(void)
{
	int accepted = 0, i, row;

	for (row = 0; row < RACE_SUBMITTERS; row++)
		for (i = 0; i < RACE_JOBS; i++) {
			accepted += race->rc[row][i] == 0;
			if (race->rc[row][i] != 0)
				ck_assert_int_eq(race->rc[row][i], -ESHUTDOWN);
		}
	return accepted;
}

/* While jobs are submitted on two threads, cancelled on a third and (in every other
 * round) the pool is closed, each accepted job has exactly one done and each refused
 * one none: S-GEN-2. */
START_TEST(one_terminal_callback_under_races)
{
	int rounds = 40 / support_slow() + 2, i, row;

	race = malloc(sizeof(*race));
	ck_assert_ptr_nonnull(race);
	while (rounds-- > 0) {
		race_prepare(rounds % 2);
		race_run();
		world_run_until(&race->world, &race->dones, race_accepted());
		for (row = 0; row < RACE_SUBMITTERS; row++)
			for (i = 0; i < RACE_JOBS; i++) {
				struct probe *probe = &race->probes[row][i];

				ck_assert_int_eq(probe->dones, race->rc[row][i] == 0);
				ck_assert_int_le(atomic_load(&probe->runs), probe->dones);
				if (probe->dones)
					ck_assert_int_eq(atomic_load(&probe->runs), probe->ran);
			}
		world_close(&race->world);
	}
	free(race);
}
END_TEST

#define POSTS 3000

struct post_race {
	struct evwork_loop *loop;
	int calls[POSTS];
	int rc[POSTS];
	int delivered;
	atomic_int posted;
	int closed, after_closed;
};

static struct post_race post_race;

static void raced_post(void *arg)
{
	(*(int *)arg)++;
	post_race.delivered++;
	post_race.after_closed += post_race.closed;
}

static void *post_until_refused(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < POSTS; i++) {
		post_race.rc[i] = evwork_post(post_race.loop, raced_post, &post_race.calls[i]);
		atomic_fetch_add(&post_race.posted, 1);
	}
	return NULL;
}

static void raced_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	(void)arg;
	post_race.closed++;
}

/* Each post that races with the close of its loop is either accepted, and called once
 * before the closed callback, or refused and never called: S-GEN-2. */
START_TEST(posts_race_with_close)
{
	pthread_t thread;
	struct world world;
	int i;

	memset(&post_race, 0, sizeof(post_race));
	world_open(&world, 1);
	post_race.loop = world.loop;
	ck_assert_int_eq(pthread_create(&thread, NULL, post_until_refused, NULL), 0);
	while (atomic_load(&post_race.posted) < 100 * _i)
		sys_yield();
	ck_assert_int_eq(evwork_loop_close(world.loop, raced_closed, NULL), 0);
	world_run_until(&world, &post_race.closed, 1);
	pthread_join(thread, NULL);
	world_turns(&world, 3);
	for (i = 0; i < POSTS; i++) {
		ck_assert_int_eq(post_race.calls[i], post_race.rc[i] == 0);
		if (post_race.rc[i] != 0)
			ck_assert_int_eq(post_race.rc[i], -ESHUTDOWN);
	}
	ck_assert_int_eq(post_race.after_closed, 0);
	ck_assert_int_eq(post_race.closed, 1);
	world_close(&world);
}
END_TEST

/* A thread that stops each watch that it is handed. */
struct stopper {
	_Atomic(struct evwork_watch *) next;
	atomic_int answers, stopped;
	atomic_bool ends;
};

static void *stop_each(void *arg)
{
	struct stopper *stopper = arg;

	while (!atomic_load(&stopper->ends)) {
		struct evwork_watch *watch = atomic_exchange(&stopper->next, NULL);

		if (watch) {
			atomic_fetch_add(&stopper->stopped, evwork_ctx_stop(watch));
			atomic_fetch_add(&stopper->answers, 1);
		} else {
			sys_yield();
		}
	}
	return NULL;
}

/* One round; returns whether the watch was stopped. */
static int race_watch(struct world *world, struct stopper *stopper, int round)
{
	struct support_watch watch;
	struct evwork_ctx *ctx;
	int answers = atomic_load(&stopper->answers), stopped = atomic_load(&stopper->stopped);
	int i;

	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_ctx_after(ctx, world->loop, &watch.watch), 0);
	atomic_store(&stopper->next, &watch.watch);
	/* In some rounds the other thread gets time to win. */
	for (i = 0; i < round % 64 * 16; i++)
		sys_relax();
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	world_turns(world, 1);
	while (atomic_load(&stopper->answers) == answers)
		sys_yield();
	stopped = atomic_load(&stopper->stopped) - stopped;
	world_turns(world, 2);
	ck_assert_int_eq(watch.calls, !stopped);
	ck_assert_int_eq(evwork_ctx_stop(&watch.watch), 0);
	evwork_ctx_unref(ctx);
	return stopped;
}

/* A watch whose stop on another thread races with the death of its context and with
 * its call is either stopped or called, exactly one of the two: S-GEN-2. */
START_TEST(watch_stop_races_with_call)
{
	struct stopper stopper = { NULL, 0, 0, false };
	pthread_t thread;
	struct world world;
	int rounds = 3000 / support_slow(), stopped = 0, i;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, stop_each, &stopper), 0);
	for (i = 0; i < rounds; i++)
		stopped += race_watch(&world, &stopper, i);
	atomic_store(&stopper.ends, true);
	pthread_join(thread, NULL);
	support_note("of %d watches %d were stopped", rounds, stopped);
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	world_close(&world);
}
END_TEST

/* Values. */

/* A job that may be detached and hands over one value, taken by done or by drop. */
struct carrier {
	struct evwork_job job;
	struct gate *gate;         /* passed by work, unless NULL */
	int value;                 /* written by work */
	int taken_by_done, taken_by_drop, dones, abandoned;
};

static int carrier_outcomes;

static int carrier_run(struct evwork_job *job)
{
	struct carrier *carrier = EVWORK_CONTAINER(job, struct carrier, job);

	if (carrier->gate)
		gate_pass(carrier->gate);
	carrier->value = 1;
	return 0;
}

static void carrier_done(struct evwork_job *job, int status)
{
	struct carrier *carrier = EVWORK_CONTAINER(job, struct carrier, job);

	(void)status;
	carrier->dones++;
	carrier->abandoned = evwork_job_abandoned(job);
	if (!carrier->abandoned) {
		carrier->taken_by_done += carrier->value;
		carrier_outcomes++;
	}
}

static void carrier_drop(struct evwork_job *job)
{
	struct carrier *carrier = EVWORK_CONTAINER(job, struct carrier, job);

	carrier->taken_by_drop += carrier->value;
	carrier_outcomes++;
}

static void carrier_init(struct carrier *carrier, struct gate *gate)
{
	memset(carrier, 0, sizeof(*carrier));
	evwork_job_init(&carrier->job, carrier_run, carrier_done);
	carrier->job.drop = carrier_drop;
	carrier->gate = gate;
	ck_assert_int_eq(evwork_job_set_detach(&carrier->job, 1), 0);
}

/* A result ends in done; if done was told that work still runs, in drop instead; and
 * in neither if work never ran: S-GEN-18. */
START_TEST(value_ends_in_one_place)
{
	struct carrier finished, abandoned, withdrawn;
	struct gate gate;
	struct world world;

	carrier_outcomes = 0;
	world_open(&world, 1);
	gate_init(&gate);
	carrier_init(&finished, NULL);
	carrier_init(&abandoned, &gate);
	carrier_init(&withdrawn, NULL);
	ck_assert_int_eq(evwork_submit(world.loop, &finished.job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &abandoned.job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &withdrawn.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_cancel(&abandoned.job), -EBUSY);
	ck_assert_int_eq(evwork_cancel(&withdrawn.job), 0);
	world_run_until(&world, &abandoned.dones, 1);
	ck_assert_int_eq(abandoned.abandoned, 1);
	ck_assert_int_eq(abandoned.taken_by_drop, 0);
	gate_open(&gate);
	world_run_until(&world, &carrier_outcomes, 3);
	ck_assert_int_eq(finished.taken_by_done, 1);
	ck_assert_int_eq(finished.taken_by_drop, 0);
	ck_assert_int_eq(abandoned.taken_by_done, 0);
	ck_assert_int_eq(abandoned.taken_by_drop, 1);
	ck_assert_int_eq(withdrawn.taken_by_done + withdrawn.taken_by_drop, 0);
	ck_assert_int_eq(withdrawn.value, 0);
	world_run(&world);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

#define CARRIERS 50

static void *cancel_carriers(void *arg)
{
	struct carrier *carriers = arg;
	int i;

	for (i = 0; i < CARRIERS; i++)
		evwork_cancel(&carriers[i].job);
	return NULL;
}

/* A result is taken exactly once, by done or by drop, when the cancel of a detachable
 * job races with the end of its work: S-GEN-18. */
START_TEST(value_is_taken_once_under_races)
{
	struct carrier *carriers = calloc(CARRIERS, sizeof(*carriers));
	struct world world;
	int rounds = 60 / support_slow() + 2, dropped = 0, i;

	world_open(&world, 2);
	while (rounds-- > 0) {
		pthread_t thread;

		carrier_outcomes = 0;
		for (i = 0; i < CARRIERS; i++)
			carrier_init(&carriers[i], NULL);
		ck_assert_int_eq(pthread_create(&thread, NULL, cancel_carriers, carriers), 0);
		for (i = 0; i < CARRIERS; i++)
			ck_assert_int_eq(evwork_submit(world.loop, &carriers[i].job), 0);
		world_run_until(&world, &carrier_outcomes, CARRIERS);
		pthread_join(thread, NULL);
		for (i = 0; i < CARRIERS; i++) {
			struct carrier *carrier = &carriers[i];

			ck_assert_int_eq(carrier->dones, 1);
			ck_assert_int_eq(carrier->taken_by_done + carrier->taken_by_drop,
				carrier->value);
			dropped += carrier->taken_by_drop;
		}
	}
	support_note("%d results were dropped", dropped);
	world_run(&world);
	world_close(&world);
	free(carriers);
}
END_TEST

static Suite *suite(void)
{
	Suite *race_suite = suite_create("gen_race");
	TCase *tcase = support_case(race_suite, "race");

	tcase_add_test(tcase, one_terminal_callback_under_races);
	tcase_add_loop_test(tcase, posts_race_with_close, 0, 8);
	tcase_add_test(tcase, watch_stop_races_with_call);
	tcase_add_test(tcase, value_ends_in_one_place);
	tcase_add_test(tcase, value_is_taken_once_under_races);
	return race_suite;
}

int main(void)
{
	return support_run(suite());
}
