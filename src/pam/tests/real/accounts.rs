//! Passwords and the state of accounts, as pam_unix sees them.

use pam::{Error, Password, Transaction};
use zeroize::Zeroizing;

use crate::rig::{Account, Service, alone};

const UNIX: &str = "auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_permit.so\n";
const EXPIRED: i32 = 13;

fn authenticate(
    service: &Service,
    account: &Account,
    password: &str,
) -> Result<Transaction, Error> {
    let mut transaction = Transaction::start(&service.name, &account.name)?;
    transaction
        .authenticate(Password::new(Zeroizing::new(password.as_bytes().to_vec())).unwrap())?;
    Ok(transaction)
}

fn account_of(service: &Service, account: &Account) -> Result<(), Error> {
    Transaction::start(&service.name, &account.name)?.account()
}

#[test]
fn the_right_password_is_accepted_and_a_wrong_one_is_not() {
    alone(
        "accounts::the_right_password_is_accepted_and_a_wrong_one_is_not",
        || {
            let (service, account) = (Service::new(UNIX), Account::new());
            authenticate(&service, &account, "right")
                .unwrap()
                .account()
                .unwrap();
            match authenticate(&service, &account, "wrong") {
                Err(Error::Authenticate { user, source }) => {
                    assert_eq!((user, source.code), (account.name.clone(), 7))
                }
                outcome => panic!("{outcome:?}"),
            }
        },
    );
}

#[test]
fn an_account_without_a_password_is_not_open_to_any() {
    alone(
        "accounts::an_account_without_a_password_is_not_open_to_any",
        || {
            // `nullok` would let it in; the flag of the call forbids it all the same.
            let service = Service::new(&UNIX.replace("nodelay", "nodelay nullok"));
            let account = Account::new();
            account.change("passwd", &["-d"]);
            assert!(matches!(
                authenticate(&service, &account, "any"),
                Err(Error::Authenticate { .. })
            ));
        },
    );
}

#[test]
fn a_locked_account_passes_here_which_is_why_the_session_looks_itself() {
    alone(
        "accounts::a_locked_account_passes_here_which_is_why_the_session_looks_itself",
        || {
            let (service, account) = (Service::new(UNIX), Account::new());
            account.change("usermod", &["-L"]);
            assert!(matches!(
                authenticate(&service, &account, "right"),
                Err(Error::Authenticate { .. })
            ));
            account_of(&service, &account).unwrap();
        },
    );
}

#[test]
fn a_password_that_must_be_changed_is_an_error_of_its_own() {
    alone(
        "accounts::a_password_that_must_be_changed_is_an_error_of_its_own",
        || {
            let (service, account) = (Service::new(UNIX), Account::new());
            account.change("chage", &["-d", "0"]);
            let Err(Error::PasswordExpired { source, .. }) = account_of(&service, &account) else {
                panic!("let in")
            };
            assert!(!source.messages.is_empty(), "pam_unix says why");
            account.change("chage", &["-d", "2020-01-01", "-M", "10"]);
            assert!(matches!(
                account_of(&service, &account),
                Err(Error::PasswordExpired { .. })
            ));
        },
    );
}

#[test]
fn an_expired_account_is_refused() {
    alone("accounts::an_expired_account_is_refused", || {
        let (service, account) = (Service::new(UNIX), Account::new());
        account_of(&service, &account).unwrap();
        account.change("chage", &["-E", "2020-01-01"]);
        let Err(Error::Account { source, .. }) = account_of(&service, &account) else {
            panic!("let in")
        };
        assert_eq!(source.code, EXPIRED);
        assert!(!source.messages.is_empty(), "pam_unix says why");
    });
}

#[test]
fn an_unknown_account_is_refused() {
    alone("accounts::an_unknown_account_is_refused", || {
        let service = Service::new(UNIX);
        let mut transaction = Transaction::start(&service.name, "robotd-no-such-account").unwrap();
        assert!(matches!(transaction.account(), Err(Error::Account { .. })));
    });
}
