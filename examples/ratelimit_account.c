/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "ratelimit_account.h"

#define SECOND_NS INT64_C(1000000000)
#define MS_NS INT64_C(1000000)

/*
 * In any time T there may be burst + rate * (T + slack) grants. When exactly the limiter has made a
 * grant it does not tell: after the turn was asked for, before it was called back. So the
 * shortest time in which the grants i to j surely were is from asked[i] to sent[j], and for
 * every i <= j
 *
 *	j - i + 1 <= burst + rate * (sent[j] - asked[i] + slack)
 *
 * must hold. With all that belongs to i on one side, the least of which is kept, one
 * comparison for each j does for all i:
 *
 *	(j + 1 - burst) - rate * (sent[j] + slack) <= i - rate * asked[i]
 *
 * The first turn was asked for when the bucket was just made, so for i = 0 that is as sharp
 * as it can be. In billionths, since times are in nanoseconds, these are whole numbers, which
 * at the highest rate have room for ten days.
 */
void account_grant(struct account *account, const struct record *record)
{
	int64_t rate = (int64_t)account->rate;
	int64_t j = (int64_t)account->granted;
	int64_t latest = record->sent_ns + (int64_t)account->slack_ms * MS_NS;
	int64_t mine = j * SECOND_NS - rate * record->asked_ns;

	account->disorder = account->disorder || record->number != account->granted;
	if (j == 0)
		account->first_ns = record->sent_ns;
	account->last_ns = record->sent_ns;
	if (j == 0 || mine < account->least)
		account->least = mine;
	if ((j + 1 - (int64_t)account->burst) * SECOND_NS - rate * latest > account->least)
		account->excess = true;
	account->granted++;
}

static void ms_print(int64_t ns)
{
	printf(" %8" PRId64 ".%06" PRId64, ns / MS_NS, ns % MS_NS);
}

int account_answer(struct account *account, const struct record *record)
{
	if (account->answered++ == 0)
		printf("#request        asked            sent        answered, in milliseconds\n");
	printf("%8" PRIu64, record->number);
	ms_print(record->asked_ns);
	ms_print(record->sent_ns);
	ms_print(record->answered_ns);
	putchar('\n');
	return ferror(stdout) ? -EIO : 0;
}

bool account_close(const struct account *account, struct evwork_limiter *limiter)
{
	struct evwork_limiter_stats stats;
	int64_t span = account->last_ns - account->first_ns;
	bool agrees = evwork_limiter_stats(limiter, &stats) == 0 && stats.waiting == 0
		&& stats.granted == account->granted && stats.cancelled == account->cancelled
		&& account->asked == account->granted + account->cancelled;

	printf("%" PRIu64 " requests: %" PRIu64 " answered, %" PRIu64 " unanswered, %" PRIu64
		" cancelled, %" PRIu64 " not begun\n",
		account->requests, account->answered, account->granted - account->answered,
		account->cancelled, account->requests - account->asked);
	if (span > 0)
		printf("%.3f seconds from the first to the last: %.3f a second\n",
			(double)span / (double)SECOND_NS,
			(double)(account->granted - 1) * (double)SECOND_NS / (double)span);
	printf("turns came %s\n", account->disorder ? "out of order" : "in order");
	printf("the limit was %s: %" PRIu64 " + %" PRIu64 " * (T + %.3f) in any T seconds\n",
		account->excess ? "broken" : "kept", account->burst, account->rate,
		(double)account->slack_ms / 1000);
	printf("the limiter counts %s\n", agrees ? "the same" : "something else");
	return agrees && !account->disorder && !account->excess;
}
