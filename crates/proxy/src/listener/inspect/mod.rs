//! Listener filters: what a connection says of itself before its filter chain is chosen.
//!
//! They run in the configured order and read into one prefix buffer. What they only look at stays
//! in it and is read again by whoever serves the connection (`MSG_PEEK` would spin on a part).

pub mod http;
pub mod proxy_protocol;
pub mod tls;

use crate::listener::filter_chain::Matters;
use crate::model::{ListenerFilter, ListenerFilterKind, ProxyProtocol, TransportProtocol};
use crate::snapshot::Listener;
use crate::worker::Worker;
use bytes::{Buf, Bytes, BytesMut};
use proxy_protocol::Named;
use tls::ClientHello;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What the listener filters found, and the bytes they read for it.
#[derive(Debug)]
pub struct Inspected {
    /// What carries the bytes, as far as is known.
    pub transport: TransportProtocol,
    /// What a TLS client asks for.
    pub hello: Option<Box<ClientHello>>,
    /// The HTTP version that a plaintext client begins to speak.
    pub http: Option<&'static str>,
    /// The addresses that a PROXY header named.
    pub named: Option<Named>,
    /// What was read and is still to be served.
    pub prefix: Bytes,
}

/// Why a connection ends before its chain is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The peer ended before it said anything that could be served.
    Gone,
    /// The listener filters took too long.
    Timeout,
    /// A ClientHello that is longer than it may be.
    ClientHelloTooLarge,
    /// A PROXY header that cannot be accepted, or none where there must be one.
    ProxyProtocol(&'static str),
}

/// Run the filters of a listener on a connection to this destination port.
///
/// # Errors
/// Where the connection is not to be served.
pub async fn run(
    worker: &Worker,
    listener: &Listener,
    stream: &mut TcpStream,
    port: u16,
) -> Result<Inspected, Refused> {
    let mut found = Inspected {
        transport: TransportProtocol::RawBuffer,
        hello: None,
        http: None,
        named: None,
        prefix: Bytes::new(),
    };
    let matters = listener.chains.what_matters(port);
    if !listener.filters.iter().any(|f| reads(f, port, matters)) {
        return Ok(found);
    }
    let mut sniffer = Sniffer {
        stream,
        read: BytesMut::new(),
        ended: false,
        header_due: false,
    };
    let filters = async {
        for filter in &listener.filters {
            // A PROXY header may have named another port.
            let port = found.named.map_or(port, |named| named.destination.port());
            if reads(filter, port, listener.chains.what_matters(port)) {
                sniffer.filter(worker, listener, filter, &mut found).await?;
            }
        }
        Ok(())
    };
    let outcome = match listener.inspect_timeout {
        Some(timeout) => tokio::time::timeout(timeout, filters).await,
        None => Ok(filters.await),
    };
    worker.clock.tick();
    match outcome {
        Ok(result) => result?,
        Err(_elapsed) => {
            worker.stats.inc(listener.series.pre_cx_timeout);
            // Who may not come without a PROXY header does not come by saying nothing.
            if !listener.continue_on_timeout || sniffer.header_due {
                return Err(Refused::Timeout);
            }
        }
    }
    found.prefix = sniffer.read.freeze();
    Ok(found)
}

/// Whether a filter has to read for a connection to this port. An inspector whose findings have no
/// say in the choice of the chain does not make the connection wait for its first bytes.
fn reads(filter: &ListenerFilter, port: u16, matters: Matters) -> bool {
    let wanted = match filter.kind {
        ListenerFilterKind::OriginalDst | ListenerFilterKind::OriginalSrc { .. } => false,
        ListenerFilterKind::ProxyProtocol(_) => true,
        ListenerFilterKind::TlsInspector { .. } => matters.tls,
        ListenerFilterKind::HttpInspector => matters.application_protocols,
    };
    wanted && filter.runs_for(port)
}

/// A connection whose first bytes are looked at.
struct Sniffer<'a> {
    stream: &'a mut TcpStream,
    read: BytesMut,
    /// The peer has ended its stream.
    ended: bool,
    /// A PROXY header must come, and has not.
    header_due: bool,
}

