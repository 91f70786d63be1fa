//! The handle and its steps, each allowed in one place of the order only.

mod items;
mod undo;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::conversation::{self, Conversation};
use crate::error::{Error, Failure};
use crate::ffi;
use crate::password::Password;

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing but a handle.
    Started,
    /// The password was accepted.
    Authenticated,
    /// The account may be used.
    Admitted,
    /// Credentials are there.
    Credentialed,
    /// The session is open.
    Open,
    /// The session was closed; the credentials are still there.
    Closed,
    /// All is undone but the handle.
    Undone,
    /// A step before the credentials failed: only the end is left.
    Failed,
}

/// pam_systemd keeps a descriptor for each session on purpose, and logind takes a process for
/// the leader of one session only: the second would silently be none.
static SESSION_OPENED: AtomicBool = AtomicBool::new(false);

/// One PAM transaction, from pam_start(3) to pam_end(3).
///
/// Dropped before its end it closes, deletes and ends what was opened, in this order, in the
/// process that started it; in a forked child it does nothing, as the session is not the child's.
#[derive(Debug)]
pub struct Transaction {
    handle: NonNull<ffi::Handle>,
    /// Owned, but always reached by this pointer, for libpam has it too.
    conversation: NonNull<Conversation>,
    user: String,
    phase: Phase,
    /// What libpam answered last; pam_end(3) tells it to the modules.
    status: c_int,
    opener: u32,
}

impl Transaction {
    /// Begins for this account with the rules of `/etc/pam.d/SERVICE`.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroByte`] and [`Error::Start`].
    pub fn start(service: &str, user: &str) -> Result<Self, Error> {
        let service_name = c_string(service, "the service name")?;
        let user_name = c_string(user, "the user name")?;
        let conversation = NonNull::from(Box::leak(Box::<Conversation>::default()));
        let conv = conv(conversation::listen, conversation);
        let mut handle = std::ptr::null_mut();
        // SAFETY: pam_start(3) copies both strings and `conv`, which live over the call, and
        // stores a handle. What `conv` points to is freed after pam_end(3) only.
        let status = unsafe {
            ffi::pam_start(
                service_name.as_ptr(),
                user_name.as_ptr(),
                &raw const conv,
                &raw mut handle,
            )
        };
        match NonNull::new(handle) {
            Some(handle) if status == ffi::SUCCESS => {
                let (phase, opener) = (Phase::Started, std::process::id());
                Ok(Self {
                    handle,
                    conversation,
                    user: user.to_owned(),
                    phase,
                    status,
                    opener,
                })
            }
            _ => {
                // SAFETY: without a handle libpam has not kept the pointer; it came from a Box.
                drop(unsafe { Box::from_raw(conversation.as_ptr()) });
                let source = Failure {
                    code: status,
                    text: text_of(handle, status),
                    messages: Vec::new(),
                };
                Err(Error::Start {
                    service: service.to_owned(),
                    user: user.to_owned(),
                    source,
                })
            }
        }
    }

    /// Proves the account by its password, which is wiped before this returns; the modules get
    /// no answer to any question afterwards. An empty password in the host's database is refused.
    ///
    /// Call it at most once for a password: modules count failures and lock accounts. A refused
    /// one can take seconds, as modules ask for a delay.
    ///
    /// # Errors
    ///
    /// [`Error::Authenticate`], [`Error::UserChanged`], [`Error::SetItem`], [`Error::OutOfOrder`].
    pub fn authenticate(&mut self, password: Password) -> Result<(), Error> {
        self.require("authenticate", &[Phase::Started])?;
        self.phase = Phase::Failed;
        self.conversation().password = Some(password);
        let outcome = self.authenticate_answering();
        // Whatever came of it. The answering function goes too, so that no later module can ask.
        self.conversation().password = None;
        let silenced = self.set_conversation(conversation::listen);
        outcome?;
        silenced?;
        self.require_same_user()?;
        self.phase = Phase::Authenticated;
        Ok(())
    }

    fn authenticate_answering(&mut self) -> Result<(), Error> {
        self.set_conversation(conversation::answer)?;
        // SAFETY: the handle is live; modules reach the conversation by its pointer, and no
        // reference to it exists during the call.
        let status =
            unsafe { ffi::pam_authenticate(self.handle.as_ptr(), ffi::DISALLOW_NULL_AUTHTOK) };
        let user = self.user.clone();
        self.check(status, |source| Error::Authenticate { user, source })
    }

    /// Asks whether the account may be used now. pam_unix does not look whether it is locked.
    ///
    /// # Errors
    ///
    /// [`Error::PasswordExpired`], [`Error::Account`], [`Error::UserChanged`], [`Error::OutOfOrder`].
    pub fn account(&mut self) -> Result<(), Error> {
        self.require("account", &[Phase::Started, Phase::Authenticated])?;
        self.phase = Phase::Failed;
        // SAFETY: as for pam_authenticate(3).
        let status =
            unsafe { ffi::pam_acct_mgmt(self.handle.as_ptr(), ffi::DISALLOW_NULL_AUTHTOK) };
        let user = self.user.clone();
        self.check(status, |source| match source.code {
            ffi::NEW_AUTHTOK_REQD => Error::PasswordExpired { user, source },
            _ => Error::Account { user, source },
        })?;
        self.require_same_user()?;
        self.phase = Phase::Admitted;
        Ok(())
    }

