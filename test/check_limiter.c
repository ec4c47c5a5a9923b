/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Limiters: taking, reserving and giving back, changing, asking, counting; a million random
 * steps against exact fractions; threads that race; misuse; failing system calls; and
 * libevent's own limits beside them. Those who wait are in check_limiter_wait.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "limiter_scene.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <math.h>
#include <pthread.h>
#include <sys/socket.h>

#include "guard/limiter.h"

#define START (INT64_C(4) * SECOND + 294967290)

/* A limiter on a manual clock. */
struct bench {
	struct evwork_clock *clock;
	struct evwork_limiter *limiter;
};

static void bench_open(struct bench *bench, double rate, int64_t burst)
{
	ck_assert_int_eq(evwork_clock_new(START, &bench->clock), 0);
	bench->limiter = limiter_with(rate, burst, (struct evwork_limiter_options){
		.name = "bench", .clock = bench->clock });
}

static void bench_close(struct bench *bench)
{
	ck_assert_int_eq(evwork_limiter_free(bench->limiter), 0);
	ck_assert_int_eq(evwork_clock_free(bench->clock), 0);
}

static void bench_go(struct bench *bench, int64_t ns)
{
	ck_assert_int_eq(evwork_clock_jump(bench->clock, ns), 0);
}

/* The three numbers that can be asked for: S-LIM-1. */
START_TEST(asked)
{
	struct bench bench;
	int64_t ns = 77;

	bench_open(&bench, 10, 5);
	ck_assert_str_eq(evwork_limiter_name(bench.limiter), "bench");
	ck_assert_int_eq(limiter_tokens(bench.limiter), 5);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 4), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), 1);
	ck_assert_int_eq(evwork_limiter_retry_after(bench.limiter, 1, &ns), 0);
	ck_assert_int_eq(ns, 0);
	ck_assert_int_eq(evwork_limiter_retry_after(bench.limiter, 3, &ns), 0);
	ck_assert_int_eq(ns, 200 * MS);
	ck_assert_int_eq(evwork_limiter_retry_after(bench.limiter, 6, &ns), -ERANGE);
	ck_assert_int_eq(ns, 200 * MS);
	ck_assert_int_eq(evwork_limiter_reset_after(bench.limiter, &ns), 0);
	ck_assert_int_eq(ns, 400 * MS);
	bench_go(&bench, 350 * MS);
	ck_assert_int_eq(limiter_tokens(bench.limiter), 4);
	bench_close(&bench);
}
END_TEST

/* allow takes all or nothing: S-LIM-2. The order of refusals: S-GEN-4. */
START_TEST(allowed)
{
	struct bench bench;

	bench_open(&bench, 10, 3);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, -1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 4), -ERANGE);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 2), 0);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 2), -EAGAIN);
	ck_assert_int_eq(limiter_tokens(bench.limiter), 1);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 4), -ERANGE);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 0), 0);
	bench_go(&bench, 100 * MS);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 2), 0);
	bench_close(&bench);
}
END_TEST

/* A reservation takes now and acts later, unless that is too late: S-LIM-3. */
START_TEST(reserved)
{
	struct evwork_reservation first, second = { .act_ns = 77 };
	struct bench bench;

	bench_open(&bench, 10, 2);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 2, 0, &first), 0);
	ck_assert_int_eq(first.act_ns, START);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 3, 0, &second), -ERANGE);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 2, 200 * MS - 1, &second),
		-ETIMEDOUT);
	ck_assert_int_eq(second.act_ns, 77);
	ck_assert_int_eq(limiter_tokens(bench.limiter), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 2, 200 * MS, &second), 0);
	ck_assert_int_eq(second.act_ns, START + 200 * MS);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -2);
	/* In debt nothing is allowed, not even nothing. */
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 0), -EAGAIN);
	bench_go(&bench, 300 * MS);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 1), 0);
	bench_close(&bench);
}
END_TEST

/* What a cancelled reservation gives back: all, if it is the last; less what came after it;
 * nothing once its time has passed; and only once: S-LIM-4. */
