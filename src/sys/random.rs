//! Random numbers from the system's source (getrandom(2)): keys, request ids, multipart boundaries.

use std::cell::RefCell;

/// Bytes that a thread takes from the system at once: one call for 256 ids.
const BLOCK: usize = 4096;

/// A random number that cannot be guessed and does not repeat.
pub(crate) fn random_u128() -> u128 {
    thread_local! {
        static UNUSED: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
    }
    UNUSED.with_borrow_mut(|unused| {
        loop {
            if let Some(number) = unused.pop() {
                return number;
            }
            let mut block = [0; BLOCK];
            fill(&mut block);
            unused.extend(block.as_chunks().0.iter().copied().map(u128::from_ne_bytes));
        }
    })
}

/// A random key of 256 bits.
pub(crate) fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    fill(&mut key);
    key
}

/// Fills `bytes` from the system's random source. Every kernel with `openat2` has it.
fn fill(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        // Anything predictable in its place would open what keys and ids protect.
        panic!("the system has no random numbers: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_and_keys_do_not_repeat_within_a_thread_or_between_threads() {
        let numbers = || (0..1000).map(|_| random_u128()).collect::<Vec<_>>();
        let threads = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(numbers));
            threads.map(|thread| thread.join().unwrap())
        });
        let all: HashSet<u128> = threads.concat().into_iter().collect();
        assert_eq!(all.len(), 4000);
        assert_ne!(random_key(), random_key());
    }

    #[test]
    fn every_bit_of_a_number_is_random() {
        let (mut ones, mut zeros) = (0, 0);
        for _ in 0..1000 {
            let number = random_u128();
            (ones, zeros) = (ones | number, zeros | !number);
        }
        assert_eq!((ones, zeros), (u128::MAX, u128::MAX));
    }
}
