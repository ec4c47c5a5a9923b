/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/*
 * The classic races, a million rounds of them together: the first error against the
 * cancellation of its siblings, go against join, a close against submits from four threads,
 * a panic against a cancel, the end of a thread against a drain. In each round what was
 * accepted is done, once, and nothing else.
 *
 * Rounds that need no pool of their own are under way many at a time, so that waking
 * threads up does not take most of the time.
 */

#include "rival.h"

enum {
	FIRST_ERRORS = 290000, GO_JOINS = 290000, PANICS = 290000, CLOSES = 80000, EXITS = 50000
};

_Static_assert(FIRST_ERRORS + GO_JOINS + PANICS + CLOSES + EXITS == 1000000, "a million");

/* Rounds under way at a time. */
#define BATCH 32

static struct world world;
static struct rival rivals[4];     /* who does a part of each turn */

static void start_rival(int i, void (*act)(void *arg), void *arg)
{
	rival_start(&rivals[i], act, arg, (uint64_t)i + 1);
	rivals[i].prompt = true;
}

static void turn_of_base(void)
{
	event_base_loop(world.base, EVLOOP_NONBLOCK);
	sys_yield();
}

static void spin(int n)
{
	while (n-- > 0)
		sys_relax();
}

/* The first error against siblings. */

enum { SIBLINGS = 3 };

struct sibling {
	struct evwork_member member;
	struct family *family;
	int linger, fails;       /* with what, or 0: it obeys */
};

static struct family {
	struct evwork_group *group;
	struct sibling siblings[SIBLINGS];
	int first, ends, joined, status, cause;
} families[BATCH];

static int families_joined;

static int sibling_run(struct evwork_job *job)
{
	struct sibling *sibling = EVWORK_CONTAINER(job, struct sibling, member.job);

	spin(sibling->linger);
	return sibling->fails ? sibling->fails : evwork_job_err(job);
}

static void sibling_done(struct evwork_member *member, int status)
{
	struct family *family = EVWORK_CONTAINER(member, struct sibling, member)->family;

	family->ends++;
	if (!family->first)
		family->first = status;
}

static void family_joined(struct evwork_group *group, int status, void *arg)
{
	struct family *family = arg;

	family->joined++;
	family->status = status;
	family->cause = evwork_ctx_cause(evwork_group_ctx(group));
	evwork_group_free(group);
	families_joined++;
}

static void family_begin(struct family *family)
{
	int i, start = chance(SIBLINGS);

	memset(family, 0, sizeof(*family));
	must(evwork_group_new(world.loop, NULL, &family->group));
	for (i = 0; i < SIBLINGS; i++) {
		struct sibling *sibling = &family->siblings[i];

		evwork_member_init(&sibling->member, sibling_run, sibling_done);
		sibling->family = family;
		sibling->fails = i < 2 ? -1000 - i : 0;
		sibling->linger = chance(1 << chance(7));
	}
	/* Any of them comes first. */
	for (i = start; i < start + SIBLINGS; i++) {
		struct sibling *sibling = &family->siblings[i % SIBLINGS];

		must(evwork_group_go(family->group, &sibling->member));
	}
	must(evwork_group_join(family->group, family_joined, family));
}

/* Two members fail at about the same time, a third ends with the error of the context: the
 * status is the first error in the order of delivery, and never the ECANCELED that it
 * caused (S-GRP-7, S-GRP-9). */
START_TEST(first_error_against_siblings)
{
	int rounds = scaled(FIRST_ERRORS), round = 0, accepted = 0, ends = 0, i;

	chance_seed(100);
	world_open(&world, 2);
	while (round < rounds) {
		families_joined = 0;
		for (i = 0; i < BATCH; i++)
			family_begin(&families[i]);
		while (families_joined < BATCH)
			event_base_loop(world.base, EVLOOP_ONCE);
		for (i = 0; i < BATCH; i++, round++) {
			struct family *family = &families[i];

			expect(family->joined == 1, "round %d", round);
			expect(family->status == family->first && family->first <= -1000,
				"round %d: %d, %d", round, family->status, family->first);
			expect(family->cause == family->first, "round %d", round);
			accepted += SIBLINGS;
			ends += family->ends;
		}
	}
	expect(ends == accepted, "%d accepted, %d done", accepted, ends);
	support_note("%d rounds, %d members", round, ends);
	world_close(&world);
}
END_TEST

