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
