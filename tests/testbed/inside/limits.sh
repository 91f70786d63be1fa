# shellcheck shell=bash
# What a job may use together, which is enforced on virtual machines.

SLICE=/sys/fs/cgroup/user.slice/user-$BOT_UID.slice
SETTINGS=/run/systemd/system.control/user-$BOT_UID.slice.d

bound() { cat "$SLICE/$1"; }

# MEMORY-BYTES PROCESSES CPU-MAX: those of the running job, by what the kernel goes by.
slice_is_bound() {
    same memory.max "$(bound memory.max)" "$1"
    same memory.swap.max "$(bound memory.swap.max)" 0
    same pids.max "$(bound pids.max)" "$2"
    same cpu.max "$(bound cpu.max)" "$3"
}

killed_together() { same memory.oom.group "$(bound memory.oom.group)" 1; }

# Anybody who installs a package does that.
reload_changes_nothing() {
    systemctl daemon-reload
    slice_is_bound "$@"
}

has_settings() { [ -e "$SETTINGS/50-MemoryMax.conf" ]; }

no_settings() { [ ! -e "$SETTINGS" ] || fail "left: $(ls "$SETTINGS")"; }

# systemd itself knows nothing more of them.
slice_is_free() {
    no_settings
    same MemoryMax "$(systemctl show -p MemoryMax --value "user-$BOT_UID.slice")" infinity
    same CPUQuota "$(systemctl show -p CPUQuotaPerSecUSec --value "user-$BOT_UID.slice")" infinity
}

monitor_is_killed() {
    kill -9 "$(monitor_pid "$(job)")"
    eventually 60 has_ended "$(job)"
    same code "$(shown "$(job)" 'j["code"]')" SESSION_LOST
}

ended_by() { # WHO LIMIT CODE
    same who "$(shown "$(job)" 'j["ended_by"]["who"]')" "$1"
    same limit "$(shown "$(job)" 'j["ended_by"]["limit"]')" "$2"
    same code "$(shown "$(job)" 'j["code"]')" "$3"
    robot-orchestrator job show "$(job)" | grep "^ended by "
}

told() { # CODE-OF-EVENT: in the journal, of this job
    journalctl --no-pager -o json -u robotd-broker | grep "$(job)" | grep "\"$1\"\|:$1,\|=$1\|\\\\\"code\\\\\":$1"
}

programs() {
    local unit
    for unit in robotd robotd-broker robot-orchestrator; do main_pid "$unit.service"; done
}

# COMMAND...: nothing of the host's own is killed or started anew meanwhile.
agent_lives() {
    local before
    before=$(programs)
    "$@" && same programs "$(programs)" "$before"
}

bomb_is_bounded() {
    local children refused
    robot-orchestrator license set default 2
    submit bomb --display none --processes 100 >"$JOB_FILE"
    eventually 90 bot_waits "$(job)"
    neighbour_runs
    release_bot "$(job)"
    eventually 90 has_ended "$(job)"
    same outcome "$(shown "$(job)" 'j["outcome"]')" SUCCEEDED
    children=$(printed | sed -n 's/^children: //p')
    [[ $children =~ ^[1-9][0-9]$ ]] || fail "it made '$children' children"
    refused=$(shown "$(job)" 'j["usage"]["processes_refused"]')
    [ "$refused" -ge 1 ] || fail "$refused were refused"
    shown "$(job)" 'j["remarks"]' | grep "LIMIT_PROCESSES: $refused "
}

# While the other's account is full.
neighbour_runs() {
    local job
    job=$(submit end --display none --account robot02)
    eventually 90 has_ended "$job"
    same "its neighbour's outcome" "$(shown "$job" 'j["outcome"]')" SUCCEEDED
}

# MODE: more memory than it may have, in one way or another.
hog_is_killed() {
    local before=$SECONDS
    complete "$1" FAILED --display none --memory 200M --volume 400M
    ended_by limit memory-bytes LIMIT_MEMORY
    [ "$(shown "$(job)" 'j["usage"]["memory_kills"]')" -ge 1 ]
    [ "$(shown "$(job)" 'j["usage"]["memory_peak_bytes"] or 0')" -le $((200 << 20)) ]
    journalctl --no-pager -k --since "-$((SECONDS - before + 5))s" | grep -q 'Memory cgroup out of memory'
}

# systemd writes its own memory.oom.group back: the kernel then kills one process of the four.
hog_is_killed_whole_after_a_reload() {
    submit later --display none --memory 200M >"$JOB_FILE"
    eventually 90 bot_waits "$(job)"
    systemctl daemon-reload
    release_bot "$(job)"
    eventually 90 has_ended "$(job)"
    same outcome "$(shown "$(job)" 'j["outcome"]')" FAILED
    ended_by limit memory-bytes LIMIT_MEMORY
}

# As a share of the time that has passed, by the bot's own clocks.
quota_holds() { # PERCENT
    local share
    complete spin SUCCEEDED --display none --cpu "$1"
    share=$(printed | sed -n 's/^percent: //p')
    echo "$share % of a processor with a quota of $1 %"
    [ "$share" -gt $(($1 / 2)) ] && [ "$share" -le $(($1 + $1 / 4)) ]
    [ "$(shown "$(job)" 'j["usage"]["cpu_held_back_ms"]')" -gt 1000 ]
}

idler_is_stopped() {
    complete idle TIMED_OUT --display none --idle-timeout 5s
    ended_by limit idle-ms IDLE_LIMIT
}

all_is_enforced() {
    shown "$(job)" 'j["not_enforced"]'
    shown "$(job)" '*(row["limit"] for row in j["not_enforced"] if row["limit"] != "io-weight")' | grep -qx ''
}
