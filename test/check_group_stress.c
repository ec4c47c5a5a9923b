/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/*
 * Groups: races. Each test is bounded by an amount of work; EVWORK_STRESS_SEED repeats
 * the random choices of a run, though not its interleaving.
 */

#include "rival.h"

#define RIVALS 3
#define EACH 4

struct item {
	struct evwork_member member;
	struct duel *duel;
	int linger, result;
	bool obeys;
	atomic_int runs;
	int dones, status;
};

/* What the last rival does when it has added its members. */
enum how { JOINS, CANCELS, WAITS, CANCELS_MEMBERS, CLOSES_LOOP, CLOSES_POOL, HOWS };

struct duel {
	struct world world;
	struct evwork_group *group;
	struct rival rivals[RIVALS];
	struct part { struct duel *duel; int number; } parts[RIVALS];   /* what each is given */
	struct item items[RIVALS + 1][EACH];    /* the last are the test's */
	enum how how;
	int round;
	atomic_int accepted, wrong, joins;
	int dones, joined, status;
	int loop_closed, pool_closed;
	int dones_at_close, joined_at_close;
};

static int item_run(struct evwork_job *job)
{
	struct item *item = EVWORK_CONTAINER(job, struct item, member.job);
	int i, err;

	atomic_fetch_add(&item->runs, 1);
	for (i = item->linger; i > 0; i--)
		sys_relax();
	err = evwork_job_err(job);
	item->member.result = item;
	return item->obeys && err ? err : item->result;
}

static void item_done(struct evwork_member *member, int status)
{
	struct item *item = EVWORK_CONTAINER(member, struct item, member);

	item->dones++;
	item->status = status;
	item->duel->dones++;
	if (evwork_job_ran(&member->job) != atomic_load(&item->runs))
		atomic_fetch_add(&item->duel->wrong, 1);
}

static void on_joined(struct evwork_group *group, int status, void *arg)
{
	struct duel *duel = arg;

	(void)group;
	duel->joined++;
	duel->status = status;
}

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	struct duel *duel = arg;

	(void)loop;
	duel->loop_closed = 1;
}

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct duel *duel = arg;

	(void)pool;
	(void)status;
	duel->pool_closed = 1;
	duel->dones_at_close = duel->dones;
	duel->joined_at_close = duel->joined;
}

static bool refusal_is_documented(int rc)
{
	return rc == -ESHUTDOWN || rc == -ECANCELED || rc == -EAGAIN || rc == -ERANGE;
}

static void add(struct duel *duel, struct item *item)
{
	int rc = chance(4) ? evwork_group_go(duel->group, &item->member) :
		evwork_group_try_go(duel->group, &item->member);

	if (rc == 0)
		atomic_fetch_add(&duel->accepted, 1);
	else if (!refusal_is_documented(rc))
		atomic_fetch_add(&duel->wrong, 1);
}

static void join(struct duel *duel)
{
	int rc = evwork_group_join(duel->group, on_joined, duel);

	if (rc == 0)
		atomic_fetch_add(&duel->joins, 1);
	else if (rc != -EALREADY && rc != -ESHUTDOWN)
		atomic_fetch_add(&duel->wrong, 1);
}

static void wait_for_it(struct duel *duel)
{
	int status = 1, rc = evwork_group_wait(duel->group, &status);

	if ((rc && rc != -ESHUTDOWN) || (rc == 0) != (status <= 0))
		atomic_fetch_add(&duel->wrong, 1);
}

static void take_part(void *arg)
{
	const struct part *part = arg;
	struct duel *duel = part->duel;
	int i, rc = 0;

	for (i = 0; i < EACH; i++) {
		add(duel, &duel->items[part->number][i]);
		dawdle();
	}
	if (part->number == 0 && duel->how == WAITS)
		wait_for_it(duel);
	if (part->number != RIVALS - 1)
		return;
	switch (duel->how) {
	case JOINS:
		join(duel);
		break;
	case CANCELS:
		rc = evwork_group_cancel(duel->group, -ESTALE);
		rc = rc == -EALREADY ? 0 : rc;
		break;
	case WAITS:
		wait_for_it(duel);
		break;
	case CANCELS_MEMBERS:
		for (i = 0; i < RIVALS * EACH; i++)
			evwork_cancel(&duel->items[i / EACH][i % EACH].member.job);
		break;
	case CLOSES_LOOP:
		rc = evwork_loop_close(duel->world.loop, on_loop_closed, duel);
		break;
	default:
		rc = evwork_pool_close(duel->world.pool, EVWORK_DRAIN + duel->round % 3,
			duel->world.loop, on_pool_closed, duel);
		break;
	}
	if (rc)
		atomic_fetch_add(&duel->wrong, 1);
}

