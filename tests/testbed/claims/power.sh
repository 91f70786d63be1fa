# shellcheck shell=bash
# The machine loses its power in the middle of a job. On a vm, what was not synced is lost with it;
# on nspawn the host's page cache keeps it.

power_loss() {
    local job
    # Not kept on the machine's disk: writing it down there would sync more than itself.
    there begin --display none && job=$(there job) && tb kill && tb up && there interrupted_once "$job"
}

power_claims() {
    claim "power loss in the middle of a job ends it once" power_loss
    claim "nothing is left after that" there all_is_clean
    claim "a job runs after that" there complete look SUCCEEDED
}

# Enforced in a kernel of its own only: a container's has its controllers elsewhere.
limit_claims() {
    claim "limits of the accounts' slices are set" there limit_slices
    claim "a fork bomb gets the tasks of its slice and no more" there bomb_is_bounded
    claim "nothing of it is left" there all_is_clean
    claim "a bot that takes more memory than its slice has is killed" there hog_is_killed
    claim "nothing of that is left" there all_is_clean
}
