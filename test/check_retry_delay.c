/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The delays between attempts, and what policies refuse: arithmetic. Random numbers come
 * from EVWORK_STRESS_SEED, which repeats a run.
 */

#include "support.h"

#include <math.h>

#include "guard/backoff.h"

#define MS INT64_C(1000000)

static uint64_t stress_seed;

/* S-RTY-3: base, base * factor, ... up to the cap; also the millionth. */
START_TEST(sequence)
{
	struct backoff_config config = { .base_ns = 100 * MS, .cap_ns = 1000 * MS, .factor = 2,
		.jitter = EVWORK_JITTER_NONE };
	static const int64_t wanted[] = { 100, 200, 400, 800, 1000, 1000 };
	struct backoff backoff;
	int i;

	backoff_restart(&backoff, &config);
	for (i = 0; i < 6; i++)
		ck_assert_int_eq(backoff_next(&backoff, &config, 0), wanted[i] * MS);
	for (i = 0; i < 1000000; i++)
		if (backoff_next(&backoff, &config, 0) != 1000 * MS)
			ck_abort_msg("the %dth", i);
	backoff_restart(&backoff, &config);
	ck_assert_int_eq(backoff_next(&backoff, &config, 0), 100 * MS);
	/* It saturates, and 0 stays 0. */
	config.cap_ns = INT64_MAX;
	config.factor = 1e300;
	for (i = 0; i < 10; i++)
		ck_assert_int_ge(backoff_next(&backoff, &config, 0), 100 * MS);
	ck_assert_int_eq(backoff_next(&backoff, &config, 0), INT64_MAX);
	config.base_ns = 0;
	backoff_restart(&backoff, &config);
	ck_assert_int_eq(backoff_next(&backoff, &config, 0), 0);
	ck_assert_int_eq(backoff_next(&backoff, &config, UINT64_MAX), 0);
}
END_TEST

/* S-RTY-4, S-RTY-5: within bounds that are reached, with the extremes of the generator. */
START_TEST(jitter)
{
	static const struct { enum evwork_jitter jitter; double spread; int64_t low, high; } rows[] = {
		{ EVWORK_JITTER_NONE, 0, 800, 800 }, { EVWORK_JITTER_FULL, 0, 0, 800 },
		{ EVWORK_JITTER_EQUAL, 0, 400, 800 }, { EVWORK_JITTER_SPREAD, 0.25, 600, 1000 },
		{ EVWORK_JITTER_SPREAD, 1, 0, 1000 }, { EVWORK_JITTER_SPREAD, 0, 800, 800 },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct backoff_config config = { .base_ns = 800 * MS, .cap_ns = 1000 * MS,
			.factor = 1, .jitter = rows[i].jitter, .spread = rows[i].spread };
		struct backoff backoff;
		int64_t delay;

		backoff_restart(&backoff, &config);
		ck_assert_int_eq(backoff_next(&backoff, &config, 0), rows[i].low * MS);
		delay = backoff_next(&backoff, &config, UINT64_MAX);
		ck_assert_int_le(delay, rows[i].high * MS);
		ck_assert_int_ge(delay, rows[i].high * MS - 1);
	}
}
END_TEST

/* S-RTY-4: from the base to three times the last. */
START_TEST(decorrelated)
{
	struct backoff_config config = { .base_ns = 100 * MS, .cap_ns = 2000 * MS, .factor = 2,
		.jitter = EVWORK_JITTER_DECORRELATED };
	struct backoff backoff;

	backoff_restart(&backoff, &config);
	ck_assert_int_ge(backoff_next(&backoff, &config, UINT64_MAX), 300 * MS - 2);
	ck_assert_int_ge(backoff_next(&backoff, &config, UINT64_MAX), 900 * MS - 4);
	ck_assert_int_eq(backoff_next(&backoff, &config, 0), 100 * MS);
	ck_assert_int_le(backoff_next(&backoff, &config, UINT64_MAX), 300 * MS);
	backoff_next(&backoff, &config, UINT64_MAX);
	backoff_next(&backoff, &config, UINT64_MAX);
	ck_assert_int_eq(backoff_next(&backoff, &config, UINT64_MAX), 2000 * MS);
}
END_TEST

