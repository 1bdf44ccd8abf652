//! What: small kernels of one instruction each, run on a device, and the comparison of two devices.
//! Why here: the emulator must do what hardware does, instruction by instruction; what a GPU did can be written down
//! (see `pins`) and held against every machine.
//! Pre: a device.
//! Post: for each kernel 256 results of up to four words, the same on every machine that conforms. Where the ISA leaves
//! approximation or order open, the comparison has a bound.

mod inputs;
mod table;

use std::fmt::Write as _;

use tilewright_ir::artifact::{KernelBinary, Resources};
use tilewright_runtime::device::{Device, DevicePtr, Stream};

use crate::Error;
use table::{Compare, KERNELS, Kernel, Out};

/// Threads of a block.
const THREADS: usize = 128;
/// Blocks.
const BLOCKS: usize = 2;
/// Words that each thread reads.
const IN: usize = 12;
/// Words that each thread writes.
const OUT: usize = 4;
/// Bytes of scratch memory of a block.
const SCRATCH: usize = 4096;

/// A conformance kernel.
#[derive(Clone, Copy, Debug)]
pub struct Case(&'static Kernel);

/// All conformance kernels.
pub fn cases() -> impl Iterator<Item = Case> {
    KERNELS.iter().map(Case)
}

/// How far two results are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// For exact kernels the number of results that differ; else the largest error over what is allowed.
    pub error: f64,
    /// What is allowed.
    pub allowed: f64,
}

impl Case {
    /// The name, e.g. `add.rn.f32`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether a device of this architecture (e.g. `sm_86`; none: any) has the instruction.
    pub fn runs_on(self, arch: Option<&str>) -> bool {
        let number = |a: &str| -> Option<u32> {
            let digits = a.strip_prefix("sm_")?;
            digits.trim_end_matches(|c: char| c.is_ascii_lowercase()).parse().ok()
        };
        arch.and_then(number).is_none_or(|n| n >= self.0.arch)
    }

    /// A number for the text of the kernel and its inputs: what was recorded for another one does not count.
    pub fn version(self) -> u64 {
        let words = self.input().into_iter().flat_map(u32::to_le_bytes);
        self.ptx()
            .bytes()
            .chain(words)
            .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    }

    fn input(self) -> Vec<u32> {
        inputs::words(self.0.input, self.0.name, THREADS * BLOCKS, IN)
    }

