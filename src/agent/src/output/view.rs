//! The live view at an attendant's bell: one frame under way, at most one more behind it.
//!
//! ```text
//!  Watch ─► Screen ─► under way ─ taken ─► Shown ─► Screen ...      nobody takes frames any more ─► Unwatch
//! ```

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use privsep::doorbell::{MAX_SCREEN, ToAttendant};
use tokio::sync::{mpsc, oneshot};

use crate::exchange::{ScreenFrame, Taken};

/// A wish to look on.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) most_per_second: u32,
    pub(super) frames: mpsc::Sender<ScreenFrame>,
}

/// What an attendant of ours never sends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lie {
    #[error("a frame without its memory file")]
    NoFile,
    #[error("a frame's memory file is not to be used: {0}")]
    Unusable(#[from] sys::memfd::Error),
    #[error("an empty frame")]
    Empty,
    #[error("more frames than were asked for")]
    TooMany,
}

/// A view that is wanted.
#[derive(Debug)]
pub(super) struct Watched {
    wish: Wish,
    under_way: Option<UnderWay>,
    /// Sent when it was not due: a request for a whole picture had crossed the frame before.
    next: Option<(File, u64)>,
}

#[derive(Debug)]
struct UnderWay {
    taken: oneshot::Receiver<Taken>,
    /// Its attendant waits for [`ToAttendant::Shown`].
    owed: bool,
}

impl Watched {
    pub(super) fn new(wish: Wish) -> Self {
        Self {
            wish,
            under_way: None,
            next: None,
        }
    }

    /// To an attendant that does not know of it, or that is to begin anew.
    pub(super) fn ask(&self) -> ToAttendant {
        ToAttendant::Watch {
            most_per_second: self.wish.most_per_second,
        }
    }

    /// Another attendant listens now: it owes no frame and waits for no word on one.
    pub(super) fn another_attendant(&mut self) {
        self.next = None;
        if let Some(under_way) = &mut self.under_way {
            under_way.owed = false;
        }
    }

    /// Takes the place of the view before, to the same attendant; what is to be said to it. A frame of
    /// the view before counts as passed on: its attendant would wait for ever.
    pub(super) fn replace(&self, before: Option<&Self>) -> Vec<ToAttendant> {
        let owed = before
            .and_then(|before| before.under_way.as_ref())
            .is_some_and(|frame| frame.owed);
        let shown = owed.then_some(ToAttendant::Shown);
        [self.ask()].into_iter().chain(shown).collect()
    }

    /// Takes a frame.
    pub(super) fn show(&mut self, file: Option<OwnedFd>) -> Result<(), Lie> {
        let file = file.ok_or(Lie::NoFile)?;
        let length = sys::memfd::check_sealed(file.as_fd(), MAX_SCREEN)? as u64;
        if length == 0 {
            return Err(Lie::Empty);
        }
        match (&self.under_way, &self.next) {
            (None, _) => self.pass(File::from(file), length),
            (Some(_), None) => self.next = Some((File::from(file), length)),
            (Some(_), Some(_)) => return Err(Lie::TooMany),
        }
        Ok(())
    }

    fn pass(&mut self, bytes: File, length: u64) {
        let (taken, told) = oneshot::channel();
        let frame = ScreenFrame {
            bytes,
            length,
            taken,
        };
        // There is room: the one before was taken. Closed, the turn that follows says so.
        let _ = self.wish.frames.try_send(frame);
        self.under_way = Some(UnderWay {
            taken: told,
            owed: true,
        });
    }

    /// The frame under way was taken; what is to be said then.
    fn taken(&mut self, taken: Taken) -> Vec<ToAttendant> {
        let owed = self.under_way.take().is_some_and(|before| before.owed);
        if let Some((file, length)) = self.next.take() {
            self.pass(file, length);
        }
        let anew = (taken == Taken::Anew).then(|| self.ask());
        let shown = owed.then_some(ToAttendant::Shown);
        // In this order: what comes next is whole already.
        anew.into_iter().chain(shown).collect()
    }

