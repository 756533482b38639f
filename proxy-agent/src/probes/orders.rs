//! What the prober's thread is asked to do, from any thread: for each container the newest wish. There are never more of
//! them than containers, however busy the thread is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::Target;

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    pub uid: Arc<str>,
    pub container: Arc<str>,
}

/// What is wished for a container.
#[derive(Debug)]
pub enum Order {
    Watch(Box<Target>),
    /// As [`Order::Watch`], of a pod that is already about to end.
    WatchQuietly(Box<Target>),
    Quiet,
    Forget,
}

/// Where wishes are left. Its end is the end of the thread.
#[derive(Debug)]
pub struct Orders {
    waiting: Mutex<HashMap<Id, Order>>,
    woken: Arc<Notify>,
}

/// Where they are taken.
#[derive(Debug)]
pub struct Taken {
    orders: Weak<Orders>,
    pub woken: Arc<Notify>,
}

impl Orders {
    pub fn new() -> (Arc<Self>, Taken) {
        let woken = Arc::new(Notify::new());
        let orders = Arc::new(Self { waiting: Mutex::default(), woken: Arc::clone(&woken) });
        let taken = Taken { orders: Arc::downgrade(&orders), woken };
        (orders, taken)
    }

    pub fn put(&self, id: Id, order: Order) {
        self.lock().insert(id, order);
        self.woken.notify_one();
    }

    /// Does not undo what waits.
    pub fn quiet(&self, id: Id) {
        let mut waiting = self.lock();
        let order = match waiting.remove(&id) {
            Some(Order::Watch(target) | Order::WatchQuietly(target)) => Order::WatchQuietly(target),
            Some(Order::Forget) => Order::Forget,
            Some(Order::Quiet) | None => Order::Quiet,
        };
        waiting.insert(id, order);
        drop(waiting);
        self.woken.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Order>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.woken.notify_one();
    }
}

impl Taken {
    /// All that waits; None when nobody is left who could wish for anything.
    pub fn take(&self) -> Option<HashMap<Id, Order>> {
        let orders = self.orders.upgrade()?;
        let waiting = std::mem::take(&mut *orders.lock());
        Some(waiting)
    }
}
