/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_FETCHMANY_INPUT_H
#define EXAMPLES_FETCHMANY_INPUT_H

/*
 * The lines of a file, a pipe or a terminal, as they come, on an event loop: no more than
 * a line and what one read gives is in memory.
 */

#include <stdbool.h>

#include <event2/buffer.h>
#include <event2/event.h>

/* A line of as many bytes, or more, is cut to that and ends with " ...", as no URL does. */
#define INPUT_LINE_MAX 8192

struct input {
	/* Called in a turn of the base: it is worth asking again. */
	void (*ready)(void *arg);
	void *arg;
	/* Private. */
	int fd;
	bool ready_always;       /* a file, which is never waited for */
	bool skips;              /* the rest of a line that was too long */
	bool over;               /* all was read */
	int error;               /* of a read, or 0 */
	struct evbuffer *bytes;
	struct event *event;
};

/* "-" is standard input. 0, or a negated error; input_close() may follow both. The struct
 * must be all zero, but for ready and arg. */
int input_open(struct input *input, const char *path, struct event_base *base);
void input_close(struct input *input);

/* 1 and a line without its end, to be freed; 0 if there is none now, and ready will be called;
 * -ENODATA after the last; or another negated error. */
int input_next(struct input *input, char **ret_line);

/* Has ready called in a later turn. 0 or -ENOMEM. */
int input_ask_later(struct input *input);

/* Nothing is wanted any more: ready is not called. */
void input_stop(struct input *input);

#endif
