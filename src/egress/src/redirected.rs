//! Connections of programs that know nothing of all this: redirected by the rules of the job's
//! namespace, with the destination that they wanted.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::crossing::Border;
use crate::denials::Denied;
use crate::outside;

/// After an accept that failed: the kernel is short of something that others free.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves one listener for ever.
pub(crate) async fn serve(border: Arc<Border>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Not before: a listener that nobody connects to would keep the place of another's.
        let room = border.room().await;
        let border = Arc::clone(&border);
        tokio::spawn(async move {
            pass(&border, stream).await;
            drop(room);
        });
    }
}

async fn pass(border: &Border, inside: TcpStream) {
    let local = inside.local_addr();
    let wanted = local.map(|local| sys::net::original_destination(&inside, local));
    let redirected = wanted.ok().and_then(Result::ok);
    // No rule redirects what is for loopback.
    let Some(wanted) = redirected.filter(|wanted| !wanted.ip().is_loopback()) else {
        // Somebody connected to the listener itself: there is nothing behind it.
        let denied = Denied::new("ADDRESS_FORBIDDEN", "a connection to the egress's own port");
        border.deny("the egress itself", &denied);
        return outside::reset(inside);
    };
    let remembered = border.names.leading_to(wanted.ip()).await;
    match border.gate.by_address(wanted, &remembered) {
        Ok(name) => match border.connect(wanted).await {
            Ok(peer) => {
                outside::settle(&inside);
                let _ = inside.set_nodelay(true);
                border.carry(inside, peer, name, wanted).await;
            }
            // The bot's connection is open already: this is as close to "refused" as it gets.
            Err(_) => outside::reset(inside),
        },
        Err(denied) => {
            border.deny(&format!("tcp {wanted}"), &denied);
            outside::reset(inside);
        }
    }
}
