/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * How many jobs run at once: never more than there are workers, as many as there
 * are workers if enough are ready, and of a lane for slow jobs only its share.
 * Jobs that wait for each other show it: they end only if they run together.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

static int arrived_at(struct gate *gate)
{
	int arrived;

	pthread_mutex_lock(&gate->mutex);
	arrived = gate->arrived;
	pthread_mutex_unlock(&gate->mutex);
	return arrived;
}

static struct evwork_lane *half_lane(struct evwork_pool *pool)
{
	struct evwork_lane_options options = { .max_running = EVWORK_HALF };
	struct evwork_lane *lane;

	ck_assert_int_eq(evwork_lane_new(pool, &options, &lane), 0);
	return lane;
}

/* Jobs that wait for each other: each returns when `wanted` of them are there. */
struct meeting {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	int present, wanted;
};

static void meeting_init(struct meeting *meeting, int wanted)
{
	pthread_mutex_init(&meeting->mutex, NULL);
	pthread_cond_init(&meeting->cond, NULL);
	meeting->present = 0;
	meeting->wanted = wanted;
}

static void meeting_fini(struct meeting *meeting)
{
	pthread_cond_destroy(&meeting->cond);
	pthread_mutex_destroy(&meeting->mutex);
}

static void meet(struct meeting *meeting)
{
	pthread_mutex_lock(&meeting->mutex);
	meeting->present++;
	pthread_cond_broadcast(&meeting->cond);
	while (meeting->present < meeting->wanted)
		pthread_cond_wait(&meeting->cond, &meeting->mutex);
	pthread_mutex_unlock(&meeting->mutex);
}

static void meet_in_run(struct probe *probe)
{
	meet(probe->arg);
}

static int dones;

static void count_done(struct probe *probe)
{
	(void)probe;
	dones++;
}

/* A crowd of jobs: `workers` of them meet, the rest is short. */

enum { CROWD_MAX = 4000 };

struct plan {
	int workers;
	int before, between, after;    /* short jobs: ahead, after each that meets, behind */
	bool mixed;                    /* those that meet have lanes of two priorities */
};

static struct probe crowd[CROWD_MAX];
static int crowd_count;

static void crowd_shorts(int n)
{
	while (n-- > 0) {
		struct probe *probe = &crowd[crowd_count++];

		probe_init(probe, 0);
		probe->on_done = count_done;
	}
}

static void crowd_prepare(const struct plan *plan, struct meeting *meeting,
	struct evwork_lane *const lanes[2])
{
	int i;

	crowd_count = dones = 0;
	crowd_shorts(plan->before);
	for (i = 0; i < plan->workers; i++) {
		struct probe *probe = &crowd[crowd_count];

		crowd_shorts(1);
		probe->on_run = meet_in_run;
		probe->arg = meeting;
		if (plan->mixed)
			probe->job.lane = lanes[i % 2];
		crowd_shorts(plan->between);
	}
	crowd_shorts(plan->after);
}

static int crowd_submit(struct evwork_loop *loop)
{
	int i, refusals = 0;

	for (i = 0; i < crowd_count; i++)
		refusals += evwork_submit(loop, &crowd[i].job) != 0;
	return refusals;
}

static const struct plan plans[] = {
	{ 1, 0, 0, 0, false }, { 2, 0, 0, 0, false }, { 3, 0, 0, 0, false },
	{ 4, 0, 0, 0, false }, { 8, 0, 0, 0, false }, { 32, 0, 0, 0, false },
	{ 1, 100, 10, 100, false },
	{ 2, 500, 0, 0, false }, { 2, 0, 0, 500, false }, { 2, 500, 0, 500, false },
	{ 2, 20, 20, 20, false }, { 2, 100, 1, 100, true },
	{ 3, 200, 7, 200, false }, { 3, 0, 40, 0, true },
	{ 4, 500, 0, 500, false }, { 4, 0, 100, 0, false }, { 4, 33, 33, 33, true },
	{ 8, 500, 31, 500, false }, { 8, 0, 1, 0, true },
	{ 16, 300, 5, 300, true }, { 16, 0, 64, 0, false },
	{ 32, 100, 2, 100, false }, { 32, 0, 31, 0, true },
};

/* How a plan's jobs reach the pool. */
typedef void (*carry_fn)(struct world *world);

static void carry_from_loop(struct world *world)
{
	ck_assert_int_eq(crowd_submit(world->loop), 0);
}

static int carried;      /* refusals of the carrier */

static void *carrier_live(void *arg)
{
	struct world *world = arg;

	carried = crowd_submit(world->loop);
	return NULL;
}

static void carry_from_stranger(struct world *world)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, carrier_live, world), 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(carried, 0);
}

