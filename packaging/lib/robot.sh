# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153  # parts of one script: names are shared
# The robot: pushed, submitted, watched, and what it handed back.

JOB='' PACKAGE='' SUBMITTED_MS='' FOLLOWER=''

push_robot() {
    local answer
    DETAIL="$BOT is refused"
    answer=$(ask package push "$BOT" --sign "$STATE/etc/publisher.key" --json 2>>"$STEP_LOG") || return
    PACKAGE=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["sha256"])' <<<"$answer") || return
    DETAIL="$(basename "$BOT"), sha256 ${PACKAGE:0:16}"
}

says() { # PHASE: what it means
    case $1 in
    OFFERED) echo 'the orchestrator offers the job' ;;
    ACCEPTED) echo 'robotd has a free slot and takes it' ;;
    LICENSE_LEASED) echo 'the license is leased, before anything opens' ;;
    STARTED) echo 'the order is signed and sent' ;;
    PACKAGE_READY) echo 'signature right, package unpacked' ;;
    VOLUME_READY) echo 'scratch volume for all that the robot writes' ;;
    SESSION_OPEN) echo "session of ${PREFIX}01 through PAM" ;;
    DISPLAY_READY) echo 'a screen that nobody else sees' ;;
    RUNNING) echo 'the robot works' ;;
    EXITED) echo 'the robot is done' ;;
    PROCESSES_GONE) echo 'none of its processes is left' ;;
    ARTIFACTS_COLLECTED) echo 'what it handed back is saved' ;;
    SESSION_CLOSED) echo 'session closed' ;;
    WIPED) echo 'scratch volume destroyed, and proven gone' ;;
    LICENSE_RETURNED) echo 'license returned' ;;
    REPORTED) echo 'result signed by the broker, delivered' ;;
    esac
}

run_robot() {
    local params=() line status
    STEP_LOG=$LOGS/run_robot.log
    [ "$BOT" != "$EXAMPLE" ] || params=(--param approval_above:=5000)
    printf '\n'
    exec 8< <(ask job submit --package "$PACKAGE" --display 1024x720 --screenshot-every 1s --timeout 10m \
        "${params[@]}" --wait 2>>"$STEP_LOG")
    local submitter=$!
    while read -r line <&8; do tell "$line"; done
    wait "$submitter"
    status=$?
    exec 8<&-
    [ -z "$FOLLOWER" ] || wait "$FOLLOWER" 2>/dev/null
    FOLLOWER=''
    [ -n "$JOB" ] || fail 'the job could not be submitted'
    collect
    return "$status"
}

tell() { # LINE of `job submit --wait`
    local first=${1%% *} rest at phase
    rest=${1#"$first"}
    rest=${rest#"${rest%%[! ]*}"}
    echo "$1" >>"$STEP_LOG"
    case $first in
    job)
        JOB=$rest
        follow_output &
        FOLLOWER=$!
        ;;
    [0-9][0-9][0-9][0-9]-*)
        at=$(date -d "$first" +%s%3N)
        phase=$rest
        : "${SUBMITTED_MS:=$at}"
        if [ -n "$(says "$phase")" ]; then
            printf '    %s·%s %-20s %s%-46s %8s%s\n' "$GREEN" "$PLAIN" "$phase" "$DIM" "$(says "$phase")" \
                "$(seconds $((at - SUBMITTED_MS)))" "$PLAIN"
        else
            printf '    %s· %s%s\n' "$RED" "$rest" "$PLAIN"
        fi
        ;;
    esac
}

# What the robot says, beside the phases. Its own words: made inert by the orchestrator.
follow_output() {
    local at stream text
    ask job logs "$JOB" --follow 2>/dev/null | while read -r at stream text; do
        printf '      %s│ %s%s\n' "$DIM" "$text" "$PLAIN"
    done
}

collect() {
    ask job show "$JOB" --json >"$OUT/report.json" 2>>"$STEP_LOG" || fail 'the report could not be had'
    ask job screenshots "$JOB" --out "$OUT/screenshots" >>"$STEP_LOG" 2>&1 || fail 'the screenshots could not be had'
    ask job artifacts "$JOB" --out "$OUT/documents" >>"$STEP_LOG" 2>&1 || fail 'the documents could not be had'
    ask job logs "$JOB" >"$LOGS/robot.log" 2>>"$STEP_LOG"
    REPORT=$OUT/report.json
    printf '\n'
    python3 "$ROOT/packaging/lib/summary.py" "$OUT" "$BOLD" "$PLAIN"
    printf '\n'
}
