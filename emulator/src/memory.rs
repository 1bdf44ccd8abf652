//! What: the device's global memory: labelled allocations with guard gaps, and read-only mappings.
//! Why here: addresses are device addresses, so that a kernel's stray access is caught and can be named.
//! Pre: none.
//! Post: no access leaves its buffer; addresses are never given out twice.
#![allow(unsafe_code)] // Raw storage: several host threads run blocks over one memory, as several SMs do.

use crate::error::MemoryError;
use crate::machine::space;
use crate::watch::defined::Bits;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Zeroed, 256-byte aligned bytes that many threads may access.
pub(crate) struct Storage {
    ptr: *mut u8,
    bytes: u64,
}

// SAFETY: the bytes are plain integers without invariants; racing kernels read arbitrary bits, never invalid ones.
unsafe impl Send for Storage {}
// SAFETY: as above.
unsafe impl Sync for Storage {}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({} bytes)", self.bytes)
    }
}

impl Storage {
    fn layout(bytes: u64) -> Option<Layout> {
        // 64 bytes of slack let vector code read whole rows at the end.
        Layout::from_size_align(usize::try_from(bytes).ok()?.checked_add(64)?, 256).ok()
    }
    pub(crate) fn zeroed(bytes: u64) -> Option<Storage> {
        let layout = Storage::layout(bytes)?;
        // SAFETY: the layout is not empty.
        let ptr = unsafe { alloc_zeroed(layout) };
        (!ptr.is_null()).then_some(Storage { ptr, bytes })
    }
    pub(crate) fn ptr(&self) -> *mut u8 {
        self.ptr
    }
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }
    /// Writes within the storage; what does not fit is cut.
    pub(crate) fn write(&self, at: u64, data: &[u8]) {
        let n = data.len().min(self.bytes.saturating_sub(at) as usize);
        // SAFETY: the range lies in the allocation.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.ptr.add(at as usize), n) }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some(l) = Storage::layout(self.bytes) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.ptr, l) }
        }
    }
}

enum Backing {
    Owned(Storage),
    Mapped(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

struct Buffer {
    label: String,
    bytes: u64,
    backing: Backing,
    defined: Option<Arc<Bits>>,
}

impl Buffer {
    fn ptr(&self) -> *mut u8 {
        match &self.backing {
            Backing::Owned(s) => s.ptr(),
            // Never written: stores check `writable` first.
            Backing::Mapped(m) => (**m).as_ref().as_ptr().cast_mut(),
        }
    }
    fn writable(&self) -> bool {
        matches!(self.backing, Backing::Owned(_))
    }
}

/// A buffer as a launch sees it.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) base: u64,
    pub(crate) bytes: u64,
    pub(crate) ptr: *mut u8,
    pub(crate) writable: bool,
    pub(crate) label: String,
    /// Which bytes are defined, where that is tracked.
    pub(crate) defined: Option<Arc<Bits>>,
}

// SAFETY: see `Storage`; mapped bytes are only read.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// The nearest region to an address, in words.
pub(crate) fn nearest(regions: &[Region], address: u64) -> String {
    let distance = |r: &Region| {
        if address < r.base { r.base - address } else { address.saturating_sub(r.base + r.bytes) }
    };
    match regions.iter().min_by_key(|r| distance(r)) {
        None => "there are no buffers".into(),
        Some(r) => {
            let what = format!("buffer `{}` ({} bytes at {:#x})", r.label, r.bytes, r.base);
            if address < r.base {
                format!("the nearest is {} bytes above: {what}", r.base - address)
            } else if address >= r.base + r.bytes {
                format!("the nearest ends {} bytes below: {what}", address - (r.base + r.bytes))
            } else {
                format!("it lies at offset {} of {what}", address - r.base)
            }
        }
    }
}

/// The device's global memory.
pub struct Memory {
    capacity: u64,
    used: u64,
    next: u64,
    buffers: BTreeMap<u64, Buffer>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} of {} bytes in {} buffers)", self.used, self.capacity, self.buffers.len())
    }
}

/// Unmapped bytes between allocations, at least.
const GUARD: u64 = 64 << 10;

impl Memory {
    /// A memory of that many bytes. Nothing is taken from the host until it is allocated.
    pub fn new(capacity_bytes: u64) -> Memory {
        Memory { capacity: capacity_bytes, used: 0, next: space::HEAP_BASE, buffers: BTreeMap::new() }
    }

    fn place(&mut self, label: &str, bytes: u64, backing: Backing) -> Result<u64, MemoryError> {
        let free = self.capacity - self.used;
        if bytes > free {
            return Err(MemoryError::Full { label: label.into(), bytes, free, capacity: self.capacity });
        }
        let base = self.next;
        let full = || MemoryError::Full { label: label.into(), bytes, free: 0, capacity: self.capacity };
        self.next =
            base.checked_add(bytes).and_then(|e| e.checked_add(GUARD)).ok_or_else(full)?.div_ceil(256) * 256;
        self.used += bytes;
        self.buffers.insert(base, Buffer { label: label.into(), bytes, backing, defined: None });
        Ok(base)
    }

