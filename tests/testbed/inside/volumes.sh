# shellcheck shell=bash
# Scratch volumes that need a kernel of their own: dm-crypt, and a host that swaps.

STORE=/var/lib/robotd-volumes
SWAP=/root/swapfile
# In two parts, so that a search finds no command line of its own.
MARK=volume-mark
MARK+=-of-the-bot

all_kinds_work() {
    local said
    said=$(/usr/libexec/robotd/robotd-session --volumes "$STORE")
    same "kinds that work" "$(grep -c ' works$' <<<"$said")" 4 || fail "$said"
}

# volume KEY = VALUE...: lines of the policy's [volume]; the broker starts anew.
volume() {
    local line
    for line in "$@"; do
        sed -i "/^\[volume\]/,/^\[network\]/ s|^${line%% *} = .*|$line|" /etc/robotd/policy.toml
    done
    systemctl restart robotd-broker
    eventually 30 robotctl slot list
}

begin_marks() {
    submit marks --display none --volume 128M >"$JOB_FILE"
    eventually 120 bot_waits "$(job)"
}

image() { echo "$STORE/$(job).1.$1.img"; }

# The image under another name: the wipe removes names, not this one.
keep_image() { # BACKEND
    ln "$(image "$1")" "$STORE/kept"
    sync
}

not_on_the_disk() { # FILE
    ! grep --quiet --text --fixed-strings -e "$MARK" -e canary- "$1"
}

mapped() { cat /sys/block/dm-*/dm/name 2>/dev/null || true; }

device_is_there() { same "mapped devices" "$(mapped)" "robotd-$(job).1"; }

key_is_out_of_reach() {
    ! grep robotd: /proc/keys
    # What dmsetup prints with --showkeys would be the kernel's name of the key at most.
    ! command -v dmsetup >/dev/null || ! dmsetup table --showkeys | grep -E '[0-9a-f]{64}'
}

wiped_as() { # BACKEND ASSURANCE
    same backend "$(shown "$(job)" 'j["wipe"]["backend"]')" "$1"
    same assurance "$(shown "$(job)" 'j["wipe"]["assurance"]')" "$2"
    same complete "$(shown "$(job)" 'j["wipe"]["complete"]')" True
}

searched() { # of the whole image, nothing was found
    same found "$(shown "$(job)" 'j["wipe"]["scan"]["found"]')" 0
    same "bytes searched" "$(shown "$(job)" 'j["wipe"]["scan"]["bytes"]')" "$(stat -c %s "$STORE/kept")"
}

no_volume_is_left() {
    same "mapped devices" "$(mapped)" ""
    same "loop devices" "$(losetup --list --noheadings --output BACK-FILE | grep "$STORE" || true)" ""
    same images "$(find "$STORE" -name '*.img')" ""
}

drop_kept() { rm "$STORE/kept"; }

kill_the_monitor() {
    local killed
    killed=$(monitor_pid "$(job)")
    kill -KILL "$killed"
    interrupted_once "$(job)"
}

swap_on() {
    fallocate -l 512M "$SWAP"
    chmod 600 "$SWAP"
    mkswap --quiet "$SWAP"
    swapon "$SWAP"
}

swapped() { [ "$(awk '/^SwapTotal/ {t = $2} /^SwapFree/ {f = $2} END {print t - f > 65536}' /proc/meminfo)" = 1 ]; }

# Memory is taken until the host has swapped out 64 MiB, and held until then.
press() {
    systemd-run --quiet --unit=press --property=OOMScoreAdjust=1000 python3 -c '
import mmap, time
held = []
while True:
    piece = mmap.mmap(-1, 16 << 20)
    piece.write(b"x" * (16 << 20))
    held.append(piece)
    meminfo = dict(line.split(":") for line in open("/proc/meminfo"))
    kib = lambda name: int(meminfo[name].split()[0])
    if kib("SwapTotal") - kib("SwapFree") > 128 << 10 or kib("SwapFree") < 64 << 10:
        time.sleep(1000)'
    eventually 600 swapped
}

swap_has_no_mark() {
    sync
    ! grep --quiet --text --fixed-strings -e "$MARK" "$SWAP"
}

swap_off() {
    systemctl stop press
    swapoff "$SWAP"
    rm "$SWAP"
}

# Where the kernel can't keep a tmpfs out of swap, none is taken.
chosen_for_swap() {
    local state
    state=$(shown "$(job)" 'j["wipe"]["swap"]')
    same swap "$state" excluded
    if [ "$(shown "$(job)" 'j["wipe"]["backend"]')" != tmpfs ]; then
        wiped_as dm-crypt cryptographic-erase
        shown "$(job)" 'j["wipe"]["passed_over"]' | grep -q "could reach the host's swap"
    fi
}

device_is_there_and_its_key_is_not() { device_is_there && key_is_out_of_reach; }

image_is_opaque() { # BACKEND
    keep_image "$1" && not_on_the_disk "$STORE/kept"
}

wipe_is_proven() { # BACKEND
    wiped_as "$1" cryptographic-erase && searched && not_on_the_disk "$STORE/kept" && drop_kept
}

killed_volume_is_gone() {
    begin_marks && kill_the_monitor && wiped_as dm-crypt cryptographic-erase && no_volume_is_left
}

auto_with_swap() { swap_on && volume 'backend = "auto"'; }

no_swap_leak() {
    begin_marks && press && swap_has_no_mark && finish && swap_has_no_mark && swap_off
}
