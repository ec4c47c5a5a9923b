/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Groups where their loop or their process is not what it was: loops freed by force, and
 * children of a fork. How groups begin and end otherwise is in check_group.c and
 * check_group_join.c.
 */

#include "support.h"


struct guest {
	struct evwork_member member;
	struct gate *gate;           /* where work waits; NULL: nowhere */
	struct world *world;         /* whose loop done frees by force */
	int expected;                /* what done gets */
	void *result;                /* what work leaves */
	int dones, rc;
};

/* What stays of a group whose loop was freed by force: not lost to leak detectors. */
static struct evwork_group *left_over;

static int guest_run(struct evwork_job *job)
{
	struct guest *guest = EVWORK_CONTAINER(job, struct guest, member.job);

	if (guest->gate)
		gate_pass(guest->gate);
	guest->member.result = guest->result;
	return 0;
}

static void guest_done(struct evwork_member *member, int status)
{
	struct guest *guest = EVWORK_CONTAINER(member, struct guest, member);

	ck_assert_int_eq(status, guest->expected);
	guest->dones++;
	if (guest->world)
		guest->rc = evwork_loop_free_force(guest->world->loop);
}

static void guest_init(struct guest *guest, struct gate *gate)
{
	memset(guest, 0, sizeof(*guest));
	evwork_member_init(&guest->member, guest_run, guest_done);
	guest->gate = gate;
}

static void must_close(struct world *world)
{
	ck_assert_int_eq(evwork_pool_close_wait(world->pool, EVWORK_CANCEL_ALL), 0);
	ck_assert_int_eq(evwork_pool_free(world->pool), 0);
	event_base_free(world->base);
}

/* The loop is freed by force in the done of a member, with the join armed or not and
 * others waiting or not: the rest of that end finds it gone, and the pool is free of
 * the group (S-SHUT-11, S-GEN-5). */
START_TEST(force_in_done)
{
	struct evwork_group_options options = { .limit = 1 };
	struct guest guests[3];
	struct world world;
	int i, count = _i & 1 ? 3 : 1;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_group_new(world.loop, &options, &left_over), 0);
	for (i = 0; i < count; i++) {
		guest_init(&guests[i], NULL);
		ck_assert_int_eq(evwork_group_go(left_over, &guests[i].member), 0);
	}
	guests[0].world = &world;
	if (_i & 2)
		ck_assert_int_eq(evwork_group_join(left_over, NULL, NULL), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(guests[0].dones, 1);
	ck_assert_int_ge(guests[0].rc, 0);
	must_close(&world);
	for (i = 1; i < count; i++)
		ck_assert_int_eq(guests[i].dones, 0);
}
END_TEST

/* Members that wait when the loop is freed by force give up what they kept: the pool
 * can be closed and freed when the work that runs has ended (S-SHUT-11). */
START_TEST(force_gives_back_what_waits)
{
	struct evwork_group_options options = { .limit = 1 };
	struct guest guests[3];
	struct world world;
	struct gate gate;
	int i;

	world_open(&world, 1);
	gate_init(&gate);
	ck_assert_int_eq(evwork_group_new(world.loop, &options, &left_over), 0);
	for (i = 0; i < 3; i++) {
		guest_init(&guests[i], &gate);
		ck_assert_int_eq(evwork_group_go(left_over, &guests[i].member), 0);
	}
	if (_i)
		ck_assert_int_eq(evwork_group_join(left_over, NULL, NULL), 0);
	gate_await(&gate, 1);
	ck_assert_int_ge(evwork_loop_free_force(world.loop), 1);
	gate_open(&gate);
	must_close(&world);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(guests[i].dones, 0);
	gate_fini(&gate);
}
END_TEST

static void must_not_come(struct evwork_group *group, int status, void *arg)
{
	(void)group;
	(void)arg;
	ck_abort_msg("joined with %d", status);
}

static atomic_int drops;

static void count_drop(void *result)
{
	(void)result;
	atomic_fetch_add(&drops, 1);
}

static void force_in_watch(struct support_watch *watch)
{
	struct world *world = watch->arg;

	ck_assert_int_ge(evwork_loop_free_force(world->loop), 1);
}

/* A closing loop is freed by force when a group has heard of the close: one member has left
 * a result, one runs, and two have not begun, whose ends are on their way (_i & 2) or were
 * delivered. No callback comes any more, joined or not; what the group has had of loop and
 * pool is given back, so that nothing stays but the group itself, with the result in it
 * (S-SHUT-11, S-SHUT-7). */
