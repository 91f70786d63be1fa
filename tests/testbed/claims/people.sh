# shellcheck shell=bash
# Who else is on the host, and a session that needs a password.

people_claims() {
    claim "a person logs in" there person_logs_in alice
    claim "that is an event, with who and how" there event_tells 100601 alice
    claim "jobs run meanwhile where the policy allows it" there complete end SUCCEEDED --display none
    claim "and nothing is said of her then" there remark_is ''
    claim "taking the rights of root is an event" there rights_are_taken alice
    claim "a policy that marks is taken" there policy people mark
    claim "a job beside her runs" there complete end SUCCEEDED --display none
    claim "its result says that somebody was there" there remark_is PEOPLE_LOGGED_IN
    claim "a policy that refuses is taken" there policy people refuse
    claim "a job waits until she has left" there waits_until PEOPLE_LOGGED_IN person_logs_out alice
    claim "her leaving is an event" there event_tells 100602 alice
    claim "the policy is as before" there policy people allow
    claim "somebody logs in as a bot account" there stranger_comes
    claim "that is an event of its own" there event_tells 100603 robot01
    claim "the account takes no job until it is free" there waits_until ACCOUNT_LOGGED_IN stranger_goes
    claim "a password from the vault opens the session and is nowhere" there password_opens
    claim "a wrong one is tried once" there password_is_tried_once
    claim "the account has no password any more" there forget_password
    claim "a session that no record knows is ended at the broker's start" there stray_is_ended
    claim "nothing of people, passwords and strays is left" there all_is_clean
}
