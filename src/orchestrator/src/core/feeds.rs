//! The agents' side of live views: their answers, and the calls with which they show a screen.

use std::sync::Arc;

use order::{AgentId, AttemptRef};
use tokio::sync::{oneshot, watch};
use wire::v1;

use super::views::View;
use super::{Core, millis};
use crate::config;
use crate::events::{self, Event};
use crate::refused::Refused;
use crate::view::{Screen, Standing, most_bytes};

/// The agent's call. Dropping it ends the call.
pub(super) struct Feed {
    number: u64,
    pub(super) epoch: u64,
    _open: oneshot::Sender<()>,
}

/// What an agent's call writes to.
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) screen: Arc<watch::Sender<Screen>>,
    /// Largest frame.
    pub(crate) most_bytes: usize,
    /// Ends when the call is to end.
    pub(crate) wanted: oneshot::Receiver<()>,
}

impl Core {
    /// An agent's answer to a command.
    pub(super) fn view_answered(&mut self, agent: AgentId, result: &v1::CommandResult) {
        let asked = |view: &&View| {
            let command = view.asked.as_ref().map(|asked| asked.command.as_str());
            view.agent == agent && command == Some(result.command_id.as_str())
        };
        if let Some(view) = self.views.values().find(asked)
            && result.code != 0
        {
            // It is a code of ours or of nobody: the rest is not shown to anybody.
            let word = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
            let code: String = result.reason.chars().take(64).collect();
            let known = !code.is_empty() && code.bytes().all(word);
            let code = if known { code } else { "REFUSED".to_owned() };
            view.stand(Standing::Unable(code));
        }
    }

    /// An agent begins to show a job. Another call for the same job ends the one before.
    pub(crate) fn open_feed(
        &mut self,
        agent: AgentId,
        epoch: u64,
        attempt: AttemptRef,
    ) -> Result<Line, Refused> {
        let given = self.store.attempt(attempt)?;
        if given.is_none_or(|row| row.agent != agent) {
            let why = format!("agent {agent} wants to show {attempt}, which it was never given");
            let event = Event::own(events::REQUEST_REFUSED, self.now(), why.clone())
                .agent(agent)
                .entity("NOT_YOUR_ATTEMPT");
            self.record(event);
            return Err(Refused::denied("NOT_YOUR_ATTEMPT", why));
        }
        self.watchers += 1;
        let number = self.watchers;
        let view = self.views.get_mut(&attempt.job);
        let view = view.filter(|view| view.attempt == attempt && view.agent == agent);
        let view = view.ok_or_else(|| {
            Refused::state("NOBODY_WATCHES", format!("nobody looks on at {attempt}"))
        })?;
        let (open, wanted) = oneshot::channel();
        view.feed = Some(Feed {
            number,
            epoch,
            _open: open,
        });
        // Only what follows is shown as the present; the watchers keep what they have.
        view.screen.send_if_modified(|screen| {
            screen.begin();
            false
        });
        Ok(Line {
            number,
            screen: Arc::clone(&view.screen),
            most_bytes: most_bytes(view.display),
            wanted,
        })
    }

    /// A call has ended. One that broke a rule ends the view and is an event; after any other the
    /// agent is asked again while somebody looks on.
    pub(crate) fn feed_ended(&mut self, attempt: AttemptRef, number: u64, broken: Option<Refused>) {
        let now = self.clock.boot_ms();
        let view = self.views.get_mut(&attempt.job);
        let view = view.filter(|view| {
            let feed = view.feed.as_ref();
            view.attempt == attempt && feed.is_some_and(|feed| feed.number == number)
        });
        let Some(view) = view else {
            return;
        };
        view.feed = None;
        if let Some(asked) = &mut view.asked {
            asked.again_at = now + millis(config::VIEW_ASK_AGAIN);
        }
        match broken {
            Some(why) => self.close_view(attempt.job, why),
            None => view.stand(Standing::Asked),
        }
    }
}
