/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Groups: the join and when it comes, waiting, freeing, nesting, and the close of loop
 * and pool with members in every state.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* One worker in one member, and a group with a limit of two: so one member runs, one is
 * in the pool's queue, and one waits in the group. */
struct scene {
	struct world world;
	struct evwork_group *group;
	struct support_join join;
	struct support_member running, queued, waiting;
	struct gate gate;
	int loop_closed, pool_closed, closed_order;
};

static void scene_open(struct scene *scene, const struct evwork_group_options *options)
{
	memset(scene, 0, sizeof(*scene));
	gate_init(&scene->gate);
	world_open(&scene->world, 1);
	ck_assert_int_eq(evwork_group_new(scene->world.loop, options, &scene->group), 0);
	support_member_init(&scene->running, 0);
	support_member_init(&scene->queued, 0);
	support_member_init(&scene->waiting, 0);
	scene->running.gate = &scene->gate;
}

static void go(struct scene *scene, struct support_member *member)
{
	ck_assert_int_eq(evwork_group_go(scene->group, &member->member), 0);
}

static const struct evwork_group_options limit_two = { .limit = 2 };

static void scene_fill(struct scene *scene)
{
	go(scene, &scene->running);
	gate_await(&scene->gate, 1);
	go(scene, &scene->queued);
	go(scene, &scene->waiting);
}

static void arm(struct scene *scene)
{
	ck_assert_int_eq(evwork_group_join(scene->group, support_join_fn, &scene->join), 0);
}

static void finish(struct scene *scene)
{
	gate_open(&scene->gate);
	world_run_until(&scene->world, &scene->join.calls, 1);
	world_turns(&scene->world, 3);
	ck_assert_int_eq(scene->join.calls, 1);
}

static void scene_close(struct scene *scene)
{
	world_close(&scene->world);
	gate_fini(&scene->gate);
}

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	struct scene *scene = arg;

	(void)loop;
	scene->loop_closed++;
	scene->closed_order = atomic_fetch_add(&probe_done_counter, 1) + 1;
}

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct scene *scene = arg;

	(void)pool;
	(void)status;
	scene->pool_closed++;
	scene->closed_order = atomic_fetch_add(&probe_done_counter, 1) + 1;
}

static void expect_end(const struct support_member *member, int status, int ran)
{
	ck_assert_int_eq(member->dones, 1);
	ck_assert_int_eq(member->status, status);
	ck_assert_int_eq(member->ran, ran);
	ck_assert_int_eq(atomic_load(&member->runs), ran);
}

/* When it comes. */

/* The join comes once, on the loop's thread, after the last done, however often and from
 * where else it is asked for; then the group can be freed, once it has returned, and not
 * before (S-GRP-5, S-GRP-17, S-GRP-16). */
START_TEST(join_after_all)
{
	struct support_join second = { 0 };
	struct support_member late;
	struct scene scene;

	scene_open(&scene, &limit_two);
	scene_fill(&scene);
	ck_assert_int_eq(evwork_group_free(scene.group), -EBUSY);
	arm(&scene);
	ck_assert_int_eq(evwork_group_join(scene.group, support_join_fn, &second), -EALREADY);
	ck_assert_int_eq(evwork_group_free(scene.group), -EBUSY);
	world_turns(&scene.world, 5);
	ck_assert_int_eq(scene.join.calls, 0);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, 0);
	ck_assert_int_eq(second.calls, 0);
	ck_assert(pthread_equal(scene.join.thread, pthread_self()));
	ck_assert_int_gt(scene.join.order, scene.waiting.order);
	ck_assert_int_gt(scene.join.order, scene.queued.order);
	support_member_init(&late, 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &late.member), -ESHUTDOWN);
	ck_assert_int_eq(evwork_group_try_go(scene.group, &late.member), -ESHUTDOWN);
	ck_assert_int_eq(evwork_group_join(scene.group, NULL, NULL), -EALREADY);
	ck_assert_uint_eq(evwork_group_count(scene.group), 3);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

static const struct {
	struct evwork_group_options options;
	int status;
} empty[] = {
	{ { .policy = EVWORK_ALL }, 0 },
	{ { .policy = EVWORK_COLLECT }, 0 },
	{ { .policy = EVWORK_ANY }, -ENOENT },
	{ { .policy = EVWORK_QUORUM, .quorum = 1, .members = 1 }, -ENOENT },
};

