# shellcheck shell=bash disable=SC2034 # read by the files sourced with this one
# Names, and waiting for conditions.

ACCOUNT=robot01
ATTENDANT=robotd-a01
BOT_UID=$(id -u "$ACCOUNT")
# What the present job is, for the claims after the one that began it.
JOB_FILE=/run/testbed.job

fail() {
    echo "$*" >&2
    return 1
}

# eventually SECONDS COMMAND...: 0 as soon as it succeeds; its last words when time is up.
eventually() {
    local end=$((SECONDS + $1)) words
    shift
    until words=$("$@" 2>&1); do
        ((SECONDS < end)) || fail "not so in time: $*: $words" || return 1
        sleep 0.1
    done
}

same() { # WHAT FOUND WANTED
    [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"
}

main_pid() { systemctl show --property MainPID --value "$1"; }

children() { cat "/proc/$1/task/$1/children" 2>/dev/null || true; }

# The first of these processes that runs this program.
named() { # COMM PID...
    local name=$1 pid
    shift
    for pid in "$@"; do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$name" ] || { echo "$pid" && return; }
    done
    return 1
}