START_TEST(given_back)
{
	struct evwork_reservation held[3], none = { .act_ns = 0 };
	struct bench bench;

	bench_open(&bench, 10, 5);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 5), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 5, EVWORK_NEVER, &held[0]), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 2, EVWORK_NEVER, &held[1]), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, EVWORK_NEVER, &held[2]), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -8);
	/* 3 were reserved after it. */
	ck_assert_int_eq(evwork_reservation_cancel(&held[0]), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -6);
	ck_assert_int_eq(evwork_reservation_cancel(&held[0]), -EALREADY);
	/* The last one gives back all, and then the one before it is the last. */
	ck_assert_int_eq(evwork_reservation_cancel(&held[2]), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -5);
	ck_assert_int_eq(evwork_reservation_cancel(&held[1]), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -3);
	ck_assert_int_eq(evwork_reservation_cancel(&none), -ESRCH);
	ck_assert_int_eq(evwork_reservation_cancel(NULL), -EINVAL);

	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 2, EVWORK_NEVER, &held[0]), 0);
	ck_assert_int_eq(held[0].act_ns, START + 500 * MS);
	bench_go(&bench, 500 * MS);
	ck_assert_int_eq(limiter_tokens(bench.limiter), 0);
	ck_assert_int_eq(evwork_reservation_cancel(&held[0]), 0);   /* just at its time */
	ck_assert_int_eq(limiter_tokens(bench.limiter), 2);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 2, EVWORK_NEVER, &held[0]), 0);
	bench_go(&bench, 1);
	ck_assert_int_eq(evwork_reservation_cancel(&held[0]), 0);   /* just after it */
	ck_assert_int_eq(limiter_tokens(bench.limiter), 0);
	ck_assert_int_eq(evwork_reservation_cancel(&held[0]), -EALREADY);
	bench_close(&bench);
}
END_TEST

/* Never above the burst: S-LIM-4. */
START_TEST(given_back_to_full)
{
	struct evwork_reservation held;
	struct bench bench;

	bench_open(&bench, 10, 2);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 2), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 2, EVWORK_NEVER, &held), 0);
	ck_assert_int_eq(evwork_limiter_set_burst(bench.limiter, 1), 0);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, 15), 0);
	bench_go(&bench, 180 * MS);
	ck_assert_int_eq(evwork_reservation_cancel(&held), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), 1);
	bench_close(&bench);
}
END_TEST

/* What was reserved after it is counted with the rate of the reservation, and as the time
 * in between: S-LIM-4. */
START_TEST(given_back_at_its_rate)
{
	struct evwork_reservation first, second;
	struct bench bench;
	int64_t ns;

	bench_open(&bench, 10, 10);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 10), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 4, EVWORK_NEVER, &first), 0);
	ck_assert_int_eq(first.act_ns, START + 400 * MS);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, 5), 0);
	/* 600 ms after the first: worth 6 at its rate, which leaves nothing to give back. */
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, EVWORK_NEVER, &second), 0);
	ck_assert_int_eq(second.act_ns, START + SECOND);
	ck_assert_int_eq(evwork_reservation_cancel(&first), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -5);
	ck_assert_int_eq(evwork_reservation_cancel(&second), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -4);

	/* The last one gives all back, whatever the rate is now. */
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 4, EVWORK_NEVER, &first), 0);
	ck_assert_int_eq(first.act_ns, START + 1600 * MS);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, 10), 0);
	ck_assert_int_eq(evwork_reservation_cancel(&first), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -4);

	/* 80 ms after it: 0.8 of its 4, and a nanosecond's worth, as times are rounded. */
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 4, EVWORK_NEVER, &first), 0);
	ck_assert_int_eq(first.act_ns, START + 800 * MS);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, 12.5), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 3, EVWORK_NEVER, &second), 0);
	ck_assert_int_eq(second.act_ns, START + 880 * MS);
	ck_assert_int_eq(evwork_reservation_cancel(&first), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -8);
	ck_assert_int_eq(evwork_limiter_retry_after(bench.limiter, 0, &ns), 0);
	ck_assert_int_eq(ns, (11 * 80 - 256) * MS + 1);

	/* Earlier than it, at a higher rate: nothing came after it. */
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, EVWORK_NEVER, &first), 0);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, 100), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 5, EVWORK_NEVER, &second), 0);
	ck_assert_int_lt(second.act_ns, first.act_ns);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -14);
	ck_assert_int_eq(evwork_reservation_cancel(&first), 0);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -13);
	bench_close(&bench);
}
END_TEST

