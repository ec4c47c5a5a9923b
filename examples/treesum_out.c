/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lines wait in an evbuffer. There are two kinds of descriptors:
 *
 * - A pipe, socket or terminal is written when the loop finds it writable. Its
 *   blocking mode is left alone, as it may be shared with other processes. Up
 *   to PIPE_BUF bytes do not block there, so no write is larger.
 * - Anything else, say a file, cannot be waited for and needs no waiting. It is
 *   written whole, once for everything that one turn of the loop has brought.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for S_ISSOCK */
#endif
#define _FILE_OFFSET_BITS 64 /* large files on small machines */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "treesum_out.h"

#ifndef PIPE_BUF
#define PIPE_BUF 512 /* what POSIX promises at least */
#endif

/* Lines wait with their files when this much has not been written. */
#define ROOM (64 * 1024)

struct out {
	int fd;
	bool waits;              /* can be waited for, see above */
	bool closed;
	struct evbuffer *lines;
	struct event *writable;
	out_fn fn;
	void *arg;
};

static int write_schedule(struct out *out)
{
	if (!out->waits) {
		event_active(out->writable, EV_WRITE, 0);
		return 0;
	}
	return event_add(out->writable, NULL) ? -ENOMEM : 0;
}

static void write_some(evutil_socket_t fd, short what, void *arg)
{
	struct out *out = arg;
	int error = 0;

	(void)fd;
	(void)what;
	if (out->closed)
		return;
	errno = 0;
	if (evbuffer_write_atmost(out->lines, out->fd, out->waits ? PIPE_BUF : -1) < 0
	    && errno != EAGAIN && errno != EINTR)
		error = errno ? errno : EIO;
	if (!error && !out_is_empty(out) && write_schedule(out))
		error = ENOMEM;
	if (error)
		out_discard(out);
	out->fn(error, out->arg);
}

static int descriptor_waits(int fd)
{
	struct stat status;

	if (fstat(fd, &status))
		return -errno;
	return S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || isatty(fd);
}

int out_new(struct event_base *base, int fd, out_fn fn, void *arg, struct out **ret_out)
{
	int waits = descriptor_waits(fd);
	struct out *out;

	if (waits < 0)
		return waits;
	out = calloc(1, sizeof(*out));
	if (!out)
		return -ENOMEM;
	*out = (struct out){ .fd = fd, .waits = waits, .fn = fn, .arg = arg };
	out->lines = evbuffer_new();
	out->writable = waits ? event_new(base, fd, EV_WRITE, write_some, out)
		: event_new(base, -1, 0, write_some, out);
	if (!out->lines || !out->writable) {
		out_free(out);
		return -ENOMEM;
	}
	*ret_out = out;
	return 0;
}

void out_free(struct out *out)
{
	if (!out)
		return;
	if (out->writable)
		event_free(out->writable);
	if (out->lines)
		evbuffer_free(out->lines);
	free(out);
}

bool out_is_empty(const struct out *out)
{
	return evbuffer_get_length(out->lines) == 0;
}

bool out_has_room(const struct out *out)
{
	return evbuffer_get_length(out->lines) < ROOM;
}

void out_discard(struct out *out)
{
	out->closed = true;
	event_del(out->writable);
	evbuffer_drain(out->lines, evbuffer_get_length(out->lines));
}

/* ---- the line ---- */

static char escape_letter(char byte)
{
	switch (byte) {
	case '\\':
		return '\\';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	default:
		return 0;
	}
}

int out_escape(const char *name, char **ret_text)
{
	char *text = malloc(2 * strlen(name) + 1);
	char *end = text;
	int escaped = 0;

	if (!text)
		return -ENOMEM;
	for (; *name; name++) {
		char letter = escape_letter(*name);

		if (letter) {
			*end++ = '\\';
			escaped = 1;
		}
		*end++ = letter ? letter : *name;
	}
	*end = '\0';
	*ret_text = text;
	return escaped;
}

static int hex_add(struct evbuffer *lines, const unsigned char *digest, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	char hex[128];
	size_t used = 0;

	for (size_t i = 0; i < length && used + 2 <= sizeof(hex); i++) {
		hex[used++] = digits[digest[i] >> 4];
		hex[used++] = digits[digest[i] & 15];
	}
	return evbuffer_add(lines, hex, used);
}

int out_line(struct out *out, const unsigned char *digest, size_t length, const char *path)
{
	bool was_empty = out_is_empty(out);
	char *name;
	int escaped = out_escape(path, &name);
	int failed;

	if (escaped < 0)
		return escaped;
	failed = (escaped && evbuffer_add(out->lines, "\\", 1))
		|| hex_add(out->lines, digest, length)
		|| evbuffer_add(out->lines, "  ", 2)
		|| evbuffer_add(out->lines, name, strlen(name))
		|| evbuffer_add(out->lines, "\n", 1);
	free(name);
	if (failed)
		return -ENOMEM;
	return was_empty ? write_schedule(out) : 0;
}
