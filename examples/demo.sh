#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# make demo: treesum over a real tree, compared byte for byte with what find,
# sort and sha256sum print for the same tree.
#
#	TREESUM    the program; else the one below $top_builddir
#	DEMO_SRC   the project's source tree; else $top_srcdir. It is what is
#	           summed, unless
#	DEMO_DIR   names something else
#
# Prints one line and exits with 0 if both are the same.

set -u
LC_ALL=C
export LC_ALL

fail() {
	echo "demo: $*" >&2
	exit 1
}

dir=${DEMO_DIR:-${DEMO_SRC:-${top_srcdir:-.}}}
treesum=${TREESUM:-${top_builddir:-.}/examples/treesum}

[ -x "$treesum" ] ||
	fail "treesum was not built: it needs libcrypto (OpenSSL), which configure did not find."
command -v sha256sum >/dev/null ||
	fail "there is no sha256sum here to compare with; on macOS it comes with coreutils."
[ -d "$dir" ] || fail "$dir is not a directory."
case $dir in -*) dir=./$dir ;; esac

# What is written must not be part of what is read.
tmp=$(mktemp -d "${TMPDIR:-/tmp}/treesum-demo.XXXXXX") || fail "mktemp failed."
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
inside=$(cd "$tmp" && pwd -P) || fail "cannot enter $tmp."
outside=$(cd "$dir" && pwd -P) || fail "cannot enter $dir."
case $inside/ in
"${outside%/}"/*) fail "$tmp lies inside of $dir; set TMPDIR to a place outside of it." ;;
esac

"$treesum" -v "$dir" >"$tmp/ours" 2>"$tmp/summary"
status=$?
find "$dir" -type f -print0 2>"$tmp/errors" | sort -z |
	xargs -0 sha256sum -- >"$tmp/theirs" 2>>"$tmp/errors"

# Without any file xargs still starts sha256sum once, which then reads nothing.
[ -s "$tmp/ours" ] || [ "$status" -ne 0 ] || fail "there is no file under $dir."
if ! cmp -s "$tmp/ours" "$tmp/theirs"; then
	diff "$tmp/theirs" "$tmp/ours" | head -n 10 >&2
	fail "treesum differs from sha256sum on $dir, see above ('>' is treesum)."
fi
# What cannot be read has to be reported by both; it is no difference.
note=
if [ "$status" -ne 0 ]; then
	if [ "$status" -ne 1 ] || [ ! -s "$tmp/errors" ]; then
		fail "treesum ended with status $status on $dir: $(head -n 1 "$tmp/summary")"
	fi
	note=" (neither can read everything)"
fi
echo "$(tail -n 1 "$tmp/summary"): identical to sha256sum$note"
