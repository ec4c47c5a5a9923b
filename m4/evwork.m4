# SPDX-License-Identifier: BSD-3-Clause

# EVWORK_COMPILE_FLAGS(VARIABLE, FLAGS...)
# Appends each of the blank-separated flags that the compiler takes to VARIABLE.
# The trial runs under -Werror, since some compilers only warn about a flag that
# they do not know. Each flag has a cache variable, so a wrong guess can be
# overridden from outside.
AC_DEFUN([EVWORK_COMPILE_FLAGS], [
	m4_foreach_w([evwork_flag], [$2], [
		AS_VAR_PUSHDEF([cached], [evwork_cv_flag_]evwork_flag)
		AC_CACHE_CHECK([whether $CC takes ]evwork_flag, [cached], [
			evwork_saved_CFLAGS=$CFLAGS
			CFLAGS="$CFLAGS -Werror evwork_flag"
			AC_COMPILE_IFELSE([AC_LANG_PROGRAM()],
				[AS_VAR_SET([cached], [yes])],
				[AS_VAR_SET([cached], [no])])
			CFLAGS=$evwork_saved_CFLAGS
		])
		AS_VAR_IF([cached], [yes], [AS_VAR_APPEND([$1], [" evwork_flag"])])
		AS_VAR_POPDEF([cached])
	])
])

# EVWORK_LINK_FLAGS(FLAGS, IF-YES, IF-NO)
# Asks whether a program that is compiled and linked with FLAGS can be made.
AC_DEFUN([EVWORK_LINK_FLAGS], [
	evwork_saved_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS $1"
	AC_LINK_IFELSE([AC_LANG_PROGRAM()], [evwork_linked=yes], [evwork_linked=no])
	CFLAGS=$evwork_saved_CFLAGS
	AS_IF([test "$evwork_linked" = yes], [$2], [$3])
])

# EVWORK_OPTIONAL(VARIABLE, MODULE, DEBIAN-PACKAGE)
# Looks for a module that only some example or benchmark wants. Sets
# VARIABLE_CFLAGS and VARIABLE_LIBS, the conditional HAVE_VARIABLE, and
# evwork_said_VARIABLE for the summary.
AC_DEFUN([EVWORK_OPTIONAL], [
	m4_pushdef([evwork_module], m4_bpatsubst([$2], [ .*]))
	PKG_CHECK_MODULES([$1], [$2], [
		evwork_have_$1=yes
		evwork_said_$1="yes, evwork_module `$PKG_CONFIG --modversion "evwork_module"`"
	], [
		evwork_have_$1=no
		evwork_said_$1="no, $2 was not found (Debian: $3)"
	])
	m4_popdef([evwork_module])
	AM_CONDITIONAL([HAVE_$1], [test "$evwork_have_$1" = yes])
])
