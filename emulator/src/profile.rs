//! What: device limits, and how many blocks they let an SM hold.
//! Why here: launches are checked against a named device, not against the host. The numbers are data: the files in
//! `profiles/` say for each limit where it is documented.
//! Pre: none.
//! Post: limits per architecture as the CUDA programming guide tabulates them.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The limits of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub name: String,
    /// The compute capability: major, minor.
    pub compute_capability: [u32; 2],
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Shared memory that one block may have, in bytes; more than `shared_static_max` must be dynamic.
    pub shared_per_block_max: u32,
    /// Shared memory of an SM, in bytes.
    pub shared_per_sm: u32,
    /// Shared memory that the system takes of each block, in bytes.
    pub shared_reserved_per_block: u32,
    /// Shared memory that a block may declare in its code, in bytes.
    pub shared_static_max: u32,
    /// Shared memory is given out in multiples of this, in bytes.
    pub shared_unit: u32,
    /// Threads that one block may have.
    pub threads_per_block_max: u32,
    /// Threads that fit an SM.
    pub threads_per_sm: u32,
    /// Threads of a block in x, y and z.
    pub block_max: [u32; 3],
    /// Blocks of a grid in x, y and z.
    pub grid_max: [u32; 3],
    /// Blocks that fit an SM.
    pub blocks_per_sm: u32,
    /// Warps that fit an SM.
    pub warps_per_sm: u32,
    /// 32-bit registers of an SM.
    pub registers_per_sm: u32,
    /// 32-bit registers that one block may have.
    pub registers_per_block_max: u32,
    /// 32-bit registers that one thread may have.
    pub registers_per_thread_max: u32,
    /// Each warp gets a multiple of this many registers.
    pub register_unit: u32,
    /// Parts of an SM that have registers of their own; a warp lives in one of them.
    pub register_partitions: u32,
    /// Blocks of a cluster that every launch may ask for; 1 where there are no clusters.
    pub cluster_max: u32,
    /// Blocks of a cluster where the kernel allows sizes that are not portable.
    pub cluster_max_nonportable: u32,
    /// Bytes of the L2 cache.
    pub l2_bytes: u64,
    /// Bytes of constant memory.
    pub constant_bytes: u32,
    /// Bytes of device memory.
    pub memory_bytes: u64,
}

/// What differs between architectures.
#[derive(Deserialize)]
struct Architecture {
    shared_per_block_max: u32,
    shared_per_sm: u32,
    threads_per_sm: u32,
    blocks_per_sm: u32,
    warps_per_sm: u32,
    cluster_max: u32,
    cluster_max_nonportable: u32,
}

/// What all of them share.
#[derive(Deserialize)]
struct Common {
    threads_per_block_max: u32,
    block_max: [u32; 3],
    grid_max: [u32; 3],
    shared_reserved_per_block: u32,
    shared_static_max: u32,
    shared_unit: u32,
    registers_per_sm: u32,
    registers_per_block_max: u32,
    registers_per_thread_max: u32,
    register_unit: u32,
    register_partitions: u32,
    constant_bytes: u32,
}

#[derive(Deserialize)]
struct Device {
    compute_capability: String,
    sms: u32,
    l2_bytes: u64,
    memory_bytes: u64,
}

const ARCHITECTURES: &str = include_str!("../profiles/architectures.json");
const DEVICES: &str = include_str!("../profiles/devices.json");

