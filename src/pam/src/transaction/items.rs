//! What PAM is told about the session, and what it tells: items and environment.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;

use super::{Phase, Transaction, c_string};
use crate::error::Error;
use crate::ffi;

const BEFORE_OPEN: [Phase; 4] = [
    Phase::Started,
    Phase::Authenticated,
    Phase::Admitted,
    Phase::Credentialed,
];

impl Transaction {
    /// Who asks for the session (`PAM_RUSER`): the program's own account.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroByte`], [`Error::SetItem`], [`Error::OutOfOrder`].
    pub fn set_requesting_user(&mut self, name: &str) -> Result<(), Error> {
        self.set_text(ffi::RUSER, "PAM_RUSER", name)
    }

    /// The terminal (`PAM_TTY`). pam_systemd takes a value with a colon for an X display.
    ///
    /// # Errors
    ///
    /// As [`Transaction::set_requesting_user`].
    pub fn set_terminal(&mut self, name: &str) -> Result<(), Error> {
        self.set_text(ffi::TTY, "PAM_TTY", name)
    }

    /// The X display (`PAM_XDISPLAY`), such as `:7`.
    ///
    /// # Errors
    ///
    /// As [`Transaction::set_requesting_user`].
    pub fn set_display(&mut self, name: &str) -> Result<(), Error> {
        self.set_text(ffi::XDISPLAY, "PAM_XDISPLAY", name)
    }

    /// Sets a variable of the session's environment; what pam_systemd goes by is told so.
    ///
    /// # Errors
    ///
    /// [`Error::VariableName`], [`Error::ZeroByte`], [`Error::PutEnvironment`], [`Error::OutOfOrder`].
    pub fn put_environment(&mut self, name: &str, value: &str) -> Result<(), Error> {
        self.require("put_environment", &BEFORE_OPEN)?;
        if name.is_empty() || name.contains('=') {
            return Err(Error::VariableName {
                name: name.to_owned(),
            });
        }
        let both = c_string(&format!("{name}={value}"), "a variable")?;
        // SAFETY: pam_putenv(3) copies a C string that lives over the call.
        let status = unsafe { ffi::pam_putenv(self.handle.as_ptr(), both.as_ptr()) };
        self.check(status, |source| Error::PutEnvironment {
            name: name.to_owned(),
            source,
        })
    }

    /// The environment that the modules and [`Transaction::put_environment`] made. Entries
    /// without `=` are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Environment`].
    pub fn environment(&mut self) -> Result<Vec<(OsString, OsString)>, Error> {
        // SAFETY: pam_getenvlist(3) returns null or an array of C strings that ends in null; array
        // and strings are from malloc and are the caller's to free.
        let list = unsafe { ffi::pam_getenvlist(self.handle.as_ptr()) };
        if list.is_null() {
            return Err(Error::Environment);
        }
        let mut variables = Vec::new();
        let mut next = list;
        // SAFETY: `next` stays inside of the array, up to and including its null.
        while let Some(entry) = NonNull::new(unsafe { *next }) {
            // SAFETY: a C string of that array, freed once and not used afterwards.
            variables.extend(unsafe { take_variable(entry) });
            // SAFETY: this entry was not the null, so there is one more.
            next = unsafe { next.add(1) };
        }
        // SAFETY: from malloc, freed once.
        unsafe { libc::free(list.cast()) };
        Ok(variables)
    }

    fn set_text(&mut self, item: c_int, name: &'static str, value: &str) -> Result<(), Error> {
        self.require(name, &BEFORE_OPEN)?;
        let value = c_string(value, name)?;
        self.set_item(item, name, value.as_ptr().cast())
    }
}

/// # Safety
///
/// `entry` is a C string from malloc; it is freed here.
unsafe fn take_variable(entry: NonNull<c_char>) -> Option<(OsString, OsString)> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(entry.as_ptr()) }
        .to_bytes()
        .to_vec();
    // SAFETY: the caller's promise; the text was copied.
    unsafe { libc::free(entry.as_ptr().cast()) };
    let end = bytes.iter().position(|byte| *byte == b'=')?;
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    Some((text(&bytes[..end]), text(&bytes[end + 1..])))
}
