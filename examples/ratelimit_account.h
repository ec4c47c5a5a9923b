/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_RATELIMIT_ACCOUNT_H
#define EXAMPLES_RATELIMIT_ACCOUNT_H

/* What became of the requests, when, and whether that was within the limit. */

#include <stdbool.h>
#include <stdint.h>

#include <evwork.h>

/* A request; times are in nanoseconds from the start. */
struct record {
	uint64_t number;         /* in the order of asking for a turn */
	int64_t asked_ns;        /* before its turn was asked for */
	int64_t sent_ns;         /* when it had got its turn */
	int64_t answered_ns;
};

/* All zero at first, but for what is limited. */
struct account {
	uint64_t requests;       /* that are to be made */
	uint64_t rate, burst;    /* what is allowed: rate a second, burst at once */
	uint64_t slack_ms;       /* that the loop may be late without loss */
	/* asked = granted + cancelled, and granted = answered + unanswered, in the end. */
	uint64_t asked, granted, cancelled, answered;
	int64_t first_ns, last_ns;   /* the first and the last that were sent */
	int64_t least;           /* see account_grant() */
	bool disorder;           /* somebody was overtaken */
	bool excess;             /* the limit was broken */
};

/* Got its turn. */
void account_grant(struct account *account, const struct record *record);

/* Was answered; writes the log. 0, or -EIO: that could not be written. */
int account_answer(struct account *account, const struct record *record);

/* Prints the summary. False: something in it is not as it should be; the counters of
 * the limiter are compared, too. */
bool account_close(const struct account *account, struct evwork_limiter *limiter);

#endif
