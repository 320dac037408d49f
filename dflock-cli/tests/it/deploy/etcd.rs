//! The etcd cluster of three members, on systemd and on Kubernetes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use tokio::process::Command;

use super::{parse_manifest, read, seconds, values};
use crate::process::{output_of, text};

const UNIT: &str = "etcd/etcd-member.service";

/// Returns the flags of a command line of etcd, with their values.
fn flags(command: &[&str]) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut last = None;
    for &argument in command {
        match (argument.strip_prefix("--"), last.take()) {
            (Some(flag), _) => {
                let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
                flags.insert(name.to_owned(), value.to_owned());
                last = Some(name);
            }
            (None, Some(name)) => {
                flags.insert(name.to_owned(), argument.to_owned());
            }
            (None, None) => panic!("{argument} belongs to no flag"),
        }
    }
    flags
}

fn flags_of_unit() -> BTreeMap<String, String> {
    let command = values(UNIT, "Service", "ExecStart").remove(0);
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/etcd"));
    flags(&words.collect::<Vec<_>>())
}

fn stateful_set() -> StatefulSet {
    parse_manifest(
        read("etcd/statefulset.yaml")
            .split("\n---\n")
            .nth(2)
            .unwrap(),
    )
}

fn flags_of_manifest() -> BTreeMap<String, String> {
    let pod = stateful_set().spec.unwrap().template.spec.unwrap();
    let command = pod.containers[0].command.clone().unwrap();
    assert_eq!(command[0], "etcd");
    let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
    flags(&arguments)
}

/// Returns the names and the peer addresses of `--initial-cluster`.
fn members(flags: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    let members = flags["initial-cluster"].split(',');
    members
        .map(|member| member.split_once('=').unwrap())
        .collect()
}

#[test]
fn the_unit_and_its_settings_name_a_member_of_the_cluster() {
    let flags = flags_of_unit();
    let settings = read("etcd/etcd-member.env");
    let settings: BTreeMap<&str, &str> = settings
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap())
        .collect();
    let members = members(&flags);
    assert_eq!(members.len(), 3);
    let peer = settings["ETCD_INITIAL_ADVERTISE_PEER_URLS"];
    assert!(members.contains(&(settings["ETCD_NAME"], peer)));
    // etcd ignores a variable of a flag that is given.
    for name in settings.keys() {
        let flag = name.strip_prefix("ETCD_").unwrap();
        let flag = flag.to_lowercase().replace('_', "-");
        assert!(!flags.contains_key(&flag), "{name}");
    }
}

#[test]
fn the_stateful_set_starts_the_members_that_it_lists() {
    let manifests = read("etcd/statefulset.yaml");
    let manifests: Vec<&str> = manifests.split("\n---\n").collect();
    assert_eq!(manifests.len(), 3);
    let service: Service = parse_manifest(manifests[0]);
    let budget: PodDisruptionBudget = parse_manifest(manifests[1]);
    let set = stateful_set();
    let name = set.metadata.name.clone().unwrap();
    let spec = set.spec.unwrap();

    let domain = spec.service_name.unwrap();
    assert_eq!(service.metadata.name.as_ref(), Some(&domain));
    let service = service.spec.unwrap();
    assert_eq!(service.cluster_ip.as_deref(), Some("None"));
    assert_eq!(service.publish_not_ready_addresses, Some(true));
    assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
    let labels = spec.template.metadata.unwrap().labels;
    for selector in [
        service.selector,
        budget.spec.unwrap().selector.unwrap().match_labels,
        spec.selector.match_labels,
    ] {
        assert_eq!(selector, labels);
    }

    let flags = flags_of_manifest();
    let expected: Vec<(String, String)> = (0..spec.replicas.unwrap())
        .map(|index| format!("{name}-{index}"))
        .map(|pod| (pod.clone(), format!("https://{pod}.{domain}:2380")))
        .collect();
    let expected: Vec<(&str, &str)> = expected
        .iter()
        .map(|(name, peer)| (name.as_str(), peer.as_str()))
        .collect();
    assert_eq!(members(&flags), expected);
    let addresses = "etcd://dflock-etcd-0.dflock-etcd:2379,etcd://dflock-etcd-1.dflock-etcd:2379,\
        etcd://dflock-etcd-2.dflock-etcd:2379";
    assert!(read("etcd/statefulset.yaml").contains(addresses));

    let pod = spec.template.spec.unwrap();
    let mut volumes: Vec<String> = pod.volumes.unwrap().into_iter().map(|v| v.name).collect();
    let claims = spec.volume_claim_templates.unwrap().into_iter();
    volumes.extend(claims.map(|claim| claim.metadata.name.unwrap()));
    let container = &pod.containers[0];
    let mounts = container.volume_mounts.as_ref().unwrap();
    assert!(mounts.iter().all(|mount| volumes.contains(&mount.name)));
    let data = mounts.iter().find(|mount| mount.name == "data").unwrap();
    assert!(flags["data-dir"].starts_with(&data.mount_path));
    assert!(container.readiness_probe.is_some());
}

/// Without compaction the database fills up. With an election that is longer than a fifth of the
/// default lease, a leader's end could end leases.
#[test]
fn both_deployments_compact_and_elect_in_time() {
    for flags in [flags_of_unit(), flags_of_manifest()] {
        assert_eq!(flags["auto-compaction-mode"], "periodic");
        assert!(seconds(&flags["auto-compaction-retention"]) > 0.0);
        let election: f64 = flags["election-timeout"].parse().unwrap();
        assert!(election / 1000.0 <= 10.0 / 5.0);
        let heartbeat: f64 = flags["heartbeat-interval"].parse().unwrap();
        assert!(election >= 5.0 * heartbeat);
        for flag in ["client-cert-auth", "peer-client-cert-auth", "pre-vote"] {
            assert_eq!(flags[flag], "", "--{flag} has no value");
        }
    }
}

#[tokio::test]
async fn etcd_knows_all_flags() {
    let binary = std::env::var_os("ETCD").unwrap_or_else(|| "etcd".into());
    let mut help = Command::new(binary);
    help.arg("--help").kill_on_drop(true);
    if help.output().await.is_err() {
        dflock_tests::skip("there is no etcd: set `ETCD` to its binary, or install it");
        return;
    }
    let help = output_of(&mut help).await;
    let help = format!("{}{}", text(&help.stdout), text(&help.stderr));
    for flag in flags_of_unit().keys().chain(flags_of_manifest().keys()) {
        let is_known = help
            .split_whitespace()
            .any(|word| word == format!("--{flag}"));
        assert!(is_known, "--{flag}");
    }
}