    /// The kernel: loads 12 words per thread, runs the body, stores four.
    fn ptx(self) -> String {
        let k = self.0;
        let (version, target) = if k.arch == 80 { ("7.6", 80) } else { ("8.4", k.arch) };
        let mut t = format!(
            "// {}\n.version {version}\n.target sm_{target}\n.address_size 64\n\
             .visible .entry k(.param .u64 x, .param .u64 o, .param .u64 g)\n{{\n\
             .reg .pred %p<4>;\n.reg .b16 %h<10>;\n.reg .b32 %r<10>;\n.reg .b64 %rd<10>;\n\
             .reg .b16 %ha, %ho;\n.reg .b32 %ra, %rb, %rc, %ro, %tid, %lane, %block;\n.reg .f32 %fa, %fb, %fc, %fo, %z;\n\
             .reg .f32 %f6, %f7, %f8, %f9;\n.reg .f32 %fo0, %fo1, %fo2, %fo3;\n.reg .b64 %rda, %rdb, %rdc, %rdo, %rdx, %rdg, %rdout;\n\
             .reg .f64 %fda, %fdb, %fdc, %fdo;\n.reg .b32 %i<{IN}>;\n.reg .b32 %o<{OUT}>;\n\
             .shared .align 16 .b8 s[{}];\n\
             ld.param.u64 %rdx, [x];\nld.param.u64 %rdout, [o];\nld.param.u64 %rdg, [g];\n\
             mov.u32 %tid, %tid.x;\nmov.u32 %block, %ctaid.x;\nmov.u32 %lane, %laneid;\n\
             mad.wide.u32 %rdg, %block, {SCRATCH}, %rdg;\nmad.lo.u32 %r1, %block, {THREADS}, %tid;\n\
             mad.wide.u32 %rdx, %r1, {}, %rdx;\nmad.wide.u32 %rdout, %r1, {}, %rdout;\n",
            k.name,
            16 * THREADS,
            4 * IN,
            4 * OUT,
        );
        // Writing to a string cannot fail.
        for i in 0..IN {
            let _ = writeln!(t, "ld.global.u32 %i{i}, [%rdx+{}];", 4 * i);
        }
        for i in 0..OUT {
            let _ = writeln!(t, "mov.u32 %o{i}, 0;");
        }
        for (i, r) in ["a", "b", "c"].into_iter().enumerate() {
            let (low, high) = (2 * i, 2 * i + 1);
            let _ = writeln!(
                t,
                "mov.u32 %r{r}, %i{low};\nmov.b32 %f{r}, %i{low};\nmov.b64 %rd{r}, {{%i{low}, %i{high}}};\nmov.b64 %fd{r}, %rd{r};"
            );
        }
        for i in 6..10 {
            let _ = writeln!(t, "mov.b32 %f{i}, %i{i};");
        }
        t += "cvt.u16.u32 %ha, %i0;\nmov.f32 %z, 0f00000000;\n";
        let _ = writeln!(t, "{}", k.body.replace("; ", ";\n"));
        t += match k.out {
            Out::B32 => "mov.u32 %o0, %ro;\n",
            Out::B64 => "mov.b64 {%o0, %o1}, %rdo;\n",
            Out::F32 => "mov.b32 %o0, %fo;\n",
            Out::F64 => "mov.b64 {%o0, %o1}, %fdo;\n",
            Out::B16 => "cvt.u32.u16 %o0, %ho;\n",
            Out::Pred => "selp.u32 %o0, 1, 0, %p2;\n",
            Out::Words => "",
            Out::Floats => "mov.b32 %o0, %fo0;\nmov.b32 %o1, %fo1;\nmov.b32 %o2, %fo2;\nmov.b32 %o3, %fo3;\n",
            Out::Scratch => {
                "bar.sync 0;\nmul.wide.u32 %rd8, %tid, 4;\nadd.u64 %rd8, %rdg, %rd8;\nld.global.u32 %o0, [%rd8];\n"
            }
        };
        for i in 0..OUT {
            let _ = writeln!(t, "st.global.u32 [%rdout+{}], %o{i};", 4 * i);
        }
        t + "ret;\n}\n"
    }

    /// The words of each thread that mean something.
    fn words(self) -> usize {
        match self.0.out {
            Out::B32 | Out::F32 | Out::B16 | Out::Pred | Out::Scratch => 1,
            Out::B64 | Out::F64 => 2,
            Out::Words | Out::Floats => OUT,
        }
    }

    /// Runs the kernel; the results of all threads, one after the other.
    pub fn run(self, device: &dyn Device) -> Result<Vec<u32>, Error> {
        let kernel = device.load_kernel(&KernelBinary {
            name: "k".into(),
            ptx: self.ptx(),
            cubin: vec![],
            threads: THREADS as u32,
            shared_bytes: 0,
            resources: Resources::default(),
        })?;
        let mut held = vec![];
        let result = self.on(device, kernel, &mut held);
        for at in held {
            device.free(at)?;
        }
        device.unload_kernel(kernel)?;
        result
    }

