/* SPDX-License-Identifier: BSD-3-Clause */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for getopt() under -std=c11 */
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "command_line.h"

int number_parse(const char *text, uint64_t least, uint64_t most, uint64_t *ret_value)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || value < least || value > most)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

static int mistaken(const struct command_line *line)
{
	(void)fputs(line->usage, stderr);
	return EXIT_USAGE;
}

int command_line_parse(const struct command_line *line, int argc, char **argv, void *arguments)
{
	int option;

	while ((option = getopt(argc, argv, line->options)) != -1) {
		if (option == 'h')
			return fputs(line->usage, stdout) < 0 || fflush(stdout) ?
				EXIT_FAILURE : EXIT_SUCCESS;
		if (option == '?')
			return mistaken(line);
		if (line->set(arguments, option, optarg)) {
			(void)fprintf(stderr, "%s: -%c makes no sense, or is out of range: %s\n",
				line->name, option, optarg ? optarg : "");
			return mistaken(line);
		}
	}
	return argc - optind == line->operands ? -1 : mistaken(line);
}
