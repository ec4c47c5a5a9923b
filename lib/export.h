/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXPORT_H
#define EXPORT_H

/*
 * What the shared library exports.
 *
 * The library is compiled with -fvisibility=hidden, so that calls inside it
 * are direct and may be inlined. The public headers carry no export macro, for a
 * user has no use for one. Instead the compiler is told by -include to read
 * this file before each source file of the library: it reads the public headers
 * with default visibility, and a definition takes the visibility of the
 * declaration that came before it. So what a public header declares is visible,
 * and nothing else is. The version script evwork.map then gives the visible
 * functions their version, and hides what is not in it.
 *
 * config.h comes first because it says which of the system's extensions the
 * system headers shall declare.
 */

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#pragma GCC visibility push(default)
#include "evwork.h"
#pragma GCC visibility pop

#endif
