//! The order of the steps, and their undoing.

use std::ffi::OsString;

use pam::{Error, Password, Phase, Transaction};
use zeroize::Zeroizing;

use crate::rig::{Recorder, Service, alone};

const PERMIT: &str =
    "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";

fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn up_to_credentials(service: &Service) -> Transaction {
    let mut transaction = Transaction::start(&service.name, "root").unwrap();
    transaction.account().unwrap();
    transaction.establish_credentials().unwrap();
    transaction
}

#[test]
fn a_session_is_opened_and_closed_with_what_was_set() {
    alone(
        "order::a_session_is_opened_and_closed_with_what_was_set",
        || {
            let recorder = Recorder::new();
            let service = Service::new(&(PERMIT.to_owned() + &recorder.rule("session")));
            let mut transaction = Transaction::start(&service.name, "root").unwrap();
            transaction.set_requesting_user("robotd").unwrap();
            transaction.set_terminal(":7").unwrap();
            transaction.set_display(":7").unwrap();
            transaction.account().unwrap();
            transaction.establish_credentials().unwrap();
            transaction
                .put_environment("XDG_SESSION_CLASS", "user=x")
                .unwrap();
            transaction.open_session().unwrap();
            let variable = (
                OsString::from("XDG_SESSION_CLASS"),
                OsString::from("user=x"),
            );
            assert!(transaction.environment().unwrap().contains(&variable));
            transaction.close_session().unwrap();
            transaction.delete_credentials().unwrap();
            transaction.end().unwrap();
            assert_eq!(
                recorder.lines(),
                [
                    "open_session root robotd :7",
                    "close_session root robotd :7"
                ]
            );
        },
    );
}

#[test]
fn steps_out_of_order_are_refused() {
    alone("order::steps_out_of_order_are_refused", || {
        let service = Service::new(PERMIT);
        let refused = |outcome: Result<(), Error>| matches!(outcome, Err(Error::OutOfOrder { .. }));
        let mut transaction = Transaction::start(&service.name, "root").unwrap();
        assert!(refused(transaction.establish_credentials()));
        assert!(refused(transaction.open_session()));
        assert!(refused(transaction.close_session()));
        assert!(refused(transaction.delete_credentials()));
        transaction.account().unwrap();
        assert!(refused(transaction.account()));
        assert!(refused(transaction.authenticate(password("late"))));
        assert!(refused(transaction.open_session()));
        transaction.establish_credentials().unwrap();
        transaction.open_session().unwrap();
        assert!(refused(transaction.open_session()));
        assert!(refused(transaction.put_environment("LATE", "x")));
        assert!(refused(transaction.set_terminal(":1")));
        assert!(refused(transaction.delete_credentials()));
        transaction.close_session().unwrap();
        assert!(refused(transaction.close_session()));
        transaction.end().unwrap();
    });
}

#[test]
fn each_refusal_names_its_step_and_leads_only_to_the_end() {
    alone(
        "order::each_refusal_names_its_step_and_leads_only_to_the_end",
        || {
            let deny = |kind: &str| {
                Service::new(&PERMIT.replace(
                    &format!("{kind} required pam_permit.so"),
                    &format!("{kind} required pam_deny.so"),
                ))
            };
            let service = deny("auth");
            let mut transaction = Transaction::start(&service.name, "root").unwrap();
            let outcome = transaction.authenticate(password("any"));
            assert!(matches!(outcome, Err(Error::Authenticate { source, .. }) if source.code == 7));
            assert!(matches!(
                transaction.account(),
                Err(Error::OutOfOrder {
                    phase: Phase::Failed,
                    ..
                })
            ));
            transaction.end().unwrap();
            let service = deny("account");
            let mut transaction = Transaction::start(&service.name, "root").unwrap();
            assert!(matches!(transaction.account(), Err(Error::Account { .. })));
            assert_eq!(transaction.phase(), Phase::Failed);
            // pam_setcred(3) is answered by the auth rules.
            let service = deny("auth");
            let mut transaction = Transaction::start(&service.name, "root").unwrap();
            transaction.account().unwrap();
            assert!(matches!(
                transaction.establish_credentials(),
                Err(Error::EstablishCredentials { .. })
            ));
        },
    );
}