static void rivals_start(struct duel *duel)
{
	int i;

	for (i = 0; i < RIVALS; i++) {
		duel->parts[i] = (struct part){ duel, i };
		rival_start(&duel->rivals[i], take_part, &duel->parts[i], (uint64_t)i + 1);
	}
}

static int on_io_error(struct evwork_group *group, size_t index, int status, void *arg)
{
	(void)group;
	(void)index;
	(void)arg;
	return status == -EIO;
}

static void drop_result(void *result)
{
	((struct item *)result)->linger = -1;
}

static void items_init(struct duel *duel)
{
	static const int results[] = { 0, 0, -EIO, -ENOSPC };
	struct item *item;
	int i;

	for (i = 0; i < (RIVALS + 1) * EACH; i++) {
		item = &duel->items[i / EACH][i % EACH];
		memset(item, 0, sizeof(*item));
		evwork_member_init(&item->member, item_run, item_done);
		item->duel = duel;
		item->linger = chance(1 << chance(11));
		item->result = results[chance(4)];
		item->obeys = chance(2);
	}
}

static void group_open(struct duel *duel)
{
	struct evwork_group_options options = { 0 };

	options.policy = (enum evwork_group_policy)chance(5);
	options.limit = chance(2) ? 0 : 1 + chance(3);
	options.until = on_io_error;
	options.quorum = 2;
	options.members = RIVALS * EACH;
	options.drop = drop_result;
	ck_assert_int_eq(evwork_group_new(duel->world.loop, &options, &duel->group), 0);
}

/* Lanes so short that some members are refused by the pool. */
static void duel_open(struct duel *duel)
{
	struct evwork_pool_options options = { .threads = 3, .lane = { .queue_limit = 4 } };

	world_open_with(&duel->world, &options, NULL);
	/* The base is to look for mail all the time. */
	ck_assert_int_eq(evwork_loop_hold(duel->world.loop), 0);
}

static void duel_begin(struct duel *duel)
{
	atomic_store(&duel->accepted, 0);
	atomic_store(&duel->joins, 0);
	duel->dones = duel->joined = duel->loop_closed = duel->pool_closed = 0;
	duel->round++;
	items_init(duel);
	group_open(duel);
	/* At least one is there in time. */
	add(duel, &duel->items[RIVALS][0]);
	if (duel->how == CLOSES_POOL)
		join(duel);
	rivals_go(duel->rivals, RIVALS, duel->round);
}

static void duel_turn(struct duel *duel)
{
	event_base_loop(duel->world.base, EVLOOP_NONBLOCK);
	sys_yield();
}

/* All callbacks have come when this returns, and the group is freed. */
static void duel_finish(struct duel *duel)
{
	int i;

	for (i = 1; i < EACH; i++) {
		add(duel, &duel->items[RIVALS][i]);
		if (chance(2))
			duel_turn(duel);
	}
	while (!rivals_finished(duel->rivals, RIVALS, duel->round))
		duel_turn(duel);
	join(duel);
	while (evwork_group_free(duel->group) != 0)
		duel_turn(duel);
	expect(atomic_load(&duel->wrong) == 0, "round %d", duel->round);
	expect(duel->dones == atomic_load(&duel->accepted), "round %d: %d dones, %d accepted",
		duel->round, duel->dones, atomic_load(&duel->accepted));
	expect(duel->joined == atomic_load(&duel->joins), "round %d: %d joined", duel->round,
		duel->joined);
	for (i = 0; i < (RIVALS + 1) * EACH; i++) {
		struct item *item = &duel->items[i / EACH][i % EACH];

		expect(item->dones <= 1, "round %d", duel->round);
		/* Nobody takes results: each is dropped once its member has one. */
		expect(!atomic_load(&item->runs) || item->linger == -1, "round %d", duel->round);
	}
}

static struct duel the_duel;

