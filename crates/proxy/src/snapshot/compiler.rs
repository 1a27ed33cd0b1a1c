//! From the model to compiled configuration, sharing what did not change with the version before.

use super::{
    Balancing, Chain, ChainTls, Cluster, ClusterInfo, ClusterTls, Endpoints, HttpChain, Listener,
    NetworkFilter, Routes, StaticEndpoint, TcpChain, Transports,
};
use crate::cluster::breaker::Breaker;
use crate::cluster::load::Loads;
use crate::http::guard::HeadLimits;
use crate::listener::draining::ChainDrain;
use crate::listener::filter_chain::FilterChains;
use crate::model::{self, Invalid, Secrets};
use crate::observe::access_log::{AccessLogWriter, LogSet};
use crate::observe::series::{
    ClusterSeries, ClusterTlsSeries, Http2Series, HttpSeries, ListenerSeries, ListenerTlsSeries,
    TcpSeries,
};
use crate::observe::stats::Registry;
use crate::route::{RouteTable, Target};
use crate::store::Store;
use crate::transport::tls::client::ClientTls;
use crate::transport::tls::rotating::Rotating;
use crate::transport::tls::server::ServerTls;
use http::HeaderValue;
use std::sync::Arc;

/// Makes compiled configuration.
#[derive(Debug)]
pub struct Compiler<'a> {
    /// Where ids come from.
    pub store: &'a Store,
    /// Where statistics handles come from.
    pub registry: &'a Registry,
    /// Where access log lines go.
    pub logs: &'a AccessLogWriter,
    /// What transport sockets name.
    pub secrets: &'a Secrets,
}

/// A resource and what it was compiled to.
#[derive(Debug)]
pub struct Kept<M, C> {
    /// What it is.
    pub model: Arc<M>,
    /// The same for the data path.
    pub compiled: Arc<C>,
}

impl<M, C> Clone for Kept<M, C> {
    fn clone(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            compiled: Arc::clone(&self.compiled),
        }
    }
}

impl<M: PartialEq, C> Kept<M, C> {
    /// The same version where the resource did not change, else what `compile` makes of it.
    ///
    /// # Errors
    /// Those of `compile`.
    pub fn next(
        before: Option<&Self>,
        model: &Arc<M>,
        compile: impl FnOnce(&M, Option<&Self>) -> Result<C, Invalid>,
    ) -> Result<Self, Invalid> {
        if let Some(before) = before
            && (Arc::ptr_eq(&before.model, model) || before.model == *model)
        {
            return Ok(before.clone());
        }
        Ok(Self {
            model: Arc::clone(model),
            compiled: Arc::new(compile(model, before)?),
        })
    }
}

/// A chain and what it was compiled to.
type KeptChain<'a> = (&'a model::FilterChain, &'a Arc<Chain>);

