#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Makes ./configure from a fresh clone.
set -e
cd "$(dirname "$0")"
exec autoreconf -fi
