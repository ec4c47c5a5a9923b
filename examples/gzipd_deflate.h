/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GZIPD_DEFLATE_H
#define GZIPD_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

#include <evwork.h>

/* What travels between loop and workers is a pointer to one of these. */
#define CHUNK_SIZE 65536u

struct chunk {
	size_t length;
	bool last;               /* of its request; it may be empty */
	unsigned char bytes[CHUNK_SIZE];
};

struct chunk *chunk_new(void);

/* For items of a pipeline that go no further. */
void chunk_drop(void *item, void *arg);

/* What one request is compressed with. */
struct deflater;

/* 0, or -ENOMEM. */
int deflater_new(int level, struct deflater **ret_deflater);
void deflater_free(struct deflater *deflater);

/* The stage; its arg is the deflater. It takes chunks and emits chunks of a gzip stream. */
int deflater_run(struct evwork_emitter *out, void *item, void *arg);

#endif
