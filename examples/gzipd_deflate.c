/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stage that compresses. It is run for one chunk after the other, on whatever worker
 * is free, so its state needs no lock. What zlib gives is collected until a chunk is full.
 */

#include <errno.h>
#include <stdlib.h>

#include <zlib.h>

#include "gzipd_deflate.h"

/* 15 is the largest window of zlib; 16 more means gzip's header and trailer. */
#define GZIP_WINDOW (15 + 16)
#define MEMORY_LEVEL 8   /* zlib's default */

struct deflater {
	z_stream stream;
	struct chunk *filling;
};

struct chunk *chunk_new(void)
{
	struct chunk *chunk = malloc(sizeof(*chunk));

	if (chunk) {
		chunk->length = 0;
		chunk->last = false;
	}
	return chunk;
}

void chunk_drop(void *item, void *arg)
{
	(void)arg;
	free(*(struct chunk **)item);
}

int deflater_new(int level, struct deflater **ret_deflater)
{
	struct deflater *deflater = calloc(1, sizeof(*deflater));

	if (!deflater)
		return -ENOMEM;
	if (deflateInit2(&deflater->stream, level, Z_DEFLATED, GZIP_WINDOW, MEMORY_LEVEL,
			Z_DEFAULT_STRATEGY) != Z_OK) {
		free(deflater);
		return -ENOMEM;
	}
	*ret_deflater = deflater;
	return 0;
}

void deflater_free(struct deflater *deflater)
{
	if (!deflater)
		return;
	(void)deflateEnd(&deflater->stream);
	free(deflater->filling);
	free(deflater);
}

/* Hands on what is collected. */
static int flush(struct deflater *deflater, struct evwork_emitter *out)
{
	int rc;

	deflater->filling->length = CHUNK_SIZE - deflater->stream.avail_out;
	rc = evwork_emit(out, &deflater->filling);
	if (rc == 0)
		deflater->filling = NULL;
	return rc;
}

/* Makes room for output if there is none. */
static int provide(struct deflater *deflater)
{
	if (deflater->filling)
		return 0;
	deflater->filling = chunk_new();
	if (!deflater->filling)
		return -ENOMEM;
	deflater->stream.next_out = deflater->filling->bytes;
	deflater->stream.avail_out = CHUNK_SIZE;
	return 0;
}

static int compress_chunk(struct deflater *deflater, struct evwork_emitter *out,
	struct chunk *chunk)
{
	z_stream *stream = &deflater->stream;
	int rc, state;

	stream->next_in = chunk->bytes;
	stream->avail_in = (uInt)chunk->length;
	do {
		rc = provide(deflater);
		if (rc)
			return rc;
		state = deflate(stream, chunk->last ? Z_FINISH : Z_NO_FLUSH);
		if (stream->avail_out == 0 || state == Z_STREAM_END)
			rc = flush(deflater, out);
		/* Z_BUF_ERROR: there was nothing left to do, which is fine. */
	} while (rc == 0 && (stream->avail_in || !deflater->filling) && state != Z_STREAM_END);
	return rc;
}

int deflater_run(struct evwork_emitter *out, void *item, void *arg)
{
	struct chunk *chunk = *(struct chunk **)item;
	int rc = compress_chunk(arg, out, chunk);

	free(chunk);
	return rc;
}