impl Compiler<'_> {
    /// Compile a cluster. What did not change is shared with the version before.
    ///
    /// # Errors
    /// Where its TLS cannot be had.
    pub fn cluster(
        &self,
        config: &model::Cluster,
        before: Option<&Kept<model::Cluster, Cluster>>,
    ) -> Result<Cluster, Invalid> {
        let mut transports = Vec::new();
        let known = before.map(|before| &before.compiled.transports[..]);
        let mut tls = |wanted: &Option<Arc<model::UpstreamTls>>| {
            let Some(wanted) = wanted else {
                return Ok(None);
            };
            let known = known.unwrap_or_default();
            self.transport(&config.name, wanted, known, &mut transports)
                .map(Some)
        };
        let endpoints = match &config.kind {
            model::ClusterKind::Static(endpoints) => {
                let mut healthy = Vec::with_capacity(endpoints.len());
                for endpoint in endpoints.iter().filter(|e| e.healthy) {
                    healthy.push(StaticEndpoint {
                        address: endpoint.address,
                        tls: tls(&endpoint.tls)?,
                        weight: endpoint.balanced.weight,
                    });
                }
                Endpoints::Static(healthy.into())
            }
            model::ClusterKind::OriginalDst { port_override } => Endpoints::OriginalDst {
                port_override: *port_override,
            },
        };
        let tls = tls(&config.tls)?;
        let balanced = before.map(|before| (&*before.model, &before.compiled.balancing));
        let balancing = Balancing::compile(config, balanced);
        let loads = config.lb_policy.needs_loads().then(|| {
            let before = before.map(|before| &before.compiled);
            let before = before.and_then(|b| Some((b.endpoints.fixed(), b.loads.as_ref()?)));
            Loads::new(endpoints.fixed(), before)
        });
        let info = match before {
            Some(before) if config.differs_in_endpoints_only(&before.model) => {
                Arc::clone(&before.compiled.info)
            }
            _ => Arc::new(self.cluster_info(config, before, tls)),
        };
        Ok(Cluster {
            info,
            endpoints,
            balancing,
            loads,
            transports,
        })
    }

    fn cluster_info(
        &self,
        config: &model::Cluster,
        before: Option<&Kept<model::Cluster, Cluster>>,
        tls: Option<Arc<ClusterTls>>,
    ) -> ClusterInfo {
        let same_limits = before.filter(|b| b.model.circuit_breakers == config.circuit_breakers);
        ClusterInfo {
            name: Arc::clone(&config.name),
            connect_timeout: config.connect_timeout,
            bind: config.bind,
            // What is in flight stays counted.
            breaker: same_limits.map_or_else(
                || Arc::new(Breaker::new(&config.circuit_breakers)),
                |before| Arc::clone(&before.compiled.breaker),
            ),
            series: ClusterSeries::new(self.registry, &config.name),
            protocol: config.protocol,
            http2: config.http2,
            idle_timeout: config.idle_timeout,
            max_requests_per_connection: config.max_requests_per_connection,
            header_case: config.header_case,
            max_connection_duration: config.max_connection_duration,
            max_headers_count: config.max_headers_count,
            keepalive: config.keepalive,
            tls,
        }
    }

    fn transport(
        &self,
        cluster: &model::Name,
        wanted: &Arc<model::UpstreamTls>,
        known: &[(Arc<model::UpstreamTls>, Arc<ClusterTls>)],
        transports: &mut Transports,
    ) -> Result<Arc<ClusterTls>, Invalid> {
        let mine = transports.iter().find(|(c, _)| Arc::ptr_eq(c, wanted));
        if let Some((_, compiled)) = mine {
            return Ok(Arc::clone(compiled));
        }
        let compiled = match known.iter().find(|(c, _)| c == wanted) {
            Some((_, compiled)) => Arc::clone(compiled),
            None => {
                if wanted.validation.is_none() && wanted.secrets.validation.is_none() {
                    tracing::warn!(
                        %cluster,
                        "whoever answers for it is believed: its TLS has no trusted_ca"
                    );
                }
                let config = Arc::clone(wanted);
                let make = move |secrets: &Secrets| ClientTls::compile(&config.with(secrets)?);
                Arc::new(ClusterTls {
                    client: Rotating::new(&wanted.secrets, self.secrets, make)?,
                    series: ClusterTlsSeries::new(self.registry, cluster),
                })
            }
        };
        transports.push((Arc::clone(wanted), Arc::clone(&compiled)));
        Ok(compiled)
    }

    /// Compile a route table.
    pub fn route_table(&self, config: &model::RouteConfiguration) -> RouteTable {
        RouteTable::compile(config, &mut |name| self.store.cluster_id(name))
    }

    /// Compile a listener. Where only filter chains changed, those that did not are shared with
    /// the version before, and so are their connections.
    ///
    /// # Errors
    /// Where two of its chains match the same, or an access log or TLS cannot be had.
    pub fn listener(
        &self,
        config: &model::Listener,
        before: Option<&Kept<model::Listener, Listener>>,
    ) -> Result<Listener, Invalid> {
        let label = config.stat_prefix.as_ref().map_or_else(
            || format!("{}_{}", config.address.ip(), config.address.port()),
            ToString::to_string,
        );
        let before = before.filter(|before| config.differs_in_chains_only(&before.model));
        let kept: Vec<KeptChain<'_>> = before.map_or_else(Vec::new, |before| {
            let models = &before.model.filter_chains;
            let models = models.iter().chain(&before.model.default_filter_chain);
            models.zip(before.compiled.chains.all()).collect()
        });
        let chain = |chain: &model::FilterChain| match kept.iter().find(|(c, _)| *c == chain) {
            Some((_, compiled)) => Ok(Arc::clone(compiled)),
            None => self.chain(chain, &label),
        };
        let mut chains = Vec::with_capacity(config.filter_chains.len());
        for config in &config.filter_chains {
            chains.push((config.matcher.clone(), chain(config)?));
        }
        let default = match &config.default_filter_chain {
            Some(config) => Some(chain(config)?),
            None => None,
        };
        let log = Arc::new(LogSet::compile(&config.access_log, self.logs)?);
        let of_chains = chains.iter().map(|(_, chain)| chain).chain(&default);
        let shed_log = std::iter::once(&log)
            .chain(of_chains.map(|chain| chain.filter.log()))
            .find(|log| !log.is_empty())
            .map_or_else(|| Arc::clone(&log), Arc::clone);
        Ok(Listener {
            name: Arc::clone(&config.name),
            addresses: config.addresses().collect(),
            bind_to_port: config.bind_to_port,
            use_original_dst: config.use_original_dst,
            filters: config.listener_filters.clone().into(),
            inspect_timeout: config.listener_filters_timeout,
            socket: config.socket,
            keepalive: config.keepalive,
            continue_on_timeout: config.continue_on_listener_filters_timeout,
            chains: FilterChains::compile(chains, default)?,
            series: ListenerSeries::new(self.registry, &label),
            log,
            shed_log,
        })
    }

    fn chain(&self, config: &model::FilterChain, label: &str) -> Result<Arc<Chain>, Invalid> {
        let drain = Arc::new(ChainDrain::default());
        let tls = match &config.tls {
            None => None,
            Some(tls) => {
                let (own, not_served) = (Arc::clone(tls), config.filter.not_served());
                let keeps_chains = config.filter.wants_certificates();
                let make = move |secrets: &Secrets| {
                    Ok(ServerTls::compile(&own.with(secrets)?, not_served)?
                        .keeping_chains(keeps_chains))
                };
                Some(Box::new(ChainTls {
                    server: Rotating::new(&tls.secrets, self.secrets, make)?,
                    timeout: config.handshake_timeout,
                    series: ListenerTlsSeries::new(self.registry, label),
                }))
            }
        };
        let filter = match &config.filter {
            model::NetworkFilter::Http(http) => {
                NetworkFilter::Http(Arc::new(self.http(http, &drain)?))
            }
            model::NetworkFilter::Tcp(tcp) => NetworkFilter::Tcp(Arc::new(self.tcp(tcp, &drain)?)),
        };
        Ok(Arc::new(Chain { tls, filter, drain }))
    }

    fn http(
        &self,
        config: &model::HttpConnectionManager,
        drain: &Arc<ChainDrain>,
    ) -> Result<HttpChain, Invalid> {
        let routes = match &config.route_config {
            model::RouteSource::Inline(config) => {
                Routes::Inline(Arc::new(self.route_table(config)))
            }
            model::RouteSource::Named(name) => Routes::Named(self.store.route_table_id(name)),
        };
        Ok(HttpChain {
            routes,
            filters: config.http_filters.clone().into(),
            log: Arc::new(LogSet::compile(&config.access_log, self.logs)?),
            series: HttpSeries::new(self.registry, &config.stat_prefix),
            codec: config.codec,
            http10: config.http10.clone(),
            http2: config.http2,
            http2_series: Http2Series::new(self.registry, &config.stat_prefix),
            head_limits: HeadLimits {
                bytes: config.max_request_headers,
                count: config.max_headers_count,
            },
            idle_timeout: config.idle_timeout,
            stream_idle_timeout: config.stream_idle_timeout,
            // The head is a part of the request.
            request_headers_timeout: [
                config.request_headers_timeout,
                config.limits.request_timeout,
            ]
            .into_iter()
            .flatten()
            .min(),
            limits: config.limits,
            delayed_close_timeout: config.delayed_close_timeout,
            upgrades: config.upgrades.clone().into(),
            rewrites_heads: config.heads.rewrites(),
            heads: config.heads.clone(),
            server_name: HeaderValue::from_str(&config.server_name).map_err(|_bad| {
                Invalid::new(format!(
                    "server_name `{}` is not a header value",
                    config.server_name
                ))
            })?,
            server_header: config.server_header,
            generate_request_id: config.generate_request_id,
            use_remote_address: config.use_remote_address,
            forward_client_cert: config.forward_client_cert,
            client_cert_details: config.client_cert_details,
            drain: Arc::clone(drain),
        })
    }

    fn tcp(&self, config: &model::TcpProxy, drain: &Arc<ChainDrain>) -> Result<TcpChain, Invalid> {
        let target = Target::compile_tcp(&config.cluster, &mut |name| self.store.cluster_id(name));
        Ok(TcpChain {
            target,
            idle_timeout: config.idle_timeout,
            max_duration: config.max_duration,
            max_connect_attempts: config.max_connect_attempts,
            hash_source: config.hash_source,
            log: Arc::new(LogSet::compile(&config.access_log, self.logs)?),
            series: TcpSeries::new(self.registry, &config.stat_prefix),
            drain: Arc::clone(drain),
        })
    }
}
