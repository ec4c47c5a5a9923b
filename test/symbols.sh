#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# The shared library exports the functions that the public headers declare,
# and nothing else, and lib/evwork.map lists the same. Prints TAP.

# shellcheck disable=SC2016 # The programs in single quotes are for awk.
set -u

src=${top_srcdir:-.}
awk=${AWK:-awk}
nm=${NM:-nm}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

echo 1..4
n=0

# report SENTENCE: the file out lists what contradicts the sentence
report() {
	n=$((n + 1))
	if test -s "$work/out"; then
		sed 's/^/# /' "$work/out"
		echo "not ok $n - $1"
	else
		echo "ok $n - $1"
	fi
}

skip() {
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}

# A name of ours before a parenthesis is a function; types and members never stand
# there. Inline functions are left out: they are declared so on the line of the name, and
# those with two underscores are private.
cat "$src"/include/evwork/*.h | $awk '
	{
		line = $0
		text = ""
		while (line != "") {
			if (inside) {
				end = index(line, "*/")
				if (!end)
					break
				line = substr(line, end + 2)
				inside = 0
			} else {
				start = index(line, "/*")
				if (!start) {
					text = text line
					break
				}
				text = text substr(line, 1, start - 1)
				line = substr(line, start + 2)
				inside = 1
			}
		}
		while (match(text, /evwork_[a-z0-9_]+\(/)) {
			name = substr(text, RSTART, RLENGTH - 1)
			if (substr(text, 1, RSTART) ~ /static inline/ || name ~ /^evwork__/)
				left_out[name]
			seen[name]
			text = substr(text, RSTART + RLENGTH)
		}
	}
	END {
		for (name in seen)
			if (!(name in left_out))
				print name
	}' | sort -u >"$work/declared"

$awk '$1 ~ /^evwork_[a-z0-9_]+;$/ { print substr($1, 1, length($1) - 1) }' \
	"$src/lib/evwork.map" | sort >"$work/mapped"

comm -23 "$work/declared" "$work/mapped" >"$work/out"
test -s "$work/declared" || echo 'no function was found in the headers' >"$work/out"
report 'each declared function is in lib/evwork.map'
comm -13 "$work/declared" "$work/mapped" >"$work/out"
report 'each function in lib/evwork.map is declared, once'

library=.libs/libevwork.so
if test -f $library; then
	# Versions are printed behind @; the node itself counts as a symbol (A).
	# shellcheck disable=SC2086
	$nm -D --defined-only $library | $awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
		sort >"$work/exported"
	comm -23 "$work/declared" "$work/exported" >"$work/out"
	report 'each declared function is exported'
	comm -13 "$work/declared" "$work/exported" >"$work/out"
	report 'nothing else is exported'
else
	skip 'each declared function is exported' "there is no $library"
	skip 'nothing else is exported' "there is no $library"
fi
