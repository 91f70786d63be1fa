# shellcheck shell=bash
# The vm backend: the machine is a QEMU, emulated throughout, with Debian's own kernel.
#
# Emulation on purpose: where a /dev/kvm exists, it may be one under which stock kernels hang.
#
#   root.qcow2   its disk, a layer over root.raw
#   root.raw, vmlinuz, initrd, key   the image's, as hard links: a purge takes them from nobody
#   named        it has its own name, id and addresses
#   load         the state that the next start goes on from, instead of booting

# shellcheck source=vm-image.sh
source "$HERE/lib/vm-image.sh"

HOST_PACKAGES+=(openssh-client cpio python3 xz-utils)
LINK=ve-tb-$NAME
VM_MEMORY=${TESTBED_MEMORY:-1024}
VM_CPUS=2

backend_packages() { printf '%s\n' "${VM_PACKAGES[@]}"; }
backend_image() { vm_image "$@"; }
backend_recipe() { cat "$HERE/lib/vm-image.sh" "$HERE/lib/vm-init"; }

vm_warm_state() { echo "$(image_dir)/warm-$VM_MEMORY.qcow2"; }

backend_disk() {
  local image part
  image=$(image_dir)
  touch "$image"
  for part in vmlinuz initrd key; do ln -f "$image/$part" "$MACHINE/$part"; done
  if [ -e "$(vm_warm_state)" ] && [ ! -e "$MACHINE/template" ]; then
    cp --reflink=auto --sparse=always "$(vm_warm_state)" "$MACHINE/root.qcow2"
    echo warm >"$MACHINE/load"
  else
    (cd "$MACHINE" && ln -f "$image/root.raw" root.raw && vm_tool qemu-img create -q -f qcow2 -F raw -b root.raw root.qcow2)
  fi
  # The last: it says that the disk is whole.
  ln -f "$image/root.raw" "$MACHINE/root.raw"
}

backend_alive() { cgroup_populated "$CGROUP/keeper"; }

backend_start() {
  local slot load=()
  slot=$(<"$MACHINE/slot")
  [ ! -e "$MACHINE/load" ] || load=(-loadvm "$(<"$MACHINE/load")")
  rm -f "$MACHINE/load" "$MACHINE/qmp" "$MACHINE/ssh"
  : >"$MACHINE/console.log"
  cgroup_make
  (
    echo "$BASHPID" >"$CGROUP/keeper/cgroup.procs"
    cd "$MACHINE" || exit
    close_inherited
    vm_qemu "$slot" "${load[@]}"
  ) </dev/null >>"$MACHINE/console.log" 2>&1 &
  wait_until 10 backend_alive || true
  wait_until 30 vm_answers || true
  backend_alive || {
    tail -n 20 "$MACHINE/console.log" >&2
    die "QEMU did not start; its words are above"
  }
  ip address replace "10.99.$slot.1/24" dev "$LINK"
  ip link set "$LINK" up
}

vm_answers() { [ -S "$MACHINE/qmp" ] && [ -e "/sys/class/net/$LINK" ] || ! backend_alive; }

# vm_qemu SLOT ARGUMENT...: the network of the way in reaches nothing of the host.
vm_qemu() {
  local slot=$1 tools
  shift
  tools=$(vm_tools)
  vm_tool qemu-system-x86_64 -name "tb-$NAME" -L "$tools/usr/share/qemu" -L "$tools/usr/share/seabios" \
    -accel tcg,thread=multi,tb-size=512 -cpu max -M q35 -smp "$VM_CPUS" -m "$VM_MEMORY" \
    -nodefaults -display none -vga none -sandbox on,spawn=deny,obsolete=deny \
    -kernel vmlinuz -initrd initrd -append "console=ttyS0 quiet panic=1 mitigations=off tsc=unstable" \
    -drive if=none,id=disk,file=root.qcow2,format=qcow2,cache=writeback -device virtio-blk-pci,drive=disk \
    -netdev "user,id=control,net=10.0.2.0/24,restrict=on,hostfwd=tcp:127.0.0.1:$((20000 + slot))-10.0.2.15:22" \
    -device virtio-net-pci,netdev=control,mac="$VM_MAC_CONTROL",romfile= \
    -netdev "tap,id=data,ifname=$LINK,script=no,downscript=no" \
    -device virtio-net-pci,id=datanic,netdev=data,mac="$VM_MAC_DATA",romfile= \
    -device virtio-rng-pci -device vmgenid,guid=auto \
    -chardev file,id=serial,path=console.log,append=on -serial chardev:serial \
    -qmp unix:qmp,server=on,wait=off "$@"
}

# QEMU's, the only process of the machine that the host has.
backend_pid() {
  local pid
  read -r pid 2>/dev/null <"$CGROUP/keeper/cgroup.procs" && echo "$pid"
}

# Another text after each boot.
backend_boot() { timeout 30 "$SELF" rawexec cat /proc/sys/kernel/random/boot_id 2>/dev/null; }

vm_port() { echo "$((20000 + $(<"$MACHINE/slot")))"; }

# Replaces this shell.
vm_ssh() {
  exec ssh -q -i "$MACHINE/key" -p "$(vm_port)" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=20 -o ControlPath="$MACHINE/ssh" root@127.0.0.1 "$@"
}

