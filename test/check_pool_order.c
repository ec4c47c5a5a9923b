/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The order in which one worker starts jobs: priorities, first in first out, and
 * ageing. Workers may set jobs aside in batches; none of that may show here.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* A world of one worker with lanes of its own. */
struct queue {
	struct world world;
	struct gate gate;
	struct gate_job blocker;
};

static void queue_open(struct queue *queue, int ageing)
{
	struct evwork_pool_options options = { .threads = 1, .ageing = ageing };

	world_open_with(&queue->world, &options, NULL);
	gate_init(&queue->gate);
	gate_job_init(&queue->blocker, &queue->gate);
}

static struct evwork_lane *queue_lane(struct queue *queue, int priority)
{
	struct evwork_lane_options options = { .priority = priority };
	struct evwork_lane *lane;

	ck_assert_int_eq(evwork_lane_new(queue->world.pool, &options, &lane), 0);
	return lane;
}

/* From now on the worker is busy and what is submitted waits. */
static void queue_block(struct queue *queue)
{
	ck_assert_int_eq(evwork_submit(queue->world.loop, &queue->blocker.job), 0);
	gate_await(&queue->gate, 1);
}

static void queue_put(struct queue *queue, struct probe *probe, struct evwork_lane *lane)
{
	probe_init(probe, 0);
	probe->job.lane = lane;
	ck_assert_int_eq(evwork_submit(queue->world.loop, &probe->job), 0);
}

static void queue_run(struct queue *queue)
{
	gate_open(&queue->gate);
	world_run(&queue->world);
	ck_assert_int_eq(queue->blocker.status, 0);
}

/* The lanes go with the pool. */
static void queue_close(struct queue *queue)
{
	world_close(&queue->world);
	gate_fini(&queue->gate);
}

/* Asserts that n probes ran one after the other from the given place on. */
static void expect_run(const struct probe *probes, int n, int from)
{
	int i;

	for (i = 0; i < n; i++) {
		ck_assert_int_eq(atomic_load(&probes[i].runs), 1);
		ck_assert_int_eq(probes[i].dones, 1);
		ck_assert_int_eq(probes[i].run_order, from + i);
	}
}

/* Priorities. */

/* One worker starts jobs by priority, and first in first out within one, however
 * they were mixed when they were submitted (S-POOL-4, S-LANE-5). */
START_TEST(order_mixed)
{
	enum { EACH = 15 };
	struct probe probes[4][EACH];
	struct evwork_lane *lanes[4];
	struct queue queue;
	int i, k;

	queue_open(&queue, 0);
	lanes[0] = queue_lane(&queue, EVWORK_PRIORITY_MAX);
	lanes[1] = queue_lane(&queue, 1);
	lanes[2] = NULL;
	lanes[3] = queue_lane(&queue, -EVWORK_PRIORITY_MAX);
	queue_block(&queue);
	for (i = 0; i < EACH; i++)
		for (k = 0; k < 4; k++)
			queue_put(&queue, &probes[(k + i) % 4][i], lanes[(k + i) % 4]);
	queue_run(&queue);
	for (k = 0; k < 4; k++)
		expect_run(probes[k], EACH, 1 + k * EACH);
	queue_close(&queue);
}
END_TEST

/* With one worker, jobs are done in the order in which they were started, and
 * without priorities in that of the submits (S-POOL-4). */
START_TEST(order_fifo)
{
	static struct probe probes[2000];
	struct queue queue;
	int i;

	queue_open(&queue, 0);
	for (i = 0; i < 2000; i++)
		queue_put(&queue, &probes[i], NULL);
	world_run(&queue.world);
	expect_run(probes, 2000, 1);
	for (i = 0; i < 2000; i++)
		ck_assert_int_eq(probes[i].done_order, i + 1);
	queue_close(&queue);
}
END_TEST

/* Jobs of higher priority overtake hundreds that were queued before them
 * (S-POOL-4). */
START_TEST(order_high_after_bulk)
{
	static struct probe low[500], high[10];
	struct evwork_lane *lane;
	struct queue queue;
	int i;

	queue_open(&queue, 0);
	lane = queue_lane(&queue, 1);
	queue_block(&queue);
	for (i = 0; i < 500; i++)
		queue_put(&queue, &low[i], NULL);
	for (i = 0; i < 10; i++)
		queue_put(&queue, &high[i], lane);
	queue_run(&queue);
	expect_run(high, 10, 1);
	expect_run(low, 500, 11);
	queue_close(&queue);
}
END_TEST

