/* SPDX-License-Identifier: BSD-3-Clause */
#include "evwork/status.h"

#include <stddef.h>

static const struct {
	int code;
	const char *words;
} texts[] = {
	{ 0, "success" },
	{ EINVAL, "malformed argument or configuration" },
	{ EPERM, "called from the wrong thread" },
	{ EDEADLK, "a blocking call that could never return" },
	{ ESHUTDOWN, "closing or closed: takes no new work" },
	{ EBUSY, "in use" },
	{ EALREADY, "done before" },
	{ ESRCH, "idle: there is nothing to act on" },
	{ ERANGE, "can never succeed with the present configuration" },
	{ ECANCELED, "cancelled" },
	{ ETIMEDOUT, "deadline passed" },
	{ EAGAIN, "full or at its limit right now" },
	{ EPIPE, "the other side has closed" },
	{ EHOSTDOWN, "breaker open: refused without trying" },
	{ EOWNERDEAD, "the job crashed" },
	{ ENOENT, "nothing to choose from" },
	{ ENOMEM, "out of memory" },
};

const char *evwork_strerror(int status)
{
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (status == -texts[i].code)
			return texts[i].words;
	return "unknown status";
}