static void carry_in_run(struct probe *probe)
{
	struct world *world = probe->arg;

	carried = crowd_submit(world->loop);
}

static void carry_from_work(struct world *world)
{
	static struct probe carrier;

	probe_init(&carrier, 0);
	carrier.on_run = carry_in_run;
	carrier.arg = world;
	ck_assert_int_eq(evwork_submit(world->loop, &carrier.job), 0);
	world_run_until(world, &carrier.dones, 1);
	ck_assert_int_eq(carried, 0);
}

static void hold_meetings(const struct plan *plan, carry_fn carry, int rounds)
{
	struct evwork_lane_options high = { .priority = 1 };
	struct evwork_lane *lanes[2] = { NULL, NULL };
	struct meeting meeting;
	struct world world;

	world_open(&world, plan->workers);
	ck_assert_int_eq(evwork_lane_new(world.pool, &high, &lanes[1]), 0);
	while (rounds-- > 0) {
		meeting_init(&meeting, plan->workers);
		crowd_prepare(plan, &meeting, lanes);
		carry(&world);
		world_run_until(&world, &dones, crowd_count);
		ck_assert_int_eq(dones, crowd_count);
		ck_assert_int_eq(meeting.present, plan->workers);
		meeting_fini(&meeting);
	}
	world_close(&world);
}

/* N jobs that wait for each other finish on N workers, also with many short jobs
 * around them, in round after round on workers that had fallen asleep
 * (S-POOL-19). */
START_TEST(parallel_meeting_from_loop)
{
	hold_meetings(&plans[_i], carry_from_loop, 20);
}
END_TEST

/* The same when a foreign thread submits the jobs (S-POOL-19, S-POOL-16). */
START_TEST(parallel_meeting_from_stranger)
{
	hold_meetings(&plans[_i], carry_from_stranger, 20);
}
END_TEST

/* The same when one of the workers submits them all (S-POOL-19, S-POOL-16). */
START_TEST(parallel_meeting_from_work)
{
	hold_meetings(&plans[_i], carry_from_work, 20);
}
END_TEST

/* A chain of jobs: each submits the next, and then they all meet. */
struct link {
	struct probe probe;
	struct link *next;
	struct evwork_loop *loop;
	struct meeting *meeting;
	int rc;
};

static void link_run(struct probe *probe)
{
	struct link *link = EVWORK_CONTAINER(probe, struct link, probe);

	if (link->next)
		link->rc = evwork_submit(link->loop, &link->next->probe.job);
	meet(link->meeting);
}

static const int chain_workers[] = { 1, 2, 3, 4, 8, 16 };

/* A worker that submits a job and then blocks until that runs gets help from a
 * sleeping worker, for as many as there are (S-POOL-19, S-POOL-16). */
START_TEST(parallel_chain)
{
	static struct link links[16];
	int i, n = chain_workers[_i], rounds = 100;
	struct meeting meeting;
	struct world world;

	world_open(&world, n);
	while (rounds-- > 0) {
		dones = 0;
		meeting_init(&meeting, n);
		for (i = 0; i < n; i++) {
			probe_init(&links[i].probe, 0);
			links[i].probe.on_run = link_run;
			links[i].probe.on_done = count_done;
			links[i].next = i + 1 < n ? &links[i + 1] : NULL;
			links[i].loop = world.loop;
			links[i].meeting = &meeting;
			links[i].rc = 0;
		}
		ck_assert_int_eq(evwork_submit(world.loop, &links[0].probe.job), 0);
		world_run_until(&world, &dones, n);
		for (i = 0; i < n; i++)
			ck_assert_int_eq(links[i].rc, 0);
		meeting_fini(&meeting);
	}
	world_close(&world);
}
END_TEST

static const struct plan held_plans[] = {
	{ 2, 0, 0, 500, false }, { 2, 50, 0, 300, false }, { 2, 1, 0, 31, false },
	{ 3, 100, 5, 300, false }, { 4, 200, 20, 200, false }, { 8, 100, 30, 300, false },
};

/* Short jobs behind a job that blocks its worker do not wait for it while another
 * worker is free, even if the blocked one had set them aside (S-POOL-19). */
