//! Python's `random.Random(seed).sample`, by which lm-evaluation-harness draws few-shot examples: to ask the same prompts needs its
//! generator (MT19937, Matsumoto & Nishimura 1998) and its way of sampling (CPython's `Lib/random.py`).

const N: usize = 624;
const M: usize = 397;

/// Python's `random.Random`.
#[derive(Clone)]
pub(super) struct Random {
    state: [u32; N],
    index: usize,
}

impl Random {
    /// `Random(seed)`.
    pub(super) fn new(seed: u64) -> Random {
        let key = if seed >> 32 == 0 { vec![seed as u32] } else { vec![seed as u32, (seed >> 32) as u32] };
        let mut state = [0u32; N];
        state[0] = 19_650_218;
        for i in 1..N {
            state[i] = 1_812_433_253u32.wrapping_mul(state[i - 1] ^ (state[i - 1] >> 30)).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..N {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            (i, j) = (i + 1, (j + 1) % key.len());
            if i == N {
                (state[0], i) = (state[N - 1], 1);
            }
        }
        for _ in 1..N {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i == N {
                (state[0], i) = (state[N - 1], 1);
            }
        }
        state[0] = 0x8000_0000;
        Random { state, index: N }
    }

    fn next(&mut self) -> u32 {
        if self.index == N {
            for k in 0..N {
                let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7fff_ffff);
                self.state[k] = self.state[(k + M) % N] ^ (y >> 1) ^ if y & 1 == 1 { 0x9908_b0df } else { 0 };
            }
            self.index = 0;
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `_randbelow`: a number below `bound`, which is not 0 and below 2³².
    fn below(&mut self, bound: usize) -> usize {
        let bits = usize::BITS - bound.leading_zeros();
        loop {
            let drawn = (self.next() >> (32 - bits)) as usize;
            if drawn < bound {
                return drawn;
            }
        }
    }

    /// `sample(range(population), count)`; `count` is at most `population`.
    pub(super) fn sample(&mut self, population: usize, count: usize) -> Vec<usize> {
        // A list is cheaper than a set while it is no longer than a set of `count`.
        let mut limit = 21;
        if count > 5 {
            let mut power = 1;
            while power < count * 3 {
                power *= 4;
            }
            limit += power;
        }
        if population <= limit {
            let mut pool: Vec<usize> = (0..population).collect();
            return (0..count)
                .map(|i| {
                    let j = self.below(population - i);
                    let chosen = pool[j];
                    pool[j] = pool[population - i - 1];
                    chosen
                })
                .collect();
        }
        let mut chosen = Vec::with_capacity(count);
        while chosen.len() < count {
            let drawn = self.below(population);
            if !chosen.contains(&drawn) {
                chosen.push(drawn);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_pythons() {
        // python3: r = random.Random(1234); [r.getrandbits(32) for _ in range(3)]
        let mut random = Random::new(1234);
        assert_eq!([random.next(), random.next(), random.next()], [4_150_886_329, 3_342_196_574, 1_892_932_127]);
        let mut random = Random::new(1 << 40 | 5);
        assert_eq!([random.next(), random.next()], [2_166_296_868, 2_220_160_828]);
    }

    #[test]
    fn samples_are_pythons() {
        // python3: r = random.Random(1234); then r.sample(range(n), k) one after the other
        let mut random = Random::new(1234);
        for (population, count, expected) in SAMPLES {
            assert_eq!(random.sample(*population, *count), *expected, "{count} of {population}");
        }
    }

    const SAMPLES: &[(usize, usize, &[usize])] = &[
        (7473, 5, &[6374, 3610, 957, 61, 742]),
        (7473, 5, &[7462, 6610, 4769, 286, 5501]),
        (21, 5, &[2, 3, 11, 7, 0]),
        (22, 5, &[0, 11, 20, 19, 15]),
        (10, 10, &[9, 7, 2, 0, 1, 6, 4, 8, 5, 3]),
        (85, 8, &[8, 69, 59, 84, 76, 11, 65, 74]),
        (86, 8, &[5, 34, 71, 8, 82, 38, 61, 45]),
        (1, 1, &[0]),
        (
            1119,
            25,
            &[
                510, 409, 928, 1085, 39, 1040, 144, 11, 683, 294, 968, 772, 342, 110, 156, 1016, 335, 154, 440, 295,
                55, 709, 227, 1084, 289,
            ],
        ),
        (64, 6, &[39, 29, 2, 26, 17, 42]),
    ];
}
