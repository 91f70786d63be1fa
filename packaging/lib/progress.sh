# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153  # parts of one script: names are shared
# What a person sees: one line per step with its time, all else in the log of that step.

if [ -t 1 ]; then
    readonly GREEN=$'\e[32m' RED=$'\e[31m' DIM=$'\e[2m' BOLD=$'\e[1m' PLAIN=$'\e[0m'
else
    readonly GREEN='' RED='' DIM='' BOLD='' PLAIN=''
fi

# One line that a step may set, shown behind its name.
DETAIL=''
# The command that runs now: the trap ends its process group, or waits when it must not be cut.
CURRENT='' CUT=yes
STEP_LOG=/dev/null

title() {
    printf '\n  %srobotd quickstart%s   logs and results: %s\n\n' "$BOLD" "$PLAIN" "$OUT"
}

now_ms() { local t=${EPOCHREALTIME//[.,]/}; echo $((t / 1000)); }

seconds() { printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }

step() { # NAME FUNCTION: does it, or ends the script with what went wrong
    local name=$1 began
    began=$(now_ms)
    DETAIL='' STEP_LOG=$LOGS/$2.log
    [ -t 1 ] && printf '  %s…%s %s' "$DIM" "$PLAIN" "$name"
    if "$2"; then
        [ -t 1 ] && printf '\r\e[K'
        printf '  %s✓%s %-26s %s%-52s %s%s\n' "$GREEN" "$PLAIN" "$name" "$DIM" "$DETAIL" \
            "$(seconds $(($(now_ms) - began)))" "$PLAIN"
    else
        fail "$name: ${DETAIL:-failed}"
    fi
}

# Runs a command with its output in the step's log. In a process group of its own: Ctrl-C comes
# to this script alone, which then ends the command and takes everything down in order.
quietly() {
    local status
    setsid "$@" >>"$STEP_LOG" 2>&1 </dev/null 9>&- &
    CURRENT=$!
    wait "$CURRENT"
    status=$?
    CURRENT='' CUT=yes
    return "$status"
}

# The same for what must not be cut in the middle, such as a change of /etc/passwd.
quietly_whole() {
    CUT=no
    quietly "$@"
}

fail() { # SENTENCE: ends the script; the trap takes everything down
    [ -t 1 ] && printf '\r\e[K'
    printf '  %s✗%s %s\n' "$RED" "$PLAIN" "$1"
    if [ -s "$STEP_LOG" ] && [ -f "$STEP_LOG" ]; then
        printf '\n%s    the end of %s:%s\n' "$DIM" "$STEP_LOG" "$PLAIN"
        tail -n 12 "$STEP_LOG" | sed 's/^/    /'
    fi
    [ -z "$(find "${LOGS:-/nonexistent}" -type f -size +0 2>/dev/null)" ] || printf '\n  all logs: %s\n' "$LOGS"
    exit 1
}

stop_words() { # SENTENCE: a prerequisite is missing, nothing was done
    echo "quickstart: $1" >&2
    exit 1
}

wait_until() { # SECONDS COMMAND...: tries it ten times a second
    local tries=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}
