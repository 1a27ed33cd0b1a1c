//! Pods with `hostUsers: false`, whose root is nobody outside.

use anyhow::{Result, ensure};

use crate::cluster;

#[test]
fn what_is() -> Result<()> {
    let cluster = cluster()?;
    cluster.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: u}\nspec:\n  hostUsers: false\n  containers:\n  - {name: a, image: 'shunt.test/shunt:1', command: [shunt-test-app, serve, a, '9080']}\n")?;
    let events = cluster.wait_until("u", "x", |pod| {
        println!("{pod:#}");
        println!("{:?}", cluster.events("u"));
        (pod["status"]["phase"] == "Failed" || pod["status"]["phase"] == "Running")
            .then_some(pod.clone())
    })?;
    ensure!(false, "{events:#} {:?}", cluster.events("u"));
    Ok(())
}
