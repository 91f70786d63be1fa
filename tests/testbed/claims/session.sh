# shellcheck shell=bash
# What a session is while a job runs, and that nothing of it is there afterwards.

timeline_is_complete() {
    there shown_in_order
}

session_claims() {
    claim "a job with a display runs and waits" there begin --display 800x600
    claim "logind lists its session once, of class user and type x11, local and active" there session_is_listed_once
    claim "the session's leader is the leader process and is in its scope" there leader_is_the_session_s_leader
    claim "monitor and attendant are outside of the session" there monitor_stays_outside
    claim "every process of the account is in the account's slice" there everything_of_the_job_is_in_its_scope
    claim "login uid and audit session are set" there login_uid_and_audit_session_are_set
    claim "the bot's environment is the session's and its runtime directory its own" there environment_is_the_session_s
    claim "the account's user manager is out of the bot's reach" there user_manager_is_out_of_reach
    claim "the cookie opens the display, without it nobody gets in, root included" there cookie_opens_the_display_and_nothing_else_does
    claim "the cookie is in no command line" there cookie_is_in_no_command_line
    claim "the display has no TCP listener, no abstract socket, none on the host" there display_is_on_no_network
    claim "the login is on record and open" there login_is_on_record
    claim "the job ends, in order and with pictures" there finish
    claim "its steps, its license and its picture are told" there report_is_whole
    claim "no session, process, cgroup, mount, key, file, socket or open login is left" there all_is_clean
    claim "logind itself forgets the user" there logind_forgets_the_user
    claim "the journal tells of it" journal_tells
    claim "a job that plants whatever it can ends" there complete plant SUCCEEDED
    claim "host services took nothing of what it asked for" there nothing_was_taken
    claim "nothing that it planted is left" there all_is_clean
    claim "the next job of the account sees none of it" there next_job_sees_nothing
    claim "eight jobs back to back on one account, and the broker keeps no descriptor" there broker_keeps_no_descriptor 8
    claim "a bot that is deaf to SIGTERM ends when its grace is over" there complete deaf TIMED_OUT --timeout 2s
    claim "nothing of it is left" there all_is_clean
}
