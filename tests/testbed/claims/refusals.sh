# shellcheck shell=bash
# What keeps a job from starting on a slot is found before anything of it is opened.

refusal_claims() {
    claim "a locked account is refused" there account_refused ACCOUNT_LOCKED usermod -p '!'
    claim "an expired account is refused" there account_refused ACCOUNT_EXPIRED chage -E 1
    claim "an account whose password is too old is refused" there account_refused ACCOUNT_AGED chage -d 0
    claim "no job starts while the host admits nobody, and it starts afterwards" there closed_host_takes_no_job
    claim "an account that lingers is refused" there lingering_account_refused
    claim "nothing of all that is left" there all_is_clean
    claim "an account that somebody else uses is refused" there account_in_use_refused
    claim "its slot comes back" there recovered
    claim "a job runs after all that" there complete look SUCCEEDED
}