    /// Allocates a zeroed buffer; the address is a multiple of 256.
    pub fn alloc(&mut self, label: &str, bytes: u64) -> Result<u64, MemoryError> {
        let free = self.capacity - self.used;
        if bytes > free {
            return Err(MemoryError::Full { label: label.into(), bytes, free, capacity: self.capacity });
        }
        let s = Storage::zeroed(bytes).ok_or_else(|| MemoryError::HostFull { label: label.into(), bytes })?;
        self.place(label, bytes, Backing::Owned(s))
    }

    /// Allocates a buffer whose contents count as undefined until they are written, as those of a fresh
    /// allocation on a device.
    pub fn alloc_undefined(&mut self, label: &str, bytes: u64) -> Result<u64, MemoryError> {
        let at = self.alloc(label, bytes)?;
        if let Some(b) = self.buffers.get_mut(&at) {
            b.defined = Some(Arc::new(Bits::new(bytes)));
        }
        Ok(at)
    }

    /// Maps host bytes (a memory-mapped weights file, for instance) without a copy; stores into them are errors.
    pub fn map_read_only(
        &mut self,
        label: &str,
        bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    ) -> Result<u64, MemoryError> {
        let n = (*bytes).as_ref().len() as u64;
        self.place(label, n, Backing::Mapped(bytes))
    }

    /// Frees a buffer. Its addresses are not used again, so a stale pointer is caught.
    pub fn free(&mut self, addr: u64) -> Result<(), MemoryError> {
        match self.buffers.remove(&addr) {
            Some(b) => {
                self.used -= b.bytes;
                Ok(())
            }
            None => Err(MemoryError::NotAllocated { address: addr }),
        }
    }

    /// Bytes allocated and mapped.
    pub fn used(&self) -> u64 {
        self.used
    }

    fn find(&self, addr: u64, bytes: u64) -> Result<(&Buffer, *mut u8), MemoryError> {
        if let Some((base, b)) = self.buffers.range(..=addr).next_back() {
            let off = addr - base;
            if off <= b.bytes && bytes <= b.bytes - off {
                // SAFETY: off lies in the buffer.
                return Ok((b, unsafe { b.ptr().add(off as usize) }));
            }
        }
        Err(MemoryError::Unmapped { address: addr, bytes, nearest: nearest(&self.regions(), addr) })
    }

    fn base_of(&self, addr: u64) -> u64 {
        self.buffers.range(..=addr).next_back().map_or(0, |(base, _)| *base)
    }

    /// Writes host bytes.
    pub fn write(&self, addr: u64, data: &[u8]) -> Result<(), MemoryError> {
        let (b, p) = self.find(addr, data.len() as u64)?;
        if !b.writable() {
            return Err(MemoryError::ReadOnly { label: b.label.clone() });
        }
        if let Some(d) = &b.defined {
            d.set(addr - self.base_of(addr), data.len() as u64, true);
        }
        // SAFETY: `find` checked the range; `data` cannot overlap device storage.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), p, data.len()) };
        Ok(())
    }

    /// Writes one aligned word while kernels may look at it.
    pub fn poke(&self, addr: u64, word: u32) -> Result<(), MemoryError> {
        let (b, p) = self.find(addr, 4)?;
        if !b.writable() || !p.cast::<u32>().is_aligned() {
            return Err(MemoryError::ReadOnly { label: b.label.clone() });
        }
        if let Some(d) = &b.defined {
            d.set(addr - self.base_of(addr), 4, true);
        }
        // SAFETY: `find` checked the range, and the address is aligned; nobody else holds a reference to device storage.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(p.cast()) }
            .store(word, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Reads into host bytes.
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let (_, p) = self.find(addr, out.len() as u64)?;
        // SAFETY: `find` checked the range; `out` is exclusive, so it cannot overlap.
        unsafe { std::ptr::copy_nonoverlapping(p, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Copies between buffers; the ranges may overlap.
    pub fn copy(&self, dst: u64, src: u64, bytes: u64) -> Result<(), MemoryError> {
        let (d, dp) = self.find(dst, bytes)?;
        let (_, sp) = self.find(src, bytes)?;
        if !d.writable() {
            return Err(MemoryError::ReadOnly { label: d.label.clone() });
        }
        if let Some(d) = &d.defined {
            d.set(dst - self.base_of(dst), bytes, true);
        }
        // SAFETY: both ranges were checked; `copy` allows overlap.
        unsafe { std::ptr::copy(sp, dp, bytes as usize) };
        Ok(())
    }

    /// The buffers, sorted by address.
    pub(crate) fn regions(&self) -> Vec<Region> {
        self.buffers
            .iter()
            .map(|(base, b)| Region {
                base: *base,
                bytes: b.bytes,
                ptr: b.ptr(),
                writable: b.writable(),
                label: b.label.clone(),
                defined: b.defined.clone(),
            })
            .collect()
    }
}
