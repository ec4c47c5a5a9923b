/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_COMMAND_LINE_H
#define EXAMPLES_COMMAND_LINE_H

/* The command lines of the examples: options with one argument each, and -h. */

#include <stdint.h>

/* The exit status after a mistake in the arguments. */
#define EXIT_USAGE 2

/* A decimal number from least to most, and nothing else; or -EINVAL. */
int number_parse(const char *text, uint64_t least, uint64_t most, uint64_t *ret_value);

struct command_line {
	const char *name;             /* of the program */
	const char *usage;            /* the text for -h, and after a mistake */
	const char *options;          /* as getopt() takes them, h among them */
	int operands;                 /* how many there must be after the options */
	/* Stores one option in the caller's arguments; -EINVAL: its text makes no sense. */
	int (*set)(void *arguments, int option, const char *text);
};

/* Returns an exit status, or -1 to go on; the operands begin at optind then. */
int command_line_parse(const struct command_line *line, int argc, char **argv, void *arguments);

#endif
