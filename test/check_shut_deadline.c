/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Closing a pool within bounds: the deadline, the grace time, what happens to both when
 * the pool or the loop is quicker, and the report of what is left.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

#define MS SYS_NS_PER_MS

/* A pool under test beside the world's own, which has no part in it. */
struct dock {
	struct world world;
	struct evwork_pool *pool;
	struct evwork_lane *lane;
	struct gate gate;
	struct gate_job blocker;
	struct evwork_close_options options;
	/* What the closed callback saw. */
	int closed, status, free_rc;
	int64_t at;
	int loop_closed;
	int rc;                        /* of a close elsewhere */
};

static void on_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct dock *dock = arg;

	dock->closed++;
	dock->status = status;
	dock->at = evwork_loop_now(dock->world.loop);
	/* A pool that was given up cannot go; one that has closed is freed by the test. */
	if (status)
		dock->free_rc = evwork_pool_free(pool);
}

static void dock_open(struct dock *dock, int workers, bool manual)
{
	struct evwork_pool_options options = { .threads = workers };

	memset(dock, 0, sizeof(*dock));
	dock->status = dock->free_rc = 1;
	if (manual)
		world_open_manual(&dock->world, 1, 0);
	else
		world_open(&dock->world, 1);
	ck_assert_int_eq(evwork_pool_new(&options, &dock->pool), 0);
	dock->lane = evwork_pool_lane(dock->pool);
	gate_init(&dock->gate);
	dock->options.mode = EVWORK_DRAIN;
	dock->options.loop = dock->world.loop;
	dock->options.fn = on_closed;
	dock->options.arg = dock;
}

/* Holds one worker in the gate, on behalf of a loop. */
static void dock_block(struct dock *dock, struct evwork_loop *loop)
{
	gate_job_init(&dock->blocker, &dock->gate);
	dock->blocker.job.lane = dock->lane;
	ck_assert_int_eq(evwork_submit(loop, &dock->blocker.job), 0);
	gate_await(&dock->gate, 1);
}

static void dock_put(struct dock *dock, struct probe *probe)
{
	probe_init(probe, 0);
	probe->job.lane = dock->lane;
	ck_assert_int_eq(evwork_submit(dock->world.loop, &probe->job), 0);
}

static int dock_shut(struct dock *dock, enum evwork_close_mode mode, int64_t deadline_ms,
	int64_t grace_ms)
{
	dock->options.mode = mode;
	dock->options.deadline_ms = deadline_ms;
	dock->options.grace_ms = grace_ms;
	return evwork_pool_close_by(dock->pool, &dock->options);
}

/* Moves the clock to ns from the start, and lets the base do what is due until then. */
static void dock_move(struct dock *dock, int64_t ns)
{
	int64_t now = evwork_clock_now(dock->world.clock);

	ck_assert_int_eq(evwork_clock_advance(dock->world.clock, ns - now), 0);
	while (evwork_clock_now(dock->world.clock) < ns)
		world_turns(&dock->world, 1);
	world_turns(&dock->world, 8);
}

/* Frees the pool, which has nothing to do any more. */
static void dock_close(struct dock *dock)
{
	ck_assert_int_eq(dock->closed, dock->options.fn ? 1 : 0);
	ck_assert_int_eq(evwork_pool_free(dock->pool), 0);
	world_run(&dock->world);
	world_close(&dock->world);
	gate_fini(&dock->gate);
}

/* Lets the blocker end, and runs the base until its done. */
static void dock_unblock(struct dock *dock)
{
	gate_open(&dock->gate);
	while (dock->blocker.status == 1)
		world_turns(&dock->world, 1);
	ck_assert_int_eq(dock->blocker.status, 0);
}

/* Work that looks at itself twice. */
struct runner {
	struct probe probe;
	struct gate first, second;
	int errs[2];
};

static void look_twice(struct probe *probe)
{
	struct runner *runner = EVWORK_CONTAINER(probe, struct runner, probe);

	gate_pass(&runner->first);
	runner->errs[0] = evwork_job_err(&probe->job);
	gate_pass(&runner->second);
	runner->errs[1] = evwork_job_err(&probe->job);
}

