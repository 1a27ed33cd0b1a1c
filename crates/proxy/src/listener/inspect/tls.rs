//! The TLS inspector (`envoy.filters.listener.tls_inspector`): whether a connection begins with a
//! TLS ClientHello, and what that asks for.
//!
//! It reads the bytes that the listener has put into the connection's prefix buffer and leaves
//! them there; whoever terminates the connection reads them again (RFC 8446 §4.1.2, §5.1; RFC 6066
//! §3; RFC 7301 §3.1).

/// The most bytes that a ClientHello may have where nothing else is configured, as Envoy's.
pub const MAX_CLIENT_HELLO: usize = 16 * 1024;

/// Content type of a handshake record.
const HANDSHAKE: u8 = 22;
/// Type and length of a handshake message.
const HEADER: usize = 4;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// The most that a record may hold (RFC 8446 §5.1; TLS 1.2 ciphertexts may be longer, a first
/// record is plaintext).
const MAX_RECORD: usize = 1 << 14;
/// `server_name`.
const SERVER_NAME: u16 = 0;
/// `host_name` within `server_name`.
const HOST_NAME: u8 = 0;
/// `application_layer_protocol_negotiation`.
const ALPN: u16 = 16;

/// What a client asks for before anything is agreed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The name of the server it wants, in lower case; empty where it says none.
    pub server_name: Box<str>,
    /// The application protocols it offers, best first. Those that are no UTF-8 are left out: no
    /// configuration can name them.
    pub alpn: Vec<Box<str>>,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspection {
    /// These bytes could still become a ClientHello; ask again when there are more.
    NeedMore,
    /// A whole ClientHello.
    Tls(ClientHello),
    /// No TLS, whatever follows.
    NotTls,
    /// It begins as a ClientHello that is longer than it may be.
    TooLarge,
}

/// Inspect all bytes that a connection has sent so far.
///
/// The answer for a longer input is the same once it is not [`Inspection::NeedMore`], and a
/// connection that can no longer become TLS is told apart at the first byte that shows it.
pub fn inspect(received: &[u8], max_client_hello: usize) -> Inspection {
    match handshake_bytes(received, max_client_hello) {
        Err(found) => found,
        Ok(message) => match message.get(HEADER..wanted(&message)) {
            Some(body) if message.len() >= HEADER => {
                client_hello(Reader(body)).map_or(Inspection::NotTls, Inspection::Tls)
            }
            _ => Inspection::NeedMore,
        },
    }
}

/// The handshake bytes of the leading records, as far as they have come and are wanted.
fn handshake_bytes(received: &[u8], max_client_hello: usize) -> Result<Vec<u8>, Inspection> {
    let mut message = Vec::new();
    let mut rest = received;
    // A record may hold a single byte of the message.
    while !rest.is_empty() && wanted(&message) > message.len() {
        // As far as they are there, all bytes of the header must be those of a record.
        let begins = |at: usize, is: &dyn Fn(u8) -> bool| rest.get(at).is_none_or(|b| is(*b));
        if !begins(0, &|b| b == HANDSHAKE) || !begins(1, &|b| b == 3) || !begins(2, &|b| b <= 4) {
            return Err(Inspection::NotTls);
        }
        let Some(length) = rest.get(3..5) else { break };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length == 0 || length > MAX_RECORD {
            return Err(Inspection::NotTls);
        }
        message.extend_from_slice(&rest[5..rest.len().min(5 + length)]);
        rest = rest.get(5 + length..).unwrap_or_default();
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Inspection::NotTls);
        }
        if wanted(&message) > HEADER + max_client_hello {
            return Err(Inspection::TooLarge);
        }
    }
    Ok(message)
}

/// How many bytes the message of these first ones has.
fn wanted(message: &[u8]) -> usize {
    match message {
        [_, a, b, c, ..] => {
            let length = u32::from_be_bytes([0, *a, *b, *c]);
            HEADER + usize::try_from(length).unwrap_or(usize::MAX - HEADER)
        }
        _ => HEADER,
    }
}

fn client_hello(mut body: Reader<'_>) -> Option<ClientHello> {
    let _version = body.take(2)?;
    let _random = body.take(32)?;
    let _session_id = body.vector_u8()?;
    let _cipher_suites = body.vector_u16()?;
    let _compression_methods = body.vector_u8()?;
    let mut hello = ClientHello::default();
    if body.0.is_empty() {
        // Before TLS 1.2 there may be no extensions.
        return Some(hello);
    }
    let mut extensions = body.vector_u16()?;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector_u16()?;
        match kind {
            SERVER_NAME => hello.server_name = server_name(content)?,
            ALPN => hello.alpn = alpn(content)?,
            _ => {}
        }
    }
    body.0.is_empty().then_some(hello)
}

fn server_name(mut content: Reader<'_>) -> Option<Box<str>> {
    let mut names = content.vector_u16()?;
    let kind = names.u8()?;
    let name = names.vector_u16()?;
    let whole = content.0.is_empty() && names.0.is_empty() && kind == HOST_NAME;
    let name = std::str::from_utf8(name.0).ok()?;
    // A name that could break a log line or a header is none.
    let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    (whole && legal).then(|| name.to_ascii_lowercase().into())
}

fn alpn(mut content: Reader<'_>) -> Option<Vec<Box<str>>> {
    let mut list = content.vector_u16()?;
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector_u8()?.0;
        if name.is_empty() {
            return None;
        }
        names.extend(std::str::from_utf8(name).ok().map(Box::from));
    }
    (content.0.is_empty() && !names.is_empty()).then_some(names)
}

/// Takes values off the front of some bytes.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector_u8(&mut self) -> Option<Self> {
        let length = self.u8()?;
        self.take(usize::from(length)).map(Self)
    }

    fn vector_u16(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(usize::from(length)).map(Self)
    }
}

#[cfg(test)]
mod tests;
