# shellcheck shell=bash disable=SC2034 # VM_PACKAGES is the backend's
# What a virtual machine has that a container has not: a kernel, a first file system that finds
# the disk, a way in, and the QEMU that runs it.

VM_PACKAGES=(linux-image-cloud-amd64 udev kmod openssh-server)

# QEMU is unpacked into a folder of its own, not installed: a host that has other QEMU packages
# keeps them, and every host emulates alike.
VM_TOOLS=(qemu-system-x86 qemu-utils seabios busybox-static)
VM_TOOLS_SUITE=bookworm

VM_MAC_CONTROL=52:54:00:00:00:01
VM_MAC_DATA=52:54:00:00:00:02

VM_MASKED_UNITS=(serial-getty@ttyS0.service getty@tty1.service systemd-timesyncd.service)

vm_tools() {
  echo "$DIR/image/qemu-$(printf '%s\n' "$VM_TOOLS_SUITE" "${VM_TOOLS[@]}" | sha256sum | cut -c1-12)"
}

# vm_tool PROGRAM ARGUMENT...: with its own libraries, none of the host's. Replaces this shell.
vm_tool() {
  local tools program=$1
  tools=$(vm_tools)
  shift
  exec env QEMU_MODULE_DIR="$tools/usr/lib/x86_64-linux-gnu/qemu" \
    "$tools/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" \
    --library-path "$tools/lib/x86_64-linux-gnu:$tools/usr/lib/x86_64-linux-gnu" "$tools/usr/bin/$program" "$@"
}

vm_tools_build() {
  local tools sources
  tools=$(vm_tools)
  exec 6>"$DIR/image/qemu.lock"
  flock 6
  if [ ! -e "$tools" ]; then
    rm -rf --one-file-system "$tools.new"
    mkdir -p "$tools.new/sources"
    sources=$(SUITE=$VM_TOOLS_SUITE image_sources "$tools.new/sources")
    unshare --mount --propagation slave \
      mmdebstrap --quiet --mode=root --variant=extract --format=directory --dpkgopt='path-exclude=/usr/share/doc/*' \
      --include="$(IFS=,; echo "${VM_TOOLS[*]}")" "$VM_TOOLS_SUITE" "$tools.new/tree" "$sources" >&2 ||
      die "mmdebstrap could not unpack QEMU; its words are above"
    mv "$tools.new/tree" "$tools"
    rm -rf --one-file-system "$tools.new"
  fi
  exec 6>&-
}

# vm_image TREE FOLDER: completes the tree, puts the kernel and the key of the way in beside it.
vm_image() {
  local tree=$1 folder=$2 unit
  vm_tools_build
  ssh-keygen -q -t ed25519 -N '' -C testbed -f "$folder/key"
  install -D -m 600 "$folder/key.pub" "$tree/root/.ssh/authorized_keys"
  # The way in opens no session of logind: no PAM.
  printf 'UsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nMaxSessions 100\n' \
    >"$tree/etc/ssh/sshd_config.d/testbed.conf"
  printf '[Match]\nMACAddress=%s\n[Link]\nName=control0\n' "$VM_MAC_CONTROL" >"$tree/etc/systemd/network/10-control.link"
  printf '[Match]\nMACAddress=%s\n[Link]\nName=host0\n' "$VM_MAC_DATA" >"$tree/etc/systemd/network/10-host0.link"
  printf '[Match]\nName=control0\n[Network]\nAddress=10.0.2.15/24\n' >"$tree/etc/systemd/network/10-control0.network"
  for unit in "${VM_MASKED_UNITS[@]}"; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
  done
  # Booted before it has a name: without any id it would take this for its first boot.
  tr -d - </proc/sys/kernel/random/uuid >"$tree/etc/machine-id"
  echo testbed >"$tree/etc/hostname"
  cp "$(find "$tree/boot" -name 'vmlinuz-*' | sort -V | tail -1)" "$folder/vmlinuz"
  vm_initrd "$tree" "$folder/initrd"
  rm -f "$tree"/boot/initrd.img-* "$tree"/boot/vmlinuz-*
  touch -r "$tree/usr" "$tree/etc/.updated" "$tree/var/.updated"
}

# vm_initrd TREE FILE: busybox and the modules that a virtio disk needs. Under emulation it halves
# the time of a boot.
vm_initrd() {
  local tree=$1 file=$2 place kernel module name
  place=$(mktemp -d)
  kernel=$(find "$tree/lib/modules" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -1)
  mkdir -p "$place"/{bin,modules,proc,dev,sys,root}
  cp "$(vm_tools)/bin/busybox" "$place/bin/"
  for module in virtio_pci virtio_blk ext4; do
    chroot "$tree" modprobe -S "$kernel" -D "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'
  done | awk '!seen[$0]++' | while read -r module; do
    name=${module##*/} name=${name%.xz}
    case $module in
      *.xz) xz -dc "$tree$module" >"$place/modules/$name" ;;
      *) cp "$tree$module" "$place/modules/$name" ;;
    esac
    echo "$name" >>"$place/modules/order"
  done
  cp "$HERE/lib/vm-init" "$place/init"
  (cd "$place" && find . | cpio -o -H newc --quiet) >"$file"
  rm -rf --one-file-system "$place"
}