/* S-RTY-4, S-RTY-5: random configurations: never above the cap or below 0. */
START_TEST(random_delays)
{
	_Atomic uint64_t state = stress_seed;
	int round, i;

	for (round = 0; round < 2000; round++) {
		struct backoff_config config = {
			.base_ns = (int64_t)(backoff_random(&state) >> 1 >> backoff_random(&state) % 63),
			.factor = 1 + (double)(backoff_random(&state) % 100) / 10,
			.jitter = (enum evwork_jitter)(backoff_random(&state) % 5),
			.spread = (double)(backoff_random(&state) % 101) / 100 };
		struct backoff backoff;

		config.cap_ns = sys_time_add(config.base_ns,
			(int64_t)(backoff_random(&state) >> 1 >> backoff_random(&state) % 63));
		backoff_restart(&backoff, &config);
		for (i = 0; i < 50; i++) {
			int64_t delay = backoff_next(&backoff, &config, backoff_random(&state));

			if (delay < 0 || delay > config.cap_ns)
				ck_abort_msg("%lld of %lld", (long long)delay, (long long)config.cap_ns);
		}
	}
}
END_TEST

/* S-RTY-6: a seed gives its numbers, another one others. */
START_TEST(seeds)
{
	_Atomic uint64_t a = 1, b = 1, c = 2;
	int i, same = 0;

	for (i = 0; i < 1000; i++) {
		uint64_t number = backoff_random(&a);

		ck_assert_uint_eq(number, backoff_random(&b));
		same += number == backoff_random(&c);
	}
	ck_assert_int_eq(same, 0);
}
END_TEST

/* S-RTY-1, S-RTY-3, S-RTY-16: what a policy refuses. */
START_TEST(policy_bounds)
{
	static const struct evwork_retry_options bad[] = {
		{ .max_attempts = -1 }, { .base_ms = -1 }, { .cap_ms = -1 },
		{ .base_ms = 10, .cap_ms = 9 }, { .cap_ms = 99 }, { .factor = 0.99 },
		{ .factor = -1 }, { .factor = NAN }, { .factor = INFINITY },
		{ .jitter = (enum evwork_jitter)5 }, { .spread = -0.1 }, { .spread = 1.1 },
		{ .spread = NAN }, { .attempt_timeout_ms = -1 }, { .no_delay = 1, .base_ms = 1 },
		{ .overlap = 1, .attempt_timeout_ms = 1 }, { .overlap = 1, .idempotent = 1 },
		{ .overlap = 1, .idempotent = 1, .attempt_timeout_ms = 1,
		  .max_attempts = EVWORK_OVERLAP_MAX + 1 },
	};
	static const struct evwork_retry_options good[] = {
		{ .max_attempts = 1 }, { .base_ms = 10, .cap_ms = 10 }, { .no_delay = 1, .cap_ms = 1 },
		{ .base_ms = 20000 }, { .factor = 1, .spread = 1 },
		{ .overlap = 1, .idempotent = 1, .attempt_timeout_ms = 1 },
	};
	struct evwork_retry_policy *policy = NULL;
	struct evwork_retry_stats stats;
	size_t i;
	int k, rc;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(evwork_retry_policy_new(&bad[i], &policy) == -EINVAL, "row %zu", i);
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_int_eq(evwork_retry_policy_new(&good[i], &policy), 0);
		ck_assert_int_eq(evwork_retry_policy_free(policy), 0);
	}
	ck_assert_int_eq(evwork_retry_policy_new(NULL, &policy), -EINVAL);
	ck_assert_int_eq(evwork_retry_policy_new(&good[0], NULL), -EINVAL);
	ck_assert_int_eq(evwork_retry_policy_free(NULL), 0);
	ck_assert_int_eq(evwork_retry_policy_stats(NULL, &stats), -EINVAL);
	for (k = 1; ; k++) {
		fault_start(SYS_CALLS, k, false);
		rc = evwork_retry_policy_new(&good[0], &policy);
		if (fault_stop() < k)
			break;
		ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert_int_eq(evwork_retry_policy_stats(policy, NULL), -EINVAL);
	ck_assert_int_eq(evwork_retry_policy_free(policy), 0);
}
END_TEST

int main(void)
{
	const char *seed = getenv("EVWORK_STRESS_SEED");
	Suite *suite = suite_create("retry_delay");
	TCase *delays = support_case(suite, "delays");
	TCase *bounds = support_case(suite, "bounds");

	stress_seed = seed ? strtoull(seed, NULL, 0) : sys_random();
	support_note("EVWORK_STRESS_SEED=%llu", (unsigned long long)stress_seed);
	tcase_add_test(delays, sequence);
	tcase_add_test(delays, jitter);
	tcase_add_test(delays, decorrelated);
	tcase_add_test(delays, random_delays);
	tcase_add_test(delays, seeds);
	tcase_add_test(bounds, policy_bounds);
	return support_run(suite);
}