/* Times from the caller: an older one refills nothing and becomes the reference: S-LIM-5. */
START_TEST(given_times)
{
	struct evwork_reservation held;
	struct bench bench;

	bench_open(&bench, 10, 3);
	ck_assert_int_eq(evwork_limiter_allow_at(bench.limiter, 2, START + 100 * MS), 0);
	ck_assert_int_eq(evwork_limiter_allow_at(bench.limiter, 2, START), -EAGAIN);
	/* The refusal changed nothing. */
	ck_assert_int_eq(evwork_limiter_allow_at(bench.limiter, 2, START + 100 * MS), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_allow_at(bench.limiter, 1, START), 0);
	ck_assert_int_eq(evwork_limiter_allow_at(bench.limiter, 1, START + 100 * MS), 0);
	ck_assert_int_eq(evwork_limiter_reserve_at(bench.limiter, 1, EVWORK_NEVER, START, &held), 0);
	ck_assert_int_eq(held.act_ns, START + 100 * MS);
	ck_assert_int_eq(evwork_reservation_cancel_at(&held, START + 50 * MS), 0);
	ck_assert_int_eq(evwork_limiter_set_rate_at(bench.limiter, 20, START + 50 * MS), 0);
	ck_assert_int_eq(evwork_limiter_allow_at(bench.limiter, 1, START + 75 * MS), 0);
	ck_assert_int_eq(evwork_limiter_set_burst_at(bench.limiter, 1, START + 100 * MS), 0);
	ck_assert_int_eq(evwork_limiter_allow_at(bench.limiter, 1, START + 125 * MS), 0);
	bench_close(&bench);
}
END_TEST

/* Without a limit everything passes, and the way back makes nothing of no time: S-LIM-6. */
START_TEST(unlimited)
{
	struct evwork_reservation held;
	struct bench bench;
	int64_t ns;

	bench_open(&bench, INFINITY, 0);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, INT64_MAX), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, INT64_MAX, 0, &held), 0);
	ck_assert_int_eq(held.act_ns, START);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, -1, &held), -ETIMEDOUT);
	ck_assert_int_eq(limiter_tokens(bench.limiter), INT64_MAX);
	ck_assert_int_eq(evwork_limiter_retry_after(bench.limiter, INT64_MAX, &ns), 0);
	ck_assert_int_eq(ns, 0);
	ck_assert_int_eq(evwork_limiter_reset_after(bench.limiter, &ns), 0);
	ck_assert_int_eq(ns, 0);
	ck_assert_int_eq(evwork_limiter_set_burst(bench.limiter, 4), 0);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, 10), 0);
	ck_assert_int_eq(evwork_reservation_cancel(&held), 0);
	ck_assert_int_ge(limiter_tokens(bench.limiter), 0);
	ck_assert_int_le(limiter_tokens(bench.limiter), 4);
	bench_close(&bench);
}
END_TEST

/* Without a rate what is stored is served: S-LIM-7. A tiny rate: S-LIM-8. */
START_TEST(hardly_any)
{
	struct evwork_reservation held;
	struct bench bench;
	int64_t ns;

	bench_open(&bench, 0, 2);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 1), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 2, EVWORK_NEVER, &held), -ERANGE);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, EVWORK_NEVER, &held), 0);
	bench_go(&bench, 1000000 * SECOND);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 1), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_retry_after(bench.limiter, 1, &ns), 0);
	ck_assert_int_eq(ns, EVWORK_NEVER);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, 1e-10), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, EVWORK_NEVER, &held), -ETIMEDOUT);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 1), -EAGAIN);
	bench_close(&bench);
}
END_TEST

/* Reservations keep their times when rate and burst change: S-LIM-12. */
START_TEST(promised_times)
{
	struct evwork_reservation held, next;
	struct bench bench;

	bench_open(&bench, 10, 4);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 4), 0);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 4, EVWORK_NEVER, &held), 0);
	bench_go(&bench, 100 * MS);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, 1), 0);
	ck_assert_int_eq(evwork_limiter_set_burst(bench.limiter, 2), 0);
	ck_assert_int_eq(held.act_ns, START + 400 * MS);
	ck_assert_int_eq(limiter_tokens(bench.limiter), -3);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, EVWORK_NEVER, &next), 0);
	ck_assert_int_eq(next.act_ns, START + 100 * MS + 4 * SECOND);
	ck_assert_int_eq(held.act_ns, START + 400 * MS);
	bench_close(&bench);
}
END_TEST

