/* SPDX-License-Identifier: BSD-3-Clause */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "group_scene.h"

void scene_open(struct scene *scene, int threads, const struct evwork_group_options *options)
{
	memset(scene, 0, sizeof(*scene));
	world_open(&scene->world, threads);
	ck_assert_int_eq(evwork_group_new(scene->world.loop, options, &scene->group), 0);
}

void scene_join(struct scene *scene)
{
	ck_assert_int_eq(evwork_group_join(scene->group, support_join_fn, &scene->join), 0);
	world_run_until(&scene->world, &scene->join.calls, 1);
	world_turns(&scene->world, 3);
	ck_assert_int_eq(scene->join.calls, 1);
}

void scene_close(struct scene *scene)
{
	ck_assert_int_eq(evwork_group_free(scene->group), 0);
	world_close(&scene->world);
}

void scene_go(struct scene *scene, struct support_member *member)
{
	ck_assert_int_eq(evwork_group_go(scene->group, &member->member), 0);
}

void expect_member_end(const struct support_member *member, int status, int ran)
{
	ck_assert_int_eq(member->dones, 1);
	ck_assert_int_eq(member->status, status);
	ck_assert_int_eq(member->ran, ran);
	ck_assert_int_eq(atomic_load(&member->runs), ran);
	ck_assert_ptr_null(evwork_group_of(&member->member));
	ck_assert_ptr_null(member->member.job.ctx);
	ck_assert_ptr_null(member->member.job.done);
}

void expect_member_state(const struct scene *scene, size_t index, int state, int status)
{
	int got = 4711;

	ck_assert_int_eq(evwork_group_member(scene->group, index, &got), state);
	ck_assert_int_eq(got, status);
	ck_assert_int_eq(evwork_group_member(scene->group, index, NULL), state);
}
