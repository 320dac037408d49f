//! Semaphores and locks on a real etcd cluster of three members.
//!
//! Without an etcd binary the tests are skipped.
//!
//! Known trouble of locks on etcd and of other lock services, and the tests that guard against it.
//! `unit::` are the unit tests in `dflock/src/engine/etcd/tests.rs`, `scripted::` those below it.
//!
//! | trouble | test |
//! |---|---|
//! | two holders after a pause (Jepsen, etcd#11457) | `faults::a_client_that_is_cut_off_loses_by_its_own_clock_before_another_holds`, `acquire::never_more_than_the_limit_hold` |
//! | a lock held on a lease that ended while waiting (Jepsen, etcd#11456) | `unit::a_lease_that_an_operator_revokes_is_lost_and_a_wait_joins_again` |
//! | an order by clocks or sequences that deadlocks (databend#17986) | `unit::waiters_hold_in_the_order_of_their_create_revisions`, `unit::several_permits_are_granted_together_and_in_order` |
//! | a duplicated watch event that leaks a permit (databend#18003) | `scripted::a_watch_event_alone_grants_nothing` |
//! | a retry that loses its place (databend#18685) | `faults::a_join_whose_answer_is_lost_is_one_entry`, `unit::a_join_that_is_repeated_is_the_same_entry` |
//! | a watch that drops deletions (etcd#17529, #18089, #19179) | `scripted::a_watch_event_alone_grants_nothing` |
//! | a leader that dies | `faults::the_death_of_any_member_loses_no_live_holder_and_no_position` |
//! | a stopped leader that answers keep-alives (etcd#12528, #15247) | `scripted::a_keep_alive_of_another_term_renews_nothing`, `unit::a_stopped_leader_loses_no_holder`, `faults::a_stopped_leader_costs_an_election` |
//! | all members start again | `unit::all_members_may_start_again` |
//! | compaction during a wait | `faults::a_compaction_during_a_wait_loses_no_grant` |
//! | a member that is removed | `members::a_member_that_is_removed_costs_no_slot_and_no_position` |
//! | a dead member in the list, also first | `unit::a_dead_member_in_the_list_costs_no_operation` |
//! | a jump of the clock | `faults::a_jump_of_the_clock_loses_what_is_held_and_the_client_holds_again` |
//! | the alarm `NOSPACE` | `faults::a_database_without_space_keeps_what_is_held` |
//! | an auth token that has expired | `auth::users_are_checked_and_their_tokens_renewed` |
//! | a lease that an operator revokes | `unit::a_lease_that_an_operator_revokes_is_lost_and_a_wait_joins_again` |
//! | an entry that an operator deletes | `unit::an_entry_that_an_operator_deletes_is_lost`, `operator::a_revoked_slot_is_lost_with_its_reason` |
//! | a partition between client and members | `faults::a_client_that_is_cut_off_loses_by_its_own_clock_before_another_holds`, `faults::a_connection_that_ends_costs_no_slot_and_no_position` |
//! | a partition between members | `members::a_partition_between_the_members_loses_only_the_clients_of_the_minority` |

mod acquire;
mod auth;
mod bad_input;
mod faults;
mod hold_options;
mod members;
mod operator;
mod peer_network;
mod tls;

use std::time::Duration;

use dflock::{Client, ClientBuilder, Semaphore};

use dflock_tests::etcd_cluster::EtcdCluster;
use tokio::runtime::Runtime;

const SECOND: Duration = Duration::from_secs(1);

/// The time in which anything must happen on a slow machine.
const LONG: Duration = Duration::from_mins(1);

fn builder(cluster: &EtcdCluster) -> ClientBuilder {
    let members = cluster.addresses();
    Client::builder().servers(members.iter().map(|member| format!("etcd://{member}")))
}

fn client(cluster: &EtcdCluster) -> Client {
    builder(cluster).build().unwrap()
}

/// Returns a runtime that runs only inside of its `block_on`.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Returns a semaphore whose lease is `lease`.
fn semaphore(client: &Client, key: &str, limit: u32, lease: Duration) -> Semaphore {
    Semaphore::builder()
        .key(key)
        .limit(limit)
        .lease_ttl(lease)
        .acquire_timeout(LONG)
        .client(client.clone())
        .build()
        .unwrap()
}