/* Allowed, refused, reserved and returned are counted: S-OBS-6. */
START_TEST(counted)
{
	struct evwork_limiter_stats stats;
	struct evwork_reservation held;
	struct bench bench;

	bench_open(&bench, 10, 2);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 2), 0);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 1), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 3), -ERANGE);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, -3), -EINVAL);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, 0, &held), -ETIMEDOUT);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, SECOND, &held), 0);
	ck_assert_int_eq(evwork_reservation_cancel(&held), 0);
	ck_assert_int_eq(evwork_reservation_cancel(&held), -EALREADY);
	stats = limiter_stats(bench.limiter);
	ck_assert_uint_eq(stats.allowed, 1);
	ck_assert_uint_eq(stats.refused, 3);
	ck_assert_uint_eq(stats.reserved, 1);
	ck_assert_uint_eq(stats.returned, 1);
	ck_assert_uint_eq(stats.waiting, 0);
	ck_assert_uint_eq(stats.granted, 0);
	ck_assert_uint_eq(stats.cancelled, 0);
	bench_close(&bench);
}
END_TEST

/* Malformed arguments are EINVAL, and nothing is stored: S-LIM-1, S-GEN-8, S-GEN-10. */
START_TEST(misused)
{
	struct evwork_limiter_options bad = { .slack_ms = -2 };
	struct evwork_limiter_stats stats;
	struct evwork_limiter *none = NULL;
	struct evwork_reservation held;
	struct bench bench;
	int64_t result = 77;

	bench_open(&bench, 10, 2);
	ck_assert_int_eq(evwork_limiter_new(-1, 1, NULL, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_new(NAN, 1, NULL, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_new(-INFINITY, 1, NULL, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_new(1, -1, NULL, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_new(1, 1, &bad, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_new(1, 1, NULL, NULL), -EINVAL);
	ck_assert_ptr_null(none);
	ck_assert_int_eq(evwork_limiter_allow(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_allow_at(NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_reserve(NULL, 1, 1, &held), -EINVAL);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, 1, 1, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_reserve(bench.limiter, -1, 1, &held), -EINVAL);
	ck_assert_int_eq(evwork_limiter_set_rate(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_set_rate(bench.limiter, NAN), -EINVAL);
	ck_assert_int_eq(evwork_limiter_set_burst(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_set_burst(bench.limiter, -1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_tokens(NULL, &result), -EINVAL);
	ck_assert_int_eq(evwork_limiter_tokens(bench.limiter, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_retry_after(NULL, 1, &result), -EINVAL);
	ck_assert_int_eq(evwork_limiter_retry_after(bench.limiter, -1, &result), -EINVAL);
	ck_assert_int_eq(evwork_limiter_retry_after(bench.limiter, 1, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_reset_after(NULL, &result), -EINVAL);
	ck_assert_int_eq(evwork_limiter_reset_after(bench.limiter, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_stats(NULL, &stats), -EINVAL);
	ck_assert_int_eq(evwork_limiter_stats(bench.limiter, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_free(NULL), 0);
	ck_assert_ptr_null(evwork_limiter_name(NULL));
	ck_assert_int_eq(result, 77);
	ck_assert_int_eq(limiter_tokens(bench.limiter), 2);
	bench_close(&bench);
}
END_TEST

/* Each allocation and lock that fails makes the call fail, with nothing left: S-GEN-14. */
START_TEST(failing_calls)
{
	size_t blocks = sys_blocks();
	int k = 0, rc, calls;

	do {
		struct evwork_limiter *limiter = NULL;

		fault_start(SYS_CALLS, ++k, false);
		rc = evwork_limiter_new(10, 2, NULL, &limiter);
		calls = fault_stop();
		ck_assert(rc == 0 || (rc == -ENOMEM && !limiter));
		ck_assert_int_eq(evwork_limiter_free(limiter), 0);
		ck_assert_uint_eq(sys_blocks(), blocks);
	} while (calls >= k);
	ck_assert_int_ge(k - 1, 2);
}
END_TEST

/* In the child of a fork a limiter can only be freed: S-SHUT-12. */
START_TEST(forked)
{
	struct bench bench;
	pid_t pid;

	bench_open(&bench, 10, 2);
	pid = fork();
	if (pid == 0) {
		int64_t result;
		struct evwork_reservation held;

		if (evwork_limiter_allow(bench.limiter, 1) != -ESHUTDOWN ||
		    evwork_limiter_reserve(bench.limiter, 1, 0, &held) != -ESHUTDOWN ||
		    evwork_limiter_set_rate(bench.limiter, 1) != -ESHUTDOWN ||
		    evwork_limiter_set_burst(bench.limiter, 1) != -ESHUTDOWN ||
		    evwork_limiter_tokens(bench.limiter, &result) != -ESHUTDOWN ||
		    evwork_limiter_free(bench.limiter) != 0)
			_exit(1);
		_exit(0);
	}
	support_await_child(pid);
	ck_assert_int_eq(evwork_limiter_allow(bench.limiter, 1), 0);
	bench_close(&bench);
}
END_TEST

/* Threads that race. */

#define RACERS 4

struct racer {
	pthread_t thread;
	struct evwork_limiter *limiter;
	int tries;
	int64_t taken;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	struct evwork_reservation held;
	int i;

	for (i = 0; i < racer->tries; i++) {
		if (i % 8 == 7) {
			if (evwork_limiter_reserve(racer->limiter, 1, SECOND, &held) == 0 &&
			    evwork_reservation_cancel(&held) != 0)
				racer->taken += 1000000;
		} else if (evwork_limiter_allow(racer->limiter, 1 + i % 3) == 0) {
			racer->taken += 1 + i % 3;
		}
	}
	return NULL;
}

/* Threads that take at once get together no more than the burst and what came, by the
 * system's clock: S-LIM-5, S-LIM-14. */
START_TEST(threads)
{
	struct racer racers[RACERS];
	struct evwork_limiter *limiter;
	int64_t before, after, taken = 0, left;
	int i;

	before = sys_now();
	ck_assert_int_eq(evwork_limiter_new(100000, 50, NULL, &limiter), 0);
	for (i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){ .limiter = limiter, .tries = 100000 / support_slow() };
		ck_assert_int_eq(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (i = 0; i < RACERS; i++) {
		ck_assert_int_eq(pthread_join(racers[i].thread, NULL), 0);
		taken += racers[i].taken;
	}
	after = sys_now();
	ck_assert_int_ge(taken, 50);
	ck_assert_int_le(taken, 50 + (after - before) / 10000 + 1);
	ck_assert_int_eq(evwork_limiter_tokens(limiter, &left), 0);
	ck_assert_int_le(left, 50);
	ck_assert_int_eq(evwork_limiter_free(limiter), 0);
}
END_TEST

/* Random steps, with reservations. */

#ifdef __SIZEOF_INT128__

__extension__ typedef __int128 exact;

#define FINE ((exact)SECOND << 40)
#define HELD 8

/* Rates are whole numbers of 2^-10 a second. When something acts is kept as the time
 * when it was reserved and what was missing then. */
struct event {
	int64_t at;
	exact missing;
};

struct model {
	exact level, gain;
	double rate;
	int64_t burst, at;
	exact taken, came;
	struct event last;
	struct {
		struct evwork_reservation own;
		struct event event;
		int64_t n;
		bool held;
	} slots[HELD];
};

static exact units_at(const struct model *model, int64_t now)
{
	exact units = model->level + model->gain * (now - model->at);

	return units < model->burst * FINE ? units : model->burst * FINE;
}

static void settle(struct model *model, int64_t now)
{
	exact units = units_at(model, now);

	model->came += model->gain * (now - model->at);
	model->level = units;
	model->at = now;
}

static int64_t act_of(const struct model *model, const struct event *event)
{
	if (event->missing <= 0)
		return event->at;
	return event->at + (int64_t)((event->missing + model->gain - 1) / model->gain);
}

static void step_allow(struct bench *bench, struct model *model, int64_t now)
{
	int64_t n = chance_below(model->burst + 2);
	int rc = evwork_limiter_allow(bench->limiter, n);
	exact left = units_at(model, now) - n * FINE;

	expect(rc == (n > model->burst ? -ERANGE : left < 0 ? -EAGAIN : 0), "%d", rc);
	if (rc == 0) {
		settle(model, now);
		model->level = left;
		model->taken += n * FINE;
	}
}

static void step_reserve(struct bench *bench, struct model *model, int64_t now)
{
	int k = chance(HELD);
	int64_t n = chance_below(model->burst + 1), most = chance_below(10 * SECOND);
	struct event event = { now, n * FINE - units_at(model, now) };
	struct evwork_reservation held;
	int rc;

	if (event.missing < 0)
		event.missing = 0;
	rc = evwork_limiter_reserve(bench->limiter, n, most, &held);
	expect(rc == (act_of(model, &event) - now > most ? -ETIMEDOUT : 0), "%d", rc);
	if (rc)
		return;
	expect(held.act_ns == act_of(model, &event), "%lld", (long long)held.act_ns);
	settle(model, now);
	model->level -= n * FINE;
	model->taken += n * FINE;
	model->slots[k].own = held;
	model->slots[k].event = event;
	model->slots[k].n = n;
	model->slots[k].held = true;
	model->last = event;
}

static exact position(const struct model *model, const struct event *event)
{
	return model->gain * (event->at - START) + event->missing;
}

static bool is_last(const struct model *model, const struct event *event)
{
	return position(model, event) == position(model, &model->last) &&
		act_of(model, event) == act_of(model, &model->last);
}

static void step_cancel(struct model *model, int64_t now)
{
	int k = chance(HELD);
	struct event *event = &model->slots[k].event;
	exact back, full = model->burst * FINE;

	if (!model->slots[k].held)
		return;
	model->slots[k].held = false;
	expect(evwork_reservation_cancel(&model->slots[k].own) == 0, "%d", k);
	if (act_of(model, event) < now)
		return;
	back = position(model, &model->last) - position(model, event);
	back = model->slots[k].n * FINE - (back > 0 ? back : 0);
	settle(model, now);
	if (back <= 0)
		return;
	if (back > full - model->level)
		back = full - model->level;
	model->level += back;
	model->taken -= back;
	if (is_last(model, event)) {
		struct event before = *event;

		/* The one before it may have been missing less than nothing: it was earlier. */
		before.missing -= model->slots[k].n * FINE;
		if (model->gain * (now - before.at) <= before.missing)
			model->last = before;
	}
}

/* Reservations from before a change are not cancelled any more: their times are all
 * that is left of them. */
static void step_change(struct bench *bench, struct model *model, int64_t now)
{
	int k;

	settle(model, now);
	if (chance(2)) {
		model->rate = (double)(1 + chance_below(1 << 20)) / 1024;
		model->gain = (exact)(model->rate * 1024) << 30;
		expect(evwork_limiter_set_rate(bench->limiter, model->rate) == 0, "%d", 0);
	} else {
		model->burst = 1 + chance_below(chance(2) ? 20 : 10000);
		expect(evwork_limiter_set_burst(bench->limiter, model->burst) == 0, "%d", 0);
		if (model->level > model->burst * FINE)
			model->level = model->burst * FINE;
	}
	for (k = 0; k < HELD; k++)
		model->slots[k].held = false;
	/* The level may have been rounded down, by less than a unit. */
	{
		const struct evwork_bucket *bucket = &bench->limiter->bucket;
		exact unit = (exact)1 << (40 - bucket->_terms._shift);
		exact level = (exact)bucket->_level._units._high * ((exact)1 << 64) +
			bucket->_level._units._low;

		expect(level * unit <= model->level && (level + 1) * unit > model->level, "%d", 0);
		model->level = level * unit;
	}
}

static void step(struct bench *bench, struct model *model, int64_t now)
{
	switch (chance(50)) {
	case 0:
		step_change(bench, model, now);
		break;
	case 1: case 2: case 3: case 4: case 5: case 6: case 7: case 8:
		step_cancel(model, now);
		break;
	case 9: case 10: case 11: case 12: case 13: case 14: case 15: case 16: case 17: case 18:
		step_reserve(bench, model, now);
		break;
	default:
		step_allow(bench, model, now);
	}
}

/* A million random steps of time, cost, reservation, cancel and reconfiguration agree with
 * exact fractions, and never more is granted than the burst and what came, but for
 * what is reserved: S-LIM-1, S-LIM-2, S-LIM-3, S-LIM-4, S-LIM-12. */
START_TEST(agrees_with_fractions)
{
	struct model model = { .level = 10 * FINE, .rate = 10, .gain = (exact)10 << 40,
		.burst = 10, .at = START, .last = { START, 0 } };
	struct bench bench;
	int64_t i, now = START, steps = 1000000 / support_slow();

	bench_open(&bench, 10, 10);
	chance_seed(0);
	for (i = 0; i < steps; i++) {
		int64_t dt = chance(3) ? chance_below(SECOND / 50) :
			chance(4) ? 0 : chance_below(10 * SECOND);

		if (i % 1000 == 0) {
			model.taken = 10 * FINE - model.level;
			model.came = 0;
		}
		bench_go(&bench, dt);
		now += dt;
		step(&bench, &model, now);
		expect(model.taken <= 10 * FINE + model.came + (model.level < 0 ? -model.level : 0),
			"step %lld", (long long)i);
	}
	bench_close(&bench);
}
END_TEST

#endif

/* Libevent's own limits beside ours. */

struct pipe_end {
	struct bufferevent *buffer;
	size_t got;
};

static void on_read(struct bufferevent *buffer, void *arg)
{
	struct pipe_end *end = arg;

	end->got += evbuffer_get_length(bufferevent_get_input(buffer));
	evbuffer_drain(bufferevent_get_input(buffer), (size_t)-1);
}

static void after_limit(struct support_timer *timer)
{
	event_base_loopbreak(timer->arg);
}

/* A bufferevent with libevent's limits reads what those allow, no more and no less, on a
 * base where a limiter of ours refuses and has waiters: S-LIM-18. */
START_TEST(libevents_own)
{
	struct timeval tick = { 3600, 0 };
	struct ev_token_bucket_cfg *config = ev_token_bucket_cfg_new(1000, 1000, 1000, 1000, &tick);
	static const char text[4000];
	struct support_timer timer;
	struct evwork_limiter *limiter;
	struct pipe_end end = { NULL, 0 };
	struct world world;
	int fds[2], i;

	ck_assert_ptr_nonnull(config);
	world_open(&world, 1);
	ck_assert_int_eq(evwork_limiter_new(1, 1, NULL, &limiter), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	evutil_make_socket_nonblocking(fds[0]);
	end.buffer = bufferevent_socket_new(world.base, fds[0], 0);
	ck_assert_ptr_nonnull(end.buffer);
	ck_assert_int_eq(bufferevent_set_rate_limit(end.buffer, config), 0);
	bufferevent_setcb(end.buffer, on_read, NULL, NULL, &end);
	ck_assert_int_eq(bufferevent_enable(end.buffer, EV_READ), 0);
	ck_assert_int_eq(write(fds[1], text, sizeof(text)), sizeof(text));
	ck_assert_int_eq(evwork_limiter_allow(limiter, 1), 0);
	support_timer_init(&timer, world.loop);
	timer.on = after_limit;
	timer.arg = world.base;
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(evwork_limiter_allow(limiter, 1), -EAGAIN);
		ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 0), 0);
		event_base_dispatch(world.base);
	}
	ck_assert_uint_eq(end.got, 1000);
	ck_assert_int_eq(bufferevent_get_read_limit(end.buffer), 0);
	bufferevent_free(end.buffer);
	ev_token_bucket_cfg_free(config);
	close(fds[0]);
	close(fds[1]);
	ck_assert_int_eq(evwork_limiter_free(limiter), 0);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("limiter");
	TCase *tcase = support_case(suite, "rules");

	tcase_add_test(tcase, asked);
	tcase_add_test(tcase, allowed);
	tcase_add_test(tcase, reserved);
	tcase_add_test(tcase, given_back);
	tcase_add_test(tcase, given_back_to_full);
	tcase_add_test(tcase, given_back_at_its_rate);
	tcase_add_test(tcase, given_times);
	tcase_add_test(tcase, unlimited);
	tcase_add_test(tcase, hardly_any);
	tcase_add_test(tcase, promised_times);
	tcase_add_test(tcase, counted);
	tcase = support_case(suite, "life");
	tcase_add_test(tcase, misused);
	tcase_add_test(tcase, failing_calls);
	if (support_forks())
		tcase_add_test(tcase, forked);
	tcase = support_case(suite, "many");
	tcase_add_test(tcase, threads);
#ifdef __SIZEOF_INT128__
	tcase_add_test(tcase, agrees_with_fractions);
#endif
	tcase = support_case(suite, "libevent");
	tcase_add_test(tcase, libevents_own);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(suite());
}
