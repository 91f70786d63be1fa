# shellcheck shell=bash
# What a test run must leave as it was, one fact a line, sorted, so that a diff of
# two says what changed. Machines that are there on purpose (testbed list) are left
# out; what is left of a machine that is gone is not.

FINGERPRINT_SYSCTLS=(
  kernel/core_pattern kernel/core_uses_pid kernel/dmesg_restrict kernel/domainname kernel/hostname
  kernel/kptr_restrict kernel/modprobe kernel/panic kernel/pid_max kernel/printk kernel/randomize_va_space
  kernel/sysrq kernel/unprivileged_bpf_disabled kernel/yama/ptrace_scope kernel/perf_event_paranoid
  kernel/keys/maxkeys kernel/threads-max
  fs/protected_fifos fs/protected_hardlinks fs/protected_regular fs/protected_symlinks fs/suid_dumpable
  fs/file-max fs/nr_open fs/inotify/max_user_instances fs/inotify/max_user_watches fs/pipe-max-size
  vm/max_map_count vm/overcommit_memory vm/swappiness vm/mmap_min_addr
  net/core/rmem_max net/core/somaxconn net/unix/max_dgram_qlen
  net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range
  net/ipv4/conf/all/forwarding net/ipv4/conf/all/rp_filter net/ipv6/conf/all/forwarding
  user/max_user_namespaces user/max_net_namespaces
)

FINGERPRINT_FILES=(
  /etc/hostname /etc/hosts /etc/localtime /etc/machine-id /etc/resolv.conf
  /etc/passwd /etc/shadow /etc/group /etc/gshadow /etc/subuid /etc/subgid
)

# Seconds that two readings of an undisturbed clock may be apart.
CLOCK_TOLERANCE=2

fingerprint() {
  case ${1:-} in
    '') fingerprint_print ;;
    --diff)
      [[ $# = 2 && -r $2 ]] || usage_error "fingerprint --diff needs the file of an earlier fingerprint"
      fingerprint_diff "$2"
      ;;
    *) usage_error "fingerprint takes only '--diff FILE'" ;;
  esac
}

fingerprint_print() {
  {
    fingerprint_dev
    fingerprint_sysctls
    fingerprint_files
    fingerprint_cgroups
    fingerprint_mounts
    fingerprint_loops
    fingerprint_network
    fingerprint_leftovers
    fingerprint_clock
  } | LC_ALL=C sort
}

# Loop nodes are made by the kernel on demand and stay; terminals and shared memory
# belong to whoever is at work meanwhile.
fingerprint_dev() {
  find /dev -xdev \( -path /dev/pts -o -path /dev/shm \) -prune -o ! -path '/dev/loop[0-9]*' -printf 'dev %p %M %U:%G\n'
}

fingerprint_sysctls() {
  local key
  for key in "${FINGERPRINT_SYSCTLS[@]}"; do
    echo "sysctl $key = $(cat "/proc/sys/$key" 2>/dev/null || echo '(absent)')"
  done
}

fingerprint_files() {
  local file
  for file in "${FINGERPRINT_FILES[@]}"; do
    echo "file $file $(sha256sum 2>/dev/null <"$file" | cut -c1-16)"
  done
}

# Of every hierarchy, v1 too: the top level, and below it the names that nspawn and
# the testbed would use. All else comes and goes with the host's own work.
fingerprint_cgroups() {
  find /sys/fs/cgroup -type d \( -name payload -o -name supervisor -o -name '*robotd*' \) -printf 'cgroup %p\n' |
    without_machines "cgroup .*/$(cgroup_name %s)(/.*)?"
  awk '$3 == "/sys/fs/cgroup" || index($5, "/sys/fs/cgroup") == 1 {print $5}' /proc/self/mountinfo | sort -u |
    while read -r top; do
      find "$top" -xdev -mindepth 1 -maxdepth 1 -type d ! -name '*robotd*' -printf 'cgroup %p\n'
    done
}

fingerprint_mounts() { awk '{print "mount", $5}' /proc/self/mountinfo; }

fingerprint_loops() {
  local machines
  machines=$(readlink -m "$DIR")/machine
  losetup -l -n -O BACK-FILE | sed 's/^/loop /' | without_machines "loop $machines/%s/root.raw"
}

fingerprint_network() {
  { cd /sys/class/net && printf 'link %s\n' *; } | without_machines 'link ve-tb-%s'
  [ ! -d /run/netns ] || find /run/netns -mindepth 1 -printf 'netns %f\n'
}

# Places where nspawn keeps something for a machine.
fingerprint_leftovers() {
  local place
  for place in /run/systemd/nspawn /run/systemd/machines /var/lib/machines; do
    [ ! -d "$place" ] || find "$place" -mindepth 1 -printf 'left %p\n'
  done | without_machines 'left .*/tb-%s'
}

# When the host booted, by its wall clock: the same until someone sets the clock.
fingerprint_clock() { awk '/^btime/ {print "clock booted-at", $2}' /proc/stat; }

# without_machines PATTERN: drops the lines that match it for a machine's name.
without_machines() {
  local folder pattern='$^'
  for folder in "$DIR"/machine/*/; do
    # shellcheck disable=SC2059 # the caller's format, with one %s
    [ ! -d "$folder" ] || pattern+="|^$(printf "$1" "$(basename "$folder")")\$"
  done
  grep -Ev "$pattern" || true
}

fingerprint_diff() {
  local before=$1 now same=0
  now=$(mktemp)
  fingerprint_print >"$now"
  diff --unchanged-line-format= --old-line-format='gone: %L' --new-line-format='new:  %L' \
    <(grep -v '^clock ' "$before") <(grep -v '^clock ' "$now") || same=1
  clock_same "$(clock_of "$before")" "$(clock_of "$now")" || same=1
  rm -f "$now"
  return "$same"
}

clock_of() { sed -n 's/^clock booted-at //p' "$1"; }

clock_same() {
  local moved=$(($2 - $1))
  ((moved >= -CLOCK_TOLERANCE && moved <= CLOCK_TOLERANCE)) || {
    echo "the host's clock was moved by $moved s"
    return 1
  }
}