impl Sniffer<'_> {
    async fn filter(
        &mut self,
        worker: &Worker,
        listener: &Listener,
        filter: &ListenerFilter,
        found: &mut Inspected,
    ) -> Result<(), Refused> {
        match filter.kind {
            ListenerFilterKind::OriginalDst | ListenerFilterKind::OriginalSrc { .. } => Ok(()),
            ListenerFilterKind::ProxyProtocol(config) => {
                let header = self.proxy_protocol(&config).await;
                if matches!(header, Err(Refused::ProxyProtocol(_))) {
                    worker.stats.inc(listener.series.proxy_proto_error);
                }
                found.named = header?;
                Ok(())
            }
            ListenerFilterKind::TlsInspector { max_client_hello } => {
                found.hello = self.tls(worker, max_client_hello).await?.map(Box::new);
                if found.hello.is_some() {
                    found.transport = TransportProtocol::Tls;
                }
                Ok(())
            }
            // What is in TLS is not for this one to see.
            ListenerFilterKind::HttpInspector if found.transport == TransportProtocol::Tls => {
                Ok(())
            }
            ListenerFilterKind::HttpInspector => {
                found.http = self.http().await?.application_protocol();
                Ok(())
            }
        }
    }

    async fn proxy_protocol(&mut self, config: &ProxyProtocol) -> Result<Option<Named>, Refused> {
        use proxy_protocol::{Inspection, inspect};
        self.header_due = !config.optional;
        loop {
            match inspect(&self.read, config) {
                Inspection::NeedMore if self.more().await? => {}
                Inspection::NeedMore => {
                    return Err(Refused::ProxyProtocol("the stream ended in the header"));
                }
                Inspection::Invalid(why) => return Err(Refused::ProxyProtocol(why)),
                Inspection::Absent => return Ok(None),
                Inspection::Header { length, named } => {
                    self.read.advance(length);
                    self.header_due = false;
                    return Ok(named);
                }
            }
        }
    }

    async fn tls(
        &mut self,
        worker: &Worker,
        max_client_hello: usize,
    ) -> Result<Option<ClientHello>, Refused> {
        use tls::{Inspection, inspect};
        let series = &worker.process.series;
        loop {
            match inspect(&self.read, max_client_hello) {
                Inspection::NeedMore if self.more().await? => {}
                Inspection::NeedMore | Inspection::NotTls => {
                    worker.stats.inc(series.tls_not_found);
                    return Ok(None);
                }
                Inspection::TooLarge => {
                    worker.stats.inc(series.client_hello_too_large);
                    return Err(Refused::ClientHelloTooLarge);
                }
                Inspection::Tls(hello) => {
                    let named = !hello.server_name.is_empty();
                    let alpn = !hello.alpn.is_empty();
                    worker.stats.inc(series.tls_found);
                    worker.stats.inc(if named {
                        series.sni_found
                    } else {
                        series.sni_not_found
                    });
                    worker.stats.inc(if alpn {
                        series.alpn_found
                    } else {
                        series.alpn_not_found
                    });
                    return Ok(Some(hello));
                }
            }
        }
    }

    async fn http(&mut self) -> Result<http::Inspection, Refused> {
        use http::{Inspection, inspect};
        loop {
            match inspect(&self.read) {
                Inspection::NeedMore if self.more().await? => {}
                // What was said is passed on, and that it ended.
                Inspection::NeedMore => return Ok(Inspection::NotHttp),
                found => return Ok(found),
            }
        }
    }

    /// Read more; `false` = the stream has ended behind what was read.
    async fn more(&mut self) -> Result<bool, Refused> {
        if self.ended {
            return Ok(false);
        }
        self.read.reserve(1024);
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) if self.read.is_empty() => Err(Refused::Gone),
            Ok(0) => {
                self.ended = true;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(_reset) => Err(Refused::Gone),
        }
    }
}
