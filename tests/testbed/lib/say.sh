# shellcheck shell=bash
# Words to the person at the terminal, and waiting.

say() { echo "testbed: $*" >&2; }

die() {
  say "$*"
  exit 125
}

usage_error() {
  say "$*; see 'testbed --help'"
  exit 64
}

# wait_until SECONDS COMMAND...: 0 as soon as COMMAND succeeds, 1 when time is up.
wait_until() {
  local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
  shift
  until "$@"; do
    ((${EPOCHREALTIME/[.,]/} < end)) || return 1
    sleep 0.05
  done
}

# seconds_since EPOCHREALTIME: to a tenth.
seconds_since() {
  local tenths=$(((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}) / 100000))
  echo "$((tenths / 10)).$((tenths % 10)) s"
}