static void runner_start(struct runner *runner, struct dock *dock)
{
	gate_init(&runner->first);
	gate_init(&runner->second);
	probe_init(&runner->probe, 7);
	runner->probe.job.lane = dock->lane;
	runner->probe.on_run = look_twice;
	ck_assert_int_eq(evwork_submit(dock->world.loop, &runner->probe.job), 0);
	gate_await(&runner->first, 1);
}

static void runner_fini(struct runner *runner)
{
	gate_fini(&runner->first);
	gate_fini(&runner->second);
}

/* The deadline. */

/* When the deadline has passed, and not a nanosecond before, DRAIN and CANCEL_QUEUED become
 * CANCEL_ALL; if the work then returns within the grace time the callback says 0
 * (S-SHUT-6, S-GEN-11). */
START_TEST(deadline_cancels_all)
{
	bool drains = _i == 0;
	struct runner runner;
	struct probe queued;
	struct dock dock;

	dock_open(&dock, 1, true);
	runner_start(&runner, &dock);
	dock_put(&dock, &queued);
	ck_assert_int_eq(dock_shut(&dock, drains ? EVWORK_DRAIN : EVWORK_CANCEL_QUEUED, 100, 50), 0);
	dock_move(&dock, 100 * MS - 1);
	ck_assert_int_eq(queued.dones, drains ? 0 : 1);
	gate_open(&runner.first);
	gate_await(&runner.second, 1);
	dock_move(&dock, 100 * MS);
	ck_assert_int_eq(queued.dones, 1);
	ck_assert_int_eq(queued.status, -ECANCELED);
	ck_assert_int_eq(queued.ran, 0);
	gate_open(&runner.second);
	world_run_until(&dock.world, &dock.closed, 1);
	ck_assert_int_eq(dock.status, 0);
	ck_assert_int_eq(runner.errs[0], 0);
	ck_assert_int_eq(runner.errs[1], -ECANCELED);
	ck_assert_int_eq(runner.probe.dones, 1);
	ck_assert_int_eq(runner.probe.status, 7);
	dock_close(&dock);
	runner_fini(&runner);
}
END_TEST

/* After the deadline and the grace time the callback comes with ETIMEDOUT, once, although a
 * job runs; free is EBUSY until its outcome was delivered, which it is as usual
 * (S-SHUT-6, S-GEN-11). */
START_TEST(grace_ends)
{
	struct dock dock;

	dock_open(&dock, 2, true);
	dock_block(&dock, dock.world.loop);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 100, 50), 0);
	dock_move(&dock, 150 * MS - 1);
	ck_assert_int_eq(dock.closed, 0);
	dock_move(&dock, 150 * MS);
	ck_assert_int_eq(dock.closed, 1);
	ck_assert_int_eq(dock.status, -ETIMEDOUT);
	ck_assert_int_eq(dock.at, 150 * MS);
	ck_assert_int_eq(dock.free_rc, -EBUSY);
	ck_assert_int_eq(evwork_pool_running(dock.pool, NULL, 0), 1);
	dock_move(&dock, 100000 * MS);
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_CANCEL_ALL, 0, 0), -EALREADY);
	dock_unblock(&dock);
	dock_close(&dock);
}
END_TEST

/* The grace time of 0 is the default, and NEVER never ends (S-SHUT-6). */
START_TEST(grace_default_and_never)
{
	struct dock dock;

	dock_open(&dock, 1, true);
	dock_block(&dock, dock.world.loop);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 1, _i ? EVWORK_NEVER : 0), 0);
	dock_move(&dock, (1 + EVWORK_GRACE_MS_DEFAULT) * MS - 1);
	ck_assert_int_eq(dock.closed, 0);
	dock_move(&dock, (1 + EVWORK_GRACE_MS_DEFAULT) * MS);
	ck_assert_int_eq(dock.closed, _i ? 0 : 1);
	dock_move(&dock, EVWORK_NEVER - 1);
	ck_assert_int_eq(dock.closed, _i ? 0 : 1);
	dock_unblock(&dock);
	world_run_until(&dock.world, &dock.closed, 1);
	ck_assert_int_eq(dock.status, _i ? 0 : -ETIMEDOUT);
	dock_close(&dock);
}
END_TEST

