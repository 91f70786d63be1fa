# shellcheck shell=bash
# Facts about the machine when no job is there any more.

nothing_is_left() { ./residue "$ACCOUNT" "$ATTENDANT" robot02 robotd-a02; }

slots_are_free() {
    same "slots" "$(ls /var/lib/robotd-broker/slots)" ""
    same "slots that are not free" "$(robotctl slot list --json | python3 -c '
import json, sys
print(*(row for row in json.load(sys.stdin) if row["state"] != "free"))')" ""
}

spool_is_delivered() { same "spool" "$(ls /var/lib/robotd/spool /run/robotd/jobs)" "$(printf '/run/robotd/jobs:\n\n/var/lib/robotd/spool:')"; }

all_is_clean() {
    eventually 30 nothing_is_left && no_settings && eventually 30 slots_are_free && eventually 30 spool_is_delivered
}

# logind itself forgets the user ten seconds later.
logind_forgets_the_user() { eventually 20 test ! -e "/run/systemd/users/$BOT_UID"; }

open_files_of_the_broker() { find "/proc/$(main_pid robotd-broker)/fd" -mindepth 1 | wc -l; }

descriptors_are() { same "number of the broker's descriptors" "$(open_files_of_the_broker)" "$1"; }

broker_keeps_no_descriptor() { # JOBS
    local before n
    complete end SUCCEEDED # what is opened once, is
    eventually 30 slots_are_free
    before=$(open_files_of_the_broker)
    for ((n = 0; n < $1; n++)); do complete end SUCCEEDED --display none; done
    eventually 30 descriptors_are "$before"
}

failed_units() { same "failed units" "$(systemctl --failed --no-legend --plain)" ""; }

# What a bot's process printed.
printed() { robot-orchestrator job logs "$(job)" --stream stdout --raw; }

nothing_was_taken() {
    same "programs asked" "$(printed | grep -c ' refused$')" 4
    ! printed | grep 'took it'
}

next_job_sees_nothing() {
    complete look SUCCEEDED
    same "what it printed" "$(printed)" "seen: nothing"
}

interrupted_once() { # JOB
    eventually 120 has_ended "$1"
    same outcome "$(shown "$1" 'j["outcome"]')" INTERRUPTED
    eventually 30 ends_are_told_once "$1"
}

says_refused() { robotctl status | grep -qi "refused\|revoked"; }
