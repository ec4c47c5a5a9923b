#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/treesum against find, sort and sha256sum. Sums are never written
# down here: what is expected is what those print for the same arguments.

# shellcheck source=test/tap.sh
. "$(dirname "$0")/tap.sh"
treesum=$build/examples/treesum

[ -x "$treesum" ] || skip_all "treesum was not built: it needs libcrypto"
command -v sha256sum >/dev/null || skip_all "there is no sha256sum to compare with"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/treesum-test.XXXXXX") || exit 1
trap 'chmod -R u+rwx "$tmp"; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
cd "$tmp" || exit 1

echo "1..30"

# ---- what tests are made of ----

# run ARGUMENTS… sets status, out and err.
run() {
	$limit "$treesum" "$@" >out 2>err
	status=$?
}

expect() {
	find "$1" -type f -print0 2>expect.err | sort -z | xargs -0 sha256sum -- >expect 2>>expect.err
}

# What sanitizers find is told on standard error, so it has to be empty.
same() {
	run "$@"
	expect "$1"
	[ "$status" -eq 0 ] && [ ! -s err ] && [ -s out ] && cmp out expect >&2
}

silent() {
	run "$@"
	[ "$status" -eq 0 ] && [ ! -s err ] && [ ! -s out ]
}

# No output, and the reason that find gives.
refused() {
	run "$@"
	find "$1" -type f >/dev/null 2>expect.err
	[ "$status" -eq 1 ] && [ ! -s out ] &&
		[ "$(cat err)" = "treesum: $1: $(sed 's/.*: //' expect.err)" ]
}

mistaken() {
	run "$@"
	[ "$status" -eq 2 ] && [ ! -s out ] && [ -s err ]
}

# start BYTES DIR: begins with a pipe for output, from which so many bytes are
# read and no more, so that it cannot end if it has more to say than a pipe
# holds. Returns when they have come.
start() {
	bytes=$1
	shift
	rm -f pipe pid ended first came
	mkfifo pipe || return 1
	{
		sh -c 'echo $$ >pid; exec "$@"' sh "$treesum" "$@" >pipe 2>err
		echo $? >ended
	} &
	exec 3<pipe
	{
		dd bs=1 count="$bytes" <&3 >first 2>/dev/null
		: >came
	} &
	await test -e came
}

# finish: waits for the end of what was started; sets status.
finish() {
	await test -s ended || kill -KILL "$(cat pid)"
	wait
	status=$(cat ended)
	exec 3<&-
}

# ---- trees ----

put() {
	printf '%s\n' "$1" 2>/dev/null >"$1" # some systems refuse some names
}

newline=$(printf 'new\nline')
return=$(printf 'carriage\rreturn')

odd_names() {
	mkdir a a-b a.b empty 'with space' ./-dir UPPER "$newline.d" 'back\slash.d'
	# shellcheck disable=SC1003,SC2016
	for name in file a/x a/y a-b/x a.b/x 'a!' a0 ab ./-dir/-n ./-n ./-- 'with space/ x ' \
		"$newline" "$return" "$(printf 'escape\033[31m')" "$(printf 'latin\351')" \
		"$newline.d/x" 'back\slash.d/x' 'back\slash' 'back\nslash' '\' 'ends\' \
		'grüße' '日本語' '*' '?' "quote's" 'double"quote' '$dollar' '~' '#' '%s' \
		.hidden ... UPPER/x "$(printf 'a\ttab')" 'a:b'; do
		put "$name"
	done
	: >nothing
	: >a/nothing
	ln -s nowhere dangling
	ln -s a link-to-dir
	ln -s file link-to-file
	ln -s . loop
	mkfifo fifo
}

# Around the sizes of buffers.
odd_sizes() {
	for size in 1 4095 4096 65536 131071 131072 131073 300000; do
		dd if=/dev/zero of="size-$size" bs="$size" count=1 2>/dev/null
	done
}

odd_depth() {
	deep=deep
	for digit in 0 1 2 3 4 5 6 7 8 9; do
		deep=$deep/$digit/d/d-d/d.d/dd/d/d/d/d/d
	done
	mkdir -p "$deep"
	put "$deep/bottom"
}

# Makes more lines than a pipe and the program's own buffers hold.
many_names() {
	long=_123456789_123456789_123456789_123456789_123456789_123456789_123456789
	long=$long$long
	i=1000
	while [ $i -lt 4000 ]; do
		: >"$i$long"
		i=$((i + 1))
	done
	echo first >./0
}

mkdir odd bare bare/empty many
(cd odd && odd_names && odd_sizes && odd_depth)
(cd many && many_names)
ln -s odd link
ln -s odd/file link-to-file

# ---- the same as sha256sum ----

headers=$(echo '#include <stdio.h>' | ${CC:-cc} -E - 2>/dev/null |
	sed -n 's|^# [0-9]* "\(/.*\)/stdio\.h".*|\1|p' | head -n 1)