/* A call that cancels all before the deadline starts the grace time; so does a close that
 * does so from the start. The deadline has no more say (S-SHUT-6, S-SHUT-4). */
START_TEST(grace_from_escalation)
{
	struct dock dock;

	dock_open(&dock, 1, true);
	dock_block(&dock, dock.world.loop);
	if (_i == 0) {
		ck_assert_int_eq(dock_shut(&dock, EVWORK_CANCEL_ALL, 30, 50), 0);
	} else {
		ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, _i == 1 ? 100 : 0, 40), 0);
		dock_move(&dock, 10 * MS);
		ck_assert_int_eq(evwork_pool_close(dock.pool, EVWORK_CANCEL_ALL, NULL, NULL, NULL), 0);
	}
	dock_move(&dock, 50 * MS - 1);
	ck_assert_int_eq(dock.closed, 0);
	dock_move(&dock, 50 * MS);
	ck_assert_int_eq(dock.closed, 1);
	ck_assert_int_eq(dock.status, -ETIMEDOUT);
	dock_unblock(&dock);
	dock_close(&dock);
}
END_TEST

static void escalate(void *arg)
{
	struct dock *dock = arg;

	dock->rc = evwork_pool_close(dock->pool, EVWORK_CANCEL_ALL, NULL, NULL, NULL);
}

static void shut_elsewhere(void *arg)
{
	struct dock *dock = arg;

	dock->rc = evwork_pool_close_by(dock->pool, &dock->options);
}

/* Closing and escalating from another thread sets the same bounds (S-SHUT-6, S-SHUT-4). */
START_TEST(bounds_from_elsewhere)
{
	struct dock dock;

	dock_open(&dock, 1, true);
	dock_block(&dock, dock.world.loop);
	dock.options.deadline_ms = 100;
	dock.options.grace_ms = 50;
	support_elsewhere(shut_elsewhere, &dock);
	ck_assert_int_eq(dock.rc, 0);
	world_turns(&dock.world, 4);
	if (_i) {
		dock_move(&dock, 100 * MS - 1);
		support_elsewhere(escalate, &dock);
		ck_assert_int_eq(dock.rc, 0);
		world_turns(&dock.world, 4);
	}
	dock_move(&dock, 150 * MS - 1 - _i);
	ck_assert_int_eq(dock.closed, 0);
	dock_move(&dock, 150 * MS - _i);
	ck_assert_int_eq(dock.closed, 1);
	ck_assert_int_eq(dock.status, -ETIMEDOUT);
	ck_assert_int_eq(dock.at, 150 * MS - _i);
	dock_unblock(&dock);
	dock_close(&dock);
}
END_TEST

/* A pool that closes in time calls back with 0 and never again: nothing stays on the loop,
 * which can be freed at once (S-SHUT-6, S-SHUT-5). */
START_TEST(closes_in_time)
{
	struct probe probe;
	struct dock dock;

	dock_open(&dock, 2, _i % 2 == 0);
	dock_put(&dock, &probe);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 3600000, 0), 0);
	world_run(&dock.world);
	ck_assert_int_eq(dock.closed, 1);
	ck_assert_int_eq(dock.status, 0);
	ck_assert_int_eq(probe.status, 0);
	if (dock.world.clock)
		dock_move(&dock, 7200000 * MS);
	ck_assert_int_eq(dock.closed, 1);
	dock_close(&dock);
}
END_TEST

/* Without a callback the bounds hold as well: the deadline cancels (S-SHUT-6). */
START_TEST(deadline_without_callback)
{
	struct probe queued;
	struct dock dock;

	dock_open(&dock, 1, true);
	dock.options.fn = NULL;
	dock_block(&dock, dock.world.loop);
	dock_put(&dock, &queued);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 100, 50), 0);
	dock_move(&dock, 100 * MS);
	ck_assert_int_eq(queued.status, -ECANCELED);
	dock_move(&dock, 200 * MS);
	dock_unblock(&dock);
	dock_close(&dock);
}
END_TEST

