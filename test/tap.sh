# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
#
# What the scripts that test examples share; each reads it before it leaves its
# directory. They run what is built, report in TAP, and name in tap_files what a test
# writes: that is removed before each test, and shown when it fails.

set -u
LC_ALL=C
export LC_ALL

build=$(cd "${top_builddir:-.}" && pwd)
slow=${EVWORK_TEST_SLOW:-1}
# What hangs is killed, where there is a program for that, and so fails.
limit=
if command -v timeout >/dev/null; then
	limit="timeout -s KILL $((120 * slow))"
fi

tap_files="err out"
number=0

skip_all() {
	echo "1..0 # SKIP $*"
	exit 0
}

# report STATUS NAME
report() {
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
		return
	fi
	echo "not ok $number - $2"
	for file in $tap_files; do
		[ ! -s "$file" ] || tail -n 20 "$file" | sed "s/^/# $file: /"
	done
}

# skip NAME REASON
skip() {
	number=$((number + 1))
	echo "ok $number - $1 # SKIP $2"
}

# check NAME COMMAND…: one test, which passes if the command succeeds.
check() {
	name=$1
	shift
	# shellcheck disable=SC2086 # They are words.
	rm -f $tap_files
	"$@"
	report $? "$name"
}

# await COMMAND…: waits until it succeeds. The limit, a minute on a machine of usual
# speed, is reached only when something hangs.
await() {
	tries=$((1200 * slow))
	until "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}

# says PATTERN FILE
says() {
	grep -q "$1" "$2" 2>/dev/null
}
