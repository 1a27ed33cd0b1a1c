//! Load balancing: `lb_policy` with what belongs to it, or `load_balancing_policy`.

use super::reader::Reader;
use super::values::{false_unless, is};
use crate::path::Path;
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::RuntimeDouble;
use envoy_types::pb::envoy::extensions::load_balancing_policies as typed;
use envoy_types::pb::google::protobuf::{Any, UInt32Value, UInt64Value};
use pb::cluster::common_lb_config::LocalityConfigSpecifier;
use pb::cluster::{CommonLbConfig, LbConfig, LbPolicy as Given};
use shunt_proxy::model::{
    Choices, ConsistentHashing, HashFunction, LbPolicy, LeastRequest, Maglev, RingHash,
};
use typed::cluster_provided::v3::ClusterProvided;
use typed::common::v3::ConsistentHashingLbConfig;
use typed::least_request::v3::LeastRequest as TypedLeastRequest;
use typed::least_request::v3::least_request::SelectionMethod;
use typed::maglev::v3::Maglev as TypedMaglev;
use typed::random::v3::Random;
use typed::ring_hash::v3::RingHash as TypedRingHash;
use typed::ring_hash::v3::ring_hash::HashFunction as TypedHashFunction;
use typed::round_robin::v3::RoundRobin;

/// What the extension of a policy may be.
const POLICIES: &str = "RoundRobin, Random, LeastRequest, RingHash or Maglev; ClusterProvided for \
                        a cluster of type ORIGINAL_DST";

impl Reader {
    /// How a cluster's endpoints are chosen; `original_dst` says of which type it is.
    pub(super) fn lb_policy(
        &mut self,
        cluster: &mut pb::Cluster,
        original_dst: bool,
        path: &Path<'_>,
    ) -> Option<LbPolicy> {
        let common = cluster.common_lb_config.take().unwrap_or_default();
        let typed = cluster.load_balancing_policy.take();
        let plain = matches!(cluster.lb_policy(), Given::RingHash | Given::Maglev);
        if by_locality(&common) && (typed.is_some() || !plain) {
            let at = path.field("common_lb_config");
            let at = at.field("locality_weighted_lb_config");
            let message = "known to Envoy, not implemented by Shunt yet";
            self.report.refused(&at, message);
        }
        let Some(typed) = typed else {
            let policy = self.plain_policy(cluster, &common, path)?;
            self.fits(policy, original_dst, &path.field("lb_policy"));
            return Some(policy);
        };
        let at = path.field("load_balancing_policy");
        let at = at.field("policies");
        let first = typed.policies.into_iter().next();
        let config = first.and_then(|policy| policy.typed_extension_config);
        let any = config.and_then(|config| config.typed_config);
        let at = at.index(0);
        let at = at.field("typed_extension_config");
        let at = at.field("typed_config");
        let policy = self.typed_policy(any.as_ref(), &at)?;
        self.fits(policy, original_dst, &at);
        Some(policy)
    }

    fn fits(&mut self, policy: LbPolicy, original_dst: bool, path: &Path<'_>) {
        let provided = policy == LbPolicy::ClusterProvided;
        if original_dst && !provided {
            let message = "a cluster of type ORIGINAL_DST has one endpoint for each connection; it \
                           must be CLUSTER_PROVIDED";
            self.report.invalid(path, message);
        } else if provided && !original_dst {
            let message = "CLUSTER_PROVIDED contradicts the cluster's type; it must be ROUND_ROBIN, \
                           RANDOM, LEAST_REQUEST, RING_HASH or MAGLEV";
            self.report.invalid(path, message);
        }
    }

    fn plain_policy(
        &mut self,
        cluster: &pb::Cluster,
        common: &CommonLbConfig,
        path: &Path<'_>,
    ) -> Option<LbPolicy> {
        let config = cluster.lb_config.as_ref();
        Some(match cluster.lb_policy() {
            Given::RoundRobin => LbPolicy::RoundRobin,
            Given::Random => LbPolicy::Random,
            Given::LeastRequest => {
                let config = match config {
                    Some(LbConfig::LeastRequestLbConfig(config)) => config.clone(),
                    _ => Default::default(),
                };
                let at = path.field("least_request_lb_config");
                let choices = self.choices(config.choice_count, &at);
                let bias = self.bias(config.active_request_bias, &at);
                LbPolicy::LeastRequest(LeastRequest { choices, bias })
            }
            Given::RingHash => {
                let config = match config {
                    Some(LbConfig::RingHashLbConfig(config)) => *config,
                    _ => Default::default(),
                };
                use pb::cluster::ring_hash_lb_config::HashFunction as Function;
                let function = match config.hash_function() {
                    Function::XxHash => HashFunction::Xx,
                    Function::MurmurHash2 => HashFunction::Murmur2,
                };
                let at = path.field("ring_hash_lb_config");
                let (least, most) = (config.minimum_ring_size, config.maximum_ring_size);
                let ring = self.ring(least, most, function, &at)?;
                LbPolicy::RingHash(ring, self.plain_hashing(common, path))
            }
            Given::Maglev => {
                let size = match config {
                    Some(LbConfig::MaglevLbConfig(config)) => config.table_size,
                    _ => None,
                };
                let maglev = self.maglev(size, &path.field("maglev_lb_config"))?;
                LbPolicy::Maglev(maglev, self.plain_hashing(common, path))
            }
            Given::ClusterProvided => LbPolicy::ClusterProvided,
            Given::LoadBalancingPolicyConfig => {
                let message = "LOAD_BALANCING_POLICY_CONFIG needs load_balancing_policy";
                self.report.invalid(&path.field("lb_policy"), message);
                return None;
            }
        })
    }

