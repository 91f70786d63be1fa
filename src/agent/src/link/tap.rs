//! Hears what TLS says before HTTP/2 swallows it.
//!
//! A server that refuses our certificate says so in an alert and closes. The call that fails then
//! often carries no more than "connection closed" or a broken pipe, because writing failed before
//! the alert was read. What is here sits between the two, keeps the reason, and reads what is
//! left when writing fails.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::failure::Failure;

/// What TLS said, if anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Tap(Arc<Mutex<Option<Failure>>>);

impl Tap {
    fn hear(&self, error: &io::Error) {
        let said = Failure::of_connect(error);
        if !said.passes() {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(said);
        }
    }

    /// The failure, or the better reason for it.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let said = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if failure.passes() {
            said.unwrap_or(failure)
        } else {
            failure
        }
    }
}

/// A stream that is listened to.
pub(super) struct Tapped<S> {
    stream: S,
    tap: Tap,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tapped<S> {
    pub(super) fn new(stream: S, tap: Tap) -> Self {
        Self { stream, tap }
    }

    /// After a failed write: an alert may be waiting to be read.
    fn hear_out(&mut self, context: &mut Context<'_>, error: &io::Error) {
        self.tap.hear(error);
        let mut scratch = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Err(error)) => return self.tap.hear(&error),
                Poll::Ready(Ok(())) | Poll::Pending => return,
            }
        }
    }

    fn wrote<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &outcome {
            self.hear_out(context, error);
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &outcome {
            self.tap.hear(error);
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.wrote(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
