//! Who looks on at which job, and which agent is asked to show it.
//!
//! The first watcher of a job asks its agent, the last one that leaves ends the agent's call; what
//! follows from anything else (an agent that comes back, a job that ends) is found by looking again.

use std::collections::BTreeMap;
use std::sync::Arc;

use order::{AgentId, AttemptRef, Display, JobId};
use serde_json::json;
use tokio::sync::watch;
use wire::v1;

use super::feeds::Feed;
use super::job::State;
use super::session::{Body, duration, job_ref};
use super::{Core, millis};
use crate::config;
use crate::events::{self, Event};
use crate::refused::{Kind, Refused};
use crate::view::{Screen, Standing, Watcher};

/// Pictures a second that can be asked for.
const PER_SECOND: std::ops::RangeInclusive<u32> = 1..=10;

/// A job that somebody looks on at.
pub(super) struct View {
    pub(super) attempt: AttemptRef,
    pub(super) agent: AgentId,
    pub(super) display: Display,
    pub(super) screen: Arc<watch::Sender<Screen>>,
    watchers: BTreeMap<u64, Watcher>,
    pub(super) asked: Option<Asked>,
    pub(super) feed: Option<Feed>,
}

/// What the agent was asked last.
pub(super) struct Asked {
    pub(super) command: String,
    epoch: u64,
    most_per_second: u32,
    pub(super) again_at: u64,
}

/// A watcher's place.
pub(crate) struct Place {
    pub(crate) watcher: u64,
    pub(crate) screen: watch::Receiver<Screen>,
}

impl View {
    fn most_per_second(&self) -> u32 {
        let wanted = self.watchers.values().map(|who| who.most_per_second);
        wanted.max().unwrap_or(1)
    }

    pub(super) fn stand(&self, standing: Standing) {
        self.screen.send_if_modified(|screen| {
            let news = screen.standing != standing;
            screen.standing = standing;
            news
        });
    }
}

impl Core {
    /// Lets somebody look on at a running job. Without the event on record nobody does.
    pub(crate) fn look_on(&mut self, id: JobId, who: Watcher) -> Result<Place, Refused> {
        if !PER_SECOND.contains(&who.most_per_second) {
            let text = "1 to 10 pictures a second can be asked for";
            return Err(Refused::invalid("RATE_INVALID", text));
        }
        self.check_watchers(id)?;
        let (attempt, agent, display) = self.watchable(id)?;
        let text = format!("{} looks on at the screen of {attempt}", who.by);
        self.put_watch_event(events::WATCH_BEGAN, attempt, &who, text)?;
        self.watchers += 1;
        let watcher = self.watchers;
        let view = self.views.entry(id).or_insert_with(|| View {
            attempt,
            agent,
            display,
            screen: Arc::new(watch::Sender::new(Screen::new())),
            watchers: BTreeMap::new(),
            asked: None,
            feed: None,
        });
        view.watchers.insert(watcher, who);
        Ok(Place {
            watcher,
            screen: view.screen.subscribe(),
        })
    }

    fn check_watchers(&self, id: JobId) -> Result<(), Refused> {
        let watchers: usize = self.views.values().map(|view| view.watchers.len()).sum();
        let another = !self.views.contains_key(&id) && self.views.len() >= config::MAX_VIEWS;
        if watchers < config::MAX_WATCHERS && !another {
            return Ok(());
        }
        let text = format!(
            "{} people can look on at {} jobs at the same time",
            config::MAX_WATCHERS,
            config::MAX_VIEWS
        );
        Err(Refused::new(Kind::Exhausted, "TOO_MANY_WATCHERS", text))
    }

    fn watchable(&self, id: JobId) -> Result<(AttemptRef, AgentId, Display), Refused> {
        let job = self.jobs.get(&id);
        let job = job.filter(|job| job.progress.state == State::Started);
        let running = job.and_then(|job| Some((job, job.progress.agent?)));
        let (job, agent) = running
            .ok_or_else(|| Refused::state("JOB_NOT_RUNNING", format!("job {id} is not running")))?;
        let display = job
            .spec
            .display
            .ok_or_else(|| Refused::state("NO_DISPLAY", format!("job {id} has no display")))?;
        match job.spec.screenshots.live_view {
            true => Ok((job.attempt(), agent, display)),
            false => Err(Refused::state(
                "LIVE_VIEW_OFF",
                format!("job {id} was submitted with --no-live-view"),
            )),
        }
    }

