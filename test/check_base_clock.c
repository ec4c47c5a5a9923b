/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The manual clock by itself, without a loop.
 */

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include "base/clock.h"

#define MS SYS_NS_PER_MS

/* A clock shows its start, then what it was moved by, S-GEN-13. */
START_TEST(clock_moves)
{
	struct evwork_clock *clock;

	ck_assert_int_eq(evwork_clock_new(0, &clock), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 0);
	ck_assert_int_eq(evwork_clock_advance(clock, 5), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 5);
	ck_assert_int_eq(evwork_clock_jump(clock, 7), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 12);
	ck_assert_int_eq(evwork_clock_advance(clock, 0), 0);
	ck_assert_int_eq(evwork_clock_jump(clock, 0), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 12);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
	ck_assert_int_eq(evwork_clock_new(INT64_MAX - 1, &clock), 0);
	ck_assert_int_eq(evwork_clock_now(clock), INT64_MAX - 1);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

/* NULL is the system's monotonic clock, S-GEN-9. */
START_TEST(clock_of_the_system)
{
	struct timespec before, after;
	int64_t now;

	clock_gettime(CLOCK_MONOTONIC, &before);
	now = evwork_clock_now(NULL);
	clock_gettime(CLOCK_MONOTONIC, &after);
	ck_assert_int_ge(now, before.tv_sec * INT64_C(1000000000) + before.tv_nsec);
	ck_assert_int_le(now, after.tv_sec * INT64_C(1000000000) + after.tv_nsec);
}
END_TEST

/* Bad starts and distances are refused and change nothing, S-GEN-10 and
 * S-GEN-8. */
START_TEST(clock_refusals)
{
	struct evwork_clock *clock = NULL;

	ck_assert_int_eq(evwork_clock_new(5, NULL), -EINVAL);
	ck_assert_int_eq(evwork_clock_new(-1, &clock), -EINVAL);
	ck_assert_int_eq(evwork_clock_new(INT64_MIN, &clock), -EINVAL);
	ck_assert_int_eq(evwork_clock_new(EVWORK_NEVER, &clock), -EINVAL);
	ck_assert_ptr_null(clock);
	ck_assert_int_eq(evwork_clock_free(NULL), 0);
	ck_assert_int_eq(evwork_clock_advance(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_clock_jump(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_clock_new(5, &clock), 0);
	ck_assert_int_eq(evwork_clock_advance(clock, -1), -EINVAL);
	ck_assert_int_eq(evwork_clock_jump(clock, INT64_MIN), -EINVAL);
	ck_assert_int_eq(evwork_clock_now(clock), 5);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

/* Making a clock may fail for memory at each step and leaves nothing, S-CRASH-8. */
START_TEST(clock_without_memory)
{
	struct evwork_clock *clock = NULL;
	int k, rc;

	for (k = 1; ; k++) {
		fault_start(SYS_CALLS, k, false);
		rc = evwork_clock_new(5, &clock);
		if (fault_stop() < k)
			break;
		ck_assert_int_eq(rc, -ENOMEM);
		ck_assert_ptr_null(clock);
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_gt(k, 2);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

/* The clock stops at the end of time instead of turning over, S-GEN-9. */
START_TEST(clock_saturates)
{
	struct evwork_clock *clock;
	int64_t end;

	ck_assert_int_eq(evwork_clock_new(INT64_MAX - 10, &clock), 0);
	ck_assert_int_eq(evwork_clock_advance(clock, 100), 0);
	end = evwork_clock_now(clock);
	ck_assert_int_ge(end, INT64_MAX - 1);
	ck_assert_int_eq(evwork_clock_jump(clock, INT64_MAX), 0);
	ck_assert_int_eq(evwork_clock_now(clock), end);
	ck_assert_int_eq(evwork_clock_advance(clock, INT64_MAX), 0);
	ck_assert_int_eq(evwork_clock_now(clock), end);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

/* A user of the clock, as a loop is one. */
struct due_user {
	struct clock_user user;
	int pokes;
};

static void count_poke(struct clock_user *user)
{
	EVWORK_CONTAINER(user, struct due_user, user)->pokes++;
}

/* The clock stops at the due time of each user that wants it, in order, and
 * goes on when that user names a later one; further advances add up, S-GEN-13. */
START_TEST(clock_stops_at_users)
{
	struct due_user early = { .user.poke = count_poke, .user.stops = true };
	struct due_user late = { .user.poke = count_poke, .user.stops = true };
	struct evwork_clock *clock;

	ck_assert_int_eq(evwork_clock_new(100, &clock), 0);
	clock_join(clock, &late.user);
	clock_join(clock, &early.user);
	ck_assert_int_eq(evwork_clock_free(clock), -EBUSY);
	clock_due(clock, &late.user, 130);
	clock_due(clock, &early.user, 120);
	ck_assert_int_eq(evwork_clock_advance(clock, 15), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 115);
	ck_assert_int_eq(evwork_clock_advance(clock, 50), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 120);
	ck_assert_int_eq(early.pokes, 1);
	ck_assert_int_eq(late.pokes, 0);
	ck_assert_int_eq(evwork_clock_advance(clock, 35), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 120);
	clock_due(clock, &early.user, EVWORK_NEVER);
	ck_assert_int_eq(evwork_clock_now(clock), 130);
	ck_assert_int_eq(late.pokes, 1);
	/* A user that leaves lets the clock go on as well. */
	clock_leave(clock, &late.user);
	ck_assert_int_eq(evwork_clock_now(clock), 200);
	ck_assert_int_eq(early.pokes, 1);
	clock_leave(clock, &early.user);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

/* A jump passes all stops in one step, and counts in the distance that an
 * advance still had to go, S-GEN-13. */
START_TEST(clock_jumps_over_users)
{
	struct due_user user = { .user.poke = count_poke, .user.stops = true };
	struct evwork_clock *clock;

	ck_assert_int_eq(evwork_clock_new(100, &clock), 0);
	clock_join(clock, &user.user);
	clock_due(clock, &user.user, 120);
	ck_assert_int_eq(evwork_clock_advance(clock, 50), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 120);
	ck_assert_int_eq(evwork_clock_jump(clock, 10), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 160);
	ck_assert_int_ge(user.pokes, 1);
	clock_leave(clock, &user.user);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

/* A user whose time has come when it names it is poked at once, one whose time
 * is never is poked never, S-GEN-9 and S-GEN-13. */
START_TEST(clock_pokes_what_is_due)
{
	struct due_user due = { .user.poke = count_poke };
	struct due_user never = { .user.poke = count_poke, .user.stops = true };
	struct evwork_clock *clock;

	ck_assert_int_eq(evwork_clock_new(100, &clock), 0);
	clock_join(clock, &due.user);
	clock_join(clock, &never.user);
	clock_due(clock, &due.user, 100);
	ck_assert_int_eq(due.pokes, 1);
	ck_assert_int_eq(evwork_clock_advance(clock, 50), 0);
	ck_assert_int_eq(evwork_clock_now(clock), 150);
	ck_assert_int_eq(evwork_clock_jump(clock, INT64_MAX), 0);
	ck_assert_int_eq(never.pokes, 0);
	clock_leave(clock, &due.user);
	clock_leave(clock, &never.user);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

static void add_clock(Suite *suite)
{
	TCase *tcase = support_case(suite, "clock");

	tcase_add_test(tcase, clock_moves);
	tcase_add_test(tcase, clock_of_the_system);
	tcase_add_test(tcase, clock_refusals);
	tcase_add_test(tcase, clock_without_memory);
	tcase_add_test(tcase, clock_saturates);
	tcase_add_test(tcase, clock_stops_at_users);
	tcase_add_test(tcase, clock_jumps_over_users);
	tcase_add_test(tcase, clock_pokes_what_is_due);
}

static Suite *suite(void)
{
	Suite *base = suite_create("base_clock");

	add_clock(base);
	return base;
}

int main(void)
{
	return support_run(suite());
}
