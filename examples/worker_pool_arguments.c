/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>

#include <evwork.h>

#include "command_line.h"
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

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

	switch (option) {
	case 'w':
		return number_parse(text, 1, EVWORK_THREADS_MAX, &arguments->workers);
	case 'q':
		return number_parse(text, 1, 1000000, &arguments->queue);
	case 'n':
		return number_parse(text, 1, 1000000, &arguments->jobs);
	case 't':
		return number_parse(text, 1, INT32_MAX, &arguments->timeout_ms);
	case 's':
		return number_parse(text, 0, UINT64_MAX, &arguments->seed);
	default:
		return -EINVAL;
	}
}

int arguments_parse(int argc, char **argv, struct arguments *ret_arguments)
{
	static const struct command_line line = {
		.name = "worker_pool", .usage = usage, .options = "hw:q:n:t:s:", .set = argument_set
	};

	*ret_arguments = (struct arguments){
		.queue = 8, .jobs = 40, .seed = 1, .timeout_ms = 100
	};
	return command_line_parse(&line, argc, argv, ret_arguments);
}