    fn put_watch_event(
        &self,
        code: ::events::Code,
        attempt: AttemptRef,
        who: &Watcher,
        text: String,
    ) -> Result<(), Refused> {
        let event = Event::own(code, self.now(), text)
            .job(attempt.job)
            .user(&who.by)
            .data(json!({"attempt": attempt.number}));
        Ok(self.store.put_event(&event)?)
    }

    /// A watcher has left; the last one ends the view.
    pub(crate) fn look_away(&mut self, id: JobId, watcher: u64) {
        let Some(view) = self.views.get_mut(&id) else {
            return;
        };
        let (attempt, left) = (view.attempt, view.watchers.remove(&watcher));
        if view.watchers.is_empty() {
            self.views.remove(&id);
        }
        if let Some(who) = left {
            self.note_watch_ended(attempt, &who);
        }
    }

    fn note_watch_ended(&self, attempt: AttemptRef, who: &Watcher) {
        let text = format!("{} looks on at the screen of {attempt} no more", who.by);
        let noted = self.put_watch_event(events::WATCH_ENDED, attempt, who, text);
        super::log_failure("the end of a watch could not be stored", noted);
    }

    /// What follows for views from whatever just happened, or from time alone.
    pub(super) fn settle_views(&mut self) {
        let watched: Vec<JobId> = self.views.keys().copied().collect();
        for id in watched {
            let running = self.jobs.get(&id).is_some_and(|job| {
                job.progress.state == State::Started
                    && self.views.get(&id).is_some_and(|view| {
                        job.attempt() == view.attempt && job.progress.agent == Some(view.agent)
                    })
            });
            match running {
                true => self.settle_view(id),
                false => self.close_view(
                    id,
                    Refused::state("JOB_NOT_RUNNING", format!("job {id} runs no more")),
                ),
            }
        }
    }

    /// Ends a view for all who look on.
    pub(super) fn close_view(&mut self, id: JobId, why: Refused) {
        let Some(view) = self.views.remove(&id) else {
            return;
        };
        view.stand(Standing::Over(why));
        for who in view.watchers.values() {
            self.note_watch_ended(view.attempt, who);
        }
    }

    fn settle_view(&mut self, id: JobId) {
        let now = self.clock.boot_ms();
        let Some(view) = self.views.get_mut(&id) else {
            return;
        };
        let epoch = self.online.get(&view.agent).map(|online| online.epoch);
        // A call of a session that is over gets nowhere.
        view.feed = view.feed.take().filter(|feed| Some(feed.epoch) == epoch);
        let Some(epoch) = epoch else {
            view.asked = None;
            return view.stand(Standing::Away);
        };
        let most_per_second = view.most_per_second();
        let answered = view.asked.as_ref().is_some_and(|asked| {
            asked.epoch == epoch
                && asked.most_per_second >= most_per_second
                && (view.feed.is_some() || now < asked.again_at)
        });
        if answered {
            return;
        }
        if view.feed.is_none() && view.asked.is_none() {
            view.stand(Standing::Asked);
        }
        let (command, message) = watch_command(view, most_per_second);
        view.asked = Some(Asked {
            command,
            epoch,
            most_per_second,
            again_at: now + millis(config::VIEW_ASK_AGAIN),
        });
        let agent = view.agent;
        self.send(agent, message);
    }
}

fn watch_command(view: &View, most_per_second: u32) -> (String, Body) {
    let command_id = uuid::Uuid::now_v7().to_string();
    let names = view.watchers.values().next().map(|who| who.by.clone());
    let command = v1::Command {
        command_id: command_id.clone(),
        valid_for: Some(duration(config::ANSWER_WITHIN)),
        requested_by: names.unwrap_or_default(),
        body: Some(v1::command::Body::WatchScreen(v1::WatchScreen {
            job: Some(job_ref(view.attempt)),
            most_per_second,
        })),
    };
    (command_id, Body::Command(command))
}
