/* SPDX-License-Identifier: BSD-3-Clause */

#include "bench.h"
#include "evloop.h"

#define EVENTS_MAX 4

static struct event_base *base;
static struct event *events[EVENTS_MAX];
static int event_count;
static void (*watch_ready)(void);

void evloop_start(void)
{
	base = event_base_new();
	if (!base)
		bench_fail("event_base_new failed");
}

void evloop_stop(void)
{
	while (event_count > 0)
		event_free(events[--event_count]);
	event_base_free(base);
}

struct event_base *evloop_base(void)
{
	return base;
}

void evloop_read(int fd, event_callback_fn callback)
{
	struct event *event = event_new(base, fd, EV_READ | EV_PERSIST, callback, NULL);

	if (event_count == EVENTS_MAX || !event || event_add(event, NULL) < 0)
		bench_fail("an event cannot be added");
	events[event_count++] = event;
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	watch_ready();
}

void peer_watch(int fd, void (*ready)(void))
{
	watch_ready = ready;
	evloop_read(fd, on_watch);
}

void peer_run(void)
{
	bench_must(event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY), "event_base_loop");
}

void peer_leave(void)
{
	event_base_loopbreak(base);
}