/* Without members the join comes in a later turn, with a status by the policy; from the
 * call on no member is taken (S-GRP-6, S-GRP-9, S-GRP-16, S-GEN-3). */
START_TEST(join_without_members)
{
	struct scene scene;

	scene_open(&scene, &empty[_i].options);
	arm(&scene);
	ck_assert_int_eq(scene.join.calls, 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.running.member), -ESHUTDOWN);
	/* It keeps the loop going by itself. */
	world_run(&scene.world);
	ck_assert_int_eq(scene.join.calls, 1);
	ck_assert_int_eq(scene.join.status, empty[_i].status);
	ck_assert_int_eq(scene.join.cause, -ECANCELED);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

/* A join that is armed when all members have ended already comes in a later turn, with
 * what they decided (S-GRP-5, S-GRP-7). */
START_TEST(join_after_the_ends)
{
	struct scene scene;

	scene_open(&scene, NULL);
	scene.queued.result = -EIO;
	go(&scene, &scene.queued);
	world_run_until(&scene.world, &scene.queued.dones, 1);
	world_turns(&scene.world, 3);
	/* Its context is dead, but until it is joined it keeps the loop. */
	ck_assert_int_eq(evwork_loop_free(scene.world.loop), -EBUSY);
	arm(&scene);
	ck_assert_int_eq(scene.join.calls, 0);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -EIO);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

static void free_loop(struct support_join *join, struct evwork_group *group)
{
	struct scene *scene = join->arg;

	(void)group;
	ck_assert_int_eq(evwork_loop_free(scene->world.loop), 0);
	scene->world.loop = NULL;
}

/* The loop may be freed in the join callback and the group outlives it: what is asked of
 * it then needs neither loop nor pool (S-GRP-17, S-GRP-13, S-GRP-16, S-GEN-5). */
START_TEST(group_outlives_its_loop)
{
	struct scene scene;
	int status;

	scene_open(&scene, NULL);
	scene.join.on = free_loop;
	scene.join.arg = &scene;
	scene.queued.value = &scene;
	go(&scene, &scene.queued);
	arm(&scene);
	while (!scene.join.calls)
		ck_assert_int_ge(event_base_loop(scene.world.base, EVLOOP_ONCE), 0);
	ck_assert_int_eq(evwork_pool_free(scene.world.pool), 0);
	scene.world.pool = NULL;
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.waiting.member), -ESHUTDOWN);
	ck_assert_int_eq(evwork_group_try_go(scene.group, &scene.waiting.member), -ESHUTDOWN);
	ck_assert_int_eq(evwork_group_join(scene.group, NULL, NULL), -EALREADY);
	ck_assert_int_eq(evwork_group_wait(scene.group, &status), 0);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(evwork_group_set_limit(scene.group, 1), 0);
	ck_assert_int_eq(evwork_group_cancel(scene.group, 0), -EALREADY);
	ck_assert_int_eq(evwork_group_member(scene.group, 0, NULL), EVWORK_MEMBER_OK);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

static void free_group(struct support_post *post)
{
	struct scene *scene = post->arg;

	ck_assert_int_eq(evwork_group_free(scene->group), -EBUSY);
}

static void free_elsewhere(void *arg)
{
	struct scene *scene = arg;

	scene->join.free_rc = evwork_group_free(scene->group);
}

static void free_elsewhere_first(struct support_join *join, struct evwork_group *group)
{
	(void)group;
	support_elsewhere(free_elsewhere, join->arg);
	ck_assert_int_eq(join->free_rc, -EBUSY);
}

/* Freed in every state: EBUSY until the join callback has started, and on another thread
 * until it has returned; in it, it is fine (S-GRP-17). */
START_TEST(free_in_every_state)
{
	struct support_post post;
	struct scene scene;

	scene_open(&scene, &limit_two);
	ck_assert_int_eq(evwork_group_free(scene.group), -EBUSY);
	scene_fill(&scene);
	ck_assert_int_eq(evwork_group_free(scene.group), -EBUSY);
	support_post_init(&post);
	post.on = free_group;
	post.arg = &scene;
	ck_assert_int_eq(evwork_post(scene.world.loop, support_post_fn, &post), 0);
	arm(&scene);
	scene.join.on = free_elsewhere_first;
	scene.join.arg = &scene;
	scene.join.frees = true;
	finish(&scene);
	ck_assert_int_eq(post.calls, 1);
	ck_assert_int_eq(scene.join.free_rc, 0);
	scene_close(&scene);
}
END_TEST

