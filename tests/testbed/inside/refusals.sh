# shellcheck shell=bash
# What keeps a session from being opened; each is told by its own code.

# refused CODE: the next job does not start, for this reason.
refused() {
    local job
    job=$(submit end --display none)
    eventually 60 has_ended "$job"
    shown "$job" 'j["outcome"], j["code"], j["detail"]'
    same outcome "$(shown "$job" 'j["outcome"]')" NOT_STARTED
    same code "$(shown "$job" 'j["code"]')" "$1"
}

# account_refused CODE COMMAND...: with the account's shadow line changed so.
account_refused() {
    local status=0
    cp -p /etc/shadow /root/shadow
    "${@:2}" "$ACCOUNT"
    refused "$1" || status=$?
    mv /root/shadow /etc/shadow
    return "$status"
}

# Not this job's fault: it waits.
closed_host_takes_no_job() {
    local status=0 job
    echo "the host goes down" >/run/nologin
    job=$(submit end --display none)
    eventually 30 rejected "$job" HOST_CLOSED || status=$?
    rm /run/nologin
    eventually 60 has_ended "$job"
    same outcome "$(shown "$job" 'j["outcome"]')" SUCCEEDED
    all_is_clean
    return "$status"
}

rejected() { shown "$1" '*(row["code"] for row in j["rejections"])' | grep -qw "$2"; }

# Its services would outlive every job.
lingering_account_refused() {
    local status=0
    loginctl enable-linger "$ACCOUNT"
    refused ACCOUNT_LINGERS || status=$?
    loginctl disable-linger "$ACCOUNT"
    return "$status"
}

account_in_use_refused() {
    local status=0
    systemd-run --quiet --unit=somebody --collect -p User="$ACCOUNT" sleep 1000
    refused ACCOUNT_IN_USE || status=$?
    systemctl stop somebody 2>/dev/null || true # it may be ended already
    return "$status"
}

recovered() {
    recover_slot
    all_is_clean
}
