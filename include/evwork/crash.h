/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_CRASH_H
#define EVWORK_CRASH_H

/*
 * Work that goes wrong: panics, functions that are called however work ends, and
 * what a crash handler may ask.
 *
 * Work may end its job from any depth of its own calls with evwork_panic(). What it
 * must not leave behind it registers with evwork_defer(), the last first:
 *
 *	static int request_run(struct evwork_job *job)
 *	{
 *		struct request *request = EVWORK_CONTAINER(job, struct request, job);
 *
 *		request->file = fopen(request->path, "r");
 *		if (!request->file)
 *			evwork_panic(job, "cannot open %s", request->path);
 *		evwork_defer(job, &request->close_file, request_close_file, request);
 *		return parse(request);      // which may panic, too
 *	}
 *
 * Work that ends its thread (pthread_exit, or pthread_cancel by someone else) is
 * contained as well: its deferred functions are called, done gets -EOWNERDEAD with
 * evwork_job_ran() 1, once, and another thread takes the worker's place, with the
 * same index (S-CRASH-2). on_stop is called on the thread that ends, after the deferred
 * functions, and on_start on the new one. If no thread can be made, or on_start fails, the pool says so in the
 * log, goes on with fewer workers, and tries again at each submit; without any worker
 * what is queued ends with -EAGAIN, not run, and a submit is refused with -EAGAIN
 * (S-CRASH-3). A pthread_cancel takes effect in work only, and there also not while
 * work is inside a blocking call of this library; one that meets a worker between two
 * jobs ends the next that comes to a cancellation point. Work that changes the
 * cancellation state or type of its thread puts it back.
 *
 * What is not contained:
 *
 * - SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT, of which the overflow of a worker's
 *   stack is one: the process dies with the faulting stack in its core (S-CRASH-1,
 *   -10).
 * - longjmp or a C++ exception out of work or any callback, and ending the thread in a
 *   callback other than work and deferred functions: undefined (S-CRASH-5). C++ work
 *   catches what it throws; where it catches everything it must let
 *   abi::__forced_unwind pass, or pthread_exit ends the process.
 */

#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_job;

/* As much of a panic's text is kept, in bytes. */
#define EVWORK_PANIC_TEXT_MAX 255

/*
 * evwork_panic [in work] ends the work of the job that the calling thread runs: calls
 * the deferred functions, and then leaves everything that work has called without
 * another look at it, like longjmp. done gets -EOWNERDEAD with evwork_job_ran() 1 and
 * the text (S-CRASH-11); of an abandoned job drop gets the text. The worker lives on.
 *
 * Only C code of your own may lie between work and this call: never a callback of this
 * or another library (qsort's comparison, say), and no C++ frame with destructors. No
 * lock that work holds is released, unless by a deferred function.
 *
 * The text is formatted at once and cut to 255 bytes; a NULL format gives none. In a
 * deferred function a panic ends that function; the remaining ones are called, and the
 * first text is kept.
 *
 * If the job does not run on the calling thread, this says so through the log hook and
 * aborts the process (S-CRASH-13).
 */
#ifdef __GNUC__
__attribute__((noreturn, format(printf, 2, 3)))
#endif
void evwork_panic(struct evwork_job *job, const char *format, ...);

/*
 * A deferred function. The struct is yours and is the library's from the registration
 * until the function starts. It must outlive the stack frame of work: functions are
 * called after that has returned. So it belongs into the request, not on the stack.
 */
struct evwork_defer {
	void (*fn)(void *arg);
	void *arg;
	struct evwork_defer *_next;
};

/*
 * evwork_defer [in work, and in deferred functions] has fn(arg) called once, on the
 * worker, after work has returned, panicked or ended its thread, and before done is
 * posted; the last registered first (S-CRASH-12). To fn the job still runs: it may ask
 * evwork_job_err(), defer and panic. The struct must not be registered already.
 * -EINVAL: job, defer or fn is NULL.
 * -EPERM: job does not run on the calling thread; nothing happened (S-CRASH-13).
 */
int evwork_defer(struct evwork_job *job, struct evwork_defer *defer, void (*fn)(void *arg),
	void *arg);

/*
 * evwork_job_panic_text [loop], in done and drop: the text of the panic that ended the
 * work of this job; "" if it did not panic. The library's, until done or drop returns.
 * If there was no memory for the text it says so instead.
 */
const char *evwork_job_panic_text(const struct evwork_job *job);

/* What the calling thread is doing. The strings are the library's and stay as long as
 * the job runs. */
struct evwork_crash_info {
	const struct evwork_job *job;
	const char *lane;       /* the name of its lane */
	const char *pool;       /* the name of the pool */
	int worker;             /* the index of the worker in the pool */
};

/*
 * evwork_crash_job [any, and in signal handlers]: which job's work the calling thread
 * is in. Async-signal-safe: for your own handler of SIGSEGV and its like, which runs on
 * the thread that faulted (S-CRASH-7).
 * -EINVAL: ret_info is NULL. -ESRCH: the thread is in no work.
 */
int evwork_crash_job(struct evwork_crash_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