/* The loop. */

/* A second loop, whose jobs say nothing to the first. */
struct other {
	struct event_base *base;
	struct evwork_loop *loop;
};

static void other_open(struct other *other)
{
	other->base = event_base_new();
	ck_assert_int_eq(evwork_loop_new(other->base, NULL, NULL, &other->loop), 0);
}

static void other_close(struct other *other, struct dock *dock)
{
	gate_open(&dock->gate);
	ck_assert_int_ge(event_base_dispatch(other->base), 0);
	ck_assert_int_eq(dock->blocker.status, 0);
	ck_assert_int_eq(evwork_loop_free(other->loop), 0);
	event_base_free(other->base);
}

/* On the system's clock, too, the callback is never early, and it alone keeps the base
 * running until it came (S-SHUT-6, S-DLV-7, S-GEN-11). */
START_TEST(bounds_keep_base)
{
	struct other other;
	struct dock dock;
	int64_t begun;

	dock_open(&dock, 1, false);
	other_open(&other);
	dock_block(&dock, other.loop);
	begun = evwork_loop_now(dock.world.loop);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 20, 20), 0);
	world_run(&dock.world);
	ck_assert_int_eq(dock.closed, 1);
	ck_assert_int_eq(dock.status, -ETIMEDOUT);
	ck_assert_int_ge(dock.at, begun + 40 * MS);
	other_close(&other, &dock);
	dock_close(&dock);
}
END_TEST

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	struct dock *dock = arg;

	(void)loop;
	ck_assert_int_eq(dock->closed, 1);
	dock->loop_closed++;
}

/* A loop that closes after the pool goes on to watch its bounds, and is closed after the
 * callback; on its way timers end at once (S-SHUT-6, S-SHUT-7, S-SHUT-8). */
START_TEST(bounds_outlast_loop_close)
{
	bool manual = _i % 2 == 0;
	struct support_timer timer;
	struct other other;
	struct dock dock;
	int64_t begun;

	dock_open(&dock, 1, manual);
	other_open(&other);
	dock_block(&dock, other.loop);
	support_timer_init(&timer, dock.world.loop);
	ck_assert_int_eq(evwork_timer_start(dock.world.loop, &timer.timer, 3600000), 0);
	begun = evwork_loop_now(dock.world.loop);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 20, 20), 0);
	ck_assert_int_eq(evwork_loop_close(dock.world.loop, on_loop_closed, &dock), 0);
	if (manual) {
		dock_move(&dock, 40 * MS - 1);
		ck_assert_int_eq(timer.status, -ECANCELED);
		ck_assert_int_eq(dock.closed, 0);
		dock_move(&dock, 40 * MS);
	} else {
		world_run(&dock.world);
	}
	ck_assert_int_eq(dock.closed, 1);
	ck_assert_int_eq(dock.status, -ETIMEDOUT);
	ck_assert_int_ge(dock.at, begun + 40 * MS);
	ck_assert_int_eq(timer.calls, 1);
	ck_assert_int_eq(dock.loop_closed, 1);
	other_close(&other, &dock);
	dock_close(&dock);
}
END_TEST

/* On a loop that is closing a close with bounds is refused, and changes nothing; and what
 * makes no sense is EINVAL (S-SHUT-6, S-GEN-4). */
