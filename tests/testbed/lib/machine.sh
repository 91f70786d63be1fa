# shellcheck shell=bash
# The life of one machine: DIR/machine/NAME holds its disk, suite, slot and console.

# One command at a time may start, stop or delete a machine. The lock is on its
# folder, which the command before may have deleted: then it is taken again.
machine_lock() {
  while exec 8<"$MACHINE"; do
    flock 8
    [ "$(stat -Lc %i /proc/self/fd/8)" != "$(stat -c %i "$MACHINE" 2>/dev/null)" ] || return 0
  done 2>/dev/null
  return 1
}

# Nothing here means nothing to stop: a running machine of this name is not ours.
machine_lock_existing() { [ -d "$MACHINE" ] && machine_lock; }

machine_up() {
  local started=$EPOCHREALTIME
  # Before the folder is made: a refused start leaves no trace.
  [ -e "$MACHINE/root.raw" ] || image_require
  mkdir -p "$MACHINE"
  machine_lock
  [ -e "$MACHINE/root.raw" ] || machine_make
  [ "$(<"$MACHINE/suite")" = "$SUITE" ] ||
    die "$NAME is a $(<"$MACHINE/suite") machine, not $SUITE; destroy it or choose another TESTBED_NAME"
  if ! backend_alive; then
    backend_kill # what a crash may have left
    backend_start
  fi
  machine_wait_booted
  say "$NAME ($SUITE, $TESTBED_BACKEND) is up, $(seconds_since "$started")"
}

machine_make() {
  echo "$SUITE" >"$MACHINE/suite"
  slot_take
  echo "$TESTBED_BACKEND" >"$MACHINE/backend"
  backend_disk
}

# The lowest number that neither another machine has nor the host has an address of.
slot_take() {
  local slot
  exec 7>"$DIR/machine/slots.lock"
  flock 7
  for ((slot = 1; slot <= 254; slot++)); do
    ! grep -qsx "$slot" "$DIR"/machine/*/slot || continue
    ! ip -o -4 address show | grep -qF " 10.99.$slot." || continue
    echo "$slot" >"$MACHINE/slot"
    exec 7>&-
    return
  done
  die "all 254 networks 10.99.N.0/24 are taken; see: testbed list"
}

# "degraded" is up, and said: a test decides for itself what it thinks of that.
machine_wait_booted() {
  local state end=$((SECONDS + TIMEOUT))
  while ((SECONDS < end)); do
    backend_alive || {
      tail -n 20 "$MACHINE/console.log" >&2
      die "$NAME died while booting; its console is above and in $MACHINE/console.log"
    }
    state=$(machine_state)
    case $state in
      running | degraded) ! backend_ready_inside || break ;;
    esac
    sleep 0.05
  done
  ((SECONDS < end)) ||
    die "$NAME is not booted after $TIMEOUT s (systemd says: '${state:-}'); its console: $MACHINE/console.log"
  [ "$state" != degraded ] || "$SELF" rawexec systemctl --failed --no-legend >&2
}

machine_state() {
  # It exits with 1 in every state but "running".
  timeout 30 "$SELF" rawexec systemctl is-system-running 2>/dev/null || true
}

# The machine outlives its caller and is not trusted: no descriptor but 0, 1 and 2
# goes with what is started in it.
close_inherited() {
  local fd
  for fd in /proc/"$BASHPID"/fd/*; do
    fd=${fd##*/}
    ((fd <= 2)) || exec {fd}>&-
  done
}

machine_rawexec() {
  [ $# -gt 0 ] || usage_error "rawexec needs a command"
  without_host_devices backend_run "$@"
}

machine_exec() {
  [ $# -gt 0 ] || usage_error "exec needs a command"
  machine_rawexec systemd-run --quiet --wait --pipe --collect --service-type=exec -- "$@"
}

# A terminal or /dev/null of the host as stdin, stdout or stderr would let what runs
# inside change its mode or owner: the inode is the host's. Pipes and files stay as
# they are, so that what is left running inside does not hold this command up.
without_host_devices() {
  local status=0
  [ ! -c /dev/stdin ] || exec < <(:)
  if [ -c /dev/stdout ] || [ -c /dev/stderr ]; then
    { "$@" 2>&1 >&3 | cat >&2; } 3> >(cat) || status=$?
    wait
    return "$status"
  fi
  "$@"
}

machine_address() {
  local slot
  slot=$(cat "$MACHINE/slot" 2>/dev/null) || die "there is no machine $NAME; run: TESTBED_NAME=$NAME testbed up"
  echo "10.99.$slot.1 10.99.$slot.2"
}

machine_net() {
  case ${1:-} in
    cut | restore) backend_net "$1" ;;
    *) usage_error "net needs 'cut' or 'restore'" ;;
  esac
}

machine_reboot() {
  local before started=$EPOCHREALTIME
  before=$(backend_boot) || die "$NAME is not up"
  machine_lock
  machine_rawexec systemctl --no-block reboot
  wait_until "$TIMEOUT" machine_rebooted "$before" || die "$NAME did not go down within $TIMEOUT s"
  machine_wait_booted
  say "$NAME rebooted, $(seconds_since "$started")"
}

machine_rebooted() {
  local now
  now=$(backend_boot) && [ "$now" != "$1" ] || ! backend_alive
}

# machine_special COMMAND: what only some backends can do.
machine_special() {
  declare -F "backend_$1" >/dev/null || die "$1 needs another backend, such as TESTBED_BACKEND=vm"
  case $1 in
    warm) [ "$NAME" = "$SUITE" ] || exec env TESTBED_NAME="$SUITE" TESTBED_SUITE="$SUITE" "$SELF" warm ;;
    restore) [ -d "$MACHINE" ] || die "there is no machine $NAME" ;;
    *) backend_alive || die "$NAME is not up" ;;
  esac
  "backend_$1"
  [ "$1" != restore ] || machine_wait_booted
}

machine_kill() {
  machine_lock_existing || return 0
  backend_kill
}

machine_down() {
  machine_lock_existing || return 0
  if backend_alive; then
    # The answer may be lost as systemd goes; what counts is that it is gone.
    timeout 30 "$SELF" rawexec systemctl --no-block poweroff 2>/dev/null || true
    wait_until "$TIMEOUT" machine_gone || {
      backend_kill
      die "$NAME did not shut down within $TIMEOUT s and was killed; its console: $MACHINE/console.log"
    }
  fi
  backend_kill
}

machine_gone() { ! backend_alive; }

machine_destroy() {
  machine_lock_existing || return 0
  backend_kill
  rm -rf --one-file-system "$MACHINE"
}

machine_list() {
  local folder name state
  for folder in "$DIR"/machine/*/; do
    [ -d "$folder" ] || continue
    name=$(basename "$folder")
    state=down
    ! cgroup_populated "$CGROUPS/$(cgroup_name "$name")/keeper" || state=up
    printf '%-8s %-8s %-6s %s\n' "$name" "$(cat "$folder/suite" 2>/dev/null || echo -)" \
      "$(cat "$folder/backend" 2>/dev/null || echo -)" "$state"
  done
}
