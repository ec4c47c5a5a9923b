/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/*
 * Reports of what runs for too long. On a manual clock each look of the watchdog is a stop,
 * so a clock that has come past a time has had all the reports of that time.
 */

#include "support.h"

#include <pthread.h>

#define MS SYS_NS_PER_MS
#define STALL_MS 100

/* The log, recorded. */

#define LINES 64

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t came;
	int count;
	enum evwork_log_level levels[LINES];
	char texts[LINES][256];
	/* Called for each line, may be NULL. */
	void (*on)(const char *text);
} record = { .mutex = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER };

static void on_log(enum evwork_log_level level, const char *text, void *arg)
{
	(void)arg;
	pthread_mutex_lock(&record.mutex);
	if (record.count < LINES) {
		record.levels[record.count] = level;
		snprintf(record.texts[record.count], sizeof(record.texts[0]), "%s", text);
	}
	record.count++;
	pthread_cond_broadcast(&record.came);
	pthread_mutex_unlock(&record.mutex);
	if (record.on)
		record.on(text);
}

static void record_begin(void (*on)(const char *text))
{
	record.count = 0;
	record.on = on;
	evwork_set_log(on_log, NULL);
}

static int lines(void)
{
	int count;

	pthread_mutex_lock(&record.mutex);
	count = record.count;
	pthread_mutex_unlock(&record.mutex);
	return count;
}

static void await_lines(int n)
{
	pthread_mutex_lock(&record.mutex);
	while (record.count < n)
		pthread_cond_wait(&record.came, &record.mutex);
	pthread_mutex_unlock(&record.mutex);
}

static void expect_line(int n, const char *text)
{
	ck_assert_int_gt(lines(), n);
	ck_assert_str_eq(record.texts[n], text);
	ck_assert_int_eq(record.levels[n], EVWORK_LOG_WARNING);
}

/* Worlds. */

/* Only the pool lives by the manual clock, so that advancing it needs no turns. */
static void pool_world(struct world *world, int threads, int64_t stall_ms)
{
	struct evwork_pool_options options = { .threads = threads, .name = "web",
		.stall_ms = stall_ms };
	struct evwork_clock *clock;

	ck_assert_int_eq(evwork_clock_new(0, &clock), 0);
	options.clock = clock;
	world_open_with(world, &options, NULL);
	world->clock = clock;
}

/* The loop does, and not the pool. The clock does not go on between two turns of a loop that
 * has something left to do, so one turn takes all there is. */
static void loop_world(struct world *world, int64_t stall_ms)
{
	struct evwork_pool_options pool = { .threads = 1 };
	struct evwork_loop_options loop = { .name = "front", .stall_ms = stall_ms,
		.budget_us = INT64_MAX };
	struct evwork_clock *clock;

	ck_assert_int_eq(evwork_clock_new(0, &clock), 0);
	loop.clock = clock;
	world_open_with(world, &pool, &loop);
	world->clock = clock;
}

/* The clock shows this when it returns: each stop before it is through. */
static void clock_to(struct world *world, int64_t ms)
{
	int64_t now = evwork_clock_now(world->clock);

	ck_assert_int_eq(evwork_clock_advance(world->clock, ms * MS - now), 0);
	while (evwork_clock_now(world->clock) != ms * MS)
		sys_yield();
}

static struct evwork_pool_stats pool_stats(struct world *world)
{
	struct evwork_pool_stats stats;

	ck_assert_int_eq(evwork_pool_stats(world->pool, &stats), 0);
	return stats;
}

static struct evwork_loop_stats loop_stats(struct world *world)
{
	struct evwork_loop_stats stats;

	ck_assert_int_eq(evwork_loop_stats(world->loop, &stats), 0);
	return stats;
}

/* A job with a name and a gate of its own. */
struct named {
	struct probe probe;
	struct gate gate;
	char name[EVWORK_NAME_MAX];
};

static const char *describe(struct evwork_job *job)
{
	return EVWORK_CONTAINER(job, struct named, probe.job)->name;
}

static void pass_gate(struct probe *probe)
{
	gate_pass(&EVWORK_CONTAINER(probe, struct named, probe)->gate);
}

static void named_init(struct named *named, struct evwork_lane *lane, const char *name)
{
	gate_init(&named->gate);
	probe_init(&named->probe, 0);
	named->probe.on_run = pass_gate;
	named->probe.job.lane = lane;
	snprintf(named->name, sizeof(named->name), "%s", name);
}

static void named_submit(struct world *world, struct named *named, struct evwork_lane *lane,
	const char *name)
{
	named_init(named, lane, name);
	ck_assert_int_eq(evwork_submit(world->loop, &named->probe.job), 0);
}

