//! The TCP echo server.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use anyhow::Result;

use super::{Connection, Server};
use crate::net::Pod;

/// Which side of a TCP connection says something first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// The client, as in HTTP.
    ClientFirst,
    /// The server, as in SMTP and MySQL.
    ServerFirst,
}

impl Pod {
    /// Starts a server that greets each connection with a line that tells what it saw (a
    /// [`super::Sighting`]), then echoes what it gets until the client has said all.
    ///
    /// # Errors
    /// The port is taken.
    pub fn echo(&self, name: &str, port: u16) -> Result<Server> {
        self.echo_that_speaks(Speaks::ServerFirst, name, port)
    }

    /// As [`Pod::echo`]; if the client speaks first, the line is sent once its first bytes are
    /// here.
    ///
    /// # Errors
    /// The port is taken.
    pub fn echo_that_speaks(&self, speaks: Speaks, name: &str, port: u16) -> Result<Server> {
        self.tcp_server(name, port, move |connection| echo(speaks, connection))
    }
}

fn echo(speaks: Speaks, connection: &Connection) -> io::Result<()> {
    let mut stream = &*connection.stream;
    let greeting = format!("{}\n", connection.sighting);
    let mut buffer = vec![0; 64 * 1024];
    if speaks == Speaks::ServerFirst {
        stream.write_all(greeting.as_bytes())?;
    }
    let mut greeted = speaks == Speaks::ServerFirst;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        if !greeted {
            stream.write_all(greeting.as_bytes())?;
            greeted = true;
        }
        stream.write_all(&buffer[..count])?;
    }
}