#[test]
fn an_open_that_failed_is_not_closed_but_its_credentials_are_deleted() {
    alone(
        "order::an_open_that_failed_is_not_closed_but_its_credentials_are_deleted",
        || {
            let recorder = Recorder::new();
            let rules = PERMIT.replace(
                "session required pam_permit.so",
                "session required pam_deny.so",
            );
            let service = Service::new(&(rules + &recorder.rule("session")));
            let mut transaction = up_to_credentials(&service);
            assert!(matches!(
                transaction.open_session(),
                Err(Error::OpenSession { .. })
            ));
            assert!(matches!(
                transaction.close_session(),
                Err(Error::OutOfOrder { .. })
            ));
            transaction.delete_credentials().unwrap();
            assert_eq!(transaction.phase(), Phase::Undone);
            transaction.end().unwrap();
            assert_eq!(recorder.lines(), ["open_session root - -"]);
        },
    );
}

#[test]
fn a_session_that_is_dropped_is_closed() {
    alone("order::a_session_that_is_dropped_is_closed", || {
        let recorder = Recorder::new();
        let service = Service::new(&(PERMIT.to_owned() + &recorder.rule("session")));
        let mut transaction = up_to_credentials(&service);
        transaction.open_session().unwrap();
        drop(transaction);
        assert_eq!(
            recorder.lines(),
            ["open_session root - -", "close_session root - -"]
        );
    });
}

#[test]
fn a_forked_child_can_neither_close_nor_end_the_session() {
    alone(
        "order::a_forked_child_can_neither_close_nor_end_the_session",
        || {
            let recorder = Recorder::new();
            let service = Service::new(&(PERMIT.to_owned() + &recorder.rule("session")));
            let mut transaction = up_to_credentials(&service);
            transaction.open_session().unwrap();
            // SAFETY: the child compares, drops and exits; what it calls takes no lock.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let refused =
                    matches!(transaction.close_session(), Err(Error::NotTheOpener { .. }));
                drop(transaction);
                // SAFETY: _exit(2) has no preconditions.
                unsafe { libc::_exit(i32::from(!refused)) };
            }
            let mut status = -1;
            // SAFETY: waitpid(2) writes one int.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
            assert_eq!(recorder.lines(), ["open_session root - -"]);
            transaction.close_session().unwrap();
            transaction.end().unwrap();
            assert_eq!(recorder.lines().len(), 2);
        },
    );
}

#[test]
fn a_process_leads_one_session_only() {
    alone("order::a_process_leads_one_session_only", || {
        let service = Service::new(PERMIT);
        let mut first = up_to_credentials(&service);
        first.open_session().unwrap();
        first.end().unwrap();
        assert!(matches!(
            up_to_credentials(&service).open_session(),
            Err(Error::SecondSession)
        ));
    });
}

#[test]
fn what_modules_say_is_in_the_error() {
    alone("order::what_modules_say_is_in_the_error", || {
        let notice = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(notice.path(), "going down\u{1b}[31m at noon").unwrap();
        let rules = format!(
            "account requisite pam_nologin.so file={}\n",
            notice.path().display()
        );
        let service = Service::new(&rules);
        let mut transaction = Transaction::start(&service.name, "nobody").unwrap();
        let Err(Error::Account { source, .. }) = transaction.account() else {
            panic!("nobody may log in")
        };
        assert_eq!(source.messages, ["going down [31m at noon"]);
        assert!(
            source.to_string().contains("going down [31m at noon"),
            "{source}"
        );
    });
}

#[test]
fn a_module_that_makes_another_account_of_it_is_refused() {
    alone(
        "order::a_module_that_makes_another_account_of_it_is_refused",
        || {
            // It maps "anonymous" to "ftp" and asks for a mail address, hidden.
            let service = Service::new("auth required pam_ftp.so ignore\n");
            let mut transaction = Transaction::start(&service.name, "anonymous").unwrap();
            match transaction.authenticate(password("robot@example.org")) {
                Err(Error::UserChanged { before, after }) => {
                    assert_eq!((&*before, &*after), ("anonymous", "ftp"))
                }
                outcome => panic!("{outcome:?}"),
            }
            assert_eq!(transaction.phase(), Phase::Failed);
        },
    );
}

#[test]
fn values_that_pam_would_cut_short_are_refused() {
    alone("order::values_that_pam_would_cut_short_are_refused", || {
        let service = Service::new(PERMIT);
        assert!(matches!(
            Transaction::start(&service.name, "ro\0ot"),
            Err(Error::ZeroByte { .. })
        ));
        let mut transaction = Transaction::start(&service.name, "root").unwrap();
        assert!(matches!(
            transaction.put_environment("A", "b\0c"),
            Err(Error::ZeroByte { .. })
        ));
        assert!(matches!(
            transaction.put_environment("A=B", "c"),
            Err(Error::VariableName { .. })
        ));
        assert!(matches!(
            transaction.put_environment("", "c"),
            Err(Error::VariableName { .. })
        ));
        assert!(matches!(
            transaction.set_terminal(":7\0"),
            Err(Error::ZeroByte { .. })
        ));
    });
}
