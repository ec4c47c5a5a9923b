/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Groups: how many members run at once, and lanes that are full.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "group_scene.h"

struct census {
	atomic_int inside, most;
};

static void count_inside(struct support_member *member)
{
	struct census *census = member->arg;
	int now = atomic_fetch_add(&census->inside, 1) + 1, most = atomic_load(&census->most);
	int i;

	while (now > most && !atomic_compare_exchange_weak(&census->most, &most, now))
		;
	for (i = 0; i < 100; i++)
		sys_relax();
	atomic_fetch_sub(&census->inside, 1);
}

/* At most `limit` members run, whether it comes from the options or was set; and without
 * one, which is below 0 or 0 in the options, as many as there are workers do (S-GRP-3). */
START_TEST(limit_holds)
{
	enum { MANY = 200 };
	static struct support_member members[MANY];
	struct evwork_group_options options = { .limit = _i == 0 ? 2 : 0 };
	struct census census;
	struct scene scene;
	int i;

	atomic_init(&census.inside, 0);
	atomic_init(&census.most, 0);
	scene_open(&scene, 4, &options);
	if (_i == 1)
		ck_assert_int_eq(evwork_group_set_limit(scene.group, 2), 0);
	for (i = 0; i < MANY; i++) {
		support_member_init(&members[i], 0);
		members[i].on_run = count_inside;
		members[i].arg = &census;
		scene_go(&scene, &members[i]);
	}
	scene_join(&scene);
	for (i = 0; i < MANY; i++)
		expect_member_end(&members[i], 0, 1);
	ck_assert_int_le(atomic_load(&census.most), 2);
	scene_close(&scene);
}
END_TEST

/* No limit: all members are with the pool at once (S-GRP-3). */
START_TEST(no_limit)
{
	struct evwork_group_options options = { .limit = _i == 0 ? 0 : 1 };
	struct support_member members[4];
	struct scene scene;
	struct gate gate;
	int i;

	gate_init(&gate);
	scene_open(&scene, 4, &options);
	if (_i == 1)
		ck_assert_int_eq(evwork_group_set_limit(scene.group, -5), 0);
	for (i = 0; i < 4; i++) {
		support_member_init(&members[i], 0);
		members[i].gate = &gate;
		ck_assert_int_eq(evwork_group_try_go(scene.group, &members[i].member), 0);
	}
	gate_await(&gate, 4);
	gate_open(&gate);
	scene_join(&scene);
	gate_fini(&gate);
	scene_close(&scene);
}
END_TEST

/* Above the limit go waits, oldest first, and try_go is refused, with nothing changed
 * (S-GRP-3). */
START_TEST(limit_waits_in_order)
{
	struct evwork_group_options options = { .limit = 1 };
	struct support_member members[6], refused;
	struct scene scene;
	struct gate gate;
	int i;

	gate_init(&gate);
	scene_open(&scene, 3, &options);
	for (i = 0; i < 6; i++) {
		support_member_init(&members[i], 0);
		members[i].gate = i == 0 ? &gate : NULL;
		scene_go(&scene, &members[i]);
	}
	gate_await(&gate, 1);
	support_member_init(&refused, 0);
	ck_assert_int_eq(evwork_group_try_go(scene.group, &refused.member), -EAGAIN);
	ck_assert_uint_eq(evwork_group_count(scene.group), 6);
	ck_assert_ptr_null(evwork_group_of(&refused.member));
	world_turns(&scene.world, 5);
	for (i = 1; i < 6; i++)
		ck_assert_int_eq(atomic_load(&members[i].runs), 0);
	/* What waits in the group is not on its way through a pool. */
	ck_assert_int_eq(evwork_cancel(&members[3].member.job), -ESRCH);
	gate_open(&gate);
	scene_join(&scene);
	for (i = 1; i < 6; i++) {
		expect_member_end(&members[i], 0, 1);
		ck_assert_int_gt(members[i].order, members[i - 1].order);
	}
	ck_assert_int_eq(refused.dones, 0);
	gate_fini(&gate);
	scene_close(&scene);
}
END_TEST

/* With limit 0 nothing may start, neither by go nor by try_go; it is not an end, and the
 * limit may be changed again (S-GRP-3, S-GRP-4). */
START_TEST(limit_zero)
{
	struct support_member member;
	struct scene scene;

	scene_open(&scene, 1, NULL);
	support_member_init(&member, 0);
	ck_assert_int_eq(evwork_group_set_limit(scene.group, 0), 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &member.member), -EAGAIN);
	ck_assert_int_eq(evwork_group_try_go(scene.group, &member.member), -EAGAIN);
	ck_assert_uint_eq(evwork_group_count(scene.group), 0);
	ck_assert_int_eq(evwork_group_set_limit(scene.group, 1), 0);
	scene_go(&scene, &member);
	scene_join(&scene);
	expect_member_end(&member, 0, 1);
	scene_close(&scene);
}
END_TEST

static void try_limit(struct support_member *member)
{
	struct scene *scene = member->arg;

	member->value = (void *)(intptr_t)-evwork_group_set_limit(scene->group, 5);
}

