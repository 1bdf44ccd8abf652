//! What: naming a device in text and opening it.
//! Why here: the command line, the API and tests name devices in the same way.
//! Pre: text such as `auto`, `cuda:0`, `emulator`, `emulator:PROFILE`.
//! Post: an open device; for `auto`, the reason why it is the emulator when it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::{CudaDevice, Device, DeviceError, EmulatedDevice};

/// Which device is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The first GPU if it works, else the emulator.
    #[default]
    Auto,
    /// A GPU by its number.
    Cuda(u32),
    /// The emulator, with the default or a named profile.
    Emulator(Option<String>),
}

/// Text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` names no device: expected auto, cuda:N, emulator or emulator:PROFILE")]
pub struct SpecError(String);

impl FromStr for DeviceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text.split_once(':') {
            None if text == "auto" => Ok(DeviceSpec::Auto),
            None if text == "emulator" => Ok(DeviceSpec::Emulator(None)),
            None if text == "cuda" => Ok(DeviceSpec::Cuda(0)),
            Some(("cuda", n)) if n.bytes().all(|b| b.is_ascii_digit()) => {
                n.parse().map(DeviceSpec::Cuda).map_err(|_| SpecError(text.to_owned()))
            }
            Some(("emulator", profile)) if !profile.is_empty() => {
                Ok(DeviceSpec::Emulator(Some(profile.to_owned())))
            }
            _ => Err(SpecError(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Auto => f.write_str("auto"),
            DeviceSpec::Cuda(n) => write!(f, "cuda:{n}"),
            DeviceSpec::Emulator(None) => f.write_str("emulator"),
            DeviceSpec::Emulator(Some(profile)) => write!(f, "emulator:{profile}"),
        }
    }
}

/// A device that was opened.
#[derive(Clone)]
pub struct Opened {
    /// The device.
    pub device: Arc<dyn Device>,
    /// Why `auto` chose the emulator, when it did.
    pub note: Option<String>,
}

impl DeviceSpec {
    /// Opens the device.
    pub fn open(&self) -> Result<Opened, DeviceError> {
        match self {
            DeviceSpec::Cuda(n) => Ok(Opened { device: Arc::new(CudaDevice::open(*n)?), note: None }),
            DeviceSpec::Emulator(profile) => {
                let device = EmulatedDevice::open(profile.as_deref())?;
                Ok(Opened { device: Arc::new(device), note: None })
            }
            DeviceSpec::Auto => match CudaDevice::open(0) {
                Ok(device) => Ok(Opened { device: Arc::new(device), note: None }),
                Err(error) => {
                    let why = match error {
                        DeviceError::NoDriver => "no CUDA driver was found".to_owned(),
                        other => other.to_string(),
                    };
                    let note = Some(format!("using the emulator: {why}"));
                    Ok(Opened { device: Arc::new(EmulatedDevice::open(None)?), note })
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, spec) in [
            ("auto", DeviceSpec::Auto),
            ("cuda:0", DeviceSpec::Cuda(0)),
            ("cuda:12", DeviceSpec::Cuda(12)),
            ("emulator", DeviceSpec::Emulator(None)),
            ("emulator:h100", DeviceSpec::Emulator(Some("h100".into()))),
        ] {
            assert_eq!(text.parse::<DeviceSpec>().as_ref(), Ok(&spec));
            assert_eq!(spec.to_string(), text);
        }
        for text in
            ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:99999999999", "emulator:", "auto:1", "Auto"]
        {
            assert!(text.parse::<DeviceSpec>().is_err(), "{text}");
        }
    }
}
