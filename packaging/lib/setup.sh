# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153  # parts of one script: names are shared
# Everything that lies on the disk: programs, accounts, PAM's file, policy, configuration.

# Writes down what was not there before, so that it is removed again and nothing else is. Written
# before the thing is made: a run that is killed in between leaves a line too many, never one too few.
note_new() { # KIND NAME
    echo "$1 $2" >>"$STATE/new"
}

note_new_folder() { # each one only when it is missing, outermost first
    local folder
    for folder in "$@"; do [ -d "$folder" ] || note_new folder "$folder"; done
}

# Fails while somebody else changes /etc/passwd, and can be run again.
make_accounts() {
    for _ in 1 2 3 4 5; do
        quietly_whole "$ROOT/packaging/deb/accounts" create 1 "$PREFIX" && return
        sleep 1
    done
    return 1
}

set_up() {
    local user program
    DETAIL="can't be written"
    install -d -m 0755 "$STATE" "$STATE/etc" "$STATE/etc/trust.d" "$RUN" || return
    note_new_folder /usr/local/libexec /usr/lib/robotd /usr/lib/robotd/home \
        /run/robotd-session /run/robotd-session/volume /run/robotd-session/root
    for user in robotd robotd-unpack robotd-journal; do
        getent passwd "$user" >/dev/null || note_new user "$user"
    done
    DETAIL='the accounts could not be made'
    make_accounts || return
    DETAIL="can't be written"
    install -d -m 0755 "$PROGRAMS" || return
    for program in "${BUILT[@]}"; do
        install -m 0755 "$BUILT_IN/$program" "$PROGRAMS/" || return
    done
    install -m 0644 "$ROOT/packaging/pam.d/robotd" "$PAM_FILE" || return
    install -d -m 0751 -o robotd -g robotd "$STATE/agent" || return
    install -d -m 0755 -o robotd -g robotd "$RUN/a" || return
    install -d -m 0750 -g robotd "$RUN/b" || return
    install -d -m 0700 "$STATE/broker" "$STATE/orchestrator" || return
    DETAIL="bot account ${PREFIX}01, attendant $PREFIX-a01"
}

# The host's ceiling. What is not said here is as shipped: unsigned packages are refused.
write_policy() {
    local key
    DETAIL='no key could be made'
    key=$("$PROGRAMS/robot-orchestrator" package keygen "$STATE/etc/publisher.key" 2>>"$STEP_LOG") || return
    key=$(sed -n 's/^public //p' <<<"$key")
    cat >"$STATE/etc/policy.toml" <<-POLICY
	[session]
	pam-service = "$(basename "$PAM_FILE")"

	[[slot]]
	account = "${PREFIX}01"
	attendant = "$PREFIX-a01"
	egress = "$PREFIX-e01"

	[[publisher]]
	name = "quickstart"
	key = "$key"

	[paths]
	state = "$STATE/broker"
	runtime = "$RUN/b"
	spool = "$STATE/agent/spool"
	jobs = "$RUN/a/jobs"
	trust = "$STATE/etc/trust.d"
	programs = "$PROGRAMS"
	POLICY
    cat >"$STATE/etc/robotd.toml" <<-CONFIG
	state-dir = "$STATE/agent"
	runtime-dir = "$RUN/a"
	broker-socket = "$RUN/b/broker.sock"

	[admission]
	min-free-mib = 64
	CONFIG
    DETAIL='the policy is refused'
    quietly "$PROGRAMS/robotctl" validate "$STATE/etc/policy.toml" || return
    quietly "$PROGRAMS/robotctl" validate "$STATE/etc/robotd.toml" || return
    DETAIL='only packages signed with the key made just now'
}