# QEMU takes connections long before anything listens inside.
vm_knock() {
  # shellcheck disable=SC2016 # for the shell inside
  timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1"; read -r words <&3; [[ $words = SSH-* ]]' bash "$(vm_port)" 2>/dev/null
}

# One connection for all commands: a new one costs half a second under emulation. It holds
# nothing of its caller's, and goes with the machine.
vm_connect() {
  ! (vm_ssh -O check) 2>/dev/null || return 0
  rm -f "$MACHINE/ssh"
  vm_knock || return 1
  (
    echo "$BASHPID" >"$CGROUP/exec/cgroup.procs"
    close_inherited
    vm_ssh -M -N -f </dev/null >/dev/null 2>&1
  )
}

backend_run() {
  backend_alive || die "$NAME is not up; run: TESTBED_NAME=$NAME testbed up"
  vm_connect || return 255
  # Stderr: see the other backend.
  { (
    exec 2>&9
    echo "$BASHPID" >"$CGROUP/exec/cgroup.procs"
    close_inherited
    # The shell stays, and tells an end by a signal as a status.
    vm_ssh -- "$(printf '%q ' env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"); exit \$?"
  ); } 9>&2 2>/dev/null
}

backend_ready_inside() {
  [ -e "$MACHINE/template" ] || [ -e "$MACHINE/named" ] || vm_name || return 1
  [ -e "$MACHINE/template" ] || vm_clock || return 1
  [ -e "$MACHINE/net-cut" ] || [ -e "$MACHINE/template" ] ||
    "$SELF" rawexec ip -o -4 address show dev host0 scope global 2>/dev/null | grep -q inet
}

# It runs already, so whoever has read the image's id is told: journald keeps its files under it.
vm_name() {
  local slot
  slot=$(<"$MACHINE/slot")
  # shellcheck disable=SC2016 # for the shell inside
  "$SELF" rawexec sh -ec '
    echo "$1" >/etc/machine-id
    echo "$2" >/etc/hostname
    hostname "$2"
    printf "127.0.0.1 localhost\n127.0.1.1 %s\n10.99.%s.1 host.testbed\n" "$2" "$3" >/etc/hosts
    printf "[Match]\nName=host0\n[Network]\nAddress=10.99.%s.2/24\nGateway=10.99.%s.1\n" "$3" "$3" \
      >/etc/systemd/network/10-host0.network
    networkctl reload
    networkctl reconfigure host0
    systemctl restart systemd-journald
    journalctl --flush
    sync' sh "$(tr -d - </proc/sys/kernel/random/uuid)" "$NAME" "$slot" && : >"$MACHINE/named"
}

# A state that is gone on from has the time at which it was taken.
vm_clock() { "$SELF" rawexec date -s "@$(date +%s)" >/dev/null; }

# The machine sees its carrier go. What keeps the cut through a reboot is that QEMU does not end.
backend_net() {
  backend_alive || die "$NAME is not up"
  case $1 in
    cut) : >"$MACHINE/net-cut" && vm_link false ;;
    restore) vm_link true && rm -f "$MACHINE/net-cut" ;;
  esac
}

vm_link() { vm_qmp "{\"execute\": \"set_link\", \"arguments\": {\"name\": \"datanic\", \"up\": $1}}"; }

vm_qmp() { "$HERE/lib/qmp" "$MACHINE/qmp" "$1" || die "QEMU refused; its words are above"; }

vm_monitor() { vm_qmp "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"$1\"}}"; }

# What was written and not synced inside is lost: it never left the machine's own memory.
backend_kill() {
  cgroup_kill
  rm -f "$MACHINE/net-cut" "$MACHINE/qmp" "$MACHINE/ssh"
  wait_until 30 link_gone || die "the network link $LINK does not go; delete it with: ip link delete $LINK"
}

link_gone() { [ ! -e "/sys/class/net/$LINK" ]; }

# Only here: memory, disk and devices as they are now, kept in the disk's file.
backend_snapshot() { vm_monitor "savevm kept"; }

backend_restore() {
  if backend_alive; then
    # It would wait for answers of a machine that has not asked.
    (vm_ssh -O exit) 2>/dev/null || true
    vm_monitor "loadvm kept"
    vm_qmp '{"execute": "cont"}'
  else
    echo kept >"$MACHINE/load"
    backend_start
  fi
}

backend_pause() { vm_qmp '{"execute": "stop"}'; }
backend_resume() { vm_qmp '{"execute": "cont"}'; }

# A booted state beside the image, from which every machine made later starts.
backend_warm() {
  local state started=$EPOCHREALTIME
  state=$(vm_warm_state)
  image_require
  exec 9>"$DIR/image/$SUITE.lock"
  flock 9
  if [ ! -e "$state" ]; then
    "$SELF" destroy
    mkdir -p "$MACHINE"
    : >"$MACHINE/template"
    "$SELF" up 9>&-
    vm_monitor "savevm warm"
    backend_kill
    mv "$MACHINE/root.qcow2" "$state"
    "$SELF" destroy
  fi
  exec 9>&-
  say "a booted $SUITE is cached, $(seconds_since "$started")"
}