    /// Establishes the account's credentials. The process must have the account's groups by now
    /// (pam_setcred(3)): modules may add to them.
    ///
    /// # Errors
    ///
    /// [`Error::EstablishCredentials`], [`Error::OutOfOrder`].
    pub fn establish_credentials(&mut self) -> Result<(), Error> {
        self.require("establish_credentials", &[Phase::Admitted])?;
        self.phase = Phase::Failed;
        // SAFETY: as for pam_authenticate(3).
        let status = unsafe { ffi::pam_setcred(self.handle.as_ptr(), ffi::ESTABLISH_CRED) };
        let user = self.user.clone();
        self.check(status, |source| Error::EstablishCredentials {
            user,
            source,
        })?;
        self.phase = Phase::Credentialed;
        Ok(())
    }

    /// Opens the session. Where logind runs, this process is its leader from now on, and success
    /// alone proves nothing: `XDG_SESSION_ID` in [`Transaction::environment`] does.
    ///
    /// # Errors
    ///
    /// [`Error::SecondSession`], [`Error::OpenSession`], [`Error::OutOfOrder`]. The credentials
    /// are deleted by [`Transaction::delete_credentials`] or on drop.
    pub fn open_session(&mut self) -> Result<(), Error> {
        self.require("open_session", &[Phase::Credentialed])?;
        if SESSION_OPENED.swap(true, Ordering::Relaxed) {
            return Err(Error::SecondSession);
        }
        // SAFETY: as for pam_authenticate(3).
        let status = unsafe { ffi::pam_open_session(self.handle.as_ptr(), 0) };
        let user = self.user.clone();
        self.check(status, |source| Error::OpenSession { user, source })?;
        self.phase = Phase::Open;
        Ok(())
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    fn set_conversation(&mut self, function: ffi::Converse) -> Result<(), Error> {
        let conv = conv(function, self.conversation);
        self.set_item(ffi::CONV, "PAM_CONV", (&raw const conv).cast())
    }

    fn set_item(
        &mut self,
        item: c_int,
        name: &'static str,
        value: *const c_void,
    ) -> Result<(), Error> {
        // SAFETY: pam_set_item(3) copies the value: a C string, or for PAM_CONV a `struct
        // pam_conv`, which the callers keep alive over the call.
        let status = unsafe { ffi::pam_set_item(self.handle.as_ptr(), item, value) };
        self.check(status, |source| Error::SetItem { item: name, source })
    }

    /// A module may have set another user (a template user, a domain's spelling): the session
    /// would be somebody else's than the order says.
    fn require_same_user(&mut self) -> Result<(), Error> {
        let mut value = std::ptr::null();
        // SAFETY: pam_get_item(3) stores a pointer to its own copy, which lives until the next
        // call with this handle.
        let status = unsafe { ffi::pam_get_item(self.handle.as_ptr(), ffi::USER, &raw mut value) };
        let found = NonNull::new(value.cast_mut().cast::<c_char>());
        let after = match found {
            // SAFETY: PAM_USER is a C string.
            Some(name) if status == ffi::SUCCESS => unsafe { CStr::from_ptr(name.as_ptr()) }
                .to_string_lossy()
                .into_owned(),
            _ => String::new(),
        };
        if after == self.user {
            return Ok(());
        }
        self.phase = Phase::Failed;
        Err(Error::UserChanged {
            before: self.user.clone(),
            after,
        })
    }

    fn require(&self, operation: &'static str, phases: &[Phase]) -> Result<(), Error> {
        if self.opener != std::process::id() {
            return Err(Error::NotTheOpener { operation });
        }
        if phases.contains(&self.phase) {
            Ok(())
        } else {
            Err(Error::OutOfOrder {
                operation,
                phase: self.phase,
            })
        }
    }

    fn check(&mut self, status: c_int, failed: impl FnOnce(Failure) -> Error) -> Result<(), Error> {
        self.status = status;
        if status == ffi::SUCCESS {
            return Ok(());
        }
        let text = text_of(self.handle.as_ptr(), status);
        let messages = self.conversation().messages.clone();
        Err(failed(Failure {
            code: status,
            text,
            messages,
        }))
    }

    fn conversation(&mut self) -> &mut Conversation {
        // SAFETY: from Box::leak in `start` and freed in `release` only. libpam uses its copy of
        // the pointer only during calls, and none is running: `&mut self` is here.
        unsafe { self.conversation.as_mut() }
    }
}

fn conv(function: ffi::Converse, conversation: NonNull<Conversation>) -> ffi::Conversation {
    ffi::Conversation {
        conv: Some(function),
        appdata_ptr: conversation.as_ptr().cast(),
    }
}

fn c_string(text: &str, what: &'static str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::ZeroByte { what })
}

/// libpam's words for a code; `handle` is a live one or null.
fn text_of(handle: *mut ffi::Handle, code: c_int) -> String {
    // SAFETY: pam_strerror(3) does not look at the handle and returns a C string that is never
    // freed, or null.
    let text = unsafe { ffi::pam_strerror(handle, code) };
    if text.is_null() {
        return "unknown".to_owned();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
