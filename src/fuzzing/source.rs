//! Values out of a fuzzer's bytes. Where they run out, everything is zero, so that any bytes are an input.

use std::time::{Duration, SystemTime};

/// The bytes that are left.
pub(crate) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Source<'a> {
        Source(bytes)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// 0 up to and without `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// Small numbers, large ones and the ends of the range alike.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() % 4 {
            0 => u64::from(self.byte()),
            1 => u64::MAX - u64::from(self.byte()),
            2 => 1 << (self.byte() % 64),
            _ => self.take(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        }
    }

    /// Any float, not-a-number among them.
    pub(crate) fn float(&mut self) -> f64 {
        match self.byte() % 3 {
            0 => f64::from_bits(self.number()),
            1 => self.number() as f64,
            _ => -(self.number() as f64),
        }
    }

    pub(crate) fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(read(self)) } else { None }
    }

    pub(crate) fn duration(&mut self) -> Duration {
        Duration::new(self.number(), u32::from(self.byte()) * 3_921_568)
    }

    /// A moment before or after 1970, as far away as the type reaches.
    pub(crate) fn moment(&mut self) -> SystemTime {
        let (away, is_after) = (self.duration(), self.flag());
        let epoch = SystemTime::UNIX_EPOCH;
        let moment = if is_after { epoch.checked_add(away) } else { epoch.checked_sub(away) };
        moment.unwrap_or(epoch)
    }

    /// Text of any kind, repeated up to far beyond what documents show of one.
    pub(crate) fn text(&mut self) -> String {
        let (count, repeated) = (self.below(64), self.byte());
        let text = String::from_utf8_lossy(self.take(count));
        text.repeat(if repeated < 200 { 1 } else { 20 * usize::from(repeated - 199) })
    }
}
