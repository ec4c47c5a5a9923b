/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Groups: making them, adding members, results, and what is refused. Limits are in
 * check_group_limit.c, what ends a group early in check_group_policy.c, the join in
 * check_group_join.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "group_scene.h"

#include <pthread.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Making. */

static int never(struct evwork_group *group, size_t index, int status, void *arg)
{
	(void)group;
	(void)index;
	(void)status;
	(void)arg;
	return 0;
}

/* Options that are refused. */
static const struct evwork_group_options bad_options[] = {
	{ .policy = (enum evwork_group_policy)(EVWORK_QUORUM + 1) },
	{ .policy = (enum evwork_group_policy)-1 },
	{ .limit = -1 },
	{ .policy = EVWORK_UNTIL },
	{ .policy = EVWORK_QUORUM },
	{ .policy = EVWORK_QUORUM, .members = 3 },
	{ .policy = EVWORK_QUORUM, .members = 3, .quorum = 4 },
	{ .policy = EVWORK_QUORUM, .quorum = 1 },
};

/* A group with bad options is refused and the result not touched; a quorum from 1 to n
 * is fine (S-GRP-1, S-FAN-5, S-GEN-8). */
START_TEST(new_refuses)
{
	struct evwork_group *mark = (struct evwork_group *)&mark, *group = mark;
	struct evwork_group_options fine[] = {
		{ .policy = EVWORK_QUORUM, .quorum = 1, .members = 1 },
		{ .policy = EVWORK_QUORUM, .quorum = 3, .members = 3 },
		{ .policy = EVWORK_UNTIL, .until = never },
	};
	struct world world;
	size_t i;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_group_new(NULL, NULL, &group), -EINVAL);
	ck_assert_int_eq(evwork_group_new(world.loop, NULL, NULL), -EINVAL);
	for (i = 0; i < LENGTH(bad_options); i++)
		ck_assert_int_eq(evwork_group_new(world.loop, &bad_options[i], &group), -EINVAL);
	ck_assert_ptr_eq(group, mark);
	for (i = 0; i < LENGTH(fine); i++) {
		ck_assert_int_eq(evwork_group_new(world.loop, &fine[i], &group), 0);
		ck_assert_int_eq(evwork_group_join(group, NULL, NULL), 0);
		world_run(&world);
		ck_assert_int_eq(evwork_group_free(group), 0);
	}
	world_close(&world);
}
END_TEST

/* Without a lane there is no group; one of another pool will do, and members run
 * there (S-GRP-1). */
START_TEST(new_needs_a_lane)
{
	struct evwork_group_options options = { 0 };
	struct evwork_group *group = NULL;
	struct support_join join = { 0 };
	struct support_member member;
	struct event_base *base = event_base_new();
	struct evwork_lane_stats stats;
	struct evwork_pool *pool;
	struct evwork_loop *loop;

	ck_assert_int_eq(evwork_pool_new(NULL, &pool), 0);
	ck_assert_int_eq(evwork_loop_new(base, NULL, NULL, &loop), 0);
	ck_assert_int_eq(evwork_group_new(loop, NULL, &group), -EINVAL);
	ck_assert_ptr_null(group);
	options.lane = evwork_pool_lane(pool);
	ck_assert_int_eq(evwork_group_new(loop, &options, &group), 0);
	support_member_init(&member, 0);
	ck_assert_int_eq(evwork_group_go(group, &member.member), 0);
	join.frees = true;
	ck_assert_int_eq(evwork_group_join(group, support_join_fn, &join), 0);
	ck_assert_int_ge(event_base_dispatch(base), 0);
	ck_assert_int_eq(join.calls, 1);
	ck_assert_int_eq(evwork_lane_stats(options.lane, &stats), 0);
	ck_assert_uint_eq(stats.accepted, 1);
	/* The lane was lent. */
	ck_assert_ptr_null(member.member.job.lane);
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	event_base_free(base);
}
END_TEST

/* A closing loop takes no group (S-GRP-1, S-SHUT-2). */
START_TEST(new_on_closing_loop)
{
	struct evwork_group *group = NULL;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	ck_assert_int_eq(evwork_group_new(world.loop, NULL, &group), -ESHUTDOWN);
	ck_assert_ptr_null(group);
	world_run(&world);
	world_close(&world);
}
END_TEST

