/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The progress line is written over itself five times a second. Where the
 * output goes to a terminal as well, the line is shown only while no output
 * waits to be written, which is when the cursor is at the start of a line.
 *
 * When standard error cannot be written there is nobody left to be told, so
 * the results of printing to it are of no use.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "treesum_console.h"

#define QUIET_MS 500
#define REFRESH_MS 200

static void line_clear(struct console *console)
{
	if (!console->shown)
		return;
	(void)fputs("\r\033[K", stderr);
	console->shown = false;
}

static void line_show(struct console *console)
{
	if (console->shared && !out_is_empty(console->shared))
		return;
	(void)fprintf(stderr, "\rtreesum: %" PRIu64 " files, %" PRIu64 " MiB\033[K",
		*console->files, *console->bytes >> 20);
	console->shown = true;
}

static void refresh(struct evwork_timer *timer, int status)
{
	struct console *console = EVWORK_CONTAINER(timer, struct console, timer);

	if (status)
		return;
	line_show(console);
	(void)evwork_timer_start(console->loop, timer, REFRESH_MS); /* or it stands still */
}

int console_start(struct console *console, struct evwork_loop *loop, const struct out *out,
	const uint64_t *files, const uint64_t *bytes)
{
	console->loop = loop;
	console->files = files;
	console->bytes = bytes;
	console->shared = isatty(STDOUT_FILENO) ? out : NULL;
	evwork_timer_init(&console->timer, refresh);
	if (!isatty(STDERR_FILENO))
		return 0;
	return evwork_timer_start(loop, &console->timer, QUIET_MS);
}

void console_stop(struct console *console)
{
	if (!console->loop)
		return;
	line_clear(console);
	(void)evwork_timer_stop(&console->timer); /* -ESRCH: it was not running */
	console->loop = NULL;
}

void console_yield(struct console *console)
{
	if (console->shared)
		line_clear(console);
}

void console_report(struct console *console, const char *path, int error)
{
	char *text;

	line_clear(console);
	if (out_escape(path, &text) < 0) {
		(void)fprintf(stderr, "treesum: %s\n", strerror(error));
		return;
	}
	for (char *byte = text; *byte; byte++)
		if ((unsigned char)*byte < ' ' || *byte == 127)
			*byte = '?'; /* names must not control the terminal */
	(void)fprintf(stderr, "treesum: %s: %s\n", text, strerror(error));
	free(text);
}