START_TEST(force_while_closing)
{
	struct evwork_group_options options = { .limit = 1, .drop = count_drop };
	size_t before = sys_blocks(), own;
	struct support_watch watch;
	struct guest guests[4];
	struct world world;
	struct gate gate;
	void *result;
	int i;

	world_open(&world, 1);
	gate_init(&gate);
	own = sys_blocks();
	ck_assert_int_eq(evwork_group_new(world.loop, &options, &left_over), 0);
	for (i = 0; i < 4; i++)
		guest_init(&guests[i], i ? &gate : NULL);
	guests[0].result = &guests[0];
	ck_assert_int_eq(evwork_group_go(left_over, &guests[0].member), 0);
	own = sys_blocks() - own;
	world_run_until(&world, &guests[0].dones, 1);
	for (i = 1; i < 4; i++)
		ck_assert_int_eq(evwork_group_go(left_over, &guests[i].member), 0);
	guests[2].expected = guests[3].expected = -ECANCELED;
	if (_i & 1)
		ck_assert_int_eq(evwork_group_join(left_over, must_not_come, NULL), 0);
	gate_await(&gate, 1);
	support_watch_init(&watch);
	watch.arg = &world;
	if (_i & 2) {
		watch.on = force_in_watch;
		ck_assert_int_eq(evwork_ctx_after(NULL, world.loop, &watch.watch), 0);
	}
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	world_turns(&world, 5);
	ck_assert_int_ne(evwork_ctx_err(evwork_group_ctx(left_over)), 0);
	if (_i & 2)
		ck_assert_int_eq(watch.calls, 1);
	else
		ck_assert_int_ge(evwork_loop_free_force(world.loop), 1);
	gate_open(&gate);
	must_close(&world);
	ck_assert_int_eq(guests[1].dones, 0);
	ck_assert_int_eq(guests[2].dones, !(_i & 2));
	ck_assert_int_eq(guests[3].dones, !(_i & 2));
	ck_assert_int_eq(atomic_load(&drops), 0);
	ck_assert_int_eq(evwork_group_take(left_over, 0, &result), 0);
	ck_assert_ptr_eq(result, &guests[0]);
	ck_assert_uint_eq(sys_blocks(), before + own);
	gate_fini(&gate);
}
END_TEST

/* A group that is lost with its closing loop is freed before its loop has told it so, and
 * goes with it, by force or not (S-SHUT-11). */
START_TEST(lost_and_freed)
{
	struct evwork_group *group;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_group_new(world.loop, NULL, &group), 0);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	ck_assert_int_eq(evwork_group_join(group, must_not_come, NULL), -ESHUTDOWN);
	ck_assert_int_eq(evwork_group_free(group), 0);
	if (_i) {
		ck_assert_int_ge(evwork_loop_free_force(world.loop), 0);
	} else {
		world_run(&world);
		ck_assert_int_eq(evwork_loop_free(world.loop), 0);
	}
	must_close(&world);
}
END_TEST

/* 0, or the number of the first thing that was not as it should be. */
static int child_of(struct evwork_group *group, struct evwork_latch *latch)
{
	struct guest guest;
	int status;

	guest_init(&guest, NULL);
	if (evwork_group_go(group, &guest.member) != -ESHUTDOWN)
		return 1;
	if (evwork_group_join(group, NULL, NULL) != -ESHUTDOWN)
		return 2;
	if (evwork_group_set_limit(group, 1) != -ESHUTDOWN)
		return 3;
	if (evwork_group_member(group, 0, &status) != -ESHUTDOWN)
		return 4;
	if (evwork_group_free(group) != 0)
		return 5;
	if (evwork_latch_add(latch, 1) != -ESHUTDOWN)
		return 6;
	return evwork_latch_free(latch) == 0 ? 0 : 7;
}

/* In the child of a fork a group and a latch are refused and can be freed, whatever
 * state they are in (S-SHUT-12). */
START_TEST(child_is_refused)
{
	struct evwork_latch *latch;
	struct evwork_group *group;
	struct guest guest;
	struct world world;
	struct gate gate;
	pid_t child;

	if (!support_forks()) {
		support_note("no forks here");
		return;
	}
	world_open(&world, 1);
	gate_init(&gate);
	guest_init(&guest, &gate);
	ck_assert_int_eq(evwork_latch_new(&latch), 0);
	ck_assert_int_eq(evwork_latch_add(latch, 2), 0);
	ck_assert_int_eq(evwork_group_new(world.loop, NULL, &group), 0);
	ck_assert_int_eq(evwork_group_go(group, &guest.member), 0);
	gate_await(&gate, 1);
	child = fork();
	if (child == 0)
		_exit(child_of(group, latch));
	support_await_child(child);
	/* The parent goes on as if nothing had been. */
	ck_assert_int_eq(evwork_latch_add(latch, -2), 0);
	ck_assert_int_eq(evwork_latch_free(latch), 0);
	ck_assert_int_eq(evwork_group_join(group, NULL, NULL), 0);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(guest.dones, 1);
	ck_assert_int_eq(evwork_group_free(group), 0);
	gate_fini(&gate);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *life = suite_create("group_life");
	TCase *forced = tcase_create("force");
	TCase *tcase = support_case(life, "fork");

	tcase_add_test(tcase, child_is_refused);
	tcase = support_case(life, "lost");
	tcase_add_loop_test(tcase, lost_and_freed, 0, 2);
	/* What a group on such a loop is made of stays, so leaks are not looked for. */
	tcase_set_timeout(forced, 60.0 * support_slow());
	tcase_add_loop_test(forced, force_in_done, 0, 4);
	tcase_add_loop_test(forced, force_gives_back_what_waits, 0, 2);
	tcase_add_loop_test(forced, force_while_closing, 0, 4);
	suite_add_tcase(life, forced);
	return life;
}

int main(void)
{
	return support_run(suite());
}
