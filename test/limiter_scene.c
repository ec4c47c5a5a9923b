/* SPDX-License-Identifier: BSD-3-Clause */
#include "limiter_scene.h"

struct evwork_limiter *limiter_with(double rate, int64_t burst,
	struct evwork_limiter_options options)
{
	struct evwork_limiter *limiter;

	ck_assert_int_eq(evwork_limiter_new(rate, burst, &options, &limiter), 0);
	return limiter;
}

int64_t limiter_tokens(struct evwork_limiter *limiter)
{
	int64_t tokens;

	ck_assert_int_eq(evwork_limiter_tokens(limiter, &tokens), 0);
	return tokens;
}

struct evwork_limiter_stats limiter_stats(struct evwork_limiter *limiter)
{
	struct evwork_limiter_stats stats;

	ck_assert_int_eq(evwork_limiter_stats(limiter, &stats), 0);
	return stats;
}