/// All profiles by name; `None` if a file is wrong, which a test excludes.
fn load() -> Option<BTreeMap<String, Profile>> {
    let architectures: BTreeMap<String, serde_json::Value> = serde_json::from_str(ARCHITECTURES).ok()?;
    let common: Common = serde_json::from_value(architectures.get("all")?.clone()).ok()?;
    let devices: BTreeMap<String, Device> = serde_json::from_str(DEVICES).ok()?;
    let build = |(name, d): (String, Device)| -> Option<(String, Profile)> {
        let a: Architecture =
            serde_json::from_value(architectures.get(&d.compute_capability)?.clone()).ok()?;
        let (major, minor) = d.compute_capability.split_once('.')?;
        let profile = Profile {
            name: name.clone(),
            compute_capability: [major.parse().ok()?, minor.parse().ok()?],
            sms: d.sms,
            shared_per_block_max: a.shared_per_block_max,
            shared_per_sm: a.shared_per_sm,
            shared_reserved_per_block: common.shared_reserved_per_block,
            shared_static_max: common.shared_static_max,
            shared_unit: common.shared_unit,
            threads_per_block_max: common.threads_per_block_max,
            threads_per_sm: a.threads_per_sm,
            block_max: common.block_max,
            grid_max: common.grid_max,
            blocks_per_sm: a.blocks_per_sm,
            warps_per_sm: a.warps_per_sm,
            registers_per_sm: common.registers_per_sm,
            registers_per_block_max: common.registers_per_block_max,
            registers_per_thread_max: common.registers_per_thread_max,
            register_unit: common.register_unit,
            register_partitions: common.register_partitions,
            cluster_max: a.cluster_max,
            cluster_max_nonportable: a.cluster_max_nonportable,
            l2_bytes: d.l2_bytes,
            constant_bytes: common.constant_bytes,
            memory_bytes: d.memory_bytes,
        };
        Some((name, profile))
    };
    devices.into_iter().map(build).collect()
}

fn profiles() -> &'static BTreeMap<String, Profile> {
    static ALL: OnceLock<BTreeMap<String, Profile>> = OnceLock::new();
    // The files are part of the program and every test run reads them.
    #[allow(clippy::expect_used)]
    ALL.get_or_init(|| load().expect("the profiles that are built in can be read"))
}

impl Profile {
    /// A device by name: "h100", "h200", "a100", "rtx4090", "rtx5090", or "tiny1", "tiny3", "tiny4", "tiny8", which
    /// are H100s with that many SMs.
    pub fn named(name: &str) -> Option<Profile> {
        profiles().get(name).cloned()
    }

    /// The names that `named` knows, sorted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        profiles().keys().map(String::as_str)
    }

    /// Registers that a warp takes, whose threads have that many.
    pub fn registers_of_warp(&self, per_thread: u32) -> u32 {
        per_thread.saturating_mul(32).checked_next_multiple_of(self.register_unit.max(1)).unwrap_or(u32::MAX)
    }

    /// Blocks that an SM holds at once, by warps, registers and shared memory. 0 registers are not known and do not
    /// count; `shared` is what a block asks for, without the system's part. 0 when not even one fits.
    pub fn resident_per_sm(&self, threads: u32, registers_per_thread: u32, shared: u64) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let taken = shared
            .saturating_add(u64::from(self.shared_reserved_per_block))
            .div_ceil(u64::from(self.shared_unit.max(1)))
            .saturating_mul(u64::from(self.shared_unit.max(1)))
            .max(1);
        let by_shared = u32::try_from(u64::from(self.shared_per_sm) / taken).unwrap_or(u32::MAX);
        let by_registers = if registers_per_thread == 0 {
            u32::MAX
        } else {
            // A warp's registers come from one partition, so what is left over in each is lost.
            let parts = self.register_partitions.max(1);
            let each = self.registers_per_sm / parts / self.registers_of_warp(registers_per_thread).max(1);
            each * parts / warps
        };
        self.blocks_per_sm
            .min(self.warps_per_sm / warps)
            .min(self.threads_per_sm / (warps * 32))
            .min(by_shared)
            .min(by_registers)
    }
}