#define BULK 400
static const int spots[] = { 0, 1, 2, 15, 16, 31, 32, 33, 63, 64, 65, 127, 200, 398, 399 };
#define SPOTS ((int)(sizeof(spots) / sizeof(spots[0])))

/* A job of low priority that submits one of higher priority while it runs. */
struct riser {
	struct probe high;
	struct evwork_loop *loop;
	int rc;
};

static void submit_riser(struct probe *probe)
{
	struct riser *riser = probe->arg;

	riser->rc = evwork_submit(riser->loop, &riser->high.job);
}

/* A job of higher priority that work submits in the middle of a bulk of lower ones
 * is the very next to start, wherever that happens (S-POOL-4, S-POOL-16). */
START_TEST(order_high_from_work)
{
	static struct probe low[BULK];
	static struct riser risers[SPOTS];
	struct evwork_lane *lane;
	struct queue queue;
	int i;

	queue_open(&queue, 0);
	lane = queue_lane(&queue, 1);
	queue_block(&queue);
	for (i = 0; i < BULK; i++)
		queue_put(&queue, &low[i], NULL);
	for (i = 0; i < SPOTS; i++) {
		probe_init(&risers[i].high, 0);
		risers[i].high.job.lane = lane;
		risers[i].loop = queue.world.loop;
		low[spots[i]].arg = &risers[i];
		low[spots[i]].on_run = submit_riser;
	}
	queue_run(&queue);
	world_run_until(&queue.world, &risers[SPOTS - 1].high.dones, 1);
	for (i = 0; i < SPOTS; i++) {
		ck_assert_int_eq(risers[i].rc, 0);
		ck_assert_int_eq(risers[i].high.run_order, low[spots[i]].run_order + 1);
	}
	for (i = 1; i < BULK; i++)
		ck_assert_int_gt(low[i].run_order, low[i - 1].run_order);
	queue_close(&queue);
}
END_TEST

static void pass_gate(struct probe *probe)
{
	gate_pass(probe->arg);
}

/* A job of higher priority that the loop submits while a job out of a bulk of lower
 * ones runs is the very next to start (S-POOL-4). */
START_TEST(order_high_from_loop)
{
	static struct probe low[BULK], high[SPOTS];
	static struct gate gates[SPOTS];
	struct evwork_lane *lane;
	struct queue queue;
	int i;

	queue_open(&queue, 0);
	lane = queue_lane(&queue, 1);
	queue_block(&queue);
	for (i = 0; i < BULK; i++)
		queue_put(&queue, &low[i], NULL);
	for (i = 0; i < SPOTS; i++) {
		gate_init(&gates[i]);
		low[spots[i]].arg = &gates[i];
		low[spots[i]].on_run = pass_gate;
	}
	gate_open(&queue.gate);
	for (i = 0; i < SPOTS; i++) {
		gate_await(&gates[i], 1);
		queue_put(&queue, &high[i], lane);
		gate_open(&gates[i]);
	}
	world_run(&queue.world);
	for (i = 0; i < SPOTS; i++) {
		ck_assert_int_eq(high[i].run_order, low[spots[i]].run_order + 1);
		gate_fini(&gates[i]);
	}
	for (i = 1; i < BULK; i++)
		ck_assert_int_gt(low[i].run_order, low[i - 1].run_order);
	queue_close(&queue);
}
END_TEST

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

/* One worker runs strictly one job at a time: a running job is not pre-empted by
 * any priority (S-POOL-4, S-POOL-19). */
START_TEST(order_serial)
{
	static struct probe probes[300];
	struct evwork_lane *lanes[3];
	struct queue queue;
	int i;

	atomic_store(&inside_peak, 0);
	queue_open(&queue, 0);
	for (i = 0; i < 3; i++)
		lanes[i] = queue_lane(&queue, i);
	for (i = 0; i < 300; i++) {
		probe_init(&probes[i], 0);
		probes[i].job.lane = lanes[i % 3];
		probes[i].on_run = count_inside;
		ck_assert_int_eq(evwork_submit(queue.world.loop, &probes[i].job), 0);
	}
	world_run(&queue.world);
	ck_assert_int_eq(atomic_load(&inside_peak), 1);
	queue_close(&queue);
}
END_TEST

/* Ageing. */

