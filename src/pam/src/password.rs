//! A password on its way from a vault to a PAM module.

use std::ffi::{CStr, CString};
use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::ffi;

/// Why bytes can't be a password here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// PAM hands passwords over as C strings.
    #[error("the password holds a zero byte, which PAM can't pass on; change it in the vault")]
    ZeroByte,
    /// `PAM_MAX_RESP_SIZE`, its end included.
    #[error(
        "the password is longer than 511 bytes, which PAM can't pass on; change it in the vault"
    )]
    TooLong,
    /// An empty password is never tried.
    #[error("the password is empty; set one in the vault")]
    Empty,
}

/// A password, wiped from memory when it is dropped.
pub struct Password {
    text: CString,
}

impl Password {
    /// Takes over the bytes; they are wiped in any case.
    ///
    /// # Errors
    ///
    /// A [`PasswordError`].
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, PasswordError> {
        if bytes.is_empty() {
            return Err(PasswordError::Empty);
        }
        if bytes.len() >= ffi::MAX_RESP_SIZE {
            return Err(PasswordError::TooLong);
        }
        if bytes.contains(&0) {
            return Err(PasswordError::ZeroByte);
        }
        // With room for the end, so that no copy is left behind by growing.
        let mut copy = Vec::with_capacity(bytes.len() + 1);
        copy.extend_from_slice(&bytes);
        CString::new(copy)
            .map(|text| Self { text })
            .map_err(|_| PasswordError::ZeroByte)
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        &self.text
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        std::mem::take(&mut self.text)
            .into_bytes_with_nul()
            .zeroize();
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(bytes: &[u8]) -> Result<Password, PasswordError> {
        Password::new(Zeroizing::new(bytes.to_vec()))
    }

    #[test]
    fn what_pam_could_not_pass_on_whole_is_refused() {
        assert_eq!(password(b"").unwrap_err(), PasswordError::Empty);
        assert_eq!(password(b"a\0b").unwrap_err(), PasswordError::ZeroByte);
        assert_eq!(password(&[b'x'; 512]).unwrap_err(), PasswordError::TooLong);
        assert_eq!(
            password(&[b'x'; 511]).unwrap().as_c_str().to_bytes(),
            [b'x'; 511]
        );
    }

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", password(b"hunter2").unwrap()).contains("hunter2"));
    }
}
