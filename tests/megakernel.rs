//! The persistent kernel on the emulator: equal to separate launches bit for bit, on any number of SMs, under all checks.

use std::path::{Path, PathBuf};

use tilewright::generate::score;
use tilewright::runtime::testing::nvrtc;
use tilewright::spec::Mode;
use tilewright::{Compiler, DType, DeviceSpec, Phase};

fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("a folder of goldens")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.join("config.json").is_file())
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

/// The logits of three steps, as bits.
fn bits(folder: &Path, activations: DType, device: &str, mode: Mode) -> Result<Vec<u32>, String> {
    let module = Compiler::model(folder)
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .phases(&[Phase::Decode])
        .activations(activations)
        .mode(mode)
        .compile()
        .map_err(|e| e.to_string())?;
    let scored = score(&module, &[3, 9, 4], Phase::Decode).map_err(|e| e.to_string())?;
    Ok(scored.logits.iter().map(|x| x.to_bits()).collect())
}

/// Compares all goldens on a device with separate launches.
fn equal(activations: DType, device: &str) {
    nvrtc();
    let mut failures = Vec::new();
    for folder in goldens() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = bits(&folder, activations, "emulator", Mode::Launch).expect("a golden runs");
        match bits(&folder, activations, device, Mode::Megakernel) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                let n = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
                failures.push(format!("{name}: {n} of {} logits differ", expected.len()));
            }
            Err(e) => failures.push(format!("{name}: {e}")),
        }
    }
    assert!(failures.is_empty(), "{device} {activations}:\n{}", failures.join("\n"));
}

#[test]
fn goldens_on_one_sm() {
    equal(DType::Bf16, "emulator:tiny1,sanitize=all");
}

#[test]
fn goldens_on_three_sms() {
    equal(DType::Bf16, "emulator:tiny3,sanitize=all");
}

#[test]
fn goldens_on_eight_sms_in_f32() {
    equal(DType::F32, "emulator:tiny8,sanitize=all");
}

#[test]
fn goldens_in_an_adversarial_schedule() {
    equal(DType::Bf16, "emulator:tiny3,sanitize=all,seed=1");
}
