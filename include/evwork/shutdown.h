/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_SHUTDOWN_H
#define EVWORK_SHUTDOWN_H

/*
 * Shutting a server down on signals: the first lets the pool drain, the second
 * cancels all that is left. The library touches no signal unless it is asked to
 * with this, and then only through the signal events of libevent on the loop's base.
 *
 *	static struct evwork_shutdown shutdown;
 *
 *	static void stop_accepting(struct evwork_shutdown *shutdown, int signal)
 *	{
 *		evconnlistener_disable(listener);
 *	}
 *
 *	static void all_closed(struct evwork_shutdown *shutdown, int status)
 *	{
 *		event_base_loopbreak(base);
 *	}
 *
 *	struct evwork_shutdown_options options = { 0 };
 *	options.deadline_ms = 30000;
 *	options.begun = stop_accepting;
 *	options.closed = all_closed;
 *	int rc = evwork_shutdown_on_signal(&shutdown, loop, pool, &options);
 */

#include <evwork/loop.h>
#include <evwork/pool.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct event;
struct evwork_shutdown;

#define EVWORK_SHUTDOWN_SIGNALS_MAX 8

/*
 * On the loop's thread, once, when the first signal has come and before the pool is
 * closed: the place to stop the intake, which comes first (S-SHUT-8). The pool still
 * takes jobs during this call, and none after it.
 */
typedef void (*evwork_shutdown_begun_fn)(struct evwork_shutdown *shutdown, int signal);

/*
 * On the loop's thread, once, as the closed callback of the pool: status is 0, or
 * -ETIMEDOUT if jobs still run after the deadline and the grace time. Without hurry the
 * signals are given back already, so another one does what it did before, and the struct is
 * the caller's again; it, the pool if status is 0, and what else is idle may be freed.
 */
typedef void (*evwork_shutdown_closed_fn)(struct evwork_shutdown *shutdown, int status);

/*
 * On the loop's thread, at each signal after the first; the pool was told to cancel what is
 * left. The place to hurry whatever else the end waits for, such as clients that have not
 * read their last replies. With this the signals stay watched after closed, too, until
 * evwork_shutdown_undo(), which may be called here, returns 0: as long as that, the struct
 * and the loop must stay.
 */
typedef void (*evwork_shutdown_hurry_fn)(struct evwork_shutdown *shutdown, int signal);

/* All zero means the defaults. */
struct evwork_shutdown_options {
	/* Which signals count, all alike; a 0 ends the list. None: SIGINT and SIGTERM. */
	int signals[EVWORK_SHUTDOWN_SIGNALS_MAX];
	/* See struct evwork_close_options; the deadline counts from the first signal, the
	 * grace time from the second, or from the deadline. */
	int64_t deadline_ms, grace_ms;
	/* Each may be NULL. */
	evwork_shutdown_begun_fn begun;
	evwork_shutdown_closed_fn closed;
	evwork_shutdown_hurry_fn hurry;
};

/* The caller's; all zero before its first use, and to stay where it is while in use. */
struct evwork_shutdown {
	void *arg;                   /* for the caller */
	/* Private. */
	struct evwork_loop *_loop;
	struct evwork_pool *_pool;
	evwork_shutdown_begun_fn _begun;
	evwork_shutdown_closed_fn _closed;
	evwork_shutdown_hurry_fn _hurry;
	int64_t _deadline_ms, _grace_ms;
	struct event *_events[EVWORK_SHUTDOWN_SIGNALS_MAX];
	int _event_count;
	int _state;
};

/*
 * evwork_shutdown_on_signal [loop] has the signals watched from now on. The first calls
 * begun and then closes the pool with EVWORK_DRAIN, the second closes it with
 * EVWORK_CANCEL_ALL, further ones only call hurry. The watching by itself does not keep
 * event_base_dispatch() from returning. Loop and pool must stay until closed is called
 * or evwork_shutdown_undo() has returned 0; see hurry.
 *
 * If the pool or the loop is closed by other means, take this back. A signal that comes
 * before that only helps: it drains or cancels as said, but closed is not called.
 *
 * libevent serves signals on one base of the process at a time. options are copied; NULL
 * is all defaults.
 * -EINVAL: shutdown, loop or pool is NULL, a time is negative, or a signal is none,
 * is named twice, or cannot be caught. -EPERM. -ESHUTDOWN: loop or pool is closing.
 * -EBUSY: shutdown is in use. -ENOMEM. In each case no signal is watched.
 */
int evwork_shutdown_on_signal(struct evwork_shutdown *shutdown, struct evwork_loop *loop,
	struct evwork_pool *pool, const struct evwork_shutdown_options *options);

/*
 * evwork_shutdown_undo [loop] takes it back: none of the callbacks will be called, and
 * each signal does again what it did before, unless others watch it through libevent.
 * -EINVAL: shutdown is NULL. -ESRCH: it is not in use. -EPERM. -EBUSY: a signal has come
 * and closed is to be called.
 */
int evwork_shutdown_undo(struct evwork_shutdown *shutdown);

#ifdef __cplusplus
}
#endif

#endif
