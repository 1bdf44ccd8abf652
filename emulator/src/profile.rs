//! What: device limits.
//! Why here: launches are checked against a named device, not against the host.
//! Pre: none.
//! Post: limits per architecture as the CUDA programming guide tabulates them.

/// The limits of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub name: String,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Shared memory that one block may have, in bytes.
    pub shared_per_block_max: u32,
    /// Shared memory of an SM, in bytes.
    pub shared_per_sm: u32,
    /// Threads that one block may have.
    pub threads_per_block_max: u32,
    /// Threads that fit an SM.
    pub threads_per_sm: u32,
    /// Blocks that fit an SM.
    pub blocks_per_sm: u32,
    /// 32-bit registers of an SM.
    pub registers_per_sm: u32,
}

impl Profile {
    fn new(name: &str, sms: u32, kib: u32, threads_per_sm: u32, blocks_per_sm: u32) -> Profile {
        Profile {
            name: name.into(),
            sms,
            shared_per_block_max: kib << 10,
            // One KiB per block is the system's.
            shared_per_sm: (kib + 1) << 10,
            threads_per_block_max: 1024,
            threads_per_sm,
            blocks_per_sm,
            registers_per_sm: 65_536,
        }
    }

    /// A device by name: "h100", "h200", "a100", "rtx4090", "rtx5090", or "tiny1", "tiny3", "tiny4", "tiny8".
    pub fn named(name: &str) -> Option<Profile> {
        Some(match name {
            "h100" | "h200" => Profile::new(name, 132, 227, 2048, 32),
            "a100" => Profile::new(name, 108, 163, 2048, 32),
            "rtx4090" => Profile::new(name, 128, 99, 1536, 24),
            "rtx5090" => Profile::new(name, 170, 99, 1536, 24),
            "tiny1" => Profile::new(name, 1, 227, 2048, 32),
            "tiny3" => Profile::new(name, 3, 227, 2048, 32),
            "tiny4" => Profile::new(name, 4, 227, 2048, 32),
            "tiny8" => Profile::new(name, 8, 227, 2048, 32),
            _ => return None,
        })
    }
}

impl Default for Profile {
    /// A machine of 4 SMs with the limits of an H100.
    fn default() -> Profile {
        Profile::new("tiny4", 4, 227, 2048, 32)
    }
}
