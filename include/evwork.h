/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_H
#define EVWORK_H

/*
 * evwork: worker pools, contexts and structured work for libevent programs.
 * This header includes all others; each of them may be included alone.
 */

#include <evwork/broadcast.h>
#include <evwork/chan.h>
#include <evwork/bucket.h>
#include <evwork/adaptive.h>
#include <evwork/breaker.h>
#include <evwork/clock.h>
#include <evwork/crash.h>
#include <evwork/ctx.h>
#include <evwork/gate.h>
#include <evwork/group.h>
#include <evwork/guard.h>
#include <evwork/job.h>
#include <evwork/lane.h>
#include <evwork/latch.h>
#include <evwork/limiter.h>
#include <evwork/limiter_table.h>
#include <evwork/log.h>
#include <evwork/loop.h>
#include <evwork/map.h>
#include <evwork/memory.h>
#include <evwork/merge.h>
#include <evwork/pipeline.h>
#include <evwork/pool.h>
#include <evwork/retry.h>
#include <evwork/shutdown.h>
#include <evwork/status.h>
#include <evwork/timer.h>

#endif
