/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Shutting down on signals. libevent's signal events do the catching, on the loop's own
 * thread, so there is nothing asynchronous here.
 *
 *	IDLE ──on_signal──► WATCHING ──first──► CLOSING ──closed callback──► IDLE, or OVER
 *	                       │                   └─ the close was refused ─► HELPING
 *	                       └──────────────── undo ───────────────┴──────► IDLE
 *
 * OVER, with a hurry callback, is HELPING after the end: signals are watched until undo.
 *
 * The events carry libevent's mark for internal events, as those of the loop do: a
 * server lives by its listeners, not by this.
 */

#include "evwork/shutdown.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <string.h>

#include "run/loop.h"
#include "run/pool.h"

enum { IDLE, WATCHING, CLOSING, HELPING, OVER };

#ifndef NSIG
#define NSIG 65
#endif

static void unwatch(struct evwork_shutdown *shutdown)
{
	while (shutdown->_event_count > 0)
		event_free(shutdown->_events[--shutdown->_event_count]);
	shutdown->_state = IDLE;
}

static void on_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct evwork_shutdown *shutdown = arg;

	(void)pool;
	if (shutdown->_hurry)
		shutdown->_state = OVER;
	else
		unwatch(shutdown);
	if (shutdown->_closed)
		shutdown->_closed(shutdown, status);
}

static void drain(struct evwork_shutdown *shutdown, int number)
{
	struct evwork_close_options options = {
		.mode = EVWORK_DRAIN,
		.deadline_ms = shutdown->_deadline_ms,
		.grace_ms = shutdown->_grace_ms,
		.loop = shutdown->_loop,
		.fn = on_closed,
		.arg = shutdown
	};

	shutdown->_state = CLOSING;
	if (shutdown->_begun)
		shutdown->_begun(shutdown, number);
	if (evwork_pool_close_by(shutdown->_pool, &options) == 0)
		return;
	/* The pool is closed already, and someone else is told of its end, or the loop
	 * takes no more callbacks. */
	shutdown->_state = HELPING;
	evwork_pool_close(shutdown->_pool, EVWORK_DRAIN, NULL, NULL, NULL);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	struct evwork_shutdown *shutdown = arg;

	(void)what;
	if (shutdown->_state == WATCHING) {
		drain(shutdown, (int)number);
		return;
	}
	/* After its end the pool may be gone. */
	if (shutdown->_state != OVER)
		evwork_pool_close(shutdown->_pool, EVWORK_CANCEL_ALL, NULL, NULL, NULL);
	if (shutdown->_hurry)
		shutdown->_hurry(shutdown, (int)number);
}

/* The signals of the list, or those of the default; -EINVAL if it makes no sense. */
static int list_signals(const struct evwork_shutdown_options *options,
	int ret_signals[EVWORK_SHUTDOWN_SIGNALS_MAX])
{
	int i, k, count = 0;

	while (count < EVWORK_SHUTDOWN_SIGNALS_MAX && options->signals[count])
		count++;
	for (i = 0; i < count; i++) {
		ret_signals[i] = options->signals[i];
		if (ret_signals[i] < 1 || ret_signals[i] >= NSIG || ret_signals[i] == SIGKILL ||
		    ret_signals[i] == SIGSTOP)
			return -EINVAL;
		/* One signal would count as two. */
		for (k = 0; k < i; k++)
			if (ret_signals[k] == ret_signals[i])
				return -EINVAL;
	}
	if (count == 0) {
		ret_signals[count++] = SIGINT;
		ret_signals[count++] = SIGTERM;
	}
	return count;
}

static int watch(struct evwork_shutdown *shutdown, int number)
{
	struct event *event = evsignal_new(shutdown->_loop->base, number, on_signal, shutdown);

	if (!event)
		return -ENOMEM;
	shutdown->_events[shutdown->_event_count++] = event;
	event->ev_evcallback.evcb_flags |= EVLIST_INTERNAL;
	/* Some signals are the C library's own. */
	return event_add(event, NULL) == 0 ? 0 : -EINVAL;
}

int evwork_shutdown_on_signal(struct evwork_shutdown *shutdown, struct evwork_loop *loop,
	struct evwork_pool *pool, const struct evwork_shutdown_options *options)
{
	static const struct evwork_shutdown_options defaults;
	int signals[EVWORK_SHUTDOWN_SIGNALS_MAX];
	int i, count, rc = 0;

	if (!options)
		options = &defaults;
	count = list_signals(options, signals);
	if (!shutdown || !loop || !pool || options->deadline_ms < 0 || options->grace_ms < 0 ||
	    count < 0)
		return -EINVAL;
	if (!loop_is_here(loop))
		return -EPERM;
	if (atomic_load(&loop->closing) || atomic_load(&pool->closing))
		return -ESHUTDOWN;
	if (shutdown->_state != IDLE)
		return -EBUSY;
	shutdown->_loop = loop;
	shutdown->_pool = pool;
	shutdown->_begun = options->begun;
	shutdown->_closed = options->closed;
	shutdown->_hurry = options->hurry;
	shutdown->_deadline_ms = options->deadline_ms;
	shutdown->_grace_ms = options->grace_ms;
	shutdown->_state = WATCHING;
	for (i = 0; i < count && rc == 0; i++)
		rc = watch(shutdown, signals[i]);
	if (rc)
		unwatch(shutdown);
	return rc;
}

int evwork_shutdown_undo(struct evwork_shutdown *shutdown)
{
	if (!shutdown)
		return -EINVAL;
	if (shutdown->_state == IDLE)
		return -ESRCH;
	if (!loop_is_here(shutdown->_loop))
		return -EPERM;
	if (shutdown->_state == CLOSING && !shutdown->_loop->inherited)
		return -EBUSY;
	unwatch(shutdown);
	return 0;
}
