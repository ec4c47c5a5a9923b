/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "evwork/log.h"

/* Calls the hook, if there is one, with a formatted line. Call it with no lock
 * of the library held (S-OBS-1). */
void base_log(enum evwork_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
