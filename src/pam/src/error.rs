//! What can go wrong with a PAM session.

use std::fmt;

use crate::transaction::Phase;

/// What libpam answered, and what its modules said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// PAM's code (pam(3), "Return values").
    pub code: i32,
    /// PAM's words for it.
    pub text: String,
    /// What the modules said during the transaction: at most 32 messages of 512 bytes, without
    /// control characters. Not secret, but the modules' authors chose the words.
    pub messages: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (PAM code {})", self.text, self.code)?;
        if self.messages.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.messages.join("; "))
        }
    }
}

impl std::error::Error for Failure {}

/// A step of the session that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name or value holds a zero byte.
    #[error("{what} holds a zero byte, which PAM can't pass on")]
    ZeroByte {
        /// Which.
        what: &'static str,
    },
    /// A variable's name is empty or holds `=`.
    #[error("{name:?} can't be the name of a variable")]
    VariableName {
        /// The name.
        name: String,
    },
    /// No transaction could be started.
    #[error(
        "can't start PAM for {user:?} with the service {service:?}; is /etc/pam.d/{service} there?"
    )]
    Start {
        /// The service: a file in /etc/pam.d.
        service: String,
        /// The account.
        user: String,
        /// Why.
        source: Failure,
    },
    /// A fact about the session could not be told to PAM.
    #[error("PAM does not take the item {item}")]
    SetItem {
        /// Which.
        item: &'static str,
        /// Why.
        source: Failure,
    },
    /// The password was not accepted. It must not be tried again by itself: attempts are counted.
    #[error(
        "PAM did not accept the password of {user:?}; check it in the vault before the next try"
    )]
    Authenticate {
        /// The account.
        user: String,
        /// Why.
        source: Failure,
    },
    /// A module made another account of it.
    #[error("PAM turned the account {before:?} into {after:?}; refused")]
    UserChanged {
        /// Who was asked for.
        before: String,
        /// Who it would be.
        after: String,
    },
    /// The account may not be used now.
    #[error("PAM refuses the account {user:?}; see what its modules say")]
    Account {
        /// The account.
        user: String,
        /// Why.
        source: Failure,
    },
    /// The password has to be changed first, which nobody is there to do.
    #[error(
        "the password of {user:?} has expired; change it, or take its aging off: chage -M -1 {user}"
    )]
    PasswordExpired {
        /// The account.
        user: String,
        /// What PAM said.
        source: Failure,
    },
    /// Credentials were not established.
    #[error("PAM gave {user:?} no credentials")]
    EstablishCredentials {
        /// The account.
        user: String,
        /// Why.
        source: Failure,
    },
    /// A variable was not taken.
    #[error("PAM does not take the variable {name}")]
    PutEnvironment {
        /// Its name.
        name: String,
        /// Why.
        source: Failure,
    },
    /// The environment could not be read.
    #[error("can't read the environment of the PAM session: out of memory")]
    Environment,
    /// The session was not opened.
    #[error("PAM opened no session for {user:?}")]
    OpenSession {
        /// The account.
        user: String,
        /// Why.
        source: Failure,
    },
    /// This process has led a session already.
    #[error("this process has opened a PAM session before; a process can lead only one")]
    SecondSession,
    /// The session was not closed.
    #[error("PAM did not close the session of {user:?}")]
    CloseSession {
        /// The account.
        user: String,
        /// Why.
        source: Failure,
    },
    /// Credentials were not deleted.
    #[error("PAM did not delete the credentials of {user:?}")]
    DeleteCredentials {
        /// The account.
        user: String,
        /// Why.
        source: Failure,
    },
    /// The end was not clean.
    #[error("PAM did not end cleanly for {user:?}")]
    End {
        /// The account.
        user: String,
        /// Why.
        source: Failure,
    },
    /// A step that does not come next: a bug in the caller.
    #[error("{operation} does not follow {phase:?}")]
    OutOfOrder {
        /// What was asked for.
        operation: &'static str,
        /// How far the transaction was.
        phase: Phase,
    },
    /// The process is a fork of the one that started: only that one may go on.
    #[error("{operation} was called in a child of the process that started the PAM session")]
    NotTheOpener {
        /// What was asked for.
        operation: &'static str,
    },
}
