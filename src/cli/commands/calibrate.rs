//! `tilewright calibrate`: what a device does, as a profile for cost models and schedules.

use tilewright::bench::calibrate::{Settings, run as calibrate};
use tilewright::bench::profile::DeviceProfile;
use tilewright::{Error, Toolchain, files};

use crate::cli::args::CalibrateArgs;
use crate::cli::ui::Ui;

/// Measures, prints, and writes the profile.
pub(crate) fn run(args: &CalibrateArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let settings = Settings {
        toolchain: toolchain.clone(),
        device: super::device(&args.device)?,
        target: args.target.clone(),
    };
    if let Some(path) = &args.out {
        files::check_write(path)?;
    }
    let profile = calibrate(&settings)?;
    let value = serde_json::to_value(&profile)
        .map_err(|e| Error::Bug(format!("a profile does not become JSON: {e}")))?;
    if let Some(path) = &args.out {
        files::write(path, &format!("{value:#}\n"))?;
    }
    ui.result(&value, || text(&profile));
    Ok(())
}

fn text(p: &DeviceProfile) -> String {
    let show = |x: Option<f64>, unit: &str| {
        x.map_or_else(|| "not measured".to_owned(), |x| format!("{x:.2} {unit}"))
    };
    let mut lines = vec![format!("{} on {}", p.date, p.device.name)];
    for (what, x, unit) in [
        ("reading", p.read_gb_s, "GB/s"),
        ("copying", p.copy_gb_s, "GB/s"),
        ("bf16 product", p.matmul_tflops, "TF"),
        ("launch to launch", p.launch_us, "us"),
        ("the same, early", p.launch_early_us, "us"),
        ("graph node to node", p.graph_node_us, "us"),
        ("the same, early", p.graph_node_early_us, "us"),
        ("flag, nearest", p.flag_near_ns, "ns"),
        ("flag, median", p.flag_median_ns, "ns"),
        ("flag, farthest", p.flag_far_ns, "ns"),
        ("barrier of all blocks", p.grid_barrier_us, "us"),
    ] {
        lines.push(format!("{what:<22} {}", show(x, unit)));
    }
    for b in &p.barriers {
        let (cycles, ns) = (show(b.cycles, "cycles"), show(b.ns, "ns"));
        lines.push(format!("{:<22} {cycles}, {ns}", format!("barrier of {}", b.threads)));
    }
    if let Some(best) = p.best_ring() {
        lines.push(format!(
            "{:<22} {} pieces of {} bytes: {}",
            "ring",
            best.depth,
            best.piece_bytes,
            show(best.gb_s, "GB/s")
        ));
    }
    lines.push(format!("right on this device: {}", p.checked.join(", ")));
    lines.extend(p.missing.iter().map(|m| format!("missing: {m}")));
    lines.join("\n")
}