check "the system's C headers" same "${headers:-/usr/include}"
check "a tree of odd names, sizes and kinds" same odd
check "many files" same many
check "the tree with a slash" same odd/
check "the tree with three slashes" same odd///
check "the tree as ./odd" same ./odd
check "the tree by its absolute path" same "$tmp/odd"
check "the tree with .. in its path" same odd/../odd
check "a link with a slash is the directory behind it" same link/
check "a regular file is a tree of its own" same odd/file
check "a link without a slash is not followed" silent link
check "a link to a file is not followed" silent link-to-file
check "a FIFO is neither read nor waited for" silent odd/fifo
check "no files, no output" silent bare

# Only treesum takes such a name for what it is: find needs a ./ before it.
dash() {
	cd odd || return 1
	$limit "$treesum" -- -dir >../out 2>../err
	status=$?
	expect ./-dir
	sed 's|  \./|  |' expect >../expect
	rm expect expect.err
	cd ..
	[ $status -eq 0 ] && [ ! -s err ] && [ -s out ] && cmp out expect >&2
}
check "a directory that looks like an option" dash

workers() {
	for count in 1 2 8; do
		same odd -j $count && same many -j $count || return 1
	done
}
check "1, 2 and 8 workers print the same" workers

summary() {
	run -v odd/a
	[ $status -eq 0 ] && [ "$(wc -l <err)" -eq 1 ] && grep -q '^3 files, 8 bytes, .* workers$' err
}
check "-v tells files and bytes" summary

# ---- the output ----

piped() {
	{
		$limit "$treesum" many 2>err
		echo $? >ended
	} | cat >out
	expect many
	[ "$(cat ended)" -eq 0 ] && [ ! -s err ] && cmp out expect >&2
}
check "through a pipe" piped

late_reader() {
	start 1 many || return 1
	cat first - <&3 >out &
	finish
	expect many
	[ "$status" -eq 0 ] && [ ! -s err ] && cmp out expect >&2
}
check "a reader that comes late misses nothing" late_reader

full() {
	$limit "$treesum" odd >/dev/full 2>err
	[ $? -eq 1 ] && [ "$(cat err)" = "treesum: write error: No space left on device" ]
}
if [ -c /dev/full ]; then
	check "a full disk is told, status 1" full
else
	skip "a full disk is told, status 1" "there is no /dev/full"
fi

closed() {
	$limit "$treesum" odd >&- 2>err
	[ $? -eq 1 ] && [ "$(cat err)" = "treesum: write error: Bad file descriptor" ]
}
check "a closed output is told, status 1" closed

# ---- what cannot be read ----

check "no such directory" refused nowhere
check "a regular file with a slash" refused odd/file/
check "an empty name" refused ""

# Permissions do not bind root, who has to give up that privilege first: by
# capability, or by becoming somebody else.
mkdir locked locked/dir locked/dir/sub locked/readable
echo secret >locked/secret
echo secret >locked/dir/sub/secret
echo secret >locked/dir-b
echo open >locked/readable/file
chmod 0 locked/secret locked/dir
chmod 755 "$tmp"

binds() {
	! "$@" cat locked/secret >/dev/null 2>&1 && "$@" "$treesum" -h >/dev/null 2>&1
}

locked() {
	$limit "$@" "$treesum" locked >out 2>err
	status=$?
	"$@" find locked -type f -print0 2>/dev/null | sort -z |
		"$@" xargs -0 sha256sum >expect 2>/dev/null
	printf 'treesum: locked/%s: Permission denied\n' dir secret >expect.err
	[ $status -eq 1 ] && [ "$(wc -l <out)" -eq 2 ] && cmp out expect >&2 &&
		cmp err expect.err >&2
}

name="what cannot be read is told, the rest is done, status 1"
if binds env; then
	check "$name" locked env
elif binds setpriv --bounding-set -dac_override,-dac_read_search; then
	check "$name" locked setpriv --bounding-set -dac_override,-dac_read_search
elif binds setpriv --reuid=65534 --regid=65534 --clear-groups; then
	check "$name" locked setpriv --reuid=65534 --regid=65534 --clear-groups
else
	skip "$name" "nothing here takes root's privilege to read everything"
fi

# ---- Ctrl-C ----

# The output is stuck and there is more of it, so it cannot have ended before. As
# some of it has been read the pipe has room, but not for everything at once.
interrupted() {
	start 20000 many || return 1
	kill -INT "$(cat pid)"
	finish
	[ "$status" -eq 130 ] && [ ! -s err ]
}
check "Ctrl-C ends it with 130 though its output is stuck" interrupted

# Summing a tebibyte takes a while.
interrupted_huge() {
	start 1 huge || return 1
	kill -INT "$(cat pid)"
	finish
	[ "$status" -eq 130 ] && [ ! -s err ]
}
mkdir huge
echo first >huge/0
name="Ctrl-C ends it with 130 in the middle of a huge file"
if [ "$(uname)" != Linux ]; then
	skip "$name" "not every file system here makes files with holes"
elif dd if=/dev/null of=huge/1 bs=1048576 seek=1048576 2>/dev/null; then
	check "$name" interrupted_huge
else
	skip "$name" "this file system has no files of a tebibyte"
fi

# ---- arguments ----

check "a mistake in the arguments is status 2" mistaken
check "so is a number of workers out of range" mistaken -j 0 odd
help() {
	run -h
	[ $status -eq 0 ] && [ ! -s err ] && grep -q '^usage: treesum' out
}
check "-h explains itself" help