static void named_end(struct world *world, struct named *named)
{
	gate_open(&named->gate);
	world_run_until(world, &named->probe.dones, 1);
	gate_fini(&named->gate);
}

/* Workers. */

/* Work that runs longer than stall is reported when it has run for so long, then at each
 * doubling, with lane and time, in the log and in the counters of pool and lane; it goes on
 * and ends as ever. After that there is nothing more to say (S-CRASH-6). Which look sees it
 * first is known: the one at 25 ms. */
START_TEST(work_is_reported_at_each_doubling)
{
	struct gate_job job;
	struct world world;
	struct gate gate;

	record_begin(NULL);
	pool_world(&world, 1, STALL_MS);
	block_workers(&world, &gate, &job, 1);
	clock_to(&world, 124);
	ck_assert_int_eq(lines(), 0);
	ck_assert_uint_eq(pool_stats(&world).stalls, 0);
	clock_to(&world, 126);
	ck_assert_int_eq(lines(), 1);
	expect_line(0, "pool web: a job of lane default on worker 0 has run for 100 ms");
	ck_assert_uint_eq(pool_stats(&world).stalls, 1);
	ck_assert_uint_eq(pool_stats(&world).stall_reports, 1);
	clock_to(&world, 224);
	ck_assert_int_eq(lines(), 1);
	clock_to(&world, 424);
	ck_assert_int_eq(lines(), 2);
	expect_line(1, "pool web: a job of lane default on worker 0 has run for 200 ms");
	clock_to(&world, 1624);
	ck_assert_int_eq(lines(), 4);
	expect_line(2, "pool web: a job of lane default on worker 0 has run for 400 ms");
	expect_line(3, "pool web: a job of lane default on worker 0 has run for 800 ms");
	ck_assert_uint_eq(pool_stats(&world).stalls, 1);
	ck_assert_uint_eq(pool_stats(&world).stall_reports, 4);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).stalls, 1);
	ck_assert_int_eq(pool_stats(&world).busy, 1);
	unblock_workers(&world, &gate);
	ck_assert_int_eq(job.status, 0);
	clock_to(&world, 20000);
	ck_assert_int_eq(lines(), 4);
	ck_assert_uint_eq(pool_stats(&world).stall_reports, 4);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* The name is what the lane's describe function said of that job, and not of the one
 * before it on the same worker, whose lane is another (S-CRASH-6). */
START_TEST(work_is_reported_by_name)
{
	struct evwork_lane_options options = { .name = "thumbnails", .describe = describe };
	struct evwork_lane *lane;
	struct named cat, dog;
	struct gate_job plain;
	struct world world;
	struct gate gate;

	record_begin(NULL);
	pool_world(&world, 1, STALL_MS);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	named_submit(&world, &cat, lane, "cat.png");
	gate_await(&cat.gate, 1);
	clock_to(&world, 26);
	named_submit(&world, &dog, lane, "dog.png");
	named_end(&world, &cat);
	gate_await(&dog.gate, 1);
	/* Seen at 50 ms for the first time. */
	clock_to(&world, 149);
	ck_assert_int_eq(lines(), 0);
	clock_to(&world, 151);
	expect_line(0, "pool web: job \"dog.png\" of lane thumbnails on worker 0 has run for 100 ms");
	named_end(&world, &dog);
	block_workers(&world, &gate, &plain, 1);
	clock_to(&world, 300);
	expect_line(1, "pool web: a job of lane default on worker 0 has run for 100 ms");
	ck_assert_uint_eq(stats_of(lane).stalls, 1);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).stalls, 1);
	ck_assert_uint_eq(pool_stats(&world).stalls, 2);
	unblock_workers(&world, &gate);
	evwork_set_log(NULL, NULL);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

