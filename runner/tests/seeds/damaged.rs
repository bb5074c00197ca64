//! Damaged forms of an input: some bytes are other ones, missing, doubled, or what parsers stumble over.

/// What parsers stumble over.
const ODD: [&[u8]; 16] = [
    b"\"",
    b"[",
    b"{",
    b"]}",
    b":",
    b",",
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775807",
    b"\\ud800",
    b"\xff\xfe",
    b"\n",
    b"",
];

/// The damaged form of this number, always the same.
pub fn damaged(input: &[u8], number: u64) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ input.len() as u64 ^ 0x2545_f491_4f6c_dd1d);
    let mut damaged = input.to_vec();
    for _ in 0..=random.below(3) {
        let from = random.below(damaged.len() + 1);
        let to = (from + random.below(16)).min(damaged.len());
        match random.below(5) {
            0 => drop(damaged.drain(from..to)),
            1 => {
                let doubled = damaged[from..to].to_vec();
                damaged.splice(from..from, doubled);
            }
            2 => damaged.truncate(from),
            3 => {
                if let Some(byte) = damaged.get_mut(from) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => {
                // A whole number is replaced, so that the rest stays valid.
                let end = from + damaged[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                damaged.splice(from..end, ODD[random.below(ODD.len())].iter().copied());
            }
        }
    }
    damaged
}

/// Numbers that depend on the seed alone (xorshift, Marsaglia, 2003).
struct Random(u64);

impl Random {
    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
