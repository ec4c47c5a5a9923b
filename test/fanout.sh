#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/fanout against the pipeline in its head comment. Frequencies are never
# written down here: what is expected is what that prints for the same tree.

# shellcheck source=test/tap.sh
. "$(dirname "$0")/tap.sh"
fanout=$build/examples/fanout

[ "$(echo word | uniq -c)" = "      1 word" ] || skip_all "this uniq -c has another format"
printf 'b\0a\0' | sort -z >/dev/null 2>&1 || skip_all "this sort has no -z"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/fanout-test.XXXXXX") || exit 1
trap 'chmod -R u+rwx "$tmp"; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
cd "$tmp" || exit 1

echo "1..13"

# ---- what tests are made of ----

# run ARGUMENTS… sets status, out and err.
run() {
	$limit "$fanout" "$@" >out 2>err
	status=$?
}

# expect TOP DIR [COMMAND…]: the command, if any, is what find and cat are run with.
expect() {
	top=$1
	dir=$2
	shift 2
	# shellcheck disable=SC2018,SC2019 # These letters are what words are made of.
	"$@" find "$dir" -type f -print0 2>/dev/null | sort -z | "$@" xargs -0 cat 2>/dev/null |
		tr A-Z a-z | tr -cs a-z '\n' | sort | uniq -c | sort -k1,1nr -k2 |
		head -n "$top" >expect
}

# What sanitizers find is told on standard error, so it has to be empty.
same() {
	expect "$1" "$2"
	run -n "$@"
	[ "$status" -eq 0 ] && [ ! -s err ] && [ -s out ] && cmp out expect >&2
}

silent() {
	run "$@"
	[ "$status" -eq 0 ] && [ ! -s err ] && [ ! -s out ]
}

mistaken() {
	for arguments in '' '-w 0 made' '-n -1 made' '-n many made' '-x made' 'made made'; do
		# shellcheck disable=SC2086
		run $arguments
		[ "$status" -eq 2 ] && [ ! -s out ] && [ -s err ] || return 1
	done
}

# ---- a made tree ----

newline=$(printf 'new\nline')

# Some systems refuse some names.
put() {
	printf '%s' "$2" 2>/dev/null >"$1"
}

made() {
	mkdir a a-b 'with space' "$newline.d" empty
	put a/words 'The cat. the CAT! The End'
	# A word over three files, one of which is only letters.
	put a/x1 'be'
	put a/x2 'GIN'
	put a/x3 'ning, and so on'
	put a-b/empty ''
	put a-b/first '0 starts with none and ends so '
	put a-b/last "it's 3x5cm"
	put 'with space/ x ' 'odd names'
	put "$newline" 'more odd names'
	put "$newline.d/-n" 'and yet more'
	put ./-n 'like an option'
	printf 'gr\303\274\303\237e \351t\351 @[`{ a\0b\0\0c \377\377' >binary
	awk 'BEGIN { while (n++ < 200000) printf("%c", 65 + n % 26); print "" }' >long
	awk 'BEGIN { while (n++ < 50000) print "word", n, "w" substr("abcdefghij", n % 10 + 1) }' >large
	dd if=/dev/urandom of=random bs=65536 count=8 2>/dev/null
	ln -s large link
	ln -s nowhere dangling
	mkfifo fifo
}

mkdir made bare one
(cd made && made)
put one/file '?'

name="the system's C headers"
headers=/usr/include
if [ -d $headers ]; then
	check "$name" same 100000 $headers
else
	skip "$name" "there is no $headers"
fi
check "a tree of odd names and contents" same 1000000 made
check "the tree with a slash" same 1000000 made/
check "a regular file is a tree of its own" same 1000 made/large
check "a file without words has the empty one" same 1000 one
check "no files, no words" silent bare

ten() {
	expect 10 made
	run made
	[ "$status" -eq 0 ] && [ ! -s err ] && [ "$(wc -l <out)" -eq 10 ] && cmp out expect >&2
}
check "ten words if not told otherwise" ten

# So that all pairs of a tree of merges are there, and those without a neighbour.
counts() {
	mkdir many
	for i in 1 2 3 4 5 6 7 8 9; do
		put many/$i "word$i letters$i"
		same 1000 many && same 1000 many -w 1 && same 1000 many -w 8 || return 1
	done
}
check "1 to 9 files, and 1 to 8 workers, print the same" counts

full() {
	$limit "$fanout" made >/dev/full 2>err
	[ $? -eq 1 ] && [ "$(cat err)" = "fanout: write error: No space left on device" ]
}
if [ -c /dev/full ]; then
	check "a full disk is told, status 1" full
else
	skip "a full disk is told, status 1" "there is no /dev/full"
fi

# ---- what cannot be read ----

# Permissions do not bind root, who has to give up that privilege first: by
# capability, or by becoming somebody else.
mkdir locked locked/dir
put locked/a 'before '
put locked/b 'secret'
put locked/c 'after'
put locked/dir/d 'secret'
chmod 0 locked/b locked/dir
chmod 755 "$tmp"

binds() {
	! "$@" cat locked/b >/dev/null 2>&1 && "$@" "$fanout" -h >/dev/null 2>&1
}

locked() {
	expect 10 locked "$@"
	$limit "$@" "$fanout" locked >out 2>err
	status=$?
	printf 'fanout: locked/%s: Permission denied\n' dir b >expect.err
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

# The process has opened the file, so that counting has begun.
counting() {
	# shellcheck disable=SC2010 # The names are numbers.
	ls -l "/proc/$(cat pid)/fd" 2>/dev/null | grep -q 'huge/hole'
}

# Counting the words of a tebibyte takes a while.
interrupted() {
	rm -f pid ended
	{
		sh -c 'echo $$ >pid; exec "$@"' sh "$fanout" huge >out 2>err
		echo $? >ended
	} &
	await test -s pid && await counting && kill -INT "$(cat pid)"
	await test -s ended || kill -KILL "$(cat pid)"
	wait
	[ "$(cat ended)" -eq 130 ] && [ ! -s out ] && [ ! -s err ]
}
mkdir huge
put huge/word 'word'
name="Ctrl-C ends it with 130 in the middle of a huge file"
if [ "$(uname)" != Linux ]; then
	skip "$name" "here it cannot be seen when counting has begun"
elif dd if=/dev/null of=huge/hole bs=1048576 seek=1048576 2>/dev/null; then
	check "$name" interrupted
else
	skip "$name" "this file system has no files of a tebibyte"
fi

# ---- arguments ----

check "a mistake in the arguments is status 2" mistaken
help() {
	run -h
	[ "$status" -eq 0 ] && [ ! -s err ] && grep -q '^usage: fanout' out
}
check "-h explains itself" help