struct elsewhere {
	struct evwork_loop *loop;
	struct evwork_group *group;
	struct support_member *members;
	struct support_join *join;
	int rc[4];
};

static void all_elsewhere(void *arg)
{
	struct elsewhere *e = arg;

	e->rc[0] = evwork_group_new(e->loop, NULL, &e->group);
	e->rc[1] = evwork_group_go(e->group, &e->members[0].member);
	e->rc[2] = evwork_group_try_go(e->group, &e->members[1].member);
	e->rc[3] = evwork_group_join(e->group, support_join_fn, e->join);
}

/* A group can be made, filled and joined by another thread; its callbacks come on the
 * loop's (S-GRP-1, S-GRP-5, S-GRP-16). */
START_TEST(everything_from_elsewhere)
{
	struct support_member members[2];
	struct support_join join = { .frees = true };
	struct elsewhere e = { .members = members, .join = &join };
	struct world world;
	int i;

	world_open(&world, 2);
	support_member_init(&members[0], 0);
	support_member_init(&members[1], 0);
	e.loop = world.loop;
	support_elsewhere(all_elsewhere, &e);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(e.rc[i], 0);
	world_run_until(&world, &join.calls, 1);
	ck_assert_int_eq(join.free_rc, 0);
	ck_assert(pthread_equal(join.thread, pthread_self()));
	for (i = 0; i < 2; i++) {
		expect_member_end(&members[i], 0, 1);
		ck_assert(pthread_equal(members[i].done_thread, pthread_self()));
		ck_assert_int_lt(members[i].order, join.order);
	}
	world_close(&world);
}
END_TEST

static void note_ctx(struct support_member *member)
{
	struct evwork_group *group = evwork_group_of(&member->member);
	struct evwork_ctx *ctx = member->member.job.ctx;
	void *value = NULL;

	member->value = (void *)(intptr_t)(group && ctx == evwork_group_ctx(group) &&
		evwork_ctx_value(ctx, member->arg, &value) == 1 && value == member);
}

/* Members get the group's own context, a child of the one given, and find their group
 * (S-GRP-1). */
START_TEST(members_get_the_context)
{
	static const int key;
	struct evwork_group_options options = { 0 };
	struct support_member member;
	struct evwork_ctx *ctx;
	struct scene scene;
	void *found = NULL;

	support_member_init(&member, 0);
	member.on_run = note_ctx;
	member.arg = (void *)(uintptr_t)&key;
	ck_assert_int_eq(evwork_ctx_with_value(NULL, &key, &member, NULL, &ctx), 0);
	options.ctx = ctx;
	scene_open(&scene, 1, &options);
	ck_assert_ptr_ne(evwork_group_ctx(scene.group), ctx);
	scene_go(&scene, &member);
	ck_assert_ptr_eq(evwork_group_of(&member.member), scene.group);
	scene_join(&scene);
	ck_assert_int_eq(evwork_group_take(scene.group, 0, &found), 0);
	ck_assert_ptr_nonnull(found);
	/* The end of the group is not that of its parent. */
	ck_assert_int_eq(evwork_ctx_err(ctx), 0);
	evwork_ctx_unref(ctx);
	scene_close(&scene);
}
END_TEST

