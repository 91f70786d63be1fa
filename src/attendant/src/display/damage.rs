//! Being told when something was drawn (extension DAMAGE), so that nothing is captured while
//! nothing changes. What was drawn is not asked for: a scrolling terminal damages far more than
//! it changes, and comparing is cheap.

use super::client::Client;
use super::requests::Extension;
use super::wire::DisplayError;

const QUERY_VERSION: u8 = 0;
const CREATE: u8 = 1;
const DESTROY: u8 = 2;
const SUBTRACT: u8 = 3;

/// One event when the damage becomes more than none.
const NON_EMPTY: [u8; 4] = [3, 0, 0, 0];

/// Errors have it, events never.
const NO_EVENT: u8 = 0;

/// The damage of the whole screen.
#[derive(Debug)]
pub(super) struct Damage {
    opcode: u8,
    event: u8,
    id: u32,
}

impl Damage {
    /// Begins to be told; none where the server lacks the extension.
    pub(super) fn begin(client: &mut Client) -> Result<Option<Self>, DisplayError> {
        let Some(Extension {
            opcode,
            first_event,
        }) = client.extension("DAMAGE")?
        else {
            return Ok(None);
        };
        // Without it the server refuses all others.
        let asked = client.post(&[opcode, QUERY_VERSION], &[1, 0, 0, 0, 1, 0, 0, 0])?;
        client.reply(asked, 0)?;
        let id = client.new_id();
        let root = client.screen().root;
        let body = [&id.to_le_bytes()[..], &root.to_le_bytes(), &NON_EMPTY].concat();
        let created = client.post(&[opcode, CREATE], &body)?;
        let event = first_event & 0x7f;
        client.heed(event, created);
        client.send_ahead()?;
        Ok(Some(Self { opcode, event, id }))
    }

    /// What was drawn so far is about to be captured. What is drawn after this and before the
    /// picture is told all the same: what comes later would bring no second event.
    pub(super) fn subtract(&self, client: &mut Client) -> Result<(), DisplayError> {
        let body = [&self.id.to_le_bytes()[..], &[0; 8]].concat();
        let subtracted = client.post(&[self.opcode, SUBTRACT], &body)?;
        client.heed(self.event, subtracted);
        Ok(())
    }

    /// No more events.
    pub(super) fn end(self, client: &mut Client) -> Result<(), DisplayError> {
        let destroyed = client.post(&[self.opcode, DESTROY], &self.id.to_le_bytes())?;
        client.heed(NO_EVENT, destroyed);
        client.send_ahead()
    }
}
