/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers are decimal and checked; a value out of range is said to be one. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for getopt() under -std=c11 */
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <evwork.h>

#include "worker_pool_arguments.h"

static const char usage[] =
	"usage: worker_pool [-w WORKERS] [-q QUEUE] [-n JOBS] [-t MS] [-s SEED]\n"
	"Runs jobs on a pool of workers behind a bounded queue and accounts for each.\n"
	"  -w WORKERS  1 to 1024; one per CPU if not given\n"
	"  -q QUEUE    jobs that may wait for a worker; 8 if not given\n"
	"  -n JOBS     40 if not given\n"
	"  -t MS       time limit of the jobs that would never end; 100 if not given\n"
	"  -s SEED     decides which job is what; 1 if not given\n"
	"Ctrl-C takes no more jobs and ends when those on their way are done; once more\n"
	"cancels them.\n";

static int number_parse(const char *text, uint64_t least, uint64_t most, uint64_t *ret_value)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < least || value > most)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

static int argument_set(struct arguments *arguments, int option, const char *text)
{
	uint64_t value = 0;
	int rc;

	switch (option) {
	case 'w':
		rc = number_parse(text, 1, EVWORK_THREADS_MAX, &value);
		arguments->workers = (int)value;
		return rc;
	case 'q':
		rc = number_parse(text, 1, 1000000, &value);
		arguments->queue = value;
		return rc;
	case 'n':
		rc = number_parse(text, 1, 1000000, &value);
		arguments->jobs = value;
		return rc;
	case 't':
		rc = number_parse(text, 1, INT32_MAX, &value);
		arguments->timeout_ms = (int64_t)value;
		return rc;
	case 's':
		return number_parse(text, 0, UINT64_MAX, &arguments->seed);
	default:
		return -EINVAL;
	}
}

int arguments_parse(int argc, char **argv, struct arguments *ret_arguments)
{
	int option;

	*ret_arguments = (struct arguments){
		.queue = 8, .jobs = 40, .seed = 1, .timeout_ms = 100
	};
	while ((option = getopt(argc, argv, "hw:q:n:t:s:")) != -1) {
		if (option == 'h')
			return fputs(usage, stdout) < 0 || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
		if (option == '?' || argument_set(ret_arguments, option, optarg)) {
			if (option != '?')
				(void)fprintf(stderr, "worker_pool: -%c: not a number in range: %s\n",
					option, optarg);
			(void)fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc)
		return -1;
	(void)fputs(usage, stderr);
	return EXIT_USAGE;
}
