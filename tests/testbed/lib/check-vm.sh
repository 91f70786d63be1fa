# shellcheck shell=bash disable=SC2016 # scripts for the shell inside
# What `check` claims of virtual machines only.

limits_of_cgroups_are_enforced() {
  local status=0
  inside systemd-run --quiet --wait -p MemoryMax=32M -p MemorySwapMax=0 python3 -c 'b = bytearray(200 << 20)' || status=$?
  [ "$status" != 0 ]
  inside journalctl --no-pager -k | grep -q 'Memory cgroup out of memory'
  # Three at most: the shell, and then no more than two of these.
  [ "$(inside systemd-run --quiet --wait --pipe -p TasksMax=3 python3 -c '
import os, time
made = 0
try:
    while made < 20:
        if os.fork() == 0: time.sleep(20); os._exit(0)
        made += 1
except BlockingIOError: pass
print(made)')" = 2 ]
}

what_was_not_synced_is_lost_in_a_power_loss() {
  inside sh -c 'echo kept >/var/synced && sync && echo lost >/var/unsynced && cat /var/unsynced'
  testbed kill
  testbed up
  inside grep -qx kept /var/synced
  ! inside grep -qsx lost /var/unsynced || return 1
}

its_clock_is_its_own() {
  local before=$EPOCHSECONDS
  inside date -s '2031-02-03 04:05:06'
  inside date +%Y | grep -qx 2031
  (($(date +%s) - before < 600))
  inside date -s "@$(date +%s)"
}

a_restored_machine_is_as_it_was_and_on_time() {
  local boot
  boot=$(boot_id)
  inside touch /root/before
  testbed snapshot
  inside touch /root/after
  testbed restore
  inside test -e /root/before
  ! inside test -e /root/after || return 1
  [ "$(boot_id)" = "$boot" ]
  (($(inside date +%s) - $(date +%s) <= 5))
  testbed kill
  testbed restore
  inside test -e /root/before
  [ "$(boot_id)" = "$boot" ]
}

no_time_passes_in_a_paused_machine() {
  local reader
  testbed pause
  testbed rawexec true &
  reader=$!
  sleep 2 # the claim is that nothing happens, for which there is nothing to wait for
  kill -0 "$reader"
  testbed resume
  wait "$reader"
}
