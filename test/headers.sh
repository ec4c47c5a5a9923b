#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Each public header compiles by itself, with no other header before it, as C99,
# C11, C++11 and C++17, without a warning; also when it is read twice, and with
# each of its constants expanded. Prints TAP.

# shellcheck disable=SC2016 # The programs in single quotes are for awk.
set -u

src=${top_srcdir:-.}
awk=${AWK:-awk}
cc=${CC:-cc}
cxx=${CXX:-}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

warnings='-pedantic -Wall -Wextra -Wundef -Werror'
n=0

# A program that includes the header twice and uses its constants.
program() {
	printf '#include <%s>\n#include <%s>\n' "$1" "$1"
	$awk '/^#define [A-Z0-9_]+[ \t]+[^ \t]/ {
		print "extern const unsigned long long use_" $2 ";"
		print "const unsigned long long use_" $2 " = (unsigned long long)(" $2 ");"
	}' "$src/include/$1"
	echo 'int main(void) { return 0; }'
}

# compile LANGUAGE STANDARD HEADER, with the compiler in $compiler
compile() {
	n=$((n + 1))
	# The compiler and its options are words, not one word.
	# shellcheck disable=SC2086
	if program "$3" | $compiler -x "$1" -std="$2" $warnings -I"$src/include" \
		-fsyntax-only - >"$work/out" 2>&1
	then
		echo "ok $n - $3 as $2"
	else
		sed 's/^/# /' "$work/out"
		echo "not ok $n - $3 as $2"
	fi
}

headers=$(cd "$src/include" && echo evwork.h evwork/*.h)
for header in $headers; do
	for standard in c99 c11; do
		compiler=$cc
		compile c $standard "$header"
	done
	for standard in c++11 c++17; do
		if test -n "$cxx"; then
			compiler=$cxx
			compile c++ $standard "$header"
		else
			n=$((n + 1))
			echo "ok $n - $header as $standard # SKIP no C++ compiler was found"
		fi
	done
done
echo "1..$n"
