/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_EVLOOP_H
#define BENCH_EVLOOP_H

#include <event2/event.h>

/* The loop of the peers that are made with libevent: peer_run(), peer_leave()
 * and peer_watch() stand in evloop.c for all of them. */

void evloop_start(void);
void evloop_stop(void);
struct event_base *evloop_base(void);

/* Adds a persistent read event; evloop_stop() frees it. */
void evloop_read(int fd, event_callback_fn callback);

#endif
