/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WORKER_POOL_ARGUMENTS_H
#define WORKER_POOL_ARGUMENTS_H

/* The command line of worker_pool. */

#include <stdint.h>

struct arguments {
	uint64_t workers;        /* 0: one per CPU */
	uint64_t queue;
	uint64_t jobs;
	uint64_t seed;
	uint64_t timeout_ms;
};

/* Fills what is given; the rest keeps its defaults, which are set here, too.
 * Returns -1 to go on, or the status to exit with; then all has been said. */
int arguments_parse(int argc, char **argv, struct arguments *ret_arguments);

#endif
