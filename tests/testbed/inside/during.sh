# shellcheck shell=bash
# Facts about a running job.

bot() { bot_pid "$(job)"; }

# Ids of the account's sessions, without the row that newer logind has for user@.
sessions() {
    local id name
    while read -r id _ name _; do
        [ "$name" = "$ACCOUNT" ] || continue
        [ "$(loginctl show-session "$id" -p Class --value)" = manager ] || echo "$id"
    done < <(loginctl list-sessions --no-legend)
}

session_is_listed_once() {
    local id property
    id=$(sessions)
    same "number of sessions" "$(wc -w <<<"$id")" 1
    for property in Name=$ACCOUNT User="$BOT_UID" Class=user Type=x11 Service=robotd Remote=no State=active Scope="session-$id.scope"; do
        same "${property%%=*}" "$(loginctl show-session "$id" -p "${property%%=*}" --value)" "${property#*=}"
    done
}

leader_is_the_session_s_leader() {
    local leader
    leader=$(leader_pid "$(job)")
    same Leader "$(loginctl show-session "$(sessions)" -p Leader --value)" "$leader"
    [[ $(<"/proc/$leader/cgroup") == *"user-$BOT_UID.slice/session-$(sessions).scope" ]]
}

monitor_stays_outside() {
    grep -q "^0::/robotd.slice/.*robotd-session@" "/proc/$(monitor_pid "$(job)")/cgroup"
    grep -q "^0::/robotd.slice/.*robotd-session@" "/proc/$(attendant_pid "$(job)")/cgroup"
}

everything_of_the_job_is_in_its_scope() {
    local pid
    for pid in $(pgrep -u "$ACCOUNT") "$(bot)" "$(init_pid "$(job)")"; do
        grep -qE "^0::/user.slice/user-$BOT_UID.slice/(session-$(sessions).scope|user@$BOT_UID.service/)" "/proc/$pid/cgroup" ||
            fail "process $pid ($(<"/proc/$pid/comm")) is in $(<"/proc/$pid/cgroup")"
    done
    grep -q "/session-$(sessions).scope\$" "/proc/$(bot)/cgroup"
}

login_uid_and_audit_session_are_set() {
    same loginuid "$(<"/proc/$(bot)/loginuid")" "$BOT_UID"
    [ "$(<"/proc/$(bot)/sessionid")" != 4294967295 ]
}

environment() { tr '\0' '\n' <"/proc/$(bot)/environ" | sed -n "s/^$1=//p"; }

environment_is_the_session_s() {
    local root
    root=/proc/$(bot)/root
    same XDG_SESSION_ID "$(environment XDG_SESSION_ID)" "$(sessions)"
    same XDG_RUNTIME_DIR "$(environment XDG_RUNTIME_DIR)" "/run/user/$BOT_UID"
    same "mode and owner of it" "$(stat -c %a:%u "$root/run/user/$BOT_UID")" "700:$BOT_UID"
    same "mode and owner of the host's" "$(stat -c %a:%u "/run/user/$BOT_UID")" "700:$BOT_UID"
    same DBUS_SESSION_BUS_ADDRESS "$(environment DBUS_SESSION_BUS_ADDRESS)" "unix:path=/run/user/$BOT_UID/bus"
    [ -S "$root/run/user/$BOT_UID/bus" ]
    [[ $(environment DISPLAY) =~ ^:[0-9]+$ ]]
    # The account may read its cookie, nobody else.
    [[ $(stat -c %a:%u "$root$(environment XAUTHORITY)") =~ ^[46]00:$BOT_UID$ ]]
}

# It would start outside of the job what the bot asks it for.
user_manager_is_out_of_reach() {
    [ -S "/run/user/$BOT_UID/systemd/private" ]
    [ ! -e "/proc/$(bot)/root/run/user/$BOT_UID/systemd" ]
}

# knock ACCOUNT COOKIE: what the display says to an X client of that account: accepted or refused.
knock() {
    local pid
    pid=$(bot)
    nsenter -t "$pid" -m -n -p -i setpriv --reuid="$1" --clear-groups python3 -c '
import socket, struct, sys
number, cookie = sys.argv[1], bytes.fromhex(sys.argv[2])
s = socket.socket(socket.AF_UNIX)
s.connect(f"/tmp/.X11-unix/X{number}")
name = b"MIT-MAGIC-COOKIE-1" if cookie else b""
pad = lambda text: text + bytes(-len(text) % 4)
s.sendall(struct.pack("<BxHHHHxx", 108, 11, 0, len(name), len(cookie)) + pad(name) + pad(cookie))
print({0: "refused", 1: "accepted"}[s.recv(8)[0]])' "$(environment DISPLAY | tr -d :)" "$2"
}

cookie_opens_the_display_and_nothing_else_does() {
    local cookie user
    cookie=$(tail -c 16 "/proc/$(bot)/root$(environment XAUTHORITY)" | od -An -tx1 | tr -d ' \n')
    same "the bot with its cookie" "$(knock "$ACCOUNT" "$cookie")" accepted
    same "the bot with another cookie" "$(knock "$ACCOUNT" 00112233445566778899aabbccddeeff)" refused
    for user in "$ACCOUNT" nobody robot02 robotd root; do
        same "$user without a cookie" "$(knock "$user" '')" refused
    done
}

# /proc/net/unix shows an abstract name as @..., and who listens with the flag 00010000. init holds the
# name of its display and does not.
display_is_on_no_network() {
    local where
    for where in self "$(bot)"; do
        same "abstract sockets that listen" \
            "$(awk '$4 == "00010000" && $8 ~ "^@/tmp/.(X11|ICE)-unix"' "/proc/$where/net/unix")" ""
        same "TCP listeners of the account" \
            "$(awk -v uid="$BOT_UID" '$4 == "0A" && $8 == uid' "/proc/$where/net/tcp" "/proc/$where/net/tcp6")" ""
    done
    same "sockets on the host" "$(find /tmp/.X11-unix -type s 2>/dev/null | wc -l)" 0
}

login_is_on_record() {
    if [ -x /usr/bin/wtmpdb ]; then
        wtmpdb last "$ACCOUNT" | grep "still logged in"
    else
        last -f /var/log/wtmp "$ACCOUNT" | grep "still logged in"
    fi
}

# In no argument and no environment of a process of the host that others can read.
cookie_is_in_no_command_line() {
    local cookie
    cookie=$(tail -c 16 "/proc/$(bot)/root$(environment XAUTHORITY)" | od -An -tx1 | tr -d ' \n')
    ! grep -lsi "$cookie" /proc/[0-9]*/cmdline
}

report_is_whole() {
    robot-orchestrator job show "$(job)" --json | python3 -c '
import json, sys
report = json.load(sys.stdin)
assert report["session"]["closed"] and report["session"]["id"], report["session"]
assert report["wipe"]["complete"] and not report["wipe"]["leftovers"], report["wipe"]
assert report["license"]["returned"], report["license"]
assert report["screenshots"], "no picture"
phases = [step["phase"] for step in report["timeline"]]
assert phases == """OFFERED ACCEPTED LICENSE_LEASED STARTED PACKAGE_READY VOLUME_READY SESSION_OPEN DISPLAY_READY
RUNNING EXITED PROCESSES_GONE SESSION_CLOSED WIPED LICENSE_RETURNED REPORTED""".split(), phases'
}
