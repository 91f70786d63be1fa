# shellcheck shell=bash
# The table of faults: whatever dies or hangs, the job ends once, in time, and leaves nothing.

# phase, victim, signal, seconds to the job's end, its outcome, slot (kept: it may be kept out of
# use with a reason, until it is recovered), when (all: only with --all). The seconds are 30 and the
# limit of what hangs: the run (8), opening a session (90) and then closing it (60), the last
# output (120), an answer of logind and systemd (180), a watchdog (60).
FAULTS='
before   broker    KILL 38   SUCCEEDED free
before   robotd    KILL 38   SUCCEEDED free
before   logind    KILL 38   SUCCEEDED free
before   dbus      KILL 38   SUCCEEDED free
opening  session   KILL 38   any       free
opening  leader    KILL 38   any       free
opening  attendant KILL 38   SUCCEEDED free
opening  broker    KILL 38   SUCCEEDED free
opening  robotd    KILL 38   SUCCEEDED free
opening  logind    KILL 38   SUCCEEDED free
opening  dbus      KILL 38   SUCCEEDED free
running  bot       KILL 38   FAILED    free
running  session   KILL 38   INTERRUPTED free
running  leader    KILL 38   INTERRUPTED free
running  init      KILL 38   INTERRUPTED free
running  attendant KILL 38   SUCCEEDED free
running  display   KILL 38   SUCCEEDED free
running  broker    KILL 38   SUCCEEDED free
running  robotd    KILL 38   SUCCEEDED free
running  logind    KILL 38   SUCCEEDED free
running  dbus      KILL 38   SUCCEEDED free
closing  session   KILL 38   INTERRUPTED free
closing  leader    KILL 38   SUCCEEDED free
closing  attendant KILL 38   SUCCEEDED free
closing  broker    KILL 38   SUCCEEDED free
closing  robotd    KILL 38   SUCCEEDED free
closing  logind    KILL 38   SUCCEEDED free
closing  dbus      KILL 38   SUCCEEDED free
running  bot       STOP 38   TIMED_OUT free
running  init      STOP 38   any       free
running  display   STOP 48   any       free
running  leader    STOP 98   any       free all
running  session   STOP 38   any       free
running  attendant STOP 158  any       free all
running  broker    STOP 98   any       free
running  robotd    STOP 98   any       free
before   broker    STOP 98   any       free all
before   robotd    STOP 98   any       free all
before   logind    STOP 248  any       kept all
before   dbus      STOP 248  any       kept all
running  logind    STOP 248  any       kept all
running  dbus      STOP 248  any       kept all
opening  session   STOP 128  any       free all
opening  leader    STOP 188  any       free all
opening  attendant STOP 158  any       free all
opening  broker    STOP 128  any       free all
opening  robotd    STOP 128  any       free all
opening  logind    STOP 248  any       kept all
opening  dbus      STOP 248  any       kept all
closing  session   STOP 98   any       free all
closing  leader    STOP 98   any       free all
closing  attendant STOP 158  any       free all
closing  broker    STOP 98   any       free all
closing  robotd    STOP 98   any       free all
closing  logind    STOP 248  any       kept all
closing  dbus      STOP 248  any       kept all
'

fault_claims() {
    local phase victim signal seconds end slot when word
    beside install_holds
    # Their own input, or what runs in the machine would read the table.
    while read -r phase victim signal seconds end slot when <&5; do
        [ "${when:-}" != all ] || [ -n "$ALL" ] || continue
        word=killed
        [ "$signal" != STOP ] || word=stopped
        claim "$word $phase: $victim" beside fault "$phase" "$victim" "$signal" "$seconds" "$end" "$slot" </dev/null ||
            beside repair >/dev/null 2>&1 </dev/null
    done 5< <(sed '/^$/d; s/  */ /g' <<<"$FAULTS" | grep -E "$ROWS")
    claim "a job runs after all that" there complete look SUCCEEDED
    claim "and nothing of it is left" there all_is_clean
}
