//! What PAM modules can ask and say.
//!
//! A hidden prompt is answered with the password while there is one. Every other question fails
//! (`PAM_CONV_ERR`): nobody is there to answer. What modules say is kept, bounded and made
//! inert, for the report of a failure, because PAM's codes are often too coarse to act on
//! (Debian turns "account expired" into "authentication failure").

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::ffi::{self, Message, Response};
use crate::password::Password;

/// Most messages that are kept.
const MOST_MESSAGES: usize = 32;

/// What one transaction's modules may learn and have said.
#[derive(Default)]
pub(crate) struct Conversation {
    pub(crate) password: Option<Password>,
    pub(crate) messages: Vec<String>,
}

/// The conversation function while a password is at hand.
///
/// # Safety
///
/// As [`converse`].
pub(crate) unsafe extern "C" fn answer(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut Response,
    conversation: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise is the one that `converse` asks for.
    unsafe { converse(count, messages, responses, conversation, true) }
}

/// The conversation function before and after: it listens and answers nothing.
///
/// # Safety
///
/// As [`converse`].
pub(crate) unsafe extern "C" fn listen(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut Response,
    conversation: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise is the one that `converse` asks for.
    unsafe { converse(count, messages, responses, conversation, false) }
}

/// # Safety
///
/// As pam_conv(3) has it: `messages` is an array of `count` pointers to messages whose texts are
/// C strings or null, `responses` can be written, and `conversation` is the pointer that was given
/// to pam_start(3), to a live [`Conversation`] that nothing else refers to meanwhile.
unsafe fn converse(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut Response,
    conversation: *mut c_void,
    may_answer: bool,
) -> c_int {
    if messages.is_null() || responses.is_null() || conversation.is_null() {
        return ffi::CONV_ERR;
    }
    let count = match usize::try_from(count) {
        Ok(count) if (1..=ffi::MAX_NUM_MSG as usize).contains(&count) => count,
        _ => return ffi::CONV_ERR,
    };
    let Some(mut answers) = Answers::new(count) else {
        return ffi::BUF_ERR;
    };
    // SAFETY: the caller promises a live conversation that nothing else refers to.
    let conversation = unsafe { &mut *conversation.cast::<Conversation>() };
    for index in 0..count {
        // SAFETY: `messages` has `count` entries, each a valid pointer or, from a broken module,
        // null.
        let Some(message) = (unsafe { (*messages.add(index)).as_ref() }) else {
            return ffi::CONV_ERR;
        };
        let password = conversation.password.as_ref().filter(|_| may_answer);
        match (message.msg_style, password) {
            (ffi::TEXT_INFO | ffi::ERROR_MSG, _) => {
                // SAFETY: the message's text is a C string or null.
                let text = unsafe { bounded(message.msg) };
                conversation.keep(&text);
            }
            (ffi::PROMPT_ECHO_OFF, Some(password)) if answers.set(index, password.as_c_str()) => {}
            _ => return ffi::CONV_ERR,
        }
    }
    // SAFETY: the caller promises that `responses` can be written.
    unsafe { *responses = answers.give() };
    ffi::SUCCESS
}

/// # Safety
///
/// `text` is a C string or null.
unsafe fn bounded(text: *const c_char) -> Vec<u8> {
    if text.is_null() {
        return Vec::new();
    }
    // SAFETY: a C string; strnlen reads no further than its end or the bound.
    let len = unsafe { libc::strnlen(text, ffi::MAX_MSG_SIZE) };
    // SAFETY: `len` bytes of it are there.
    unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) }.to_vec()
}

impl Conversation {
    fn keep(&mut self, text: &[u8]) {
        let text = inert(text);
        if self.messages.len() < MOST_MESSAGES && !text.is_empty() {
            self.messages.push(text);
        }
    }
}

/// Text that can go into a log line or onto a terminal: no control characters, no marks that
/// change the direction of writing.
fn inert(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .replace(is_odd, " ")
        .trim()
        .to_owned()
}

