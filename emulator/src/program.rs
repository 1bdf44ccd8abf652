//! What: a parsed and decoded module.
//! Why here: the thing that is launched; it owns the module's variables, as a loaded module does on a device.
//! Pre: PTX text.
//! Post: every entry is decoded, so nothing about the text can fail at launch.

use crate::decode::{Symbol, decode_entry};
use crate::error::PtxError;
use crate::inst::{Inst, Meta};
use crate::machine::space;
use crate::memory::Storage;
use crate::parse::ast::{Init, Module, Operand, Pos, Stmt, Var, VarSpace};
use crate::parse::parse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// The name in PTX.
    pub name: String,
    /// Byte offset in the parameter buffer.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// Special registers that are fixed for a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Lane,
    Warp,
    Warps,
    Sm,
    Sms,
    Zero,
    ClusterId(u8),
    Nclusterid(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterRank,
    ClusterRanks,
    Clustered,
    MaskEq,
    MaskLe,
    MaskLt,
    MaskGe,
    MaskGt,
    DynShared,
    TotalShared,
    /// The upper (0) or lower (1) half of the address of the workspace of cooperative launches.
    Workspace(u8),
}

/// What a row holds from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RowValue {
    Const(u64),
    Special(Special),
    /// The address of dynamic shared memory; a `Const` once decoding is over.
    DynShared,
}

/// A row with a fixed value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowInit {
    pub(crate) offset: u32,
    pub(crate) bits: u32,
    pub(crate) value: RowValue,
}

/// A decoded entry.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) code: Vec<Inst>,
    pub(crate) meta: Vec<Meta>,
    pub(crate) texts: Vec<String>,
    pub(crate) mix: Vec<String>,
    pub(crate) words: u32,
    pub(crate) preds: u32,
    pub(crate) inits: Vec<RowInit>,
    pub(crate) zero_rows: Vec<(u32, u32)>,
    /// Variables in shared memory: offset, bytes, name.
    pub(crate) shared_names: Vec<(u64, u64, String)>,
    pub(crate) static_shared: u32,
    pub(crate) dyn_offset: u32,
    pub(crate) local_bytes: u32,
    pub(crate) param_bytes: u32,
    pub(crate) params: Vec<ParamInfo>,
    pub(crate) reqntid: Option<[u32; 3]>,
    pub(crate) maxntid: Option<[u32; 3]>,
    pub(crate) maxnreg: Option<u32>,
    /// Blocks of a cluster, where the kernel fixes them.
    pub(crate) cluster: Option<[u32; 3]>,
    pub(crate) max_live: u32,
    /// The workspace of cooperative launches, where the kernel asks for it.
    pub(crate) workspace: u64,
}

/// The module's variables.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) base: u64,
    pub(crate) globals: Storage,
    pub(crate) consts: Vec<u8>,
    /// Variables in global memory: offset, bytes, name.
    pub(crate) names: Vec<(u64, u64, String)>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) kernels: BTreeMap<String, Kernel>,
    pub(crate) image: Image,
    pub(crate) files: BTreeMap<u32, String>,
}

/// A parsed and decoded PTX module. Cheap to clone; its module variables are shared by the clones, as by the
/// launches of one loaded module.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) inner: Arc<Inner>,
}

impl Program {
    /// Parses and decodes a module.
    pub fn parse(ptx: &str) -> Result<Program, PtxError> {
        let module = parse(ptx)?;
        let (image, symbols) = lay_out(&module)?;
        let mut kernels = BTreeMap::new();
        for (i, f) in module.funcs.iter().enumerate() {
            if f.entry && f.body.is_some() {
                let k = decode_entry(&module, i, &symbols)?;
                kernels.insert(k.name.clone(), k);
            }
        }
        let files = module.files.iter().cloned().collect();
        Ok(Program { inner: Arc::new(Inner { kernels, image, files }) })
    }

    /// The names of the entries, sorted.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.inner.kernels.keys().map(String::as_str)
    }

    /// The parameters of an entry.
    pub fn params(&self, entry: &str) -> Option<Vec<ParamInfo>> {
        self.inner.kernels.get(entry).map(|k| k.params.clone())
    }

    /// The static shared memory of an entry, in bytes.
    pub fn static_shared(&self, entry: &str) -> Option<u32> {
        self.inner.kernels.get(entry).map(|k| k.static_shared)
    }

    /// The registers of a thread that an entry was written for, as far as its directives say: those of `.maxnreg`,
    /// or what `.maxntid` (or `.reqntid`) threads of one block can have of `per_sm` registers; else 64.
    pub fn assumed_registers(&self, entry: &str, per_sm: u32) -> Option<u32> {
        let k = self.inner.kernels.get(entry)?;
        let threads = k.reqntid.or(k.maxntid).map(|t| t.iter().fold(1u32, |n, d| n.saturating_mul(*d)));
        let share = threads.map(|t| (per_sm / t.next_multiple_of(32).max(32) / 8 * 8).clamp(8, 64));
        Some(k.maxnreg.or(share).unwrap_or(64))
    }

    /// The most 32-bit registers that are live at once in an entry: a lower bound of what a device needs.
    pub fn register_pressure(&self, entry: &str) -> Option<u32> {
        self.inner.kernels.get(entry).map(|k| k.max_live)
    }
}

fn error(pos: Pos, name: &str, message: &str) -> PtxError {
    PtxError { line: pos.line, column: pos.column, instruction: name.to_owned(), message: message.to_owned() }
}

