# shellcheck shell=bash disable=SC2034 # read by the files sourced after this one
# What the image is made of. Its name carries a hash of the recipe, so a changed
# recipe is another image and a stale one can't be used by mistake.

HOST_PACKAGES=(mmdebstrap e2fsprogs systemd-container iproute2 util-linux debian-archive-keyring)

GUEST_PACKAGES=(
  systemd systemd-sysv dbus libpam-systemd # what the robotd package depends on
  e2fsprogs nftables
  xvfb xauth openbox python3               # what a job with a display needs
  procps iproute2                          # what tests look with
  cron at                                  # where a hostile job plants what outlives it
)

# What a Debian of that release records logins with; in 12 it is a part of libpam-modules.
[ "$SUITE" != trixie ] || GUEST_PACKAGES+=(wtmpdb libpam-wtmpdb)

# Documentation, translations, 3D drivers: Xvfb works without. Half of the size.
LEFT_OUT=(
  '/usr/share/man/*' '/usr/share/doc/*' '/usr/share/locale/*'
  '/usr/lib/*/libLLVM*' '/usr/lib/*/dri/*'
)

# Sparse: it costs what is written.
DISK_SIZE=4G

# encrypt: scratch volumes use fscrypt.
MKE2FS_OPTIONS=(-t ext4 -O encrypt -m 0 -L testbed)

recipe_id() {
  local text
  text=$(cat "$HERE/lib/recipe.sh" "$HERE/lib/rootfs.sh" "$HERE/lib/image.sh" && backend_recipe)
  printf '%s\n%s\n' "$SUITE" "$text" | sha256sum | cut -c1-12
}
