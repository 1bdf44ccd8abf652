//! SHA-256 (FIPS 180-4), so that certificates can name what they are about.

/// Fractional parts of the cube roots of the first 64 primes, computed and not listed.
fn constants() -> [u32; 64] {
    let mut out = [0; 64];
    let mut primes = (2u32..).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0));
    for c in &mut out {
        *c = root(primes.next().unwrap_or(2), 3);
    }
    out
}

/// The first 32 bits of the fractional part of the k-th root of a small prime.
fn root(prime: u32, k: u32) -> u32 {
    // The largest x with x^k <= prime * 2^(32 k); 9 bits suffice for the whole part.
    let fits = |x: u128| -> bool {
        // Compares in limbs of 32 bits, since x^3 has more than 100.
        if k == 2 { x * x <= u128::from(prime) << 64 } else { cube_fits(x, prime) }
    };
    let mut x: u128 = 0;
    for bit in (0..40).rev() {
        let next = x | 1 << bit;
        if fits(next) {
            x = next;
        }
    }
    x as u32
}

/// Whether `x^3 <= prime * 2^96`. With `x` below 2^36 the cube is below 2^108.
fn cube_fits(x: u128, prime: u32) -> bool {
    x < 1 << 36 && x * x * x <= u128::from(prime) << 96
}

/// The hash of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let k = constants();
    let mut h: [u32; 8] = [2, 3, 5, 7, 11, 13, 17, 19].map(|p| root(p, 2));
    let mut data = bytes.to_vec();
    data.push(0x80);
    while data.len() % 64 != 56 {
        data.push(0);
    }
    data.extend((bytes.len() as u64 * 8).to_be_bytes());
    for chunk in data.chunks_exact(64) {
        let mut w = [0u32; 64];
        for (w, b) in w.iter_mut().zip(chunk.chunks_exact(4)) {
            *w = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        }
        for i in 16..64 {
            let (x, y) = (w[i - 15], w[i - 2]);
            let s0 = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
            let s1 = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
            w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
        }
        let mut s = h;
        for i in 0..64 {
            let e = s[4];
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & s[5]) ^ (!e & s[6]);
            let t1 = s[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
            let a = s[0];
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let majority = (a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]);
            s = [
                t1.wrapping_add(s0.wrapping_add(majority)),
                s[0],
                s[1],
                s[2],
                s[3].wrapping_add(t1),
                s[4],
                s[5],
                s[6],
            ];
        }
        for (h, s) in h.iter_mut().zip(s) {
            *h = h.wrapping_add(s);
        }
    }
    h.iter().map(|w| format!("{w:08x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::sha256;

    #[test]
    fn published_vectors() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let long = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(sha256(long), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    }
}
