//! What would make the loop wait goes to a thread: taking packages in, and D-Bus. One job after
//! the other each; the answers come back over a channel and an event descriptor.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use order::AttemptRef;
use privsep::Refusal;
use privsep::admin::Remain;
use privsep::session::Resources;
use sys::fdpass::Seqpacket;
use sys::poll::Event;
use sys::process::Identity;

use crate::bus::{Bus, Seen};
use crate::remains::Places;
use crate::store::{Ready, Store, Wanted};
use crate::tidying::Kept;

/// A job for a worker. Their number is bounded by the number of slots: each is about one, or about all.
pub(crate) enum Job {
    /// Take a package in, or check the one in the store.
    TakeIn {
        store: Box<Store>,
        wanted: Wanted,
        archive: Option<OwnedFd>,
    },
    /// Count what is still there of jobs and tell who asked.
    CountRemains {
        socket: Seqpacket,
        known: Vec<Remain>,
        places: Places,
    },
    /// Look through the store.
    Survey { store: Box<Store> },
    /// Remove a directory that is root's by now.
    Remove { path: PathBuf },
    /// Start a unit.
    StartUnit { unit: String, about: Unit },
    /// Kill the units of sessions that are none of these.
    KillStrays { known: Vec<String> },
    /// Have systemd bound what an account's processes may use together.
    BoundUser {
        attempt: AttemptRef,
        uid: u32,
        wanted: Box<Resources>,
    },
    /// Have logind and systemd close an account's user and prove it.
    CloseUser {
        uid: u32,
        account: String,
        /// Nothing is ended while somebody is logged in through another PAM service than this.
        unless_in_use: Option<String>,
        number: u64,
    },
}

/// What a unit is started for.
#[derive(Clone, Debug)]
pub(crate) enum Unit {
    /// The session of an attempt, for the account of this uid.
    Session(AttemptRef, u32),
    /// The teardown of an account's slot.
    Teardown(String),
    /// Finding out what the host can do.
    Probe,
}

/// What a worker brought.
pub(crate) enum Done {
    TakenIn {
        attempt: AttemptRef,
        taken: Result<Ready, Refusal>,
    },
    /// Somebody was answered.
    Told,
    Surveyed {
        outcome: Result<Vec<Kept>, sys::beneath::Error>,
    },
    Removed {
        path: PathBuf,
        outcome: Result<(), sys::beneath::Error>,
    },
    UnitStarted {
        about: Unit,
        outcome: Result<(), Refusal>,
    },
    UserBound {
        attempt: AttemptRef,
        outcome: Result<(), Refusal>,
    },
    UserClosed {
        account: String,
        number: u64,
        leftovers: Vec<String>,
    },
    StraysKilled {
        outcome: Result<Vec<String>, String>,
    },
    /// Who logs in and out on this host.
    Seen(Seen),
}

/// The workers.
pub(crate) struct Workers {
    packages: Sender<Job>,
    units: Sender<Job>,
    give_back: Sender<Done>,
    done: Receiver<Done>,
    bell: Arc<Event>,
}

impl Workers {
    /// Starts the threads. They end with the process.
    pub(crate) fn start() -> Result<Self, sys::poll::Error> {
        let bell = Arc::new(Event::new()?);
        let (give_back, done) = channel();
        let packages = worker(give_back.clone(), Arc::clone(&bell));
        let units = worker(give_back.clone(), Arc::clone(&bell));
        Ok(Self {
            packages,
            units,
            give_back,
            done,
            bell,
        })
    }

    /// Hands a job over.
    pub(crate) fn give(&self, job: Job) {
        let to = match job {
            Job::TakeIn { .. } | Job::Remove { .. } | Job::Survey { .. } => &self.packages,
            // In one line with the teardowns: none overtakes a bound that is still being set.
            Job::StartUnit { .. } | Job::BoundUser { .. } | Job::KillStrays { .. } => &self.units,
            // A user whose units hang must not hold up its neighbours: a thread each, one per slot.
            Job::CloseUser { .. } | Job::CountRemains { .. } => {
                &worker(self.give_back.clone(), Arc::clone(&self.bell))
            }
        };
        // A worker ends only with the process (panic = abort).
        let _ = to.send(job);
    }

    /// Watches who logs in, in a thread of its own.
    pub(crate) fn watch_people(&self) {
        let (give_back, bell) = (self.give_back.clone(), Arc::clone(&self.bell));
        std::thread::spawn(move || {
            crate::bus::watch(|seen| {
                give_back.send(Done::Seen(seen)).is_ok() && bell.raise().is_ok()
            });
        });
    }

    /// Watches who takes the rights of others, in a thread of its own.
    pub(crate) fn watch_privileges(&self, reader: Identity) {
        let (give_back, bell) = (self.give_back.clone(), Arc::clone(&self.bell));
        std::thread::spawn(move || {
            crate::privileges::watch(&reader, |seen| {
                give_back.send(Done::Seen(seen)).is_ok() && bell.raise().is_ok()
            });
        });
    }

    /// Readable when something is done.
    pub(crate) fn bell(&self) -> &Event {
        &self.bell
    }

    /// Everything that is done by now.
    pub(crate) fn take(&self) -> Vec<Done> {
        let _ = self.bell.take();
        self.done.try_iter().collect()
    }
}

fn worker(give_back: Sender<Done>, bell: Arc<Event>) -> Sender<Job> {
    let (give, jobs) = channel::<Job>();
    let jobs = Mutex::new(jobs);
    std::thread::spawn(move || {
        let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bus = Bus::default();
        for job in jobs.iter() {
            if give_back.send(carry_out(job, &mut bus)).is_err() || bell.raise().is_err() {
                return;
            }
        }
    });
    give
}

fn carry_out(job: Job, bus: &mut Bus) -> Done {
    match job {
        Job::TakeIn {
            store,
            wanted,
            archive,
        } => {
            let attempt = wanted.attempt;
            let taken = match archive {
                Some(archive) => store.take_in(&wanted, archive),
                None => store.open(&wanted),
            };
            Done::TakenIn { attempt, taken }
        }
        Job::CountRemains {
            socket,
            known,
            places,
        } => {
            crate::remains::answer(&socket, known, &places);
            Done::Told
        }
        Job::Survey { store } => Done::Surveyed {
            outcome: store.survey(),
        },
        Job::Remove { path } => {
            let outcome = sys::beneath::remove_tree(&path).map(drop);
            Done::Removed { path, outcome }
        }
        Job::StartUnit { unit, about } => {
            let outcome = match about {
                Unit::Session(_, uid) => bus.start_session(&unit, uid),
                Unit::Teardown(_) | Unit::Probe => bus.start_unit(&unit, true),
            };
            Done::UnitStarted { about, outcome }
        }
        Job::KillStrays { known } => Done::StraysKilled {
            outcome: bus.kill_strays(&known),
        },
        Job::BoundUser {
            attempt,
            uid,
            wanted,
        } => Done::UserBound {
            attempt,
            outcome: bus.bound_user(uid, &wanted),
        },
        Job::CloseUser {
            uid,
            account,
            unless_in_use,
            number,
        } => Done::UserClosed {
            account,
            number,
            leftovers: bus.close_user(uid, unless_in_use.as_deref()),
        },
    }
}