/* The limit cannot be changed while a member waits, runs, or is in its done; the old one
 * stays (S-GRP-4). */
START_TEST(limit_is_busy)
{
	struct evwork_group_options options = { .limit = 1 };
	struct support_member members[2];
	struct scene scene;
	struct gate gate;
	int i;

	gate_init(&gate);
	scene_open(&scene, 2, &options);
	for (i = 0; i < 2; i++) {
		support_member_init(&members[i], 0);
		members[i].gate = &gate;
		members[i].arg = &scene;
		members[i].on_done = try_limit;
		scene_go(&scene, &members[i]);
		ck_assert_int_eq(evwork_group_set_limit(scene.group, 2), -EBUSY);
		ck_assert_int_eq(evwork_group_set_limit(scene.group, 0), -EBUSY);
	}
	gate_await(&gate, 1);
	ck_assert_int_eq(gate.arrived, 1);
	gate_open(&gate);
	world_run_until(&scene.world, &members[1].dones, 1);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq((int)(intptr_t)members[i].value, EBUSY);
	ck_assert_int_eq(evwork_group_set_limit(scene.group, 2), 0);
	scene_join(&scene);
	gate_fini(&gate);
	scene_close(&scene);
}
END_TEST

/* A lane of the given length, whose only worker waits in a gate. */
struct narrow {
	struct scene scene;
	struct gate gate;
	struct gate_job blocker;
};

static void narrow_open(struct narrow *narrow, int limit, enum evwork_group_policy policy)
{
	struct evwork_pool_options pool = { .threads = 1, .lane = { .queue_limit = 1 } };
	struct evwork_group_options options = { .limit = limit, .policy = policy };

	memset(narrow, 0, sizeof(*narrow));
	gate_init(&narrow->gate);
	world_open_with(&narrow->scene.world, &pool, NULL);
	ck_assert_int_eq(evwork_group_new(narrow->scene.world.loop, &options,
		&narrow->scene.group), 0);
	gate_job_init(&narrow->blocker, &narrow->gate);
}

static void narrow_block(struct narrow *narrow)
{
	ck_assert_int_eq(evwork_submit(narrow->scene.world.loop, &narrow->blocker.job), 0);
	gate_await(&narrow->gate, 1);
}

static void narrow_close(struct narrow *narrow)
{
	scene_close(&narrow->scene);
	gate_fini(&narrow->gate);
}

/* A full lane refuses a member that may start, and nothing of it stays (S-GRP-2,
 * S-GRP-3). */
START_TEST(lane_full)
{
	struct support_member members[2];
	struct narrow narrow;

	narrow_open(&narrow, 0, EVWORK_ALL);
	narrow_block(&narrow);
	support_member_init(&members[0], 0);
	support_member_init(&members[1], 0);
	scene_go(&narrow.scene, &members[0]);
	ck_assert_int_eq(evwork_group_go(narrow.scene.group, &members[1].member), -EAGAIN);
	ck_assert_uint_eq(evwork_group_count(narrow.scene.group), 1);
	ck_assert_ptr_null(members[1].member.job.lane);
	ck_assert_ptr_null(members[1].member.job.ctx);
	ck_assert_ptr_null(members[1].member.job.done);
	gate_open(&narrow.gate);
	world_run_until(&narrow.scene.world, &members[0].dones, 1);
	scene_go(&narrow.scene, &members[1]);
	scene_join(&narrow.scene);
	ck_assert_uint_eq(members[1].index, 1);
	ck_assert_int_eq(narrow.scene.join.status, 0);
	narrow_close(&narrow);
}
END_TEST

/* A second pool whose only lane is full: its worker is blocked, its queue has one job. */
struct jam {
	struct evwork_pool *pool;
	struct gate gate;
	struct gate_job blocker;
	struct probe filler;
};

static void jam_open(struct jam *jam, struct evwork_loop *loop)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };

	ck_assert_int_eq(evwork_pool_new(&options, &jam->pool), 0);
	gate_init(&jam->gate);
	gate_job_init(&jam->blocker, &jam->gate);
	jam->blocker.job.lane = evwork_pool_lane(jam->pool);
	ck_assert_int_eq(evwork_submit(loop, &jam->blocker.job), 0);
	gate_await(&jam->gate, 1);
	probe_init(&jam->filler, 0);
	jam->filler.job.lane = evwork_pool_lane(jam->pool);
	ck_assert_int_eq(evwork_submit(loop, &jam->filler.job), 0);
}

static void jam_clear(struct jam *jam, struct world *world)
{
	gate_open(&jam->gate);
	world_run_until(world, &jam->filler.dones, 1);
}

static void jam_close(struct jam *jam)
{
	ck_assert_int_eq(evwork_pool_free(jam->pool), 0);
	gate_fini(&jam->gate);
}

/* A member that waited and finds its lane full when its turn comes waits for the next
 * end; who comes after it waits behind it, and try_go does not pass it (S-GRP-3). */
