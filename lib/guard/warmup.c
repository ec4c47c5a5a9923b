/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The arithmetic of warm-up: the trapezoid of Guava's SmoothWarmingUp, with its cold factor
 * of 3.
 *
 *	      price of a token
 *	   3 ┤                 ╱
 *	     │              ╱
 *	     │           ╱
 *	   1 ┼─────────╱
 *	     └─────────┬────────┬── cold: idle tokens
 *	     0        half    2 half = rate * span
 *
 * Idle tokens are stored, and what is taken is taken from them: those above the half first,
 * on the slope. With this factor they come at the rate itself, and fill the store in just
 * the span. Going down the slope also takes the span: half of it for the tokens, and as
 * much for what they cost in addition.
 *
 * That is the area between slope and 1. From the half up to `a` above it the area is a^2 /
 * half, which is rounded here; each price is the difference of two such areas. So on the
 * way from cold to warm all roundings but the first and the last cancel out, however
 * many steps it takes, and taking and giving back are exact inverses. Below the half
 * nothing is rounded.
 *
 * Areas are computed on numbers of 62 bits, so that squares have 124, and rounded to units.
 * So a price is wrong by less than 2^-59 of the half and a unit, which is a nanosecond or
 * less: by less than 2 ns up to a span of 36 years.
 */

#include "guard/warmup.h"

#include <string.h>

#define COARSE_BITS 62

/* A store of more tokens counts as one of so many: debts stay within what a bucket
 * bears. */
#define TOKENS_MOST (INT64_C(1) << 60)

static int bits_of(wide value)
{
	int bits = 0;

	for (; !wide_is_zero(value); value = wide_shift(value, -1))
		bits++;
	return bits;
}

static wide most_of(const struct warmup *warmup)
{
	return wide_shift(warmup->half, 1);
}

static void set_terms(struct warmup *warmup, const struct evwork_bucket_terms *terms)
{
	wide most = wide_of(0);

	if (!bucket_is_unlimited(terms))
		most = evwork__wide_mul(terms->_gain, (uint64_t)warmup->span_ns);
	if (wide_tokens(most, terms->_shift) > TOKENS_MOST)
		most = evwork__bucket_cost(terms, TOKENS_MOST);
	warmup->half = wide_shift(most, -1);
	warmup->scale = bits_of(warmup->half) - COARSE_BITS;
	warmup->coarse = wide_shift(warmup->half, -warmup->scale)._low;
}

void warmup_init(struct warmup *warmup, int64_t span_ns, const struct evwork_bucket_terms *terms)
{
	memset(warmup, 0, sizeof(*warmup));
	warmup->span_ns = span_ns;
	set_terms(warmup, terms);
	warmup->cold = most_of(warmup);
}

void warmup_idle(struct warmup *warmup, wide units)
{
	if (units._high >= 0)
		warmup->cold = wide_min(most_of(warmup), evwork__wide_add(warmup->cold, units));
}

/* The area from the half up to where `cold` units are stored. */
static wide area_to(const struct warmup *warmup, wide cold)
{
	wide above = evwork__wide_sub(cold, warmup->half);
	uint64_t coarse, rest;

	if (above._high < 0 || warmup->coarse == 0)
		return wide_of(0);
	coarse = wide_shift(above, -warmup->scale)._low;
	return wide_shift(wide_divide(evwork__wide_mul(coarse, coarse), warmup->coarse, &rest),
		warmup->scale);
}

static wide left_after(const struct warmup *warmup, wide units)
{
	wide left = evwork__wide_sub(warmup->cold, units);

	return left._high < 0 ? wide_of(0) : left;
}

wide warmup_price(const struct warmup *warmup, wide units)
{
	/* A warm one has no areas to divide for. */
	if (!evwork__wide_less(warmup->half, warmup->cold))
		return wide_of(0);
	return evwork__wide_sub(area_to(warmup, warmup->cold),
		area_to(warmup, left_after(warmup, units)));
}

wide warmup_take(struct warmup *warmup, wide units)
{
	wide price = warmup_price(warmup, units);

	warmup->cold = left_after(warmup, units);
	return price;
}

wide warmup_give_back(struct warmup *warmup, wide units)
{
	wide before = warmup->cold;

	warmup_idle(warmup, units);
	return evwork__wide_sub(area_to(warmup, warmup->cold), area_to(warmup, before));
}

void warmup_change(struct warmup *warmup, const struct evwork_bucket_terms *before,
	const struct evwork_bucket_terms *terms)
{
	/* How cold it is, in 2^-62. At rate 0 nothing comes, and it is cold; without a limit
	 * everything has passed, and it is warm. */
	uint64_t share = UINT64_C(1) << COARSE_BITS, rest;

	if (bucket_is_unlimited(before))
		share = 0;
	else if (warmup->coarse)
		share = wide_divide(evwork__wide_mul(share,
			wide_shift(warmup->cold, -warmup->scale - 1)._low),
			warmup->coarse, &rest)._low;
	set_terms(warmup, terms);
	warmup->cold = wide_shift(wide_shift(evwork__wide_mul(share, warmup->coarse),
		-COARSE_BITS), warmup->scale + 1);
}
