//! What: `vabsdiff2` and `vabsdiff4`.
//! Why here: these are the video instructions that NVRTC still emits (for sums of absolute differences); the
//! others are errors that name themselves.
//! Pre: no lane selection and no mask.
//! Post: differences per byte or half, merged into a word or added to the third operand.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::lanes::ter;
use crate::parse::ast::Operand;
use crate::types::Ty;

/// |a - b| of a lane, clamped where the result type has a sign.
macro_rules! differ {
    ($lane:ty, $wide:ty, $count:expr, $shift:expr, $max:expr, $add:expr) => {
        ter(|a: u32, b: u32, c: u32| {
            let mut r = if $add { c } else { 0 };
            for i in 0..$count {
                let (x, y) = ((a >> ($shift * i)) as $lane as $wide, (b >> ($shift * i)) as $lane as $wide);
                let t = (x - y).unsigned_abs().min($max);
                r = if $add {
                    r.wrapping_add(t)
                } else {
                    r | (t & (u32::MAX >> (32 - $shift))) << ($shift * i)
                };
            }
            r
        })
    };
}

impl<'a> Build<'_, 'a> {
    pub(super) fn video(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let (saturate, add) = (m.has("sat"), m.has("add"));
        let types = m.types();
        let [to, at, bt] = types[..] else { return self.fail("a video instruction has three types") };
        if at != bt || !matches!(at, Ty::U32 | Ty::S32) || !matches!(to, Ty::U32 | Ty::S32) {
            return self.fail("only equal .u32 or .s32 sources are supported");
        }
        if saturate && add {
            return self.fail("`.sat` does not go with `.add`");
        }
        let clamps = saturate && to == Ty::S32;
        let quad = m.name == "vabsdiff4";
        let f = match (quad, at == Ty::S32, clamps, add) {
            (true, false, false, true) => differ!(u8, i32, 4, 8, 255, true),
            (true, false, false, false) => differ!(u8, i32, 4, 8, 255, false),
            (true, false, true, _) => differ!(u8, i32, 4, 8, 127, false),
            (true, true, false, true) => differ!(i8, i32, 4, 8, 255, true),
            (true, true, false, false) => differ!(i8, i32, 4, 8, 255, false),
            (true, true, true, _) => differ!(i8, i32, 4, 8, 127, false),
            (false, false, false, true) => differ!(u16, i32, 2, 16, 65_535, true),
            (false, false, false, false) => differ!(u16, i32, 2, 16, 65_535, false),
            (false, false, true, _) => differ!(u16, i32, 2, 16, 32_767, false),
            (false, true, false, true) => differ!(i16, i32, 2, 16, 65_535, true),
            (false, true, false, false) => differ!(i16, i32, 2, 16, 65_535, false),
            (false, true, true, _) => differ!(i16, i32, 2, 16, 32_767, false),
        };
        self.three(f, o, Ty::B32, Ty::B32)
    }
}
