#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/pipeline: its squares are right, in order, and its sum, too.

# shellcheck source=test/tap.sh
. "$(dirname "$0")/tap.sh"
tap_files=
program=$build/examples/pipeline

echo "1..4"

prints() {
	[ "$($limit "$program" 50 | head -n 1)" = "100 400 900 1600 2500" ]
}
check "squares in order" prints

sums() {
	$limit "$program" "$1" | grep -qx "sum $2, as it should be"
}
check "the sum of a few" sums 50 5500
check "the sum of many" sums 100000 33338333500000

usage() {
	"$program" many 2>/dev/null
	[ $? -eq 2 ]
}
check "a number that is none" usage
