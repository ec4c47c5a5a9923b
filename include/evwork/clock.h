/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_CLOCK_H
#define EVWORK_CLOCK_H

/*
 * Time.
 *
 * All points in time are CLOCK_MONOTONIC in signed 64-bit nanoseconds, all
 * arithmetic on them saturates, and EVWORK_NEVER is never reached (S-GEN-9).
 * Setting the wall clock has no effect on anything.
 *
 * Loops and pools read the system's clock unless their options name a manual
 * clock (S-GEN-13). A manual clock stands still until it is told to move, so
 * that a test, a simulation or a replay decides when deadlines pass. Contexts
 * and timers take their clock from their loop, lanes from their pool.
 */

#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_clock;

/*
 * evwork_clock_new [any] makes a manual clock that shows start_ns, which may be
 * any value >= 0 below EVWORK_NEVER. The caller owns it and frees it after
 * every loop and pool that uses it.
 * -EINVAL: ret_clock is NULL or start_ns is out of range. -ENOMEM.
 */
int evwork_clock_new(int64_t start_ns, struct evwork_clock **ret_clock);

/* evwork_clock_free [any]. NULL is fine. -EBUSY: a loop or pool still uses it. */
int evwork_clock_free(struct evwork_clock *clock);

/* evwork_clock_now [any]: what the clock shows; NULL is the system's clock. */
int64_t evwork_clock_now(struct evwork_clock *clock);

/*
 * evwork_clock_advance [any] moves the clock forward by duration_ns, stopping
 * at each due time of each loop that uses it, in order: the clock goes on from
 * a stop only after that loop has run its callbacks of that time, so nothing
 * is late. No callback runs inside this call; when it returns the clock shows
 * the first stop, or the end when nothing is due before it. Further calls add
 * to the distance that is left.
 *
 * evwork_clock_jump [any] moves it in one step, which is what a stalled loop
 * sees: everything due on the way is late by what was jumped over. Distance
 * still to go from an earlier advance is counted in first.
 *
 * -EINVAL: clock is NULL, or duration_ns is negative.
 */
int evwork_clock_advance(struct evwork_clock *clock, int64_t duration_ns);
int evwork_clock_jump(struct evwork_clock *clock, int64_t duration_ns);

#ifdef __cplusplus
}
#endif

#endif
