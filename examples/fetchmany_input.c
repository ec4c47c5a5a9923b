/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lines. Regular files and devices such as /dev/null are read when a line is wanted, which
 * takes no longer than any look at a file, and which epoll would not watch; what may have
 * nothing to give for hours is read only when the base says that it has. Neither needs a
 * descriptor that does not block, so a terminal that others use, too, stays as it is.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fetchmany_input.h"

#define READ_SIZE 4096
#define READS_AT_ONCE 16         /* a line that is too long may never end */
#define CUT_MARK " ..."

static void read_some(struct input *input)
{
	int count = evbuffer_read(input->bytes, input->fd, READ_SIZE);

	if (count < 0 && errno != EINTR && errno != EAGAIN)
		input->error = -errno;
	input->over = count == 0;
}

/* It may be without EV_READ if input_ask_later() has caused it. */
static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct input *input = arg;

	(void)fd;
	if (what & EV_READ)
		read_some(input);
	input->ready(input->arg);
}

int input_open(struct input *input, const char *path, struct event_base *base)
{
	struct stat status;

	input->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (input->fd < 0 || fstat(input->fd, &status))
		return -errno;
	if (S_ISDIR(status.st_mode))
		return -EISDIR;
	input->ready_always = S_ISREG(status.st_mode)
		|| (S_ISCHR(status.st_mode) && !isatty(input->fd));
	input->bytes = evbuffer_new();
	input->event = event_new(base, input->ready_always ? -1 : input->fd,
		input->ready_always ? 0 : EV_READ, on_event, input);
	return input->bytes && input->event ? 0 : -ENOMEM;
}

void input_close(struct input *input)
{
	if (input->event)
		event_free(input->event);
	if (input->bytes)
		evbuffer_free(input->bytes);
	if (input->fd > STDIN_FILENO)
		close(input->fd);
}

/* A zero byte would end the text before its end; like it, a blank is part of no URL. Nor is
 * what was cut taken for one. */
static char *as_text(char *line, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++)
		if (line[i] == '\0')
			line[i] = ' ';
	if (length >= INPUT_LINE_MAX)
		memcpy(line + INPUT_LINE_MAX - strlen(CUT_MARK), CUT_MARK, sizeof(CUT_MARK));
	return line;
}

/* What is there of a line that is too long, or that has no end. */
static char *cut_line(struct input *input)
{
	size_t length = evbuffer_get_length(input->bytes);
	char *line;

	if (length > INPUT_LINE_MAX)
		length = INPUT_LINE_MAX;
	line = malloc(length + 1);
	if (!line)
		return NULL;
	(void)evbuffer_remove(input->bytes, line, length);
	line[length] = '\0';
	input->skips = true;
	return as_text(line, length);
}

/* As input_next(), from what is there; 0: it is not enough. */
static int take_line(struct input *input, char **ret_line)
{
	size_t length;
	char *line;

	while ((line = evbuffer_readln(input->bytes, &length, EVBUFFER_EOL_CRLF)) && input->skips) {
		input->skips = false;
		free(line);
	}
	if (!line) {
		length = evbuffer_get_length(input->bytes);
		if (input->skips)
			(void)evbuffer_drain(input->bytes, length);
		if (input->skips || length == 0 || (length <= INPUT_LINE_MAX && !input->over))
			return 0;
		*ret_line = cut_line(input);
		return *ret_line ? 1 : -ENOMEM;
	}
	*ret_line = as_text(line, length);
	return 1;
}

int input_next(struct input *input, char **ret_line)
{
	int reads = 0;

	for (;;) {
		int rc = take_line(input, ret_line);

		if (rc)
			return rc;
		if (input->error)
			return input->error;
		if (input->over)
			return -ENODATA;
		if (!input->ready_always)
			return event_add(input->event, NULL) ? -ENOMEM : 0;
		if (reads++ == READS_AT_ONCE)
			return input_ask_later(input);
		read_some(input);
	}
}

int input_ask_later(struct input *input)
{
	static const struct timeval now = { 0 };

	/* event_active() would have it called again and again in this turn. */
	return event_add(input->event, &now) ? -ENOMEM : 0;
}

void input_stop(struct input *input)
{
	(void)event_del(input->event);
}