static void go_waiting(struct support_post *post)
{
	struct scene *scene = post->arg;

	ck_assert_int_eq(evwork_group_go(scene->group, &scene->waiting.member), 0);
}

static void post_go(struct support_member *member)
{
	struct scene *scene = EVWORK_CONTAINER(member, struct scene, queued);

	ck_assert_int_eq(evwork_post(scene->world.loop, support_post_fn, member->arg), 0);
}

/* Between the last end and the join callback a member can still be added: the join waits
 * for it too, and is one (S-GRP-16). */
START_TEST(go_against_the_last_end)
{
	struct support_post post;
	struct scene scene;

	support_post_init(&post);
	post.on = go_waiting;
	post.arg = &scene;
	scene_open(&scene, NULL);
	scene.queued.arg = &post;
	scene.queued.on_done = post_go;
	go(&scene, &scene.queued);
	arm(&scene);
	finish(&scene);
	expect_end(&scene.waiting, 0, 1);
	ck_assert_int_gt(scene.waiting.order, post.order);
	ck_assert_int_gt(scene.join.order, scene.waiting.order);
	ck_assert_uint_eq(evwork_group_count(scene.group), 2);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

static void go_late(struct support_join *join, struct evwork_group *group)
{
	struct scene *scene = join->arg;

	ck_assert_int_eq(evwork_group_go(group, &scene->waiting.member), -ESHUTDOWN);
	ck_assert_int_eq(evwork_ctx_err(evwork_group_ctx(group)), -ECANCELED);
}

/* In the join callback no member is taken any more, and the context is dead (S-GRP-16,
 * S-GRP-9). */
START_TEST(go_in_the_join)
{
	struct scene scene;

	scene_open(&scene, NULL);
	scene.join.on = go_late;
	scene.join.arg = &scene;
	go(&scene, &scene.queued);
	arm(&scene);
	finish(&scene);
	ck_assert_int_eq(scene.waiting.dones, 0);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

#define MANY 300

/* Many members that never started end in order, no turn delivers more than a batch of
 * them, and the join comes last (S-GRP-8, S-GRP-5, S-DLV-5). */
START_TEST(many_unstarted)
{
	static struct support_member members[MANY];
	struct evwork_loop_options loop = { .batch = 4 };
	struct evwork_pool_options pool = { .threads = 1 };
	struct evwork_group_options options = { .limit = 1 };
	struct scene scene;
	struct evwork_loop_stats stats;
	int i;

	memset(&scene, 0, sizeof(scene));
	gate_init(&scene.gate);
	world_open_with(&scene.world, &pool, &loop);
	ck_assert_int_eq(evwork_group_new(scene.world.loop, &options, &scene.group), 0);
	support_member_init(&scene.running, 0);
	scene.running.gate = &scene.gate;
	go(&scene, &scene.running);
	gate_await(&scene.gate, 1);
	for (i = 0; i < MANY; i++) {
		support_member_init(&members[i], 0);
		go(&scene, &members[i]);
	}
	arm(&scene);
	ck_assert_int_eq(evwork_group_cancel(scene.group, 0), 0);
	world_run_until(&scene.world, &members[MANY - 1].dones, 1);
	ck_assert_int_eq(evwork_loop_stats(scene.world.loop, &stats), 0);
	ck_assert_uint_ge(stats.turns * 4, MANY);
	for (i = 0; i < MANY; i++) {
		expect_end(&members[i], -ECANCELED, 0);
		ck_assert_int_eq(members[i].order, i + 1);
	}
	ck_assert_int_eq(scene.join.calls, 0);
	finish(&scene);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

/* Waiting. */

struct waiter {
	struct evwork_group *group;
	pthread_t thread;
	int rc, status;
	atomic_bool over;
	struct gate *gate;
};

static void *wait_run(void *arg)
{
	struct waiter *waiter = arg;

	gate_pass(waiter->gate);
	waiter->rc = evwork_group_wait(waiter->group, &waiter->status);
	atomic_store(&waiter->over, true);
	return NULL;
}

/* Several threads wait for one group, joined by the user or by the first of them; all get
 * the status. On a loop's thread it is refused, and joins nothing (S-GRP-18, S-GRP-5,
 * S-GEN-6). */
START_TEST(several_wait)
{
	struct waiter waiters[3];
	struct scene scene;
	struct gate start;
	int i, status = 4711;

	scene_open(&scene, &limit_two);
	gate_init(&start);
	scene.running.result = -EIO;
	scene_fill(&scene);
	ck_assert_int_eq(evwork_group_wait(scene.group, &status), -EDEADLK);
	ck_assert_int_eq(status, 4711);
	if (_i == 0)
		arm(&scene);
	gate_open(&start);
	for (i = 0; i < 3; i++) {
		waiters[i] = (struct waiter){ .group = scene.group, .gate = &start, .rc = 1 };
		ck_assert_int_eq(pthread_create(&waiters[i].thread, NULL, wait_run, &waiters[i]),
			0);
	}
	gate_await(&start, 3);
	/* Without it the base has nothing to wait for, and looks at nothing. */
	ck_assert_int_eq(evwork_loop_hold(scene.world.loop), 0);
	gate_open(&scene.gate);
	for (i = 0; i < 3; i++)
		while (!atomic_load(&waiters[i].over))
			event_base_loop(scene.world.base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(evwork_loop_release(scene.world.loop), 0);
	for (i = 0; i < 3; i++) {
		pthread_join(waiters[i].thread, NULL);
		ck_assert_int_eq(waiters[i].rc, 0);
		ck_assert_int_eq(waiters[i].status, -EIO);
	}
	ck_assert_int_eq(scene.join.calls, _i == 0);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	gate_fini(&start);
	scene_close(&scene);
}
END_TEST

static void wait_for_group(struct support_member *member)
{
	int status = 4711, rc = evwork_group_wait(member->arg, &status);

	member->result = rc ? rc : status;
}

/* A worker of a pool that members run on may not wait; one of another pool may, with
 * which the inner group becomes a member of the outer, whose join waits for it
 * (S-GRP-19, S-GRP-18, S-GEN-6). */
START_TEST(nested_as_a_member)
{
	struct support_join inner_join = { 0 };
	struct evwork_group_options options = { 0 };
	struct support_member inner_member, refused;
	struct evwork_group *inner;
	struct evwork_pool *other;
	struct scene scene;

	scene_open(&scene, NULL);
	ck_assert_int_eq(evwork_pool_new(NULL, &other), 0);
	options.ctx = evwork_group_ctx(scene.group);
	options.lane = evwork_pool_lane(other);
	ck_assert_int_eq(evwork_group_new(scene.world.loop, &options, &inner), 0);
	support_member_init(&inner_member, 0);
	inner_member.gate = &scene.gate;
	ck_assert_int_eq(evwork_group_go(inner, &inner_member.member), 0);
	support_member_init(&refused, 0);
	refused.on_run = wait_for_group;
	refused.arg = inner;
	refused.member.job.lane = options.lane;
	ck_assert_int_eq(evwork_group_go(inner, &refused.member), 0);
	world_run_until(&scene.world, &refused.dones, 1);
	ck_assert_int_eq(refused.status, -EDEADLK);
	ck_assert_int_eq(evwork_group_join(inner, support_join_fn, &inner_join), 0);
	scene.queued.on_run = wait_for_group;
	scene.queued.arg = inner;
	go(&scene, &scene.queued);
	arm(&scene);
	world_turns(&scene.world, 5);
	ck_assert_int_eq(scene.join.calls, 0);
	finish(&scene);
	ck_assert_int_eq(inner_join.calls, 1);
	ck_assert_int_lt(inner_join.order, scene.join.order);
	/* The inner error is that of the member that waited for it. */
	ck_assert_int_eq(scene.join.status, -EDEADLK);
	ck_assert_int_eq(evwork_group_free(inner), 0);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	ck_assert_int_eq(evwork_pool_free(other), 0);
	scene_close(&scene);
}
END_TEST

/* Otherwise the outer join does not wait for the inner group, but kills its context, as
 * cancel of the outer does before it returns (S-GRP-19, S-CTX-7). */
START_TEST(nested_beside)
{
	struct support_join inner_join = { 0 };
	struct evwork_group_options options = { 0 };
	struct evwork_group *inner;
	struct scene scene;

	scene_open(&scene, NULL);
	options.ctx = evwork_group_ctx(scene.group);
	ck_assert_int_eq(evwork_group_new(scene.world.loop, &options, &inner), 0);
	ck_assert_int_eq(evwork_group_go(inner, &scene.running.member), 0);
	gate_await(&scene.gate, 1);
	ck_assert_int_eq(evwork_group_join(inner, support_join_fn, &inner_join), 0);
	if (_i == 0) {
		ck_assert_int_eq(evwork_group_cancel(scene.group, -EIO), 0);
		ck_assert_int_eq(evwork_ctx_err(evwork_group_ctx(inner)), -ECANCELED);
		ck_assert_int_eq(evwork_ctx_cause(evwork_group_ctx(inner)), -EIO);
	}
	arm(&scene);
	world_run_until(&scene.world, &scene.join.calls, 1);
	ck_assert_int_eq(scene.join.status, 0);
	ck_assert_int_eq(inner_join.calls, 0);
	ck_assert_int_eq(evwork_ctx_err(evwork_group_ctx(inner)), -ECANCELED);
	gate_open(&scene.gate);
	world_run_until(&scene.world, &inner_join.calls, 1);
	ck_assert_int_eq(inner_join.status, -ECANCELED);
	ck_assert_int_eq(evwork_group_free(inner), 0);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

/* Closing. */

/* The loop closes with members waiting, queued and running: the group is cancelled, what
 * runs ends, then comes the join, then the loop is closed, whether the join was armed
 * before or after the close (S-GRP-5, S-GRP-8, S-SHUT-7, S-SHUT-8). */
START_TEST(loop_closes)
{
	struct scene scene;

	scene_open(&scene, &limit_two);
	scene_fill(&scene);
	if (_i == 0)
		arm(&scene);
	ck_assert_int_eq(evwork_loop_close(scene.world.loop, on_loop_closed, &scene), 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.waiting.member), -EBUSY);
	if (_i == 1)
		arm(&scene);
	world_run_until(&scene.world, &scene.waiting.dones, 1);
	world_run_until(&scene.world, &scene.queued.dones, 1);
	ck_assert_int_eq(scene.loop_closed, 0);
	gate_open(&scene.gate);
	world_run(&scene.world);
	ck_assert_int_eq(scene.join.calls, 1);
	ck_assert_int_eq(scene.join.status, -ECANCELED);
	ck_assert_int_eq(scene.loop_closed, 1);
	ck_assert_int_gt(scene.closed_order, scene.join.order);
	expect_end(&scene.running, 0, 1);
	ck_assert_int_eq(scene.running.seen, -ECANCELED);
	expect_end(&scene.queued, -ECANCELED, 0);
	expect_end(&scene.waiting, -ECANCELED, 0);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

/* A group that nobody joins does not keep a closing loop from its end, and may be freed:
 * as soon as join says that it is too late, or also after the loop (S-GRP-17,
 * S-SHUT-7). */
START_TEST(loop_closes_unjoined)
{
	struct scene scene;
	int status = 4711;

	scene_open(&scene, &limit_two);
	if (_i > 0)
		scene_fill(&scene);
	/* With a context that died before, too. */
	if (_i == 2) {
		ck_assert_int_eq(evwork_group_cancel(scene.group, 0), 0);
		world_run_until(&scene.world, &scene.waiting.dones, 1);
	}
	ck_assert_int_eq(evwork_loop_close(scene.world.loop, on_loop_closed, &scene), 0);
	ck_assert_int_eq(evwork_group_free(scene.group), -EBUSY);
	if (_i == 3) {
		gate_open(&scene.gate);
		world_run_until(&scene.world, &scene.loop_closed, 1);
	}
	if (_i == 0) {
		ck_assert_int_eq(evwork_group_join(scene.group, NULL, NULL), -ESHUTDOWN);
		ck_assert_int_eq(evwork_group_free(scene.group), 0);
	}
	gate_open(&scene.gate);
	world_run(&scene.world);
	ck_assert_int_eq(scene.loop_closed, 1);
	ck_assert_int_eq(evwork_loop_free(scene.world.loop), 0);
	scene.world.loop = NULL;
	if (_i > 0) {
		ck_assert_int_eq(evwork_group_go(scene.group, &scene.queued.member), -ESHUTDOWN);
		ck_assert_int_eq(evwork_group_join(scene.group, support_join_fn, &scene.join),
			-ESHUTDOWN);
		ck_assert_int_eq(evwork_group_wait(scene.group, &status), -ESHUTDOWN);
		ck_assert_int_eq(status, 4711);
		ck_assert_int_eq(evwork_group_free(scene.group), 0);
		expect_end(&scene.waiting, -ECANCELED, 0);
	}
	ck_assert_int_eq(scene.join.calls, 0);
	scene_close(&scene);
}
END_TEST

static const int modes[] = { EVWORK_DRAIN, EVWORK_CANCEL_QUEUED, EVWORK_CANCEL_ALL };

static void note_err(struct support_member *member)
{
	member->obeys = true;
}

/* The pool closes with members waiting, queued and running: DRAIN still runs all of them,
 * the others end them with ECANCELED; then comes the join, and after it the end of the
 * pool (S-DLV-15, S-GRP-5, S-SHUT-1, S-SHUT-2, S-SHUT-5). */
START_TEST(pool_closes)
{
	struct evwork_group_options options = { .limit = 2, .policy = EVWORK_COLLECT };
	bool drains = modes[_i] == EVWORK_DRAIN;
	struct support_member late;
	struct scene scene;

	scene_open(&scene, &options);
	scene.running.on_run = note_err;
	scene_fill(&scene);
	arm(&scene);
	ck_assert_int_eq(evwork_pool_close(scene.world.pool, (enum evwork_close_mode)modes[_i],
		scene.world.loop, on_pool_closed, &scene), 0);
	support_member_init(&late, 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &late.member), -ESHUTDOWN);
	ck_assert_uint_eq(evwork_group_count(scene.group), 3);
	gate_open(&scene.gate);
	world_run_until(&scene.world, &scene.pool_closed, 1);
	ck_assert_int_eq(scene.join.calls, 1);
	ck_assert_int_gt(scene.closed_order, scene.join.order);
	ck_assert_int_gt(scene.join.order, scene.waiting.order);
	expect_end(&scene.running, modes[_i] == EVWORK_CANCEL_ALL ? -ECANCELED : 0, 1);
	expect_end(&scene.queued, drains ? 0 : -ECANCELED, drains);
	expect_end(&scene.waiting, drains ? 0 : -ECANCELED, drains);
	ck_assert_int_eq(scene.join.status, drains ? 0 : -ECANCELED);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

static void go_next(struct support_member *member)
{
	struct scene *scene = member->arg;

	member->value = (void *)(intptr_t)evwork_group_go(scene->group, &scene->queued.member);
}

/* While the pool drains a member on one of its workers may add another one (S-SHUT-2,
 * S-GRP-16, S-DLV-15). */
START_TEST(drain_lets_members_go_on)
{
	struct evwork_group_options options = { .limit = _i };
	struct scene scene;

	scene_open(&scene, &options);
	scene.running.on_run = go_next;
	scene.running.arg = &scene;
	go(&scene, &scene.running);
	gate_await(&scene.gate, 1);
	arm(&scene);
	ck_assert_int_eq(evwork_pool_close(scene.world.pool, EVWORK_DRAIN, scene.world.loop,
		on_pool_closed, &scene), 0);
	gate_open(&scene.gate);
	world_run_until(&scene.world, &scene.pool_closed, 1);
	ck_assert_ptr_null(scene.running.value);
	expect_end(&scene.queued, 0, 1);
	ck_assert_int_eq(scene.join.calls, 1);
	ck_assert_int_gt(scene.closed_order, scene.join.order);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

/* The pool is closed after the join also if the last members never started, one after the
 * other in later turns (S-DLV-15). */
START_TEST(pool_closed_after_the_unstarted)
{
	static struct support_member members[20];
	struct evwork_group_options options = { .limit = 1 };
	struct scene scene;
	int i;

	scene_open(&scene, &options);
	go(&scene, &scene.running);
	gate_await(&scene.gate, 1);
	for (i = 0; i < 20; i++) {
		support_member_init(&members[i], 0);
		go(&scene, &members[i]);
	}
	arm(&scene);
	ck_assert_int_eq(evwork_pool_close(scene.world.pool, EVWORK_DRAIN, scene.world.loop,
		on_pool_closed, &scene), 0);
	ck_assert_int_eq(evwork_group_cancel(scene.group, 0), 0);
	gate_open(&scene.gate);
	world_run_until(&scene.world, &scene.pool_closed, 1);
	ck_assert_int_eq(scene.join.calls, 1);
	ck_assert_int_gt(scene.closed_order, scene.join.order);
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(members[i].dones, 1);
	ck_assert_int_eq(evwork_group_free(scene.group), 0);
	scene_close(&scene);
}
END_TEST

/* Failures. */

struct sweep {
	struct evwork_group_options options;
	struct support_member members[12];
	struct support_join join;
};

/* Makes a group, fills and joins it; -ENOMEM is the only refusal. Returns accepted
 * members, or -1 if there is no group. */
static int sweep_once(struct sweep *sweep, struct world *world)
{
	struct evwork_group *group = NULL;
	int i, rc, accepted = 0;

	memset(&sweep->join, 0, sizeof(sweep->join));
	sweep->join.frees = true;
	rc = evwork_group_new(world->loop, &sweep->options, &group);
	if (rc) {
		ck_assert_int_eq(rc, -ENOMEM);
		ck_assert_ptr_null(group);
		return -1;
	}
	for (i = 0; i < 12; i++) {
		support_member_init(&sweep->members[i], i == 3 ? -EIO : 0);
		rc = evwork_group_go(group, &sweep->members[i].member);
		sweep->members[i].arg = rc == 0 ? sweep : NULL;
		accepted += rc == 0;
		if (rc)
			ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert_uint_eq(evwork_group_count(group), (size_t)accepted);
	ck_assert_int_eq(evwork_group_join(group, support_join_fn, &sweep->join), 0);
	world_run_until(world, &sweep->join.calls, 1);
	ck_assert_int_eq(sweep->join.free_rc, 0);
	for (i = 0; i < 12; i++)
		ck_assert_int_eq(sweep->members[i].dones, sweep->members[i].arg != NULL);
	return accepted;
}

/* With any one call to the system failing, and with all from any one on, a group is
 * refused or made, a member refused or has one end, and the join comes once; nothing is
 * left (S-GEN-14, S-GEN-2, S-GRP-5). */
START_TEST(failures_are_survived)
{
	struct sweep sweep = { .options = { .policy = EVWORK_COLLECT, .limit = _i } };
	int kind, k, onwards, refused = 0, reached;
	struct world world;

	world_open(&world, 2);
	for (kind = 0; kind < SYS_CALLS; kind++) {
		for (onwards = 0; onwards < 2; onwards++) {
			k = 0;
			do {
				k++;
				fault_start((enum sys_call)kind, k, onwards);
				refused += sweep_once(&sweep, &world) < 12;
				reached = fault_stop();
			} while (reached >= k);
		}
	}
	/* At least a group's memory, lock and records. */
	ck_assert_int_ge(refused, 6);
	world_close(&world);
}
END_TEST

static void add_join(Suite *suite)
{
	TCase *tcase = support_case(suite, "join");

	tcase_add_test(tcase, join_after_all);
	tcase_add_loop_test(tcase, join_without_members, 0, sizeof(empty) / sizeof(empty[0]));
	tcase_add_test(tcase, join_after_the_ends);
	tcase_add_test(tcase, group_outlives_its_loop);
	tcase_add_test(tcase, free_in_every_state);
	tcase_add_test(tcase, go_against_the_last_end);
	tcase_add_test(tcase, go_in_the_join);
	tcase_add_test(tcase, many_unstarted);
	tcase_add_loop_test(tcase, several_wait, 0, 2);
	tcase_add_test(tcase, nested_as_a_member);
	tcase_add_loop_test(tcase, nested_beside, 0, 2);
}

static void add_closing(Suite *suite)
{
	TCase *tcase = support_case(suite, "closing");

	tcase_add_loop_test(tcase, loop_closes, 0, 2);
	tcase_add_loop_test(tcase, loop_closes_unjoined, 0, 4);
	tcase_add_loop_test(tcase, pool_closes, 0, 3);
	tcase_add_loop_test(tcase, drain_lets_members_go_on, 0, 2);
	tcase_add_test(tcase, pool_closed_after_the_unstarted);
	tcase_add_loop_test(tcase, failures_are_survived, 0, 2);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("group_join");

	add_join(suite);
	add_closing(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
