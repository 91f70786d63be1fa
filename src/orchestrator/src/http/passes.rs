//! Who may read the pages. In memory only: a restart asks everybody for a token anew.
//!
//! A token from `job watch` works once, soon, and for the pages of its job; the one that the server
//! prints at its start works for all, for as long as the server runs. Either is answered with a cookie of
//! its own: the address of `job watch` in a browser's history or in a terminal opens nothing any more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use order::JobId;
use sha2::{Digest as _, Sha256};

use crate::refused::Refused;

/// From the making of a token to its use.
const TOKEN_TTL: Duration = Duration::from_secs(10 * 60);
/// From the use of a token to the next one.
const COOKIE_TTL: Duration = Duration::from_secs(12 * 3600);
/// Tokens and cookies each; beyond that the oldest goes.
const MOST: usize = 256;

/// What its holder may do, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) by: String,
    /// The pages of this job; all pages when absent.
    pub(crate) job: Option<JobId>,
}

/// Kept by digest: looking one up takes no longer for a guess that is nearly right.
type Proof = [u8; 32];

#[derive(Default)]
struct Held {
    start: Option<Proof>,
    tokens: HashMap<Proof, (Instant, Pass)>,
    cookies: HashMap<Proof, (Instant, Pass)>,
}

/// All passes of this server.
#[derive(Default)]
pub(crate) struct Passes(Mutex<Held>);

fn proof(secret: &str) -> Proof {
    Sha256::digest(secret.as_bytes()).into()
}

fn secret() -> Result<String, Refused> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)
        .map_err(|error| Refused::unavailable("RANDOM_FAILED", error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Makes room for one more.
fn thin(held: &mut HashMap<Proof, (Instant, Pass)>, ttl: Duration) {
    held.retain(|_, (since, _)| since.elapsed() < ttl);
    let oldest = held.iter().min_by_key(|(_, (since, _))| *since);
    if let Some(oldest) = oldest.map(|(proof, _)| *proof)
        && held.len() >= MOST
    {
        held.remove(&oldest);
    }
}

impl Passes {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token that is printed at the start.
    pub(super) fn start(&self) -> Result<String, Refused> {
        let token = secret()?;
        self.lock().start = Some(proof(&token));
        Ok(token)
    }

    /// A token that works once.
    pub(crate) fn once(&self, pass: Pass) -> Result<String, Refused> {
        let token = secret()?;
        let mut held = self.lock();
        thin(&mut held.tokens, TOKEN_TTL);
        held.tokens.insert(proof(&token), (Instant::now(), pass));
        Ok(token)
    }

    /// Takes a token for a cookie.
    pub(super) fn exchange(&self, token: &str) -> Option<String> {
        let cookie = secret().ok()?;
        let mut held = self.lock();
        let pass = match held.start == Some(proof(token)) {
            true => everything(),
            false => {
                let (since, pass) = held.tokens.remove(&proof(token))?;
                (since.elapsed() < TOKEN_TTL).then_some(pass)?
            }
        };
        thin(&mut held.cookies, COOKIE_TTL);
        held.cookies.insert(proof(&cookie), (Instant::now(), pass));
        Some(cookie)
    }

    /// What a cookie, or the token of the start, entitles to.
    pub(super) fn holder(&self, shown: &str) -> Option<Pass> {
        let held = self.lock();
        if held.start == Some(proof(shown)) {
            return Some(everything());
        }
        let (since, pass) = held.cookies.get(&proof(shown))?;
        (since.elapsed() < COOKIE_TTL).then(|| pass.clone())
    }
}

fn everything() -> Pass {
    Pass {
        by: "page".to_owned(),
        job: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_job() -> Pass {
        Pass {
            by: "root".to_owned(),
            job: Some(JobId::new()),
        }
    }

    #[test]
    fn a_token_works_once_and_its_cookie_for_what_it_was_made_for() {
        let (passes, pass) = (Passes::default(), of_job());
        let token = passes.once(pass.clone()).unwrap();
        assert_eq!(passes.holder(&token), None, "a token is no cookie");
        let cookie = passes.exchange(&token).unwrap();
        assert_eq!(passes.holder(&cookie), Some(pass));
        assert_eq!(passes.exchange(&token), None, "it was used");
        assert_eq!(passes.exchange(&cookie), None, "a cookie is no token");
        for guess in ["", "x", &cookie[1..]] {
            assert_eq!(passes.holder(guess), None);
            assert_eq!(passes.exchange(guess), None);
        }
    }

    #[test]
    fn the_token_of_the_start_opens_everything_and_stays() {
        let passes = Passes::default();
        let token = passes.start().unwrap();
        assert_eq!(passes.holder(&token), Some(everything()));
        for _ in 0..2 {
            let cookie = passes.exchange(&token).unwrap();
            assert_eq!(passes.holder(&cookie), Some(everything()));
        }
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let passes = Passes::default();
        let first = passes.once(of_job()).unwrap();
        let second = passes.once(of_job()).unwrap();
        for _ in 0..MOST - 1 {
            passes.once(of_job()).unwrap();
        }
        assert!(passes.lock().tokens.len() <= MOST);
        assert_eq!(passes.exchange(&first), None);
        assert!(passes.exchange(&second).is_some());
    }
}