static const struct {
	int option, starts;
} ageings[] = { { 0, EVWORK_AGEING_DEFAULT }, { 1, 1 }, { 2, 2 }, { 63, 63 }, { 100, 100 } };

/* A waiting job starts after exactly as many later jobs of higher priority as the
 * option says, 64 by default (S-POOL-5, S-POOL-4). */
START_TEST(ageing_exact)
{
	static struct probe low, high[200];
	int i, starts = ageings[_i].starts;
	struct evwork_lane *lane;
	struct queue queue;

	queue_open(&queue, ageings[_i].option);
	lane = queue_lane(&queue, 1);
	queue_block(&queue);
	queue_put(&queue, &low, NULL);
	for (i = 0; i < 200; i++)
		queue_put(&queue, &high[i], lane);
	queue_run(&queue);
	expect_run(high, starts, 1);
	expect_run(&low, 1, starts + 1);
	expect_run(high + starts, 200 - starts, starts + 2);
	queue_close(&queue);
}
END_TEST

/* Only jobs submitted later count: those of higher priority that were there before
 * all start first, however many they are (S-POOL-5, S-POOL-4). */
START_TEST(ageing_earlier_do_not_count)
{
	static struct probe low, high[300];
	struct evwork_lane *lane;
	struct queue queue;
	int i;

	queue_open(&queue, 0);
	lane = queue_lane(&queue, 1);
	queue_block(&queue);
	for (i = 0; i < 150; i++)
		queue_put(&queue, &high[i], lane);
	queue_put(&queue, &low, NULL);
	for (; i < 300; i++)
		queue_put(&queue, &high[i], lane);
	queue_run(&queue);
	expect_run(high, 150 + 64, 1);
	expect_run(&low, 1, 150 + 64 + 1);
	expect_run(high + 150 + 64, 150 - 64, 150 + 64 + 2);
	queue_close(&queue);
}
END_TEST

/* All jobs that have waited long enough start before the next of higher priority,
 * and those that came later wait for their own turn (S-POOL-5, S-LANE-5). */
START_TEST(ageing_several)
{
	static struct probe first[5], second[5], high[200];
	struct evwork_lane *lane;
	struct queue queue;
	int i;

	queue_open(&queue, 10);
	lane = queue_lane(&queue, 1);
	queue_block(&queue);
	for (i = 0; i < 5; i++)
		queue_put(&queue, &first[i], NULL);
	for (i = 0; i < 3; i++)
		queue_put(&queue, &high[i], lane);
	for (i = 0; i < 5; i++)
		queue_put(&queue, &second[i], NULL);
	for (i = 3; i < 200; i++)
		queue_put(&queue, &high[i], lane);
	queue_run(&queue);
	expect_run(high, 10, 1);
	expect_run(first, 5, 11);
	expect_run(high + 10, 3, 16);
	expect_run(second, 5, 19);
	expect_run(high + 13, 187, 24);
	queue_close(&queue);
}
END_TEST

/* The starts of all lanes of higher priority add up (S-POOL-5, S-LANE-5). */
START_TEST(ageing_across_lanes)
{
	static struct probe waiting, low, highest[20], high[60];
	struct evwork_lane *lanes[3];
	struct queue queue;
	int i;

	queue_open(&queue, 30);
	for (i = 0; i < 3; i++)
		lanes[i] = queue_lane(&queue, 5 + i);
	queue_block(&queue);
	queue_put(&queue, &waiting, lanes[0]);
	queue_put(&queue, &low, NULL);
	for (i = 0; i < 60; i++) {
		queue_put(&queue, &high[i], lanes[1]);
		if (i < 20)
			queue_put(&queue, &highest[i], lanes[2]);
	}
	queue_run(&queue);
	expect_run(highest, 20, 1);
	expect_run(high, 10, 21);
	expect_run(&waiting, 1, 31);
	expect_run(&low, 1, 32);
	expect_run(high + 10, 50, 33);
	queue_close(&queue);
}
END_TEST

/* Jobs that were cancelled have not been started, so they do not count (S-POOL-5,
 * S-POOL-4). */
START_TEST(ageing_cancelled_do_not_count)
{
	static struct probe low, high[200];
	struct evwork_lane *lane;
	struct queue queue;
	int i;

	queue_open(&queue, 0);
	lane = queue_lane(&queue, 1);
	queue_block(&queue);
	queue_put(&queue, &low, NULL);
	for (i = 0; i < 200; i++)
		queue_put(&queue, &high[i], lane);
	for (i = 0; i < 50; i++)
		ck_assert_int_eq(evwork_cancel(&high[i].job), 0);
	queue_run(&queue);
	expect_run(high + 50, 64, 1);
	expect_run(&low, 1, 65);
	expect_run(high + 114, 86, 66);
	queue_close(&queue);
}
END_TEST

