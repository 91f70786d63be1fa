# shellcheck shell=bash
# The image's own configuration: only what a container needs to boot quickly.
# No accounts and no files of robotd: its package brings them.

MASKED_UNITS=(
  # A getty does chown and chmod on what it is given as a terminal.
  console-getty.service
  # Work that only costs time in a machine that lives for minutes.
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer
  e2scrub_all.timer e2scrub_reap.service systemd-networkd-wait-online.service
)

# rootfs_configure TREE
rootfs_configure() {
  local tree=$1 unit
  # The build's options: they would leave robotd's own documentation out too.
  rm -f "$tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
  # No mirror and no resolver: a test that would need the internet fails at once.
  rm -f "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d/* "$tree/etc/resolv.conf"
  # Each machine gets its own name and id when it is made.
  rm -f "$tree/etc/machine-id" "$tree/var/lib/dbus/machine-id" "$tree/etc/hostname"
  : >"$tree/etc/fstab"
  # Journals outlive a power loss.
  mkdir -p "$tree/var/log/journal"
  ln -s /lib/systemd/system/systemd-networkd.service "$tree/etc/systemd/system/multi-user.target.wants/"
  for unit in "${MASKED_UNITS[@]}"; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
  done
  # "Up to date", or the first boot rebuilds the linker's cache and catalogs.
  touch -r "$tree/usr" "$tree/etc/.updated" "$tree/var/.updated"
}
