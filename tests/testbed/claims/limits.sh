# shellcheck shell=bash
# What a job may use. Enforced in a kernel of its own only: a container's has its controllers elsewhere.
# That nothing of one job's limits is left for the next holds on both.

limit_settings_claims() {
    claim "a job has the limits of its order" there begin --display none --memory 300M --processes 200
    claim "a limit of the job is a setting of its slice" there has_settings
    claim "the job finishes" there finish
    claim "no setting of it is left" there all_is_clean
    claim "its slice is free" there slice_is_free
    claim "a job begins" there begin --display none --memory 300M
    claim "its monitor is killed" there monitor_is_killed
    claim "nothing is left, no setting either" there all_is_clean
}

limit_claims() {
    claim "a job begins with limits of its own" there begin --display none --memory 300M --processes 200 --cpu 50 --io-rate 50M
    claim "its slice has them" there slice_is_bound 314572800 200 "50000 100000"
    claim "its processes are killed together" there killed_together
    claim "a reload of systemd changes none of them" there reload_changes_nothing 314572800 200 "50000 100000"
    claim "the job finishes" there finish
    claim "all of them were enforced" there all_is_enforced
    claim "nothing of it is left, no setting either" there all_is_clean
    claim "its slice is free" there slice_is_free
    claim "the next job begins with others" there begin --display none --memory 400M --processes 300
    claim "its slice has its own and none of the last one's" there slice_is_bound 419430400 300 "max 100000"
    claim "its monitor is killed" there monitor_is_killed
    claim "nothing of that is left, no setting either" there all_is_clean
    claim "a fork bomb gets the processes of its order, and its neighbour runs on" there agent_lives bomb_is_bounded
    claim "that it was refused some is an event" there told 100230
    claim "nothing of it is left" there all_is_clean
    local way
    for way in hog fill memfd; do
        claim "a bot that takes too much memory ($way) is killed whole, with that reason, and the agent lives" there agent_lives hog_is_killed $way
        claim "that is an event" there told 100230
        claim "nothing of it is left" there all_is_clean
    done
    claim "it is killed whole also when systemd was reloaded meanwhile" there agent_lives hog_is_killed_whole_after_a_reload
    claim "nothing of it is left" there all_is_clean
    claim "two busy processes get half of a processor and no more" there quota_holds 50
    claim "a bot that does nothing is stopped" there idler_is_stopped
    claim "nothing of it is left" there all_is_clean
}