/* Earlier jobs of higher priority that cannot start, since their lane is at its cap,
 * do not lengthen the wait (S-POOL-5, S-LANE-4). */
START_TEST(ageing_past_capped)
{
	static struct probe low, capped[100], high[300];
	struct evwork_pool_options options = { .threads = 2 };
	struct evwork_lane_options cap = { .priority = 1, .max_running = 1 };
	struct evwork_lane *capped_lane, *lane;
	struct gate_job holder;
	struct gate hold;
	struct queue queue;
	int i;

	world_open_with(&queue.world, &options, NULL);
	gate_init(&queue.gate);
	gate_init(&hold);
	lane = queue_lane(&queue, 1);
	ck_assert_int_eq(evwork_lane_new(queue.world.pool, &cap, &capped_lane), 0);
	/* One worker is held in the capped lane, so the other runs all the rest. */
	gate_job_init(&holder, &hold);
	holder.job.lane = capped_lane;
	ck_assert_int_eq(evwork_submit(queue.world.loop, &holder.job), 0);
	gate_await(&hold, 1);
	gate_job_init(&queue.blocker, &queue.gate);
	queue_block(&queue);
	for (i = 0; i < 100; i++)
		queue_put(&queue, &capped[i], capped_lane);
	queue_put(&queue, &low, NULL);
	for (i = 0; i < 300; i++)
		queue_put(&queue, &high[i], lane);
	gate_open(&queue.gate);
	world_run_until(&queue.world, &high[299].dones, 1);
	ck_assert_int_eq(low.run_order, 65);
	gate_open(&hold);
	world_run(&queue.world);
	queue_close(&queue);
	gate_fini(&hold);
}
END_TEST

/* An old job that has waited long enough goes before a younger one of higher
 * priority that has waited as long (S-POOL-5). */
START_TEST(ageing_oldest_first)
{
	static struct probe low, middle, high[100];
	struct evwork_lane *lanes[2];
	struct queue queue;
	int i;

	queue_open(&queue, 20);
	lanes[0] = queue_lane(&queue, 1);
	lanes[1] = queue_lane(&queue, 2);
	queue_block(&queue);
	queue_put(&queue, &low, NULL);
	queue_put(&queue, &middle, lanes[0]);
	for (i = 0; i < 100; i++)
		queue_put(&queue, &high[i], lanes[1]);
	queue_run(&queue);
	expect_run(high, 20, 1);
	expect_run(&low, 1, 21);
	expect_run(&middle, 1, 22);
	expect_run(high + 20, 80, 23);
	queue_close(&queue);
}
END_TEST

/* Random traffic. All submits but the first come from the one worker, so that it
 * is known which jobs wait when the next is chosen. */

#define TRAFFIC 1500
#define START_WITH 200
#define LANES 5

static const int lane_priorities[LANES] = { -1, 0, 0, 3, 9 };

struct car {
	struct probe probe;
	int priority;
	int submitted;          /* how many had started by then */
	struct evwork_loop *loop;
};

static struct car cars[TRAFFIC];     /* in the order of submitting */
static struct evwork_lane *car_lanes[LANES];
static int car_count, car_errors;
static int car_dones;
static uint64_t car_random;

static uint64_t random_next(void)
{
	car_random = car_random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return car_random >> 33;
}

static void car_run(struct probe *probe);

static void car_done(struct probe *probe)
{
	(void)probe;
	car_dones++;
}

static void car_submit(struct evwork_loop *loop, int started)
{
	struct car *car = &cars[car_count++];
	int lane = (int)(random_next() % LANES);

	probe_init(&car->probe, 0);
	car->probe.job.lane = car_lanes[lane];
	car->probe.on_run = car_run;
	car->probe.on_done = car_done;
	car->priority = lane_priorities[lane];
	car->submitted = started;
	car->loop = loop;
	car_errors += evwork_submit(loop, &car->probe.job) != 0;
}

