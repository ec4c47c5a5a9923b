/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>
#include <string.h>

#include "fetchmany_host.h"

static struct host *host_new(struct hosts *hosts, const char *key)
{
	struct evwork_adaptive_options options = { .algorithm = EVWORK_ADAPTIVE_FIXED,
		.limit = hosts->connections, .queue_limit = hosts->waiters };
	size_t size = strlen(key) + 1;
	struct host *host = calloc(1, sizeof(*host) + size);

	if (!host)
		return NULL;
	memcpy(host->key, key, size);
	if (evwork_adaptive_new(&options, &host->limit)) {
		free(host);
		return NULL;
	}
	host->next = hosts->first;
	if (host->next)
		host->next->prev = host;
	hosts->first = host;
	return host;
}

struct host *host_get(struct hosts *hosts, const char *key)
{
	struct host *host = hosts->first;

	while (host && strcmp(host->key, key) != 0)
		host = host->next;
	if (!host)
		host = host_new(hosts, key);
	if (host)
		host->users++;
	return host;
}

void host_put(struct hosts *hosts, struct host *host)
{
	if (--host->users > 0)
		return;
	if (host->next)
		host->next->prev = host->prev;
	if (host->prev)
		host->prev->next = host->next;
	else
		hosts->first = host->next;
	/* Nobody waits, and nothing is in flight. */
	(void)evwork_adaptive_free(host->limit);
	free(host);
}
