# shellcheck shell=bash disable=SC2016,SC2154 # scripts for the machine; $work and $here are run's
# An orchestrator that is not on the machine: it runs on the host's end of the network, and the
# machine enrols with it over that.

outside() { "$work/$TESTBED_SUITE.outside/usr/bin/robot-orchestrator" "$@" --data-dir "$work/$TESTBED_SUITE.orchestrator"; }
serve() { exec "$work/$TESTBED_SUITE.outside/usr/bin/robot-orchestrator" serve "$@" --data-dir "$work/$TESTBED_SUITE.orchestrator"; }

stop_outside() {
    local pid=$work/$TESTBED_SUITE.orchestrator.pid
    [ -e "$pid" ] && kill "$(cat "$pid")" && rm "$pid"
}

serve_outside() {
    local address end=$((SECONDS + 30))
    address=$(tb address | cut -d' ' -f1)
    dpkg-deb -x "$work/robot-orchestrator.deb" "$work/$TESTBED_SUITE.outside" || return
    serve --listen "$address:7443" --enroll "$address:7444" --name host.testbed \
        >"$work/$TESTBED_SUITE.orchestrator.log" 2>&1 &
    echo $! >"$work/$TESTBED_SUITE.orchestrator.pid"
    until outside license set default 1 2>/dev/null; do
        [ $SECONDS -lt $end ] || { cat "$work/$TESTBED_SUITE.orchestrator.log" && return 1; }
        sleep 0.1
    done
}

enrol_outside() {
    outside token create --agent testbed --out "$work/$TESTBED_SUITE.token" &&
        tb copy "$work/$TESTBED_SUITE.token" :/root/outside.json &&
        inside robotctl enroll --token /root/outside.json
}

run_from_outside() {
    tb copy :/root/publisher.pem "$work/$TESTBED_SUITE.publisher" && chmod 600 "$work/$TESTBED_SUITE.publisher" &&
        outside package push "$here/inside/bot" --name bot --sign "$work/$TESTBED_SUITE.publisher" &&
        outside job submit --package bot --arg look --display 800x600 --wait
}

# Both come back by themselves; the job has to wait for them.
run_after_kills() {
    inside systemctl kill --signal KILL systemd-logind.service
    tb rawexec systemctl kill --signal KILL dbus.service
    outside job submit --package bot --arg look --display none --wait
}

outside_claims() {
    claim "an orchestrator serves outside of the machine" serve_outside || return
    claim "the host enrols with it over the network" enrol_outside || return
    claim "a job submitted from outside runs" run_from_outside
    claim "another runs after logind and D-Bus were killed" run_after_kills
    claim "nothing of them is left" there all_is_clean
    stop_outside
}