/* Calls without an object (S-GEN-8, S-GRP-13, S-GRP-17). */
START_TEST(nothing_given)
{
	struct support_member member;
	struct scene scene;
	void *value = &scene;
	size_t index = 4711;
	int status = 4711;

	scene_open(&scene, 1, NULL);
	support_member_init(&member, 0);
	ck_assert_int_eq(evwork_group_go(NULL, &member.member), -EINVAL);
	ck_assert_int_eq(evwork_group_go(scene.group, NULL), -EINVAL);
	ck_assert_int_eq(evwork_group_try_go(NULL, &member.member), -EINVAL);
	ck_assert_int_eq(evwork_group_try_go(scene.group, NULL), -EINVAL);
	ck_assert_int_eq(evwork_group_set_limit(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_group_join(NULL, support_join_fn, &scene.join), -EINVAL);
	ck_assert_int_eq(evwork_group_wait(NULL, &status), -EINVAL);
	ck_assert_int_eq(evwork_group_cancel(NULL, 0), -EINVAL);
	ck_assert_int_eq(evwork_group_free(NULL), 0);
	ck_assert_ptr_null(evwork_group_ctx(NULL));
	ck_assert_ptr_null(evwork_group_of(NULL));
	ck_assert_ptr_null(evwork_group_of(&member.member));
	ck_assert_uint_eq(evwork_group_count(NULL), 0);
	ck_assert_int_eq(evwork_group_member(NULL, 0, &status), -EINVAL);
	ck_assert_int_eq(evwork_group_member(scene.group, 0, &status), -ENOENT);
	ck_assert_int_eq(evwork_group_take(NULL, 0, &value), -EINVAL);
	ck_assert_int_eq(evwork_group_take(scene.group, 0, NULL), -EINVAL);
	ck_assert_int_eq(evwork_group_take(scene.group, 0, &value), -ENOENT);
	ck_assert_int_eq(evwork_group_winner(NULL, &index), -EINVAL);
	ck_assert_int_eq(evwork_group_winner(scene.group, NULL), -EINVAL);
	ck_assert_int_eq(evwork_group_winner(scene.group, &index), -ENOENT);
	ck_assert_ptr_eq(value, &scene);
	ck_assert_uint_eq(index, 4711);
	ck_assert_int_eq(status, 4711);
	ck_assert_uint_eq(evwork_group_count(scene.group), 0);
	scene_join(&scene);
	ck_assert_int_eq(scene.join.status, 0);
	scene_close(&scene);
}
END_TEST

/* Adding. */

static void unused_drop(struct evwork_job *job)
{
	(void)job;
}

/* A member without work, with a context or a drop of its own, or marked as one that may
 * be left behind, is refused and gets no index (S-GRP-17, S-GRP-2). */
START_TEST(go_refuses_unfit)
{
	struct support_member member;
	struct scene scene;
	struct evwork_ctx *ctx;

	scene_open(&scene, 1, NULL);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	support_member_init(&member, 0);
	member.member.job.ctx = ctx;
	ck_assert_int_eq(evwork_group_go(scene.group, &member.member), -EINVAL);
	ck_assert_ptr_eq(member.member.job.ctx, ctx);
	member.member.job.ctx = NULL;
	member.member.job.drop = unused_drop;
	ck_assert_int_eq(evwork_group_go(scene.group, &member.member), -EINVAL);
	ck_assert_int_eq(evwork_group_try_go(scene.group, &member.member), -EINVAL);
	ck_assert_int_eq(evwork_job_set_detach(&member.member.job, 1), 0);
	member.member.job.drop = NULL;
	ck_assert_int_eq(evwork_group_go(scene.group, &member.member), -EINVAL);
	support_member_init(&member, 0);
	member.member.job.run = NULL;
	ck_assert_int_eq(evwork_group_go(scene.group, &member.member), -EINVAL);
	ck_assert_uint_eq(evwork_group_count(scene.group), 0);
	ck_assert_ptr_null(evwork_group_of(&member.member));
	evwork_ctx_unref(ctx);
	scene_join(&scene);
	ck_assert_int_eq(member.dones, 0);
	scene_close(&scene);
}
END_TEST

/* Indexes count the accepted members in the order of their go, whatever order they end
 * in; a member that runs or waits cannot be added again, an ended one can (S-GRP-2,
 * S-GEN-7). */
START_TEST(indexes_in_order_of_go)
{
	struct evwork_group_options options = { .limit = 2 };
	struct support_member members[3];
	struct gate gates[2];
	struct scene scene;
	int i;

	scene_open(&scene, 2, &options);
	for (i = 0; i < 3; i++)
		support_member_init(&members[i], 0);
	for (i = 0; i < 2; i++) {
		gate_init(&gates[i]);
		members[i].gate = &gates[i];
	}
	for (i = 0; i < 3; i++)
		scene_go(&scene, &members[i]);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(evwork_group_go(scene.group, &members[i].member), -EBUSY);
		ck_assert_int_eq(evwork_group_try_go(scene.group, &members[i].member), -EBUSY);
		expect_member_state(&scene, (size_t)i, EVWORK_MEMBER_ACTIVE, 0);
	}
	ck_assert_uint_eq(evwork_group_count(scene.group), 3);
	gate_open(&gates[1]);
	world_run_until(&scene.world, &members[2].dones, 1);
	gate_open(&gates[0]);
	world_run_until(&scene.world, &members[0].dones, 1);
	for (i = 0; i < 3; i++) {
		ck_assert_uint_eq(members[i].index, (size_t)i);
		expect_member_end(&members[i], 0, 1);
		expect_member_state(&scene, (size_t)i, EVWORK_MEMBER_OK, 0);
	}
	ck_assert_int_gt(members[0].order, members[2].order);
	scene_go(&scene, &members[1]);
	scene_join(&scene);
	ck_assert_uint_eq(members[1].index, 3);
	ck_assert_int_eq(members[1].dones, 2);
	ck_assert_uint_eq(evwork_group_count(scene.group), 4);
	for (i = 0; i < 2; i++)
		gate_fini(&gates[i]);
	scene_close(&scene);
}
END_TEST