impl Default for Profile {
    /// A machine of 4 SMs with the limits of an H100.
    fn default() -> Profile {
        profiles()["tiny4"].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the programming guide, typed in a second time.
    #[test]
    fn the_files_say_what_the_guide_says() {
        let table = [
            // name, capability, SMs, KiB per block, KiB per SM, threads, blocks, warps, cluster
            ("a100", [8, 0], 108, 163, 164, 2048, 32, 64, 1),
            ("rtx4090", [8, 9], 128, 99, 100, 1536, 24, 48, 1),
            ("h100", [9, 0], 132, 227, 228, 2048, 32, 64, 8),
            ("h200", [9, 0], 132, 227, 228, 2048, 32, 64, 8),
            ("rtx5090", [12, 0], 170, 99, 100, 1536, 24, 48, 8),
            ("tiny1", [9, 0], 1, 227, 228, 2048, 32, 64, 8),
            ("tiny3", [9, 0], 3, 227, 228, 2048, 32, 64, 8),
            ("tiny4", [9, 0], 4, 227, 228, 2048, 32, 64, 8),
            ("tiny8", [9, 0], 8, 227, 228, 2048, 32, 64, 8),
        ];
        assert_eq!(Profile::names().count(), table.len());
        for (name, cc, sms, block, sm, threads, blocks, warps, cluster) in table {
            let p = Profile::named(name).unwrap();
            assert_eq!((p.name.as_str(), p.compute_capability, p.sms), (name, cc, sms));
            assert_eq!((p.shared_per_block_max, p.shared_per_sm), (block << 10, sm << 10), "{name}");
            assert_eq!(p.shared_per_sm - p.shared_per_block_max, p.shared_reserved_per_block);
            assert_eq!((p.threads_per_sm, p.blocks_per_sm, p.warps_per_sm), (threads, blocks, warps));
            assert_eq!((p.cluster_max, p.threads_per_block_max), (cluster, 1024));
            assert_eq!(
                (p.registers_per_sm, p.registers_per_thread_max, p.register_unit),
                (1 << 16, 255, 256)
            );
            assert_eq!((p.constant_bytes, p.grid_max), (1 << 16, [(1 << 31) - 1, 65_535, 65_535]));
            assert!(p.cluster_max_nonportable >= p.cluster_max && p.memory_bytes > p.l2_bytes);
        }
        assert_eq!(Profile::default().name, "tiny4");
        assert!(Profile::named("h1000").is_none() && Profile::named("all").is_none());
    }

    #[test]
    fn every_limit_has_a_source() {
        let all: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
            serde_json::from_str(ARCHITECTURES).unwrap();
        for (name, limits) in &all {
            let sources = limits["sources"].as_object().unwrap();
            for limit in limits.keys().filter(|k| *k != "sources") {
                assert!(sources.get(limit).is_some_and(|s| s.is_string()), "{name}: {limit}");
            }
            assert_eq!(sources.len() + 1, limits.len(), "{name}: sources of limits that are not there");
        }
        let devices: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
            serde_json::from_str(DEVICES).unwrap();
        assert!(devices.values().all(|d| d["source"].is_string()));
    }

    /// Worked by hand from the rules.
    #[test]
    fn residency() {
        let p = Profile::named("h100").unwrap();
        assert_eq!(p.registers_of_warp(1), 256);
        assert_eq!(p.registers_of_warp(32), 1024);
        assert_eq!(p.registers_of_warp(33), 1280);
        // Threads: 2048 / 256. Blocks: 32 of one warp. A warp is a warp, however few threads it has.
        assert_eq!(p.resident_per_sm(256, 0, 0), 8);
        assert_eq!(p.resident_per_sm(1, 0, 0), 32);
        assert_eq!(p.resident_per_sm(33, 0, 0), 32);
        assert_eq!(p.resident_per_sm(1024, 0, 0), 2);
        // Registers: 65 are 72 per thread, 2304 per warp, 7 warps per partition, 28 per SM.
        assert_eq!(p.resident_per_sm(128, 64, 0), 8);
        assert_eq!(p.resident_per_sm(128, 65, 0), 7);
        assert_eq!(p.resident_per_sm(256, 255, 0), 1);
        assert_eq!(p.resident_per_sm(1024, 65, 0), 0);
        // Shared memory: 1 KiB more than asked for, in units of 128 bytes.
        assert_eq!(p.resident_per_sm(32, 0, 227 << 10), 1);
        assert_eq!(p.resident_per_sm(32, 0, 113 << 10), 2);
        assert_eq!(p.resident_per_sm(32, 0, (113 << 10) + 1), 1);
        assert_eq!(p.resident_per_sm(32, 0, 228 << 10), 0);
        assert_eq!(p.resident_per_sm(32, 0, u64::MAX), 0);
        let ada = Profile::named("rtx4090").unwrap();
        assert_eq!(ada.resident_per_sm(1024, 0, 0), 1);
        assert_eq!(ada.resident_per_sm(32, 0, 0), 24);
        assert_eq!(ada.resident_per_sm(32, 0, 49 << 10), 2);
    }
}
