/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_STATUS_H
#define EVWORK_STATUS_H

/*
 * Statuses.
 *
 * Every fallible call of this library returns 0 (or a documented count >= 0)
 * or a negated code of <errno.h>, and every callback receives its status the
 * same way. `errno` itself is neither read nor promised (S-GEN-1). What a job's
 * work returns is passed through untouched, whatever its value.
 *
 * The codes and what they mean everywhere in this library:
 *
 *   EINVAL      malformed argument or configuration; nothing happened
 *   EPERM       a [loop] call came from another thread; nothing happened
 *   EDEADLK     a blocking call that could never return
 *   ESHUTDOWN   the object takes no new work: closing or closed
 *   EBUSY       in use: job already running, results undelivered
 *   EALREADY    a one-shot action was done before; harmless
 *   ESRCH       the thing is idle: it existed and is gone
 *   ERANGE      can never succeed with the present configuration
 *   ECANCELED   stopped by a context, a group or an explicit cancel
 *   ETIMEDOUT   a deadline passed, or would surely pass before success
 *   EAGAIN      full, or at its limit right now; the same call may work later
 *   EPIPE       the other side of a channel or pipeline has closed
 *   EHOSTDOWN   breaker open: refused without trying
 *   EOWNERDEAD  the job crashed: it ended its thread or panicked
 *   ENOENT      nothing to choose from
 *   ENOMEM      allocation failed; nothing happened
 *
 * When several refusals apply the first in this order is returned (S-GEN-4):
 * EINVAL, EPERM or EDEADLK, ESRCH, ESHUTDOWN or EBUSY or EALREADY, ERANGE, the
 * error of the context, EAGAIN, ENOMEM. The one exception is evwork_submit(),
 * which asks the context before it asks whether lane and pool are open
 * (S-LANE-2).
 *
 * The tags used in these headers: [any] any thread; [loop] the thread of the
 * loop concerned, else -EPERM; [wait] a blocking call for worker and foreign
 * threads, -EDEADLK where it could never return; [setup] before the library's
 * first use.
 */

#include <errno.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "Never", wherever a point in time in nanoseconds is meant (S-GEN-9). */
#define EVWORK_NEVER INT64_MAX

/* No limit on a queue's length; must be asked for by this name (S-POOL-6). */
#define EVWORK_UNBOUNDED SIZE_MAX

/*
 * evwork_strerror [any] gives words for a status of this library. It takes the
 * negated code as callbacks and calls return it. The text is a constant; a
 * status outside the table above gives "unknown status", which a job's own codes may
 * well be: strerror(-status) knows those of the system.
 */
const char *evwork_strerror(int status);

#ifdef __cplusplus
}
#endif

#endif