START_TEST(lane_full_for_a_waiter)
{
	struct evwork_group_options options = { .limit = 2 };
	struct support_member members[4], passer;
	struct gate gates[2];
	struct scene scene;
	struct jam jam;
	int i;

	scene_open(&scene, 2, &options);
	jam_open(&jam, scene.world.loop);
	for (i = 0; i < 4; i++)
		support_member_init(&members[i], 0);
	for (i = 0; i < 2; i++) {
		gate_init(&gates[i]);
		members[i].gate = &gates[i];
	}
	members[2].member.job.lane = evwork_pool_lane(jam.pool);
	for (i = 0; i < 3; i++)
		scene_go(&scene, &members[i]);
	gate_open(&gates[0]);
	world_run_until(&scene.world, &members[0].dones, 1);
	scene_go(&scene, &members[3]);
	support_member_init(&passer, 0);
	ck_assert_int_eq(evwork_group_try_go(scene.group, &passer.member), -EAGAIN);
	jam_clear(&jam, &scene.world);
	world_turns(&scene.world, 5);
	ck_assert_int_eq(atomic_load(&members[2].runs), 0);
	ck_assert_int_eq(atomic_load(&members[3].runs), 0);
	gate_open(&gates[1]);
	scene_join(&scene);
	for (i = 0; i < 4; i++)
		expect_member_end(&members[i], 0, 1);
	ck_assert_int_eq(passer.dones, 0);
	for (i = 0; i < 2; i++)
		gate_fini(&gates[i]);
	jam_close(&jam);
	scene_close(&scene);
}
END_TEST

/* If the lane is full and none of the group runs, nobody would start the waiter later:
 * it ends with EAGAIN, not run, and so does the one behind it; the next, which is for
 * another lane, runs (S-GRP-3, S-GRP-13). */
START_TEST(lane_full_for_good)
{
	struct evwork_group_options options = { .limit = 1, .policy = EVWORK_COLLECT };
	struct support_member members[4];
	struct scene scene;
	struct gate gate;
	struct jam jam;
	int i;

	gate_init(&gate);
	scene_open(&scene, 1, &options);
	jam_open(&jam, scene.world.loop);
	for (i = 0; i < 4; i++) {
		support_member_init(&members[i], 0);
		if (i == 1 || i == 2)
			members[i].member.job.lane = evwork_pool_lane(jam.pool);
	}
	members[0].gate = &gate;
	for (i = 0; i < 4; i++)
		scene_go(&scene, &members[i]);
	gate_open(&gate);
	scene_join(&scene);
	ck_assert_int_eq(scene.join.status, -EAGAIN);
	for (i = 0; i < 4; i++) {
		bool ran = i == 0 || i == 3;

		expect_member_end(&members[i], ran ? 0 : -EAGAIN, ran);
		expect_member_state(&scene, (size_t)i, ran ? EVWORK_MEMBER_OK : EVWORK_MEMBER_NOT_RUN,
			ran ? 0 : -EAGAIN);
	}
	jam_clear(&jam, &scene.world);
	gate_fini(&gate);
	jam_close(&jam);
	scene_close(&scene);
}
END_TEST

/* The lane and the pool that a waiting member is for cannot be freed (S-GEN-5). */
START_TEST(waiting_keeps_its_lane)
{
	struct evwork_group_options options = { .limit = 1 };
	struct evwork_lane_options narrow = { 0 };
	struct support_member members[2];
	struct evwork_pool *other;
	struct evwork_lane *lane;
	struct scene scene;
	struct gate gate;

	gate_init(&gate);
	scene_open(&scene, 1, &options);
	ck_assert_int_eq(evwork_pool_new(NULL, &other), 0);
	ck_assert_int_eq(evwork_lane_new(other, &narrow, &lane), 0);
	support_member_init(&members[0], 0);
	members[0].gate = &gate;
	support_member_init(&members[1], 0);
	members[1].member.job.lane = lane;
	scene_go(&scene, &members[0]);
	scene_go(&scene, &members[1]);
	ck_assert_int_eq(evwork_lane_free(lane), -EBUSY);
	ck_assert_int_eq(evwork_pool_free(other), -EBUSY);
	gate_open(&gate);
	scene_join(&scene);
	expect_member_end(&members[1], 0, 1);
	ck_assert_ptr_eq(members[1].member.job.lane, lane);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	ck_assert_int_eq(evwork_pool_free(other), 0);
	gate_fini(&gate);
	scene_close(&scene);
}
END_TEST

static void add_limits(Suite *suite)
{
	TCase *tcase = support_case(suite, "limits");

	tcase_add_loop_test(tcase, limit_holds, 0, 2);
	tcase_add_loop_test(tcase, no_limit, 0, 2);
	tcase_add_test(tcase, limit_waits_in_order);
	tcase_add_test(tcase, limit_zero);
	tcase_add_test(tcase, limit_is_busy);
	tcase_add_test(tcase, lane_full);
	tcase_add_test(tcase, lane_full_for_a_waiter);
	tcase_add_test(tcase, lane_full_for_good);
	tcase_add_test(tcase, waiting_keeps_its_lane);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("group_limit");

	add_limits(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
