//! The life of one worker's listeners: accept, look after what was accepted, cut what is left.

use crate::drain::Phase;
use crate::listener::accept;
use crate::snapshot::Listener;
use crate::worker::Worker;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long a worker waits for what it cut at the end of the drain.
const CUT_TIME: Duration = Duration::from_secs(1);

/// How often it looks meanwhile.
const CUT_STEP: Duration = Duration::from_millis(5);

/// Serve these sockets until the drain has ended. Returns how many connections were cut.
pub async fn run(worker: Rc<Worker>, sockets: Vec<(Arc<Listener>, TcpListener)>) -> usize {
    for (listener, socket) in sockets {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                let accepting = accept::run(Rc::clone(&worker), listener, socket);
                tokio::task::spawn_local(accepting);
            }
            Err(error) => tracing::error!(listener = %listener.name, %error, "cannot accept"),
        }
    }
    let mut phase = worker.process.drain.subscribe();
    while *phase.borrow_and_update() != Phase::Ended {
        tokio::select! {
            // Connections of HTTP/2 tell their clients of a drain before the next answer.
            changed = phase.changed() => match changed {
                Ok(()) => worker.wake_connections(),
                Err(_nobody_drains) => break,
            },
            () = tokio::time::sleep(worker.tick_interval()) => worker.tick(),
        }
    }
    let cut = worker.kick_all();
    let gone = async {
        while worker.has_connections() {
            tokio::time::sleep(CUT_STEP).await;
        }
    };
    // What does not end by then ends with the runtime.
    let _late = tokio::time::timeout(CUT_TIME, gone).await;
    worker.log.flush();
    cut
}