    fn on(
        self,
        device: &dyn Device,
        kernel: tilewright_runtime::device::Kernel,
        held: &mut Vec<DevicePtr>,
    ) -> Result<Vec<u32>, Error> {
        let input: Vec<u8> = self.input().iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut found = vec![0; 4 * OUT * THREADS * BLOCKS];
        let mut alloc = |label: &str, bytes: usize| -> Result<DevicePtr, Error> {
            let at = device.alloc(label, bytes as u64)?;
            held.push(at);
            Ok(at)
        };
        let x = alloc("x", input.len())?;
        let o = alloc("o", found.len())?;
        let g = alloc("g", SCRATCH * BLOCKS)?;
        device.upload(x, &input, Stream::Own)?;
        device.zero(g, (SCRATCH * BLOCKS) as u64, Stream::Own)?;
        device.launch(kernel, BLOCKS as u32, &[x, o, g], Stream::Own)?;
        device.download(o, &mut found, Stream::Own)?;
        device.synchronize(Stream::Own)?;
        let words = self.words();
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok(found.chunks_exact(4 * OUT).flat_map(|t| t.chunks_exact(4).take(words).map(word)).collect())
    }

    /// How far results are from expected ones.
    pub fn compare(self, found: &[u32], expected: &[u32]) -> Difference {
        if found.len() != expected.len() {
            return Difference { error: f64::INFINITY, allowed: 0.0 };
        }
        let step = if matches!(self.0.out, Out::B64 | Out::F64) { 2 } else { 1 };
        let pairs = found.chunks_exact(step).zip(expected.chunks_exact(step));
        if let Compare::Within { relative, absolute } = self.0.compare {
            let distance = |(a, b): (&[u32], &[u32])| {
                let (a, b) = (f64::from(f32::from_bits(a[0])), f64::from(f32::from_bits(b[0])));
                if a == b || a.is_nan() && b.is_nan() {
                    return 0.0;
                }
                // Both may be off, to either side.
                let allowed = 2.0 * (absolute + relative * a.abs().max(b.abs()));
                let error = (a - b).abs() / allowed;
                if error.is_nan() { f64::INFINITY } else { error }
            };
            return Difference { error: pairs.map(distance).fold(0.0, f64::max), allowed: 1.0 };
        }
        let nan = |w: &[u32]| match self.0.out {
            Out::F32 | Out::Floats => f32::from_bits(w[0]).is_nan(),
            Out::F64 => f64::from_bits(u64::from(w[1]) << 32 | u64::from(w[0])).is_nan(),
            _ => false,
        };
        let alike = |a: &[u32], b: &[u32]| a == b || self.0.compare == Compare::Values && nan(a) && nan(b);
        let error = pairs.filter(|(a, b)| !alike(a, b)).count() as f64;
        Difference { error, allowed: 0.0 }
    }
}

