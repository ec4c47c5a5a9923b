/* SPDX-License-Identifier: BSD-3-Clause */
#include "breaker_scene.h"

void breaker_call(struct evwork_breaker *breaker, enum evwork_outcome outcome, int64_t ns)
{
	struct evwork_breaker_permit permit = { 0 };

	ck_assert_int_eq(evwork_breaker_acquire(breaker, &permit), 0);
	ck_assert_int_eq(evwork_breaker_report(&permit, outcome, ns), 0);
}

void breaker_calls(struct evwork_breaker *breaker, enum evwork_outcome outcome, int n)
{
	while (n-- > 0)
		breaker_call(breaker, outcome, 0);
}

int breaker_try(struct evwork_breaker *breaker)
{
	struct evwork_breaker_permit permit = { 0 };
	int rc = evwork_breaker_acquire(breaker, &permit);

	evwork_breaker_drop(&permit);
	return rc;
}

struct evwork_breaker_metrics breaker_metrics(struct evwork_breaker *breaker)
{
	struct evwork_breaker_metrics metrics;

	ck_assert_int_eq(evwork_breaker_metrics(breaker, &metrics), 0);
	return metrics;
}

void breaker_set(struct evwork_breaker *breaker, enum evwork_breaker_state state)
{
	ck_assert_int_eq(evwork_breaker_set(breaker, state), 0);
}

void expect_breaker(struct evwork_breaker *breaker, enum evwork_breaker_state state)
{
	ck_assert_int_eq(evwork_breaker_state(breaker), (int)state);
}
