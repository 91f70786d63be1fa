# shellcheck shell=bash
# A machine's cgroup, always in the v2 hierarchy and never in a v1 tree:
#
#   robotd-testbed-NAME.DIR    empty itself; killing it kills the whole machine
#     keeper                   the process that keeps the machine over its reboots
#     machine                  systemd-nspawn (supervisor) and the machine (payload)
#     exec                     what rawexec runs
#
# No controller is turned on: on a host with v1 trees there are none to turn on,
# and limits that hold on one host only would make tests lie.

# cgroup_name MACHINE: with the folder, so that two TESTBED_DIRs never kill each
# other's machines.
cgroup_name() { echo "robotd-testbed-$1${DIR//\//.}"; }

cgroup_v2() {
  local place
  for place in /sys/fs/cgroup /sys/fs/cgroup/unified; do
    [ "$(stat -fc %T "$place" 2>/dev/null)" != cgroup2fs ] || {
      echo "$place"
      return
    }
  done
  die "this host has no cgroup v2 hierarchy at /sys/fs/cgroup or /sys/fs/cgroup/unified"
}

CGROUPS=$(cgroup_v2)
CGROUP=$CGROUPS/$(cgroup_name "$NAME")

cgroup_make() { mkdir -p "$CGROUP/keeper" "$CGROUP/machine" "$CGROUP/exec"; }

# cgroup_populated GROUP: is a live process in it or below? (A zombie is not.)
cgroup_populated() { grep -qs '^populated 1$' "$1/cgroup.events"; }

cgroup_empty() { ! cgroup_populated "$CGROUP"; }

# cgroup_remove GROUP: with all below; fails while a process is in it.
cgroup_remove() {
  [ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
}

# Kills at once whatever is in it; no process can fork its way out.
cgroup_kill() {
  [ -d "$CGROUP" ] || return 0
  echo 1 >"$CGROUP/cgroup.kill"
  wait_until 30 cgroup_empty || die "processes in $CGROUP survive SIGKILL; see $CGROUP/cgroup.procs and below"
  wait_until 10 cgroup_remove "$CGROUP" || die "cannot remove $CGROUP"
}
