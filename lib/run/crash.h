/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_CRASH_H
#define RUN_CRASH_H

#include "run/job.h"
#include "evwork/crash.h"

/* The room for one text: each worker has one beforehand, and gives it away with the
 * job that panicked. NULL if there is no memory. */
char *crash_new_text(void);
void crash_free_text(char *text);

/* [worker] Calls the remaining deferred functions, where the stack of work is gone: a
 * panic in one of them ends here. */
void crash_call_deferred_here(struct worker *worker);

/* [worker] The rest of the way of the current job, as if work had returned -EOWNERDEAD; true if
 * the job is to be posted. */
bool crash_end_job(struct worker *worker);

/* [loop] The text of a job with JOB_PANICKED. */
static inline char *crash_text(const struct evwork_job *job)
{
	return job->_late._text;
}

#endif
