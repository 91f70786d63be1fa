# shellcheck shell=bash
# One cached root image per suite and recipe: DIR/image/SUITE-RECIPE/root.raw.

# Days after which an unused image of another recipe is deleted by a build.
IMAGE_KEPT_DAYS=7

image_dir() { echo "$DIR/image/$SUITE-$TESTBED_BACKEND-$(recipe_id)"; }

image_deps() {
  local package missing=()
  for package in "${HOST_PACKAGES[@]}"; do
    # shellcheck disable=SC2016 # ${Status} is dpkg-query's
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] ||
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get could not install: ${missing[*]}"
}

# Two builds of one suite at once: the second waits, then finds the first one's image.
image_build() {
  local image started=$EPOCHREALTIME
  image=$(image_dir)
  mkdir -p "$DIR/image"
  exec 9>"$DIR/image/$SUITE.lock"
  flock 9
  if [ -e "$image/root.raw" ]; then
    say "image is cached: $image"
  else
    image_make "$image"
    say "built $image in $(seconds_since "$started"), $(du -m "$image/root.raw" | cut -f1) MiB"
  fi
  find "$DIR/image" -mindepth 1 -maxdepth 1 -type d -name "$SUITE-*" ! -path "$image" \
    -mtime "+$IMAGE_KEPT_DAYS" -exec rm -rf --one-file-system {} +
  exec 9>&-
}

image_make() {
  local image=$1 new=$1.new sources
  command -v mmdebstrap mke2fs >/dev/null || die "mmdebstrap or mke2fs is missing; run: testbed deps"
  trap 'rm -rf --one-file-system "$(image_dir).new"' EXIT
  rm -rf --one-file-system "$new"
  mkdir -p "$new"
  sources=$(image_sources "$new")
  image_bootstrap "$new/tree" "$sources" || die "mmdebstrap failed for $SUITE; its words are above"
  rootfs_configure "$new/tree"
  backend_image "$new/tree" "$new"
  truncate -s "$DISK_SIZE" "$new/root.raw"
  mke2fs -q -F "${MKE2FS_OPTIONS[@]}" -d "$new/tree" "$new/root.raw"
  rm -rf --one-file-system "$new/tree" "$sources"
  mv "$new" "$image"
  trap - EXIT
}

# A mount namespace of its own: if this is killed half way, no bind mount of the
# host's /dev stays in the tree that is deleted next.
image_bootstrap() {
  local tree=$1 sources=$2 pattern options=(--dpkgopt=force-unsafe-io)
  mapfile -t -O "${#GUEST_PACKAGES[@]}" GUEST_PACKAGES < <(backend_packages)
  for pattern in "${LEFT_OUT[@]}"; do
    options+=("--dpkgopt=path-exclude=$pattern")
  done
  unshare --mount --propagation slave \
    mmdebstrap --quiet --mode=root --variant=minbase --format=directory "${options[@]}" \
    --include="$(IFS=,; echo "${GUEST_PACKAGES[*]}")" "$SUITE" "$tree" "$sources" >&2
}

# image_sources FOLDER: the machine's own Debian sources, for $SUITE; prints the file.
image_sources() {
  local folder=$1 file host_suite
  host_suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  [ -n "$host_suite" ] || die "/etc/os-release names no VERSION_CODENAME: which Debian suite is this host?"
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ -s "$file" ] || continue
    # mmdebstrap tells the two formats apart by the file's name.
    sed -E "s/\b$host_suite\b/$SUITE/g" "$file" >"$folder/apt.${file##*.}"
    echo "$folder/apt.${file##*.}"
    return
  done
  die "no Debian sources: /etc/apt/sources.list.d/debian.sources and /etc/apt/sources.list are both missing"
}

image_require() {
  [ -e "$(image_dir)/root.raw" ] ||
    die "no image of $SUITE for this recipe; run: TESTBED_SUITE=$SUITE testbed build"
}

# image_copy FILE: a machine's own disk. The lock keeps a purge out meanwhile.
image_copy() {
  local image
  image=$(image_dir)
  touch "$image"
  flock -s "$DIR/image/$SUITE.lock" cp --reflink=auto --sparse=always "$image/root.raw" "$1.new"
  mv "$1.new" "$1"
}

# Machines have copies, so none of them minds.
image_purge() {
  local suite
  [ -d "$DIR/image" ] || return 0
  for suite in bookworm trixie; do
    flock "$DIR/image/$suite.lock" \
      find "$DIR/image" -mindepth 1 -maxdepth 1 -type d -name "$suite-*" -exec rm -rf --one-file-system {} +
  done
}
