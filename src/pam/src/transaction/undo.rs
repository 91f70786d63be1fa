//! Undoing what was done, in any phase.

use super::{Phase, Transaction, text_of};
use crate::error::{Error, Failure};
use crate::ffi;

const ALL: [Phase; 8] = [
    Phase::Started,
    Phase::Authenticated,
    Phase::Admitted,
    Phase::Credentialed,
    Phase::Open,
    Phase::Closed,
    Phase::Undone,
    Phase::Failed,
];

impl Transaction {
    /// Closes the session. Whatever the answer, it is not tried again.
    ///
    /// # Errors
    ///
    /// [`Error::CloseSession`], [`Error::OutOfOrder`], [`Error::NotTheOpener`].
    pub fn close_session(&mut self) -> Result<(), Error> {
        self.require("close_session", &[Phase::Open])?;
        self.phase = Phase::Closed;
        // SAFETY: as for pam_authenticate(3).
        let status = unsafe { ffi::pam_close_session(self.handle.as_ptr(), 0) };
        let user = self.user.clone();
        self.check(status, |source| Error::CloseSession { user, source })
    }

    /// Deletes the credentials. Whatever the answer, it is not tried again.
    ///
    /// # Errors
    ///
    /// [`Error::DeleteCredentials`], [`Error::OutOfOrder`], [`Error::NotTheOpener`].
    pub fn delete_credentials(&mut self) -> Result<(), Error> {
        self.require("delete_credentials", &[Phase::Credentialed, Phase::Closed])?;
        self.phase = Phase::Undone;
        // SAFETY: as for pam_authenticate(3).
        let status = unsafe { ffi::pam_setcred(self.handle.as_ptr(), ffi::DELETE_CRED) };
        let user = self.user.clone();
        self.check(status, |source| Error::DeleteCredentials { user, source })
    }

    /// Ends the transaction. What is still open is closed first; the process should exit now.
    ///
    /// # Errors
    ///
    /// What could not be undone first of all, [`Error::NotTheOpener`].
    pub fn end(mut self) -> Result<(), Error> {
        self.require("end", &ALL)?;
        let outcome = self.undo();
        let ended = self.release();
        // Released already.
        std::mem::forget(self);
        outcome.and(ended)
    }

    fn undo(&mut self) -> Result<(), Error> {
        let closed = if self.phase == Phase::Open {
            self.close_session()
        } else {
            Ok(())
        };
        let deleted = match self.phase {
            Phase::Credentialed | Phase::Closed => self.delete_credentials(),
            _ => Ok(()),
        };
        closed.and(deleted)
    }

    /// Leaves both pointers dangling: nothing may use `self` afterwards.
    fn release(&mut self) -> Result<(), Error> {
        // SAFETY: the handle is live and is not used again. libpam frees it whatever it answers.
        let status = unsafe { ffi::pam_end(self.handle.as_ptr(), self.status) };
        // SAFETY: from Box::leak in `start`; with the handle gone nobody else has the pointer.
        let conversation = unsafe { Box::from_raw(self.conversation.as_ptr()) };
        if status == ffi::SUCCESS {
            return Ok(());
        }
        // pam_strerror(3) ignores its handle, which may be null.
        let text = text_of(std::ptr::null_mut(), status);
        let source = Failure {
            code: status,
            text,
            messages: conversation.messages,
        };
        Err(Error::End {
            user: self.user.clone(),
            source,
        })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // In a forked child the handle is a copy: undoing it there would end the parent's session.
        if self.opener == std::process::id() {
            // Nobody is left to be told; who wants to know calls `end`.
            let _ = self.undo();
            let _ = self.release();
        }
    }
}