/* go against join. */

struct guest {
	struct evwork_member member;
	struct party *party;
	int rc, dones;
	bool late;               /* done after the join */
};

static struct party {
	struct evwork_group *group;
	struct guest host, guest;
	int joined;
} parties[BATCH];

static int parties_joined;

static int guest_run(struct evwork_job *job)
{
	(void)job;
	return 0;
}

static void guest_done(struct evwork_member *member, int status)
{
	struct guest *guest = EVWORK_CONTAINER(member, struct guest, member);

	guest->dones++;
	guest->late = status != 0 || guest->party->joined;
}

static void party_joined(struct evwork_group *group, int status, void *arg)
{
	struct party *party = arg;

	(void)group;
	party->joined += status == 0 ? 1 : 100;
	parties_joined++;
}

static void guests_come(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < BATCH; i++) {
		dawdle();
		parties[i].guest.rc = evwork_group_go(parties[i].group, &parties[i].guest.member);
	}
}

static void party_begin(struct party *party)
{
	memset(party, 0, sizeof(*party));
	party->host.party = party->guest.party = party;
	must(evwork_group_new(world.loop, NULL, &party->group));
	evwork_member_init(&party->host.member, guest_run, guest_done);
	evwork_member_init(&party->guest.member, guest_run, guest_done);
	must(evwork_group_go(party->group, &party->host.member));
}

/* A member that another thread adds while the group is joined is either refused, or has its
 * done before the join comes, which is once (S-GRP-5, S-GRP-18, S-GEN-2). */
START_TEST(go_against_join)
{
	int rounds = scaled(GO_JOINS), round = 0, turn = 0, accepted = 0, dones = 0, i;

	chance_seed(200);
	world_open(&world, 2);
	start_rival(0, guests_come, NULL);
	while (round < rounds) {
		parties_joined = 0;
		for (i = 0; i < BATCH; i++)
			party_begin(&parties[i]);
		rival_go(&rivals[0], ++turn);
		for (i = 0; i < BATCH; i++) {
			dawdle();
			must(evwork_group_join(parties[i].group, party_joined, &parties[i]));
		}
		while (parties_joined < BATCH || !rival_finished(&rivals[0], turn))
			turn_of_base();
		for (i = 0; i < BATCH; i++, round++) {
			struct party *party = &parties[i];
			int rc = party->guest.rc;

			expect(rc == 0 || rc == -ESHUTDOWN, "round %d: %d", round, rc);
			expect(party->joined == 1, "round %d", round);
			expect(party->host.dones == 1 && party->guest.dones == (rc == 0),
				"round %d: %d", round, rc);
			expect(!party->host.late && !party->guest.late, "round %d", round);
			must(evwork_group_free(party->group));
			accepted += 1 + (rc == 0);
			dones += party->host.dones + party->guest.dones;
		}
	}
	rival_end(&rivals[0]);
	expect(accepted == dones, "%d accepted, %d done", accepted, dones);
	/* Both happened. */
	expect(accepted > round && accepted < 2 * round, "%d accepted", accepted);
	support_note("%d rounds, %d members", round, dones);
	world_close(&world);
}
END_TEST

/* A panic against a cancel. */

struct victim {
	struct evwork_job job;
	int number;
	atomic_int runs;
	int cancel_rc, dones, drops, status, ran, wrong;
};

static struct victim victims[BATCH];
static int victims_ended;

static int victim_run(struct evwork_job *job)
{
	struct victim *victim = EVWORK_CONTAINER(job, struct victim, job);

	atomic_fetch_add(&victim->runs, 1);
	evwork_panic(job, "victim %d", victim->number);
}

static bool has_its_text(struct victim *victim)
{
	char text[32];

	snprintf(text, sizeof(text), "victim %d", victim->number);
	return strcmp(evwork_job_panic_text(&victim->job), text) == 0;
}

static void victim_done(struct evwork_job *job, int status)
{
	struct victim *victim = EVWORK_CONTAINER(job, struct victim, job);
	bool abandoned = evwork_job_abandoned(job) != 0;

	victim->dones++;
	victim->status = status;
	victim->ran = evwork_job_ran(job);
	if (status == -EOWNERDEAD && !has_its_text(victim))
		victim->wrong++;
	/* An abandoned one has its drop to come. */
	if (!abandoned)
		victims_ended++;
	else if (status != -ECANCELED || !victim->ran)
		victim->wrong++;
}

