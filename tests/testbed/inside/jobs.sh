# shellcheck shell=bash
# Jobs, and who is who in one.

job() { cat "$JOB_FILE"; }

submit() { # MODE OPTION...: prints its id
    local mode=$1
    shift
    robot-orchestrator job submit --package bot --arg "$mode" --account "$ACCOUNT" --stop-grace 2s --json "$@" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["job_id"])'
}

shown() { # JOB EXPRESSION over j
    robot-orchestrator job show "$1" --json | python3 -c "import json, sys; j = json.load(sys.stdin); print($2)"
}

has_ended() { [ "$(shown "$1" 'j["state"]')" = ENDED ]; }

# A job from its start to its end, which must be this one.
complete() { # MODE OUTCOME OPTION...
    local job mode=$1 outcome=$2
    shift 2
    job=$(submit "$mode" "$@")
    echo "$job" >"$JOB_FILE"
    eventually 120 has_ended "$job"
    same outcome "$(shown "$job" 'j["outcome"]')" "$outcome" || {
        shown "$job" 'j["code"], j["detail"], j["wipe"]' >&2
        return 1
    }
}

monitor_pid() {
    local pid
    pid=$(main_pid "robotd-session@$1.1.service")
    [ "$pid" != 0 ] && echo "$pid"
}

# shellcheck disable=SC2046 # pids are words
attendant_pid() { named robotd-attendan $(children "$(monitor_pid "$1")"); }
# shellcheck disable=SC2046
leader_pid() { named robotd-session $(children "$(monitor_pid "$1")"); }
# shellcheck disable=SC2046
init_pid() { named robotd-session $(children "$(leader_pid "$1")"); }
# shellcheck disable=SC2046
bot_pid() { named python3 $(children "$(init_pid "$1")"); }
# shellcheck disable=SC2046
display_pid() { named Xvfb $(children "$(init_pid "$1")"); }

# The bot made its fifo, which it then waits at.
bot_waits() {
    local pid
    pid=$(bot_pid "$1") && [ -p "/proc/$pid/root/tmp/go" ]
}

release_bot() {
    local pid
    # Gone, if what was killed took it along.
    pid=$(bot_pid "$1") || return 0
    # Both ways at once: an end that reads need not be there. Not to be made: the kernel refuses that for a
    # fifo of another user in /tmp (fs.protected_fifos).
    timeout 10 python3 -c 'import os, sys; os.write(os.open(sys.argv[1], os.O_RDWR), b".")' \
        "/proc/$pid/root/tmp/go" 2>/dev/null || true
}

begin() { # OPTION...: a job that waits, for the claims about a running one
    submit wait "$@" >"$JOB_FILE"
    eventually 60 bot_waits "$(job)"
}

finish() {
    release_bot "$(job)"
    eventually 60 has_ended "$(job)"
    same outcome "$(shown "$(job)" 'j["outcome"]')" SUCCEEDED
}
