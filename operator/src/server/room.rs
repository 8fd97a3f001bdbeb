//! Who has how many connections.
//!
//! Owns: the bounds on them, who waits for a place, and who has to go for another. Upholds I12. Does not own: the connections.
//!
//! Nobody says who he is. A connection is one of ours once a request of it was answered as it should be; until then it has
//! to make room where there is none.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::Bounds;

/// Room for connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Room {
    bounds: Bounds,
    known: Arc<Mutex<Known>>,
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    /// Grows from one to the next, so the first is the oldest.
    next: u64,
    connections: BTreeMap<u64, Connection>,
    /// How many wait, by their address.
    waiting: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    /// Whether a request of it was answered as it should be.
    is_proven: bool,
    /// Dropped to have it closed.
    _open: oneshot::Sender<Infallible>,
}

/// A place, and the word that it is gone.
#[derive(Debug)]
pub(super) struct Taken {
    /// Held for as long as the connection lasts.
    pub(super) place: Place,
    /// Ends when another connection has the place.
    pub(super) is_lost: oneshot::Receiver<Infallible>,
}

impl Room {
    /// Room within these bounds.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, known: Arc::default(), freed: Arc::default() }
    }

    /// A place for a connection of this peer, waited for a moment; none if there is none, or too many wait.
    pub(super) async fn place(&self, peer: IpAddr) -> Option<Taken> {
        if let Some(taken) = self.take(peer) {
            return Some(taken);
        }
        let _waiting = self.wait(peer)?;
        let taken = async {
            loop {
                let mut freed = std::pin::pin!(self.freed.notified());
                freed.as_mut().enable();
                if let Some(taken) = self.take(peer) {
                    return taken;
                }
                freed.await;
            }
        };
        tokio::time::timeout(self.bounds.place_wait, taken).await.ok()
    }

    fn take(&self, peer: IpAddr) -> Option<Taken> {
        let mut known = self.known();
        let of_peer = known.connections.values().filter(|connection| connection.peer == peer).count();
        if of_peer >= self.bounds.connections_per_peer_max {
            return None;
        }
        if known.connections.len() >= self.bounds.connections_max && !known.make_room() {
            return None;
        }
        let (open, is_lost) = oneshot::channel();
        let id = known.next;
        known.next += 1;
        known.connections.insert(id, Connection { peer, is_proven: false, _open: open });
        Some(Taken { place: Place { room: self.clone(), id }, is_lost })
    }

    fn wait(&self, peer: IpAddr) -> Option<Waiting> {
        let mut known = self.known();
        let (of_peer, of_all) =
            (known.waiting.get(&peer).copied().unwrap_or_default(), known.waiting.values().sum::<usize>());
        if of_peer >= self.bounds.waiting_per_peer_max || of_all >= self.bounds.waiting_max {
            return None;
        }
        known.waiting.insert(peer, of_peer + 1);
        Some(Waiting { room: self.clone(), peer })
    }

    /// No call under this lock leaves it half changed, so a panic elsewhere does not spoil it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Closes the oldest connection that is not proven, of the peer that has the most of them; whether there was one.
    fn make_room(&mut self) -> bool {
        let mut unproven: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (id, connection) in self.connections.iter().filter(|(_, connection)| !connection.is_proven) {
            unproven.entry(connection.peer).or_insert((0, *id)).0 += 1;
        }
        match unproven.into_values().max_by_key(|(count, _)| *count) {
            Some((_, oldest)) => self.connections.remove(&oldest).is_some(),
            None => false,
        }
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    id: u64,
}

impl Place {
    /// A request of the connection was answered as it should be.
    pub(super) fn prove(&self) {
        if let Some(connection) = self.room.known().connections.get_mut(&self.id) {
            connection.is_proven = true;
        }
    }

    /// Whether one was.
    pub(super) fn is_proven(&self) -> bool {
        self.room.known().connections.get(&self.id).is_some_and(|connection| connection.is_proven)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.known().connections.remove(&self.id);
        self.room.freed.notify_waiters();
    }
}

/// A connection that waits for a place.
#[derive(Debug)]
struct Waiting {
    room: Room,
    peer: IpAddr,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut known = self.room.known();
        match known.waiting.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(known.waiting.remove(&self.peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_PEER_MAX};

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 88, 0, last])
    }

    fn all_of(room: &Room, peer: IpAddr) -> Vec<Taken> {
        std::iter::from_fn(|| room.take(peer)).collect()
    }

    fn prove(taken: &[Taken]) {
        taken.iter().for_each(|taken| taken.place.prove());
    }

    /// Invariant I12: a stranger's connections have a bound of their own.
    #[test]
    fn i12_a_peer_that_takes_too_much_keeps_nobody_else_out() {
        let room = Room::new(Bounds::default());
        let taken = all_of(&room, address(1));
        assert_eq!(taken.len(), CONNECTIONS_PER_PEER_MAX);
        let other = room.take(address(2)).expect("another peer has its own bound");
        drop((taken, other));
        assert!(room.known().connections.is_empty());
    }

    #[test]
    fn i12_many_peers_have_a_bound_together() {
        let room = Room::new(Bounds::default());
        let mut taken = Vec::new();
        for last in 0..8 {
            taken.extend(all_of(&room, address(last)));
        }
        prove(&taken);
        assert_eq!(taken.len(), CONNECTIONS_MAX);
        assert!(room.take(address(9)).is_none());
        drop(taken.pop());
        assert!(room.take(address(9)).is_some());
    }

    #[test]
    fn who_has_proven_nothing_makes_room_and_first_the_peer_that_has_the_most() {
        let room = Room::new(Bounds { connections_max: 6, ..Bounds::default() });
        let proven = [room.take(address(1)), room.take(address(1))].map(|taken| taken.expect("there is room"));
        prove(&proven);
        let mut few = room.take(address(2)).expect("there is room");
        let mut many = [(); 3].map(|()| room.take(address(3)).expect("there is room"));
        let _new = room.take(address(4)).expect("one makes room");
        assert_eq!(
            many.each_mut().map(|taken| taken
                .is_lost
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Closed)),
            [true, false, false]
        );
        assert_eq!(few.is_lost.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        for mut taken in proven {
            assert_eq!(taken.is_lost.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        }
        drop(many);
        assert_eq!(room.known().connections.len(), 2, "a place that is lost is not given back twice");
    }
}