static void car_run(struct probe *probe)
{
	struct car *car = EVWORK_CONTAINER(probe, struct car, probe);
	int n = (int)(random_next() % 4);

	while (n-- > 0 && car_count < TRAFFIC)
		car_submit(car->loop, probe->run_order);
	/* No car may be the last on the road before all have been submitted. */
	while (car_count < TRAFFIC && car_count <= probe->run_order)
		car_submit(car->loop, probe->run_order);
}

/* How many later jobs of higher priority started before this one. */
static int overtaken(const struct car *car)
{
	const struct car *later;
	int count = 0;

	for (later = car + 1; later < cars + TRAFFIC; later++)
		if (later->priority > car->priority &&
		    later->probe.run_order < car->probe.run_order)
			count++;
	return count;
}

/* Whether a job of higher priority was waiting when this one was started. */
static bool overtakes(const struct car *car)
{
	const struct car *other;

	for (other = cars; other < cars + TRAFFIC; other++)
		if (other->priority > car->priority &&
		    other->submitted < car->probe.run_order &&
		    other->probe.run_order > car->probe.run_order)
			return true;
	return false;
}

static bool in_order_of_arrival(const struct car *car)
{
	const struct car *later;

	for (later = car + 1; later < cars + TRAFFIC; later++)
		if (later->priority == car->priority &&
		    later->probe.run_order < car->probe.run_order)
			return false;
	return true;
}

static void traffic(uint64_t seed, int ageing)
{
	struct queue queue;
	int i;

	car_random = seed;
	car_count = car_errors = car_dones = 0;
	atomic_store(&probe_run_counter, 0);
	queue_open(&queue, ageing);
	for (i = 0; i < LANES; i++)
		car_lanes[i] = queue_lane(&queue, lane_priorities[i]);
	queue_block(&queue);
	for (i = 0; i < START_WITH; i++)
		car_submit(queue.world.loop, 0);
	gate_open(&queue.gate);
	world_run_until(&queue.world, &car_dones, TRAFFIC);
	world_run(&queue.world);
	queue_close(&queue);
}

static const int traffic_ageings[] = { 1, 5, 20, 64 };

/* In random traffic no job is overtaken by more later ones of higher priority than
 * ageing allows, a lower priority goes first only where ageing demands it, and
 * equal priorities start in the order of arrival (S-POOL-4, S-POOL-5, S-LANE-5). */
START_TEST(ageing_random)
{
	uint64_t seed = sys_random();
	int ageing = traffic_ageings[_i];
	const struct car *car;

	support_note("seed %llu, ageing %d", (unsigned long long)seed, ageing);
	traffic(seed, ageing);
	ck_assert_int_eq(car_errors, 0);
	ck_assert_int_eq(car_count, TRAFFIC);
	for (car = cars; car < cars + TRAFFIC; car++) {
		int count = overtaken(car);

		ck_assert_int_eq(atomic_load(&car->probe.runs), 1);
		ck_assert_msg(count <= ageing, "seed %llu: job %d overtaken by %d, ageing %d",
			(unsigned long long)seed, (int)(car - cars), count, ageing);
		ck_assert_msg(count == ageing || !overtakes(car),
			"seed %llu: job %d went before its turn, overtaken by %d, ageing %d",
			(unsigned long long)seed, (int)(car - cars), count, ageing);
		ck_assert_msg(in_order_of_arrival(car), "seed %llu: job %d was overtaken by its like",
			(unsigned long long)seed, (int)(car - cars));
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("pool_order");
	TCase *tcase = support_case(suite, "priority");

	tcase_add_test(tcase, order_mixed);
	tcase_add_test(tcase, order_fifo);
	tcase_add_test(tcase, order_high_after_bulk);
	tcase_add_test(tcase, order_high_from_work);
	tcase_add_test(tcase, order_high_from_loop);
	tcase_add_test(tcase, order_serial);
	tcase = support_case(suite, "ageing");
	tcase_add_loop_test(tcase, ageing_exact, 0, sizeof(ageings) / sizeof(ageings[0]));
	tcase_add_test(tcase, ageing_earlier_do_not_count);
	tcase_add_test(tcase, ageing_several);
	tcase_add_test(tcase, ageing_across_lanes);
	tcase_add_test(tcase, ageing_cancelled_do_not_count);
	tcase_add_test(tcase, ageing_past_capped);
	tcase_add_test(tcase, ageing_oldest_first);
	tcase_add_loop_test(tcase, ageing_random, 0,
		sizeof(traffic_ageings) / sizeof(traffic_ageings[0]));
	return suite;
}

int main(void)
{
	return support_run(suite());
}
