# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153  # parts of one script: names are shared
# Taking everything down: the job in order if it still runs, then programs, then what is on the disk.

interrupted() { # EXIT-STATUS
    trap '' INT TERM HUP
    printf '\n  interrupted: everything is taken down, a few seconds\n'
    exit "$1"
}

finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    stop_current
    if [ "$KEEP" = yes ] && [ -n "$REPORT" ]; then
        kept
    else
        removed_or_said || status=1
    fi
    hand_over
    [ -z "$REPORT" ] || echo "report: $REPORT"
    rm -f "$LOCK"
    exit "$status"
}

stop_current() {
    [ -n "$CURRENT" ] || return 0
    [ "$CUT" = no ] || kill -TERM -- "-$CURRENT" 2>/dev/null
    wait "$CURRENT" 2>/dev/null
}

take_down() {
    if [ ! -e "$STATE" ]; then
        echo 'quickstart: nothing is up'
        return
    fi
    trap '' INT TERM HUP
    removed_or_said
}

removed_or_said() {
    local began left
    [ -e "$STATE" ] || return 0
    began=$(now_ms)
    remove_all
    left=$(what_is_left)
    if [ -n "$left" ]; then
        printf '  %s✗%s left on this machine:\n%s\n' "$RED" "$PLAIN" "$left"
        return 1
    fi
    printf '  %s✓%s %-26s %s%-52s %s%s\n' "$GREEN" "$PLAIN" 'taken down' "$DIM" \
        'no process, mount, account, unit or folder left' "$(seconds $(($(now_ms) - began)))" "$PLAIN"
}

remove_all() {
    STEP_LOG=${LOGS:+$LOGS/down.log}
    : "${STEP_LOG:=/dev/null}"
    stop_job
    stop_services
    end_processes
    remove_accounts
    remove_groups
    rm -f "$PAM_FILE"
    rm -rf --one-file-system "$PROGRAMS" "$RUN" >>"$STEP_LOG" 2>&1
    remove_new
    rm -rf --one-file-system "$STATE" >>"$STEP_LOG" 2>&1
}