/* Many members: each has its index and one end (S-GRP-2, S-GEN-2). */
START_TEST(many_members)
{
	enum { MANY = 1000 };
	struct evwork_group_options options = { .policy = EVWORK_COLLECT, .limit = 7 };
	static struct support_member members[MANY];
	struct scene scene;
	int i;

	scene_open(&scene, 4, &options);
	for (i = 0; i < MANY; i++) {
		support_member_init(&members[i], i % 3 ? 0 : i + 1);
		scene_go(&scene, &members[i]);
	}
	scene_join(&scene);
	for (i = 0; i < MANY; i++) {
		expect_member_end(&members[i], i % 3 ? 0 : i + 1, 1);
		ck_assert_uint_eq(members[i].index, (size_t)i);
		expect_member_state(&scene, (size_t)i, i % 3 ? EVWORK_MEMBER_OK : EVWORK_MEMBER_FAILED,
			i % 3 ? 0 : i + 1);
	}
	scene_close(&scene);
}
END_TEST

/* A member that adds another one. */
struct parent {
	struct support_member base;
	struct evwork_group *group;
	struct support_member child;
	int rc;
};

static void go_child(struct support_member *member)
{
	struct parent *parent = EVWORK_CONTAINER(member, struct parent, base);

	parent->rc = evwork_group_go(parent->group, &parent->child.member);
}

static void parent_init(struct parent *parent, struct evwork_group *group)
{
	support_member_init(&parent->base, 0);
	support_member_init(&parent->child, 0);
	parent->group = group;
	parent->rc = 1;
}

/* Members may be added from work and from a done, after the join was armed too, from the
 * done of the last one also; the join waits for them (S-GRP-16). */
START_TEST(go_from_members)
{
	struct parent from_run, from_done;
	struct scene scene;

	scene_open(&scene, 1, NULL);
	parent_init(&from_run, scene.group);
	from_run.base.on_run = go_child;
	parent_init(&from_done, scene.group);
	from_done.base.on_done = go_child;
	scene_go(&scene, &from_run.base);
	scene_go(&scene, &from_done.base);
	scene_join(&scene);
	ck_assert_int_eq(from_run.rc, 0);
	ck_assert_int_eq(from_done.rc, 0);
	expect_member_end(&from_run.child, 0, 1);
	expect_member_end(&from_done.child, 0, 1);
	ck_assert_int_gt(scene.join.order, from_done.child.order);
	ck_assert_int_gt(scene.join.order, from_run.child.order);
	scene_close(&scene);
}
END_TEST

/* A struct whose job ran once does not claim that it did when it ends unstarted in its
 * second use (S-GRP-8, S-POOL-3). */