/* Each worker is watched by itself. */
START_TEST(each_worker_is_watched)
{
	struct gate_job jobs[3];
	struct world world;
	struct gate gate;
	int i, k;

	record_begin(NULL);
	pool_world(&world, 3, STALL_MS);
	block_workers(&world, &gate, jobs, 3);
	clock_to(&world, 126);
	ck_assert_int_eq(lines(), 3);
	for (i = 0; i < 3; i++) {
		char text[128];

		snprintf(text, sizeof(text),
			"pool web: a job of lane default on worker %d has run for 100 ms", i);
		for (k = 0; k < 3 && strcmp(record.texts[k], text); k++)
			;
		ck_assert_int_lt(k, 3);
	}
	ck_assert_uint_eq(pool_stats(&world).stalls, 3);
	unblock_workers(&world, &gate);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* A worker that is busy all the time with short work is none that stalls, even if it is the
 * same job each time (S-CRASH-6). */
START_TEST(many_short_are_not_one_long)
{
	struct world world;
	struct named jobs[2];
	int i;

	record_begin(NULL);
	pool_world(&world, 1, STALL_MS);
	named_submit(&world, &jobs[0], NULL, "");
	gate_await(&jobs[0].gate, 1);
	for (i = 1; i <= 40; i++) {
		clock_to(&world, 75 * i);
		named_submit(&world, &jobs[i % 2], NULL, "");
		named_end(&world, &jobs[(i + 1) % 2]);
		gate_await(&jobs[i % 2].gate, 1);
	}
	ck_assert_int_eq(lines(), 0);
	ck_assert_uint_eq(pool_stats(&world).stall_reports, 0);
	named_end(&world, &jobs[0]);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* What a clock that jumped has left behind is one report, and the next is at the next
 * doubling (S-CRASH-6). */
START_TEST(a_jump_is_one_report)
{
	struct gate_job job;
	struct world world;
	struct gate gate;

	record_begin(NULL);
	pool_world(&world, 1, STALL_MS);
	block_workers(&world, &gate, &job, 1);
	clock_to(&world, 26);
	/* Seen at 25 ms. */
	ck_assert_int_eq(evwork_clock_jump(world.clock, 999 * MS), 0);
	await_lines(1);
	clock_to(&world, 1624);
	ck_assert_int_eq(lines(), 1);
	expect_line(0, "pool web: a job of lane default on worker 0 has run for 1000 ms");
	clock_to(&world, 1700);
	ck_assert_int_eq(lines(), 2);
	expect_line(1, "pool web: a job of lane default on worker 0 has run for 1600 ms");
	unblock_workers(&world, &gate);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* Nobody asked: no report, and no thread that could make one (S-CRASH-6, S-OBS-1). */
START_TEST(off_by_default)
{
	int threads = support_thread_count();
	struct gate_job job;
	struct world world;
	struct gate gate;

	record_begin(NULL);
	pool_world(&world, 1, 0);
	ck_assert_int_eq(support_thread_count(), threads + 1);
	block_workers(&world, &gate, &job, 1);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 1000000 * MS), 0);
	clock_to(&world, 3000000);
	ck_assert_uint_eq(pool_stats(&world).stall_reports, 0);
	unblock_workers(&world, &gate);
	ck_assert_int_eq(lines(), 0);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* Without a log hook the counters still tell (S-CRASH-6, S-OBS-1). */
START_TEST(counted_without_a_log)
{
	struct gate_job job;
	struct world world;
	struct gate gate;

	pool_world(&world, 1, STALL_MS);
	block_workers(&world, &gate, &job, 1);
	clock_to(&world, 226);
	ck_assert_uint_eq(pool_stats(&world).stalls, 1);
	ck_assert_uint_eq(pool_stats(&world).stall_reports, 2);
	unblock_workers(&world, &gate);
	world_close(&world);
}
END_TEST

/* A negative time is refused, S-GEN-10. */
START_TEST(negative_is_refused)
{
	struct evwork_pool_options pool_options = { .stall_ms = -1 };
	struct evwork_loop_options loop_options = { .stall_ms = -1 };
	struct event_base *base = event_base_new();
	struct evwork_pool *pool;
	struct evwork_loop *loop;

	ck_assert_int_eq(evwork_pool_new(&pool_options, &pool), -EINVAL);
	ck_assert_int_eq(evwork_loop_new(base, NULL, &loop_options, &loop), -EINVAL);
	event_base_free(base);
}
END_TEST

/* Times out of all proportion are never reached, S-GEN-9. */
START_TEST(endless_stall)
{
	struct gate_job job;
	struct world world;
	struct gate gate;

	record_begin(NULL);
	pool_world(&world, 1, INT64_MAX);
	block_workers(&world, &gate, &job, 1);
	ck_assert_int_eq(evwork_clock_jump(world.clock, INT64_MAX), 0);
	unblock_workers(&world, &gate);
	ck_assert_int_eq(lines(), 0);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

static void end_thread(struct probe *probe)
{
	pass_gate(probe);
	pthread_exit(NULL);
}

static void panic(struct probe *probe)
{
	pass_gate(probe);
	evwork_panic(&probe->job, "no");
}

/* Work that ends in another way has ended, too; and the thread that takes over from one
 * that is gone is watched (S-CRASH-6, S-CRASH-2, S-CRASH-11). */
START_TEST(work_that_crashes_has_ended)
{
	void (*const ends[])(struct probe *probe) = { end_thread, panic };
	struct gate_job after;
	struct named job;
	struct world world;
	struct gate gate;

	record_begin(NULL);
	pool_world(&world, 1, STALL_MS);
	named_init(&job, NULL, "");
	job.probe.on_run = ends[_i];
	ck_assert_int_eq(evwork_submit(world.loop, &job.probe.job), 0);
	gate_await(&job.gate, 1);
	clock_to(&world, 126);
	ck_assert_int_eq(lines(), 1);
	named_end(&world, &job);
	ck_assert_int_eq(job.probe.status, -EOWNERDEAD);
	/* One more line may be about the thread. */
	record_begin(NULL);
	clock_to(&world, 5000);
	ck_assert_int_eq(lines(), 0);
	block_workers(&world, &gate, &after, 1);
	clock_to(&world, 5126);
	ck_assert_int_eq(lines(), 1);
	unblock_workers(&world, &gate);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

static void ignore_drop(struct evwork_job *job)
{
	(void)job;
}

/* Work whose job was abandoned still holds its worker, and is reported although its done
 * has come (S-CRASH-6, S-POOL-14). */
START_TEST(abandoned_work_is_reported)
{
	struct evwork_lane_options options = { .name = "thumbnails", .describe = describe };
	struct evwork_lane *lane;
	struct named job;
	struct world world;

	record_begin(NULL);
	pool_world(&world, 1, STALL_MS);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	named_init(&job, lane, "slow");
	job.probe.job.drop = ignore_drop;
	ck_assert_int_eq(evwork_job_set_detach(&job.probe.job, 1), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &job.probe.job), 0);
	gate_await(&job.gate, 1);
	ck_assert_int_eq(evwork_cancel(&job.probe.job), -EBUSY);
	world_run_until(&world, &job.probe.dones, 1);
	clock_to(&world, 126);
	expect_line(0, "pool web: job \"slow\" of lane thumbnails on worker 0 has run for 100 ms");
	gate_open(&job.gate);
	world_run(&world);
	gate_fini(&job.gate);
	evwork_set_log(NULL, NULL);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

/* On the system's clock. */

static struct gate *opened_by_third;

static void open_at_third(const char *text)
{
	(void)text;
	if (lines() == 3)
		gate_open(opened_by_third);
}

/* The third report is that of 4 * stall, and it is not early (S-CRASH-6, S-GEN-11). */
START_TEST(never_early)
{
	struct evwork_pool_options pool_options = { .threads = 1, .stall_ms = 4 };
	struct gate_job job;
	struct world world;
	struct gate gate;
	int64_t before;

	opened_by_third = &gate;
	record_begin(open_at_third);
	world_open_with(&world, &pool_options, NULL);
	gate_init(&gate);
	gate_job_init(&job, &gate);
	before = sys_now();
	ck_assert_int_eq(evwork_submit(world.loop, &job.job), 0);
	await_lines(3);
	/* Whatever each look was late: their ages double. */
	ck_assert_int_ge(sys_now() - before, 16 * MS);
	unblock_workers(&world, &gate);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* Loops. */

/* A callback that takes its time, by the manual clock. */
struct slow {
	struct world *world;
	int calls;
	bool jumps;              /* the clock stops for this callback */
};

static void take_time(struct slow *slow)
{
	slow->calls++;
	if (!slow->jumps) {
		/* This is not called at the time of any look, so it is seen at the next. */
		clock_to(slow->world, evwork_clock_now(slow->world->clock) / MS + 151);
		return;
	}
	while (lines() == 0)
		ck_assert_int_eq(evwork_clock_jump(slow->world->clock, 25 * MS), 0);
}

static void slow_post(void *arg)
{
	take_time(arg);
}

static void slow_done(struct probe *probe)
{
	take_time(probe->arg);
}

static void slow_watch(struct support_watch *watch)
{
	take_time(watch->arg);
}

static void slow_timer(struct support_timer *timer)
{
	take_time(timer->arg);
}

static void slow_join(struct support_join *join, struct evwork_group *group)
{
	(void)group;
	take_time(join->arg);
}

static void slow_close(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	take_time(arg);
}

static void slow_pool_close(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	take_time(arg);
}

enum { POST, DONE, WATCH, TIMER, JOIN, LOOP_CLOSED, POOL_CLOSED, CALLBACKS };

struct slow_scene {
	struct world world;
	struct slow slow;
	struct probe probe;
	struct support_watch watch;
	struct support_timer timer;
	struct support_join join;
	struct evwork_group *group;
	struct evwork_ctx *ctx;
};

static void slow_start(struct slow_scene *scene, int kind)
{
	struct evwork_loop *loop = scene->world.loop;

	switch (kind) {
	case POST:
		ck_assert_int_eq(evwork_post(loop, slow_post, &scene->slow), 0);
		break;
	case DONE:
		probe_init(&scene->probe, 0);
		scene->probe.on_done = slow_done;
		scene->probe.arg = &scene->slow;
		ck_assert_int_eq(evwork_submit(loop, &scene->probe.job), 0);
		break;
	case WATCH:
		support_watch_init(&scene->watch);
		scene->watch.on = slow_watch;
		scene->watch.arg = &scene->slow;
		ck_assert_int_eq(evwork_ctx_new(NULL, &scene->ctx), 0);
		ck_assert_int_eq(evwork_ctx_after(scene->ctx, loop, &scene->watch.watch), 0);
		ck_assert_int_eq(evwork_ctx_cancel(scene->ctx, 0), 0);
		break;
	case TIMER:
		scene->slow.jumps = true;
		support_timer_init(&scene->timer, loop);
		scene->timer.on = slow_timer;
		scene->timer.arg = &scene->slow;
		ck_assert_int_eq(evwork_timer_start(loop, &scene->timer.timer, 0), 0);
		break;
	case JOIN:
		scene->join.on = slow_join;
		scene->join.arg = &scene->slow;
		scene->join.frees = true;
		ck_assert_int_eq(evwork_group_new(loop, NULL, &scene->group), 0);
		ck_assert_int_eq(evwork_group_join(scene->group, support_join_fn, &scene->join), 0);
		break;
	case LOOP_CLOSED:
		scene->slow.jumps = true;
		ck_assert_int_eq(evwork_loop_close(loop, slow_close, &scene->slow), 0);
		break;
	default:
		scene->slow.jumps = true;
		ck_assert_int_eq(evwork_pool_close(scene->world.pool, EVWORK_DRAIN, loop,
			slow_pool_close, &scene->slow), 0);
		break;
	}
}

/* A callback that runs longer than stall is reported in the same way, with what it is
 * (S-CRASH-6). */
START_TEST(callback_is_reported)
{
	static const char *const texts[CALLBACKS] = {
		"loop front: a posted function has run for 100 ms",
		"loop front: the done of a job of lane default has run for 100 ms",
		"loop front: a watch or waiter has run for 100 ms",
		"loop front: a timer has run for ",
		"loop front: the join of a group has run for 100 ms",
		"loop front: the closed callback has run for ",
		"loop front: the closed callback of a pool has run for "
	};
	struct slow_scene scene;

	memset(&scene, 0, sizeof(scene));
	record_begin(NULL);
	loop_world(&scene.world, STALL_MS);
	scene.slow.world = &scene.world;
	slow_start(&scene, _i);
	world_run_until(&scene.world, &scene.slow.calls, 1);
	ck_assert_int_ge(lines(), 1);
	ck_assert_int_eq(strncmp(record.texts[0], texts[_i], strlen(texts[_i])), 0);
	ck_assert_uint_eq(loop_stats(&scene.world).stalls, 1);
	/* A report is counted before it is logged, and one may be on its way. */
	while (loop_stats(&scene.world).stall_reports > (unsigned)lines())
		sys_yield();
	ck_assert_uint_eq(loop_stats(&scene.world).stall_reports, (unsigned)lines());
	ck_assert_uint_eq(pool_stats(&scene.world).stalls, 0);
	evwork_ctx_unref(scene.ctx);
	world_run(&scene.world);
	evwork_set_log(NULL, NULL);
	world_close(&scene.world);
}
END_TEST

static void take_long(void *arg)
{
	clock_to(((struct slow *)arg)->world, 824);
}

/* … and at each doubling. */
START_TEST(callback_is_reported_at_each_doubling)
{
	struct world world;
	struct slow slow = { &world, 0, false };

	record_begin(NULL);
	loop_world(&world, STALL_MS);
	ck_assert_int_eq(evwork_post(world.loop, take_long, &slow), 0);
	world_run(&world);
	ck_assert_int_eq(lines(), 3);
	expect_line(1, "loop front: a posted function has run for 200 ms");
	expect_line(2, "loop front: a posted function has run for 400 ms");
	ck_assert_uint_eq(loop_stats(&world).stalls, 1);
	ck_assert_uint_eq(loop_stats(&world).stall_reports, 3);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

static void take_little(void *arg)
{
	struct slow *slow = arg;

	slow->calls++;
	clock_to(slow->world, slow->calls * 80);
}

/* Many short callbacks in one turn are no long one (S-CRASH-6). */
START_TEST(many_short_callbacks)
{
	struct world world;
	struct slow slow = { &world, 0, false };
	int i;

	record_begin(NULL);
	loop_world(&world, STALL_MS);
	for (i = 0; i < 30; i++)
		ck_assert_int_eq(evwork_post(world.loop, take_little, &slow), 0);
	world_run_until(&world, &slow.calls, 30);
	world_run(&world);
	ck_assert_int_eq(lines(), 0);
	ck_assert_uint_eq(loop_stats(&world).stall_reports, 0);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* Life. */

static void free_loop(void *arg)
{
	struct slow *slow = arg;

	slow->calls++;
	clock_to(slow->world, 126);
	ck_assert_int_eq(slow->jumps ? evwork_loop_free_force(slow->world->loop) :
		evwork_loop_free(slow->world->loop), 0);
	slow->world->loop = NULL;
	/* Nothing is said of it any more. */
	ck_assert_int_eq(evwork_clock_jump(slow->world->clock, 10000 * MS), 0);
}

/* A callback that was reported may free its loop, by force too (S-CRASH-6, S-GEN-5). */
START_TEST(loop_is_freed_while_reported)
{
	struct world world;
	struct slow slow = { &world, 0, _i == 1 };

	record_begin(NULL);
	loop_world(&world, STALL_MS);
	ck_assert_int_eq(evwork_post(world.loop, free_loop, &slow), 0);
	while (slow.calls == 0)
		one_pass(world.base);
	ck_assert_int_eq(lines(), 1);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

static struct gate in_hook;

static void wait_in_hook(const char *text)
{
	(void)text;
	gate_pass(&in_hook);
}

/* While the log hook takes its time with a report, the work that it is about may end, its
 * lane and pool be freed, if there is another that is watched, and all others go on; what
 * the hook holds is a copy (S-CRASH-6, S-OBS-1). */
START_TEST(pool_is_freed_while_reported)
{
	struct evwork_lane_options options = { .name = "thumbnails", .describe = describe };
	struct evwork_lane *lane;
	struct world first, second;
	struct named job;

	gate_init(&in_hook);
	record_begin(wait_in_hook);
	pool_world(&second, 1, STALL_MS);
	pool_world(&first, 1, STALL_MS);
	ck_assert_int_eq(evwork_lane_new(first.pool, &options, &lane), 0);
	named_submit(&first, &job, lane, "cat.png");
	gate_await(&job.gate, 1);
	clock_to(&first, 26);
	ck_assert_int_eq(evwork_clock_advance(first.clock, 99 * MS), 0);
	gate_await(&in_hook, 1);
	/* The clock has stopped here, as long as the hook is inside. */
	named_end(&first, &job);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&first);
	gate_open(&in_hook);
	clock_to(&second, 1000);
	ck_assert_int_eq(lines(), 1);
	expect_line(0, "pool web: job \"cat.png\" of lane thumbnails on worker 0 has run for 100 ms");
	world_close(&second);
	evwork_set_log(NULL, NULL);
	gate_fini(&in_hook);
}
END_TEST

static struct {
	struct world *world;
	int free_rc, new_rc, stats_rc;
} from_hook;

static void call_from_hook(const char *text)
{
	struct evwork_pool_stats stats;

	(void)text;
	from_hook.free_rc = evwork_pool_free(from_hook.world->pool);
	from_hook.stats_rc = evwork_pool_stats(from_hook.world->pool, &stats);
}

/* The hook is called without any lock: it may ask the pool that it is told of. Freeing
 * that would wait for the hook itself (S-OBS-1, S-GEN-6). */
START_TEST(hook_may_call)
{
	struct gate_job job;
	struct world world;
	struct gate gate;

	from_hook.world = &world;
	from_hook.free_rc = from_hook.stats_rc = 1;
	record_begin(call_from_hook);
	pool_world(&world, 1, STALL_MS);
	block_workers(&world, &gate, &job, 1);
	clock_to(&world, 126);
	ck_assert_int_eq(from_hook.free_rc, -EDEADLK);
	ck_assert_int_eq(from_hook.stats_rc, 0);
	unblock_workers(&world, &gate);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* A thread that was joined may be there for a moment. */
static void await_threads(int n)
{
	while (support_thread_count() != n)
		sys_yield();
}

/* One thread watches all, as long as there is anything to watch (S-SHUT-10). */
START_TEST(one_thread_for_all)
{
	int threads = support_thread_count(), round;
	struct world worlds[2];
	struct evwork_loop_options options = { .stall_ms = 50 };
	struct evwork_loop *loop;

	for (round = 0; round < 20; round++) {
		pool_world(&worlds[0], 1, STALL_MS);
		loop_world(&worlds[1], STALL_MS);
		ck_assert_int_eq(evwork_loop_new(worlds[0].base, NULL, &options, &loop), 0);
		await_threads(threads + 3);
		world_close(&worlds[1]);
		ck_assert_int_eq(evwork_loop_free(loop), 0);
		await_threads(threads + 2);
		world_close(&worlds[0]);
		await_threads(threads);
	}
}
END_TEST

/* Whatever fails in making them, nothing is left behind (S-CRASH-8). */
START_TEST(making_fails)
{
	struct evwork_pool_options pool_options = { .threads = 1, .stall_ms = 1000 };
	struct evwork_loop_options loop_options = { .stall_ms = 1000 };
	struct event_base *base = event_base_new();
	struct evwork_clock *clock;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	size_t blocks;
	int k, rc = -1, threads = support_thread_count(), fds = support_fd_count();

	ck_assert_int_eq(evwork_clock_new(0, &clock), 0);
	if (_i & 1)
		pool_options.clock = loop_options.clock = clock;
	blocks = sys_blocks();
	for (k = 1; rc != 0; k++) {
		fault_start(SYS_CALLS, k, _i & 2);
		rc = evwork_pool_new(&pool_options, &pool);
		fault_stop();
		ck_assert(rc == 0 || rc == -EAGAIN || rc == -ENOMEM);
		if (rc == 0)
			ck_assert_int_eq(evwork_pool_free(pool), 0);
		ck_assert_uint_eq(sys_blocks(), blocks);
		await_threads(threads);
	}
	ck_assert_int_gt(k, 8);
	for (k = 1, rc = -1; rc != 0; k++) {
		fault_start(SYS_CALLS, k, _i & 2);
		rc = evwork_loop_new(base, NULL, &loop_options, &loop);
		fault_stop();
		ck_assert(rc == 0 || rc == -EAGAIN || rc == -ENOMEM);
		if (rc == 0)
			ck_assert_int_eq(evwork_loop_free(loop), 0);
		ck_assert_uint_eq(sys_blocks(), blocks);
		await_threads(threads);
		ck_assert_int_eq(support_fd_count(), fds);
	}
	ck_assert_int_gt(k, 8);
	/* The watchdog's thread by itself. */
	fault_start(SYS_THREAD, 1, false);
	ck_assert_int_eq(evwork_loop_new(base, NULL, &loop_options, &loop), -EAGAIN);
	fault_stop();
	event_base_free(base);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

#define WRONG(what) do { if (what) _exit(1 + __LINE__ % 250); } while (0)

/* What a child makes anew is watched. */
static void child_is_watched(void)
{
	/* ThreadSanitizer does not let it have threads. */
#if !defined(__SANITIZE_THREAD__)
	struct world fresh;
	struct gate_job job;
	struct gate gate;

	record.count = 0;
	pool_world(&fresh, 1, STALL_MS);
	block_workers(&fresh, &gate, &job, 1);
	clock_to(&fresh, 126);
	WRONG(lines() != 1);
	unblock_workers(&fresh, &gate);
	world_close(&fresh);
#endif
}

/* It frees what it has inherited. */
static void child(struct world *world, size_t blocks)
{
	struct evwork_clock *clock = world->clock;

	WRONG(evwork_loop_free(world->loop) != 0);
	WRONG(evwork_pool_free(world->pool) != 0);
	event_base_free(world->base);
	WRONG(evwork_clock_free(clock) != 0);
	WRONG(sys_blocks() != blocks);
	child_is_watched();
	WRONG(sys_blocks() != blocks);
	_exit(0);
}

/* A child of a fork has no watchdog of its parent; it frees what is left of it, and has one
 * of its own when it asks for reports. The parent does not notice (S-SHUT-12, S-CRASH-6). */
START_TEST(fork_while_watched)
{
	struct evwork_loop_options loop_options = { .stall_ms = 1000 };
	struct evwork_pool_options pool_options = { .threads = 1, .name = "web",
		.stall_ms = STALL_MS };
	size_t blocks = sys_blocks();
	struct world world;
	struct gate_job job;
	struct gate gate;
	pid_t pid;

	if (!support_forks())
		return;
	record_begin(NULL);
	ck_assert_int_eq(evwork_clock_new(0, &pool_options.clock), 0);
	world_open_with(&world, &pool_options, &loop_options);
	world.clock = pool_options.clock;
	block_workers(&world, &gate, &job, 1);
	clock_to(&world, 26);
	pid = fork();
	if (pid == 0)
		child(&world, blocks);
	support_await_child(pid);
	ck_assert_int_eq(lines(), 0);
	clock_to(&world, 126);
	ck_assert_int_eq(lines(), 1);
	unblock_workers(&world, &gate);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* A race: work that ends at any moment of a report. */

struct runner {
	struct evwork_job job;
	char name[EVWORK_NAME_MAX];
	bool waits;
	int lingers, done;
};

static atomic_int mismatches, reports_seen;

/* What is said of lane and name is of one job: the name begins with that of the lane. */
static void check_names(const char *text)
{
	const char *name = strstr(text, "job \""), *lane = strstr(text, "of lane ");

	if (!name || !lane || strncmp(name + 5, lane + 8, 6) != 0)
		atomic_fetch_add(&mismatches, 1);
	atomic_fetch_add(&reports_seen, 1);
}

/* Every third runs until something was reported, and the others end while the watchdog
 * looks. */
static int runner_run(struct evwork_job *job)
{
	struct runner *runner = EVWORK_CONTAINER(job, struct runner, job);
	int seen = atomic_load(&reports_seen), i;

	for (i = runner->lingers; i > 0; i--)
		sys_yield();
	while (runner->waits && atomic_load(&reports_seen) == seen)
		sys_yield();
	return 0;
}

static void runner_done(struct evwork_job *job, int status)
{
	struct runner *runner = EVWORK_CONTAINER(job, struct runner, job);

	(void)status;
	/* It is not to be looked at by anyone. */
	memset(runner->name, '?', sizeof(runner->name));
	runner->done = 1;
}

static const char *runner_describe(struct evwork_job *job)
{
	return EVWORK_CONTAINER(job, struct runner, job)->name;
}

struct hurry {
	struct evwork_clock *clock;
	atomic_bool ends;
};

/* Each jump makes all that runs look as if it had run for too long. */
static void *hurry_clock(void *arg)
{
	struct hurry *hurry = arg;

	while (!atomic_load(&hurry->ends)) {
		evwork_clock_jump(hurry->clock, STALL_MS * MS);
		sys_yield();
	}
	return NULL;
}

#define RUNNERS 8

static void run_round(struct world *world, int round)
{
	static struct runner runners[RUNNERS];
	struct evwork_lane_options options = { .describe = runner_describe };
	struct evwork_lane *lanes[2];
	char name[2][EVWORK_NAME_MAX];
	int i;

	for (i = 0; i < 2; i++) {
		snprintf(name[i], sizeof(name[i]), "%c%05d", 'a' + i, round);
		options.name = name[i];
		ck_assert_int_eq(evwork_lane_new(world->pool, &options, &lanes[i]), 0);
	}
	for (i = 0; i < RUNNERS; i++) {
		struct runner *runner = &runners[i];

		evwork_job_init(&runner->job, runner_run, runner_done);
		snprintf(runner->name, sizeof(runner->name), "%s job %d", name[i % 2], i);
		runner->job.lane = lanes[i % 2];
		runner->waits = i % 3 == 0;
		runner->lingers = (round + i) % 8;
		runner->done = 0;
		ck_assert_int_eq(evwork_submit(world->loop, &runner->job), 0);
	}
	for (i = 0; i < RUNNERS; i++)
		world_run_until(world, &runners[i].done, 1);
	for (i = 0; i < 2; i++)
		while (evwork_lane_free(lanes[i]) != 0)
			one_pass(world->base);
}

/* A report that meets the end of its work, and the freeing of its lane, names one job
 * and the lane of that, or is not made (S-CRASH-6). */
START_TEST(names_are_of_one_job)
{
	int round, rounds = support_slow() > 1 ? 100 : 1000;
	struct world world;
	struct hurry hurry;
	pthread_t thread;

	atomic_store(&mismatches, 0);
	atomic_store(&reports_seen, 0);
	record_begin(check_names);
	pool_world(&world, 2, STALL_MS);
	hurry.clock = world.clock;
	atomic_init(&hurry.ends, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, hurry_clock, &hurry), 0);
	for (round = 0; round < rounds; round++)
		run_round(&world, round);
	atomic_store(&hurry.ends, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	evwork_set_log(NULL, NULL);
	support_note("%d reports", atomic_load(&reports_seen));
	ck_assert_int_eq(atomic_load(&mismatches), 0);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("stall");
	TCase *tcase = support_case(suite, "work");

	tcase_add_test(tcase, work_is_reported_at_each_doubling);
	tcase_add_test(tcase, work_is_reported_by_name);
	tcase_add_test(tcase, each_worker_is_watched);
	tcase_add_test(tcase, many_short_are_not_one_long);
	tcase_add_test(tcase, a_jump_is_one_report);
	tcase_add_test(tcase, off_by_default);
	tcase_add_test(tcase, counted_without_a_log);
	tcase_add_test(tcase, negative_is_refused);
	tcase_add_test(tcase, endless_stall);
	tcase_add_loop_test(tcase, work_that_crashes_has_ended, 0, 2);
	tcase_add_test(tcase, abandoned_work_is_reported);
	tcase_add_test(tcase, never_early);

	tcase = support_case(suite, "callbacks");
	tcase_add_loop_test(tcase, callback_is_reported, 0, CALLBACKS);
	tcase_add_test(tcase, callback_is_reported_at_each_doubling);
	tcase_add_test(tcase, many_short_callbacks);

	tcase = support_case(suite, "life");
	tcase_add_loop_test(tcase, loop_is_freed_while_reported, 0, 2);
	tcase_add_test(tcase, pool_is_freed_while_reported);
	tcase_add_test(tcase, hook_may_call);
	tcase_add_test(tcase, one_thread_for_all);
	tcase_add_loop_test(tcase, making_fails, 0, 4);
	tcase_add_test(tcase, fork_while_watched);
	tcase_add_test(tcase, names_are_of_one_job);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
