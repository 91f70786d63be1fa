//! The part of libpam that is used, as declared in security/_pam_types.h and pam_appl.h.

use std::ffi::{c_char, c_int, c_void};

/// `pam_handle_t`: libpam's own.
#[repr(C)]
pub(crate) struct Handle {
    _private: [u8; 0],
}

/// `struct pam_message`
#[repr(C)]
pub(crate) struct Message {
    pub(crate) msg_style: c_int,
    pub(crate) msg: *const c_char,
}

/// `struct pam_response`: both it and its text are freed by the module, so both come from malloc.
#[repr(C)]
pub(crate) struct Response {
    pub(crate) resp: *mut c_char,
    pub(crate) resp_retcode: c_int,
}

pub(crate) type Converse =
    unsafe extern "C" fn(c_int, *const *const Message, *mut *mut Response, *mut c_void) -> c_int;

/// `struct pam_conv`
#[repr(C)]
pub(crate) struct Conversation {
    pub(crate) conv: Option<Converse>,
    pub(crate) appdata_ptr: *mut c_void,
}

pub(crate) const SUCCESS: c_int = 0;
pub(crate) const BUF_ERR: c_int = 5;
pub(crate) const NEW_AUTHTOK_REQD: c_int = 12;
pub(crate) const CONV_ERR: c_int = 19;

pub(crate) const DISALLOW_NULL_AUTHTOK: c_int = 0x1;
pub(crate) const ESTABLISH_CRED: c_int = 0x2;
pub(crate) const DELETE_CRED: c_int = 0x4;

pub(crate) const USER: c_int = 2;
pub(crate) const TTY: c_int = 3;
pub(crate) const CONV: c_int = 5;
pub(crate) const RUSER: c_int = 8;
pub(crate) const XDISPLAY: c_int = 11;

pub(crate) const PROMPT_ECHO_OFF: c_int = 1;
pub(crate) const ERROR_MSG: c_int = 3;
pub(crate) const TEXT_INFO: c_int = 4;

pub(crate) const MAX_NUM_MSG: c_int = 32;
pub(crate) const MAX_MSG_SIZE: usize = 512;
pub(crate) const MAX_RESP_SIZE: usize = 512;

#[link(name = "pam")]
unsafe extern "C" {
    pub(crate) fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conversation: *const Conversation,
        handle: *mut *mut Handle,
    ) -> c_int;
    pub(crate) fn pam_end(handle: *mut Handle, status: c_int) -> c_int;
    pub(crate) fn pam_set_item(handle: *mut Handle, item: c_int, value: *const c_void) -> c_int;
    pub(crate) fn pam_get_item(
        handle: *const Handle,
        item: c_int,
        value: *mut *const c_void,
    ) -> c_int;
    pub(crate) fn pam_authenticate(handle: *mut Handle, flags: c_int) -> c_int;
    pub(crate) fn pam_acct_mgmt(handle: *mut Handle, flags: c_int) -> c_int;
    pub(crate) fn pam_setcred(handle: *mut Handle, flags: c_int) -> c_int;
    pub(crate) fn pam_open_session(handle: *mut Handle, flags: c_int) -> c_int;
    pub(crate) fn pam_close_session(handle: *mut Handle, flags: c_int) -> c_int;
    pub(crate) fn pam_putenv(handle: *mut Handle, name_value: *const c_char) -> c_int;
    pub(crate) fn pam_getenvlist(handle: *mut Handle) -> *mut *mut c_char;
    pub(crate) fn pam_strerror(handle: *mut Handle, code: c_int) -> *const c_char;
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::process::Command;

    use super::*;

    /// What the C compiler makes of the system's header, one number in each line.
    const PROGRAM: &str = r#"
#include <stddef.h>
#include <stdio.h>
#include <security/pam_appl.h>
#define N(x) printf("%ld\n", (long)(x));
int main(void) {
    N(sizeof(struct pam_message)) N(offsetof(struct pam_message, msg_style)) N(offsetof(struct pam_message, msg))
    N(sizeof(struct pam_response)) N(offsetof(struct pam_response, resp)) N(offsetof(struct pam_response, resp_retcode))
    N(sizeof(struct pam_conv)) N(offsetof(struct pam_conv, conv)) N(offsetof(struct pam_conv, appdata_ptr))
    N(PAM_SUCCESS) N(PAM_BUF_ERR) N(PAM_NEW_AUTHTOK_REQD) N(PAM_CONV_ERR)
    N(PAM_DISALLOW_NULL_AUTHTOK) N(PAM_ESTABLISH_CRED) N(PAM_DELETE_CRED)
    N(PAM_USER) N(PAM_TTY) N(PAM_CONV) N(PAM_RUSER) N(PAM_XDISPLAY)
    N(PAM_PROMPT_ECHO_OFF) N(PAM_ERROR_MSG) N(PAM_TEXT_INFO)
    N(PAM_MAX_NUM_MSG) N(PAM_MAX_MSG_SIZE) N(PAM_MAX_RESP_SIZE)
    return 0;
}
"#;

    fn declared_here() -> Vec<i64> {
        let sizes = [
            size_of::<Message>(),
            offset_of!(Message, msg_style),
            offset_of!(Message, msg),
            size_of::<Response>(),
            offset_of!(Response, resp),
            offset_of!(Response, resp_retcode),
            size_of::<Conversation>(),
            offset_of!(Conversation, conv),
            offset_of!(Conversation, appdata_ptr),
        ];
        let constants = [
            SUCCESS,
            BUF_ERR,
            NEW_AUTHTOK_REQD,
            CONV_ERR,
            DISALLOW_NULL_AUTHTOK,
            ESTABLISH_CRED,
            DELETE_CRED,
            USER,
            TTY,
            CONV,
            RUSER,
            XDISPLAY,
            PROMPT_ECHO_OFF,
            ERROR_MSG,
            TEXT_INFO,
            MAX_NUM_MSG,
        ];
        let bounds = [MAX_MSG_SIZE, MAX_RESP_SIZE];
        let wide = |size: usize| i64::try_from(size).unwrap();
        sizes
            .map(wide)
            .into_iter()
            .chain(constants.map(i64::from))
            .chain(bounds.map(wide))
            .collect()
    }

    #[test]
    fn layouts_and_constants_are_those_of_the_systems_header() {
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("layout.c"), folder.path().join("layout"));
        std::fs::write(&source, PROGRAM).unwrap();
        let compiled = Command::new("cc")
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .output();
        let Ok(compiled) = compiled else {
            println!("skipped: there is no C compiler");
            return;
        };
        assert!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        let output = Command::new(program).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let in_header: Vec<i64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(declared_here(), in_header);
    }
}