    async fn word(&mut self) -> Option<Taken> {
        let Some(under_way) = &mut self.under_way else {
            self.wish.frames.closed().await;
            return None;
        };
        tokio::select! {
            // Its receiver is gone: the view is, or is about to be.
            taken = &mut under_way.taken => taken.ok(),
            () = self.wish.frames.closed() => None,
        }
    }
}

/// Waits for a reason to speak, and what to say then. Cancel safe: nothing is lost before it returns.
pub(super) async fn turn(watched: &mut Option<Watched>) -> Vec<ToAttendant> {
    let Some(view) = watched else {
        return std::future::pending().await;
    };
    match view.word().await {
        Some(taken) => view.taken(taken),
        None => {
            *watched = None;
            vec![ToAttendant::Unwatch]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Option<OwnedFd> {
        Some(sys::memfd::sealed(c"frame", bytes).unwrap())
    }

    fn watched() -> (Option<Watched>, mpsc::Receiver<ScreenFrame>) {
        let (frames, shown) = mpsc::channel(1);
        let wish = Wish {
            most_per_second: 2,
            frames,
        };
        (Some(Watched::new(wish)), shown)
    }

    const ASK: ToAttendant = ToAttendant::Watch { most_per_second: 2 };

    #[tokio::test]
    async fn a_frame_is_shown_only_when_it_was_taken() {
        let (mut view, mut shown) = watched();
        view.as_mut().unwrap().show(frame(b"one")).unwrap();
        let one = shown.recv().await.unwrap();
        tokio::select! {
            biased;
            said = turn(&mut view) => panic!("said before it was taken: {said:?}"),
            () = std::future::ready(()) => {}
        }
        one.taken.send(Taken::Next).unwrap();
        assert_eq!(turn(&mut view).await, [ToAttendant::Shown]);
        view.as_mut().unwrap().show(frame(b"two")).unwrap();
        shown.recv().await.unwrap().taken.send(Taken::Anew).unwrap();
        assert_eq!(turn(&mut view).await, [ASK, ToAttendant::Shown]);
    }

    #[tokio::test]
    async fn who_takes_no_frames_any_more_is_said_once() {
        let (mut view, shown) = watched();
        view.as_mut().unwrap().show(frame(b"one")).unwrap();
        drop(shown);
        assert_eq!(turn(&mut view).await, [ToAttendant::Unwatch]);
        assert!(view.is_none());
    }

    #[tokio::test]
    async fn what_is_no_sealed_frame_or_one_too_many_is_a_lie() {
        let (view, _shown) = watched();
        let mut view = view.unwrap();
        assert!(matches!(view.show(None), Err(Lie::NoFile)));
        assert!(matches!(view.show(frame(b"")), Err(Lie::Empty)));
        let open = tempfile::tempfile().unwrap();
        let unusable = view.show(Some(open.into()));
        assert!(matches!(unusable, Err(Lie::Unusable(_))));
        view.show(frame(b"one")).unwrap();
        view.show(frame(b"two")).unwrap();
        assert!(matches!(view.show(frame(b"three")), Err(Lie::TooMany)));
    }

    #[tokio::test]
    async fn a_view_that_takes_the_place_of_another_frees_its_frame() {
        let (mut before, _shown) = watched();
        let (after, _) = watched();
        let (before, after) = (before.as_mut().unwrap(), after.unwrap());
        assert_eq!(after.replace(None), [ASK]);
        assert_eq!(after.replace(Some(before)), [ASK]);
        before.show(frame(b"one")).unwrap();
        assert_eq!(after.replace(Some(before)), [ASK, ToAttendant::Shown]);
    }

    #[tokio::test]
    async fn another_attendant_is_not_told_of_a_frame_that_it_never_sent() {
        let (mut view, mut shown) = watched();
        view.as_mut().unwrap().show(frame(b"old")).unwrap();
        let old = shown.recv().await.unwrap();
        let now = view.as_mut().unwrap();
        now.another_attendant();
        now.show(frame(b"new")).unwrap();
        old.taken.send(Taken::Next).unwrap();
        assert_eq!(turn(&mut view).await, []);
        shown.recv().await.unwrap().taken.send(Taken::Next).unwrap();
        assert_eq!(turn(&mut view).await, [ToAttendant::Shown]);
    }
}