START_TEST(bounds_refused)
{
	struct evwork_close_options good;
	struct probe probe;
	struct dock dock;

	dock_open(&dock, 1, false);
	good = dock.options;
	ck_assert_int_eq(evwork_pool_close_by(NULL, &good), -EINVAL);
	ck_assert_int_eq(evwork_pool_close_by(dock.pool, NULL), -EINVAL);
	ck_assert_int_eq(dock_shut(&dock, (enum evwork_close_mode)0, 0, 0), -EINVAL);
	ck_assert_int_eq(dock_shut(&dock, (enum evwork_close_mode)4, 0, 0), -EINVAL);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, -1, 0), -EINVAL);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 0, -1), -EINVAL);
	dock.options.loop = NULL;
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 0, 0), -EINVAL);
	dock.options = good;
	dock_put(&dock, &probe);
	world_run(&dock.world);
	ck_assert_int_eq(evwork_loop_close(dock.world.loop, NULL, NULL), 0);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 10, 0), -ESHUTDOWN);
	world_run(&dock.world);
	dock.options.fn = NULL;
	dock_close(&dock);
}
END_TEST

/* The report. */

static const char *describe_probe(struct evwork_job *job)
{
	return EVWORK_CONTAINER(job, struct probe, job)->arg;
}

static void pass_gate(struct probe *probe)
{
	gate_pass(&EVWORK_CONTAINER(probe, struct runner, probe)->first);
}

/* What is left is told by lane, and what runs by the name that its lane's describe function
 * gives it; nothing is told of what has been delivered (S-SHUT-6, S-OBS-8). */
START_TEST(left_and_running)
{
	struct evwork_lane_options options = { .name = "named", .describe = describe_probe };
	char name[] = "a job with a name that is much longer than all of the sixty-three bytes";
	struct evwork_left left[3];
	struct evwork_running running[3];
	struct probe queued[3], idle;
	struct evwork_lane *lane, *unused;
	struct runner runner;
	struct dock dock;
	int i, named;

	dock_open(&dock, 2, false);
	ck_assert_int_eq(evwork_pool_left(dock.pool, NULL, 0), 0);
	ck_assert_int_eq(evwork_pool_running(dock.pool, running, 3), 0);
	ck_assert_int_eq(evwork_lane_new(dock.pool, &options, &lane), 0);
	options.name = "unused";
	ck_assert_int_eq(evwork_lane_new(dock.pool, &options, &unused), 0);
	dock_put(&dock, &idle);
	world_run(&dock.world);
	dock_block(&dock, dock.world.loop);
	gate_init(&runner.first);
	probe_init(&runner.probe, 0);
	runner.probe.job.lane = lane;
	runner.probe.arg = name;
	runner.probe.on_run = pass_gate;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &runner.probe.job), 0);
	gate_await(&runner.first, 1);
	for (i = 0; i < 3; i++)
		dock_put(&dock, &queued[i]);

	ck_assert_int_eq(evwork_pool_left(dock.pool, NULL, 0), 2);
	ck_assert_int_eq(evwork_pool_left(dock.pool, left, 3), 2);
	named = strcmp(left[0].lane, "named") == 0 ? 0 : 1;
	ck_assert_str_eq(left[named].lane, "named");
	ck_assert_uint_eq(left[named].running, 1);
	ck_assert_uint_eq(left[named].queued, 0);
	ck_assert_str_eq(left[!named].lane, "default");
	ck_assert_uint_eq(left[!named].running, 1);
	ck_assert_uint_eq(left[!named].queued, 3);
	ck_assert_uint_eq(left[!named].undelivered, 0);

	ck_assert_int_eq(evwork_pool_running(dock.pool, running, 1), 2);
	ck_assert_int_eq(evwork_pool_running(dock.pool, running, 3), 2);
	named = strcmp(running[0].lane, "named") == 0 ? 0 : 1;
	ck_assert_str_eq(running[named].lane, "named");
	ck_assert_uint_eq(strlen(running[named].job), EVWORK_NAME_MAX - 1);
	ck_assert_int_eq(strncmp(running[named].job, runner.probe.arg, EVWORK_NAME_MAX - 1), 0);
	ck_assert_str_eq(running[!named].lane, "default");
	ck_assert_str_eq(running[!named].job, "");
	ck_assert_int_eq(running[0].worker + running[1].worker, 1);
	ck_assert_int_ge(running[0].since_ns, 0);

	gate_open(&runner.first);
	gate_open(&dock.gate);
	world_run(&dock.world);
	ck_assert_int_eq(evwork_pool_left(dock.pool, left, 3), 0);
	ck_assert_int_eq(evwork_pool_running(dock.pool, running, 3), 0);
	ck_assert_int_eq(evwork_pool_left(NULL, left, 3), -EINVAL);
	ck_assert_int_eq(evwork_pool_left(dock.pool, NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_pool_running(NULL, running, 3), -EINVAL);
	ck_assert_int_eq(evwork_pool_running(dock.pool, NULL, 1), -EINVAL);
	dock.options.fn = NULL;
	dock_close(&dock);
	gate_fini(&runner.first);
}
END_TEST

