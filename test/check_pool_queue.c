/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Room in the queue: how many jobs may wait and what happens to the next. The
 * submit that waits for room is in check_pool_wait.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

/* The queue takes exactly as many waiting jobs as its limit says; the next is
 * refused with EAGAIN at once, without any trace but the counters (S-POOL-6,
 * S-GEN-2). */
START_TEST(queue_full)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 3 } };
	struct probe probes[3], refused;
	struct gate_job blocker;
	struct world world;
	struct gate gate;
	int i;

	world_open_with(&world, &options, NULL);
	block_workers(&world, &gate, &blocker, 1);
	for (i = 0; i < 3; i++) {
		probe_init(&probes[i], 0);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	probe_init(&refused, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &refused.job), -EAGAIN);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).refused_full, 1);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).queued, 3);
	unblock_workers(&world, &gate);
	for (i = 0; i < 3; i++)
		expect_probe_once(&probes[i], 0);
	expect_probe_untouched(&refused);
	ck_assert_int_eq(evwork_submit(world.loop, &refused.job), 0);
	world_run(&world);
	expect_probe_once(&refused, 0);
	world_close(&world);
}
END_TEST

static void pass_gate(struct probe *probe)
{
	gate_pass(probe->arg);
}

/* Jobs that a worker has set aside for itself still count as waiting: each start
 * makes room for exactly one more (S-POOL-6). */
START_TEST(queue_room_for_each_start)
{
	enum { LIMIT = 8, STEPS = 20, TOTAL = LIMIT + STEPS };
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = LIMIT } };
	struct probe probes[TOTAL + 1], refused;
	struct gate gates[TOTAL + 1];
	struct world world;
	int i;

	world_open_with(&world, &options, NULL);
	for (i = 0; i <= TOTAL; i++) {
		gate_init(&gates[i]);
		probe_init(&probes[i], 0);
		probes[i].on_run = pass_gate;
		probes[i].arg = &gates[i];
	}
	probe_init(&refused, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probes[0].job), 0);
	gate_await(&gates[0], 1);
	for (i = 1; i <= LIMIT; i++)
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	for (i = 0; i < STEPS; i++) {
		ck_assert_int_eq(evwork_submit(world.loop, &refused.job), -EAGAIN);
		gate_open(&gates[i]);
		gate_await(&gates[i + 1], 1);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[LIMIT + i + 1].job), 0);
	}
	for (i = 0; i <= TOTAL; i++)
		gate_open(&gates[i]);
	world_run(&world);
	expect_probe_untouched(&refused);
	for (i = 0; i <= TOTAL; i++) {
		expect_probe_once(&probes[i], 0);
		ck_assert_int_eq(probes[i].run_order, i + 1);
		gate_fini(&gates[i]);
	}
	world_close(&world);
}
END_TEST

/* Without a limit in the options 4096 jobs may wait and no more (S-POOL-6). */
START_TEST(queue_default)
{
	static struct probe probes[EVWORK_QUEUE_LIMIT_DEFAULT], refused;
	struct gate_job blocker;
	struct world world;
	struct gate gate;
	int i;

	world_open(&world, 1);
	block_workers(&world, &gate, &blocker, 1);
	ck_assert_int_eq(EVWORK_QUEUE_LIMIT_DEFAULT, 4096);
	for (i = 0; i < 4096; i++) {
		probe_init(&probes[i], 0);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	probe_init(&refused, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &refused.job), -EAGAIN);
	unblock_workers(&world, &gate);
	for (i = 0; i < 4096; i++)
		expect_probe_once(&probes[i], 0);
	expect_probe_untouched(&refused);
	world_close(&world);
}
END_TEST

/* A queue without limit, asked for by name, takes what comes, in order
 * (S-POOL-6). */
