# shellcheck shell=bash
# Scratch volumes on a kernel of their own: dm-crypt, power loss with one, and swap.

power_loss_with_a_volume() {
    local job
    there begin_marks && job=$(there job) && tb kill && tb up && there interrupted_once "$job"
}

volume_claims() {
    claim "all four kinds of volume work here" there all_kinds_work
    claim "the policy names dm-crypt and wants a deep scan" \
        there volume 'backend = "dm-crypt"' 'deep-scan = "always"'
    claim "a job writes to a dm-crypt volume" there begin_marks
    claim "its device is there, and its key out of reach" there device_is_there_and_its_key_is_not
    claim "while it runs the raw image holds nothing of what it wrote" there image_is_opaque dm-crypt
    claim "it ends" there finish
    claim "after the wipe the raw image holds nothing, and the report says so" there wipe_is_proven dm-crypt
    claim "no device, key or image is left" there no_volume_is_left
    claim "a session that is killed leaves none either" there killed_volume_is_gone
    claim "power loss in the middle of that ends it once" power_loss_with_a_volume
    claim "nothing is left of the volume after that" there no_volume_is_left
    claim "the policy names nothing, and the host swaps" there auto_with_swap
    claim "under pressure nothing of a volume comes into swap" there no_swap_leak
    claim "the choice and its reason are in the report" there chosen_for_swap
    claim "nothing is left of any of that" there all_is_clean
}
