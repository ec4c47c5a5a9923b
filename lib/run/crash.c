/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Panics and deferred functions. A panic costs nothing where there is none: each worker
 * has set its point of return once, outside of its loop, and a job that panics jumps
 * there after its deferred functions were called, on the stack of the panic, so that
 * what they point to is still there.
 */

#include "run/crash.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

static char no_memory[] = "(no memory for the text)";

char *crash_new_text(void)
{
	return sys_alloc(EVWORK_PANIC_TEXT_MAX + 1);
}

void crash_free_text(char *text)
{
	if (text != no_memory)
		sys_free(text);
}

/* The worker that runs this job on the calling thread, or NULL. */
static struct worker *worker_of(const struct evwork_job *job)
{
	struct worker *here = worker_here();

	return here && here->current == job ? here : NULL;
}

void crash_call_deferred(struct worker *worker)
{
	while (worker->deferred) {
		struct evwork_defer *defer = worker->deferred;

		/* First, as the function may free or panic. */
		worker->deferred = defer->_next;
		defer->fn(defer->arg);
	}
}

void crash_call_deferred_here(struct worker *worker)
{
	if (sys_jump_set(worker->back) == 0)
		crash_call_deferred(worker);
}

void evwork_panic(struct evwork_job *job, const char *format, ...)
{
	struct worker *worker = job ? worker_of(job) : NULL;
	va_list args;

	if (!worker) {
		base_log(EVWORK_LOG_ERROR,
			"evwork_panic: the job does not run on the thread that called it");
		abort();
	}
	if (!worker->panicked && worker->text) {
		va_start(args, format);
		vsnprintf(worker->text, EVWORK_PANIC_TEXT_MAX + 1, format ? format : "", args);
		va_end(args);
	}
	worker->panicked = true;
	crash_call_deferred(worker);
	sys_jump_back(worker->back);
}

/* Gives the text to the job, and the worker a new one. */
static void hand_over_text(struct worker *worker, struct evwork_job *job)
{
	job->_late._text = worker->text ? worker->text : no_memory;
	worker->text = crash_new_text();
	worker->panicked = false;
	/* Release: pairs with the acquire of who sees the flag. The job may be abandoned,
	 * so that the loop looks at it already. */
	__atomic_fetch_or(&job->_state, JOB_PANICKED, __ATOMIC_ACQ_REL);
}

bool crash_end_job(struct worker *worker)
{
	struct evwork_job *job = worker->current;
	uint32_t state;

	worker_end_work(worker);
	if (worker->panicked)
		hand_over_text(worker, job);
	state = job_state(job);
	if (state & JOB_SPECIAL)
		return job_finish(worker, job, state, -EOWNERDEAD, true);
	job_end(job, state, -EOWNERDEAD);
	return true;
}

int evwork_defer(struct evwork_job *job, struct evwork_defer *defer, void (*fn)(void *arg),
	void *arg)
{
	struct worker *worker;

	if (!job || !defer || !fn)
		return -EINVAL;
	worker = worker_of(job);
	if (!worker)
		return -EPERM;
	defer->fn = fn;
	defer->arg = arg;
	defer->_next = worker->deferred;
	worker->deferred = defer;
	return 0;
}

const char *evwork_job_panic_text(const struct evwork_job *job)
{
	return job && (job_state(job) & JOB_PANICKED) ? crash_text(job) : "";
}

int evwork_crash_job(struct evwork_crash_info *ret_info)
{
	const struct worker *here = worker_here();
	/* The thread itself writes this, and may have been interrupted at any point. */
	const struct evwork_job *job = here ?
		__atomic_load_n(&here->current, __ATOMIC_RELAXED) : NULL;

	if (!ret_info)
		return -EINVAL;
	if (!job)
		return -ESRCH;
	ret_info->job = job;
	ret_info->lane = __atomic_load_n(&job->_lane, __ATOMIC_RELAXED)->name;
	ret_info->pool = here->pool->name;
	ret_info->worker = here->index;
	return 0;
}