/* What has ended and waits for its loop is undelivered, whether the pool was given up
 * or not (S-SHUT-6). */
START_TEST(left_undelivered)
{
	struct evwork_left left[1];
	struct other other;
	struct dock dock;

	dock_open(&dock, 1, true);
	other_open(&other);
	dock_block(&dock, other.loop);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_CANCEL_ALL, 0, 10), 0);
	dock_move(&dock, 10 * MS);
	ck_assert_int_eq(dock.status, -ETIMEDOUT);
	gate_open(&dock.gate);
	do
		ck_assert_int_eq(evwork_pool_left(dock.pool, left, 1), 1);
	while (left[0].running > 0);
	ck_assert_uint_eq(left[0].undelivered, 1);
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	other_close(&other, &dock);
	ck_assert_int_eq(evwork_pool_left(dock.pool, left, 1), 0);
	dock_close(&dock);
}
END_TEST

/* Races. */

struct rusher {
	struct dock *dock;
	struct gate *gate;
	pthread_t thread;
};

static void *rush(void *arg)
{
	struct rusher *rusher = arg;

	gate_pass(rusher->gate);
	escalate(rusher->dock);
	return NULL;
}

/* Escalation that meets the deadline: whoever is first, the callback comes once, and with
 * ETIMEDOUT only while the work runs (S-SHUT-6, S-SHUT-4). */
START_TEST(escalation_meets_deadline)
{
	struct rusher rusher;
	struct gate gate;
	struct dock dock;

	dock_open(&dock, 1, false);
	dock_block(&dock, dock.world.loop);
	gate_init(&gate);
	rusher.dock = &dock;
	rusher.gate = &gate;
	ck_assert_int_eq(pthread_create(&rusher.thread, NULL, rush, &rusher), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN, 1, 1), 0);
	gate_open(&gate);
	world_run_until(&dock.world, &dock.closed, 1);
	pthread_join(rusher.thread, NULL);
	ck_assert_int_eq(dock.closed, 1);
	ck_assert_int_eq(dock.status, -ETIMEDOUT);
	ck_assert_int_eq(dock.free_rc, -EBUSY);
	dock_unblock(&dock);
	dock_close(&dock);
	gate_fini(&gate);
}
END_TEST

static void add_bounds(Suite *suite)
{
	TCase *tcase = support_case(suite, "bounds");

	tcase_add_loop_test(tcase, deadline_cancels_all, 0, 2);
	tcase_add_test(tcase, grace_ends);
	tcase_add_loop_test(tcase, grace_default_and_never, 0, 2);
	tcase_add_loop_test(tcase, grace_from_escalation, 0, 3);
	tcase_add_loop_test(tcase, bounds_from_elsewhere, 0, 2);
	tcase_add_loop_test(tcase, closes_in_time, 0, 2);
	tcase_add_test(tcase, deadline_without_callback);
	tcase_add_test(tcase, bounds_keep_base);
	tcase_add_loop_test(tcase, bounds_outlast_loop_close, 0, 2);
	tcase_add_test(tcase, bounds_refused);
	tcase_add_loop_test(tcase, escalation_meets_deadline, 0, 20);
}

static void add_report(Suite *suite)
{
	TCase *tcase = support_case(suite, "report");

	tcase_add_test(tcase, left_and_running);
	tcase_add_test(tcase, left_undelivered);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("shut_deadline");

	add_bounds(suite);
	add_report(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