START_TEST(parallel_nothing_stuck)
{
	const struct plan *plan = &held_plans[_i];
	struct evwork_lane *lanes[2] = { NULL, NULL };
	struct meeting meeting;
	struct plan fewer = *plan;
	struct world world;
	int rounds = 20;

	/* One worker less is blocked than there are; nobody else comes to the meeting
	 * until all that is short has been done. */
	fewer.workers--;
	world_open(&world, plan->workers);
	while (rounds-- > 0) {
		struct probe last;

		meeting_init(&meeting, fewer.workers + 1);
		crowd_prepare(&fewer, &meeting, lanes);
		carry_from_loop(&world);
		world_run_until(&world, &dones, crowd_count - fewer.workers);
		ck_assert_int_eq(dones, crowd_count - fewer.workers);
		probe_init(&last, 0);
		last.on_run = meet_in_run;
		last.arg = &meeting;
		ck_assert_int_eq(evwork_submit(world.loop, &last.job), 0);
		world_run(&world);
		ck_assert_int_eq(dones, crowd_count);
		meeting_fini(&meeting);
	}
	world_close(&world);
}
END_TEST

/* The most. */

static atomic_int inside, inside_peak;

static void count_inside(struct probe *probe)
{
	int now = atomic_fetch_add(&inside, 1) + 1;
	int peak = atomic_load(&inside_peak);

	(void)probe;
	while (now > peak && !atomic_compare_exchange_weak(&inside_peak, &peak, now))
		;
	sys_yield();
	atomic_fetch_sub(&inside, 1);
}

/* Never more jobs run at once than there are workers (S-POOL-19). */
START_TEST(parallel_at_most)
{
	static struct probe probes[3000];
	struct world world;
	int i;

	atomic_store(&inside_peak, 0);
	world_open(&world, 3);
	for (i = 0; i < 3000; i++) {
		probe_init(&probes[i], 0);
		probes[i].on_run = count_inside;
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	ck_assert_int_ge(atomic_load(&inside_peak), 1);
	ck_assert_int_le(atomic_load(&inside_peak), 3);
	world_close(&world);
}
END_TEST

/* Slow lanes. */

static const int half_threads[] = { 2, 3, 4, 5, 8 };

/* Jobs of a lane for slow ones hold half of the workers, rounded up, so that short
 * jobs go on although slow ones were first and are still waiting (S-POOL-18,
 * S-LANE-4). */
START_TEST(slow_lane_half)
{
	int i, threads = half_threads[_i], half = (threads + 1) / 2;
	struct evwork_lane_stats stats;
	struct gate_job slow[8];
	struct evwork_lane *lane;
	struct probe probes[50];
	struct world world;
	struct gate gate;

	dones = 0;
	gate_init(&gate);
	world_open(&world, threads);
	lane = half_lane(world.pool);
	for (i = 0; i < threads; i++) {
		gate_job_init(&slow[i], &gate);
		slow[i].job.lane = lane;
		ck_assert_int_eq(evwork_submit(world.loop, &slow[i].job), 0);
	}
	gate_await(&gate, half);
	for (i = 0; i < 50; i++) {
		probe_init(&probes[i], 0);
		probes[i].on_done = count_done;
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run_until(&world, &dones, 50);
	ck_assert_int_eq(arrived_at(&gate), half);
	ck_assert_int_eq(evwork_lane_stats(lane, &stats), 0);
	ck_assert_uint_eq(stats.running, half);
	ck_assert_uint_eq(stats.queued, threads - half);
	gate_open(&gate);
	world_run(&world);
	for (i = 0; i < threads; i++)
		ck_assert_int_eq(slow[i].status, 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* Half of one worker is one worker: the slow lane of the smallest pool works
 * (S-POOL-18). */
START_TEST(slow_lane_one_worker)
{
	struct world world;
	struct probe probes[10];
	struct evwork_lane *lane;
	int i;

	world_open(&world, 1);
	lane = half_lane(world.pool);
	for (i = 0; i < 10; i++) {
		probe_init(&probes[i], i);
		probes[i].job.lane = lane;
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	for (i = 0; i < 10; i++) {
		ck_assert_int_eq(probes[i].status, i);
		ck_assert_int_eq(probes[i].run_order, i + 1);
	}
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	int count = sizeof(plans) / sizeof(plans[0]);
	Suite *suite = suite_create("pool_parallel");
	TCase *tcase = support_case(suite, "meeting");

	tcase_add_loop_test(tcase, parallel_meeting_from_loop, 0, count);
	tcase_add_loop_test(tcase, parallel_meeting_from_stranger, 0, count);
	tcase_add_loop_test(tcase, parallel_meeting_from_work, 0, count);
	tcase_add_loop_test(tcase, parallel_chain, 0,
		sizeof(chain_workers) / sizeof(chain_workers[0]));
	tcase_add_loop_test(tcase, parallel_nothing_stuck, 0,
		sizeof(held_plans) / sizeof(held_plans[0]));
	tcase_add_test(tcase, parallel_at_most);
	tcase = support_case(suite, "slow");
	tcase_add_loop_test(tcase, slow_lane_half, 0,
		sizeof(half_threads) / sizeof(half_threads[0]));
	tcase_add_test(tcase, slow_lane_one_worker);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