START_TEST(queue_unbounded)
{
	enum { FLOOD = 20000 };
	static struct probe probes[FLOOD];
	struct evwork_pool_options options = {
		.threads = 1, .lane = { .queue_limit = EVWORK_UNBOUNDED }
	};
	struct gate_job blocker;
	struct world world;
	struct gate gate;
	int i;

	world_open_with(&world, &options, NULL);
	block_workers(&world, &gate, &blocker, 1);
	for (i = 0; i < FLOOD; i++) {
		probe_init(&probes[i], 0);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	unblock_workers(&world, &gate);
	for (i = 0; i < FLOOD; i++) {
		expect_probe_once(&probes[i], 0);
		ck_assert_int_eq(probes[i].run_order, i + 1);
	}
	world_close(&world);
}
END_TEST

/* Without memory a queue without limit refuses with ENOMEM, what it had accepted
 * is not lost, and the job refused is accepted once there is memory (S-GEN-14,
 * S-POOL-6). */
START_TEST(queue_unbounded_without_memory)
{
	enum { FLOOD = 20000 };
	static struct probe probes[FLOOD];
	struct evwork_pool_options options = {
		.threads = 1, .lane = { .queue_limit = EVWORK_UNBOUNDED }
	};
	struct gate_job blocker;
	struct world world;
	struct gate gate;
	int i, accepted, rc = 0;

	world_open_with(&world, &options, NULL);
	block_workers(&world, &gate, &blocker, 1);
	fault_start(SYS_MEMORY, 1, true);
	for (accepted = 0; accepted < FLOOD; accepted++) {
		probe_init(&probes[accepted], 0);
		rc = evwork_submit(world.loop, &probes[accepted].job);
		if (rc)
			break;
	}
	fault_stop();
	if (accepted < FLOOD) {
		ck_assert_int_eq(rc, -ENOMEM);
		ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).refused_memory, 1);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[accepted++].job), 0);
	}
	unblock_workers(&world, &gate);
	for (i = 0; i < accepted; i++)
		expect_probe_once(&probes[i], 0);
	world_close(&world);
}
END_TEST

enum { ASIDE = 64, ASIDE_MORE = 63 };

/* A job that submits ASIDE others to its own worker, the first of which waits in the gate,
 * so that the rest are set aside behind it. */
struct feeder {
	struct probe probe;
	struct world world;
	struct gate gate;
	struct probe others[ASIDE + ASIDE_MORE];
	int rc[ASIDE];
};

static void feed(struct probe *probe)
{
	struct feeder *feeder = EVWORK_CONTAINER(probe, struct feeder, probe);
	int i;

	for (i = 0; i < ASIDE; i++)
		feeder->rc[i] = evwork_submit(feeder->world.loop, &feeder->others[i].job);
}

static const int aside_more[] = { 0, 1, 8, ASIDE_MORE };

/* Jobs of a queue without limit that a worker has set aside are neither lost nor run twice
 * when a cancel puts them back into a full ring (S-POOL-6, S-GEN-2). */
START_TEST(queue_unbounded_put_back)
{
	static struct feeder feeder;
	struct evwork_pool_options options = {
		.threads = 1, .lane = { .queue_limit = EVWORK_UNBOUNDED }
	};
	int i, n = ASIDE + aside_more[_i];

	world_open_with(&feeder.world, &options, NULL);
	gate_init(&feeder.gate);
	probe_init(&feeder.probe, 0);
	feeder.probe.on_run = feed;
	for (i = 0; i < n; i++)
		probe_init(&feeder.others[i], 0);
	feeder.others[0].on_run = pass_gate;
	feeder.others[0].arg = &feeder.gate;
	ck_assert_int_eq(evwork_submit(feeder.world.loop, &feeder.probe.job), 0);
	gate_await(&feeder.gate, 1);
	for (i = ASIDE; i < n; i++)
		ck_assert_int_eq(evwork_submit(feeder.world.loop, &feeder.others[i].job), 0);
	ck_assert_int_eq(evwork_cancel(&feeder.others[1].job), 0);
	gate_open(&feeder.gate);
	/* What a worker submitted does not keep the base running from the start. */
	for (i = 0; i < n; i++)
		world_run_until(&feeder.world, &feeder.others[i].dones, 1);
	world_run(&feeder.world);
	gate_fini(&feeder.gate);
	for (i = 0; i < ASIDE; i++)
		ck_assert_int_eq(feeder.rc[i], 0);
	for (i = 0; i < n; i++) {
		if (i != 1)
			expect_probe_once(&feeder.others[i], 0);
	}
	ck_assert_int_eq(atomic_load(&feeder.others[1].runs), 0);
	ck_assert_int_eq(feeder.others[1].dones, 1);
	ck_assert_int_eq(feeder.others[1].status, -ECANCELED);
	world_close(&feeder.world);
}
END_TEST

static void add_queue(Suite *suite)
{
	TCase *tcase = support_case(suite, "queue");

	tcase_add_test(tcase, queue_full);
	tcase_add_test(tcase, queue_room_for_each_start);
	tcase_add_test(tcase, queue_default);
	tcase_add_test(tcase, queue_unbounded);
	tcase_add_test(tcase, queue_unbounded_without_memory);
	tcase_add_loop_test(tcase, queue_unbounded_put_back, 0,
		sizeof(aside_more) / sizeof(aside_more[0]));
}

static Suite *suite(void)
{
	Suite *suite = suite_create("pool_queue");

	add_queue(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
