use std::sync::mpsc;
use std::thread;

use super::*;
use crate::server::table::{Answer, Mint, Rules};
use crate::wire::{Capacity, Grant, Kind, LeaseSeconds, Reply, Status};

const MINUTE: Duration = Duration::from_mins(1);

fn desk(max_keys: usize, gc_max_idle: Duration) -> Arc<Desk> {
    Desk::new(Table::new(Rules { max_keys, max_waiters: 0, gc_max_idle, auto_release: true }, Mint::seeded(1)), 0)
}

fn visit(desk: &Arc<Desk>) -> Visit {
    desk.welcome().unwrap().0
}

fn key(text: &str) -> Key<'_> {
    Key::new(text).unwrap()
}

fn lease() -> LeaseSeconds {
    LeaseSeconds::new(MINUTE).unwrap()
}

fn acquire(visit: &mut Visit, text: &str) -> Answer {
    visit.acquire(key(text), Capacity::Lock, lease())
}

fn hold(visit: &mut Visit, text: &str) -> Grant {
    match acquire(visit, text) {
        Answer::Now(Reply::Granted(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

fn release(visit: &mut Visit, text: &str, grant: &Grant) -> Reply {
    visit.at(key(text), |table, _, now| table.release(Kind::Lock, key(text), grant.token, now))
}

/// Keys of as many different tables.
fn apart(count: usize) -> Vec<String> {
    let mut found = BTreeMap::new();
    for text in (0..).map(|number| format!("key-{number}")) {
        found.entry(part_of(key(&text))).or_insert(text);
        if found.len() == count {
            break;
        }
    }
    found.into_values().collect()
}

#[test]
fn two_keys_do_not_wait_for_each_other() {
    let desk = desk(1024, MINUTE);
    let [one, other] = &apart(2)[..] else { panic!() };
    let (done, is_done) = mpsc::channel();
    let (there, mut asking) = (Arc::clone(&desk), visit(&desk));
    let other = other.clone();
    desk.at(key(one), |_, _| {
        // behind the lock of one key, everything that is asked of another is answered
        thread::spawn(move || {
            let grant = hold(&mut asking, &other);
            let mut next = visit(&there);
            assert_eq!(next.enqueue(key(&other), Capacity::Lock, lease()), Reply::Queued);
            let renewed = asking.at(key(&other), |table, _, now| table.renew(Kind::Lock, key(&other), grant.token, lease(), now));
            assert_eq!(renewed, Reply::Renewed(lease().into()));
            assert_eq!(release(&mut asking, &other, &grant), Reply::Ok);
            let waited = next.at(key(&other), |table, by, now| table.wait(by, Kind::Lock, key(&other), now));
            done.send(waited).unwrap();
        });
        // it comes at once, or never
        let waited = is_done.recv_timeout(Duration::from_secs(10)).expect("the other key waits for this one");
        assert!(matches!(waited, Answer::Now(Reply::Granted(_))), "{waited:?}");
    });
}

#[test]
fn all_tables_together_have_no_more_keys_than_allowed() {
    let desk = desk(3, MINUTE);
    let keys = apart(5);
    let mut guest = visit(&desk);
    let grants: Vec<_> = keys[..3].iter().map(|key| hold(&mut guest, key)).collect();
    let fences: Vec<_> = grants.iter().map(|grant| grant.token.fence()).collect();
    assert!(fences.is_sorted(), "{fences:?}");
    let full = Reply::Refused(Status::MaxLocks);
    assert_eq!(acquire(&mut guest, &keys[3]), Answer::Now(full.clone()));
    assert_eq!(guest.enqueue(key(&keys[4]), Capacity::Lock, lease()), full);
    // one that is idle for less than the time still counts
    assert_eq!(release(&mut guest, &keys[0], &grants[0]), Reply::Ok);
    assert_eq!(acquire(&mut guest, &keys[3]), Answer::Now(full));
}

#[test]
fn an_old_key_of_one_table_makes_room_in_another() {
    let desk = desk(1, Duration::ZERO);
    let mut guest = visit(&desk);
    for key in apart(3) {
        let grant = hold(&mut guest, &key);
        assert_eq!(release(&mut guest, &key, &grant), Reply::Ok);
    }
}

#[test]
fn who_goes_leaves_nothing_in_any_table() {
    let desk = desk(1024, MINUTE);
    let (keys, mut going, mut next) = (apart(TABLES), visit(&desk), visit(&desk));
    for key in &keys {
        hold(&mut going, key);
        assert!(matches!(acquire(&mut next, key), Answer::InLine(_)));
    }
    assert!(going.holds() && !next.holds());
    drop(going);
    assert!(next.holds());
    let owners: Vec<_> = desk.stats().locks.into_iter().map(|lock| (lock.owner_conn_id, lock.waiters)).collect();
    assert_eq!(owners, [(2, 0); TABLES]);
    drop(next);
    let stats = desk.stats();
    assert_eq!((stats.connections, stats.locks.len(), stats.idle_locks.len()), (0, 0, TABLES));
    assert!(desk.parts.iter().all(|part| part.lock().bells.is_empty()));
}

#[test]
fn stats_are_in_the_order_of_keys() {
    let desk = desk(1024, MINUTE);
    let mut guest = visit(&desk);
    let mut keys = apart(TABLES);
    for key in &keys {
        hold(&mut guest, key);
    }
    keys.sort();
    let told: Vec<_> = desk.stats().locks.into_iter().map(|lock| lock.key).collect();
    assert_eq!(told, keys);
}

#[test]
fn the_keys_of_one_server_among_many_go_to_all_tables() {
    for servers in [1, 2, 3, 64] {
        let mut counts = [0; TABLES];
        let ours = (0..).map(|number| format!("worker-{number}")).filter(|text| crc32fast::hash(text.as_bytes()).is_multiple_of(servers));
        for text in ours.take(100 * TABLES) {
            counts[part_of(key(&text))] += 1;
        }
        assert!(counts.iter().all(|count| (50..200).contains(count)), "of {servers}: {counts:?}");
    }
}

#[test]
fn an_old_key_makes_room_for_an_enqueue() {
    let desk = desk(1, Duration::ZERO);
    let mut guest = visit(&desk);
    for text in apart(3) {
        let Reply::Acquired(grant) = guest.enqueue(key(&text), Capacity::Lock, lease()) else { panic!("{text} is refused") };
        assert_eq!(release(&mut guest, &text, &grant), Reply::Ok);
    }
}
