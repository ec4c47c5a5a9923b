/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "base/broken.h"

#include <stdlib.h>

#include "base/log.h"

/* Relaxed: a test sets it before it starts any thread. */
#ifdef NDEBUG
atomic_bool base_broken_aborts = false;
#else
atomic_bool base_broken_aborts = true;
#endif

void base_broken(const char *what)
{
	base_log(EVWORK_LOG_ERROR, "%s", what);
	if (atomic_load_explicit(&base_broken_aborts, memory_order_relaxed))
		abort();
}
