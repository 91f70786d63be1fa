# shellcheck shell=bash
# People on the host, and a session that needs a password.

# A person at a terminal of her own: logind calls that a session of class user. Her shell stays.
person_logs_in() { # USER
    local user=$1
    printf '#!/bin/sh\nexec sleep 1000\n' >/usr/local/bin/stay
    chmod 0755 /usr/local/bin/stay
    id "$user" >/dev/null 2>&1 || useradd --create-home --shell /usr/local/bin/stay "$user"
    systemd-run --quiet --unit "person-$user" --collect script --quiet --command "su --login $user" /dev/null
    eventually 20 sh -c "loginctl list-sessions --no-legend | grep -qw $user"
}

person_logs_out() { # USER
    systemctl stop "person-$1.service"
    loginctl terminate-user "$1" 2>/dev/null || true
    eventually 20 sh -c "! loginctl list-sessions --no-legend | grep -qw $1"
}

# A stranger's process in a session of its own, under a bot's account.
stranger_comes() {
    systemd-run --quiet --unit stranger --collect su --login --shell /bin/sh --command 'exec sleep 1000' "$ACCOUNT"
    eventually 20 sh -c "loginctl list-sessions --no-legend | grep -qw $ACCOUNT"
}

stranger_goes() {
    systemctl stop stranger.service
    eventually 30 account_is_idle
}

account_is_idle() { [ -z "$(ps -o pid= -U "$BOT_UID")" ] && [ ! -e "/run/user/$BOT_UID" ]; }

# An event of this code whose sentence or fields hold this text.
event_tells() { # CODE TEXT
    eventually 20 sh -c "journalctl --no-pager -o json EVENT_CODE=$1 | grep -q -- '$2'"
}

rights_are_taken() { # USER: runs su to root, with a password on its standard input
    echo "root:change" | chpasswd
    su "$1" -s /bin/sh -c 'echo change | su root -c true'
    event_tells 100604 "$1\|(uid=$(id -u "$1"))"
}

policy() { # KEY VALUE of [session]
    sed -i "s/^$1 = .*/$1 = \"$2\"/" /etc/robotd/policy.toml
    robotctl validate /etc/robotd/policy.toml >/dev/null
    systemctl restart robotd-broker.service
}

is_refused_for_now() { # JOB CODE
    [ "$(shown "$1" '[r["code"] for r in j["rejections"]]' | grep -c "$2")" = 1 ] && ! has_ended "$1"
}

# A job that this host will not take now, until COMMAND makes it possible.
waits_until() { # CODE COMMAND...
    local code=$1 job
    shift
    job=$(submit end --display none)
    echo "$job" >"$JOB_FILE"
    eventually 30 is_refused_for_now "$job" "$code"
    "$@"
    eventually 120 has_ended "$job"
    same outcome "$(shown "$job" 'j["outcome"]')" SUCCEEDED
}

remark_is() { # WANTED
    same remarks "$(shown "$(job)" '" ".join(j["remarks"])')" "$1"
}

password_is_tried_once() {
    local before after
    before=$(journalctl --no-pager | grep -c "authentication failure.*user=$ACCOUNT" || true)
    printf wrong | robot-orchestrator secret set door
    complete end NOT_STARTED --display none --account-secret door
    same code "$(shown "$(job)" 'j["code"]')" PASSWORD_REFUSED
    after=$(journalctl --no-pager | grep -c "authentication failure.*user=$ACCOUNT" || true)
    same "failed tries" "$((after - before))" 1
}

password_opens() {
    echo "$ACCOUNT:correct horse" | chpasswd
    printf 'correct horse' | robot-orchestrator secret set door
    complete end SUCCEEDED --display none --account-secret door
    ! journalctl --no-pager -o export | grep -q 'correct horse' || fail "the password is in the journal"
    ! grep -rqF 'correct horse' /var/lib/robotd /var/lib/robotd-broker || fail "the password is on the disk"
}

forget_password() { usermod -p '*' "$ACCOUNT"; }

# The records of a running job are gone, as after a restored or emptied state directory.
stray_is_ended() {
    begin --display none
    systemctl stop robotd.service robotd-broker.service
    rm -f /var/lib/robotd-broker/slots/*
    systemctl start robotd-broker.service robotd.service
    event_tells 100108 "robotd-session@$(job)"
    eventually 90 has_ended "$(job)"
    eventually 60 slot_is_free
    complete end SUCCEEDED --display none
}

slot_is_free() { robotctl slot list | grep -E "^$ACCOUNT +free"; }
