#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Builds a C and a C++ program as a user would, with what was installed and what
# pkg-config says of it, and runs them; then both again with the static library.
# `make installcheck` calls this.

set -eu

src=${top_srcdir:-.}
cc=${CC:-cc}
cxx=${CXX:-}
pkg_config=${PKG_CONFIG:-pkg-config}
destdir=${DESTDIR:-}
: "${libdir:?is set by make}" "${pkgconfigdir:?is set by make}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "installcheck: $*"; }
fail() { say "$*" >&2; exit 1; }

test -f "$destdir$pkgconfigdir/evwork.pc" ||
	fail "there is no $destdir$pkgconfigdir/evwork.pc: run make install first"
# A staged installation lies elsewhere than its evwork.pc says. pkg-config's own
# ways to tell it so would move libevent too.
sed "s|^\([a-z_]*\)=/|\1=$destdir/|" "$destdir$pkgconfigdir/evwork.pc" >"$work/evwork.pc"
PKG_CONFIG_PATH=$work${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_PATH

$pkg_config --exists --print-errors evwork libevent_core
version=$($pkg_config --modversion evwork)
test "$version" = "${VERSION:-$version}" || fail "evwork.pc is of version $version"

# build PROGRAM LIBS COMPILER SOURCE, in the work directory, so that nothing of the
# source tree can be included by chance
build() {
	cp "$src/test/$4" "$work"
	# Compilers, flags and libraries are words, not one word.
	# shellcheck disable=SC2046,SC2086
	(cd "$work" &&
		$3 ${CFLAGS:-} $($pkg_config --cflags evwork libevent_core) -o "$1" "$4" $2)
}

# try NAME COMPILER SOURCE
try() {
	if test -f "$destdir$libdir/libevwork.so" || test -f "$destdir$libdir/libevwork.dylib"
	then
		build "$1-shared" "$($pkg_config --libs evwork libevent_core)" "$2" "$3"
		LD_LIBRARY_PATH=$destdir$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
			"$work/$1-shared"
		say "$1 with the shared library: works"
	else
		say "$1 with the shared library: skipped, none was installed"
	fi
	archive=$destdir$libdir/libevwork.a
	if test -f "$archive"; then
		build "$1-static" "$($pkg_config --static --libs evwork libevent_core |
			sed "s|-levwork|$archive|")" "$2" "$3"
		"$work/$1-static"
		say "$1 with the static library: works"
	else
		say "$1 with the static library: skipped, none was installed"
	fi
}

try C "$cc" install_c.c
if test -n "$cxx"; then
	try C++ "$cxx" install_cxx.cc
else
	say 'C++: skipped, no C++ compiler was found'
fi
