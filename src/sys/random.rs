//! Random numbers from the system's source (getrandom(2)): keys, request ids, multipart boundaries.

use std::cell::RefCell;

/// Bytes that a thread takes from the system at once: one call for 256 ids.
const BLOCK: usize = 4096;

/// A random number that cannot be guessed and does not repeat.
pub(crate) fn random_u128() -> u128 {
    thread_local! {
        static BUFFER: RefCell<RandomBuffer> = const { RefCell::new(RandomBuffer::EMPTY) };
    }
    BUFFER.with_borrow_mut(RandomBuffer::take)
}

/// A random key of 256 bits.
pub(crate) fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    fill(&mut key);
    key
}

/// Random bytes that a thread has not used yet.
struct RandomBuffer {
    bytes: [u8; BLOCK],
    left: usize,
}

impl RandomBuffer {
    const EMPTY: Self = Self { bytes: [0; BLOCK], left: 0 };

    fn take(&mut self) -> u128 {
        if self.left == 0 {
            fill(&mut self.bytes);
            self.left = BLOCK;
        }
        self.left -= size_of::<u128>();
        let mut number = [0; size_of::<u128>()];
        number.copy_from_slice(&self.bytes[self.left..][..size_of::<u128>()]);
        u128::from_ne_bytes(number)
    }
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
