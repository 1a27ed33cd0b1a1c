//! The life of one worker's listeners: accept, look after what was accepted, cut what is left.

use crate::drain::Phase;
use crate::listener::accept;
use crate::listener::slot::Socket;
use crate::worker::Worker;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long a worker waits for what it cut at the end of the drain.
const CUT_TIME: Duration = Duration::from_secs(1);

/// How often it looks meanwhile.
const CUT_STEP: Duration = Duration::from_millis(5);

/// Serve the sockets that are given to this worker until the drain has ended. Returns how many
/// connections were cut.
pub async fn run(worker: Rc<Worker>, mut sockets: UnboundedReceiver<Socket>) -> usize {
    let mut phase = worker.process.drain.subscribe();
    let mut tick = pin!(tokio::time::sleep(worker.tick_interval()));
    while *phase.borrow_and_update() != Phase::Ended {
        tokio::select! {
            // Connections of HTTP/2 tell their clients of a drain before the next answer.
            changed = phase.changed() => match changed {
                Ok(()) => worker.wake_connections(),
                Err(_nobody_drains) => break,
            },
            // Where the configuration is fixed, nobody is there to give another.
            Some(socket) = sockets.recv() => accept_from(&worker, socket),
            () = &mut tick => {
                worker.tick();
                tick.set(tokio::time::sleep(worker.tick_interval()));
            }
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

fn accept_from(worker: &Rc<Worker>, socket: Socket) {
    let Socket { slot, socket } = socket;
    match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => {
            let accepting = accept::run(Rc::clone(worker), slot, socket);
            tokio::task::spawn_local(accepting);
        }
        Err(error) => {
            tracing::error!(listener = %slot.listener().name, %error, "cannot accept");
        }
    }
}
