# shellcheck shell=bash
# Limits that an administrator sets for bots, which are enforced on virtual machines.

limit_slices() {
    mkdir -p /etc/systemd/system/user-.slice.d
    printf '[Slice]\nTasksMax=100\nMemoryMax=200M\nMemorySwapMax=0\n' >/etc/systemd/system/user-.slice.d/90-bots.conf
    systemctl daemon-reload
}

bomb_is_bounded() {
    local children
    complete bomb SUCCEEDED --display none
    children=$(printed | sed -n 's/^children: //p')
    [[ $children =~ ^[1-9][0-9]$ ]] || fail "it made '$children' children"
}

hog_is_killed() {
    complete hog FAILED --display none
    same signal "$(shown "$(job)" 'j["signal"]')" 9
    journalctl --no-pager -k | grep -q 'Memory cgroup out of memory'
}
