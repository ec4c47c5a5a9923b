/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_BUCKET_H
#define GUARD_BUCKET_H

/*
 * The parts of a bucket that limiters and tables are built of: numbers of 128 bits, and
 * what a level is worth under its terms.
 */

#include <stdbool.h>

#include "evwork/bucket.h"

typedef struct evwork_wide wide;

static inline wide wide_of(int64_t value)
{
	wide result = { value < 0 ? -1 : 0, (uint64_t)value };

	return result;
}

static inline wide wide_negate(wide a)
{
	return evwork__wide_sub(wide_of(0), a);
}

static inline wide wide_min(wide a, wide b)
{
	return evwork__wide_less(b, a) ? b : a;
}

static inline bool wide_is_zero(wide a)
{
	return a._high == 0 && a._low == 0;
}

/* a * 2^by, or a / 2^-by rounded down; by is between -127 and 127. */
wide wide_shift(wide a, int by);

/* a / b rounded up, for a >= 0 and b > 0; INT64_MAX if it is more. */
int64_t wide_divide_up(wide a, uint64_t b);
/* a / b rounded down, and the rest, for a >= 0 and 0 < b < 2^63. */
wide wide_divide(wide a, uint64_t b, uint64_t *ret_rest);

/* The largest q with q * b <= a, for b = 10^9 << shift; within int64_t. */
int64_t wide_tokens(wide a, uint32_t shift);

/* Units in a token, before the shift. */
#define BUCKET_UNITS UINT64_C(1000000000)

/* Burst << shift, in tokens, needs no more bits; a unit has 30 more before it is shifted. */
#define BUCKET_ROOM_BITS (125 - 30)

/* More tokens than that are no debt that anybody may take on. */
#define BUCKET_DEBT_MOST (INT64_MAX / 2)

/* The terms for a valid rate and burst, under which `tokens` fit, too. */
void bucket_make_terms(struct evwork_bucket_terms *terms, double rate, int64_t burst,
	int64_t tokens);
bool bucket_rate_valid(double rate);

static inline bool bucket_is_unlimited(const struct evwork_bucket_terms *terms)
{
	return terms->_gain == EVWORK__UNLIMITED;
}

/* Brings the level to a time, with at most `most` units. An unlimited level is full as soon
 * as any time has passed (S-LIM-6). */
void bucket_settle(struct evwork_bucket *bucket, wide most, int64_t now_ns);

/* Nanoseconds until so many units have come; EVWORK_NEVER. */
int64_t bucket_time_for(const struct evwork_bucket_terms *terms, wide missing);

#endif
