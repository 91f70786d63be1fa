# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153  # parts of one script: names are shared
# Orchestrator, broker and agent: units where systemd is PID 1, plain processes elsewhere.

readonly SERVICES=(robotd-quickstart.service robotd-quickstart-broker.service robotd-quickstart-orchestrator.service)
readonly TEMPLATES=(robotd-session@.service robotd-teardown@.service robotd-probe.service)

ask() { "$PROGRAMS/robot-orchestrator" "$@" --data-dir "$STATE/orchestrator/data" 9>&-; }
control() { "$PROGRAMS/robotctl" "$@" --control "$RUN/a/control.sock" 9>&-; }

# Two, below the ports that the kernel gives out by itself, so that nobody gets one meanwhile.
free_ports() {
    python3 -c '
import socket
free = []
for port in range(17443, 18443):
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        continue
    free.append(port)
    if len(free) == 2:
        break
print(*free)'
}

start_orchestrator() {
    local link enroll arguments
    DETAIL='did not start'
    read -r link enroll < <(free_ports)
    arguments=(serve --data-dir "$STATE/orchestrator/data" --listen "127.0.0.1:$link"
        --enroll "127.0.0.1:$enroll" --name localhost)
    if systemd_runs; then
        write_units "${arguments[*]}" && quietly systemctl daemon-reload || return
    fi
    run_service "${SERVICES[2]}" "$PROGRAMS/robot-orchestrator" "${arguments[@]}" || return
    until_ready ask license list || return
    quietly "$PROGRAMS/robot-orchestrator" license set default 1 --data-dir "$STATE/orchestrator/data" || return
    DETAIL="own CA, one license; https://localhost:$link"
}

start_broker() {
    DETAIL='did not start'
    run_service "${SERVICES[1]}" "$PROGRAMS/robotd-broker" --policy "$STATE/etc/policy.toml" || return
    until_ready "$PROGRAMS/robotctl" slot list --admin "$RUN/b/admin.sock" || return
    DETAIL='root, no network; one slot'
}

start_agent() {
    DETAIL='did not start'
    run_service "${SERVICES[0]}" setpriv --reuid robotd --regid robotd --init-groups \
        --inh-caps=-all --bounding-set=-all --no-new-privs "$PROGRAMS/robotd" --config "$STATE/etc/robotd.toml" || return
    until_ready control status || return
    DETAIL='could not be enrolled'
    quietly "$PROGRAMS/robot-orchestrator" token create --agent "$(hostname -s)" --out "$STATE/token.json" \
        --data-dir "$STATE/orchestrator/data" || return
    quietly "$PROGRAMS/robotctl" enroll --token "$STATE/token.json" --trust-dir "$STATE/etc/trust.d" \
        --control "$RUN/a/control.sock" || return
    DETAIL="user robotd, as $(hostname -s)"
}

STARTED=''
run_service() { # UNIT COMMAND...
    local unit=$1
    shift
    if systemd_runs; then
        STARTED=''
        quietly systemctl start "$unit"
        return
    fi
    # A session of its own: it outlives this terminal with --keep, and Ctrl-C is not for it.
    setsid env -i PATH=/usr/bin:/bin RUST_BACKTRACE=1 "$@" >>"$STEP_LOG" 2>&1 </dev/null 9>&- &
    STARTED=$!
    disown "$STARTED"
}

answers_or_dead() { "$@" || { [ -n "$STARTED" ] && ! kill -0 "$STARTED"; }; }

until_ready() { # COMMAND...: that succeeds as soon as the service answers
    wait_until 60 answers_or_dead "$@"
    "$@" >>"$STEP_LOG" 2>&1
}

# The shipped units with the places of a quickstart in them. Below /run: a reboot forgets them.
write_units() { # ARGUMENTS-OF-THE-ORCHESTRATOR
    local from=$ROOT/systemd session="--socket $RUN/b/session.sock"
    sed -e "s#^ExecStart=.*#ExecStart=$PROGRAMS/robot-orchestrator $1#" -e '/^StateDirectory/d' \
        -e "s#^ProtectSystem=strict#&\nReadWritePaths=$STATE/orchestrator#" \
        "$from/robot-orchestrator.service" >"$UNITS/${SERVICES[2]}" &&
        sed -e "s#^ExecStart=.*#ExecStart=$PROGRAMS/robotd-broker --policy $STATE/etc/policy.toml#" \
            -e "s#^ReadWritePaths=.*#ReadWritePaths=$STATE/broker $STATE/agent $RUN#" \
            "$from/robotd-broker.service" >"$UNITS/${SERVICES[1]}" &&
        sed -e "s#^ExecStart=.*#ExecStart=$PROGRAMS/robotd --config $STATE/etc/robotd.toml#" \
            -e "s#^ReadWritePaths=.*#ReadWritePaths=$STATE/agent $RUN/a#" -e "s#robotd-broker.service#${SERVICES[1]}#" \
            "$from/robotd.service" >"$UNITS/${SERVICES[0]}" &&
        sed -e "s#^ExecStart=.*#ExecStart=$PROGRAMS/robotd-session --attempt %i $session#" \
            "$from/${TEMPLATES[0]}" >"$UNITS/${TEMPLATES[0]}" &&
        sed -e "s#^ExecStart=.*#ExecStart=$PROGRAMS/robotd-session --teardown %i $session#" \
            "$from/${TEMPLATES[1]}" >"$UNITS/${TEMPLATES[1]}" &&
        sed -e "s#^ExecStart=.*#ExecStart=$PROGRAMS/robotd-session --probe $session#" \
            "$from/${TEMPLATES[2]}" >"$UNITS/${TEMPLATES[2]}"
}
