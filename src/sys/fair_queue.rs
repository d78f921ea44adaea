//! A fair queue: deficit round robin (Shreedhar and Varghese, 1995).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Items of several owners. Each owner gets the same share of the cost, however many items it has.
pub(crate) struct FairQueue<K, T> {
    lines: HashMap<K, Line<T>, foldhash::fast::RandomState>,
    /// Owners with items, the next one first: each has a line.
    order: VecDeque<K>,
    /// Cost that an owner may use in one turn.
    quantum: u64,
    length: usize,
}

struct Line<T> {
    items: VecDeque<(u64, T)>,
    /// Cost that its owner may still use in this turn.
    credit: u64,
}

impl<K: Hash + Eq + Copy, T> FairQueue<K, T> {
    /// A queue with turns of `quantum`, which should be the cost of the most expensive item: with less, finding an item takes
    /// more rounds; with more, turns are coarser.
    pub(crate) fn new(quantum: u64) -> Self {
        Self { lines: HashMap::default(), order: VecDeque::new(), quantum: quantum.max(1), length: 0 }
    }

    /// Appends an item of this cost to the items of its owner.
    pub(crate) fn push(&mut self, owner: K, cost: u64, item: T) {
        let line = self.lines.entry(owner).or_insert_with(|| {
            self.order.push_back(owner);
            Line { items: VecDeque::new(), credit: self.quantum }
        });
        line.items.push_back((cost, item));
        self.length += 1;
    }

    /// Takes the next item. Owners take turns of the quantum; an item that costs more waits until its owner has saved enough.
    pub(crate) fn pop(&mut self) -> Option<T> {
        loop {
            let owner = *self.order.front()?;
            let line = self.lines.get_mut(&owner)?;
            let Some((cost, item)) = line.items.pop_front_if(|(cost, _)| *cost <= line.credit) else {
                line.credit = line.credit.saturating_add(self.quantum);
                self.order.rotate_left(1);
                continue;
            };
            line.credit -= cost;
            if line.items.is_empty() {
                // An owner without items saves nothing for later.
                self.lines.remove(&owner);
                self.order.pop_front();
            }
            self.length -= 1;
            return Some(item);
        }
    }

    /// Removes every item that is not `wanted`. Examines all items.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        self.lines.retain(|_, line| {
            line.items.retain(|(_, item)| wanted(item));
            !line.items.is_empty()
        });
        self.order.retain(|owner| self.lines.contains_key(owner));
        self.length = self.lines.values().map(|line| line.items.len()).sum();
    }

    /// Number of items.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut FairQueue<char, u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn an_owner_with_many_items_gets_no_more_than_one_with_few() {
        let mut queue = FairQueue::new(1);
        for item in 0..5 {
            queue.push('a', 1, item);
        }
        queue.push('b', 1, 10);
        queue.push('b', 1, 11);
        queue.push('c', 1, 20);
        assert_eq!(queue.len(), 8);
        assert_eq!(all(&mut queue), [0, 10, 20, 1, 11, 2, 3, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn shares_are_of_cost_and_not_of_items() {
        let mut queue = FairQueue::new(4);
        for item in 0..2 {
            queue.push('a', 4, item);
        }
        for item in 10..18 {
            queue.push('b', 1, item);
        }
        assert_eq!(all(&mut queue), [0, 10, 11, 12, 13, 1, 14, 15, 16, 17]);
    }

    #[test]
    fn removed_items_take_no_turn() {
        let mut queue = FairQueue::new(1);
        for (owner, item) in [('a', 0), ('a', 1), ('b', 10), ('c', 20)] {
            queue.push(owner, 1, item);
        }
        queue.retain(|item| item % 20 != 10 && *item != 0);
        assert_eq!(queue.len(), 2);
        queue.push('b', 1, 12);
        assert_eq!(all(&mut queue), [1, 20, 12]);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_item_above_the_quantum_waits_until_its_owner_has_saved_enough() {
        let mut queue = FairQueue::new(1);
        queue.push('a', 3, 0);
        queue.push('b', 1, 10);
        queue.push('b', 1, 11);
        queue.push('b', 1, 12);
        assert_eq!(all(&mut queue), [10, 11, 0, 12]);
    }
}