/* go of several threads against the last end, and against what one of them does then:
 * join, cancel the group, wait for it, cancel members. Each accepted member has one done,
 * each join that was armed one call, each result one drop (S-GRP-5, S-GRP-16, S-GRP-18,
 * S-GRP-8, S-GRP-13, S-GEN-2). */
START_TEST(race_go)
{
	struct duel *duel = &the_duel;
	int rounds = scaled(6000), ends = 0;

	chance_seed(100);
	duel_open(duel);
	duel->how = (enum how)_i;
	rivals_start(duel);
	while (duel->round < rounds) {
		duel_begin(duel);
		duel_finish(duel);
		ends += duel->dones;
	}
	rivals_end(duel->rivals, RIVALS);
	support_note("%d member ends", ends);
	ck_assert_int_ge(ends, rounds);
	ck_assert_int_eq(evwork_loop_release(duel->world.loop), 0);
	world_close(&duel->world);
}
END_TEST

/* The close of the loop or of the pool against go and join: all accounts are even, and
 * the pool is closed after the join of a group that was joined before (S-DLV-15, S-GRP-5,
 * S-GRP-17, S-SHUT-3). */
START_TEST(race_close)
{
	struct duel *duel = &the_duel;
	int rounds = scaled(2500), ends = 0;

	chance_seed(200);
	duel->how = (enum how)_i;
	rivals_start(duel);
	while (duel->round < rounds) {
		duel_open(duel);
		duel_begin(duel);
		duel_finish(duel);
		ends += duel->dones;
		while (!duel->loop_closed && !duel->pool_closed)
			duel_turn(duel);
		if (duel->pool_closed) {
			expect(duel->dones_at_close == duel->dones, "round %d", duel->round);
			expect(duel->joined_at_close == 1, "round %d", duel->round);
		}
		expect(evwork_loop_release(duel->world.loop) == 0, "round %d", duel->round);
		world_close(&duel->world);
	}
	rivals_end(duel->rivals, RIVALS);
	support_note("%d member ends", ends);
	ck_assert_int_ge(ends, rounds);
}
END_TEST

#define SIBLINGS 6

struct family {
	struct support_member members[SIBLINGS];
	struct support_join join;
	int first, number;
};

static void note_first(struct support_member *member)
{
	struct family *family = member->arg;

	family->number++;
	if (member->status && !family->first)
		family->first = member->status;
}

static void linger(struct support_member *member)
{
	int i;

	for (i = (int)(intptr_t)member->value; i > 0; i--)
		sys_relax();
}

/* Several members fail at about the same time, the others end with the error of the
 * context: the status is the first error in the order of delivery, never the ECANCELED
 * that it caused (S-GRP-7, S-GRP-9). */
START_TEST(race_first_error)
{
	static struct family family;
	struct evwork_group *group;
	struct world world;
	int rounds = scaled(20000), round, i;

	chance_seed(300);
	world_open(&world, 4);
	for (round = 0; round < rounds; round++) {
		memset(&family, 0, sizeof(family));
		family.join.frees = true;
		expect(evwork_group_new(world.loop, NULL, &group) == 0, "round %d", round);
		for (i = 0; i < SIBLINGS; i++) {
			support_member_init(&family.members[i], i < 3 ? -1000 - i : 0);
			family.members[i].obeys = i >= 3;
			family.members[i].value = (void *)(intptr_t)chance(200);
			family.members[i].on_run = linger;
			family.members[i].on_done = note_first;
			family.members[i].arg = &family;
			expect(evwork_group_go(group, &family.members[i].member) == 0, "round %d",
				round);
		}
		expect(evwork_group_join(group, support_join_fn, &family.join) == 0, "round %d",
			round);
		while (!family.join.calls)
			event_base_loop(world.base, EVLOOP_ONCE);
		expect(family.number == SIBLINGS, "round %d", round);
		expect(family.join.status == family.first && family.first <= -1000,
			"round %d: %d, %d", round, family.join.status, family.first);
		expect(family.join.cause == family.first, "round %d", round);
	}
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("group_stress");
	TCase *tcase = support_case(suite, "races");

	tcase_add_test(tcase, race_first_error);
	tcase_add_loop_test(tcase, race_go, JOINS, CLOSES_LOOP);
	tcase_add_loop_test(tcase, race_close, CLOSES_LOOP, HOWS);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(suite());
}