    fn typed_policy(&mut self, any: Option<&Any>, path: &Path<'_>) -> Option<LbPolicy> {
        match any {
            Some(any) if is::<RoundRobin>(any) => Some(LbPolicy::RoundRobin),
            Some(any) if is::<Random>(any) => Some(LbPolicy::Random),
            Some(any) if is::<ClusterProvided>(any) => Some(LbPolicy::ClusterProvided),
            Some(any) if is::<TypedLeastRequest>(any) => {
                let config: TypedLeastRequest = self.extension(any, path)?;
                #[expect(deprecated, reason = "Envoy reads it as well")]
                let all = false_unless(config.enable_full_scan)
                    || config.selection_method() == SelectionMethod::FullScan;
                let some = self.choices(config.choice_count, path);
                Some(LbPolicy::LeastRequest(LeastRequest {
                    choices: if all { Choices::All } else { some },
                    bias: self.bias(config.active_request_bias, path),
                }))
            }
            Some(any) if is::<TypedRingHash>(any) => {
                let config: TypedRingHash = self.extension(any, path)?;
                let function = match config.hash_function() {
                    TypedHashFunction::DefaultHash | TypedHashFunction::XxHash => HashFunction::Xx,
                    TypedHashFunction::MurmurHash2 => HashFunction::Murmur2,
                };
                let (least, most) = (config.minimum_ring_size, config.maximum_ring_size);
                let ring = self.ring(least, most, function, path)?;
                // Envoy: the fields of the policy itself count where there is no message for them.
                #[expect(deprecated, reason = "Envoy reads them as well")]
                let own = ConsistentHashingLbConfig {
                    use_hostname_for_hashing: config.use_hostname_for_hashing,
                    hash_balance_factor: config.hash_balance_factor,
                    hash_policy: Vec::new(),
                };
                let hashing = match config.consistent_hashing_lb_config {
                    Some(hashing) => {
                        self.hashing(hashing, &path.field("consistent_hashing_lb_config"))
                    }
                    None => self.hashing(own, path),
                };
                let by_locality = config.locality_weighted_lb_config.is_some();
                let hashing = ConsistentHashing {
                    by_locality,
                    ..hashing
                };
                Some(LbPolicy::RingHash(ring, hashing))
            }
            Some(any) if is::<TypedMaglev>(any) => {
                let config: TypedMaglev = self.extension(any, path)?;
                let maglev = self.maglev(config.table_size, path)?;
                let hashing = config.consistent_hashing_lb_config.unwrap_or_default();
                let at = path.field("consistent_hashing_lb_config");
                let hashing = ConsistentHashing {
                    by_locality: config.locality_weighted_lb_config.is_some(),
                    ..self.hashing(hashing, &at)
                };
                Some(LbPolicy::Maglev(maglev, hashing))
            }
            other => {
                self.misplaced(other, POLICIES, path);
                None
            }
        }
    }

    fn plain_hashing(&mut self, common: &CommonLbConfig, path: &Path<'_>) -> ConsistentHashing {
        let hashing = common.consistent_hashing_lb_config.unwrap_or_default();
        let own = ConsistentHashingLbConfig {
            use_hostname_for_hashing: hashing.use_hostname_for_hashing,
            hash_balance_factor: hashing.hash_balance_factor,
            hash_policy: Vec::new(),
        };
        let at = path.field("common_lb_config");
        let at = at.field("consistent_hashing_lb_config");
        if own.use_hostname_for_hashing {
            let message = "Envoy has it here for clusters that are resolved by DNS alone; a \
                           load_balancing_policy may have it for others";
            self.report
                .invalid(&at.field("use_hostname_for_hashing"), message);
        }
        ConsistentHashing {
            by_locality: by_locality(common),
            ..self.hashing(own, &at)
        }
    }

    fn hashing(&mut self, config: ConsistentHashingLbConfig, path: &Path<'_>) -> ConsistentHashing {
        let at = path.field("hash_balance_factor");
        let factor = config.hash_balance_factor;
        let factor = factor.map(|factor| self.number(Some(factor), 0, 100..=u32::MAX, &at));
        ConsistentHashing {
            by_hostname: config.use_hostname_for_hashing,
            balance_factor: factor,
            by_locality: false,
        }
    }

    fn ring(
        &mut self,
        least: Option<UInt64Value>,
        most: Option<UInt64Value>,
        function: HashFunction,
        path: &Path<'_>,
    ) -> Option<RingHash> {
        let value = |size: Option<UInt64Value>| size.map(|size| size.value);
        let ring = RingHash::new(value(least), value(most), function);
        self.report.check(path, ring)
    }

    fn maglev(&mut self, size: Option<UInt64Value>, path: &Path<'_>) -> Option<Maglev> {
        let maglev = Maglev::new(size.map(|size| size.value));
        self.report.check(path, maglev)
    }

    fn choices(&mut self, count: Option<UInt32Value>, path: &Path<'_>) -> Choices {
        let at = path.field("choice_count");
        Choices::Some(self.number(count, 2, 2..=u32::MAX, &at))
    }

    fn bias(&mut self, bias: Option<RuntimeDouble>, path: &Path<'_>) -> f64 {
        let bias = bias.map_or(1.0, |bias| bias.default_value);
        if !(bias >= 0.0 && bias.is_finite()) {
            let at = path.field("active_request_bias");
            let message = format!("{bias} is no bias; it is a number from 0 on");
            self.report.invalid(&at.field("default_value"), message);
        }
        bias
    }
}

fn by_locality(common: &CommonLbConfig) -> bool {
    let specifier = common.locality_config_specifier.as_ref();
    matches!(
        specifier,
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
    )
}
