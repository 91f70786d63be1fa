# shellcheck shell=bash
# One fault: a process of the product or of the system is killed or stopped at a moment of a job.
# Run beside the machine's units (rawexec): systemd-run would not outlive its D-Bus.

HOLD=/run/hold
# From the order, for a bot that does not end; what other steps wait for is in the claims' table.
RUN_LIMIT=8s

# Lets PAM wait where a test wants it to: after the session is opened, before it is closed.
install_holds() {
    local file=/etc/pam.d/robotd
    grep -q testbed/hold $file || sed -i \
        -e "s|^@include common-session|session optional pam_exec.so quiet type=close_session $PWD/hold close\n&|" \
        -e "\$a session optional pam_exec.so quiet type=open_session $PWD/hold open" $file
}

hold() { mkdir -p $HOLD && mkfifo "$HOLD/$1"; }

held() { test -e "$HOLD/$1.reached"; }

let_go() {
    # Both ways at once: who held here may be dead.
    # shellcheck disable=SC2016
    timeout 5 sh -c 'echo >"$1" 1<>"$1"' sh "$HOLD/$1" || true
    rm -f "$HOLD/$1" "$HOLD/$1.reached"
}

victim_pid() { # VICTIM JOB
    case $1 in
    bot) bot_pid "$2" ;;
    session) monitor_pid "$2" ;;
    leader) leader_pid "$2" ;;
    init) init_pid "$2" ;;
    attendant) attendant_pid "$2" ;;
    display) display_pid "$2" ;;
    broker) main_pid robotd-broker ;;
    robotd) main_pid robotd ;;
    logind) main_pid systemd-logind ;;
    dbus) main_pid dbus ;;
    esac
}

start_of() { cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null || true; }

# Sets STRUCK, so that what was stopped can go on when the row is over.
strike() { # VICTIM SIGNAL JOB
    local pid
    pid=$(victim_pid "$1" "$3") || pid=0
    [ "$pid" != 0 ] || fail "there is no $1 to strike"
    STRUCK="$pid $(start_of "$pid")"
    kill "-$2" "$pid"
}

resume() {
    local pid start
    read -r pid start <<<"${STRUCK:-}"
    [ -z "$pid" ] || [ "$(start_of "$pid")" != "$start" ] || kill -CONT "$pid" || true
}

strike_at() { # PHASE VICTIM SIGNAL: sets JOB
    case $1 in
    before)
        strike "$2" "$3" ''
        JOB=$(submit end --timeout $RUN_LIMIT)
        ;;
    opening)
        hold open
        JOB=$(submit end --timeout $RUN_LIMIT)
        eventually 30 held open
        strike "$2" "$3" "$JOB"
        let_go open
        ;;
    running)
        JOB=$(submit wait --timeout $RUN_LIMIT)
        eventually 30 bot_waits "$JOB"
        strike "$2" "$3" "$JOB"
        release_bot "$JOB"
        ;;
    closing)
        hold close
        JOB=$(submit wait --timeout $RUN_LIMIT)
        eventually 30 bot_waits "$JOB"
        release_bot "$JOB"
        eventually 30 held close
        strike "$2" "$3" "$JOB"
        let_go close
        ;;
    esac
}

# fault PHASE VICTIM SIGNAL SECONDS END SLOT: the job ends in that time, once, and leaves nothing.
# END: the outcome, or any. SLOT: free, or kept: it may be kept out of use, with a reason, and an
# administrator gets it back.
fault() {
    local began=$SECONDS JOB STRUCK
    strike_at "$1" "$2" "$3"
    eventually "$4" has_ended "$JOB" || {
        robotctl slot list || true
        fail "$JOB has not ended"
    }
    echo "after $((SECONDS - began)) s: $(shown "$JOB" 'j["outcome"], j["code"], j["detail"], j["wipe"]')"
    resume
    [ "$5" = any ] || same outcome "$(shown "$JOB" 'j["outcome"]')" "$5"
    eventually 30 ends_are_told_once "$JOB"
    eventually 30 services_run
    [ "$6" != kept ] || recover_slot
    all_is_clean
}

services_run() {
    systemctl is-active --quiet robotd-broker robotd robot-orchestrator systemd-logind dbus.socket &&
        online && timeout 5 loginctl list-sessions >/dev/null
}

online() { robotctl status --json | grep -q '"state":"online"'; }

# The orchestrator takes one result. The broker's own word of it may be lost with the broker, and
# comes later than the result; it is never said twice.
ends_are_told_once() {
    robot-orchestrator event list --job "$1" --code 100202 --json | python3 -c '
import json, sys
told = sorted(event["source"].split(":")[0] for event in json.load(sys.stdin))
assert told in (["orchestrator"], ["agent", "orchestrator"]), told'
}

recover_slot() {
    local state
    state=$(robotctl slot list --json)
    ! grep -q quarantined <<<"$state" || {
        echo "$state"
        robotctl slot recover "$ACCOUNT"
    }
}

# After a row that failed: as if it had not been, so that the next one is its own.
repair() {
    local pid job
    rm -rf $HOLD
    for pid in $(pgrep -r T); do kill -CONT "$pid" || true; done
    systemctl restart systemd-logind robotd-broker robotd
    eventually 60 services_run
    for job in $(open_jobs); do robot-orchestrator job stop --kill "$job" || true; done
    eventually 60 no_open_jobs ||
        systemctl kill --signal=KILL 'robotd-session@*'
    eventually 60 no_open_jobs || true
    pkill -KILL -u "$ACCOUNT" || true
    robotctl slot recover "$ACCOUNT" || true
    eventually 60 slots_are_free
    : >/var/log/wtmp
    rm -f /var/lib/wtmpdb/wtmp.db
    all_is_clean
}

no_open_jobs() { [ -z "$(open_jobs)" ]; }

open_jobs() {
    robot-orchestrator job list --json | python3 -c '
import json, sys
print(*(job["job_id"] for job in json.load(sys.stdin) if job["state"] != "ENDED"))'
}