static void victim_drop(struct evwork_job *job)
{
	struct victim *victim = EVWORK_CONTAINER(job, struct victim, job);

	victim->drops++;
	if (victim->dones != 1 || !evwork_job_abandoned(job) || !has_its_text(victim))
		victim->wrong++;
	victims_ended++;
}

static void cancel_victims(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < BATCH; i++) {
		dawdle();
		victims[i].cancel_rc = evwork_cancel(&victims[i].job);
	}
}

static void check_victim(const struct victim *victim, int round)
{
	int runs = atomic_load(&victim->runs);

	expect(victim->dones == 1 && victim->wrong == 0, "round %d: %d", round, victim->wrong);
	expect(victim->ran == runs && runs <= 1, "round %d", round);
	expect((victim->cancel_rc == 0) == (runs == 0), "round %d: %d", round, victim->cancel_rc);
	expect(victim->cancel_rc == 0 || victim->cancel_rc == -EBUSY ||
		victim->cancel_rc == -ESRCH, "round %d: %d", round, victim->cancel_rc);
	expect(victim->status == (runs && !victim->drops ? -EOWNERDEAD : -ECANCELED),
		"round %d: %d", round, victim->status);
}

/* A job that panics when it is run is cancelled from another thread: it has not run, or
 * has panicked with its text, or was abandoned and its drop has that; one done, whichever
 * comes first (S-CRASH-11, S-POOL-8, S-POOL-9, S-POOL-14, S-GEN-2). */
START_TEST(panic_against_cancel)
{
	int rounds = scaled(PANICS), round = 0, turn = 0, ends[3] = { 0, 0, 0 }, i;

	chance_seed(300);
	world_open(&world, 2);
	start_rival(0, cancel_victims, NULL);
	while (round < rounds) {
		victims_ended = 0;
		for (i = 0; i < BATCH; i++) {
			memset(&victims[i], 0, sizeof(victims[i]));
			evwork_job_init(&victims[i].job, victim_run, victim_done);
			victims[i].number = round + i;
			if (chance(2)) {
				victims[i].job.drop = victim_drop;
				must(evwork_job_set_detach(&victims[i].job, 1));
			}
		}
		for (i = 0; i < BATCH; i++) {
			must(evwork_submit(world.loop, &victims[i].job));
			if (i == 0)
				rival_go(&rivals[0], ++turn);
			dawdle();
		}
		while (victims_ended < BATCH || !rival_finished(&rivals[0], turn))
			turn_of_base();
		for (i = 0; i < BATCH; i++, round++) {
			check_victim(&victims[i], round);
			ends[victims[i].drops ? 2 : victims[i].status == -EOWNERDEAD]++;
		}
	}
	rival_end(&rivals[0]);
	expect(ends[0] + ends[1] + ends[2] == round, "%d", round);
	support_note("%d rounds: %d cancelled, %d panicked, %d abandoned", round, ends[0], ends[1],
		ends[2]);
	world_close(&world);
}
END_TEST

/* Ends of pools. */

enum { SUBMITTERS = 4, EACH = 3 };

struct order {
	struct evwork_job job;
	atomic_int runs;
	bool exits;              /* it ends its thread */
	int rc, dones, status, ran;
};

/* A pool, and what is ordered of it. */
static struct shop {
	struct evwork_pool *pool;
	struct order orders[SUBMITTERS][EACH];
	int dones, closed, dones_at_close;
} shop;

static int order_run(struct evwork_job *job)
{
	struct order *order = EVWORK_CONTAINER(job, struct order, job);

	atomic_fetch_add(&order->runs, 1);
	if (order->exits)
		pthread_exit(NULL);
	return 0;
}

static void order_done(struct evwork_job *job, int status)
{
	struct order *order = EVWORK_CONTAINER(job, struct order, job);

	order->dones++;
	order->status = status;
	order->ran = evwork_job_ran(job);
	shop.dones++;
}

static void shop_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)arg;
	shop.closed += status == 0 ? 1 : 100;
	shop.dones_at_close = shop.dones;
}