# The job's own end is the one that proves what is gone; all that follows is for when it is stuck.
stop_job() {
    local jobs job
    [ -x "$PROGRAMS/robot-orchestrator" ] || return 0
    jobs=$(ask job list --json 2>/dev/null) || return 0
    for job in $(python3 -c 'import json, sys
for job in json.load(sys.stdin):
    if not job["outcome"]: print(job["job_id"])' <<<"$jobs"); do
        ask job stop --kill "$job" >>"$STEP_LOG" 2>&1
        wait_until 45 job_ended "$job"
    done
}

job_ended() { ask job show "$1" --json | python3 -c 'import json, sys; sys.exit(not json.load(sys.stdin)["outcome"])'; }

stop_services() {
    local unit pid
    if systemd_runs; then
        for unit in "${SERVICES[@]}"; do
            if [ -n "$LOGS" ] && [ -e "$UNITS/$unit" ]; then
                journalctl --no-pager -o cat -u "$unit" >>"$LOGS/$unit.log" 2>/dev/null
            fi
            systemctl stop "$unit" >>"$STEP_LOG" 2>&1
        done
        systemctl stop 'robotd-session@*.service' 'robotd-teardown@*.service' robotd-probe.service robotd.slice >>"$STEP_LOG" 2>&1
        for unit in "${SERVICES[@]}" "${TEMPLATES[@]}"; do
            # Another's unit of this name is not ours to remove.
            if grep -qs "$PROGRAMS" "$UNITS/$unit"; then rm -f "$UNITS/$unit"; fi
        done
        systemctl daemon-reload >>"$STEP_LOG" 2>&1
        systemctl reset-failed 'robotd-*' >>"$STEP_LOG" 2>&1
        return
    fi
    for unit in robotd robotd-broker robot-orchestrator; do
        for pid in $(running "$unit"); do
            kill -TERM "$pid" 2>/dev/null
            wait_until 10 gone "$pid"
        done
    done
}

gone() { ! [ -e "/proc/$1/exe" ]; }

running() { # [PROGRAM]: pids of this quickstart's programs, known by their file, whoever started them
    local exe file
    for exe in /proc/[0-9]*/exe; do
        file=$(readlink "$exe" 2>/dev/null) || continue
        case ${file% (deleted)} in
        "$PROGRAMS/${1:-}" | "$PROGRAMS"/*) [ -n "${1:-}" ] && [ "${file% (deleted)}" != "$PROGRAMS/$1" ] || echo "${exe//[!0-9]/}" ;;
        esac
    done
}

accounts_made() {
    { getent passwd && getent group; } | cut -d: -f1 | sort -u | grep -E "^$PREFIX(-a)?[0-9][0-9]\$"
}

processes_left() {
    running
    local account
    for account in $(accounts_made); do pgrep -u "$account" 2>/dev/null; done
}

end_processes() {
    local pids
    for _ in 1 2 3 4 5; do
        pids=$(processes_left)
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null
        wait_until 3 no_processes
    done
}

no_processes() { [ -z "$(processes_left)" ]; }

remove_accounts() {
    # logind forgets a user ten seconds after the last session; userdel refuses until then.
    if systemd_runs; then wait_until 30 logind_forgot; fi
    for _ in 1 2 3 4 5; do
        [ -n "$(accounts_made)" ] || return 0
        # Fails while somebody else changes /etc/passwd.
        "$ROOT/packaging/deb/accounts" remove "$PREFIX" >>"$STEP_LOG" 2>&1 || sleep 1
    done
}

logind_forgot() { ! loginctl show-user "${PREFIX}01"; }

# A session that was killed can't remove its own group.
remove_groups() {
    local group
    [ -n "$JOB" ] || return 0
    for group in /sys/fs/cgroup/unified/robotd-"$JOB"* /sys/fs/cgroup/robotd-"$JOB"*; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>>"$STEP_LOG"
    done
}

remove_new() { # innermost first
    local kind name
    [ -e "$STATE/new" ] || return 0
    while read -r kind name; do
        case $kind in
        folder) rmdir "$name" 2>>"$STEP_LOG" ;;
        user) userdel "$name" >>"$STEP_LOG" 2>&1 ;;
        esac
    done < <(tac "$STATE/new")
}

what_is_left() {
    local path
    for path in "$STATE" "$RUN" "$PROGRAMS" "$PAM_FILE" "$UNITS/${SERVICES[0]}"; do
        [ ! -e "$path" ] || echo "    $path"
    done
    accounts_made | sed 's/^/    account /'
    running | sed 's/^/    process /'
    [ -z "$JOB" ] || grep "robotd-$JOB" /proc/mounts | sed 's/^/    mount /'
}

# The folder belongs to the person who asked.
hand_over() {
    [ -n "$OUT" ] || return 0
    rmdir "$LOGS" "$OUT" 2>/dev/null && return
    chmod -R u+rwX,go-rwx "$OUT"
    [ -z "${SUDO_UID:-}" ] || chown -hR "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$OUT"
}

kept() {
    touch "$STATE/kept"
    local data="--data-dir $STATE/orchestrator/data" again="--package $PACKAGE"
    [ "$BOT" != "$EXAMPLE" ] || again="--package invoices --display 1024x720 --param approval_above:=1000"
    cat <<-NEXT
	  It is kept up. Try:

	    sudo $PROGRAMS/robot-orchestrator job list $data
	    sudo $PROGRAMS/robot-orchestrator job submit $again --wait $data
	    sudo $PROGRAMS/robot-orchestrator event list --since 10m $data
	    sudo $PROGRAMS/robotctl status --control $RUN/a/control.sock
	    sudo $PROGRAMS/robot-orchestrator package push FOLDER --sign $STATE/etc/publisher.key $data

	  and take it down with: sudo packaging/quickstart.sh --down

	NEXT
}