impl Difference {
    /// Whether the results agree.
    pub fn passes(self) -> bool {
        self.error <= self.allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tilewright_runtime::device::{EmulatedDevice, EmulatorOptions};

    fn case(name: &str) -> Case {
        cases().find(|c| c.name() == name).unwrap()
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = cases().map(Case::name).collect();
        assert_eq!(names.len(), KERNELS.len());
        let versions: BTreeSet<u64> = cases().map(Case::version).collect();
        assert_eq!(versions.len(), KERNELS.len());
    }

    #[test]
    fn all_run_clean_on_the_emulator_and_repeat() {
        let options =
            EmulatorOptions { sanitize: tilewright_emulator::Sanitize::ALL, ..EmulatorOptions::default() };
        let (one, two) =
            (EmulatedDevice::new(Default::default(), &options), EmulatedDevice::open(None).unwrap());
        for c in cases() {
            let found = c.run(&one).unwrap_or_else(|e| panic!("{}: {e}\n{}", c.name(), c.ptx()));
            assert_eq!(found.len(), 256 * c.words());
            assert!(
                found.iter().any(|w| *w != found[0]) || c.name().starts_with("match.all"),
                "{}",
                c.name()
            );
            assert_eq!(c.compare(&c.run(&two).unwrap(), &found).error, 0.0, "{}", c.name());
        }
    }

    /// A few kernels against the host, so that the template hands operands over as it should.
    #[test]
    fn operands_and_results_are_where_they_should_be() {
        let device = EmulatedDevice::open(None).unwrap();
        let check = |name: &str, f: &dyn Fn(&[u32]) -> Vec<u32>| {
            let c = case(name);
            let want: Vec<u32> = c.input().chunks_exact(IN).flat_map(f).collect();
            assert_eq!(c.run(&device).unwrap(), want, "{name}");
        };
        check("add.s32", &|i| vec![i[0].wrapping_add(i[2])]);
        check("mad.lo.s32", &|i| vec![i[0].wrapping_mul(i[2]).wrapping_add(i[4])]);
        let wide = |i: &[u32], k: usize| u64::from(i[k]) | u64::from(i[k + 1]) << 32;
        check("mul.lo.s64", &|i| {
            let v = wide(i, 0).wrapping_mul(wide(i, 2));
            vec![v as u32, (v >> 32) as u32]
        });
        check("setp.hi.u32", &|i| vec![u32::from(i[0] > i[2])]);
        check("copysign.f32", &|i| vec![i[0] & 0x8000_0000 | i[2] & 0x7fff_ffff]);
        check("cp.async", &|i| i[..4].to_vec());
        let c = case("atom.global.add.u32");
        let (input, got) = (c.input(), c.run(&device).unwrap());
        for block in 0..BLOCKS {
            for t in 0..THREADS {
                let lanes = (0..THREADS).filter(|l| l % 16 == t);
                let sum = lanes.fold(0u32, |s, l| s.wrapping_add(input[(block * THREADS + l) * IN]));
                assert_eq!(got[block * THREADS + t], sum);
            }
        }
    }

    #[test]
    fn comparisons() {
        let d = |name: &str, a: &[u32], b: &[u32]| case(name).compare(a, b);
        assert!(d("add.s32", &[1, 2], &[1, 2]).passes());
        assert_eq!(d("add.s32", &[1, 2, 3], &[1, 4, 5]).error, 2.0);
        assert!(!d("add.s32", &[1], &[1, 2]).passes());
        let (nan, other) = (0x7fff_ffff, 0xffc0_0000);
        assert!(d("add.rn.f32", &[nan], &[other]).passes() && !d("add.rn.f32", &[nan], &[0]).passes());
        assert!(!d("add.s32", &[nan], &[other]).passes(), "integers have no NaN");
        assert!(!d("add.rn.f32", &[0], &[0x8000_0000]).passes(), "zeros have signs");
        assert!(d("add.rz.f64", &[0, 0x7ff8_0000], &[1, 0xfff8_0000]).passes());
        let f = f32::to_bits;
        let near = |x: f32, n: u32| f32::from_bits(f(x) + n);
        assert!(d("ex2.approx.ftz.f32", &[f(3.0)], &[f(near(3.0, 3))]).passes());
        assert!(!d("ex2.approx.ftz.f32", &[f(3.0)], &[f(near(3.0, 9))]).passes());
        assert!(!d("ex2.approx.ftz.f32", &[f(3.0)], &[f(f32::NAN)]).passes());
        assert!(!d("ex2.approx.ftz.f32", &[f(f32::INFINITY)], &[f(3.0)]).passes());
        assert!(!d("ex2.approx.ftz.f32", &[f(f32::MAX)], &[f(f32::INFINITY)]).passes());
    }

    #[test]
    fn architectures() {
        assert!(case("add.s32").runs_on(None) && case("stmatrix.x4").runs_on(None));
        assert!(case("add.s32").runs_on(Some("sm_80")) && !case("stmatrix.x4").runs_on(Some("sm_80")));
        assert!(case("stmatrix.x4").runs_on(Some("sm_90a")) && case("stmatrix.x4").runs_on(Some("sm_120")));
        assert!(case("cvt.rn.f16x2.e4m3x2").runs_on(Some("sm_89")));
    }
}
