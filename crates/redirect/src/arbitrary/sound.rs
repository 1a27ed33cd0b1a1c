//! What holds of every policy that a parser accepts.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::capture::CaptureConfig;
use crate::facts::PodFacts;
use crate::nft::render;
use crate::plan::plan;
use crate::policy;
use crate::routing::{PodAddress, PodAddresses};
use crate::ruleset::Hook;

/// Its parts can stand together, it can be written as a file that means the same, and it can be
/// planned for a pod with both families.
pub(crate) fn is_sound(config: &CaptureConfig) -> Result<(), TestCaseError> {
    prop_assert_eq!(config.validate(), Ok(()));
    let text = policy::write(config).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let again = policy::read(&text);
    prop_assert_eq!(again.as_ref(), Ok(config), "{}", text);
    let addresses = ["10.0.0.2", "fd00::2"].map(|address| PodAddress {
        interface: 2,
        address: address.parse().unwrap(),
    });
    let pod = PodFacts::with_addresses(PodAddresses::new(addresses.to_vec()));
    let plan = plan(config, &pod);
    let output = |hook| plan.ruleset.chains.iter().any(|chain| chain.hook == hook);
    prop_assert!(output(Hook::NatOutput));
    prop_assert!(!render::table(&plan.ruleset).is_empty());
    Ok(())
}
