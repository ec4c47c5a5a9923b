/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_WARMUP_H
#define GUARD_WARMUP_H

/*
 * Warm-up: how cold a limiter is, and what its tokens cost while it is. Pure arithmetic, in
 * the units of a bucket's terms (guard/bucket.h); who uses it says what was idle and what
 * is taken.
 */

#include "guard/bucket.h"

struct warmup {
	int64_t span_ns;          /* from cold to warm; 0: there is no warm-up */
	wide cold;                /* units that were idle, from 0 to twice the half */
	wide half;                /* tokens cost more above that */
	uint64_t coarse;          /* half / 2^scale, in 62 bits; 0 if half is */
	int scale;
};

/* Cold, under these terms. */
void warmup_init(struct warmup *warmup, int64_t span_ns, const struct evwork_bucket_terms *terms);

/* So many units came and found no room, where 0 or less are none. */
void warmup_idle(struct warmup *warmup, wide units);

/* What these units cost in addition to themselves if they are taken now; and takes them. */
wide warmup_price(const struct warmup *warmup, wide units);
wide warmup_take(struct warmup *warmup, wide units);

/* The units that were taken last are given back; what they had cost in addition. */
wide warmup_give_back(struct warmup *warmup, wide units);

/* The terms have changed: as cold as before, in relation. */
void warmup_change(struct warmup *warmup, const struct evwork_bucket_terms *before,
	const struct evwork_bucket_terms *terms);

#endif