fn is_odd(c: char) -> bool {
    let turns = ['\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'];
    c.is_control()
        || turns.contains(&c)
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The array of responses, wiped and freed unless it is given to the module.
struct Answers {
    first: *mut Response,
    count: usize,
}

impl Answers {
    fn new(count: usize) -> Option<Self> {
        // SAFETY: calloc has no preconditions. All zeroes is a response without text.
        let first = unsafe { libc::calloc(count, size_of::<Response>()) }.cast::<Response>();
        (!first.is_null()).then_some(Self { first, count })
    }

    /// Whether there was memory for it.
    fn set(&mut self, index: usize, text: &CStr) -> bool {
        // SAFETY: strdup copies a C string.
        let copy = unsafe { libc::strdup(text.as_ptr()) };
        // SAFETY: the callers count only up to `count`; calloc'd memory is aligned and zeroed.
        unsafe { (*self.first.add(index)).resp = copy };
        !copy.is_null()
    }

    fn give(self) -> *mut Response {
        let first = self.first;
        std::mem::forget(self);
        first
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for index in 0..self.count {
            // SAFETY: `index` is below the count that was allocated.
            let text = unsafe { (*self.first.add(index)).resp };
            if !text.is_null() {
                // SAFETY: a C string from strdup, not given away: wiped as long as it is, then
                // freed once.
                unsafe {
                    libc::explicit_bzero(text.cast(), libc::strlen(text));
                    libc::free(text.cast());
                }
            }
        }
        // SAFETY: from calloc, freed once.
        unsafe { libc::free(self.first.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    fn ask(
        conversation: &mut Conversation,
        function: ffi::Converse,
        asked: &[(c_int, &CStr)],
    ) -> (c_int, Vec<Option<String>>) {
        let messages: Vec<Message> = asked
            .iter()
            .map(|(style, text)| Message {
                msg_style: *style,
                msg: text.as_ptr(),
            })
            .collect();
        let pointers: Vec<*const Message> = messages.iter().map(std::ptr::from_ref).collect();
        let mut responses = std::ptr::null_mut();
        let count = c_int::try_from(asked.len()).unwrap();
        // SAFETY: the arrays live over the call and have `count` entries.
        let code = unsafe {
            function(
                count,
                pointers.as_ptr(),
                &raw mut responses,
                std::ptr::from_mut(conversation).cast(),
            )
        };
        if responses.is_null() {
            return (code, Vec::new());
        }
        let answers = Answers {
            first: responses,
            count: asked.len(),
        };
        let text = |index| {
            // SAFETY: below the count; the text is null or a C string.
            let text = unsafe { (*answers.first.add(index)).resp };
            // SAFETY: as above.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned())
        };
        (code, (0..asked.len()).map(text).collect())
    }

    fn with_password() -> Conversation {
        let password = Password::new(Zeroizing::new(b"hunter2".to_vec())).unwrap();
        Conversation {
            password: Some(password),
            messages: Vec::new(),
        }
    }

    const SHOWN_PROMPT: c_int = 2;

    #[test]
    fn a_hidden_prompt_gets_the_password_and_a_message_gets_no_answer() {
        let asked = [
            (ffi::TEXT_INFO, c"Welcome"),
            (ffi::PROMPT_ECHO_OFF, c"Password: "),
        ];
        let mut conversation = with_password();
        let (code, answers) = ask(&mut conversation, answer, &asked);
        assert_eq!(
            (code, answers),
            (ffi::SUCCESS, vec![None, Some("hunter2".to_owned())])
        );
        assert_eq!(conversation.messages, ["Welcome"]);
    }

    #[test]
    fn without_a_password_or_when_only_listening_a_prompt_fails() {
        let prompt = [(ffi::PROMPT_ECHO_OFF, c"Password: ")];
        assert_eq!(
            ask(&mut Conversation::default(), answer, &prompt),
            (ffi::CONV_ERR, vec![])
        );
        assert_eq!(
            ask(&mut with_password(), listen, &prompt),
            (ffi::CONV_ERR, vec![])
        );
    }

    #[test]
    fn a_shown_prompt_never_gets_the_password() {
        let asked = [
            (ffi::PROMPT_ECHO_OFF, c"Password: "),
            (SHOWN_PROMPT, c"Name: "),
        ];
        assert_eq!(
            ask(&mut with_password(), answer, &asked),
            (ffi::CONV_ERR, vec![])
        );
        assert_eq!(
            ask(&mut with_password(), answer, &[(7, c"binary")]),
            (ffi::CONV_ERR, vec![])
        );
    }

    #[test]
    fn messages_are_bounded_in_number_and_length() {
        let long = std::ffi::CString::new(vec![b'x'; 2000]).unwrap();
        let mut conversation = Conversation::default();
        for _ in 0..3 {
            ask(&mut conversation, listen, &[(ffi::ERROR_MSG, &*long); 20]);
        }
        assert_eq!(conversation.messages.len(), MOST_MESSAGES);
        assert!(
            conversation
                .messages
                .iter()
                .all(|message| message.len() == ffi::MAX_MSG_SIZE)
        );
    }

    #[test]
    fn senseless_counts_and_pointers_are_refused() {
        let mut conversation = Conversation::default();
        let too_many = [(ffi::TEXT_INFO, c"x"); 33];
        assert_eq!(
            ask(&mut conversation, listen, &too_many),
            (ffi::CONV_ERR, vec![])
        );
        assert_eq!(ask(&mut conversation, listen, &[]), (ffi::CONV_ERR, vec![]));
        let null = std::ptr::null_mut();
        // SAFETY: null pointers are what is refused here.
        let code = unsafe { listen(1, std::ptr::null(), null, null.cast()) };
        assert_eq!(code, ffi::CONV_ERR);
        let (mut responses, none) = (std::ptr::null_mut(), [std::ptr::null(); 1]);
        let conversation = std::ptr::from_mut(&mut conversation).cast();
        // SAFETY: the array has one entry, which is null.
        let code = unsafe { listen(1, none.as_ptr(), &raw mut responses, conversation) };
        assert_eq!(code, ffi::CONV_ERR);
    }

    proptest! {
        #[test]
        fn kept_text_is_always_inert(text in prop::collection::vec(any::<u8>(), 0..600)) {
            let kept = inert(&text);
            prop_assert!(!kept.contains(is_odd));
        }
    }
}
