# shellcheck shell=bash disable=SC2016,SC2154 # scripts for the machine; $work and $here are run's
# From the debs to a host that takes jobs, what it tells, and back.

install_debs() {
    tb copy "$work/robotd.deb" :/root/robotd.deb &&
        tb copy "$work/robot-orchestrator.deb" :/root/robot-orchestrator.deb &&
        own_uids &&
        inside dpkg -i /root/robotd.deb /root/robot-orchestrator.deb &&
        tb copy "$here/inside" :/root/testbed
}

# On one kernel a number is one user, whatever machine it is of: its keys are shared, and tests on
# the host end the processes that have it. So every machine has numbers of its own: the package
# takes the first free ones from 60600 on, and useradd the last ones of login.defs.
own_uids() {
    local machine
    machine=$(tb address | cut -d. -f3)
    inside sh -ec '
        n=60600
        while [ $n -lt "$1" ]; do echo "taken$n:x:$n:" >>/etc/group; n=$((n + 1)); done
        printf "SYS_UID_MAX %s\nSYS_GID_MAX %s\n" "$2" "$2" >>/etc/login.defs' \
        sh $((60610 + machine * 2 % 50)) $((900 - machine * 20 % 700))
}

services_run() {
    inside systemctl is-active robotd-broker.service robotd.service robot-orchestrator.service
}

enrol() {
    inside sh -ec '
        robot-orchestrator token create --agent testbed --out /root/token.json
        robotctl enroll --token /root/token.json
        robot-orchestrator license set default 1
        robot-orchestrator package keygen /root/publisher.pem'
}

trust_publisher() { # the shipped policy refuses unsigned packages, and this host keeps that
    inside sh -c '
        set -e
        key=$(cat /root/publisher.pem.pub | grep -v -- ----- | tr -d "\n" | base64 -d | tail -c 32 | base64)
        printf "\n[[publisher]]\nname = \"testbed\"\nkey = \"%s\"\n" "$key" >>/etc/robotd/policy.toml
        robotctl validate /etc/robotd/policy.toml
        systemctl restart robotd-broker.service'
}

push_package() {
    inside robot-orchestrator package push /root/testbed/bot --name bot --sign /root/publisher.pem
}

installation_claims() {
    claim "a machine comes up" tb up || return
    claim "the debs install" install_debs || return
    claim "the services run" services_run || return
    claim "the host enrols" enrol || return
    claim "a publisher is trusted" trust_publisher || return
    claim "a signed package is pushed" push_package
}

journal_tells() {
    inside sh -c '
        set -e
        job=$(cat /run/testbed.job)
        journalctl --no-pager -o json JOB_ID="$job" >/root/journal.json
        python3 - <<PY
import json
events = {int(e["EVENT_CODE"]) for e in map(json.loads, open("/root/journal.json")) if "EVENT_CODE" in e}
missing = {100101, 100102, 100201, 100202, 100301} - events
assert not missing, (missing, events)
PY
        journalctl --no-pager -x -n 50 JOB_ID="$job" | grep -q "Nothing to do"'
}

secret_stays_secret() { # neither in a file under /var nor in the journal, plain or in base64
    inside sh -c '
        set -e
        printf kvK7-plain-9Qx | robot-orchestrator secret set erp
        mkdir -p /root/teller
        cat >/root/teller/bot.py <<PY
import subprocess, sys, time
secret = subprocess.run(["robotjob", "credential", "erp"], check=True, stdout=subprocess.PIPE).stdout.decode()
for cut in range(len(secret) + 1):
    sys.stdout.write(secret[:cut]); sys.stdout.flush(); time.sleep(0.01)
    sys.stdout.write(secret[cut:] + "\n"); sys.stdout.flush()
PY
        robot-orchestrator package push /root/teller --name teller --sign /root/publisher.pem
        robot-orchestrator job submit --package teller --display none --secret erp --wait
        job=$(robot-orchestrator job list --json | python3 -c "import json,sys; print(json.load(sys.stdin)[0][\"job_id\"])")
        test "$(robot-orchestrator job logs "$job" --stream stdout --raw | sort -u)" = "***"
        journalctl --sync
        ! grep -rlF -e kvK7-plain-9Qx -e a3ZLNy1wbGFpbi05UX /var /run/log 2>/dev/null'
}

revoked() { # accepted before, refused afterwards, and the host says why
    inside sh -ec 'robot-orchestrator agent revoke testbed' && there eventually 30 says_refused
}

purge() {
    inside sh -c 'dpkg --purge robotd robot-orchestrator && ! getent passwd robot01 && test ! -e /var/lib/robotd'
}

told_claims() {
    claim "a secret is in no file and not in the journal" secret_stays_secret
    claim "no unit has failed" there failed_units
    claim "a revoked host is refused and says so" revoked
}

purge_claims() { claim "the packages are purged" purge; }