START_TEST(ran_is_of_this_use)
{
	struct evwork_group_options options = { .limit = 1 };
	struct support_member first, second;
	struct scene scene;
	struct gate gate;

	gate_init(&gate);
	scene_open(&scene, 1, &options);
	support_member_init(&second, 0);
	scene_go(&scene, &second);
	world_run_until(&scene.world, &second.dones, 1);
	ck_assert_int_eq(second.ran, 1);
	support_member_init(&first, 0);
	first.gate = &gate;
	scene_go(&scene, &first);
	scene_go(&scene, &second);
	ck_assert_int_eq(evwork_group_cancel(scene.group, 0), 0);
	world_run_until(&scene.world, &second.dones, 2);
	ck_assert_int_eq(second.status, -ECANCELED);
	ck_assert_int_eq(second.ran, 0);
	ck_assert_int_eq(atomic_load(&second.runs), 1);
	gate_open(&gate);
	scene_join(&scene);
	gate_fini(&gate);
	scene_close(&scene);
}
END_TEST

/* Results. */

static int dropped[16];

static void drop_value(void *value)
{
	(*(int *)value)++;
}

/* A result is taken once; what nobody took is dropped when the group is freed, what a
 * failed member left at its end, each once (S-GRP-13). */
START_TEST(results)
{
	struct evwork_group_options options = { .policy = EVWORK_COLLECT, .drop = drop_value };
	struct support_member members[5];
	struct scene scene;
	void *value = NULL;
	int i;

	memset(dropped, 0, sizeof(dropped));
	scene_open(&scene, 2, &options);
	for (i = 0; i < 5; i++) {
		support_member_init(&members[i], i == 2 ? -EIO : i == 3 ? 7 : 0);
		members[i].value = i == 4 ? NULL : &dropped[i];
		scene_go(&scene, &members[i]);
	}
	scene_join(&scene);
	ck_assert_int_eq(dropped[2] + dropped[3], 2);
	ck_assert_int_eq(evwork_group_take(scene.group, 0, &value), 0);
	ck_assert_ptr_eq(value, &dropped[0]);
	value = NULL;
	for (i = 0; i < 6; i++)
		if (i != 1)
			ck_assert_int_eq(evwork_group_take(scene.group, (size_t)i, &value),
				-ENOENT);
	ck_assert_ptr_null(value);
	ck_assert_int_eq(dropped[0] + dropped[1], 0);
	scene_close(&scene);
	ck_assert_int_eq(dropped[0], 0);
	for (i = 1; i < 4; i++)
		ck_assert_int_eq(dropped[i], 1);
}
END_TEST

static void take_own(struct support_member *member)
{
	struct scene *scene = member->arg;
	void *value = NULL;

	if (evwork_group_take(scene->group, member->member.index, &value) == 0)
		*(int *)value += 10;
}

/* A result can be taken from the member's done on, and without a drop function the others
 * are simply forgotten (S-GRP-13). */
START_TEST(result_taken_in_done)
{
	struct support_member members[2];
	struct scene scene;
	int i;

	memset(dropped, 0, sizeof(dropped));
	scene_open(&scene, 1, NULL);
	for (i = 0; i < 2; i++) {
		support_member_init(&members[i], 0);
		members[i].value = &dropped[i];
		members[i].arg = &scene;
		members[i].on_done = i == 0 ? take_own : NULL;
		scene_go(&scene, &members[i]);
	}
	scene_join(&scene);
	scene_close(&scene);
	ck_assert_int_eq(dropped[0], 10);
	ck_assert_int_eq(dropped[1], 0);
}
END_TEST

static void add_making(Suite *suite)
{
	TCase *tcase = support_case(suite, "making");

	tcase_add_test(tcase, new_refuses);
	tcase_add_test(tcase, new_needs_a_lane);
	tcase_add_test(tcase, new_on_closing_loop);
	tcase_add_test(tcase, everything_from_elsewhere);
	tcase_add_test(tcase, members_get_the_context);
	tcase_add_test(tcase, nothing_given);
	tcase_add_test(tcase, go_refuses_unfit);
	tcase_add_test(tcase, indexes_in_order_of_go);
	tcase_add_test(tcase, many_members);
	tcase_add_test(tcase, go_from_members);
	tcase_add_test(tcase, ran_is_of_this_use);
	tcase_add_test(tcase, results);
	tcase_add_test(tcase, result_taken_in_done);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("group");

	add_making(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