/* One worker; the first order of each thread ends that if `exits`. */
static void shop_open(bool exits)
{
	static const struct evwork_pool_options options = { .threads = 1 };
	int i, k;

	memset(&shop, 0, sizeof(shop));
	must(evwork_pool_new(&options, &shop.pool));
	for (i = 0; i < SUBMITTERS; i++) {
		for (k = 0; k < EACH; k++) {
			struct order *order = &shop.orders[i][k];

			evwork_job_init(&order->job, order_run, order_done);
			order->job.lane = evwork_pool_lane(shop.pool);
			order->exits = exits && k == 0;
		}
	}
}

static void give_orders(void *arg)
{
	struct order *orders = arg;
	int k;

	for (k = 0; k < EACH; k++) {
		struct order *order = &orders[k];

		dawdle();
		order->rc = evwork_submit(world.loop, &order->job);
	}
}

/* Closes the pool while the submitters, which are rivals, submit, and returns when it is closed and they are
 * through; how many orders were accepted. */
static int shop_close(enum evwork_close_mode mode, int submitters, int turn)
{
	int accepted = 0, i, k;

	rivals_go(rivals, submitters, turn);
	for (i = chance(20); i > 0; i--)
		dawdle();
	must(evwork_pool_close(shop.pool, mode, world.loop, shop_closed, NULL));
	while (!shop.closed || !rivals_finished(rivals, submitters, turn))
		turn_of_base();
	for (i = 0; i < submitters; i++) {
		for (k = 0; k < EACH; k++) {
			const struct order *order = &shop.orders[i][k];
			bool in = order->rc == 0, ran = in && order->ran;

			expect(in || order->rc == -ESHUTDOWN, "turn %d: %d", turn, order->rc);
			expect(order->dones == in, "turn %d", turn);
			expect(atomic_load(&order->runs) == ran, "turn %d", turn);
			expect(!in || order->status == (!ran ? -ECANCELED : order->exits ?
				-EOWNERDEAD : 0), "turn %d: %d", turn, order->status);
			expect(!in || ran || mode != EVWORK_DRAIN, "turn %d", turn);
			accepted += in;
		}
	}
	expect(shop.closed == 1 && shop.dones_at_close == accepted, "turn %d: %d of %d", turn,
		shop.dones_at_close, accepted);
	must(evwork_pool_free(shop.pool));
	return accepted;
}

static void run_shops(int rounds, int submitters, bool exits)
{
	int round, accepted = 0, i;

	world_open(&world, 1);
	/* The base is to look for mail all the time. */
	must(evwork_loop_hold(world.loop));
	for (i = 0; i < submitters; i++)
		start_rival(i, give_orders, shop.orders[i]);
	for (round = 1; round <= rounds; round++) {
		shop_open(exits);
		accepted += shop_close(exits ? EVWORK_DRAIN : EVWORK_DRAIN + round % 3,
			submitters, round);
	}
	rivals_end(rivals, submitters);
	/* Some were, and some were not. */
	expect(accepted > 0 && accepted < rounds * submitters * EACH, "%d accepted", accepted);
	support_note("%d rounds, %d jobs accepted of %d", rounds, accepted,
		rounds * submitters * EACH);
	must(evwork_loop_release(world.loop));
	world_close(&world);
}

/* A pool is closed, in each mode, while four threads submit: what was accepted has one
 * done, before the closed callback, and what was refused has none (S-SHUT-3, S-SHUT-5,
 * S-SHUT-2). */
START_TEST(close_against_submit)
{
	chance_seed(400);
	run_shops(scaled(CLOSES), SUBMITTERS, false);
}
END_TEST

/* Work ends its thread while the pool drains, at any moment of that: the thread is replaced as
 * long as there is anything to do, all that was accepted runs, and the pool closes after
 * it (S-CRASH-2, S-SHUT-2, S-SHUT-5). */
START_TEST(exit_against_drain)
{
	chance_seed(500);
	run_shops(scaled(EXITS), 1, true);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("races");
	TCase *tcase = support_case(suite, "races");

	tcase_add_test(tcase, first_error_against_siblings);
	tcase_add_test(tcase, go_against_join);
	tcase_add_test(tcase, panic_against_cancel);
	tcase_add_test(tcase, close_against_submit);
	tcase_add_test(tcase, exit_against_drain);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(suite());
}
