# shellcheck shell=bash
# The nspawn backend: the machine is a container on the host's kernel.
#
# What every backend provides: backend_packages, backend_image and backend_recipe (what its image
# has more), backend_disk, backend_start, backend_alive, backend_pid, backend_boot, backend_run,
# backend_net, backend_kill, backend_ready_inside. What only some can do: backend_snapshot,
# backend_restore, backend_pause, backend_resume, backend_warm.
#
# The rules that keep the machine from reaching the host; each was broken once:
#   * the console is nspawn's own terminal, read-only, never the caller's stdin:
#     a getty inside once changed the mode of the host's /dev/null;
#   * no device of the host is bound or handed in;
#   * what enters the machine has the machine's capabilities, not the host's:
#     with sys_time, `date -s` inside sets the host's clock.

LINK=ve-tb-$NAME

backend_packages() { :; }
backend_image() { :; }
backend_recipe() { :; }
backend_disk() { image_copy "$MACHINE/root.raw"; }

# Alive, too, while it reboots.
backend_alive() { cgroup_populated "$CGROUP/keeper"; }

backend_start() {
  link_gone || die "there is a network link $LINK already, so a machine named $NAME runs from another TESTBED_DIR; choose another TESTBED_NAME"
  mkdir -p "$MACHINE/root"
  : >"$MACHINE/console.log"
  cgroup_make
  (
    echo "$BASHPID" >"$CGROUP/keeper/cgroup.procs"
    cd /
    close_inherited
    exec setsid env -i PATH="$PATH" unshare --mount --propagation slave \
      "$HERE/lib/nspawn-keeper" "$NAME" "$MACHINE" "$LINK" "${CGROUP##*/}" "$(<"$MACHINE/slot")"
  ) </dev/null >>"$MACHINE/console.log" 2>&1 &
  wait_until 10 backend_alive || true
}

# PID 1 as the host sees it. Two conditions: it is process 1 of a namespace one
# level down, and it is systemd already: before that exec its root is the host's.
backend_pid() {
  local pid comm
  while read -r pid; do
    read -r comm 2>/dev/null <"/proc/$pid/comm" || continue
    if [ "$comm" = systemd ] &&
      grep -qsP '^NSpid:\t\d+\t1$' "/proc/$pid/status"; then
      echo "$pid"
      return
    fi
  done < <(cat "$CGROUP/machine/payload/"{init.scope/,}cgroup.procs 2>/dev/null)
  return 1
}

# Another text after each boot.
backend_boot() { backend_pid; }

backend_run() {
  local pid
  pid=$(backend_pid) || die "$NAME is not up; run: TESTBED_NAME=$NAME testbed up"
  # Stderr is put aside for the command: the shell's own says "Killed" and prints
  # this text whenever a power loss takes the command.
  { (
    exec 2>&9
    # So that a power loss takes it too.
    echo "$BASHPID" >"$CGROUP/exec/cgroup.procs"
    close_inherited
    exec nsenter -t "$pid" -m -u -i -n -p -C -r -w -- \
      setpriv --inh-caps=-all --bounding-set="$(capabilities_lacking "$pid")" -- \
      env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
  ); } 9>&2 2>/dev/null
}

# capabilities_lacking PID: those outside of its bounding set, as setpriv takes them.
capabilities_lacking() {
  local field value bounds=0 last bit list=
  while read -r field value _; do
    [ "$field" != CapBnd: ] || bounds=0x$value
  done <"/proc/$1/status"
  last=$(</proc/sys/kernel/cap_last_cap)
  for ((bit = 0; bit <= last; bit++)); do
    ((bounds >> bit & 1)) || list+=",-cap_$bit"
  done
  echo "${list#,}"
}

# Its address is the last thing that it gets; it gets none while it is unplugged.
backend_ready_inside() {
  [ -e "$MACHINE/net-cut" ] || "$SELF" rawexec ip -o -4 address show dev host0 scope global 2>/dev/null | grep -q inet
}

# The host's end goes down, so the machine sees its carrier go. The mark makes the
# cut last through a reboot of the machine.
backend_net() {
  backend_alive || die "$NAME is not up"
  case $1 in
    cut)
      : >"$MACHINE/net-cut"
      ip link set "$LINK" down
      ;;
    restore)
      rm -f "$MACHINE/net-cut"
      ip link set "$LINK" up
      ;;
  esac
}

# When this returns, nothing of the machine is left on the host but its files. The
# loop device and the link go a moment after the last process: a start that did
# not wait would mount a disk that is still being written.
backend_kill() {
  local ran=
  [ ! -d "$CGROUP" ] || ran=yes
  cgroup_kill
  rm -f "$MACHINE/net-cut"
  wait_until 30 disk_detached || die "$MACHINE/root.raw is still on a loop device: $(losetup -nO NAME -j "$MACHINE/root.raw")"
  [ -z "$ran" ] || wait_until 30 link_gone || die "the network link $LINK does not go; delete it with: ip link delete $LINK"
}

disk_detached() { [ ! -e "$MACHINE/root.raw" ] || [ -z "$(losetup -nO NAME -j "$MACHINE/root.raw")" ]; }

link_gone() { [ ! -e "/sys/class/net/$LINK" ]; }
