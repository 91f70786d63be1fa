# shellcheck shell=bash disable=SC2034 # read by the files sourced after this one
# Every setting, its default and its range.

DIR=${TESTBED_DIR:-/var/cache/robotd-testbed}
NAME=${TESTBED_NAME:-tb0}
TIMEOUT=${TESTBED_TIMEOUT:-120}

MACHINE=$DIR/machine/$NAME
# A machine stays what it was made as, whatever the caller's default is.
SUITE=${TESTBED_SUITE:-}
[ -n "$SUITE" ] || read -r SUITE 2>/dev/null <"$MACHINE/suite" || SUITE=bookworm
TESTBED_BACKEND=${TESTBED_BACKEND:-}
[ -n "$TESTBED_BACKEND" ] || read -r TESTBED_BACKEND 2>/dev/null <"$MACHINE/backend" || TESTBED_BACKEND=nspawn

# A terminal's or a cron job's umask must not decide the modes in the image.
umask 022

settings_check() {
  [ "$EUID" = 0 ] || die "must run as root: it mounts, makes namespaces and cgroups"
  [[ $DIR = /* && $DIR != *[[:space:]]* ]] || usage_error "TESTBED_DIR='$DIR' is not an absolute path without spaces"
  # 8 characters: the kernel allows 15 for a network link, and 've-tb-' takes 6.
  [[ $NAME =~ ^[a-z0-9]{1,8}$ ]] || usage_error "TESTBED_NAME='$NAME' is not [a-z0-9]{1,8}"
  [[ $SUITE =~ ^(bookworm|trixie)$ ]] || usage_error "TESTBED_SUITE='$SUITE' is neither bookworm nor trixie"
  [[ $TESTBED_BACKEND =~ ^[a-z]+$ && -e $HERE/lib/backend-$TESTBED_BACKEND.sh ]] ||
    usage_error "TESTBED_BACKEND='$TESTBED_BACKEND' is not there"
  [[ $TIMEOUT =~ ^[1-9][0-9]{0,4}$ ]] || usage_error "TESTBED_TIMEOUT='$TIMEOUT' is not a number of seconds"
}
settings_check
