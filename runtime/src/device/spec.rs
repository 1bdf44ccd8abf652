//! What: naming a device in text and opening it.
//! Why here: the command line, the API and tests name devices in the same way.
//! Pre: text such as `auto`, `cuda:0`, `emulator`, `emulator:PROFILE`, `emulator:tiny3,sanitize=all,seed=1`.
//! Post: an open device; for `auto`, the reason why it is the emulator when it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use tilewright_emulator::{Profile, Sanitize};

use super::{CudaDevice, Device, DeviceError, EmulatedDevice, EmulatorOptions};

/// Which device is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The first GPU if it works, else the emulator.
    #[default]
    Auto,
    /// A GPU by its number.
    Cuda(u32),
    /// The emulator, with the default or another machine.
    Emulator(Option<Machine>),
    /// The same with checks on every launch, in the fast schedule or in that of a seed.
    Checked {
        /// The machine, where it is not the default.
        machine: Option<Machine>,
        /// What is checked.
        sanitize: Sanitize,
        /// The seed of an adversarial schedule.
        seed: Option<u64>,
    },
}

/// A machine of the emulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// A profile that the emulator knows by name.
    Named(String),
    /// Limits that came from elsewhere.
    Limits(Box<Profile>),
}

impl From<&str> for Machine {
    fn from(name: &str) -> Machine {
        Machine::Named(name.to_owned())
    }
}

impl Machine {
    /// The name of the profile.
    pub fn name(&self) -> &str {
        match self {
            Machine::Named(name) => name,
            Machine::Limits(profile) => &profile.name,
        }
    }

    /// The limits of the machine; those of the default one for none.
    fn limits(machine: Option<&Machine>) -> Result<Profile, DeviceError> {
        match machine {
            None => Ok(Profile::default()),
            Some(Machine::Limits(profile)) => Ok((**profile).clone()),
            Some(Machine::Named(name)) => EmulatedDevice::limits(name),
        }
    }
}

/// Text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` names no device: expected auto, cuda:N, emulator, emulator:PROFILE, or with checks \
     emulator:PROFILE,sanitize=all,seed=N"
)]
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
            Some(("emulator", words)) => emulator(words).ok_or_else(|| SpecError(text.to_owned())),
            _ => Err(SpecError(text.to_owned())),
        }
    }
}

/// A profile, `sanitize=LIST` with names joined by `+`, and `seed=N`, separated by commas.
fn emulator(words: &str) -> Option<DeviceSpec> {
    let (mut machine, mut sanitize, mut seed) = (None, None, None);
    for word in words.split(',') {
        match word.split_once('=') {
            None if !word.is_empty() && machine.is_none() => machine = Some(word.into()),
            Some(("sanitize", list)) if sanitize.is_none() => {
                sanitize = Some(Sanitize::parse(&list.replace('+', ",")).ok()?);
            }
            Some(("seed", n)) if seed.is_none() => seed = Some(n.parse().ok()?),
            _ => return None,
        }
    }
    Some(match (sanitize, seed) {
        (None, None) => DeviceSpec::Emulator(machine),
        _ => DeviceSpec::Checked { machine, sanitize: sanitize.unwrap_or_default(), seed },
    })
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Auto => f.write_str("auto"),
            DeviceSpec::Cuda(n) => write!(f, "cuda:{n}"),
            DeviceSpec::Emulator(None) => f.write_str("emulator"),
            DeviceSpec::Emulator(Some(machine)) => write!(f, "emulator:{}", machine.name()),
            DeviceSpec::Checked { machine, sanitize, seed } => {
                let mut words: Vec<String> = machine.iter().map(|m| m.name().to_owned()).collect();
                let names: Vec<&str> = sanitize.names().collect();
                words.push(format!(
                    "sanitize={}",
                    if names.is_empty() { "none".into() } else { names.join("+") }
                ));
                words.extend(seed.map(|s| format!("seed={s}")));
                write!(f, "emulator:{}", words.join(","))
            }
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
    /// The machine that an emulator is asked for; nothing for a GPU, and where the default is meant.
    pub fn machine(&self) -> Option<&Machine> {
        match self {
            DeviceSpec::Auto | DeviceSpec::Cuda(_) => None,
            DeviceSpec::Emulator(machine) | DeviceSpec::Checked { machine, .. } => machine.as_ref(),
        }
    }

    /// The same with another machine; nothing changes for a GPU.
    #[must_use]
    pub fn with_machine(self, machine: Machine) -> DeviceSpec {
        match self {
            DeviceSpec::Emulator(_) => DeviceSpec::Emulator(Some(machine)),
            DeviceSpec::Checked { sanitize, seed, .. } => {
                DeviceSpec::Checked { machine: Some(machine), sanitize, seed }
            }
            other => other,
        }
    }

    /// Opens the device.
    pub fn open(&self) -> Result<Opened, DeviceError> {
        match self {
            DeviceSpec::Cuda(n) => Ok(Opened { device: Arc::new(CudaDevice::open(*n)?), note: None }),
            DeviceSpec::Emulator(machine) => {
                let limits = Machine::limits(machine.as_ref())?;
                let device = EmulatedDevice::new(limits, &EmulatorOptions::default());
                Ok(Opened { device: Arc::new(device), note: None })
            }
            DeviceSpec::Checked { machine, sanitize, seed } => {
                let options =
                    EmulatorOptions { sanitize: *sanitize, seed: *seed, ..EmulatorOptions::default() };
                let device = EmulatedDevice::new(Machine::limits(machine.as_ref())?, &options);
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
            (
                "emulator:tiny3,sanitize=race+nc,seed=7",
                DeviceSpec::Checked {
                    machine: Some("tiny3".into()),
                    sanitize: Sanitize { race: true, nc: true, ..Sanitize::default() },
                    seed: Some(7),
                },
            ),
            (
                "emulator:sanitize=none,seed=0",
                DeviceSpec::Checked { machine: None, sanitize: Sanitize::default(), seed: Some(0) },
            ),
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
