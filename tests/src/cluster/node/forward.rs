//! A port of the machine's loopback that leads to the API server inside the node's namespace, so
//! that `kubectl` works in any shell and no address of the machine is touched.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::Context;

use super::{API, NODE_ADDRESS};
use crate::net::Namespace;

/// Serves until the process ends.
pub(super) fn serve(listener: &TcpListener, node: &Namespace) {
    for accepted in listener.incoming() {
        let Ok(outside) = accepted else { continue };
        let node = node.clone();
        thread::spawn(move || {
            // Dropped without an answer if the API server does not listen: to the client it is
            // the same as a server that is not up yet.
            let inside =
                node.run(|| TcpStream::connect((NODE_ADDRESS, API)).context("dialling the API"));
            if let Ok(inside) = inside {
                join(outside, inside);
            }
        });
    }
}

fn join(outside: TcpStream, inside: TcpStream) {
    let (outside, inside) = (Arc::new(outside), Arc::new(inside));
    let other_way = {
        let (outside, inside) = (Arc::clone(&outside), Arc::clone(&inside));
        thread::spawn(move || copy(&inside, &outside))
    };
    copy(&outside, &inside);
    other_way.join().ok();
}

/// Copies one direction to its end. An error is the end of both.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let ended = io::copy(&mut from, &mut to);
    let how = if ended.is_ok() {
        Shutdown::Write
    } else {
        Shutdown::Both
    };
    to.shutdown(how).ok();
    if ended.is_err() {
        from.shutdown(Shutdown::Both).ok();
    }
}