/// The variable at an offset, in words: its name, and how far into it.
pub(crate) fn variable(names: &[(u64, u64, String)], at: u64) -> Option<String> {
    let (start, _, name) =
        names.iter().find(|(start, bytes, _)| at >= *start && at - start < (*bytes).max(1))?;
    let name = plain(name);
    Some(if at == *start { format!("`{name}`") } else { format!("`{name}`+{}", at - start) })
}

/// The source name of a variable of a function, whose mangled name ends in `E`, its length and itself.
fn plain(name: &str) -> &str {
    let mangled = name
        .strip_prefix("_ZZ")
        .into_iter()
        .flat_map(|rest| rest.match_indices('E').map(move |(i, _)| &rest[i + 1..]));
    for tail in mangled {
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let (n, rest) = tail.split_at(digits);
        if let Ok(n) = n.parse::<usize>()
            && n > 0
            && let Some(word) = rest.get(..n)
            && rest[n..].bytes().all(|b| b == b'_' || b.is_ascii_digit())
        {
            return word;
        }
    }
    name
}

/// Module variables share this much address space, so that modules never overlap.
const MODULE_WINDOW: u64 = 1 << 32;
/// Constant memory of a module; the hardware has 64 KiB, and large tables are welcome here.
const MAX_CONST: u64 = 1 << 24;

/// The symbol of the workspace of cooperative launches; no name of PTX contains a blank.
pub(crate) const WORKSPACE: &str = "cooperative workspace";

fn lay_out<'a>(module: &Module<'a>) -> Result<(Image, HashMap<&'a str, Symbol>), PtxError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed) % 4096;
    let base = space::MODULE_BASE + id * MODULE_WINDOW;
    let (mut globals, mut consts) = (0u64, 0u64);
    let mut symbols = HashMap::new();
    for (i, f) in module.funcs.iter().enumerate() {
        symbols.insert(f.name, Symbol::Func(space::FUNC_BASE + 16 * i as u64));
    }
    let mut placed: Vec<(&Var<'a>, u64)> = vec![];
    for v in &module.vars {
        let at = match v.space {
            VarSpace::Global => &mut globals,
            VarSpace::Const => &mut consts,
            _ => continue,
        };
        *at = at.div_ceil(u64::from(v.align)) * u64::from(v.align);
        placed.push((v, *at));
        let s = if v.space == VarSpace::Global { Symbol::Global(base + *at) } else { Symbol::Const(*at) };
        symbols.insert(v.name, s);
        *at = at.saturating_add(v.bytes);
        if globals > MODULE_WINDOW / 2 || consts > MAX_CONST {
            return Err(error(
                v.pos,
                v.name,
                "the module's variables are too large: allocate buffers instead",
            ));
        }
    }
    // Grid-wide barriers of cooperative groups find their counter through two registers that a driver fills.
    let asks = |o: &Operand<'_>| matches!(o, Operand::Word("%envreg1" | "%envreg2"));
    let asked = |s: &Stmt<'_>| matches!(s, Stmt::Inst(i) if i.operands.iter().any(asks));
    if module.funcs.iter().filter_map(|f| f.body.as_ref()).flatten().any(asked) {
        globals = globals.next_multiple_of(64);
        symbols.insert(WORKSPACE, Symbol::Global(base + globals));
        globals += 64;
    }
    let names = placed.iter().filter(|(v, _)| v.space == VarSpace::Global);
    let names = names.map(|(v, at)| (*at, v.bytes, v.name.to_owned())).collect();
    let storage = Storage::zeroed(globals).ok_or_else(|| {
        error(Pos::default(), "module variables", "the host has no memory for the module's variables")
    })?;
    let mut const_bytes = vec![0u8; consts as usize];
    for (v, at) in placed {
        let unit = (v.ty.bits() / 8) as usize;
        let mut i = at as usize;
        for item in &v.init {
            let value = match item {
                Init::Int(x) | Init::F64(x) => *x,
                Init::F32(x) if unit == 8 => f64::from(f32::from_bits(*x)).to_bits(),
                Init::F32(x) => u64::from(*x),
                Init::Symbol { name, offset } => match symbols.get(name) {
                    Some(Symbol::Global(a) | Symbol::Func(a)) => a.wrapping_add(*offset as u64),
                    Some(Symbol::Const(a)) => (space::CONST_BASE + a).wrapping_add(*offset as u64),
                    _ => return Err(error(v.pos, v.name, "an initialiser names an unknown variable")),
                },
            };
            let value = value.to_le_bytes();
            let n = unit.min(8);
            if v.space == VarSpace::Global {
                storage.write(i as u64, &value[..n]);
            } else if let Some(slot) = const_bytes.get_mut(i..i + n) {
                slot.copy_from_slice(&value[..n]);
            }
            i += unit;
        }
    }
    Ok((Image { base, globals: storage, consts: const_bytes, names }, symbols))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_as_in_the_source() {
        assert_eq!(plain("_ZZ7split_kE4last"), "last");
        assert_eq!(plain("_ZZ4ringE4full_0"), "full");
        assert_eq!(plain("smem"), "smem");
        assert_eq!(plain("_ZZ"), "_ZZ");
        let names = [(0, 8, "_ZZ1kE1a".to_owned()), (16, 64, "tile".to_owned())];
        assert_eq!(variable(&names, 4).as_deref(), Some("`a`+4"));
        assert_eq!(variable(&names, 16).as_deref(), Some("`tile`"));
        assert_eq!(variable(&names, 8), None);
    }
}
